"""The tensors of a file, whichever library wrote it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grain_molmo.errors import ConfigError
from grain_molmo.tensors.numpy_files import read_npy, read_npz
from grain_molmo.tensors.safetensors import read_safetensors
from grain_molmo.tensors.torch_files import read_torch

_READERS: dict[str, Callable[[Path], Any]] = {
    ".pt": read_torch,
    ".pth": read_torch,
    ".npy": read_npy,
    ".npz": read_npz,
    ".safetensors": read_safetensors,
}
TENSOR_SUFFIXES = tuple(_READERS)


def load_tensors(path: str | os.PathLike[str]) -> Any:
    """What a file of tensors holds: what `torch.load` or `np.load` would give, with read-only arrays for tensors.

    Nothing of the file is executed, whatever is in it, and PyTorch is not needed. Arrays are mapped: their bytes are
    read when they are looked at (those of a compressed `.npz` at once). bfloat16 and float8 come as the types of
    `ml_dtypes`.

    Args:
        path: a `.pt` or `.pth` file of `torch.save` (tensors, numbers, texts, and lists and dicts of them), `.npy`,
            `.npz` or `.safetensors` (a dict, with the header's texts as `metadata`).

    Raises:
        ConfigError: there is no such file, it is damaged or cut off, or names code to be run; the message says which.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in _READERS:
        raise ConfigError(f"{path} is no file of tensors by its name; known are {', '.join(TENSOR_SUFFIXES)}")
    return _READERS[path.suffix.lower()](path)
