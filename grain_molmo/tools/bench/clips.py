"""Clips to measure video with: textured things move over a textured ground, so that codecs work as hard as usual."""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from converters.sample.clips import ClipFormat, encode_clip

Draw = Callable[[float], np.ndarray]

_THINGS = 6


def cached_clip(clip: ClipFormat, folder: Path) -> bytes:
    """The bytes of the clip, made at the first time that it is asked for and kept in the folder."""
    digest = hashlib.sha256(repr(clip).encode()).hexdigest()[:16]
    path = folder / f"{clip.codec}-{clip.width}x{clip.height}-{digest}.{clip.container}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        temporary.write_bytes(encode_clip(clip, textured_scene(clip.height, clip.width)))
        temporary.rename(path)
    return path.read_bytes()


def textured_scene(height: int, width: int) -> Draw:
    """Draws [height, width, 3] uint8 pictures of any time: a camera that pans, things that turn and travel."""
    ground_HW3 = _texture(2 * height, 2 * width, seed=0)
    side = max(16, min(height, width) // 3)
    things = [_texture(side, side, seed) for seed in range(1, _THINGS + 1)]
    alpha = np.zeros((side, side), np.uint8)
    cv2.circle(alpha, (side // 2, side // 2), side // 2 - 2, 255, -1)

    def draw(time_s: float) -> np.ndarray:
        top, left = (
            int((0.5 + 0.5 * np.sin(time_s * rate)) * extent) for rate, extent in ((0.11, height), (0.07, width))
        )
        picture_HW3 = ground_HW3[top : top + height, left : left + width].copy()
        for number, thing_HW3 in enumerate(things):
            angle, phase = 40 * time_s * (-1) ** number, time_s * (0.3 + 0.1 * number) + number
            move = cv2.getRotationMatrix2D((side / 2, side / 2), angle, 1.0)
            move[:, 2] += (
                (0.5 + 0.45 * np.cos(phase)) * width - side / 2,
                (0.5 + 0.45 * np.sin(1.3 * phase)) * height - side / 2,
            )
            mask_HW = cv2.warpAffine(alpha, move, (width, height))
            cv2.copyTo(cv2.warpAffine(thing_HW3, move, (width, height)), mask_HW, picture_HW3)
        return picture_HW3

    return draw


@cache
def _texture(height: int, width: int, seed: int) -> np.ndarray:
    """[height, width, 3] uint8: noise with detail at every scale, less the finer it is, as in a photo."""
    rng = np.random.default_rng(seed)
    total_HW3 = np.zeros((height, width, 3), np.float32)
    cells = 4
    while cells < max(height, width):
        shape = (max(2, cells * height // max(height, width)), max(2, cells * width // max(height, width)), 3)
        noise = rng.standard_normal(shape, np.float32) * cells**-0.7
        total_HW3 += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        cells *= 2
    spread = 127 / (3 * total_HW3.std())
    return np.clip(128 + total_HW3 * spread * 2, 0, 255).astype(np.uint8)
