"""The media store: each picture's original bytes once, whichever datasets speak of it, found by content hash.

A conversion adds a *group*: shards plus a sorted index of the hashes in them, memory-mapped, so that ten million
pictures open at once and a look-up is a binary search. Groups are only ever added.
"""

import os
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from grain_molmo.errors import DamagedRecordError, StoreError
from grain_molmo.store.files import damaged, next_generation, replacing, writing
from grain_molmo.store.reads import counted
from grain_molmo.store.records import decode_media
from grain_molmo.store.sealed import read_sealed, write_sealed
from grain_molmo.store.shards import RecordReader, ShardInfo, file_sha256

MEDIA_FOLDER = "media"
_MANIFEST_SUFFIX = ".manifest.json"
_INDEX_SUFFIX = ".index.npy"
_KEYS = ("index", "shards")


def group_files(name: str) -> tuple[str, str]:
    """Names of a group's index and manifest."""
    return f"{name}{_INDEX_SUFFIX}", f"{name}{_MANIFEST_SUFFIX}"


def split_key(sha256: str) -> tuple[int, int]:
    """The first 128 bits of the hash, which is what the index holds: no two media share them by chance."""
    return int(sha256[:16], 16), int(sha256[16:32], 16)


def key_halves(keys: Sequence[str]) -> np.ndarray:
    """[N, 2] uint64: the first and the second 64 bits of content hashes, all that the index keeps of them."""
    return np.frombuffer(bytes.fromhex("".join(key[:32] for key in keys)), ">u8").reshape(-1, 2).astype(np.uint64)


def build_index(keys_by_shard: Sequence[Sequence[str] | np.ndarray]) -> np.ndarray:
    """[3, N] uint64: hash bits 0-63, hash bits 64-127, shard << 32 | record; sorted by hash.

    Args:
        keys_by_shard: content hashes of the records of each shard, or `key_halves` of them.
    """
    halves = [keys if isinstance(keys, np.ndarray) else key_halves(keys) for keys in keys_by_shard]
    places = [np.uint64(shard << 32) | np.arange(len(keys), dtype=np.uint64) for shard, keys in enumerate(halves)]
    index = np.concatenate([np.zeros((0, 3), np.uint64), *map(np.column_stack, zip(halves, places, strict=True))])
    return np.ascontiguousarray(index[np.lexsort((index[:, 2], index[:, 1], index[:, 0]))].T)


class MediaGroup:
    """The media that one conversion added.

    Attributes:
        name: of the group; its files begin with it.
        shards: the files that hold the media.
        index_sha256: of the index's file; None if an older version wrote the group.
        is_sealed: whether the group's manifest carries a checksum of itself.
    """

    def __init__(self, folder: Path, name: str):
        self.name = name
        index_file, manifest_file = group_files(name)
        manifest_path = folder / manifest_file
        entries, self.is_sealed = read_sealed(manifest_path, _KEYS)
        try:
            self.shards = tuple(ShardInfo(**shard) for shard in entries["shards"])
            self.index_sha256 = entries["index"]["sha256"] if self.is_sealed else None
        except (KeyError, TypeError) as error:
            raise damaged(manifest_path, repr(error)) from error
        self._reader = RecordReader(folder, self.shards)
        self._index_path = folder / index_file
        self._index: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._reader)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_index": None}  # mapped again where it is unpickled

    @property
    def index(self) -> np.ndarray:
        """[3, N] uint64, memory-mapped: see `build_index`."""
        if self._index is None:
            try:
                index = np.load(self._index_path, mmap_mode="r")
            except Exception as error:  # numpy parses the header as Python: a damaged one raises all sorts
                raise damaged(self._index_path, error) from error
            if index.shape != (3, len(self)) or index.dtype != np.uint64:
                raise damaged(self._index_path, f"{index.dtype}{index.shape}, not uint64{(3, len(self))}")
            self._index = index
            return index
        return self._index

    def locate(self, sha256: str) -> tuple[int, int] | None:
        """(shard, record) of the media, or None. Raises StoreError if the index is damaged."""
        high, low = split_key(sha256)
        index = self.index
        position = int(np.searchsorted(index[0], np.uint64(high)))
        while position < index.shape[1] and index[0, position] == high:
            if index[1, position] == low:
                shard, record = divmod(int(index[2, position]), 1 << 32)
                if shard >= len(self.shards) or record >= self.shards[shard].records:
                    raise damaged(self._index_path, f"it points past the end for {sha256}")
                return shard, record
            position += 1
        return None

    def holds(self, sha256: str) -> bool:
        """Whether the group has the media and the shard that they lie in is whole, as far as its size tells."""
        try:
            place = self.locate(sha256)
            return place is not None and self._reader.is_whole(place[0])
        except StoreError:
            return False

    def check(self) -> None:
        """Raises StoreError if the index does not read, or a shard is missing or has another size than it should."""
        self._reader.check()
        _ = self.index

    def read(self, place: tuple[int, int], sha256: str) -> bytes:
        """Original bytes of the media at a place. Raises StoreError if they do not read."""
        try:
            stored, data = decode_media(self._reader.read(*place))
        except (ValueError, KeyError, IndexError) as error:
            file = self.shards[place[0]].file
            raise DamagedRecordError(f"{file}: record {place[1]} is no record of media ({error})") from error
        if stored != sha256:
            raise damaged(self._index_path, f"it points at {stored} for {sha256}")
        return data


