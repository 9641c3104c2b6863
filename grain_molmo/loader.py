"""From converted datasets to packed training batches.

The flow, each step a thing that can be used on its own:

    datasets ─▶ MixedStream ─▶ Encoder ─▶ PackedRows ─▶ render_rows ─▶ batch
    examples    which comes     tokens,    rows, global   pixels, this   numpy, or sharded
    at random   n-th            no pixel   batches        process only   jax.Array
"""

import atexit
import gc
import logging
import operator
import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from numbers import Integral
from typing import Any

import grain
import jax

from grain_molmo.datasets.base import Dataset, StoreDataset
from grain_molmo.datasets.registry import available_names, open_dataset
from grain_molmo.encode import Encoder
from grain_molmo.errors import ConfigError, GrainMolmoError, MissingSplitError, NotConvertedError
from grain_molmo.faults import FaultPolicy, FaultWatch
from grain_molmo.packing.mixture import MixedStream, log_mixture
from grain_molmo.packing.rows import PackedRows, PlannedBatch
from grain_molmo.recipes import find_stage
from grain_molmo.render import Batch, ImageBuffers, batch_bytes, render_rows
from grain_molmo.rng import stable_hash
from grain_molmo.stages import Stage, group_weights
from grain_molmo.stats import BatchInfo, LoaderStats, flat_metrics
from grain_molmo.text.tokenizer import Tokenizer, load_tokenizer
from grain_molmo.vision.resize import use_one_opencv_thread

logger = logging.getLogger(__name__)

