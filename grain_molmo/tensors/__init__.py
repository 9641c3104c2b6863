"""Tensors in files of other libraries (PyTorch, NumPy, safetensors) as arrays; nothing in a file is ever executed."""

from grain_molmo.tensors.load import TENSOR_SUFFIXES, load_tensors

__all__ = ["TENSOR_SUFFIXES", "load_tensors"]
