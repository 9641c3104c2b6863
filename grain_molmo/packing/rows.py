"""The plan: global batches of rows, one after another, resumable from a few numbers."""

import math
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import grain
import numpy as np

from grain_molmo.errors import ConfigError, ExampleError, FaultBudgetError
from grain_molmo.packing.active import ActiveDraws, Removal, union
from grain_molmo.packing.balance import balanced_order
from grain_molmo.packing.mixture import Draw, Mark, MixedStream
from grain_molmo.packing.planner import RowPacker, Waiting
from grain_molmo.packing.shuffle import ShuffledEpochs

MOST_SKIPPED_IN_A_ROW = 1000
EXCLUDED = "excluded"
"""Reason of examples that are left out because the user asked for it."""


@dataclass(frozen=True)
class PlannedExample:
    """What an example takes of a row.

    Attributes:
        draw: which example of which dataset and epoch.
        n_tokens, n_crops, n_pooled: of a row's tokens, crops and rows of `token_pooling`.
        cost: work to render it, in crops of a picture.
        encoded: the example, if it had to be encoded to know this.
    """

    draw: Draw
    n_tokens: int
    n_crops: int
    n_pooled: int
    cost: int
    encoded: Any = None


@dataclass(frozen=True)
class PlanPhase:
    """What is drawn from a step on.

    Attributes:
        step: the first batch that is planned this way.
        weights: by dataset name.
        excluded: indices of examples that are left out, by dataset name.
    """

    step: int
    weights: Mapping[str, float]
    excluded: Mapping[str, Collection[int]] = field(default_factory=dict)

    def excludes(self, draw: Draw) -> bool:
        """Whether it leaves the example out."""
        return draw.index in self.excluded.get(draw.dataset, ())


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
        rows: the examples of each row, in the order of the stream; the rows in the order of `balanced_order`.
        skipped: examples that were left out while it was planned.
        num_examples: in all rows.
    """

    step: int
    rows: list[list[PlannedExample]]
    skipped: list[Skipped]
    num_examples: int


class PackedRows(grain.IterDataset):
    """Packs the examples of a stream into rows and the rows into global batches.

    The plan is one fixed thing, whoever reads it: batches depend on the phases, the sizes, the seed, the lengths and
    the budgets. The iterator's state is JSON: the step, how far the stream is, and which examples wait; it takes no
    longer to restore at step 1,000,000 than at step 10. Examples that are removed while it goes on are in the state,
    too: see `remove_from`.

    Args:
        phases: the first begins at step 0. A dataset that comes again goes on where it was.
        sizes: number of examples by dataset name.
        seed: the run's.
        plan_example: the lengths of a draw, or raises ExampleError to have it skipped.
        batch_size: rows a batch.
        max_tokens, max_crops: budgets of a row.
        waiting: places of the packer's pool.
        max_skipped_in_a_row: more examples than this, one after the other, that cannot be used are an error; None:
            never. Excluded ones are not counted.

    Raises:
        ConfigError: phases that do not follow each other, or of which one leaves out all that it draws.
    """

    def __init__(
        self,
        phases: Sequence[PlanPhase],
        sizes: Mapping[str, int],
        seed: int,
        plan_example: Callable[[Draw], PlannedExample],
        *,
        batch_size: int,
        max_tokens: int,
        max_crops: int,
        waiting: int,
        max_skipped_in_a_row: int | None = MOST_SKIPPED_IN_A_ROW,
    ):
        super().__init__()
        steps = [phase.step for phase in phases]
        if not steps or steps[0] != 0 or steps != sorted(set(steps)):
            raise ConfigError(f"phases begin at steps {steps}; the first begins at 0, each later than the one before")
        self.phases = tuple(phases)
        self.sizes, self._seed = sizes, seed
        self.plan_example, self.batch_size = plan_example, batch_size
        self.max_skipped_in_a_row = max_skipped_in_a_row
        self._budgets = (max_tokens, max_crops, waiting)
        self.streams = [self.stream(phase) for phase in phases]  # also checks them all
        for phase, stream in zip(phases, self.streams, strict=True):
            if all(len(phase.excluded.get(name, ())) >= sizes[name] for name in stream.weights):
                names = ", ".join(stream.weights)
                raise ConfigError(f"all examples of the phase from step {phase.step} are excluded: {names}")
        self._epochs = {
            name: ShuffledEpochs(name, sizes[name], seed) for stream in self.streams for name in stream.weights
        }

    @property
    def weights(self) -> Mapping[str, float]:
        """Of the first phase, by dataset name."""
        return self.streams[0].weights

    @property
    def order(self) -> tuple[str, ...]:
        """Nothing: the order of the datasets in a mixture does not matter."""
        return ()

    def new_packer(self) -> RowPacker["_Drawn"]:
        """An empty packer with the plan's budgets."""
        return RowPacker(*self._budgets)

    def phase_at(self, step: int) -> PlanPhase:
        """What holds for a batch."""
        return [phase for phase in self.phases if phase.step <= step][-1]

    def stream(self, phase: PlanPhase, **place: Any) -> MixedStream:
        """The draws of a phase; `place` says where it begins, see `MixedStream`."""
        return MixedStream(phase.weights, self.sizes, self._seed, **place)

    def draw(self, dataset: str, number: int) -> Draw:
        """A dataset's draw of that number."""
        return Draw(dataset, *self._epochs[dataset][number])

    def active_draws(self, dataset: str, removed_N: np.ndarray, slot: int, draw: int) -> ActiveDraws:
        """What the dataset draws from there on without some of its examples."""
        return ActiveDraws(self._epochs[dataset], removed_N, slot, draw)

    def removed(self, state: Mapping[str, Any], dataset: str) -> np.ndarray:
        """[N] bool, the examples of a dataset that are removed in a state, or will be at a step declared there."""
        return self.all_removed(dataset, (Removal.unpack(packed, self.sizes) for packed in state.get("removals", ())))

    def all_removed(self, dataset: str, removals: Iterable[Removal]) -> np.ndarray:
        """[N] bool, the examples of a dataset that any of these remove."""
        masks = (removal.examples[dataset] for removal in removals if dataset in removal.examples)
        return union(masks, self.sizes[dataset])

    def remove_from(self, state: dict[str, Any], removal: Removal) -> dict[str, Any]:
        """The state of a run in which these examples are removed from a step on, not before the state's own.

        Visits of a dataset go to its next examples that are active, so the mixture's weights stay.

        Raises ConfigError if a dataset would have none left.
        """
        removals = sorted([*state.get("removals", ()), removal.packed], key=operator.itemgetter(0))
        state = {**state, "removals": removals}
        self.check_removals(state)
        return state

    def check_removals(self, state: Mapping[str, Any]) -> None:
        """Raises ConfigError if a phase draws a dataset of which it has no example left, by what a state removes."""
        removals = [Removal.unpack(packed, self.sizes) for packed in state.get("removals", ())]
        ends = [phase.step for phase in self.phases[1:]] + [math.inf]
        for phase, end in zip(self.phases, ends, strict=True):
            due = [removal for removal in removals if removal.step < end]
            for name in sorted({name for removal in due for name in removal.examples if name in phase.weights}):
                left_N = ~self.all_removed(name, due)
                left_N[list(phase.excluded.get(name, ()))] = False
                if not left_N.any():
                    step = max(phase.step, *(removal.step for removal in due if name in removal.examples))
                    raise ConfigError(
                        f"no example of {name} would be left from step {step} on; remove fewer, or end its part of the "
                        "mixture with a Phase"
                    )

    def __iter__(self) -> "_PlanIterator":
        return _PlanIterator(self)


