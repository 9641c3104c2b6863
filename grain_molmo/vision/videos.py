"""What counts as a video in an example: a stored one, a file, its bytes, or frames with their times."""

import os
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from grain_molmo.errors import ExampleError, MediaError
from grain_molmo.store.reads import counted
from grain_molmo.vision.crops import render_frame
from grain_molmo.vision.frames import FrameSampling, sample_times
from grain_molmo.vision.resize import resize_bilinear
from grain_molmo.vision.video import decode_frames, probe_video, render_frames
from grain_molmo.vision.video_index import moments

_DEFAULT_SAMPLING = FrameSampling(max_frames=16)
"""What `decode` shows of a video if it is not told."""

_TIMES_S = Sequence[float] | np.ndarray


@runtime_checkable
class Video(Protocol):
    """A video as the loader uses it: facts without decoding, patches of the frames shown at given times."""

    @property
    def width(self) -> int:
        """As shown upright, pixels."""
        ...

    @property
    def height(self) -> int:
        """As shown upright, pixels."""
        ...

    @property
    def duration_s(self) -> float:
        """From the beginning of the first frame to the end of the last, seconds."""
        ...

    @property
    def num_frames(self) -> int:
        """Frames that it holds."""
        ...

    @property
    def fps(self) -> float:
        """Frames per second, on average."""
        ...

    def decode(self, times_s: _TIMES_S | None = None, clip_start_s: float = 0.0) -> np.ndarray:
        """[F, H, W, 3] uint8 RGB, upright: the frames shown at the times; by default 2 a second, at most 16.

        Args:
            times_s: [F] seconds from the start of the clip.
            clip_start_s: where the clip begins, seconds from the first frame.

        Raises:
            MediaError: the frames cannot be decoded.
        """
        ...

    def render(self, times_s: _TIMES_S, out_FPD: np.ndarray, clip_start_s: float = 0.0) -> str:
        """Write the patches of the frames shown at the times into `out_FPD`, [F, 729, 588] uint8 (Molmo2 §4.4).

        Returns what they were made from: "prepared" frames or the "original". Raises MediaError as `decode`.
        """
        ...


def as_video(value: Any, *, timestamps: Sequence[float] | np.ndarray | None = None, fps: float | None = None) -> Video:
    """The video that a value of an example stands for.

    Args:
        value: a `LazyVideo` (or anything else with its properties and methods) as it is; the path or the bytes of a
            file; or the frames, [F, H, W, 3] uint8 RGB.
        timestamps: of frames: [F] when each is first shown, seconds, ascending.
        fps: of frames: so many a second, evenly. With `timestamps` it says how long the last one lasts.

    Raises:
        ExampleError: with reason "bad_video", if it is nothing of these or the file does not open.
    """
    if isinstance(value, str | os.PathLike):
        return _opened(Path(value), str(value))
    if isinstance(value, bytes):
        return _opened(value, f"{len(value)} bytes")
    if isinstance(value, np.ndarray):
        if value.ndim != 4 or value.dtype != np.uint8 or 0 in value.shape or value.shape[3] != 3:
            raise ExampleError("bad_video", f"frames are uint8 [F, H, W, 3], not {value.dtype} of {value.shape}")
        return _FrameArray(value, *_clock(len(value), timestamps, fps))
    if isinstance(value, Video):
        return value
    raise ExampleError(
        "bad_video", f"video is {type(value).__name__}; it must be a LazyVideo, a path, bytes, or an array of frames"
    )


def default_times(duration_s: float) -> np.ndarray:
    """[F] seconds: the times that `decode` shows if it is not told, 2 a second but at most 16."""
    return sample_times(max(duration_s, 0.0), _DEFAULT_SAMPLING)


def stack_frames(data: bytes, times_s: _TIMES_S, clip_start_s: float, size_hw: tuple[int, int]) -> np.ndarray:
    """[F, H, W, 3] uint8 RGB: the frames shown at the times. One of another size, as some videos have, is resized."""
    frames_FHW3 = np.empty((len(times_s), *size_hw, 3), np.uint8)
    for places, frame_HW3 in decode_frames(data, times_s, clip_start_s):
        frames_FHW3[places] = resize_bilinear(frame_HW3, *size_hw)
    return frames_FHW3


