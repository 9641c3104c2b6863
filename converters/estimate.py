"""What a conversion would come to: rows counted, and a few of them tried to guess bytes, time and losses from."""

import itertools
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from converters.convert import plan_set
from converters.jobs import ShardWorker, place_of
from converters.peek import Peek
from converters.plan import SplitPlan, Unit
from converters.spec import SetSpec
from converters.units import Made, Prepared, make_records, prepare
from grain_molmo.readable import human_bytes
from grain_molmo.store.records import encode_record

UNITS_TRIED = 48


@dataclass(frozen=True)
class SplitEstimate:
    """What a split of the store would come to, by what was found of the rows tried.

    Attributes:
        split: of the store.
        rows: of the source that belong to it; counted where all rows are there, else by the share among the first.
        examples: about so many.
        shards: annotation shards.
        media_bytes: of the pictures or videos, each counted once.
        annotation_bytes: before compression.
        seconds: with so many media at a time as asked for.
        tried: rows that were converted for the estimate.
        rejected: of those, by reason.
    """

    split: str
    rows: int
    examples: int
    shards: int
    media_bytes: int
    annotation_bytes: int
    seconds: float
    tried: int
    rejected: dict[str, int]


@dataclass(frozen=True)
class SetEstimate:
    """What the conversion of a set would come to; `download_bytes` are those of its rows on the hub."""

    name: str
    splits: tuple[SplitEstimate, ...]
    download_bytes: int

    @property
    def num_bytes(self) -> int:
        """Space that the set would take in the store."""
        return sum(split.media_bytes + split.annotation_bytes for split in self.splits)

    @property
    def seconds(self) -> float:
        """Time that its conversion would take."""
        return sum(split.seconds for split in self.splits)

    def to_json(self) -> dict[str, Any]:
        """The estimate as JSON-able values."""
        return asdict(self) | {"num_bytes": self.num_bytes, "seconds": round(self.seconds, 3)}

    def to_text(self) -> str:
        """The estimate for people, one line a fact."""
        lines = [f"{self.name}: about {human_bytes(self.num_bytes)}, {human_seconds(self.seconds)}"]
        if self.download_bytes:
            lines.append(f"  its rows: {human_bytes(self.download_bytes)} to download")
        for split in self.splits:
            lines.append(
                f"  {split.split}: {split.rows:,} rows, about {split.examples:,} examples in {split.shards:,} shards; "
                f"{human_bytes(split.media_bytes)} of media, {human_bytes(split.annotation_bytes)} of annotations"
            )
            reasons = ", ".join(f"{reason} {count}" for reason, count in split.rejected.items())
            lines.append(
                f"    of {split.tried:,} rows tried {sum(split.rejected.values())} rejected  {reasons}".rstrip()
            )
        return "\n".join(lines)


def estimate_set(spec: SetSpec, peeks: Sequence[Peek], worker: ShardWorker, *, tried: int = UNITS_TRIED) -> SetEstimate:
    """Tries a few units of each split, spread over its rows, in the worker's threads; writes nothing to the store.

    Args:
        spec: the set.
        peeks: its source splits.
        worker: for the media; of a conversion with the options that count.
        tried: units of each split of the store.

    Raises ConfigError if the rows are not of this set.
    """
    plans = plan_set(spec, [peek.source for peek in peeks], worker.conversion.options)
    by_source = {id(peek.source): peek for peek in peeks}
    splits = [_estimate_split(spec, plan, by_source[id(plan.source)], worker, tried) for plan in plans]
    return SetEstimate(spec.name, tuple(splits), sum(peek.download_bytes for peek in peeks))


def _estimate_split(spec: SetSpec, plan: SplitPlan, peek: Peek, worker: ShardWorker, tried: int) -> SplitEstimate:
    options = worker.conversion.options
    most = math.inf if options.max_rows is None else options.max_rows
    rows_per_shard = options.rows_per_shard or spec.rows_per_shard
    scale = min(most, peek.num_rows) / max(1, min(most, len(peek.source.rows)))
    place = place_of(spec, plan.source, worker.videos)
    units = [unit for shard in plan.shards for unit in shard]
    chosen = _spread(units, tried)

    def attempt(unit: Prepared) -> tuple[Made, float]:
        started = time.monotonic()
        return make_records(spec, unit, worker.loader, options.video_frames), time.monotonic() - started

    ready = list(prepare(spec, plan.source.rows, place, chosen, options.excluded))
    made, seconds = zip(*worker.pool.map(attempt, ready), strict=True)
    media = {ref.sha256: ref.num_bytes for one in made for record in one.records for ref in record.media}
    per_unit = len(units) * scale / len(chosen)
    return SplitEstimate(
        split=plan.split,
        rows=round(plan.num_rows * scale),
        examples=round(sum(len(one.records) for one in made) * per_unit),
        shards=len(plan.shards) if scale == 1 else math.ceil(plan.num_rows * scale / rows_per_shard),
        media_bytes=round(sum(media.values()) * per_unit),
        annotation_bytes=round(sum(len(encode_record(record)) for one in made for record in one.records) * per_unit),
        seconds=sum(seconds) * per_unit / options.workers,
        tried=sum(one.num_rows for one in made),
        rejected=dict(Counter(reject.reason for one in made for reject in one.rejects).most_common()),
    )


def _spread(units: Sequence[Unit], number: int) -> list[Unit]:
    """So many units, one drawn from each of as many equal parts: bad rows often come at a regular distance."""
    number = min(number, len(units))
    edges = [i * len(units) // number for i in range(number + 1)]
    rng = np.random.RandomState(0)
    return [units[rng.randint(start, stop)] for start, stop in itertools.pairwise(edges)]


def human_seconds(seconds: float) -> str:
    """A duration that an estimate can be trusted to.

    >>> human_seconds(42), human_seconds(150), human_seconds(8000), human_seconds(400000)
    ('42 s', '2 min', '2.2 h', '4.6 days')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
