"""The plan: global batches of rows, one after another, resumable from a few numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import grain

from grain_molmo.errors import ExampleError
from grain_molmo.packing.mixture import Draw, MixedStream
from grain_molmo.packing.planner import RowPacker, Waiting

_MOST_SKIPPED_IN_A_ROW = 1000


class Encoded(Protocol):
    """What the plan must know of an encoded example."""

    @property
    def n_tokens(self) -> int:
        """Tokens it takes of a row."""
        ...

    @property
    def n_crops(self) -> int:
        """Crops it takes of a row."""
        ...


@dataclass(frozen=True)
class Skipped:
    """An example that could not be encoded; the stream goes on with the next."""

    draw: Draw
    reason: str
    detail: str
    id: str = ""


@dataclass(frozen=True)
class PlannedBatch:
    """A global batch without pixels.

    Attributes:
        step: its number, from 0.
        rows: the examples of each row, in the order of the stream.
        skipped: examples that were left out while it was planned.
    """

    step: int
    rows: list[list[Any]]
    skipped: list[Skipped]


class PackedRows(grain.IterDataset):
    """Packs the examples of a stream into rows and the rows into global batches.

    The plan is one fixed thing, whoever reads it: batches depend on the stream, the encoder and the budgets. The
    iterator's state is JSON: the step, the stream's position, and the positions of the examples that wait.

    Args:
        stream: item n is the n-th draw.
        encode: turns a draw into something with lengths, or raises ExampleError to have it skipped.
        batch_size: rows a batch.
        max_tokens, max_crops: budgets of a row.
        waiting: places of the packer's pool.
    """

    def __init__(
        self,
        stream: MixedStream,
        encode: Callable[[Draw], Encoded],
        *,
        batch_size: int,
        max_tokens: int,
        max_crops: int,
        waiting: int,
    ):
        super().__init__()
        self.stream, self.encode, self.batch_size = stream, encode, batch_size
        self._budgets = (max_tokens, max_crops, waiting)

    def new_packer(self) -> RowPacker[Encoded]:
        """An empty packer with the plan's budgets."""
        return RowPacker(*self._budgets)

    def __iter__(self) -> "_PlanIterator":
        return _PlanIterator(self)


class _PlanIterator(grain.DatasetIterator):
    def __init__(self, plan: PackedRows):
        super().__init__()
        self._plan = plan
        self._step, self._position = 0, 0
        self._packer = plan.new_packer()
        self._begin_batch()

    def _begin_batch(self) -> None:
        # Kept here, so that a caller who outlives an exception (a disk away for a moment) goes on without a gap.
        self._rows: list[list[Encoded]] = []
        self._skipped: list[Skipped] = []
        self._state = {"step": self._step, "position": self._position, "waiting": self._packer.places}

    def __next__(self) -> PlannedBatch:
        skipped_in_a_row = 0
        while len(self._rows) < self._plan.batch_size:
            draw = self._plan.stream[self._position]
            try:
                waiting = self._wait(self._position, draw)
                skipped_in_a_row = 0
            except ExampleError as error:
                self._skipped.append(Skipped(draw, error.reason, error.detail, error.example_id))
                self._position += 1
                skipped_in_a_row += 1
                if skipped_in_a_row == _MOST_SKIPPED_IN_A_ROW:
                    message = f"{skipped_in_a_row} examples in a row cannot be used; the last: {error.detail}"
                    raise ExampleError(error.reason, message) from error
                continue
            self._position += 1
            row = self._packer.add(waiting)
            if row is not None:
                self._rows.append([waiting.item for waiting in row])
        batch = PlannedBatch(self._step, self._rows, self._skipped)
        self._step += 1
        self._begin_batch()
        return batch

    def _wait(self, position: int, draw: Draw) -> Waiting[Encoded]:
        example = self._plan.encode(draw)
        return Waiting(position, example.n_tokens, example.n_crops, example)

    def get_state(self) -> dict[str, Any]:
        return self._state

    def set_state(self, state: dict[str, Any]) -> None:
        packer = self._plan.new_packer()
        stream = self._plan.stream
        packer.restore([self._wait(n, stream[n]) if n >= 0 else None for n in state["waiting"]])
        self._step, self._position, self._packer = state["step"], state["position"], packer
        self._begin_batch()
