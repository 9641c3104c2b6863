"""Tensors of `.safetensors` files: a length, a JSON header, and the bytes, which are mapped.

The format is read here and not by its own package: it is these few lines, and that package gives bfloat16 to NumPy as
nothing at all.
"""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from grain_molmo.errors import ConfigError
from grain_molmo.tensors.mapped import BFLOAT16, FLOAT8, map_file, view

_MOST_HEADER_BYTES = 100_000_000  # the format's own limit
_DTYPES = {
    **{f"F{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    **{f"{kind}{bits}": np.dtype(f"<{kind.lower()}{bits // 8}") for kind in "IU" for bits in (8, 16, 32, 64)},
    "BOOL": np.dtype(np.bool_),
    "BF16": BFLOAT16,
    "F8_E4M3": FLOAT8["float8_e4m3fn"],
    "F8_E5M2": FLOAT8["float8_e5m2"],
}


def read_safetensors(path: Path) -> dict[str, Any]:
    """The tensors by name, and the header's own texts as `metadata` where there are some.

    Raises ConfigError if the file is damaged, cut off, or says what cannot be true.
    """
    data = map_file(path)
    length = int.from_bytes(data[:8].tobytes(), "little")
    if len(data) < 8 or length > min(_MOST_HEADER_BYTES, len(data) - 8):
        raise ConfigError(f"{path} is cut off, or no safetensors file: its header should have {length:,} bytes")
    try:
        header = json.loads(data[8 : 8 + length].tobytes())
        metadata = header.pop("__metadata__", None)
        tensors = {name: _tensor(data[8 + length :], entry) for name, entry in header.items()}
        _refuse_overlap([entry["data_offsets"] for entry in header.values()])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{path} does not read as safetensors ({error!r:.200})") from error
    return {"metadata": metadata, **tensors} if isinstance(metadata, dict) else tensors


def _refuse_overlap(places: Sequence[tuple[int, int]]) -> None:
    """Raises ValueError if tensors share bytes, which the format does not have."""
    for (_, stop), (start, _) in itertools.pairwise(sorted(places)):
        if start < stop:
            raise ValueError(f"a tensor begins at {start} where another goes on to {stop}")


def _tensor(data: np.ndarray, entry: dict[str, Any]) -> np.ndarray:
    start, stop = entry["data_offsets"]
    dtype, shape = _DTYPES[entry["dtype"]], entry["shape"]
    if not 0 <= start <= stop <= len(data):
        raise ValueError(f"a tensor should lie at {start} to {stop} of {len(data):,} bytes")
    found = view(data[start:stop], dtype, shape)
    if found.nbytes != stop - start:
        raise ValueError(f"a tensor of {found.nbytes:,} bytes should lie at {start} to {stop}")
    return found
