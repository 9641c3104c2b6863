"""The published pipeline's resize: bilinear, half-pixel centres, no antialiasing, half to even (Molmo2 §3.2)."""

import math
import threading
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

_NOT_QUITE = 1 + 2**-40
"""OpenCV replaces an integer bilinear resize to exactly half by an average that rounds half up. A scale that is off by
less than float32 can tell escapes that, and moves no sample."""

_IPP_PIXELS = range(378 * 378 + 1, 2**22)
"""Source sizes that OpenCV's IPP code (x86 only) may resize, in half the time. Its float32 coordinates are coarser: up
to 1 value in 1000 of a photo is off by one step, but more in enlarged pixel art and in huge scans. Those take the plain
code, which costs little there and is off in a few values in a million."""

_KEPT_VALUES = 2**23
"""Size of the largest buffer that a thread keeps: 16 MB, enough for a picture of 2.8 megapixels."""


class _Scratch(threading.local):
    """Two buffers that a thread uses for picture after picture: to touch fresh memory costs as much as a resize."""

    def __init__(self):
        self.buffers: dict[str, np.ndarray] = {}

    def array(self, name: str, shape: tuple[int, int, int]) -> np.ndarray:
        """A uint16 array of any content; the next call with this name may return the same memory."""
        size = math.prod(shape)
        if size > _KEPT_VALUES:  # a rare giant must not hold its memory for good
            return np.empty(shape, np.uint16)
        buffer = self.buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self.buffers[name] = np.empty(size, np.uint16)
        return buffer[:size].reshape(shape)


_scratch = _Scratch()


def resize_bilinear(image_HW3: np.ndarray, height: int, width: int) -> np.ndarray:
    """[height, width, 3] uint8: the picture resized, aspect ratio not kept (Molmo2 §3.2).

    Agrees with the published resize within 1, and exactly on all but 1 in 1000 values of a photo at most.

    Args:
        image_HW3: [H, W, 3] uint8.
        height: rows to resize to, pixels.
        width: columns to resize to, pixels.
    """
    (resized_HW3,) = resize_in_turn(image_HW3, [(height, width)])
    return resized_HW3.astype(np.uint8)


def resize_in_turn(image_HW3: np.ndarray, sizes_hw: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
    """The values of `resize_bilinear` for several sizes (height, width), cheaper than one by one.

    Each array is uint8 or uint16, and valid until the next one is asked for or the thread resizes another picture.
    """
    own_hw = image_HW3.shape[:2]
    wide_HW3 = None
    for size_hw in sizes_hw:
        if size_hw == own_hw:
            yield image_HW3
            continue
        if wide_HW3 is None:
            # OpenCV weighs uint8 in coarse fixed point (one value in eight is off), but uint16 in float32, and then
            # rounds to nearest even: what the rule asks, in half the memory and time of going through float32.
            wide_HW3 = _scratch.array("source", image_HW3.shape)
            np.copyto(wide_HW3, image_HW3)
        yield _resize_wide(wide_HW3, *size_hw)


def _resize_wide(wide_HW3: np.ndarray, height: int, width: int) -> np.ndarray:
    own_height, own_width = wide_HW3.shape[:2]
    uses_ipp = cv2.ipp.useIPP()  # each thread has its own switch
    try:
        cv2.ipp.setUseIPP(uses_ipp and own_height * own_width in _IPP_PIXELS)
        # By factors and not by size: the published pipeline rounds the scale to float32, which far from the corner
        # moves the sampled points by more than the rounding of anything else.
        return cv2.resize(
            wide_HW3,
            None,
            dst=_scratch.array("result", (height, width, 3)),
            fx=_NOT_QUITE / float(np.float32(own_width) / np.float32(width)),
            fy=_NOT_QUITE / float(np.float32(own_height) / np.float32(height)),
            interpolation=cv2.INTER_LINEAR,
        )
    finally:
        cv2.ipp.setUseIPP(uses_ipp)


def use_one_opencv_thread() -> None:
    """Keep OpenCV to the thread that calls it, in the whole process: for programs that render many pictures at once."""
    cv2.setNumThreads(1)