DEFAULT_TOKENIZER = "Qwen/Qwen3-4B"
_PREFETCH_BYTES = 2 << 30
_STATE_VERSION = 1


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
    policy: FaultPolicy | None = None,
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
        mesh: makes batches global `jax.Array`s, rows sharded over its axis "data" (else its first axis).
        process_index, process_count: which contiguous slice of each global batch is rendered here; default JAX's.
        num_threads: pictures or videos decoded at a time; default the machine's cores, at most 16.
        policy: what to do about examples that cannot be used; default: leave them out or blank, and count them.
        metrics: called after each batch with its step and the numbers of `stats()` by flat names: `flat_metrics`.

    Returns:
        An endless iterator of batches; see `render_rows` for shapes and dtypes.

    Raises:
        ConfigError: unknown names, weights, sizes or tokenizer.
        StoreError: a dataset was not converted into the folder, or a shard is missing.

    The loader raises what its policy says: see `FaultWatch.check`.
    """
    chosen = _customize(find_stage(stage, recipe), batch_size, seq_len, max_frames)
    try:
        seed = operator.index(seed)  # a numpy integer must draw as the int does, and goes into the state
    except TypeError as error:
        raise ConfigError(f"seed is {seed!r}, it must be a whole number") from error
    datasets, missing = _open_datasets(chosen, data_dir)
    _check_stores(datasets.values())
    sizes = {name: len(dataset) for name, dataset in datasets.items()}
    stream = MixedStream(chosen.weights or group_weights(chosen.groups, sizes), sizes, seed)
    log_mixture(stream.weights, sizes)
    encoder = Encoder(datasets, chosen, load_tokenizer(tokenizer), seed)
    plan = PackedRows(
        stream,
        encoder,
        batch_size=chosen.batch_size,
        max_tokens=chosen.seq_len,
        max_crops=chosen.crops_per_row,
        waiting=chosen.waiting,
    )
    return Loader(
        plan,
        encoder,
        missing_datasets=missing,
        mesh=mesh,
        process_index=jax.process_index() if process_index is None else process_index,
        process_count=jax.process_count() if process_count is None else process_count,
        num_threads=num_threads or min(16, os.cpu_count() or 1),
        policy=policy or FaultPolicy(),
        metrics=metrics,
    )


def _customize(stage: Stage, batch_size: int | None, seq_len: int | None, max_frames: int | None) -> Stage:
    if max_frames is not None and not stage.max_frames:
        raise ConfigError(f"max_frames={max_frames}: stage {stage.name!r} has no video")
    # What is no number, the stage refuses.
    crops_per_row = max(stage.crops_per_row, max_frames) if isinstance(max_frames, Integral) else None
    wishes = {"batch_size": batch_size, "seq_len": seq_len, "max_frames": max_frames, "crops_per_row": crops_per_row}
    return replace(stage, **{key: value for key, value in wishes.items() if value is not None})


def _open_datasets(stage: Stage, data_dir: str | os.PathLike[str] | None) -> tuple[dict[str, Dataset], list[str]]:
    """The stage's datasets by name, and the names of a group's that cannot be opened."""
    if stage.weights:
        return {name: open_dataset(name, stage.split, data_dir) for name in stage.weights}, []
    known = set(available_names(data_dir))
    opened: dict[str, Dataset] = {}
    unknown: list[str] = []
    unconverted: list[str] = []
    for name in dict.fromkeys(member.name for group in stage.groups for member in group.members):
        if name not in known:
            unknown.append(name)
            continue
        try:
            opened[name] = open_dataset(name, stage.split, data_dir)
        except (NotConvertedError, MissingSplitError):
            unconverted.append(name)
    for names, why, cure in (
        (unknown, "not registered", "register them with grain_molmo.register_dataset"),
        (unconverted, "not converted", "convert them with grain-molmo convert"),
    ):
        if names:
            message = "stage %r lists datasets that are %s: %s; the others share their part. To have them, %s."
            logger.warning(message, stage.name, why, ", ".join(names), cure)
    if not opened:
        raise NotConvertedError(f"none of the datasets of stage {stage.name!r} was converted: {', '.join(unconverted)}")
    return opened, unknown + unconverted


def _check_stores(datasets: Iterable[Dataset]) -> None:
    """Raises StoreError at once for a shard that is missing or cut off, not hours into the run."""
    stored = [dataset for dataset in datasets if isinstance(dataset, StoreDataset)]
    for dataset in stored:
        dataset.records.check()
    for media in {id(dataset.media): dataset.media for dataset in stored}.values():
        media.check()


class Loader(Iterator[Batch]):
    """An endless iterator of batches that remembers where it is.

    The batch of a step is one fixed thing, a function of the stage, the data, the tokenizer, the seed and the step;
    the number of threads and what was prefetched change nothing.

    Attributes:
        stage: lengths, budgets and formats.
        weights: the mixture's shares by dataset.
        missing_datasets: names of a recipe's datasets that could not be opened.
        num_threads: pictures decoded at a time.
        batch_info: what is in the batch handed out last, or None.
    """

    def __init__(
        self,
        plan: PackedRows,
        encoder: Encoder,
        *,
        missing_datasets: list[str],
        mesh: jax.sharding.Mesh | None,
        process_index: int,
        process_count: int,
        num_threads: int,
        policy: FaultPolicy,
        metrics: Callable[[int, dict[str, float]], None] | None,
    ):
        self.stage, self.weights, self.missing_datasets = encoder.stage, plan.stream.weights, missing_datasets
        self.batch_info: BatchInfo | None = None
        if process_count < 1 or not 0 <= process_index < process_count:
            raise ConfigError(f"process_index {process_index} of {process_count} processes: there is no such process")
        if self.stage.batch_size % process_count:
            raise ConfigError(f"batch_size {self.stage.batch_size} does not divide among {process_count} processes")
        if num_threads < 1:
            raise ConfigError(f"num_threads is {num_threads}, it must be at least 1")
        self.num_threads = num_threads
        self._fingerprint = _fingerprint(encoder, plan.stream.weights)
        self._stats = LoaderStats(self.stage)
        self._faults = FaultWatch(policy, encoder.datasets, process_index, process_count)
        self._metrics = metrics
        use_one_opencv_thread()  # pictures are decoded side by side; each takes one core
        pool = ThreadPoolExecutor(num_threads, thread_name_prefix="grain_molmo-render")
        num_rows = self.stage.batch_size // process_count
        self._batches = iter(_pipeline(plan, _Renderer(self.stage, pool, process_index * num_rows, num_rows, mesh)))
        self._stop = weakref.finalize(self, _stop, self._batches, pool)  # also of a loader that is just forgotten
        _open_loaders.add(self)

    def __iter__(self) -> "Loader":
        return self

    def __next__(self) -> Batch:
        asked_at, state = time.perf_counter(), self._batches.get_state()
        batch, info = next(self._batches)
        handed_out_at = time.perf_counter()
        try:
            self._faults.check(info)
        except GrainMolmoError:  # the batch is not handed out: the loader stays before it
            self._batches.set_state(state)
            raise
        self._stats.add(info, asked_at, handed_out_at)
        self.batch_info = info
        if self._metrics is not None:
            self._metrics(info.step, flat_metrics(self.stats()))
        return batch

    def get_state(self) -> dict[str, Any]:
        """JSON-able state after the batch handed out last, whatever is prefetched; the same on every process."""
        return {"version": _STATE_VERSION, "fingerprint": self._fingerprint, "plan": self._batches.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on where the state was taken; nothing is decoded for it.

        Raises ConfigError if it was taken from another stage, data, tokenizer or seed.
        """
        version = state.get("version") if isinstance(state, Mapping) else None
        if version != _STATE_VERSION:
            raise ConfigError(f"loader state of version {version!r}; this is version {_STATE_VERSION}")
        if not {"fingerprint", "plan"} <= state.keys():
            raise ConfigError(f"the loader state is incomplete: it holds {', '.join(map(str, state))}")
        theirs = state["fingerprint"]
        different = [key for key, value in self._fingerprint.items() if theirs.get(key) != value]
        if different:
            raise ConfigError(
                f"the state belongs to another loader: {', '.join(different)} differ; make the loader as it was made "
                "when the state was taken"
            )
        self._batches.set_state(state["plan"])
        self._stats.begin_anew()

    def stats(self) -> dict[str, Any]:
        """Counts over the batches handed out, where the time went, what sets the pace: see `LoaderStats.to_dict`."""
        return {**self._stats.to_dict(), "missing_datasets": self.missing_datasets}

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops the threads; no batch can be had afterwards. Forgotten, or alive at exit, a loader closes itself."""
        self._stop()


@dataclass(frozen=True)
class _Renderer:
    """Planned rows to this process's part of the batch. Not the loader's own, so that threads don't keep it alive."""

    stage: Stage
    pool: ThreadPoolExecutor
    first_row: int
    num_rows: int
    mesh: jax.sharding.Mesh | None
    buffers: ImageBuffers = field(default_factory=ImageBuffers)

    def __call__(self, timed: tuple[PlannedBatch, float]) -> tuple[Batch, BatchInfo]:
        planned, plan_s = timed
        started = time.perf_counter()
        row_numbers = range(self.first_row, self.first_row + self.num_rows)
        rows = [planned.rows[row] for row in row_numbers]
        batch, infos = render_rows(rows, self.stage, self.pool, self.buffers)
        render_s = time.perf_counter() - started
        if self.mesh is not None:
            batch = _to_mesh(batch, self.mesh, self.stage.batch_size)
        return batch, BatchInfo(
            planned.step,
            row_numbers,
            infos,
            planned.skipped,
            num_examples=sum(map(len, planned.rows)),
            plan_s=plan_s,
            render_s=render_s,
            transfer_s=time.perf_counter() - started - render_s,
        )


