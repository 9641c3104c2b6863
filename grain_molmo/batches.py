"""The loader itself: batches one after another, a place among them that can be kept, and what it says of its work."""

import atexit
import gc
import logging
import math
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import grain
import jax
import numpy as np

from grain_molmo.attention import LookAhead
from grain_molmo.curriculum_filter import CurriculumFilter, FilterReport, Scores
from grain_molmo.encode import Encoder
from grain_molmo.errors import ConfigError
from grain_molmo.eval_plan import EachOnce
from grain_molmo.faults import FaultPolicy, FaultWatch
from grain_molmo.fingerprint import Reader, differences, fingerprint
from grain_molmo.known_states import KnownStates
from grain_molmo.layout import RowLayout
from grain_molmo.loader_state import pack_state, unpack_state
from grain_molmo.mesh import ProcessPart
from grain_molmo.packing.active import filtered_in
from grain_molmo.packing.rows import PackedRows, PlannedBatch
from grain_molmo.pipeline import Renderer, Rows, TokenRows, Transfer, pipeline
from grain_molmo.render import Batch
from grain_molmo.stats import BatchInfo, LoaderStats, flat_metrics
from grain_molmo.store import canonical_name
from grain_molmo.vision.resize import use_one_opencv_thread

if TYPE_CHECKING:
    from grain_molmo.view.shown import Shown

logger = logging.getLogger(__name__)

_MANY_STEPS = 1000


@dataclass(frozen=True)
class Work:
    """What a loader does, made by `make_loader` and `make_eval_loader`.

    Attributes:
        plan: of global batches.
        reader: makes examples of the plan's draws.
        rows: makes arrays of the plan's rows.
        layout: of a row of tokens; None for features.
        part: what this process has of each batch.
        process: its number, and how many there are.
        mesh: where batches go as global arrays; None for numpy.
        curriculum: what `filter` takes out.
        missing_datasets: names of a recipe's datasets that could not be opened.
    """

    plan: PackedRows | EachOnce
    reader: Reader
    rows: Rows
    layout: RowLayout | None
    part: ProcessPart
    process: tuple[int, int]
    mesh: jax.sharding.Mesh | None = None
    curriculum: CurriculumFilter | None = None
    missing_datasets: Sequence[str] = ()


