"""From converted datasets to packed training batches.

The flow, each step a thing that can be used on its own:

    datasets ─▶ MixedStream ─▶ ExamplePlanner ─▶ PackedRows ─▶ Renderer ─────▶ Transfer
    examples    which comes     lengths, known    rows, global   tokens and      jax.Arrays
    at random   n-th            or by encoding    batches        pixels of own   on a mesh
                                                                 rows
"""

import atexit
import gc
import logging
import math
import operator
import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral
from typing import Any

import grain
import jax

from grain_molmo.encode import Encoder, Lengths
from grain_molmo.errors import ConfigError
from grain_molmo.faults import FaultPolicy, FaultWatch
from grain_molmo.fingerprint import fingerprint
from grain_molmo.known_states import KnownStates
from grain_molmo.layout import RowLayout
from grain_molmo.lengths import LengthIndex
from grain_molmo.loader_state import pack_state, unpack_state
from grain_molmo.mesh import ProcessPart, context_size
from grain_molmo.packing.mixture import Draw, log_mixture
from grain_molmo.packing.rows import PackedRows, PlannedBatch
from grain_molmo.pipeline import Renderer, Transfer, pipeline
from grain_molmo.planned import ExamplePlanner
from grain_molmo.recipes import find_stage
from grain_molmo.render import Batch
from grain_molmo.stage_data import open_datasets, plan_phases
from grain_molmo.stages import Paths, Stage, customized
from grain_molmo.stats import BatchInfo, LoaderStats, flat_metrics
from grain_molmo.text.tokenizer import Tokenizer, load_tokenizer
from grain_molmo.vision.resize import use_one_opencv_thread

logger = logging.getLogger(__name__)

DEFAULT_TOKENIZER = "Qwen/Qwen3-4B"
_MANY_STEPS = 1000


def make_loader(
    stage: str | Stage = "pretraining",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    tokenizer: str | os.PathLike[str] | Tokenizer = DEFAULT_TOKENIZER,
    batch_size: int | None = None,
    seq_len: int | None = None,
    max_frames: int | None = None,
    seed: int = 0,
    recipe: str | None = None,
    mesh: jax.sharding.Mesh | None = None,
    process_index: int | None = None,
    process_count: int | None = None,
    num_threads: int | None = None,
    length_index: bool = True,
    policy: FaultPolicy | None = None,
    exclude: Paths = (),
    metrics: Callable[[int, dict[str, float]], None] | None = None,
) -> "Loader":
    """A loader of packed, mixed, deterministic batches.

    Args:
        stage: "pretraining", "sft", "long_context", or a `Stage`.
        data_dir: where the datasets were converted to; default $GRAIN_MOLMO_DATA.
        tokenizer: path of a tokenizer.json, hub name, "bytes" (built in), or a `Tokenizer`.
        batch_size: rows of the global batch; default the stage's.
        seq_len: tokens a row; default the stage's.
        max_frames: frames that a video is shown in at most; default the stage's. A row gets room for at least as many
            crops.
        seed: decides order, mixture and all random choices.
        recipe: "molmo2" for the published mixture, lengths and batch size of that stage. Sets of it that are unknown
            or not converted are named in a warning and in `missing_datasets`; the others share their part.
        mesh: makes batches global `jax.Array`s, rows sharded over its axes "data" and "fsdp" (without either, over its
            first), each row over "context", see `RowLayout`; of each batch this process renders what its devices need.
        process_index, process_count: without a mesh, which contiguous slice of each global batch is rendered here;
            default JAX's.
        num_threads: pictures or videos decoded at a time; default the machine's cores, at most 16.
        length_index: plan by the lengths that `grain-molmo index` found, where there are some for just this stage,
            data, tokenizer and seed, instead of encoding every example of the global batch. The batches are the same.
        policy: what to do about examples that cannot be used; default: leave them out or blank, and count them.
        exclude: quarantine files of such a policy: the examples that they list are left out of the plan from the start;
            from a later step on, see `Phase`.
        metrics: called after each batch with its step and the numbers of `stats()` by flat names: `flat_metrics`. What
            it raises comes out of `next`; the one after it gives the same batch, counted once more.

    Returns:
        An endless iterator of batches; see `render_rows` for shapes and dtypes.

    Raises:
        ConfigError: unknown names, weights, sizes or tokenizer.
        StoreError: a dataset was not converted into the folder, or a shard is missing.

    The loader raises what its policy says: see `FaultWatch.check`.
    """
    chosen = customized(find_stage(stage, recipe), batch_size=batch_size, seq_len=seq_len, max_frames=max_frames)
    try:
        seed = operator.index(seed)  # a numpy integer must draw as the int does, and goes into the state
    except TypeError as error:
        raise ConfigError(f"seed is {seed!r}, it must be a whole number") from error
    policy = policy or FaultPolicy()
    if policy.quarantine is not None and policy.quarantine in (
        [exclude] if isinstance(exclude, str | os.PathLike) else exclude
    ):
        raise ConfigError(
            f"{policy.quarantine} is excluded and added to, the plan would change with it: give two files"
        )
    datasets, missing = open_datasets(chosen, data_dir)
    sizes = {name: len(dataset) for name, dataset in datasets.items()}
    phases = plan_phases(chosen, datasets, exclude)
    for phase in phases:
        log_mixture(phase.weights, sizes, phase.step)
    encoder = Encoder(datasets, chosen, load_tokenizer(tokenizer), seed)
    planner = ExamplePlanner(encoder, _known_lengths(data_dir, encoder) if length_index else None)
    plan = PackedRows(
        phases,
        sizes,
        seed,
        planner,
        batch_size=chosen.batch_size,
        max_tokens=chosen.seq_len,
        max_crops=chosen.crops_per_row,
        waiting=chosen.waiting,
        max_skipped_in_a_row=policy.max_in_a_row,
    )
    index = jax.process_index() if process_index is None else process_index
    process = (index, jax.process_count() if process_count is None else process_count)
    return Loader(
        plan,
        planner,
        missing_datasets=missing,
        mesh=mesh,
        part=_own_part(chosen.batch_size, mesh, *process),
        process=process,
        num_threads=num_threads or min(16, os.cpu_count() or 1),
        policy=policy,
        metrics=metrics,
    )


