"""Stored pictures and videos that know their facts, and decode when asked for pixels."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from grain_molmo.errors import MediaError, StoreError
from grain_molmo.store import MediaRef, MediaStore, VideoFacts
from grain_molmo.vision.image import decode_image
from grain_molmo.vision.prepared import PreparedFrames
from grain_molmo.vision.video import render_frames
from grain_molmo.vision.videos import as_video, default_times, stack_frames

logger = logging.getLogger(__name__)

__all__ = ["LazyImage", "LazyVideo", "as_video"]


class LazyImage:
    """Stands for an [H, W, 3] uint8 RGB array; `np.asarray(image)` decodes it.

    Args:
        ref: what the annotation knows of the picture.
        store: where its bytes are.

    Attributes:
        ref: the same; its size is known without opening the picture.
    """

    __slots__ = ("_store", "ref")

    def __init__(self, ref: MediaRef, store: MediaStore):
        self.ref = ref
        self._store = store

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, 3), upright."""
        return self.ref.height, self.ref.width, 3

    @property
    def dtype(self) -> np.dtype:
        """uint8."""
        return np.dtype(np.uint8)

    def encoded(self) -> bytes:
        """The original file's bytes."""
        return self._store.read(self.ref.sha256)

    def decode(self) -> np.ndarray:
        """[H, W, 3] uint8. Raises MediaError if the bytes do not decode to the size that the store promised."""
        image_HW3 = decode_image(self.encoded())
        if image_HW3.shape != self.shape:
            raise MediaError("other_size", f"media {self.ref.sha256} is {image_HW3.shape}, stored as {self.shape}")
        return image_HW3

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a stored picture cannot be an array without decoding it")
        return np.asarray(self.decode(), dtype=dtype)

    def __repr__(self) -> str:
        return f"LazyImage({self.ref.width}x{self.ref.height}, {self.ref.sha256[:12]})"


class LazyVideo:
    """Stands for a stored video, and for the frames of it that were prepared at conversion, if any.

    Args:
        ref: what the annotation knows of the video.
        store: where its bytes are.
        frames_ref: the same of the prepared frames, or None.

    Attributes:
        ref, frames_ref: the same; size and duration are known without opening the video.

    Raises:
        ValueError: `ref` is of a picture.
    """

    __slots__ = ("_store", "frames_ref", "ref")

    def __init__(self, ref: MediaRef, store: MediaStore, frames_ref: MediaRef | None = None):
        if ref.video is None:
            raise ValueError(f"media {ref.sha256} are of kind {ref.kind}, without the facts of a video")
        self.ref = ref
        self.frames_ref = frames_ref
        self._store = store

    @property
    def width(self) -> int:
        """As shown upright, pixels."""
        return self.ref.width

    @property
    def height(self) -> int:
        """As shown upright, pixels."""
        return self.ref.height

    @property
    def duration_s(self) -> float:
        """From the beginning of the first frame to the end of the last, seconds."""
        return self._facts.duration_s

    @property
    def num_frames(self) -> int:
        """Frames that it holds."""
        return self._facts.num_frames

    @property
    def fps(self) -> float:
        """Frames per second, on average."""
        return self._facts.fps

    @property
    def _facts(self) -> VideoFacts:
        assert self.ref.video is not None
        return self.ref.video

    def encoded(self) -> bytes:
        """The original file's bytes."""
        return self._store.read(self.ref.sha256)

    def encoded_frames(self) -> bytes:
        """The prepared frames as stored. Raises ValueError if there are none."""
        if self.frames_ref is None:
            raise ValueError(f"{self!r} has no prepared frames")
        return self._store.read(self.frames_ref.sha256)

    def decode(self, times_s: Sequence[float] | np.ndarray | None = None, clip_start_s: float = 0.0) -> np.ndarray:
        """[F, H, W, 3] uint8 RGB of the original at its own size.

        Args:
            times_s: [F] float64, seconds from `clip_start_s`; default two a second, at most 16.
            clip_start_s: seconds from the video's first frame.

        Raises:
            MediaError: the video does not decode.
        """
        if times_s is None:
            times_s = default_times(self.duration_s - clip_start_s)
        return stack_frames(self.encoded(), times_s, clip_start_s, (self.height, self.width))

    def render(self, times_s: Sequence[float] | np.ndarray, out_FPD: np.ndarray, clip_start_s: float = 0.0) -> str:
        """Writes patches of the prepared frames where those are the very frames asked for: "prepared", else "original".

        Prepared frames that are damaged or missing are reported, and the original shown instead.

        Args:
            times_s: [F] float64, seconds from `clip_start_s`.
            out_FPD: [F, 729, 588] uint8, a crop of 378 x 378 for each frame; written to.
            clip_start_s: seconds from the video's first frame.

        Raises:
            MediaError: the original does not decode.
        """
        try:
            if self._render_prepared(times_s, out_FPD, clip_start_s):
                return "prepared"
        except (MediaError, StoreError) as error:
            logger.warning("%r: its prepared frames cannot be used, so the original is decoded: %s", self, error)
        render_frames(self.encoded(), times_s, out_FPD, clip_start_s)
        return "original"

    def _render_prepared(self, times_s: Sequence[float] | np.ndarray, out_FPD: np.ndarray, clip_start_s: float) -> bool:
        """Whether the prepared frames hold all that are asked for; if so, `out_FPD` shows them."""
        if self.frames_ref is None:
            return False
        prepared = PreparedFrames(self.encoded_frames())
        if not prepared.covers(times_s, clip_start_s):
            return False
        prepared.render(times_s, out_FPD, clip_start_s)
        return True

    def __repr__(self) -> str:
        return f"LazyVideo({self.width}x{self.height}, {self.duration_s:.1f} s, {self.ref.sha256[:12]})"
