"""Which instants of a video are shown: sampling of frames and clips, without decoding (Molmo2 §4.2, §4.3)."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np

from grain_molmo.errors import ConfigError, ExampleError

MODES = ("uniform_last_frame", "uniform", "fps")


@dataclass(frozen=True, kw_only=True)
class FrameSampling:
    """How many frames of a video are shown, and which.

    Attributes:
        max_frames: at most so many.
        max_fps: at most so many a second; None spreads `max_frames` over any video.
        mode: "uniform_last_frame" (a grid of `max_fps` and the last instant; of a longer video, evenly spaced and both
            ends), "uniform" (the same with the end left out) or "fps" (a grid of the highest of `candidate_fps` that
            still reaches the end; the first `max_frames` of the slowest, if none does).
        candidate_fps: rates for mode "fps", ascending.

    Raises:
        ConfigError: a value that makes no sense.
    """

    max_frames: int
    max_fps: float | None = 2.0
    mode: str = "uniform_last_frame"
    candidate_fps: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.max_frames < 1:
            raise ConfigError(f"max_frames must be at least 1, not {self.max_frames}")
        if self.max_fps is not None and not _is_rate(self.max_fps):
            raise ConfigError(f"max_fps must be a positive number or None, not {self.max_fps!r}")
        if self.mode not in MODES:
            raise ConfigError(f"mode must be one of {', '.join(MODES)}, not {self.mode!r}")
        rates = self.candidate_fps
        if not all(map(_is_rate, rates)) or any(low >= high for low, high in itertools.pairwise(rates)):
            raise ConfigError(f"candidate_fps must be ascending positive numbers, not {rates!r}")
        if self.mode == "fps" and not rates:
            raise ConfigError('mode "fps" needs candidate_fps')

    def overridden(self, overrides: Mapping[str, Any] | None) -> "FrameSampling":
        """The sampling that an example's `metadata["sampler_overrides"]` asks for.

        Of the overrides, `frame_sample_mode`, `candidate_sampling_fps` and `max_fps` count; others, as `min_fps`, are
        ignored as published.

        Raises:
            ExampleError: with reason "bad_sampling", if they make no sense.
        """
        if overrides is None:
            return self
        if not isinstance(overrides, Mapping):
            raise ExampleError("bad_sampling", f"sampler_overrides is {overrides!r:.80}, not a dict")
        try:
            fields: dict[str, Any] = {}
            if "frame_sample_mode" in overrides:
                fields["mode"] = overrides["frame_sample_mode"]
            if overrides.get("candidate_sampling_fps") is not None:
                fields["candidate_fps"] = tuple(sorted({float(fps) for fps in overrides["candidate_sampling_fps"]}))
            if "max_fps" in overrides:
                fields["max_fps"] = None if overrides["max_fps"] is None else float(overrides["max_fps"])
            return replace(self, **fields)
        except (OverflowError, TypeError, ValueError) as error:  # ConfigError is a ValueError
            raise ExampleError("bad_sampling", f"sampler_overrides {overrides!r}: {error}") from error


def sample_times(duration_s: float, sampling: FrameSampling) -> np.ndarray:
    """[F] float64: the instants to show, seconds from the start of the video or clip, ascending (Molmo2 §4.2).

    They are not rounded, and the last one may be the very end, at which the last frame is still shown.

    >>> sample_times(2.2, FrameSampling(max_frames=8)).tolist()
    [0.0, 0.5, 1.0, 1.5, 2.0, 2.2]

    Raises:
        ExampleError: with reason "bad_duration", if that is negative or no number.
    """
    if not math.isfinite(duration_s) or duration_s < 0:
        raise ExampleError("bad_duration", f"a video cannot last {duration_s} s")
    if sampling.mode == "fps":
        return _grid(duration_s, _reaching_fps(duration_s, sampling), sampling.max_frames)
    with_last = sampling.mode == "uniform_last_frame"
    max_fps, most = sampling.max_fps, sampling.max_frames
    if max_fps is None or (most - with_last) / max_fps < duration_s:
        return np.linspace(0.0, duration_s, most, endpoint=with_last)
    times_F = _grid(duration_s, max_fps, most)
    if with_last:
        return np.append(times_F[times_F < duration_s], duration_s)
    return times_F


def clip_window(
    duration_s: float, clip_start_s: float | None = None, clip_end_s: float | None = None
) -> tuple[float, float]:
    """(start, duration) in seconds of the part of a video that an example shows (Molmo2 §4.3).

    Args:
        duration_s: of the whole video.
        clip_start_s: where the part begins; None shows the whole video, whatever the end says.
        clip_end_s: where it ends; None or an end beyond the video's is the video's end.

    Raises:
        ExampleError: with reason "bad_clip", if the part is empty or lies outside the video, or is not said in numbers.
    """
    if clip_start_s is None:
        return 0.0, duration_s
    end_s = duration_s if clip_end_s is None else clip_end_s
    if not (isinstance(clip_start_s, Real) and isinstance(end_s, Real)):
        raise ExampleError("bad_clip", f"from {clip_start_s!r:.80} to {clip_end_s!r:.80}; both must be seconds")
    if not 0 <= clip_start_s < min(end_s, duration_s):  # false for NaN, too
        raise ExampleError("bad_clip", f"from {clip_start_s} s to {clip_end_s} s in a video of {duration_s} s")
    return clip_start_s, min(end_s, duration_s) - clip_start_s


def _grid(duration_s: float, fps: float, most: int) -> np.ndarray:
    """The first `most` of 0, 1 / fps, 2 / fps, ... before the end; the start alone of a video without duration."""
    times_F = np.arange(most) / fps
    return times_F[: max(1, int(np.searchsorted(times_F, duration_s, side="left")))]


def _reaching_fps(duration_s: float, sampling: FrameSampling) -> float:
    """The highest rate at which the frames reach the end, all lower ones doing so too; else the lowest."""
    lowest, *higher = sampling.candidate_fps
    for fps in higher:
        if sampling.max_frames / fps < duration_s:
            break
        lowest = fps
    return lowest


def _is_rate(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value) and float(value) > 0
