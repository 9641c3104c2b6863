"""What a loader has handed out so far, counted, and what sets its pace."""

import logging
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from grain_molmo.packing.rows import Skipped
from grain_molmo.render import ExampleInfo
from grain_molmo.stages import Stage

logger = logging.getLogger(__name__)

LIMITS = ("planning", "encoding", "reading", "decoding", "transfer", "the trainer")
"""What can set the pace: see `limited_by`."""

_TRAINER_WAITS_FOR = 0.01
"""A trainer that waits for less than this share of its time sets the pace itself."""

_RECENT_BATCHES = 64


@dataclass(frozen=True)
class BatchInfo:
    """What is in a batch, beside the arrays.

    Attributes:
        step: number of the global batch, from 0.
        row_numbers: which rows of the global batch this process has.
        rows: the examples of each of them.
        skipped: examples that were left out while the global batch was planned.
        num_examples: of the whole global batch.
        plan_s: seconds in which the global batch was planned.
        encode_s: seconds of threads in which examples of `rows` were encoded after planning.
        render_s: seconds in which `rows` were rendered, many threads at once.
        transfer_s: seconds in which the arrays went to the devices.
    """

    step: int
    row_numbers: Sequence[int]
    rows: Sequence[Sequence[ExampleInfo]]
    skipped: Sequence[Skipped]
    num_examples: int = 0
    plan_s: float = 0.0
    encode_s: float = 0.0
    render_s: float = 0.0
    transfer_s: float = 0.0


class Seconds(NamedTuple):
    """Where the time of batches went.

    `plan_s`, `render_s` and `transfer_s` are by the clock, and pass side by side, as does the trainer's own time.
    `encode_s`, `read_s` and `decode_s` are parts of rendering, summed over its threads.

    Attributes:
        total_s: from one batch handed out to the next.
        wait_s: of it, the trainer waited.
    """

    total_s: float = 0.0
    wait_s: float = 0.0
    plan_s: float = 0.0
    encode_s: float = 0.0
    read_s: float = 0.0
    decode_s: float = 0.0
    render_s: float = 0.0
    transfer_s: float = 0.0

    @classmethod
    def summed(cls, parts: Sequence["Seconds"]) -> "Seconds":
        """Of all the batches together."""
        return cls(*map(sum, zip(*parts, strict=True))) if parts else cls()

    @property
    def wait_share(self) -> float:
        """Share of the time that the trainer waited for data: the stall."""
        return self.wait_s / self.total_s if self.total_s else 0.0


def limited_by(spent: Seconds) -> str:
    """What sets the pace: one of `LIMITS`.

    The trainer, if it waits for less than 1 % of the time. Else the busiest of planning, rendering and transfer, which
    work side by side, each a batch or more ahead of the next; and where that is rendering, the part of it that takes
    its threads longest: encoding, reading or decoding.

    >>> limited_by(Seconds(total_s=10, wait_s=4, plan_s=2, read_s=1, decode_s=30, render_s=9))
    'decoding'
    """
    if spent.wait_share < _TRAINER_WAITS_FOR:
        return "the trainer"
    rendering = max(("decoding", spent.decode_s), ("reading", spent.read_s), ("encoding", spent.encode_s), key=_seconds)
    stages = ((rendering[0], spent.render_s), ("planning", spent.plan_s), ("transfer", spent.transfer_s))
    return max(stages, key=_seconds)[0]


def _seconds(part: tuple[str, float]) -> float:
    return part[1]


def _where(example: ExampleInfo) -> str:
    return f"{example.dataset} example {example.index} (id {example.id})"


@dataclass
class _DatasetCounts:
    examples: int = 0
    tokens: int = 0
    loss_weight: float = 0.0
    crops: int = 0
    frames: int = 0
    read_bytes: int = 0


