"""What a dataset says of an example, as JSON takes it, whatever it is."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from grain_molmo.readable import jsonable

_LONG_ARRAY = 200
_DEEPEST = 24
"""Levels of mappings and lists; what lies deeper, or holds itself, is left out."""
_LONGEST_BITS = 64
"""Python refuses to write very long numbers as digits."""


def shown_value(value: Any, depth: int = 0) -> Any:
    """A field as JSON takes it, pictures as what is known of them, large arrays as their shape and dtype."""
    if depth > _DEEPEST:
        return "…"
    if isinstance(value, np.ndarray) and value.size > _LONG_ARRAY:
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, Mapping):
        return {text_of(key): shown_value(entry, depth + 1) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [shown_value(entry, depth + 1) for entry in value]
    if isinstance(value, int) and value.bit_length() > _LONGEST_BITS:
        return text_of(value)
    try:
        return jsonable(value)
    except Exception as error:  # of a dataset's own type, which may fail in any way
        return _unspeakable(value, error)


def text_of(value: Any) -> str:
    """The value as text; of one that does not say what it is, its type."""
    try:
        return str(value)
    except Exception as error:
        return _unspeakable(value, error)


def _unspeakable(value: Any, error: Exception) -> str:
    return f"{type(value).__name__} that cannot be shown ({type(error).__name__})"
