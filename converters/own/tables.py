"""Plain tables: which files hold which split, and their rows. Parquet, Arrow, JSON, CSV, and `save_to_disk`."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from converters.rows import Rows, arrow_file_rows, json_rows, parquet_rows, table_rows
from grain_molmo.errors import ConfigError

# What the datasets library writes beside the rows, and package files.
_NOT_ROWS = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "features.json"}

SPLIT_NAMES = {"val": "validation", "valid": "validation", "dev": "validation", "training": "train", "testing": "test"}
"""The store's names of splits that are called otherwise."""
# The reader takes this much at a time, and a row must fit in: pictures in base64 have megabytes.
_MOST_CELL_BYTES = 64 << 20
KNOWN_SPLITS = ("train", "validation", "test", *SPLIT_NAMES)


def _csv_rows(paths: Sequence[Path], folder: Path | None) -> Rows:
    """Rows of CSV or TSV files; every cell is text, and an empty one is nothing."""
    tables = [_read_csv(path) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        if table.column_names != tables[0].column_names:
            raise ConfigError(f"{path} and {paths[0]} are parts of one set but differ in columns")
    return table_rows(pa.concat_tables(tables).combine_chunks(), folder)


def _read_csv(path: Path) -> pa.Table:
    csv = pyarrow.csv
    read = csv.ReadOptions(block_size=_MOST_CELL_BYTES)
    parse = csv.ParseOptions(delimiter="\t" if path.suffix.lower() == ".tsv" else ",", newlines_in_values=True)
    try:
        with csv.open_csv(path, read_options=read, parse_options=parse) as reader:
            names = reader.schema.names
        convert = csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        )
        return csv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path} does not read as CSV ({error})") from error


_OPENERS: dict[str, Callable[[Sequence[Path], Path | None], Rows]] = {
    **dict.fromkeys((".parquet", ".pq"), parquet_rows),
    **dict.fromkeys((".arrow", ".feather"), arrow_file_rows),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), json_rows),
    **dict.fromkeys((".csv", ".tsv"), _csv_rows),
}
TABLE_SUFFIXES = tuple(_OPENERS)


@dataclass(frozen=True)
class Part:
    """A split of a source, found but not opened.

    Attributes:
        split: by the name that its files have.
        files: in order.
    """

    split: str
    files: tuple[Path, ...]


def is_table(path: Path) -> bool:
    """Whether the file holds rows, by its name."""
    return path.suffix.lower() in _OPENERS and path.name not in _NOT_ROWS and not path.name.startswith(".")


def open_table(files: Sequence[Path]) -> Rows:
    """Rows of the files of one split. Raises ConfigError if they are damaged, or differ in kind or columns."""
    kinds = {_OPENERS[path.suffix.lower()] for path in files}
    if len(kinds) > 1:
        raise ConfigError(f"{files[0]} and {files[-1]} hold the same split in two formats; leave one, or name a file")
    (opener,) = kinds
    try:
        return opener(files, files[0].parent)
    except OSError as error:
        raise ConfigError(f"{files[0]} cannot be read ({error})") from error


def find_parts(root: Path, wanted: Callable[[Path], bool]) -> list[Part]:
    """The splits of a file or folder, by the names of files and folders; "train" where they say nothing.

    Args:
        root: a file, or a folder whose files lie in it or in folders below it.
        wanted: which files count.
    """
    files = [root] if root.is_file() else sorted(path for path in visible_files(root) if wanted(path))
    parts: dict[str, list[Path]] = {}
    for path in files:
        parts.setdefault(split_of(path, root), []).append(path)
    return [Part(split, tuple(paths)) for split, paths in parts.items()]


def visible_files(root: Path) -> list[Path]:
    """All files below a folder that are not hidden, in order of their names."""
    found = (path for path in root.rglob("*") if path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts))


def split_of(path: Path, root: Path) -> str:
    """The split that a file holds: the last known name among the words of its name, else of its folders."""
    folders = path.relative_to(root).parts[:-1] if path != root else ()
    for name in (path.name, *reversed(folders)):
        words = [word for word in re.split(r"[-_.\s]+", name.lower()) if word in KNOWN_SPLITS]
        if words:
            return words[-1]
    return "train"


def is_saved_to_disk(path: Path) -> bool:
    """Whether `datasets` wrote the folder with `save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def saved_parts(path: Path) -> list[Part]:
    """The splits of a folder of `save_to_disk`. Raises ConfigError if files of it are missing."""
    try:
        if (path / "dataset_dict.json").is_file():
            splits = json.loads((path / "dataset_dict.json").read_text())["splits"]
            folders = [(str(split), path / split) for split in splits]
        else:
            folders = [("", path)]
        parts = []
        for split, folder in folders:
            state = json.loads((folder / "state.json").read_text())
            files = tuple(folder / Path(entry["filename"]).name for entry in state["_data_files"])
            parts.append(Part(split or state.get("_split") or "train", files))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} was written by save_to_disk, but is not whole ({error!r})") from error
    missing = [file for part in parts for file in part.files if not file.is_file()]
    if missing:
        raise ConfigError(f"{missing[0]} is missing from what save_to_disk wrote")
    return parts


def class_names(schema: pa.Schema | None) -> dict[str, list[str]]:
    """Names of the classes, by column, where the datasets library says what its numbers stand for."""
    try:
        info = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")) if schema is not None else {}
        features = info.get("info", {}).get("features", {})
        return {name: feature["names"] for name, feature in features.items() if _is_class(feature)}
    except (ValueError, AttributeError):
        return {}


def _is_class(feature: Any) -> bool:
    return (
        isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list)
    )