class _Drawn(NamedTuple):
    """An example that waits, and which of its dataset's draws it is."""

    number: int
    example: PlannedExample


class _PlanIterator(grain.DatasetIterator):
    """Batch after batch of a plan."""

    def __init__(self, plan: PackedRows):
        super().__init__()
        self._plan = plan
        self._step, self._position = 0, 0
        self._phase, self._stream = plan.phases[0], plan.streams[0]
        self._packer = plan.new_packer()
        self._removals: list[Removal] = []  # all that were declared, in order of their steps
        self._active: dict[str, ActiveDraws] = {}  # of datasets of which examples are removed
        self._begin_batch()

    def _begin_batch(self) -> None:
        # Kept here, so that a caller who outlives an exception (a disk away for a moment) goes on without a gap.
        self._rows: list[list[PlannedExample]] = []
        self._skipped: list[Skipped] = []
        self._state = self._make_state()

    def __next__(self) -> PlannedBatch:
        self._enter_phase()
        self._apply_removals()
        skipped_in_a_row = 0
        while len(self._rows) < self._plan.batch_size:
            dataset, slot = self._stream.numbered(self._position)
            number = self._number(dataset, slot)
            draw = self._plan.draw(dataset, number)
            if self._phase.excludes(draw):
                self._skip(Skipped(draw, EXCLUDED, f"{draw.dataset} example {draw.index} is left out as asked"))
                continue
            try:
                example = self._plan.plan_example(draw)
            except ExampleError as error:
                self._skip(Skipped(draw, error.reason, error.detail, error.example_id))
                skipped_in_a_row += 1
                self._check_skipped(skipped_in_a_row, error)
                continue
            skipped_in_a_row = 0
            waiting = Waiting(self._position, example.n_tokens, example.n_crops, _Drawn(number, example))
            self._position += 1
            row = self._packer.add(waiting)
            if row is not None:
                self._rows.append([waiting.item.example for waiting in row])
        order = balanced_order([sum(example.cost for example in row) for row in self._rows])
        num_examples = sum(map(len, self._rows))
        batch = PlannedBatch(self._step, [self._rows[row] for row in order], self._skipped, num_examples)
        self._step += 1
        self._begin_batch()
        return batch

    def _enter_phase(self) -> None:
        phase = self._plan.phase_at(self._step)
        if phase is not self._phase:
            drawn = self._stream.drawn_before(self._position)
            self._phase = phase
            self._stream = self._plan.stream(phase, start=self._position, drawn=drawn)

    def _number(self, dataset: str, slot: int) -> int:
        """Which of a dataset's draws its visit of that number gets."""
        return self._active[dataset].number(slot) if dataset in self._active else slot

    def _apply_removals(self) -> None:
        due = {name for removal in self._removals if removal.step == self._step for name in removal.examples}
        # Once a batch: one that an exception cut short goes on with what it drew.
        if not due or self._position != self._state["position"]:
            return
        slots = self._stream.drawn_before(self._position)
        for name in due:
            slot = slots.get(name, 0)
            self._active[name] = self._active_from(name, self._step, slot, self._number(name, slot))
        self._packer.discard(lambda drawn: self._is_removed(drawn.example.draw))

    def _active_from(self, name: str, step: int, slot: int, draw: int) -> ActiveDraws:
        """What a dataset draws once all that was declared up to a step is removed."""
        removed_N = self._plan.all_removed(name, (each for each in self._removals if each.step <= step))
        return self._plan.active_draws(name, removed_N, slot, draw)

    def _is_removed(self, draw: Draw) -> bool:
        return draw.dataset in self._active and bool(self._active[draw.dataset].removed_N[draw.index])

    def _skip(self, skipped: Skipped) -> None:
        self._position += 1
        self._skipped.append(skipped)

    def _check_skipped(self, in_a_row: int, error: ExampleError) -> None:
        most = self._plan.max_skipped_in_a_row
        if most is not None and in_a_row > most:
            last = f"the last ({error.reason}): {error.detail}"
            raise FaultBudgetError(f"{in_a_row} examples in a row cannot be used; {last}") from error

    def get_state(self) -> dict[str, Any]:
        return self._state

    def _make_state(self) -> dict[str, Any]:
        stream, mark = self._stream, self._stream.mark(self._position)
        names = _names(stream.drawn, mark.drawn)
        waiting = [
            [
                *(place, self._position - waiting.position, names.index(example.draw.dataset), number),
                *(example.n_tokens, example.n_crops, example.n_pooled, example.cost),
            ]
            for place, waiting in enumerate(self._packer.waiting)
            if waiting is not None
            for number, example in [waiting.item]
        ]
        return {
            "step": self._step,
            "position": self._position,
            "stream": {"start": stream.start, "before": stream.drawn, "block": mark.block, "drawn": mark.drawn},
            # Place, draws ago, number of the dataset by name, number of its draw; then the lengths, so that to restore
            # takes no encoding, and no example can be missed whose annotation was damaged meanwhile.
            "waiting": waiting,
            **(self._state_of_removals() if self._removals else {}),
        }

    def _state_of_removals(self) -> dict[str, Any]:
        return {
            # All that were declared, so that any batch of the run can be planned again; and where each dataset went
            # over to what the last of them in effect has left of it.
            "removals": [removal.packed for removal in self._removals],
            "active_from": {name: [active.slot, active.draw] for name, active in sorted(self._active.items())},
        }

    def set_state(self, state: dict[str, Any]) -> None:
        plan, stream, step, position = self._plan, state["stream"], state["step"], state["position"]
        # A phase that begins with the next batch has not begun yet.
        phase = plan.phase_at(max(0, step - 1))
        mark = Mark(stream["block"], stream["drawn"])
        names = _names(stream["before"], mark.drawn)
        packer = plan.new_packer()
        waiting: list[Waiting[_Drawn] | None] = [None] * len(packer.waiting)
        for place, ago, name, number, n_tokens, n_crops, n_pooled, cost in state["waiting"]:
            example = PlannedExample(plan.draw(names[name], number), n_tokens, n_crops, n_pooled, cost)
            waiting[place] = Waiting(position - ago, n_tokens, n_crops, _Drawn(number, example))
        packer.restore(waiting)
        self._removals = [Removal.unpack(packed, plan.sizes) for packed in state.get("removals", ())]
        since = state.get("active_from", {})
        self._active = {name: self._active_from(name, step - 1, *place) for name, place in since.items()}
        self._stream = plan.stream(phase, start=stream["start"], drawn=stream["before"], mark=mark)
        self._phase, self._step, self._position, self._packer = phase, step, position, packer
        self._begin_batch()


def _names(before: Mapping[str, int], drawn: Mapping[str, int]) -> list[str]:
    """The datasets that a state numbers, in its order."""
    return sorted({*before, *drawn})
