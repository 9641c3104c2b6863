"""Which part of a global batch a process renders, and global arrays of JAX from the parts of all processes.

The context shards of a row are best had in one process: where several share a row, each decodes every example that it
has tokens or crops of, so a video that is cut between them is decoded by both.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from grain_molmo.axes import CONTEXT_AXIS, ROW_AXES
from grain_molmo.errors import ConfigError
from grain_molmo.layout import RowLayout


def row_axes(mesh: Mesh) -> tuple[str, ...]:
    """The axes that rows are dealt to: "data" and "fsdp", or, without either, the first that isn't "context"."""
    axes = tuple(axis for axis in ROW_AXES if axis in mesh.axis_names)
    return axes or tuple(axis for axis in mesh.axis_names if axis != CONTEXT_AXIS)[:1]


def context_size(mesh: Mesh | None) -> int:
    """How many context shards share a row: the size of the axis "context", 1 without one."""
    return 1 if mesh is None else mesh.shape.get(CONTEXT_AXIS, 1)


_OF_ROWS = frozenset({"features", "labels", "valid"})
"""Arrays without an axis that context shards could share, beside the `loss_weights` of features."""


def row_sharding(mesh: Mesh) -> NamedSharding:
    """How arrays of one entry or vector a row lie on the mesh: rows over `row_axes`, replicated over all else."""
    return NamedSharding(mesh, PartitionSpec(row_axes(mesh)))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """How the arrays of rows of tokens lie on the mesh: rows over `row_axes`, the second axis over "context".

    Over the other axes ("tensor", ...) the arrays are replicated.
    """
    context = (CONTEXT_AXIS,) if CONTEXT_AXIS in mesh.axis_names else ()
    return NamedSharding(mesh, PartitionSpec(row_axes(mesh), *context))


@dataclass(frozen=True)
class ProcessPart:
    """The part of each global batch that a process renders.

    Attributes:
        rows: numbers of the rows, ascending; not always side by side, for the devices of a pod may be in any order.
        shards: the context shards of these rows, ascending.
    """

    rows: tuple[int, ...]
    shards: tuple[int, ...] = (0,)

    @classmethod
    def of_process(cls, batch_size: int, process_index: int, process_count: int) -> "ProcessPart":
        """An equal slice of the rows, side by side. Raises ConfigError if there is none."""
        if process_count < 1 or not 0 <= process_index < process_count:
            raise ConfigError(f"process_index {process_index} of {process_count} processes: no such process")
        if batch_size % process_count:
            raise ConfigError(f"batch_size {batch_size} does not divide among {process_count} processes")
        n_rows = batch_size // process_count
        return cls(tuple(range(process_index * n_rows, (process_index + 1) * n_rows)))

    @classmethod
    def of_mesh(cls, batch_size: int, mesh: Mesh) -> "ProcessPart":
        """The rows and context shards that the mesh's devices of this process need.

        Raises ConfigError if the rows do not divide among the mesh's devices, or none of those is this process's.
        """
        axes, n_context = row_axes(mesh), context_size(mesh)
        n_parts = math.prod(mesh.shape[axis] for axis in axes)
        if batch_size % n_parts:
            sizes = " x ".join(f"{axis}={mesh.shape[axis]}" for axis in axes)
            raise ConfigError(
                f"batch_size {batch_size} does not divide among the {n_parts} parts of the mesh ({sizes})"
            )
        rows: set[int] = set()
        shards: set[int] = set()
        for index in batch_sharding(mesh).addressable_devices_indices_map((batch_size, n_context)).values():
            assert index is not None
            rows.update(range(batch_size)[index[0]])
            shards.update(range(n_context)[index[1]])
        if not rows:
            raise ConfigError(
                f"no device of the mesh belongs to process {jax.process_index()}; leave it out of the run"
            )
        return cls(tuple(sorted(rows)), tuple(sorted(shards)))


def to_global(
    batch: Mapping[str, np.ndarray], part: ProcessPart, mesh: Mesh, batch_size: int, layout: RowLayout | None
) -> dict[str, Any]:
    """Global arrays of which this process holds what its devices need; no process waits for another.

    Args:
        batch: the part's rows as `render_rows` makes them: whole but for `images`, which has the part's shards.
        part: of this process.
        mesh: of the global arrays, see `batch_sharding`, and `row_sharding` for `features`, `labels` and `valid`.
        batch_size: rows of the global batch.
        layout: of its rows; None for features.

    Returns:
        By key a `jax.Array` of [batch_size, ...]. On CPU devices it may use the batch's memory.
    """
    place_of_row = {row: place for place, row in enumerate(part.rows)}
    block_of_shard = {shard: block for block, shard in enumerate(part.shards)}

    def rows_array(local: np.ndarray) -> jax.Array:
        def of_device(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None
            rows = range(batch_size)[index[0]]
            first = place_of_row[rows.start]
            return local[first : first + len(rows)]

        return jax.make_array_from_callback((batch_size, *local.shape[1:]), row_sharding(mesh), of_device)

    def global_array(key: str, local: np.ndarray) -> jax.Array:
        if layout is None or key in _OF_ROWS:
            return rows_array(local)
        length = layout.crops if key == "images" else local.shape[1]

        def of_device(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None
            rows, columns = range(batch_size)[index[0]], range(length)[index[1]]
            start = columns.start
            if layout is not None and key == "images":
                start = block_of_shard[start // layout.crops_per_shard] * layout.crops_per_shard
            first = place_of_row[rows.start]
            return local[first : first + len(rows), start : start + len(columns)]

        # The global shape is given, not inferred: a process with other rows fails here, and not in a hang.
        return jax.make_array_from_callback((batch_size, length, *local.shape[2:]), batch_sharding(mesh), of_device)

    with jax.transfer_guard("allow"):  # a trainer may forbid transfers that it didn't mean; these are meant
        return {key: global_array(key, local) for key, local in batch.items()}
