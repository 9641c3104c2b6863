"""Arrays of `.npy` and `.npz` files, mapped where they are not compressed.

The header is read here: NumPy's own reader also repairs those of Python 2, by a tokenizer that fails in its own ways.
"""

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np

from grain_molmo.errors import ConfigError
from grain_molmo.tensors.archive import read_archive
from grain_molmo.tensors.mapped import map_file, view

_MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {1: 2, 2: 4}  # of the header's length, by version; the third is for tables
_MOST_HEADER_BYTES = 10_000
_PLAIN_DTYPE = re.compile(r"[<>|=]?[biufUS][1-9]\d*")  # numbers, and text for the ids of rows

_DAMAGE = (ValueError, TypeError, KeyError, SyntaxError, OverflowError, MemoryError, RecursionError)


def read_npy(path: Path) -> np.ndarray:
    """The array of a `.npy` file. Raises ConfigError if it is damaged, or holds Python objects."""
    return _array(map_file(path), str(path))


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file by name. Raises ConfigError if it is damaged, or holds Python objects."""
    members = read_archive(path, may_be_packed=True)
    return {name.removesuffix(".npy"): _array(data, f"{path}: {name!r:.80}") for name, data in members.items()}


def _array(data: np.ndarray, where: str) -> np.ndarray:
    try:
        header, start = _header(data)
        shape, is_fortran, dtype = header["shape"], header["fortran_order"], _dtype(header["descr"])
        # In Fortran's order the last dimension of the mirrored shape is the one whose elements lie together.
        found = view(data[start:], dtype, shape[::-1] if is_fortran else shape)
    except _DAMAGE as error:
        raise ConfigError(f"{where} does not read as a NumPy array ({error})") from error
    return found.T if is_fortran else found


def _header(data: np.ndarray) -> tuple[dict[str, Any], int]:
    """What the header says, and where the elements begin."""
    start = data[:12].tobytes()
    if not start.startswith(_MAGIC) or len(start) < 12 or start[6] not in _LENGTH_BYTES:
        raise ValueError(f"it begins with {start[:8]!r}")
    begin = 8 + _LENGTH_BYTES[start[6]]
    length = int.from_bytes(start[8:begin], "little")
    if length > _MOST_HEADER_BYTES:
        raise ValueError(f"its header has {length:,} bytes")
    return ast.literal_eval(data[begin : begin + length].tobytes().decode("latin1").strip()), begin + length


def _dtype(described: Any) -> np.dtype:
    if described == "|O":
        raise ValueError("it holds Python objects, which only running code could bring back; save numbers alone")
    if not isinstance(described, str) or not _PLAIN_DTYPE.fullmatch(described):
        raise ValueError(f"its elements are {described!r:.80}; save them as float32")
    return np.dtype(described)
