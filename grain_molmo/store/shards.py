"""ArrayRecord shards: written atomically, read by range so that a read costs the same in a shard of any size."""

import bisect
import contextlib
import hashlib
import itertools
import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from grain_molmo.errors import DamagedRecordError, StoreError
from grain_molmo.store.files import cannot_write, replacing, writing

# One record a chunk is what random access wants: a larger group is read and decompressed whole for one record.
MEDIA_OPTIONS = "group_size:1,uncompressed"
ANNOTATION_OPTIONS = "group_size:1,zstd:3"
# Deleted first, because a conversion keeps pictures whose shard has the right size.
_REPAIR = "restore it, or delete it and convert the dataset again with --force"
_CORRUPTED = "Corrupted Riegeli"
"""What the reader says of bytes that it could read and whose checksum does not hold; of a disk it says other things."""


@dataclass(frozen=True)
class ShardInfo:
    """What a manifest says of a shard.

    Attributes:
        file: its name.
        records: how many it holds.
        num_bytes: its size on disk.
        sha256: hex digest of the file.
    """

    file: str
    records: int
    num_bytes: int
    sha256: str


def file_sha256(path: Path) -> str:
    """Lower-case hex SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_shard(path: Path, payloads: Iterable[bytes], options: str) -> ShardInfo:
    """Writes one shard: it appears under its name when complete and readable, or not at all.

    Raises StoreError if it cannot be written (a full disk, for one) or does not read back.
    """
    with replacing(path) as temporary:
        count = _write_records(path, temporary, payloads, options)
        reader = ArrayRecordReader(str(temporary))
        if not reader.ok() or reader.num_records() != count:
            raise StoreError(f"{path}: the shard just written does not read back; is the disk full?")
        reader.close()
        with writing(path):
            info = ShardInfo(path.name, count, temporary.stat().st_size, file_sha256(temporary))
    return info


def _write_records(path: Path, temporary: Path, payloads: Iterable[bytes], options: str) -> int:
    with writing(path):
        temporary.touch()  # the writer's constructor does not raise on a bad path; this does
    writer = ArrayRecordWriter(str(temporary), options)
    count = 0
    try:
        for payload in payloads:
            try:
                writer.write(payload)
            except RuntimeError as error:
                raise cannot_write(path, error) from error
            count += 1
    except BaseException:
        with contextlib.suppress(RuntimeError):  # it says again what `write` said
            writer.close()
        raise
    try:
        writer.close()
    except RuntimeError as error:
        raise cannot_write(path, error) from error
    return count


class _OpenReaders:
    """The readers this process holds open, the least recently used dropped first: one file descriptor a shard."""

    def __init__(self) -> None:
        self._readers: OrderedDict[tuple[str, str], ArrayRecordReader] = OrderedDict()
        self._lock = threading.Lock()
        self._limit = max(16, min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))

    def get(self, path: Path, info: ShardInfo) -> ArrayRecordReader:
        # The checksum is part of the key: a shard that was converted anew is another shard.
        key = (str(path), info.sha256)
        with self._lock:
            reader = self._readers.get(key)
            if reader is not None:
                self._readers.move_to_end(key)
                return reader
        reader = _open_shard(path, info)
        with self._lock:
            self._readers[key] = reader
            while len(self._readers) > self._limit:
                # Not closed here: another thread may be reading. It closes when its last user lets go.
                self._readers.popitem(last=False)
        return reader


_open_readers = _OpenReaders()
# A child must not share the parent's readers: their thread pool does not survive a fork.
os.register_at_fork(after_in_child=_open_readers.__init__)


def _check_size(path: Path, info: ShardInfo) -> None:
    try:
        num_bytes = path.stat().st_size
    except OSError as error:
        raise StoreError(
            f"{path}: shard is missing ({error.strerror}); restore it or convert the dataset again with --force"
        ) from error
    if num_bytes != info.num_bytes:
        raise StoreError(
            f"{path}: shard has {num_bytes:,} bytes where the manifest says {info.num_bytes:,}; it was cut off or "
            "replaced, restore it or convert the dataset again with --force"
        )


def _open_shard(path: Path, info: ShardInfo) -> ArrayRecordReader:
    _check_size(path, info)
    reader = ArrayRecordReader(str(path))
    if not reader.ok() or reader.num_records() != info.records:
        raise StoreError(f"{path}: shard is damaged (its index does not read); {_REPAIR}")
    return reader


class RecordReader:
    """Random access to the records of a list of shards; picklable, safe to share between threads.

    Shards are opened when first read, so opening a set of any size costs nothing.
    """

    def __init__(self, folder: Path, shards: Sequence[ShardInfo]):
        self._folder = folder
        self._shards = tuple(shards)
        self._ends = list(itertools.accumulate(shard.records for shard in self._shards))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> bytes:
        """Payload of record `index`. Raises IndexError out of range; else as `read_range`."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)} in {self._folder}")
        shard = bisect.bisect_right(self._ends, index)
        start = self._ends[shard - 1] if shard else 0
        return self.read(shard, index - start)

    def check(self) -> None:
        """Raises StoreError if a shard is missing or has another size than it should; opens none."""
        for info in self._shards:
            _check_size(self._folder / info.file, info)

    def open(self, shard: int) -> None:
        """Opens a shard. Raises StoreError if it is missing, has another size, or its index does not read."""
        info = self._shards[shard]
        _open_readers.get(self._folder / info.file, info)

    def is_whole(self, shard: int) -> bool:
        """Whether a shard is there and has the size that it should have."""
        info = self._shards[shard]
        try:
            _check_size(self._folder / info.file, info)
        except StoreError:
            return False
        return True

    def read(self, shard: int, record: int) -> bytes:
        """Payload of one record of one shard. Raises as `read_range`."""
        return self.read_range(shard, record, record + 1)[0]

    def read_range(self, shard: int, start: int, stop: int) -> Sequence[bytes]:
        """Payloads of successive records of one shard.

        Raises:
            DamagedRecordError: the checksum of one does not hold; the message names the first.
            StoreError: the shard is missing, cut off, or cannot be read at all.
        """
        info = self._shards[shard]
        path = self._folder / info.file
        reader = _open_readers.get(path, info)
        try:
            # The range overload: reading by a list of indices scans the whole shard's chunk table at each call.
            payloads = reader.read(start, stop)
            if len(payloads) != stop - start:
                raise IndexError(f"{len(payloads)} of {stop - start} records")
            return payloads
        except (RuntimeError, IndexError) as error:
            _check_size(path, info)  # a shard that was cut off under the reader has bad checksums, too
            kind = DamagedRecordError if _CORRUPTED in str(error) else StoreError
            raise kind(f"{path}: record {start} does not read ({error}); {_REPAIR}") from error
