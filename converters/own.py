"""Plain sources: data of anybody's own, as a set that the engine converts like any other.

A folder of pictures, a table, a dataset of the hub or of `save_to_disk`, WebDataset shards, a TFDS folder, or records
of `tf.train.Example`. Every row becomes an example; which column means what is known by its name or said by the user.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from converters.own_columns import FIELDS, find_columns
from converters.own_fields import has_lesson, row_annotation
from converters.own_groups import KEY, folder_rows, is_tar, tar_rows
from converters.own_media import Folders, row_media
from converters.own_records import find_tfds, is_records, record_rows, require_all_shards, tfds_parts, tfds_rows
from converters.own_tables import (
    SPLIT_NAMES,
    TABLE_SUFFIXES,
    Part,
    class_names,
    find_parts,
    is_saved_to_disk,
    is_table,
    open_table,
    saved_parts,
    split_of,
)
from converters.rows import Row, Rows, read_rows
from converters.sources import SourceSplit, open_source
from converters.spec import Annotation, FromUrl, MediaSource, Place, SetSpec
from grain_molmo.datasets.example_record import FORM
from grain_molmo.datasets.registry import dataset_names
from grain_molmo.errors import ConfigError, RowError
from grain_molmo.store import canonical_name

KINDS = ("auto", "folder", "table", "hf", "webdataset", "tfds", "records")
ROWS_PER_SHARD = 4096
_PEEKED_ROWS = 16
_ROW = "#row"


@dataclass(frozen=True, kw_only=True)
class OwnSource:
    """How to read a plain source; picklable.

    Attributes:
        kind: one of `KINDS`; "auto" looks.
        columns: (field, column) for columns whose names say too little, or something else.
        values: (field, value) that all rows share: a style, a question, the unit of points.
        config: of a dataset of the hub.
        media_dir: where relative paths of rows start, instead of beside the rows.
        allow_any_path: rows may name files anywhere on this machine.
    """

    kind: str = "auto"
    columns: tuple[tuple[str, str], ...] = ()
    values: tuple[tuple[str, Any], ...] = ()
    config: str | None = None
    media_dir: str | None = None
    allow_any_path: bool = False


def open_own(
    name: str, source: str, own: OwnSource, splits: Sequence[str] | None = None, revision: str | None = None
) -> tuple[SetSpec, list[SourceSplit]]:
    """The set that a plain source makes, and its splits.

    Args:
        name: for the store; not that of a dataset that is known already.
        source: a file, a folder, or a dataset of the hub (owner/name).
        own: how to read it.
        splits: of the source, by its names or the store's; None for all that there are.
        revision: branch, tag or commit of the hub's repository.

    Raises:
        ConfigError: the source is nothing of the kind, or its rows say nothing to learn.
    """
    name = canonical_name(name)
    if name in dataset_names():
        raise ConfigError(f"{name!r} is the name of a dataset that is known already; choose another for your own")
    _require_known(own)
    path = Path(source).expanduser()
    found = _open_local(path, own, splits) if path.exists() else _open_hub(source, own, splits, revision)
    spec = _set_spec(name, own, path if path.exists() else None, found)
    opened = [_described(_numbered(one), own) for one in found]
    for one in opened:
        _require_lessons(spec, one, own)
    return spec, opened


def _require_known(own: OwnSource) -> None:
    if own.kind not in KINDS:
        raise ConfigError(f"--from {own.kind}: must be one of {', '.join(KINDS)}")
    for field, _ in (*own.columns, *own.values):
        if field not in FIELDS:
            raise ConfigError(f"{field!r} is nothing that a column can mean; known are {', '.join(FIELDS)}")


def _kind_of(path: Path) -> str:
    """What a local source is, by its files."""
    if path.is_file():
        return "webdataset" if is_tar(path) else "records" if is_records(path) else "table"
    if is_saved_to_disk(path):
        return "hf"
    if find_tfds(path):
        return "tfds"
    names = [one for one in path.rglob("*") if one.is_file()]
    if any(map(is_tar, names)):
        return "webdataset"
    if any(map(is_records, names)):
        return "records"
    return "folder" if not any(map(is_table, names)) or _metadata_table(path) else "table"


def _open_local(path: Path, own: OwnSource, splits: Sequence[str] | None) -> list[SourceSplit]:
    kind = _kind_of(path) if own.kind == "auto" else own.kind
    parts, open_part = _PARTS[kind](path, own)
    if not parts:
        raise ConfigError(f"{path} holds nothing that reads as {_MEANT[kind]}")
    chosen = [part for part in parts if splits is None or {part.split, store_split(part.split)} & set(splits)]
    if not chosen:
        raise ConfigError(
            f"{path} has no split {' or '.join(splits or ())}; it has {', '.join(p.split for p in parts)}"
        )
    return [_source_split(path, kind, part, open_part(part)) for part in chosen]


def _source_split(path: Path, kind: str, part: Part, rows: Rows) -> SourceSplit:
    names = [str(file.relative_to(path)) if file != path else file.name for file in part.files]
    origin = {"kind": "local", "from": kind, "path": str(path.resolve()), "files": names, "split": part.split}
    sizes = [file.stat().st_size for file in part.files]
    return SourceSplit(None, part.split, rows, {**origin, "rows": len(rows), "num_bytes": sizes})


Opener = Callable[[Part], Rows]


def _tables(path: Path, own: OwnSource) -> tuple[list[Part], Opener]:
    if path.is_file() and not is_table(path):
        raise ConfigError(f"{path} is no table; known are {', '.join(TABLE_SUFFIXES)}")
    return find_parts(path, is_table), lambda part: open_table(part.files)


def _saved(path: Path, own: OwnSource) -> tuple[list[Part], Opener]:
    if not is_saved_to_disk(path):
        return _tables(path, own)
    return saved_parts(path), lambda part: open_table(part.files)


def _tars(path: Path, own: OwnSource) -> tuple[list[Part], Opener]:
    return find_parts(path, is_tar), lambda part: tar_rows(part.files)


def _records(path: Path, own: OwnSource) -> tuple[list[Part], Opener]:
    parts = find_parts(path, is_records)
    if path.is_dir():  # of a file that is named alone, nobody expects the others
        require_all_shards(parts)
    return parts, lambda part: record_rows(part.files)


def _tfds(path: Path, own: OwnSource) -> tuple[list[Part], Opener]:
    folder = find_tfds(path)
    if folder is None:
        raise ConfigError(f"{path} is no TFDS folder: it has no features.json beside a dataset_info.json")
    return tfds_parts(folder), lambda part: tfds_rows(folder, part)


def _folder(path: Path, own: OwnSource) -> tuple[list[Part], Opener]:
    """A folder of pictures: with the table beside them, or with files of the same names."""
    if not path.is_dir():
        raise ConfigError(f"{path} is no folder")
    tables = _metadata_tables(path)
    if tables:
        parts: dict[str, list[Path]] = {}
        for table in tables:
            parts.setdefault(split_of(table, path), []).append(table)
        return [Part(split, tuple(files)) for split, files in parts.items()], lambda part: open_table(part.files)
    rows = folder_rows(path, own.allow_any_path)
    return [Part("train", ())] if len(rows) else [], lambda part: rows


def _metadata_tables(path: Path) -> list[Path]:
    """The tables of a folder of pictures: `metadata.*` in it or in the folders of its splits, or the only table."""
    named = sorted(one for one in path.rglob("metadata.*") if is_table(one))
    return named or (tables if len(tables := [one for one in path.iterdir() if is_table(one)]) == 1 else [])


def _metadata_table(path: Path) -> bool:
    return any(is_table(one) for one in path.rglob("metadata.*"))


_PARTS: dict[str, Callable[[Path, OwnSource], tuple[list[Part], Opener]]] = {
    "folder": _folder,
    "table": _tables,
    "hf": _saved,
    "webdataset": _tars,
    "tfds": _tfds,
    "records": _records,
}
_MEANT = {
    "folder": "a folder of pictures",
    "table": f"a table ({', '.join(TABLE_SUFFIXES)})",
    "hf": "what save_to_disk writes, or a table",
    "webdataset": "tar shards",
    "tfds": "a TFDS folder",
    "records": "ArrayRecord or TFRecord files",
}


def _open_hub(source: str, own: OwnSource, splits: Sequence[str] | None, revision: str | None) -> list[SourceSplit]:
    if own.kind not in ("auto", "hf") or not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise ConfigError(f"{source!r} is neither an existing file or folder nor a dataset of the hub (owner/name)")
    wanted = tuple(splits or _hub_splits(source, own.config, revision))
    return [replace(one, config=None) for one in open_source(source, (own.config,), wanted, revision=revision)]


def _hub_splits(source: str, config: str | None, revision: str | None) -> list[str]:
    from datasets import get_dataset_split_names  # loading it takes seconds that local sources need not spend

    try:
        return get_dataset_split_names(source, config, revision=revision)
    except Exception as error:  # whatever the hub library's HTTP client raises
        raise ConfigError(f"the hub does not give the splits of {source}: {error}") from error


def store_split(split: str) -> str:
    """The store's name of a split."""
    return SPLIT_NAMES.get(split, re.sub(r"\W+", "_", split))


