"""The stages of a loader, each a batch or more ahead of the next: planning, rendering, transfer to the devices."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import grain
import jax
import numpy as np

from grain_molmo.encode import EncodedExample, LostExample
from grain_molmo.layout import RowLayout
from grain_molmo.mesh import ProcessPart, to_global
from grain_molmo.packing.rows import PlannedBatch, PlannedExample
from grain_molmo.render import Batch, ExampleInfo, ImageBuffers, render_rows
from grain_molmo.stages import Stage
from grain_molmo.stats import BatchInfo

_PREFETCH_BYTES = 2 << 30
_ON_DEVICE = 1  # batches that wait on the devices, beside the one that is in use and the one under way


class Rows(Protocol):
    """How planned rows become arrays."""

    @property
    def n_context(self) -> int:
        """Context shards of a row."""
        ...

    def row_bytes(self, n_shards: int) -> int:
        """Memory that so many shards of a row take."""
        ...

    def __call__(
        self, rows: Sequence[Sequence[PlannedExample]], shards: Sequence[int], pool: Executor
    ) -> tuple[Batch, list[list[ExampleInfo]], float]:
        """The arrays, what is in each row, and seconds of threads that went into encoding."""
        ...


@dataclass(frozen=True)
class TokenRows:
    """Rows of tokens and pictures.

    Attributes:
        encode: planned examples to encoded ones.
        stage: gives the shapes.
        layout: of a row.
        buffers: memory for images.
    """

    encode: Callable[[PlannedExample], EncodedExample | LostExample]
    stage: Stage
    layout: RowLayout
    buffers: ImageBuffers = field(default_factory=ImageBuffers)

    @property
    def n_context(self) -> int:
        """Context shards of a row."""
        return self.layout.n_context

    def row_bytes(self, n_shards: int) -> int:
        """Memory that so many shards of a row take."""
        return self.layout.row_bytes(n_shards)

    def __call__(
        self, rows: Sequence[Sequence[PlannedExample]], shards: Sequence[int], pool: Executor
    ) -> tuple[Batch, list[list[ExampleInfo]], float]:
        """The arrays that `render_rows` makes, what is in each row, and seconds of threads that encoding took."""
        encoded = [list(pool.map(self._timed, examples)) for examples in rows]
        examples = [[example for example, _ in row] for row in encoded]
        batch, infos = render_rows(examples, self.stage, pool, self.buffers, self.layout, shards)
        return batch, infos, sum(seconds for row in encoded for _, seconds in row)

    def _timed(self, planned: PlannedExample) -> tuple[EncodedExample | LostExample, float]:
        started = time.perf_counter()
        return self.encode(planned), time.perf_counter() - started


@dataclass(frozen=True)
class Renderer:
    """Planned batches to a process's part of the arrays, and what is in it.

    It knows nothing of the loader, so that threads which use it don't keep a forgotten loader alive.

    Attributes:
        rows: makes the arrays.
        pool: threads to encode and decode in.
        part: what this process has of each batch.
        marks_valid: whether batches say which rows hold an example that can be used, in `valid` [B] bool.
    """

    rows: Rows
    pool: ThreadPoolExecutor
    part: ProcessPart
    marks_valid: bool = False

    def keep_own(self, timed: tuple[PlannedBatch, float]) -> tuple[PlannedBatch, float]:
        """The same without the rows of other processes, which need not be kept until this one is rendered."""
        planned, plan_s = timed
        own = set(self.part.rows)
        rows = [examples if row in own else [] for row, examples in enumerate(planned.rows)]
        return replace(planned, rows=rows), plan_s

    def __call__(self, timed: tuple[PlannedBatch, float]) -> tuple[Batch, BatchInfo]:
        """This process's part of a batch that was planned in so many seconds."""
        return self.render(*timed, self.part)

    def render(self, planned: PlannedBatch, plan_s: float, part: ProcessPart) -> tuple[Batch, BatchInfo]:
        """Any part of a batch."""
        started = time.perf_counter()
        batch, infos, encode_s = self.rows([planned.rows[row] for row in part.rows], part.shards, self.pool)
        if self.marks_valid:
            batch["valid"] = np.array([bool(row) and not any(one.blanked for one in row) for row in infos])
        render_s = time.perf_counter() - started
        return batch, BatchInfo(
            planned.step,
            part.rows,
            infos,
            planned.skipped,
            num_examples=planned.num_examples,
            plan_s=plan_s,
            encode_s=encode_s,
            render_s=render_s,
        )


@dataclass(frozen=True)
class Transfer:
    """A process's part of a batch to global arrays, which are on the devices when they are handed out."""

    mesh: jax.sharding.Mesh
    part: ProcessPart
    batch_size: int
    layout: RowLayout | None

    def __call__(self, element: tuple[Batch, BatchInfo]) -> tuple[Batch, BatchInfo]:
        """The batch as global arrays, and what is in it."""
        batch, info = element
        started = time.perf_counter()
        arrays = jax.block_until_ready(to_global(batch, self.part, self.mesh, self.batch_size, self.layout))
        return arrays, replace(info, transfer_s=time.perf_counter() - started)


def pipeline(plan: grain.IterDataset, render: Renderer, transfer: Transfer | None) -> grain.IterDataset:
    """Batches and what is in them, as many as the plan has; its state is that of the plan.

    Args:
        plan: of global batches.
        render: planned rows to arrays.
        transfer: arrays to the devices; None to hand out numpy.
    """
    prefetch = grain.experimental.ThreadPrefetchIterDataset
    part_bytes = len(render.part.rows) * render.rows.row_bytes(len(render.part.shards))
    planned = prefetch(_Timed(plan).map(render.keep_own), prefetch_buffer_size=2)
    rendered = prefetch(planned.map(render), prefetch_buffer_size=max(1, min(4, _PREFETCH_BYTES // part_bytes)))
    return rendered if transfer is None else prefetch(rendered.map(transfer), prefetch_buffer_size=_ON_DEVICE)


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
