"""Plain sources: data of anybody's own, as a set that the engine converts like any other.

A folder of pictures, a table, a dataset of the hub or of `save_to_disk`, WebDataset shards, a TFDS folder, or records
of `tf.train.Example`. Every row becomes an example; which column means what is known by its name or said by the user.
"""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from converters.own.columns import FIELDS, IMAGE_SUFFIXES, NOTHING, find_columns
from converters.own.fields import fitting_annotation, has_lesson, row_annotation
from converters.own.groups import KEY
from converters.own.media import Folders, row_media
from converters.own.open import open_splits_of, store_split
from converters.own.source import KINDS, OwnSource
from converters.own.tables import class_names
from converters.rows import Row, Rows
from converters.sets import is_set
from converters.sources import SourceSplit, state_of_files
from converters.spec import Annotation, FromUrl, MediaSource, Place, SetSpec
from grain_molmo.datasets.example_record import FORM
from grain_molmo.datasets.labelled import FEATURES, as_features
from grain_molmo.datasets.registry import dataset_names
from grain_molmo.errors import ConfigError, ExampleError, RowError
from grain_molmo.store import canonical_name

log = logging.getLogger(__name__)

ROWS_PER_SHARD = 4096
_PEEKED_ROWS = 16


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
    if name in dataset_names() or is_set(name):
        raise ConfigError(f"{name!r} is the name of a dataset that is known already; choose another for your own")
    _require_known(own)
    path = Path(source).expanduser()
    found = open_splits_of(source, own, splits, revision)
    _require_distinct(found)
    own = _without_pages(_features_alone(own, found), found)
    spec = _set_spec(name, own, path if path.exists() else None, found)
    opened = [_described(one, own) for one in found]
    for one in opened:
        _require_lessons(spec, one, own)
    return spec, opened


def _require_known(own: OwnSource) -> None:
    if own.kind not in KINDS:
        raise ConfigError(f"--from {own.kind}: must be one of {', '.join(KINDS)}")
    for field, _ in (*own.columns, *own.values):
        if field not in FIELDS:
            raise ConfigError(f"{field!r} is nothing that a column can mean; known are {', '.join(FIELDS)}")


def _require_distinct(sources: Sequence[SourceSplit]) -> None:
    """Raises ConfigError if two splits of the source have one name in the store, where one would replace the other."""
    by_name: dict[str, str] = {}
    for one in sources:
        other = by_name.setdefault(store_split(one.split), one.split)
        if other != one.split:
            raise ConfigError(f"the source has splits {other} and {one.split}, which mean the same; name one: --split")


def _without_pages(own: OwnSource, sources: Sequence[SourceSplit]) -> OwnSource:
    """The source, with a column `url` that names web pages rather than pictures meaning nothing.

    Corpora of text say where each text is from. There the column of the text is called just that, and no URL looks like
    a file of a picture.
    """
    if any(field == "image" for field, _ in own.columns):
        return own
    for one in sources:
        columns = find_columns(one.rows.columns, own.columns).by_field
        is_only_url = [name.lower() for name in columns["image"]] == ["url"]
        if is_only_url and [name.lower() for name in columns["caption"]] == ["text"]:
            (column,) = columns["image"]
            if any(_looks_like_picture(url) for url in _first(one.rows, column)):
                return own
            log.warning("column %s is taken for web pages, not pictures; else say --columns image=%s", column, column)
            return replace(own, columns=(*own.columns, (NOTHING, column)))
    return own


def _features_alone(own: OwnSource, sources: Sequence[SourceSplit]) -> OwnSource:
    """The source, with what a file of features says beside them meaning nothing more: no pictures are looked for."""
    chosen = {column for _, column in own.columns}
    beside = dict.fromkeys(name for one in sources for name in getattr(one.rows, "beside", ()))
    return replace(own, columns=(*own.columns, *((NOTHING, name) for name in beside if name not in chosen)))


def _first(rows: Rows, column: str) -> list[Any]:
    """What a column holds in the first rows that can be read."""
    values = []
    for index in range(min(len(rows), _PEEKED_ROWS)):
        with contextlib.suppress(RowError):
            values.append(rows.row(index).get(column))
    return values


def _looks_like_picture(url: Any) -> bool:
    try:
        path = urlsplit(url).path.lower() if isinstance(url, str) else ""
    except ValueError:  # no URL at all
        return False
    return path.endswith(tuple(f".{suffix}" for suffix in IMAGE_SUFFIXES))


def _described(one: SourceSplit, own: OwnSource) -> SourceSplit:
    """The split whose origin also says how it was read: all that decides the outcome."""
    choices = {"columns": [list(pair) for pair in own.columns], "values": dict(own.values), "media_dir": own.media_dir}
    choices |= {"layers": own.layers, "labels": state_of_files([Path(own.labels)]) if own.labels else None}
    return replace(one, origin={**one.origin, **{k: v for k, v in choices.items() if v}, "form": FORM})


