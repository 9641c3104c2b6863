"""What a loader has handed out so far, counted."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from grain_molmo.packing.rows import Skipped
from grain_molmo.render import ExampleInfo
from grain_molmo.stages import Stage

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchInfo:
    """What is in a batch, beside the arrays.

    Attributes:
        step: number of the global batch, from 0.
        row_numbers: which rows of the global batch this process has.
        rows: the examples of each of them.
        skipped: examples that were left out while the global batch was planned.
        plan_s, render_s: seconds that planning and rendering took.
    """

    step: int
    row_numbers: Sequence[int]
    rows: Sequence[Sequence[ExampleInfo]]
    skipped: Sequence[Skipped]
    plan_s: float = 0.0
    render_s: float = 0.0


def _where(example: ExampleInfo) -> str:
    return f"{example.dataset} example {example.index} (id {example.id})"


@dataclass
class _DatasetCounts:
    examples: int = 0
    tokens: int = 0
    loss_weight: float = 0.0
    crops: int = 0
    frames: int = 0


@dataclass
class LoaderStats:
    """Counts over the batches handed out. One kind of trouble is logged once, then only counted."""

    stage: Stage
    batches: int = 0
    rows: int = 0
    tokens: int = 0
    crops: int = 0
    wait_s: float = 0.0
    plan_s: float = 0.0
    render_s: float = 0.0
    datasets: dict[str, _DatasetCounts] = field(default_factory=dict)
    skipped_examples: Counter[str] = field(default_factory=Counter)
    skipped_media: Counter[str] = field(default_factory=Counter)
    frames: Counter[str] = field(default_factory=Counter)
    shortened_videos: int = 0

    def add(self, info: BatchInfo, wait_s: float) -> None:
        """Counts a batch that was handed out after the consumer had waited for it."""
        self.batches += 1
        self.wait_s += wait_s
        self.plan_s += info.plan_s
        self.render_s += info.render_s
        for row in info.rows:
            self.rows += 1
            for example in row:
                self._add_example(example)
        for skipped in info.skipped:
            self._count(self.skipped_examples, skipped.reason, f"example left out: {skipped.detail}")

    def _add_example(self, example: ExampleInfo) -> None:
        tokens, crops = example.tokens[1] - example.tokens[0], example.crops[1] - example.crops[0]
        self.tokens += tokens
        self.crops += crops
        counts = self.datasets.setdefault(example.dataset, _DatasetCounts())
        counts.examples += 1
        counts.tokens += tokens
        counts.crops += crops
        counts.frames += example.frames
        counts.loss_weight += 0.0 if example.blanked else example.loss_weight
        if example.blanked:
            message = f"media left blank: {_where(example)}: {example.detail}"
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
        """JSON-able summary: `token_fill` and `crop_fill` are shares of the rows' budgets, times are seconds.

        `frames` counts the video frames shown by what they were read from, "prepared" or "original";
        `shortened_videos` the examples that show fewer frames than the stage would, for want of tokens in a row.
        """
        rows = max(1, self.rows)
        return {
            "batches": self.batches,
            "rows": self.rows,
            "examples": sum(counts.examples for counts in self.datasets.values()),
            "tokens": self.tokens,
            "crops": self.crops,
            "token_fill": self.tokens / (rows * self.stage.seq_len),
            "crop_fill": self.crops / (rows * self.stage.crops_per_row),
            "datasets": {name: vars(counts).copy() for name, counts in sorted(self.datasets.items())},
            "skipped_examples": dict(self.skipped_examples),
            "skipped_media": dict(self.skipped_media),
            "frames": dict(self.frames),
            "shortened_videos": self.shortened_videos,
            "wait_s": self.wait_s,
            "plan_s": self.plan_s,
            "render_s": self.render_s,
        }
