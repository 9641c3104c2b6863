"""Whether an example's media decode, and to the sizes that they are planned with."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from grain_molmo.testing.form import Problem, pictures_of
from grain_molmo.vision.pictures import picture_pixels, picture_size_hw
from grain_molmo.vision.videos import Video, as_video

_MEND = "mend or leave out the file; a loader leaves its place blank"
_ALMOST_THE_END = 0.99


def media_problems(example: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with the example's pixels. Decodes every picture, and the first and a late frame of a video."""
    for place, picture in pictures_of(example):
        said_hw = picture_size_hw(picture)
        try:
            decoded_hw = picture_pixels(picture).shape[:2]
        except Exception as error:  # of an object of the user's own, anything
            yield Problem("media", place, f"it does not decode ({error})", _MEND)
            continue
        if decoded_hw != said_hw:
            yield _other_size(place, said_hw, decoded_hw)
    if example.get("video") is not None:
        metadata = example.get("metadata")
        fps = metadata.get("video_fps") if isinstance(metadata, Mapping) else None
        yield from _video_problems(as_video(example["video"], timestamps=example.get("timestamps"), fps=fps))


def _video_problems(video: Video) -> Iterator[Problem]:
    if not (video.duration_s > 0 and video.num_frames > 0):
        what = f"it has {video.num_frames} frames in {video.duration_s:g} s"
        yield Problem("media", "video", what, "say its true duration_s and num_frames")
        return
    try:
        frames_FHW3 = video.decode(np.array([0.0, video.duration_s * _ALMOST_THE_END]))
    except Exception as error:
        yield Problem("media", "video", f"it does not decode ({error})", _MEND)
        return
    if (decoded_hw := frames_FHW3.shape[1:3]) != (video.height, video.width):
        yield _other_size("video", (video.height, video.width), decoded_hw)


def _other_size(place: str, said_hw: tuple[int, ...], decoded_hw: tuple[int, ...]) -> Problem:
    what = f"it says [H, W] = {[*said_hw]}, and decodes to {[*decoded_hw]}"
    return Problem("media", place, what, "its `shape` must be that of its upright pixels; rows are planned by it")
