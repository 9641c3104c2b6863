"""Masks as run lengths, the uncompressed form of COCO: small enough for an annotation, readable by other tools."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def encode_mask(mask_HW: np.ndarray) -> dict[str, Any]:
    """`size` (height, width) and `counts`, the lengths of runs of 0 and 1 in turn, column after column, 0 first.

    >>> encode_mask(np.array([[0, 1], [1, 1]]))
    {'size': [2, 2], 'counts': [1, 3]}
    """
    flat = np.asarray(mask_HW, dtype=bool).ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    starts = [0] if flat.size and flat[0] else []  # an empty run of 0
    edges = np.concatenate([np.array([0, *starts], dtype=np.int64), changes, [flat.size]])
    return {"size": [int(side) for side in mask_HW.shape], "counts": np.diff(edges).tolist()}


def decode_mask(encoded: Mapping[str, Any]) -> np.ndarray:
    """[H, W] bool mask of its run lengths. Raises ValueError if they do not fill it."""
    counts = np.asarray(encoded["counts"], dtype=np.int64)
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    height, width = encoded["size"]
    return flat.reshape((height, width), order="F")
