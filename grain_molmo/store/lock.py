"""One writer a dataset at a time."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import filelock

from grain_molmo.errors import StoreBusyError
from grain_molmo.store.commit import recover
from grain_molmo.store.files import canonical_name, writing

# Hidden, beside the datasets: no file here is part of the store.
LOCK_FOLDER = ".locks"


@contextlib.contextmanager
def dataset_lock(data_dir: str | os.PathLike[str], name: str, *, wait: bool = False) -> Iterator[None]:
    """Holds the right to write a dataset; what an earlier, killed writer left undone is put right first.

    A folder of the dataset that was made meanwhile and is empty at the end, since nothing was written, is removed. What
    several datasets share stays: another process may be about to write there.

    The system gives the lock back when the process ends, however it ends. It is not re-entrant.

    Args:
        data_dir: the store's folder; made if it is not there.
        name: dataset name.
        wait: until the other process is done, instead of raising.

    Raises:
        StoreBusyError: another process holds it.
        StoreError: the folder cannot be written.
    """
    name = canonical_name(name)
    folder = Path(data_dir) / name
    with write_lock(data_dir, name, folder, wait=wait):
        is_new = not folder.exists()
        recover(Path(data_dir), name)
        try:
            yield
        finally:
            if is_new:
                with contextlib.suppress(OSError):  # it is not empty, or was never made
                    folder.rmdir()


@contextlib.contextmanager
def write_lock(data_dir: str | os.PathLike[str], lock_name: str, target: Path, *, wait: bool = False) -> Iterator[None]:
    """Holds the right to write one thing in the store's folder, as `dataset_lock` does.

    Args:
        data_dir: the store's folder; made if it is not there.
        lock_name: of the lock's files.
        target: what it is about, for the message.
        wait: until the other process is done, instead of raising.
    """
    folder = Path(data_dir) / LOCK_FOLDER
    path, holder_path = folder / f"{lock_name}.lock", folder / f"{lock_name}.json"
    lock = filelock.FileLock(path, timeout=-1 if wait else 0)
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise StoreBusyError(f"{target} is being written by {_holder(holder_path)}") from None
    try:
        with contextlib.suppress(OSError):  # a full disk; the lock holds without a note of whose it is
            holder_path.write_text(json.dumps(_this_process()))
        yield
    finally:
        with contextlib.suppress(OSError):
            holder_path.unlink()
        lock.release()


def _this_process() -> dict[str, str | int]:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        words = f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # between its lock and its note
        words = "another process"
    return f"{words}; wait for it (--wait), or stop it"