def _described(one: SourceSplit, own: OwnSource) -> SourceSplit:
    """The split whose origin also says how it was read: all that decides the outcome."""
    choices = {"columns": dict(own.columns), "values": dict(own.values), "media_dir": own.media_dir}
    return replace(one, origin={**one.origin, **{k: v for k, v in choices.items() if v}, "form": FORM})


class _NumberedRows:
    """Rows that have no names of their own, with a column of such."""

    def __init__(self, rows: Rows):
        self._rows = rows
        self.columns, self.schema, self.folder = (*rows.columns, _ROW), rows.schema, rows.folder

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> Row:
        return self._rows.row(index)

    def read(self, indices: Sequence[int]) -> Iterator[Row | RowError]:
        return read_rows(self._rows, indices)

    def select(self, names: Sequence[str]) -> dict[str, list[Any]]:
        rest = [name for name in names if name != _ROW]
        columns = self._rows.select(rest) if rest else {}
        return columns | {_ROW: [f"row-{index:09d}" for index in range(len(self))]} if _ROW in names else columns


def _numbered(one: SourceSplit) -> SourceSplit:
    return one if _identity_columns(one.rows) else replace(one, rows=_NumberedRows(one.rows))


def _identity_columns(rows: Rows) -> tuple[str, ...]:
    """The columns that name a row, by falling preference: its id, or the file or URL of its picture or video."""
    columns = find_columns(rows.columns, ())
    by_field = columns.by_field
    names = [name for field in ("id", "image", "video") for name in by_field[field] if _is_name(rows, name)]
    return tuple(names[:1])


