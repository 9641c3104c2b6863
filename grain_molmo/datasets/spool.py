"""Items of a sequence of unknown length, on disk until it is known how many shards they fill."""

import os
import pickle
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from grain_molmo.errors import StoreError
from grain_molmo.store import MediaStore, Record

Item = tuple[Record, Mapping[str, bytes]]
"""A record, and the bytes of its media by SHA-256."""


class ItemSpool:
    """A file without a name in the store's folder: whatever happens, nothing of it stays. A context manager.

    Args:
        folder: the store's. Media that it holds already are not spooled.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._store = MediaStore(folder)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed by __exit__)
        self._length = 0

    def __enter__(self) -> "ItemSpool":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()

    def fill(self, items: Iterable[Item]) -> int:
        """Takes the items; how many there were. Raises StoreError if the disk is full."""
        spooled: set[bytes] = set()
        for record, media in items:
            new = {}
            for sha256 in media:
                key = bytes.fromhex(sha256)
                if key not in spooled and sha256 not in self._store:
                    spooled.add(key)
                    new[sha256] = media[sha256]
            self._write((record, new))
            self._length += 1
        return self._length

    def _write(self, item: Item) -> None:
        try:
            pickle.dump(item, self._file, protocol=5)
        except OSError as error:
            where = os.path.dirname(self._store.folder)
            raise StoreError(f"{where}: cannot keep the examples until all are known ({error})") from error

    def __iter__(self) -> Iterator[Item]:
        self._file.seek(0)
        return (pickle.load(self._file) for _ in range(self._length))
