"""Arrays of `.npy` and `.npz` files, mapped where they are not compressed."""

import io
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from grain_molmo.errors import ConfigError
from grain_molmo.tensors.archive import read_archive
from grain_molmo.tensors.mapped import map_file, view

_MOST_HEADER_BYTES = 1 << 16
_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_KINDS = "biufUS"  # numbers, and text for the ids of rows


def read_npy(path: Path) -> np.ndarray:
    """The array of a `.npy` file. Raises ConfigError if it is damaged, or holds Python objects."""
    return _array(map_file(path), str(path))


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file by name. Raises ConfigError if it is damaged, or holds Python objects."""
    members = read_archive(path, may_be_packed=True)
    return {name.removesuffix(".npy"): _array(data, f"{path}: {name!r:.80}") for name, data in members.items()}


def _array(data: np.ndarray, where: str) -> np.ndarray:
    header = io.BytesIO(data[:_MOST_HEADER_BYTES].tobytes())
    try:
        version = npy.read_magic(header)
        if version not in _READERS:
            raise ValueError(f"version {version} of the format is for tables")
        shape, is_fortran, dtype = _READERS[version](header)
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which only running code could bring back; save numbers alone")
        if dtype.kind not in _KINDS:
            raise ValueError(f"its elements are {dtype}; save them as float32")
        # In Fortran's order the last dimension of the mirrored shape is the one whose elements lie together.
        found = view(data[header.tell() :], dtype, shape[::-1] if is_fortran else shape)
    except (ValueError, TypeError, OSError, OverflowError, MemoryError, RecursionError) as error:
        raise ConfigError(f"{where} does not read as a NumPy array ({error})") from error
    return found.T if is_fortran else found