@dataclass
class LoaderStats:
    """Counts over the batches handed out. One kind of trouble is logged once, then only counted."""

    stage: Stage
    batches: int = 0
    rows: int = 0
    tokens: int = 0
    crops: int = 0
    spent: Seconds = field(default_factory=Seconds)
    datasets: dict[str, _DatasetCounts] = field(default_factory=dict)
    skipped_examples: Counter[str] = field(default_factory=Counter)
    skipped_media: Counter[str] = field(default_factory=Counter)
    frames: Counter[str] = field(default_factory=Counter)
    shortened_videos: int = 0
    _recent: deque[Seconds] = field(default_factory=lambda: deque(maxlen=_RECENT_BATCHES))
    _last_at: float | None = None

    def add(self, info: BatchInfo, asked_at: float, handed_out_at: float) -> None:
        """Counts a batch; the consumer asked for it and got it at these times of `time.perf_counter`, seconds."""
        self.batches += 1
        for row in info.rows:
            self.rows += 1
            for example in row:
                self._add_example(example)
        for skipped in info.skipped:
            self._count(self.skipped_examples, skipped.reason, f"example left out: {skipped.detail}")
        self._add_seconds(info, asked_at, handed_out_at)

    def begin_anew(self) -> None:
        """The loader was set elsewhere: its next batch takes what the first one takes, and says nothing of the pace."""
        self._last_at = None

    def _add_seconds(self, info: BatchInfo, asked_at: float, handed_out_at: float) -> None:
        examples = [example for row in info.rows for example in row]
        spent = Seconds(
            total_s=handed_out_at - (asked_at if self._last_at is None else self._last_at),
            wait_s=handed_out_at - asked_at,
            plan_s=info.plan_s,
            encode_s=info.encode_s,
            read_s=sum(example.read_s for example in examples),
            decode_s=sum(example.decode_s for example in examples),
            render_s=info.render_s,
            transfer_s=info.transfer_s,
        )
        self.spent = Seconds.summed((self.spent, spent))
        if self._last_at is not None:  # nothing was prepared ahead of a first batch
            self._recent.append(spent)
        self._last_at = handed_out_at

    def _add_example(self, example: ExampleInfo) -> None:
        tokens, crops = example.tokens[1] - example.tokens[0], example.crops[1] - example.crops[0]
        self.tokens += tokens
        self.crops += crops
        counts = self.datasets.setdefault(example.dataset, _DatasetCounts())
        counts.examples += 1
        counts.tokens += tokens
        counts.crops += crops
        counts.frames += example.frames
        counts.read_bytes += example.read_bytes
        counts.loss_weight += 0.0 if example.blanked else example.loss_weight
        if example.blanked:
            what = "media" if example.crops[1] > example.crops[0] else "example"
            message = f"{what} left blank: {_where(example)}: {example.detail}"
            self._count(self.skipped_media, example.blanked, message)
        elif example.frames_from:
            self.frames[example.frames_from] += example.frames
        if example.frames < example.frames_wanted:
            if not self.shortened_videos:
                message = "%s: a row of %d tokens has room for %d of the video's %d frames (counted in stats())"
                logger.warning(message, _where(example), self.stage.seq_len, example.frames, example.frames_wanted)
            self.shortened_videos += 1

    def _count(self, counter: Counter[str], reason: str, message: str) -> None:
        if reason not in counter:
            logger.warning("%s (further cases of %r are counted in stats())", message, reason)
        counter[reason] += 1

    def to_dict(self) -> dict[str, Any]:
        """JSON-able summary: `token_fill` and `crop_fill` are shares of the rows' budgets, times are `Seconds`.

        `frames` counts the video frames shown by what they were read from, "prepared" or "original";
        `shortened_videos` the examples that show fewer frames than the stage would, for want of tokens in a row.
        `wait_share`, the share of the time that the trainer waits for data, and `limited_by` speak of the last 64
        batches, the first after a start left out; before the second, `limited_by` is None.
        """
        rows = max(1, self.rows)
        recent = Seconds.summed(self._recent)
        return {
            "batches": self.batches,
            "rows": self.rows,
            "examples": sum(counts.examples for counts in self.datasets.values()),
            "tokens": self.tokens,
            "loss_weight": sum(counts.loss_weight for counts in self.datasets.values()),
            "crops": self.crops,
            "read_bytes": sum(counts.read_bytes for counts in self.datasets.values()),
            "token_fill": self.tokens / (rows * self.stage.seq_len),
            "crop_fill": self.crops / (rows * max(1, self.stage.crops_per_row)),
            "datasets": {name: vars(counts).copy() for name, counts in sorted(self.datasets.items())},
            "skipped_examples": dict(self.skipped_examples),
            "skipped_media": dict(self.skipped_media),
            "frames": dict(self.frames),
            "shortened_videos": self.shortened_videos,
            **self.spent._asdict(),
            "wait_share": recent.wait_share,
            "limited_by": limited_by(recent) if self._recent else None,
        }


def flat_metrics(stats: Mapping[str, Any], prefix: str = "data/") -> dict[str, float]:
    """The numbers of `Loader.stats()` by one flat name each, as writers of metrics want them.

    Nested names are joined by "/"; `limited_by` becomes one value a limit, 1 for the one it is.

    Args:
        stats: what `Loader.stats` gave.
        prefix: of every name.

    >>> flat_metrics({"tokens": 9, "datasets": {"a": {"crops": 2}}})
    {'data/tokens': 9.0, 'data/datasets/a/crops': 2.0}
    """
    flat: dict[str, float] = {}
    for key, value in stats.items():
        if key == "limited_by":
            flat |= {f"{prefix}{key}/{limit}": float(limit == value) for limit in LIMITS}
        elif isinstance(value, Mapping):
            flat |= flat_metrics(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            flat[prefix + key] = float(value)
    return flat
