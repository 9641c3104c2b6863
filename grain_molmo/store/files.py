"""Files that appear complete or not at all, and the names that the store gives them."""

import contextlib
import json
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grain_molmo.errors import ConfigError, StoreError

DATA_DIR_VARIABLE = "GRAIN_MOLMO_DATA"


def resolve_data_dir(data_dir: str | os.PathLike[str] | None) -> Path:
    """The store's folder: the argument, or $GRAIN_MOLMO_DATA. Raises ConfigError if neither is given."""
    chosen = data_dir if data_dir is not None else os.environ.get(DATA_DIR_VARIABLE)
    if not chosen:
        raise ConfigError(f"no data folder: pass data_dir=... (--data-dir) or set ${DATA_DIR_VARIABLE}")
    return Path(chosen).expanduser()


def canonical_name(name: str) -> str:
    """Dataset names accept '-' and '_' alike; on disk and in plans they have '_'.

    Raises ConfigError for names that could leave the store's folder.
    """
    canonical = name.replace("-", "_")
    if not re.fullmatch(r"\w+(\.\w+)*", canonical):
        raise ConfigError(f"{name!r} is no dataset name: use letters, digits, '_' and '-'")
    return canonical


def shard_file(stem: str, shard: int, num_shards: int) -> str:
    """File name of a shard, the way TFDS names it.

    >>> shard_file("pixmo_cap-train", 0, 16)
    'pixmo_cap-train.array_record-00000-of-00016'
    """
    return f"{stem}.array_record-{shard:05d}-of-{num_shards:05d}"


def fsync_folder(folder: Path) -> None:
    """Makes renames in the folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is fsynced and renamed to `path`, else it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a small file of JSON atomically."""
    with replacing(path) as temporary:
        # The one thing that UTF-8 cannot say is a lone surrogate, and \ud800 is JSON's way to write it, too.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically, keys in the order given, so that equal values are equal bytes."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON in a file of the store. Raises FileNotFoundError if it is missing, StoreError if it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: object) -> StoreError:
    """What to raise for a metadata file that does not hold what it should."""
    return StoreError(f"{path} is damaged ({error}); restore it, or delete it and convert again with --force")
