"""Tiny videos for the tests of the converters."""

import functools
from fractions import Fraction
from pathlib import Path

import numpy as np

from converters.sample.clips import ClipFormat, encode_clip

SIZE = (48, 32)  # width, height


@functools.cache
def clip(number: int = 0, seconds: float = 2.0, fps: int = 4) -> bytes:
    """A video that differs from those of other numbers: grey that gets brighter."""
    width, height = SIZE

    def draw(time_s: float) -> np.ndarray:
        frame = np.full((height, width, 3), min(255, int(20 + 200 * time_s / seconds)), np.uint8)
        frame[: 4 + number % 20, :8] = 255
        return frame

    return encode_clip(ClipFormat(width=width, height=height, fps=Fraction(fps), seconds=seconds), draw)


def put(path: Path, data: bytes | None = None) -> Path:
    """Writes a video, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(clip() if data is None else data)
    return path
