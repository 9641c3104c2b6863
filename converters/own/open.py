"""Opening a plain source: what it is, which splits it has, and their rows."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from converters.own.groups import folder_rows, is_medium, is_tar, tar_rows
from converters.own.records import find_tfds, is_records, record_rows, require_all_shards, tfds_parts, tfds_rows
from converters.own.source import OwnSource
from converters.own.tables import (
    KNOWN_SPLITS,
    SPLIT_NAMES,
    TABLE_SUFFIXES,
    Part,
    find_parts,
    is_saved_to_disk,
    is_table,
    open_table,
    saved_parts,
    split_of,
    visible_files,
)
from converters.own.tensors import tensor_parts, tensor_rows
from converters.rows import Rows
from converters.sources import SourceSplit, open_source, state_of_files
from grain_molmo.datasets.feature_table import is_tensor_file
from grain_molmo.errors import ConfigError
from grain_molmo.tensors import TENSOR_SUFFIXES


def open_splits_of(
    source: str, own: OwnSource, splits: Sequence[str] | None, revision: str | None = None
) -> list[SourceSplit]:
    """The splits of a plain source.

    Args:
        source: a file, a folder, or a dataset of the hub (owner/name).
        own: how to read it.
        splits: by the source's names or the store's; None for all that there are.
        revision: branch, tag or commit of the hub's repository.

    Raises:
        ConfigError: there is nothing of the kind.
    """
    path = Path(source).expanduser()
    if not path.exists():
        return _open_hub(source, own, splits, revision)
    if revision is not None:
        raise ConfigError(f"--revision is for the hub; {path} is local")
    return _open_local(path, own, splits)


def _kind_of(path: Path) -> str:
    """What a local source is, by its files."""
    if path.is_file():
        if is_tensor_file(path):
            return "tensors"
        return "webdataset" if is_tar(path) else "records" if is_records(path) else "table"
    if is_saved_to_disk(path):
        return "hf"
    if find_tfds(path):
        return "tfds"
    names = visible_files(path)
    if any(map(is_tar, names)):
        return "webdataset"
    if any(map(is_records, names)):
        return "records"
    tables = [one for one in names if is_table(one)]
    if not tables and names and all(map(is_tensor_file, names)):
        return "tensors"
    return "folder" if not tables or any(one.name.startswith("metadata.") for one in tables) else "table"


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
    return SourceSplit(None, part.split, rows, {**origin, "rows": len(rows), **state_of_files(part.files)})


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
    within = None if own.allow_any_path else path
    rows = {split: folder_rows(root, within) for split, root in _split_folders(path).items()}
    return [Part(split, ()) for split, found in rows.items() if len(found)], lambda part: rows[part.split]


def _tensors(path: Path, own: OwnSource) -> tuple[list[Part], Opener]:
    return tensor_parts(path), lambda part: tensor_rows(path, own)


def _split_folders(path: Path) -> dict[str, Path]:
    """The folders of splits: those in a folder that holds nothing else but perhaps a note; else itself, "train"."""
    files = visible_files(path)
    tops = {file.relative_to(path).parts[0] for file in files if file.parent != path}
    is_split_by_folder = all(top.lower() in KNOWN_SPLITS for top in tops)
    if not tops or not is_split_by_folder or any(is_medium(file.name) for file in files if file.parent == path):
        return {"train": path}
    return {top.lower(): path / top for top in sorted(tops)}


def _metadata_tables(path: Path) -> list[Path]:
    """The tables of a folder of pictures: `metadata.*` in it or in the folders of its splits, or the only table."""
    tables = [one for one in visible_files(path) if is_table(one)]
    beside = [one for one in tables if one.parent == path]
    return [one for one in tables if one.name.startswith("metadata.")] or (beside if len(beside) == 1 else [])


_PARTS: dict[str, Callable[[Path, OwnSource], tuple[list[Part], Opener]]] = {
    "folder": _folder,
    "table": _tables,
    "hf": _saved,
    "webdataset": _tars,
    "tfds": _tfds,
    "records": _records,
    "tensors": _tensors,
}
_MEANT = {
    "folder": "a folder of pictures",
    "table": f"a table ({', '.join(TABLE_SUFFIXES)})",
    "hf": "what save_to_disk writes, or a table",
    "webdataset": "tar shards",
    "tfds": "a TFDS folder",
    "records": "ArrayRecord or TFRecord files",
    "tensors": f"files of features ({', '.join(TENSOR_SUFFIXES)})",
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