def _is_name(rows: Rows, column: str) -> bool:
    if rows.schema is None:
        return column == KEY if KEY in rows.columns else True
    return str(rows.schema.field(column).type) in ("string", "large_string", "int64", "int32", "uint64", "uint32")


def _set_spec(name: str, own: OwnSource, root: Path | None, sources: Sequence[SourceSplit]) -> SetSpec:
    """The set of such rows: each is an example, and is read by what its columns mean."""
    placed_by = _identity_columns(sources[0].rows) or (_ROW,)
    classes = {column: names for one in sources for column, names in class_names(one.rows.schema).items()}

    def folders(place: Place) -> Folders:
        if own.media_dir is not None:
            return Folders((Path(own.media_dir).expanduser(),), own.allow_any_path)
        beside = (place.folder,) if place.folder is not None else ()
        top = (root,) if root is not None and root.is_dir() and beside and root != place.folder else ()
        return Folders((*beside, *top), own.allow_any_path)

    def shown(row: Row, place: Place) -> tuple[str, list[MediaSource]]:
        columns = find_columns(tuple(row), own.columns)
        images, videos = columns.values(row, "image"), columns.values(row, "video")
        return row_media(images, videos, folders(place), columns.value(row, "sha256"))

    def parse(row: Row, place: Place) -> Annotation:
        row = {column: _named(value, classes.get(column)) for column, value in row.items()}
        shows, sources = shown(row, place)
        annotation = row_annotation(row, find_columns(tuple(row), own.columns), own.values, shows, len(sources))
        url = next((one.url for one in sources if isinstance(one, FromUrl)), None)
        return {"url": url, **annotation} if url is not None else annotation

    return SetSpec(
        name=name,
        hub="",
        splits=tuple(one.split for one in sources),
        store_splits={one.split: store_split(one.split) for one in sources},
        placed_by=placed_by,
        identity=lambda row: _text_or_none(row.get(placed_by[0])),
        rows_per_shard=ROWS_PER_SHARD,
        parse=parse,
        media=lambda row, place: shown(row, place)[1],
    )


