"""What a data folder holds, from its manifests and first records; no media is read."""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grain_molmo.errors import StoreError
from grain_molmo.store import (
    AnnotationSource,
    MediaStore,
    Record,
    SplitManifest,
    list_converted,
    load_manifest,
    load_rejects,
)


@dataclass(frozen=True)
class SplitReport:
    """One split of a converted set.

    Attributes:
        name: in the store, such as "train" or "train_charts".
        examples: annotation records.
        shards: files that hold them.
        num_bytes: of those files.
        media_added: media that this conversion put into the store; others it found there.
        media_bytes: of the files that hold those.
        rejected: source rows left out, by reason.
        source: where the rows came from.
        max_rows: the conversion's limit on source rows, if it had one.
    """

    name: str
    examples: int
    shards: int
    num_bytes: int
    media_added: int
    media_bytes: int
    rejected: dict[str, int]
    source: dict[str, Any]
    max_rows: int | None


@dataclass(frozen=True)
class SetReport:
    """A converted set."""

    name: str
    splits: tuple[SplitReport, ...]

    @property
    def examples(self) -> dict[str, int]:
        """Examples by what users call the split, the training data first."""
        counts: dict[str, int] = {}
        for split in sorted(self.splits, key=lambda split: part_of(split.name) != "train"):
            counts[part_of(split.name)] = counts.get(part_of(split.name), 0) + split.examples
        return counts

    @property
    def rejected(self) -> dict[str, int]:
        """Source rows left out of any split, by reason, the most frequent first."""
        return dict(sum((Counter(split.rejected) for split in self.splits), Counter[str]()).most_common())


@dataclass(frozen=True)
class StoreReport:
    """A data folder.

    Attributes:
        sets: by name.
        media: media in the store, each once, whichever sets speak of it.
        media_bytes: of the files that hold them.
    """

    sets: tuple[SetReport, ...]
    media: int
    media_bytes: int


@dataclass(frozen=True)
class Coverage:
    """What became of the rows of one source split.

    Attributes:
        source: where the rows came from.
        splits: store splits that were made of it.
        rows: rows that were read; examples that were given, of a set that was written from Python.
        rejected: of those, left out, by reason; all others are part of a record.
    """

    source: dict[str, Any]
    splits: tuple[str, ...]
    rows: int
    rejected: dict[str, int]

    @property
    def is_written(self) -> bool:
        """Whether they were given to `write_dataset`, so that there is no source."""
        return self.source.get("kind") == "written"

    @property
    def rows_in_records(self) -> int:
        """Rows that are part of a record."""
        return self.rows - sum(self.rejected.values())


def part_of(split: str) -> str:
    """The split that a user of the dataset asks for: "train" for the store's "train_charts"."""
    return split.partition("_")[0]


def report_store(data_dir: Path) -> StoreReport:
    """What the folder holds. Raises StoreError if there is no such folder."""
    if not data_dir.is_dir():
        raise StoreError(f"there is no folder {data_dir}; `grain-molmo convert NAME --data-dir {data_dir}` makes it")
    store = MediaStore(data_dir)
    sets = tuple(report_set(data_dir, name, store) for name in list_converted(data_dir))
    num_bytes = sum(shard.num_bytes for group in store.groups for shard in group.shards)
    return StoreReport(sets, len(store), num_bytes)


def report_set(data_dir: Path, name: str, store: MediaStore | None = None) -> SetReport:
    """What the folder holds of a set. Raises StoreError if it was not converted into this folder."""
    manifest = load_manifest(data_dir, name)
    groups = {group.name: group for group in (store or MediaStore(data_dir)).groups}

    def report(split: str, entry: SplitManifest) -> SplitReport:
        group = groups.get(entry.media_group or "")
        return SplitReport(
            name=split,
            examples=entry.num_examples,
            shards=len(entry.shards),
            num_bytes=sum(shard.num_bytes for shard in entry.shards),
            media_added=len(group) if group else 0,
            media_bytes=sum(shard.num_bytes for shard in group.shards) if group else 0,
            rejected=entry.rejected,
            source=entry.source,
            max_rows=entry.converter.get("max_rows"),
        )

    return SetReport(name, tuple(report(split, entry) for split, entry in manifest.items()))


def coverage(splits: Sequence[SplitReport]) -> list[Coverage]:
    """What became of the rows of each source split that the splits were made of.

    Several splits may share a source: those with labels of different kinds, and a validation split that was held out.
    """
    by_source: dict[str, list[SplitReport]] = {}
    for split in splits:
        by_source.setdefault(json.dumps([split.source, split.max_rows], sort_keys=True), []).append(split)
    covered = []
    for group in by_source.values():
        source, max_rows = group[0].source, group[0].max_rows
        rejected = dict(sum((Counter(split.rejected) for split in group), Counter[str]()).most_common())
        names = tuple(split.name for split in group)
        made = sum(split.examples for split in group) + sum(rejected.values())
        rows = made if source.get("kind") == "written" else source.get("rows", 0)
        covered.append(Coverage(source, names, rows if max_rows is None else min(rows, max_rows), rejected))
    return covered


