"""Small stores for the tests. The store looks at no pixel, so any bytes serve as a picture."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from grain_molmo.store import AnnotationSource, MediaRef, MediaStore, Record, Reject, SplitManifest, SplitWriter
from grain_molmo.store import content_key as key

Item = tuple[Record, dict[str, bytes]]


def picture(number: int, size: int = 300) -> bytes:
    """Bytes that differ from those of other numbers."""
    return f"picture {number} ".encode().ljust(size, b"*")


def ref_of(data: bytes) -> MediaRef:
    return MediaRef(key(data), "image", 4, 3, len(data))


def item(number: int, *pictures: bytes, **annotation: Any) -> Item:
    """A record and the media that it speaks of."""
    record = Record(f"id-{number}", {"number": number, **annotation}, tuple(ref_of(data) for data in pictures))
    return record, {key(data): data for data in pictures}


def two_shards() -> list[list[Item]]:
    """Six records: a picture twice within a shard, one in both shards, one record with two pictures, one with none."""
    a, b, c, d = (picture(i) for i in range(4))
    return [[item(0, a), item(1, a), item(2, b)], [item(3, b), item(4, c, d), item(5)]]


ODD = Reject(7, "\ud800", "dead_link", "\udfff \\ ü", "http://h/\ud83d")


def older_rows(count: int) -> list[list[Item]]:
    """Another conversion of the split that `write_two` writes, with one picture in common."""
    return [[item(100 + shard, picture(0), picture(100 + shard))] for shard in range(count)]


def write_two(data_dir: Path) -> None:
    """Writes `two_shards`, with a reject."""
    write_split(data_dir, two_shards(), rejects=[ODD], version=1)


def write_split(
    data_dir: Path,
    shards: Sequence[Sequence[Item]],
    *,
    name: str = "birds",
    split: str = "train",
    rejects: Sequence[Reject] = (),
    **arguments: Any,
) -> SplitManifest:
    """Writes what is not written yet, and commits."""
    writer = SplitWriter(data_dir, name, split, num_shards=len(shards), arguments=arguments)
    for shard, items in enumerate(shards):
        if not writer.has_shard(shard):
            writer.write_shard(shard, _audited(items))
    return writer.finish(source={"kind": "test"}, converter=arguments, rejects=rejects)


def _audited(items: Sequence[Item]) -> Iterator[Item]:
    """The items, each announced to whoever listens for audit events."""
    for one in items:
        sys.audit("next_item")
        yield one


def records_of(shards: Sequence[Sequence[Item]]) -> list[Record]:
    return [record for items in shards for record, _ in items]


def read_all(data_dir: Path, name: str = "birds", split: str = "train") -> list[Record]:
    """All records of a split; every one of their pictures is read, too."""
    source, media = AnnotationSource(data_dir, name, [split]), MediaStore(data_dir)
    records = [source[i] for i in range(len(source))]
    for record in records:
        for ref in record.media:
            assert key(media.read(ref.sha256)) == ref.sha256
    return records


def all_files(folder: Path) -> dict[str, bytes]:
    """Contents by path of all files below the folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def visible_files(folder: Path) -> dict[str, bytes]:
    """Contents by path of all files below the folder but the hidden ones."""
    return {name: data for name, data in all_files(folder).items() if not any(p[0] == "." for p in Path(name).parts)}


def flip_bit(path: Path, offset: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)