def _named(value: Any, names: Sequence[str] | None) -> Any:
    is_class = names is not None and isinstance(value, int) and 0 <= value < len(names)
    return names[value] if is_class and names is not None else value


def _text_or_none(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and value != "" else None


def _require_lessons(spec: SetSpec, source: SourceSplit, own: OwnSource) -> None:
    """Raises ConfigError if the first rows say nothing to learn: better now than at each row."""
    rows = source.rows
    found = ", ".join(name for name in rows.columns if name != _ROW) or "none"
    for _, column in own.columns:
        if column not in rows.columns:
            raise ConfigError(f"{spec.name}: there is no column {column!r}; the rows have: {found}")
    if any(_says_something(rows, index, own) for index in range(min(len(rows), _PEEKED_ROWS))):
        return
    unread = getattr(rows, "unread", ())
    raise ConfigError(
        f"{spec.name}: the rows of {source.origin['path']} say nothing to learn; their columns are {found}"
        + (f", of which {', '.join(unread)} cannot be read" if unread else "")
        + ". Name those that do, such as --columns caption=COLUMN, or --columns question=COLUMN answer=COLUMN"
    )


def _says_something(rows: Rows, index: int, own: OwnSource) -> bool:
    """Whether a row has a lesson, even if it is a wrong one: that is for the table of rejects to say."""
    try:
        row = rows.row(index)
        return has_lesson(row, find_columns(tuple(row), own.columns), own.values)
    except RowError:
        return True


def add_own_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of plain sources."""
    group = parser.add_argument_group("data of your own", "NAME is then the name that your dataset gets in the store.")
    group.add_argument(
        "--from", dest="own_kind", choices=KINDS, help="what --source is; auto looks (and is meant without this)"
    )
    group.add_argument(
        "--columns", nargs="+", default=[], metavar="FIELD=COLUMN", help=f"what columns mean: {', '.join(FIELDS)}"
    )
    group.add_argument(
        "--values", nargs="+", default=[], metavar="FIELD=VALUE", help="what all rows share: style=..., point_scale=100"
    )
    group.add_argument("--config", help="config of a hub dataset")
    group.add_argument("--media-dir", metavar="DIR", help="where paths in rows start; default: beside the rows")
    group.add_argument("--allow-any-path", action="store_true", help="rows may name any file of this machine")


def own_from_args(args: argparse.Namespace) -> OwnSource | None:
    """How the command line says to read a plain source; None if none of its flags was given.

    Raises ConfigError for a pair that is none.
    """
    own = OwnSource(
        kind=args.own_kind or "auto",
        columns=tuple(_pairs("--columns", args.columns)),
        values=tuple((field, _value(text)) for field, text in _pairs("--values", args.values)),
        config=args.config,
        media_dir=args.media_dir,
        allow_any_path=args.allow_any_path,
    )
    return own if args.own_kind or own != OwnSource() else None


def _pairs(flag: str, given: Sequence[str]) -> list[tuple[str, str]]:
    pairs = [text.partition("=") for text in given]
    for text, (field, equals, value) in zip(given, pairs, strict=True):
        if not field or not equals or not value:
            raise ConfigError(f"{flag} {text}: give FIELD=..., such as caption=TEXT")
    return [(field, value) for field, _, value in pairs]


def _value(text: str) -> Any:
    """A number where the text is one."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float) and not isinstance(value, bool) else text