def _to_mesh(batch: Batch, mesh: jax.sharding.Mesh, batch_size: int) -> Batch:
    """Global arrays of which this process holds its rows."""
    axis = "data" if "data" in mesh.axis_names else mesh.axis_names[0]
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(axis))
    # The global shape is given, not inferred, so that a process with other rows fails here and not in a hang.
    return {
        key: jax.make_array_from_process_local_data(sharding, rows, (batch_size, *rows.shape[1:]))
        for key, rows in batch.items()
    }


def _pipeline(plan: PackedRows, renderer: _Renderer) -> grain.IterDataset:
    """Planning, rendering and handing out overlap, each one batch or more ahead of the next."""
    prefetch = grain.experimental.ThreadPrefetchIterDataset
    ahead = max(1, min(4, _PREFETCH_BYTES // batch_bytes(renderer.stage, renderer.num_rows)))
    planned = prefetch(_Timed(plan), prefetch_buffer_size=2)
    return prefetch(planned.map(renderer), prefetch_buffer_size=ahead)


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


class _Timed(grain.IterDataset):
    """Elements of the parent with the seconds that each took."""

    def __iter__(self) -> "_TimedIterator":
        return _TimedIterator(iter(self._parent))


class _TimedIterator(grain.DatasetIterator):
    def __next__(self) -> tuple[Any, float]:
        started = time.perf_counter()
        element = next(self._parent)
        return element, time.perf_counter() - started

    def get_state(self) -> dict[str, Any]:
        return self._parent.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        self._parent.set_state(state)


def _fingerprint(encoder: Encoder, weights: Mapping[str, float]) -> dict[str, str]:
    """What a state belongs to, by part, so that a refusal can say which part differs."""
    stage = {each.name: getattr(encoder.stage, each.name) for each in fields(Stage)}
    stage |= {"mixture": dict(weights), "groups": ()}  # what the groups came to
    data = {
        name: f"{len(dataset)}:{getattr(dataset, 'fingerprint', '')}"
        for name, dataset in sorted(encoder.datasets.items())
    }
    return {
        "stage": f"{stable_hash(repr(stage)):016x}",
        "data": f"{stable_hash(repr(data)):016x}",
        "tokenizer": encoder.tokenizer.fingerprint,
        "seed": str(encoder.seed),
    }
