"""Files as bytes that are read when they are looked at, and arrays that view a part of them."""

import math
from collections.abc import Sequence
from pathlib import Path

import ml_dtypes
import numpy as np

from grain_molmo.errors import ConfigError

MOST_REPEATED_BYTES = 1 << 30
"""What a tensor may come to that shows the same bytes many times (`expand`), or that is packed tighter than usual."""

_MOST_DIMENSIONS = 64  # of NumPy

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT8 = {name: np.dtype(getattr(ml_dtypes, name)) for name in ("float8_e4m3fn", "float8_e5m2")}


def map_file(path: Path) -> np.ndarray:
    """[bytes] uint8, read-only, of a file; memory-mapped, so that only what is looked at is read.

    Raises ConfigError if there is no such file, or nothing in it.
    """
    try:
        return np.asarray(np.memmap(path, np.uint8, mode="r"))
    except (OSError, ValueError) as error:  # numpy says ValueError of an empty file
        raise ConfigError(f"{path} cannot be read ({error})") from error


def view(
    data: np.ndarray, dtype: np.dtype, shape: Sequence[int], *, offset: int = 0, strides: Sequence[int] | None = None
) -> np.ndarray:
    """An array over a part of these bytes, read-only; no copy.

    Args:
        data: [bytes] uint8.
        dtype: of its elements.
        shape: of it.
        offset: of its first element, elements.
        strides: from one element to the next along each dimension, elements; None: row by row.

    Raises:
        ValueError: it does not lie in these bytes, or it shows the same bytes so often that it is no honest tensor.
    """
    if len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"it has {len(shape):,} dimensions")
    if not all(type(size) is int and 0 <= size < 1 << 63 for size in (*shape, *(strides or ()), offset)):
        raise ValueError(f"its shape {_short(shape)}, strides or offset are not whole numbers from 0 up")
    if strides is not None and len(strides) != len(shape):
        raise ValueError(f"{len(shape)} dimensions, {len(strides)} strides")
    num_bytes = math.prod(shape) * dtype.itemsize
    if num_bytes > max(len(data), MOST_REPEATED_BYTES):
        raise ValueError(f"its shape {_short(shape)} comes to {num_bytes:,} bytes where {len(data):,} are stored")
    if num_bytes == 0:
        return np.zeros(tuple(shape), dtype)
    steps = _row_by_row(shape) if strides is None else strides
    reach = (offset + 1 + sum((size - 1) * step for size, step in zip(shape, steps, strict=True))) * dtype.itemsize
    if reach > len(data):
        raise ValueError(f"its shape {_short(shape)} reaches to byte {reach:,} where {len(data):,} are stored")
    byte_steps = tuple(step * dtype.itemsize for step in steps)
    return np.ndarray(tuple(shape), dtype, data, offset * dtype.itemsize, byte_steps)


def _row_by_row(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _short(shape: Sequence[object]) -> str:
    return str([size if type(size) is int else type(size).__name__ for size in shape[:8]])[:80]