class _EncodedVideo:
    """A video file that is read when it is needed, or its bytes."""

    def __init__(self, source: Path | bytes):
        self._source = source
        info = probe_video(self.encoded())
        self.width, self.height = info.width, info.height
        self.duration_s, self.num_frames, self.fps = info.duration_s, info.num_frames, info.fps

    @property
    def in_memory(self) -> bool:
        return isinstance(self._source, bytes)

    def encoded(self) -> bytes:
        return self._source if isinstance(self._source, bytes) else _read_file(self._source)

    def decode(self, times_s: _TIMES_S | None = None, clip_start_s: float = 0.0) -> np.ndarray:
        if times_s is None:
            times_s = default_times(self.duration_s - clip_start_s)
        return stack_frames(self.encoded(), times_s, clip_start_s, (self.height, self.width))

    def render(self, times_s: _TIMES_S, out_FPD: np.ndarray, clip_start_s: float = 0.0) -> str:
        render_frames(self.encoded(), times_s, out_FPD, clip_start_s)
        return "original"


def _opened(source: Path | bytes, what: str) -> _EncodedVideo:
    try:
        return _EncodedVideo(source)
    except MediaError as error:
        raise ExampleError("bad_video", f"{what}: {error}") from error


def _read_file(path: Path) -> bytes:
    """The file's bytes; that it is gone, or no file, is told of the medium as that it is broken would be."""
    try:
        return counted(path.read_bytes)
    except (OSError, ValueError) as error:  # ValueError: the name holds a null character
        raise MediaError("unreadable", str(error)) from error


class _FrameArray:
    """Frames in memory, [F, H, W, 3] uint8, shown from `starts_F` on, seconds; the last until `end_s`."""

    in_memory = True

    def __init__(self, frames_FHW3: np.ndarray, starts_F: np.ndarray, end_s: float):
        self._frames_FHW3, self._starts_F, self._end_s = frames_FHW3, starts_F, end_s
        self.num_frames, self.height, self.width = frames_FHW3.shape[:3]
        self.duration_s = end_s - float(starts_F[0])
        self.fps = self.num_frames / self.duration_s if self.duration_s > 0 else 0.0

    def decode(self, times_s: _TIMES_S | None = None, clip_start_s: float = 0.0) -> np.ndarray:
        if times_s is None:
            times_s = default_times(self.duration_s - clip_start_s)
        return self._frames_FHW3[self._places(times_s, clip_start_s)]

    def render(self, times_s: _TIMES_S, out_FPD: np.ndarray, clip_start_s: float = 0.0) -> str:
        for place, out_PD in zip(self._places(times_s, clip_start_s).tolist(), out_FPD, strict=True):
            render_frame(self._frames_FHW3[place], out_PD)
        return "original"

    def _places(self, times_s: _TIMES_S, clip_start_s: float) -> np.ndarray:
        asked_s = moments(times_s, clip_start_s, float(self._starts_F[0]), self._end_s)
        return np.searchsorted(self._starts_F, asked_s, side="right") - 1


def _clock(
    num_frames: int, timestamps: Sequence[float] | np.ndarray | None, fps: float | None
) -> tuple[np.ndarray, float]:
    """When each frame is first shown, and when the last one ends, seconds."""
    if fps is not None and not (isinstance(fps, Real) and np.isfinite(float(fps)) and fps > 0):
        raise ExampleError("bad_video", f"fps must be a positive number, not {fps!r}")
    if timestamps is None:
        if fps is None:
            raise ExampleError("bad_video", "an array of frames needs their timestamps or fps")
        return np.arange(num_frames) / fps, num_frames / fps
    try:
        starts_F = np.asarray(timestamps, np.float64)
    except (TypeError, ValueError) as error:
        raise ExampleError("bad_video", f"timestamps must be numbers: {error}") from error
    if starts_F.shape != (num_frames,) or not np.isfinite(starts_F).all() or (np.diff(starts_F) <= 0).any():
        raise ExampleError("bad_video", f"{num_frames} frames need as many ascending timestamps, not {timestamps!r}")
    # Without a rate, the last frame lasts as long as the others on average.
    gap_s = 1 / fps if fps is not None else float(np.diff(starts_F).mean()) if num_frames > 1 else 0.0
    return starts_F, float(starts_F[-1]) + gap_s
