"""Files that appear complete or not at all, and the names that the store gives them."""

import contextlib
import errno
import json
import os
import re
import shutil
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
        problem = ConfigError(f"no data folder: pass data_dir=... (--data-dir) or set ${DATA_DIR_VARIABLE}")
        raise problem.with_hint("without data yet, `grain-molmo demo` makes some to look at")
    return Path(chosen).expanduser()


def canonical_name(name: str) -> str:
    """Dataset names accept '-' and '_' alike; on disk and in plans they have '_'.

    Raises ConfigError for names that could leave the store's folder.
    """
    canonical = name.replace("-", "_") if isinstance(name, str) else ""
    if not re.fullmatch(r"\w+(\.\w+)*", canonical):
        raise ConfigError(f"{name!r} is no dataset name: use letters, digits, '_' and '-'")
    return canonical


def shard_file(stem: str, shard: int, num_shards: int) -> str:
    """File name of a shard, the way TFDS names it.

    >>> shard_file("pixmo_cap-train", 0, 16)
    'pixmo_cap-train.array_record-00000-of-00016'
    """
    return f"{stem}.array_record-{shard:05d}-of-{num_shards:05d}"


def shard_stem(file: str) -> str:
    """What a shard's file name begins with: the inverse of `shard_file`.

    >>> shard_stem("pixmo_cap-train-2.array_record-00000-of-00016")
    'pixmo_cap-train-2'
    """
    return file.rpartition(".array_record-")[0]


def next_generation(stem: str, base: str) -> str:
    """The stem that follows a stem of the same base.

    >>> next_generation("pixmo_cap-train", "pixmo_cap-train"), next_generation("pixmo_cap-train-2", "pixmo_cap-train")
    ('pixmo_cap-train-2', 'pixmo_cap-train-3')
    """
    return f"{base}-{int(stem.removeprefix(base).removeprefix('-') or 1) + 1}"


def fsync_folder(folder: Path) -> None:
    """Makes renames in the folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_RIGHT = (errno.EROFS, errno.EACCES, errno.EPERM)


def cannot_write(path: Path, error: Exception) -> StoreError:
    """What to raise where the system refuses to write a file: the file, the free space, and what to do.

    ArrayRecord's errors carry no number, only the system's words, so those are looked for, too.
    """
    words = str(error)
    known = (*_NO_SPACE, *_NO_RIGHT)
    number = getattr(error, "errno", None) or next((one for one in known if os.strerror(one) in words), None)
    if number in _NO_SPACE:
        advice = "make room, then give the same command again: what is finished is kept"
    elif number in _NO_RIGHT:
        advice = "make the folder writable, or choose another"
    else:
        advice = "mend that, then give the same command again: what is finished is kept"
    reason = os.strerror(number) if number else " ".join(words.split())
    return StoreError(f"{path}: cannot write ({reason}); {_free_space(path)}; {advice}")


def _free_space(path: Path) -> str:
    with contextlib.suppress(OSError, StopIteration):  # the latter of the root itself
        folder = next(folder for folder in path.absolute().parents if folder.is_dir())
        return f"{shutil.disk_usage(folder).free / 1e6:,.1f} MB are free there"
    return "free space unknown"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns the system's refusal to write a file into a StoreError that names it."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


@contextlib.contextmanager
def replacing(path: Path, *, keep: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is fsynced and renamed to `path`, else it is removed.

    Args:
        path: where the file belongs.
        keep: leave what is there already, also if another process put it there a moment ago.

    Raises:
        StoreError: the system refuses. What the body raises passes as it is.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        with writing(path):
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            if keep:
                _link(temporary, path)
            else:
                os.replace(temporary, path)
            fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    """Gives the file its name unless the name is taken."""
    try:
        os.link(source, target)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        if not target.exists():
            os.replace(source, target)


def write_text(path: Path, text: str) -> None:
    """Writes a small file of JSON atomically."""
    with replacing(path) as temporary, writing(path):
        # The one thing that UTF-8 cannot say is a lone surrogate, and \ud800 is JSON's way to write it, too.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def json_text(value: Any) -> str:
    """JSON as the store writes it, keys in the order given: equal values are equal bytes."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically."""
    write_text(path, json_text(value))


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