class MediaStore:
    """All media under a data folder; picklable, safe to share between threads.

    Args:
        data_dir: the store's folder.
        groups: only these of the groups; default: all.
    """

    def __init__(self, data_dir: str | os.PathLike[str], groups: Collection[str] | None = None):
        self.folder = Path(data_dir) / MEDIA_FOLDER
        names = list_groups(self.folder) if groups is None else groups
        self.groups = tuple(MediaGroup(self.folder, name) for name in names)

    def __len__(self) -> int:
        return sum(len(group) for group in self.groups)

    def __contains__(self, sha256: str) -> bool:
        """Whether the media are there, in a shard of the right size: else a conversion stores them anew."""
        return any(group.holds(sha256) for group in self.groups)

    def check(self) -> None:
        """Raises StoreError if an index does not read, or a shard is missing or has another size than it should."""
        for group in self.groups:
            group.check()

    def read(self, sha256: str) -> bytes:
        """Original bytes of the media with this hash. Raises StoreError if the store does not hold them."""
        return counted(lambda: self._read(sha256))

    def _read(self, sha256: str) -> bytes:
        failure: StoreError | None = None
        for group in self.groups:
            try:
                place = group.locate(sha256)
                if place is not None:
                    return group.read(place, sha256)
            except StoreError as error:  # a later conversion may have stored the media anew
                failure = failure or error
        raise failure or StoreError(
            f"{self.folder} lacks media {sha256}, to which an annotation refers; convert again with --force"
        )


def list_groups(folder: Path) -> list[str]:
    """Names of the groups that are committed, in the order in which they are asked."""
    return sorted(path.name.removesuffix(_MANIFEST_SUFFIX) for path in folder.glob(f"*{_MANIFEST_SUFFIX}"))


def write_group(folder: Path, name: str, shards: Sequence[ShardInfo], index: np.ndarray) -> None:
    """Writes a group's index, then its manifest, which makes shards beside them part of the store."""
    index_path, manifest_path = (folder / file for file in group_files(name))
    with replacing(index_path) as temporary, writing(index_path), open(temporary, "wb") as file:
        np.save(file, index)
    entries = {"index": {"sha256": file_sha256(index_path)}, "shards": [asdict(shard) for shard in shards]}
    write_sealed(manifest_path, entries)


def new_group_name(folder: Path, base: str) -> str:
    """A name that no group has yet: groups that annotations may refer to are never overwritten."""
    name = base
    while (folder / f"{name}{_MANIFEST_SUFFIX}").exists():
        name = next_generation(name, base)
    return name
