"""Which frames of a video to prepare: those that the stages of training can ask for (Molmo2 §4.2, §4.3)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from grain_molmo.errors import ExampleError, RowError
from grain_molmo.store import MediaRef
from grain_molmo.vision.frames import FrameSampling, clip_window, sample_times

# Frames of a video at most, and frames a second, in the stages sft and long_context.
STAGE_FRAMES = (128, 384)
STAGE_FPS = 2.0


def frame_windows(
    video: MediaRef, requests: Sequence[Mapping[str, Any]], clip: Sequence[float] | None
) -> list[tuple[float, np.ndarray]]:
    """(start of the clip, [F] float64 times in it), seconds, of every request that the stages can make.

    Args:
        video: the video.
        requests: sampler overrides that an example may bring, {} for none.
        clip: start and end of the part to show, seconds, or None for all of it.

    Raises:
        RowError: the clip or an override makes no sense for this video.
    """
    if video.video is None:
        raise RowError("not_a_video", f"media {video.sha256} have no duration")
    try:
        start_s, duration_s = clip_window(video.video.duration_s, *(clip or (None, None)))
        samplings = [
            FrameSampling(max_frames=frames, max_fps=STAGE_FPS).overridden(overrides)
            for overrides in requests
            for frames in STAGE_FRAMES
        ]
        times = [sample_times(duration_s, sampling) for sampling in samplings]
    except ExampleError as error:
        raise RowError(error.reason, error.detail) from error
    # Requests of short videos are the same; the order is fixed, so that equal requests are prepared to equal bytes.
    distinct = {one.tobytes(): one for one in times}
    return [(start_s, distinct[key]) for key in distinct]
