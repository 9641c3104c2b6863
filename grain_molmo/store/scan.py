"""Reading a shard from end to end: what `verify` needs to know of its records, and those that are damaged."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grain_molmo.errors import StoreError
from grain_molmo.store.records import MediaRef, content_key, decode_media_record, decode_record
from grain_molmo.store.shards import RecordReader, ShardInfo

# Says of a medium and its bytes what is wrong with them, or None.
CheckMedia = Callable[[MediaRef, bytes], str | None]

# A reference: the first half of the content hash, what is said of the medium, and the record that says it.
REF = np.dtype(
    [("key", "S16"), ("kind", "S8"), ("width", "u4"), ("height", "u4"), ("num_bytes", "u8"), ("record", "u4")]
)
# Annotation records read in one call: threads that call for each one spend their time handing Python's lock around.
_AT_ONCE = 250
FACTS = ["kind", "width", "height", "num_bytes"]


@dataclass(frozen=True)
class Scan:
    """What a shard holds.

    Attributes:
        ids: [N] S16, hashes of the records' ids; none of media.
        id_records: [N] uint32, the records that have them.
        refs: [M] REF: what annotations refer to, or what media are.
        problems: (record, what is wrong with it).
        is_whole: whether every record was read.
    """

    ids: np.ndarray
    id_records: np.ndarray
    refs: np.ndarray
    problems: tuple[tuple[int, str], ...]
    is_whole: bool

    @classmethod
    def of(
        cls,
        ids: Sequence[tuple[bytes, int]],
        refs: Sequence[tuple],
        problems: Sequence[tuple[int, str]],
        is_whole: bool,
    ) -> "Scan":
        """The scan with these rows."""
        return cls(
            np.array([key for key, _ in ids], "S16"),
            np.array([record for _, record in ids], np.uint32),
            np.array(list(refs), REF),
            tuple(problems),
            is_whole,
        )

    @classmethod
    def nothing(cls) -> "Scan":
        """Of a shard that was not read."""
        return cls.of((), (), (), is_whole=False)


def scan_annotations(path: Path, info: ShardInfo) -> Scan:
    """Parses each record of a shard. Raises StoreError if the shard does not open."""
    ids: list[tuple[bytes, int]] = []
    refs: list[tuple] = []
    problems: list[tuple[int, str]] = []
    num_read = 0
    for number, payload in _payloads(path, info, problems, _AT_ONCE):
        num_read += 1
        try:
            record = decode_record(payload)
            in_record = [_row(ref, number) for ref in record.media]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            problems.append((number, f"is no annotation record ({error!r})"))
            continue
        ids.append((hashlib.blake2b(record.id.encode("utf-8", "surrogatepass"), digest_size=16).digest(), number))
        refs += in_record
    return Scan.of(ids, refs, problems, is_whole=num_read == info.records)


def scan_media(path: Path, info: ShardInfo, check_media: CheckMedia | None) -> Scan:
    """Parses each record of a shard of media; with `check_media`, looks into them. Raises StoreError as above."""
    refs: list[tuple] = []
    problems: list[tuple[int, str]] = []
    for number, payload in _payloads(path, info, problems):
        try:
            ref, data = decode_media_record(payload)
            refs.append(_row(ref, number))
        except (ValueError, KeyError, IndexError) as error:
            problems.append((number, f"is no media record ({error!r})"))
            continue
        if check_media is None:
            continue
        wrong = "its bytes are not those of its SHA-256" if content_key(data) != ref.sha256 else check_media(ref, data)
        if wrong:
            problems.append((number, wrong))
    return Scan.of((), refs, problems, is_whole=len(refs) == info.records)


def _payloads(
    path: Path, info: ShardInfo, problems: list[tuple[int, str]], at_once: int = 1
) -> Iterator[tuple[int, bytes]]:
    """(number, payload) of the records that can be read; the others are problems."""
    reader = RecordReader(path.parent, [info])
    reader.open(0)
    for start in range(0, info.records, at_once):
        stop = min(start + at_once, info.records)
        try:
            yield from enumerate(reader.read_range(0, start, stop), start)
            continue
        except StoreError:
            pass
        for number in range(start, stop):  # which of them it is
            try:
                payload = reader[number]
            except StoreError:
                problems.append((number, "does not read"))
                continue
            yield number, payload


def _row(ref: MediaRef, record: int) -> tuple:
    key = bytes.fromhex(ref.sha256)
    if len(key) != 32 or not all(0 <= size < 1 << 32 for size in (ref.width, ref.height)) or ref.num_bytes < 0:
        raise ValueError(f"no reference to media: {ref}")
    return key[:16], ref.kind.encode(), ref.width, ref.height, ref.num_bytes, record
