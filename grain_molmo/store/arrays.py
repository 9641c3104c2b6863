"""Arrays in annotation records, as bytes beside their JSON: in digits they would take five times as much."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from grain_molmo.errors import ConfigError

ARRAY_DTYPES = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2"), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
"""Types of the elements that records hold, by name."""

_NAMES, _SHAPES, _DTYPES, _DATA = "arrays/name", "arrays/shape", "arrays/dtype", "arrays/data"


def encode_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, list[bytes]]:
    """The features of a record that hold its arrays, little-endian and row by row; none where there are no arrays.

    Raises ConfigError for elements of another type than `ARRAY_DTYPES`.
    """
    if not arrays:
        return {}
    for name, array in arrays.items():
        if array.dtype.name not in ARRAY_DTYPES:
            raise ConfigError(f"{name} is an array of {array.dtype}; records hold {', '.join(ARRAY_DTYPES)}")
    return {
        _NAMES: [name.encode() for name in arrays],
        _SHAPES: [json.dumps(array.shape).encode() for array in arrays.values()],
        _DTYPES: [array.dtype.name.encode() for array in arrays.values()],
        _DATA: [array.astype(ARRAY_DTYPES[array.dtype.name], copy=False).tobytes() for array in arrays.values()],
    }


def decode_arrays(fields: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
    """The arrays of a record's features by name, read-only. Raises ValueError or KeyError if they are none."""
    if _NAMES not in fields:
        return {}
    parts = zip(fields[_NAMES], fields[_SHAPES], fields[_DTYPES], fields[_DATA], strict=True)
    return {name.decode(): _decoded(json.loads(shape), kind.decode(), data) for name, shape, kind, data in parts}


def _decoded(shape: Any, dtype: str, data: bytes) -> np.ndarray:
    if not isinstance(shape, list) or math.prod(shape) * ARRAY_DTYPES[dtype].itemsize != len(data):
        raise ValueError(f"an array of {dtype} {shape} has {len(data)} bytes")
    return np.frombuffer(data, ARRAY_DTYPES[dtype]).reshape(shape)