def _identity_column(rows: Rows) -> str:
    """The column that names a row: its id, else the file or URL of its picture or video, else its words."""
    by_field = find_columns(rows.columns, ()).by_field
    return next((name for field in _NAMING for name in by_field[field] if _is_name(rows, name)), KEY)


_NAMING = ("id", "image", "video", "caption", "question", "messages", "answer")


def _is_name(rows: Rows, column: str) -> bool:
    if rows.schema is None:
        return True
    return str(rows.schema.field(column).type) in ("string", "large_string", "int64", "int32", "uint64", "uint32")


def _set_spec(name: str, own: OwnSource, root: Path | None, sources: Sequence[SourceSplit]) -> SetSpec:
    """The set of such rows: each is an example, and is read by what its columns mean."""
    name_column = _identity_column(sources[0].rows)
    classes = {column: names for one in sources for column, names in class_names(one.rows.schema).items()}
    by_field = find_columns(sources[0].rows.columns, own.columns).by_field
    if by_field["features"] or by_field["spatial_relation"]:  # there a label is a number
        classes = {column: names for column, names in classes.items() if column not in by_field["label"]}
    shape = _feature_shape(sources[0].rows, own)

    top = root if root is not None and root.is_dir() else None

    def folders(place: Place) -> Folders:
        if own.media_dir is not None:
            return Folders((Path(own.media_dir).expanduser(),), own.allow_any_path)
        roots = (place.folder, top) if place.folder is not None else ()
        return Folders(tuple(dict.fromkeys(one for one in roots if one is not None)), own.allow_any_path)

    def shown(row: Row, place: Place) -> tuple[str, list[MediaSource]]:
        columns = find_columns(tuple(row), own.columns)
        images, videos = columns.values(row, "image"), columns.values(row, "video")
        return row_media(images, videos, folders(place), columns.value(row, "sha256"))

    def parse(row: Row, place: Place) -> Annotation:
        row = {column: _named(value, classes.get(column)) for column, value in row.items()}
        shows, sources = shown(row, place)
        annotation = row_annotation(row, find_columns(tuple(row), own.columns), own.values, shows, len(sources))
        if FEATURES in annotation and annotation[FEATURES].shape != shape:
            found = list(annotation[FEATURES].shape)
            raise RowError("bad_features", f"features are {found}, those of the first row {list(shape or ())}")
        url = next((one.url for one in sources if isinstance(one, FromUrl)), None)
        return {"url": url, **annotation} if url is not None else annotation

    return SetSpec(
        name=name,
        hub="",
        splits=tuple(one.split for one in sources),
        store_splits={one.split: store_split(one.split) for one in sources},
        placed_by=(name_column,),
        identity=lambda row: _text_or_none(row.get(name_column)),
        rows_per_shard=ROWS_PER_SHARD,
        parse=parse,
        fit=fitting_annotation,
        media=lambda row, place: shown(row, place)[1],
    )


def _feature_shape(rows: Rows, own: OwnSource) -> tuple[int, ...] | None:
    """The shape of the first features that there are, which all others must have."""
    for index in range(min(len(rows), _PEEKED_ROWS)):
        with contextlib.suppress(RowError, ExampleError):
            row = rows.row(index)
            features = find_columns(tuple(row), own.columns).value(row, FEATURES)
            if features is not None:
                return as_features(features).shape
    return None


def _named(value: Any, names: Sequence[str] | None) -> Any:
    is_class = names is not None and isinstance(value, int) and 0 <= value < len(names)
    return names[value] if is_class and names is not None else value


def _text_or_none(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and value != "" else None


def _require_lessons(spec: SetSpec, source: SourceSplit, own: OwnSource) -> None:
    """Raises ConfigError if the first rows say nothing to learn: better now than at each row."""
    rows = source.rows
    found = ", ".join(rows.columns) or "none"
    for _, column in own.columns:
        if column not in rows.columns:
            raise ConfigError(f"{spec.name}: there is no column {column!r}; the rows have: {found}")
    if any(_says_something(rows, index, own) for index in range(min(len(rows), _PEEKED_ROWS))):
        return
    unread = getattr(rows, "unread", ())
    raise ConfigError(
        f"{spec.name}: the rows of {source.origin['path']} ({source.split}) say nothing to learn; their columns are "
        + found
        + (f", of which {', '.join(unread)} cannot be read" if unread else "")
        + ". Name those that do, such as --columns caption=COLUMN, or --columns question=COLUMN answer=COLUMN"
    )


def _says_something(rows: Rows, index: int, own: OwnSource) -> bool:
    """Whether a row has a lesson, even if it is a wrong one: that is for the table of rejects to say."""
    try:
        row = rows.row(index)
        return has_lesson(row, find_columns(tuple(row), own.columns), own.values)
    except (RowError, ExampleError):
        return True
