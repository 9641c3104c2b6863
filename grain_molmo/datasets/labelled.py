"""Labelled features: what probes learn from, an array of one shape and a class."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from grain_molmo.errors import ExampleError
from grain_molmo.store.arrays import ARRAY_DTYPES

FEATURES, LABEL = "features", "label"
"""The fields of an example with labelled features."""

_LABELS = np.iinfo(np.int32)
_NUMBERS = "fiub"


def as_features(value: Any) -> np.ndarray:
    """Features as an array of the shape that they have: float32, or the 16-bit type that they are of.

    Args:
        value: an array, or lists of numbers as tables have them.

    Raises:
        ExampleError: `bad_features` if they are no numbers or of no shape, `not_finite` for NaN and infinity, also for
            what is infinite in float32.
    """
    try:
        features = np.asarray(value)
    except ValueError as error:
        raise ExampleError("bad_features", f"features are of no shape ({error})") from error
    is_number = features.dtype.kind in _NUMBERS or features.dtype.name.startswith(("bfloat", "float8"))
    if not is_number or features.size == 0:
        raise ExampleError("bad_features", f"features are an array of numbers, not {features.dtype} {features.shape}")
    if features.dtype.name not in ARRAY_DTYPES or not features.dtype.isnative:
        with np.errstate(over="ignore"):
            features = features.astype(np.float32)
    if not np.isfinite(features).all():
        bad = int(np.size(features) - np.isfinite(features).sum())
        raise ExampleError("not_finite", f"{bad} of {features.size} features are NaN or infinite")
    return features


def as_label(value: Any, allowed: Sequence[int] | None = None) -> int:
    """A class as a number of 32 bits.

    Args:
        value: a whole number, of whatever type.
        allowed: the only ones that there may be.

    Raises:
        ExampleError: `bad_label`.
    """
    plain: Any = value.item() if isinstance(value, np.ndarray | np.generic) and np.ndim(value) == 0 else value
    is_whole = isinstance(plain, int) or (isinstance(plain, float) and math.isfinite(plain) and plain == int(plain))
    if not is_whole or not _LABELS.min <= plain <= _LABELS.max:
        raise ExampleError("bad_label", f"label is {plain!r:.80}; a label is a whole number of 32 bits")
    if allowed is not None and int(plain) not in allowed:
        raise ExampleError("bad_label", f"label is {plain!r}; it must be {' or '.join(map(str, allowed))}")
    return int(plain)


def with_features(example: Mapping[str, Any]) -> dict[str, Any]:
    """The example with its features as an array and its label as a number; as it is, if it has no features.

    Raises ExampleError: `bad_features`, `not_finite`, `bad_label`.
    """
    if example.get(FEATURES) is None:
        return dict(example)
    return {**example, FEATURES: as_features(example[FEATURES]), LABEL: as_label(example.get(LABEL))}