def network_rejects(data_dir: Path, name: str, splits: Sequence[SplitReport]) -> dict[str, int]:
    """Rejected rows whose picture was asked for over the network, by reason, the most frequent first.

    Raises StoreError if a table of rejected rows does not read.
    """
    tables = (load_rejects(data_dir, name, split.name) for split in splits if split.rejected)
    rejects = itertools.chain.from_iterable(tables)
    return dict(Counter(reject.reason for reject in rejects if reject.attempts).most_common())


@dataclass(frozen=True)
class MediaReport:
    """Media of one kind in some records.

    Attributes:
        kind: "image", "video" or "frames".
        per_record: smallest and largest number of them in a record.
        min_size, median_size, max_size: (width, height) of the smallest, middle and largest by area, pixels.
        seconds: shortest and longest duration; None of pictures.
        median_seconds: the middle duration; None of pictures.
    """

    kind: str
    per_record: tuple[int, int]
    min_size: tuple[int, int]
    median_size: tuple[int, int]
    max_size: tuple[int, int]
    seconds: tuple[float, float] | None
    median_seconds: float | None


@dataclass(frozen=True)
class RecordsReport:
    """What the first records of some splits look like.

    Attributes:
        read: how many were looked at.
        columns: type of each field of the annotations.
        values: of each field the first that is not empty; None if all are.
        media: of each kind that occurs.
    """

    read: int
    columns: dict[str, str]
    values: dict[str, Any]
    media: tuple[MediaReport, ...]


def report_records(data_dir: Path, name: str, splits: Sequence[str], first: int = 100) -> RecordsReport:
    """Types and sizes in the first records of each of the splits. Raises StoreError if one does not read."""
    sources = [AnnotationSource(data_dir, name, [split]) for split in splits]
    records = [source[i] for source in sources for i in range(min(first, len(source)))]
    columns = list(dict.fromkeys(key for record in records for key in record.annotation))
    return RecordsReport(
        read=len(records),
        columns={key: type_of([record.annotation.get(key) for record in records]) for key in columns},
        values={key: _first_of([record.annotation.get(key) for record in records]) for key in columns},
        media=tuple(_report_media(records)),
    )


def _first_of(values: Sequence[Any]) -> Any:
    """The first value that is there and not empty, or None."""
    return next((value for value in values if isinstance(value, np.ndarray) or value not in (None, "", [], {})), None)


def _report_media(records: Sequence[Record]) -> Iterator[MediaReport]:
    for kind in dict.fromkeys(ref.kind for record in records for ref in record.media):
        by_record = [[ref for ref in record.media if ref.kind == kind] for record in records]
        refs = list(itertools.chain.from_iterable(by_record))
        counts = [len(some) for some in by_record]
        sizes = sorted(((ref.width, ref.height) for ref in refs), key=lambda wh: wh[0] * wh[1])
        seconds = sorted(ref.video.duration_s for ref in refs if ref.video is not None)
        yield MediaReport(
            kind=kind,
            per_record=(min(counts), max(counts)),
            min_size=sizes[0],
            median_size=sizes[len(sizes) // 2],
            max_size=sizes[-1],
            seconds=(seconds[0], seconds[-1]) if seconds else None,
            median_seconds=seconds[len(seconds) // 2] if seconds else None,
        )


def type_of(values: Iterable[Any]) -> str:
    """The type that JSON values have in common.

    >>> type_of([[[1.5, 2.0]], None])
    'list[list[float]] | null'
    >>> type_of([{"label": "cup", "count": 2}])
    '{label: str, count: int}'
    """
    by_type: dict[type, list[Any]] = {}
    for value in values:
        by_type.setdefault(type(value), []).append(value)
    return " | ".join(_name_type(kind, some) for kind, some in sorted(by_type.items(), key=_null_last))


def _null_last(item: tuple[type, list[Any]]) -> tuple[bool, str]:
    return item[0] is type(None), item[0].__name__


def _name_type(kind: type, values: list[Any]) -> str:
    if kind is type(None):
        return "null"
    if kind is np.ndarray:
        return " | ".join(dict.fromkeys(f"{value.dtype}{list(value.shape)}" for value in values))
    if kind is list:
        return f"list[{type_of(itertools.chain.from_iterable(values))}]"
    if kind is dict:
        keys = dict.fromkeys(key for value in values for key in value)
        return "{" + ", ".join(f"{key}: {type_of([value.get(key) for value in values])}" for key in keys) + "}"
    return kind.__name__