class Loader(grain.DatasetIterator[Batch]):
    """An iterator of batches that remembers where it is: endless, or of each example once.

    The batch of a step is one fixed thing, a function of the stage, the data, the tokenizer, the seed and the step;
    the number of hosts and threads and what was prefetched change nothing. It is a Grain iterator, too: Grain's own
    checkpoint handlers take it.

    Args:
        work: what it does; `make_loader` and `make_eval_loader` put it together.
        policy, metrics: as of `make_loader`.

    Attributes:
        stage: lengths, budgets and formats.
        weights: the mixture's shares by dataset, of the first phase.
        missing_datasets: names of a recipe's datasets that could not be opened.
        num_threads: pictures decoded at a time.
        batch_info: what is in the batch handed out last, or None.

    Raises:
        ConfigError: `num_threads` below 1.
    """

    def __init__(
        self,
        work: Work,
        *,
        num_threads: int,
        policy: FaultPolicy,
        metrics: Callable[[int, dict[str, float]], None] | None,
    ):
        super().__init__()
        plan, mesh, part = work.plan, work.mesh, work.part
        self.stage, self.weights = work.reader.stage, plan.weights
        self.missing_datasets = list(work.missing_datasets)
        self.batch_info: BatchInfo | None = None
        if num_threads < 1:
            raise ConfigError(f"num_threads is {num_threads}, it must be at least 1")
        self.num_threads = num_threads
        self._plan, self._reader, self._curriculum = plan, work.reader, work.curriculum
        self._place = iter(plan).get_state()  # after the batch handed out last
        self._astray = False  # whether what comes out of the pipeline may be other than what follows that place
        self._known_states = KnownStates(self._place)
        self._counts, self._metrics = LoaderStats(self.stage), metrics
        self._faults = FaultWatch(policy, work.reader.datasets, *work.process)
        use_one_opencv_thread()  # pictures are decoded side by side; each takes one core
        pool = ThreadPoolExecutor(num_threads, thread_name_prefix="grain_molmo-render")
        self._render = Renderer(work.rows, pool, part, marks_valid=isinstance(plan, EachOnce))
        self._transfer = None if mesh is None else Transfer(mesh, part, self.stage.batch_size, work.layout)
        self._batches = iter(pipeline(plan, self._render, self._transfer))
        self._stop = weakref.finalize(self, _stop, self._batches, pool)  # also of a loader that is just forgotten
        _open_loaders.add(self)

    def __iter__(self) -> "Loader":
        return self

    def __next__(self) -> Batch:
        self._check_open()
        asked_at = time.perf_counter()
        if self._astray:
            self._go_to(self._place)
            self._counts.begin_anew()
        self._astray = True  # until the batch is handed out: what fails on the way was taken out of the plan already
        batch, info = next(self._batches)
        handed_out_at = time.perf_counter()
        self._faults.check(info)
        self._counts.add(info, asked_at, handed_out_at)
        self.batch_info = info
        if self._metrics is not None:
            self._metrics(info.step, flat_metrics(self.stats()))
        self._place, self._astray = self._batches.get_state(), False
        self._known_states.add(self._place)
        return batch

    def __repr__(self) -> str:
        name, rows, step = self.stage.name, self.stage.batch_size, self._place["step"]
        return f"{type(self).__name__}(stage {name!r}, batches of {rows:,} rows, next step {step:,})"

    def get_state(self) -> dict[str, Any]:
        """JSON-able state after the batch handed out last, whatever is prefetched; the same on every process."""
        return pack_state(self._fingerprint(self._place), self._place)

    def _fingerprint(self, place: Mapping[str, Any]) -> dict[str, str]:
        return fingerprint(self._reader, self._plan.phases, place["step"], self._plan.order, filtered_in(place))

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on where the state was taken, on any number of hosts; nothing is decoded for it.

        Args:
            state: what `get_state` gave, also by way of JSON.

        Raises:
            ConfigError: it was taken from another stage, data, tokenizer or seed, is not as it was taken, or leaves
                nothing of what a phase draws; the loader stays where it was then. What changes in later phases may
                differ.
        """
        self._check_open()
        theirs, plan = unpack_state(state)
        if different := differences(self._fingerprint(plan), theirs):
            problem = f"the state belongs to another loader: {different}"
            change = f"phases that begin at step {plan['step']} or later may differ"
            raise ConfigError(f"{problem}; make the loader as it was made when the state was taken ({change})")
        if isinstance(self._plan, PackedRows):
            self._plan.check_removals(plan)
        self._go_to(plan)
        self._known_states.keep(self._place)
        self._counts.begin_anew()

    def _go_to(self, place: dict[str, Any]) -> None:
        self._astray = True
        self._batches.set_state(place)
        self._place, self._astray = self._batches.get_state(), False

    def filter(self, eval_scores: Scores, step: int | None = None) -> dict[str, FilterReport]:
        """Takes examples that are mastered out of what is drawn: a curriculum.

        Of each dataset with a `Curriculum`, the active examples with a score above its threshold are removed, the
        highest first, as many as its share of the active ones allows. From the declared step on they come no more,
        nor do those of them that were drawn and wait for a row; the dataset's visits go to its next active examples,
        so the mixture's weights stay. What was removed is part of the state, and never comes back. On many hosts
        every process calls this with the same scores at the same step.

        Args:
            eval_scores: by example id (`ExampleInfo.id`), looked up in every dataset with a curriculum; or by dataset
                name such scores. Ids that no example has, and scores that are NaN or no numbers, change nothing and
                are counted.
            step: the first batch without them; default the next one.

        Returns:
            By dataset what was removed, and what is left.

        Raises:
            ConfigError: there is no curriculum, a dataset would have no example left, or the step has passed; the
                loader is as before then.
        """
        if self._curriculum is None:
            raise ConfigError("there is nothing to filter by; give make_loader a curriculum")
        next_step = self._place["step"]
        step = next_step if step is None else step
        if not isinstance(step, Integral) or step < next_step:
            problem = "that batch has passed" if isinstance(step, Integral) else "it must be a whole number"
            raise ConfigError(f"filter: step={step!r}: {problem}; the next batch is {next_step}")
        place, reports = self._curriculum.declare(self._place, eval_scores, int(step))
        if place is not self._place:  # else what was prefetched still holds
            self._go_to(place)
            self._counts.begin_anew()
        return reports

    def active_indices(self, dataset: str) -> np.ndarray:
        """[A] int64, the dataset's examples that `filter` has not removed so far, nor declared to be, ascending.

        Args:
            dataset: a name of the mixture.

        Raises:
            ConfigError: the loader does not filter that dataset.
        """
        name = canonical_name(dataset)
        if isinstance(self._plan, EachOnce) or name not in self._plan.sizes:
            raise ConfigError(f"{dataset!r} is no dataset that this loader filters; it has {', '.join(self.weights)}")
        return np.flatnonzero(~self._plan.removed(self._place, name))

    def batch_at(self, step: int, rows: Sequence[int] | None = None) -> Batch:
        """The batch of any step, past or to come, as it is or was handed out; `batch_info` describes it.

        The loader itself stays where it is, and the batch is not counted in `stats`. The rows up to that step are
        planned again from the nearest step before it that this loader knows: those that it handed out, planned or was
        set to, else the first. So set a state of about that time before, or have an index of lengths.

        Args:
            step: number of the global batch, from 0.
            rows: only these of the global batch, as numpy arrays in this order; default the rows of this process,
                as `next` returns them.

        Raises:
            ConfigError: there is no such step or row.
        """
        wanted = None if rows is None else tuple(rows)
        self._check_open()
        self._check_place(step, wanted or ())
        planned = self._plan_again(step)
        if wanted is None:
            element = self._render((planned, 0.0))
            batch, self.batch_info = element if self._transfer is None else self._transfer(element)
        else:
            every_shard = tuple(range(self._render.rows.n_context))
            batch, self.batch_info = self._render.render(planned, 0.0, ProcessPart(wanted, every_shard))
        return batch

    def show_row(self, row: int = 0, step: int | None = None, *, attention: LookAhead = None) -> "Shown":
        """A packed row to look at: its examples, budgets, pictures and text as the model gets them.

        The loader stays where it is, and so does `batch_info`.

        Args:
            row: of the global batch.
            step: number of the global batch; default the one handed out last, or the first.
            attention: how the tokens of pictures look ahead in the map of attention: see `attention_mask`.

        Returns:
            A view for notebooks and terminals, whose `save(path)` writes a page.

        Raises:
            ConfigError: there is no such step or row, or the stage is of kind "features".
        """
        from grain_molmo.view.describe_row import describe_packed_row  # views know loaders, not the other way round
        from grain_molmo.view.row_view import take_row
        from grain_molmo.view.shown import Shown

        if not isinstance(self._reader, Encoder):
            raise ConfigError(f"rows of stage {self.stage.name!r} are features, not tokens; look at the batch itself")
        assert isinstance(self._render.rows, TokenRows)
        self._check_open()
        if step is None:
            step = 0 if self.batch_info is None else self.batch_info.step
        self._check_place(step, [row])
        # In one piece, whatever the context shards that a row is cut into for the devices.
        whole = replace(self._render.rows, layout=RowLayout.of(self.stage))
        batch, info = replace(self._render, rows=whole).render(self._plan_again(step), 0.0, ProcessPart((row,), (0,)))
        where = {"step": int(step), "number": int(row), "attention": attention}
        return Shown(describe_packed_row(take_row(batch, 0), info.rows[0], self.stage, self._reader.tokenizer, **where))

    def _check_place(self, step: Any, rows: Sequence[Any]) -> None:
        """Raises ConfigError unless there are such a step and such rows of the global batch."""
        num_steps = len(self._plan) if isinstance(self._plan, EachOnce) else math.inf
        limits = [(step, num_steps), *((row, self.stage.batch_size) for row in rows)]
        if not all(isinstance(number, Integral) and 0 <= int(number) < limit for number, limit in limits):
            raise ConfigError(
                f"step {step!r}, rows {list(rows)}: there is no such step or row; steps are whole numbers from 0 "
                f"{'' if num_steps == math.inf else f'to {num_steps - 1}'}, rows from 0 to {self.stage.batch_size - 1}"
            )

    def _plan_again(self, step: int) -> PlannedBatch:
        plan = iter(self._plan)
        known = self._known_states.before(step, self._place.get("removals", ()))
        plan.set_state(known)
        if step - known["step"] > _MANY_STEPS:
            logger.info("batch_at(%d): plans %d batches to get there", step, step - known["step"])
        for planned in plan:
            self._known_states.add(plan.get_state())
            if planned.step == step:
                return planned
        raise AssertionError("a plan has no end")

    def stats(self) -> dict[str, Any]:
        """Counts over the batches handed out, where the time went, what sets the pace: see `LoaderStats.to_dict`.

        `removed_examples` counts by dataset what `filter` took out, in the whole run.
        """
        return {
            **self._counts.to_dict(),
            "removed_examples": self._removed(),
            "missing_datasets": self.missing_datasets,
        }

    def _removed(self) -> dict[str, int]:
        """How many examples `filter` has removed, by dataset."""
        if isinstance(self._plan, EachOnce) or "removals" not in self._place:
            return {}
        numbers = {name: int(self._plan.removed(self._place, name).sum()) for name in self._plan.sizes}
        return {name: number for name, number in numbers.items() if number}

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if not self._stop.alive:
            raise ConfigError("the loader is closed: make another, and set_state(...) it to where this one was")

    def close(self) -> None:
        """Stops the threads; no batch can be had afterwards. Forgotten, or alive at exit, a loader closes itself."""
        if stop := vars(self).get("_stop"):  # not there in a loader that could not be made
            stop()


class EvalLoader(Loader):
    """A loader of every example once; `len` is the number of its batches.

    Gone through to the end, it begins anew with the next loop over it.
    """

    def __iter__(self) -> "EvalLoader":
        if self._place["step"] >= len(self):
            self._go_to(iter(self._plan).get_state())
            self._counts.begin_anew()
        return self

    def __len__(self) -> int:
        assert isinstance(self._plan, EachOnce)
        return len(self._plan)


def _stop(batches: grain.DatasetIterator, pool: ThreadPoolExecutor) -> None:
    pool.shutdown(wait=False, cancel_futures=True)  # first, so that a batch under way is given up
    batches.close()
    pool.shutdown(wait=True)


_open_loaders: "weakref.WeakSet[Loader]" = weakref.WeakSet()


@atexit.register
def _close_loaders() -> None:
    """At exit, while threads can still end: a decoder that is at work when the interpreter goes aborts the process."""
    for loader in list(_open_loaders):
        loader.close()
        del loader._batches
    gc.collect()  # Grain's iterators are reference cycles, and their `__del__` fails once modules are torn down