def _known_lengths(data_dir: str | os.PathLike[str] | None, encoder: Encoder) -> Callable[[Draw], Lengths | None]:
    index = LengthIndex.open(data_dir, encoder)
    for name, known in index.coverage().items():
        if known.epochs:
            epochs = ", ".join(map(str, known.epochs))
            logger.info("lengths of %s are known for epochs %s; those of others are encoded to plan", name, epochs)
    return index.get


def _own_part(batch_size: int, mesh: jax.sharding.Mesh | None, index: int, count: int) -> ProcessPart:
    if mesh is None:
        return ProcessPart.of_process(batch_size, index, count)
    if (index, count) != (jax.process_index(), jax.process_count()):
        raise ConfigError(f"process_index {index} of {count} with a mesh: its devices say what is rendered where")
    return ProcessPart.of_mesh(batch_size, mesh)


class Loader(grain.DatasetIterator[Batch]):
    """An endless iterator of batches that remembers where it is.

    The batch of a step is one fixed thing, a function of the stage, the data, the tokenizer, the seed and the step;
    the number of hosts and threads and what was prefetched change nothing. It is a Grain iterator, too: Grain's own
    checkpoint handlers take it.

    Attributes:
        stage: lengths, budgets and formats.
        weights: the mixture's shares by dataset, of the first phase.
        missing_datasets: names of a recipe's datasets that could not be opened.
        num_threads: pictures decoded at a time.
        batch_info: what is in the batch handed out last, or None.
    """

    def __init__(
        self,
        plan: PackedRows,
        planner: ExamplePlanner,
        *,
        missing_datasets: list[str],
        mesh: jax.sharding.Mesh | None,
        part: ProcessPart,
        process: tuple[int, int],
        num_threads: int,
        policy: FaultPolicy,
        metrics: Callable[[int, dict[str, float]], None] | None,
    ):
        super().__init__()
        self.stage, self.weights = planner.encoder.stage, plan.streams[0].weights
        self.missing_datasets = missing_datasets
        self.batch_info: BatchInfo | None = None
        layout = RowLayout.of(self.stage, context_size(mesh))
        if num_threads < 1:
            raise ConfigError(f"num_threads is {num_threads}, it must be at least 1")
        self.num_threads = num_threads
        self._plan, self._planner = plan, planner
        self._place = iter(plan).get_state()  # after the batch handed out last
        self._astray = False  # whether what comes out of the pipeline may be other than what follows that place
        self._known_states = KnownStates(self._place)
        self._counts, self._metrics = LoaderStats(self.stage), metrics
        self._faults = FaultWatch(policy, planner.encoder.datasets, *process)
        use_one_opencv_thread()  # pictures are decoded side by side; each takes one core
        pool = ThreadPoolExecutor(num_threads, thread_name_prefix="grain_molmo-render")
        self._render = Renderer(planner, pool, part, layout)
        self._transfer = None if mesh is None else Transfer(mesh, part, self.stage.batch_size, layout)
        self._batches = iter(pipeline(plan, self._render, self._transfer))
        self._stop = weakref.finalize(self, _stop, self._batches, pool)  # also of a loader that is just forgotten
        _open_loaders.add(self)

    def __iter__(self) -> "Loader":
        return self

    def __next__(self) -> Batch:
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

    def get_state(self) -> dict[str, Any]:
        """JSON-able state after the batch handed out last, whatever is prefetched; the same on every process."""
        return pack_state(self._fingerprint(self._place["step"]), self._place)

    def _fingerprint(self, step: int) -> dict[str, str]:
        return fingerprint(self._planner.encoder, self._plan.phases, step)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on where the state was taken, on any number of hosts; nothing is decoded for it.

        Raises ConfigError if it was taken from another stage, data, tokenizer or seed, or is not as it was taken; the
        loader stays where it was then. What changes in later phases may differ.
        """
        theirs, plan = unpack_state(state)
        ours = self._fingerprint(plan["step"])
        if different := [key for key in ours if theirs.get(key) != ours[key]]:
            problem = f"the state belongs to another loader: {', '.join(different)} differ"
            change = f"phases that begin at step {plan['step']} or later may differ"
            raise ConfigError(f"{problem}; make the loader as it was made when the state was taken ({change})")
        self._go_to(plan)
        self._known_states.keep(self._place)
        self._counts.begin_anew()

    def _go_to(self, place: dict[str, Any]) -> None:
        self._astray = True
        self._batches.set_state(place)
        self._place, self._astray = self._batches.get_state(), False

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
        limits = [(step, math.inf), *((row, self.stage.batch_size) for row in wanted or ())]
        if not all(isinstance(number, Integral) and 0 <= int(number) < limit for number, limit in limits):
            raise ConfigError(
                f"batch_at({step!r}, rows={wanted}): there is no such step or row; steps are whole numbers from 0, "
                f"rows from 0 to {self.stage.batch_size - 1}"
            )
        planned = self._plan_again(step)
        if wanted is None:
            element = self._render((planned, 0.0))
            batch, self.batch_info = element if self._transfer is None else self._transfer(element)
        else:
            every_shard = tuple(range(self._render.layout.n_context))
            batch, self.batch_info = self._render.render(planned, 0.0, ProcessPart(wanted, every_shard))
        return batch

    def _plan_again(self, step: int) -> PlannedBatch:
        plan = iter(self._plan)
        known = self._known_states.before(step)
        plan.set_state(known)
        if step - known["step"] > _MANY_STEPS:
            logger.info("batch_at(%d): plans %d batches to get there", step, step - known["step"])
        for planned in plan:
            self._known_states.add(plan.get_state())
            if planned.step == step:
                return planned
        raise AssertionError("a plan has no end")

    def stats(self) -> dict[str, Any]:
        """Counts over the batches handed out, where the time went, what sets the pace: see `LoaderStats.to_dict`."""
        return {**self._counts.to_dict(), "missing_datasets": self.missing_datasets}

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops the threads; no batch can be had afterwards. Forgotten, or alive at exit, a loader closes itself."""
        if stop := vars(self).get("_stop"):  # not there in a loader that could not be made
            stop()


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
