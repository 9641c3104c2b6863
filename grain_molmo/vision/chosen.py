"""Frames of a video that a dataset chose itself: which are shown is settled, decoding waits."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, overload

import numpy as np

from grain_molmo.errors import ExampleError
from grain_molmo.vision.frames import FrameSampling, sample_times
from grain_molmo.vision.videos import Video, as_video

_TIMES_S = Sequence[float] | np.ndarray


class Frames(Sequence[np.ndarray]):
    """Some frames of a video in order of time, each [H, W, 3] uint8 RGB; decoded whenever one asks for them.

    As `image` (or `video`) of an example it is a video that is shown in these frames, and in fewer of them, evenly
    spaced, where the stage or the row has no room for all. A list of their arrays would be as many pictures.

    Also a `Video`, whose `num_frames` are those chosen, and whose duration is that of the whole video.

    Args:
        video: the whole video.
        timestamps: [F] instants, seconds from the video's first frame, ascending.
    """

    def __init__(self, video: Video, timestamps: _TIMES_S):
        self.video = video
        self.timestamps = np.asarray(timestamps, np.float64)

    def __len__(self) -> int:
        return len(self.timestamps)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> "Frames": ...

    def __getitem__(self, index: int | slice) -> "np.ndarray | Frames":
        if isinstance(index, slice):
            return Frames(self.video, self.timestamps[range(len(self))[index]])
        return self.video.decode(self.timestamps[[index]])[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.decode())  # together: one by one, each would be decoded from a key frame on

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("frames of a video cannot be an array without decoding them")
        return np.asarray(self.decode(), dtype=dtype)

    def __repr__(self) -> str:
        return f"Frames({len(self)} of {self.video!r})"

    @property
    def width(self) -> int:
        """As shown upright, pixels."""
        return self.video.width

    @property
    def height(self) -> int:
        """As shown upright, pixels."""
        return self.video.height

    @property
    def duration_s(self) -> float:
        """Of the whole video, seconds."""
        return self.video.duration_s

    @property
    def num_frames(self) -> int:
        """How many were chosen."""
        return len(self)

    @property
    def fps(self) -> float:
        """Of the whole video, frames per second."""
        return self.video.fps

    @property
    def in_memory(self) -> bool:
        """Whether the video itself is in memory, and not only where to find it."""
        return getattr(self.video, "in_memory", False)

    def decode(self, times_s: _TIMES_S | None = None, clip_start_s: float = 0.0) -> np.ndarray:
        """[F, H, W, 3] uint8 RGB: all of them, or those shown at other times.

        Args:
            times_s: [F] float64, seconds from `clip_start_s`; default those chosen.
            clip_start_s: seconds from the video's first frame.

        Raises:
            MediaError: the video does not decode.
        """
        return self.video.decode(self.timestamps if times_s is None else times_s, clip_start_s)

    def render(self, times_s: _TIMES_S, out_FPD: np.ndarray, clip_start_s: float = 0.0) -> str:
        """Writes the patches of the frames shown at the times; "prepared" or "original", what they were read from.

        Args:
            times_s: [F] float64, seconds from `clip_start_s`.
            out_FPD: [F, 729, 588] uint8, a crop of 378 x 378 for each frame; written to.
            clip_start_s: seconds from the video's first frame.

        Raises:
            MediaError: the video does not decode.
        """
        return self.video.render(times_s, out_FPD, clip_start_s)


def with_chosen_as_video(example: Mapping[str, Any]) -> Mapping[str, Any]:
    """The example with `Frames` that it gives as its `image` as its `video`, which they are; any other as it is."""
    if isinstance(example.get("image"), Frames) and example.get("video") is None:
        return {**example, "video": example["image"], "image": None}
    return example


def choose_frames(video: str | os.PathLike[str] | bytes | Video, max_frames: int, max_fps: float | None) -> Frames:
    """Frames evenly spaced from the first to the last, at most `max_frames` and at most `max_fps` a second.

    Raises:
        ExampleError: with reason "bad_video", if it does not open as a video.
        ConfigError: a number that makes no sense.
    """
    sampling = FrameSampling(max_frames=max_frames, max_fps=max_fps)
    opened = as_video(video)
    sampling = replace(sampling, max_frames=min(max_frames, max(1, opened.num_frames)))
    return Frames(opened, sample_times(opened.duration_s, sampling))


def shown_times(video: Video, clip_start_s: float, duration_s: float, sampling: FrameSampling) -> np.ndarray:
    """[F] float64: the instants of a clip to show, seconds from its start.

    Of `Frames`, those chosen that lie in the clip, at most `sampling.max_frames`; else see `sample_times`.

    Raises:
        ExampleError: "bad_clip" if none of the chosen frames lies in the clip, and as `sample_times`.
    """
    if not isinstance(video, Frames):
        return sample_times(duration_s, sampling)
    times_F = video.timestamps - clip_start_s
    times_F = times_F[(times_F >= 0) & (times_F <= duration_s)]
    if not len(times_F):
        problem = f"none of the {len(video)} chosen frames lies in the clip of {duration_s} s from {clip_start_s} s on"
        raise ExampleError("bad_clip", problem)
    return _evenly(times_F, sampling.max_frames)


def _evenly(times_F: np.ndarray, most: int) -> np.ndarray:
    """At most so many of them, the first and the last among these where there may be two."""
    if len(times_F) <= most:
        return times_F
    return times_F[np.arange(most) * (len(times_F) - 1) // max(1, most - 1)]
