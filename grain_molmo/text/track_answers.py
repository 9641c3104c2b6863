"""Following objects through a video (Molmo2 §2.8).

Of the annotated frames, those are answered that the model is shown, and of these the ones on the grid of the rate that
the prompt asks for. Points are never interpolated, and annotated times are printed as they are.
"""

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from grain_molmo.errors import ExampleError
from grain_molmo.text.fields import Message, label_of, list_of, size_of, style_of
from grain_molmo.text.points import NOTHING, Point, per_mille, plain_points, plain_tracks, tracks, video_points
from grain_molmo.text.scene import Scene, Task
from grain_molmo.text.templates_pointing import DEFAULT_TRACK_FPS, GROUND, TRACK, TRACK_DEFAULT_FPS, TRACK_POINT
from grain_molmo.text.times import parse_media_time, time_string

PER_FRAME, GROUND_ENDS, SINGLE_POINT = (
    "video_point_track_per_frame",
    "video_point_ground_start_end",
    "video_single_point_track_per_frame",
)
STYLES = (PER_FRAME, GROUND_ENDS, SINGLE_POINT)

NO_TRACKS = "No tracks available."
TOLERANCE_S = 0.01
FIRST_POINT_PROBABILITY = 0.8
DEFAULT_FPS_PROBABILITY = 0.5

Size = tuple[int, int]


Frame = Mapping[str, Any]
"""`{"time": seconds, "points": {object: {"point": (x, y), "occluded": bool}}}`, in pixels."""


def track_task(message: Message, scene: Scene, rng: np.random.RandomState) -> Task:
    """A message of a style in `STYLES`: `label`, `sampling_fps`, `width`, `height`, and the frames in `points`.

    The frames are as in `Frame`, in any order; other fields are ignored, and so are points of occluded objects.
    Draws: for a single point which one, of two draws; for tracks at 2 fps whether the prompt leaves the rate out.
    """
    style = style_of(message)
    label, size = label_of(message), size_of(message) or scene.image_size
    if size is None:
        raise ExampleError("no_scale", "tracks are in pixels; they need width and height")
    annotated = _frames(message, size)
    shown = _shown(annotated, scene.frame_times)
    if style == GROUND_ENDS:
        answer = _answer(annotated, _first_and_last(shown), size, label, scene)
        return Task(answer=answer, subject=label, templates=GROUND, words={"label": label})
    fps = _fps(message)
    words = {"fps": f"{fps:g}"}
    if style == PER_FRAME:
        leave_out_fps = fps == DEFAULT_TRACK_FPS and rng.uniform() < DEFAULT_FPS_PROBABILITY
        templates = TRACK_DEFAULT_FPS if leave_out_fps else TRACK
        answer = _answer(annotated, _on_grid(shown, fps), size, label, scene)
        return Task(answer=answer, subject=label, templates=templates, words={**words, "label": label})
    time_s, key, point = _query(shown, annotated, scene.training, rng)
    later = [_only({key}, frame) for frame in _on_grid(shown, fps) if frame["time"] > time_s and key in frame["points"]]
    answer = _answer(annotated, later, size, label, scene)
    subject = _query_text(time_s, point, size, label, scene)
    return Task(answer=answer, subject=subject, templates=TRACK_POINT, words={**words, "input_points": subject})


def _frames(message: Message, size: Size) -> list[Frame]:
    """The annotated frames by time, checked."""
    frames = list_of(message, "points", "bad_tracks") if "points" in message else []
    return sorted((_frame(frame, size) for frame in frames), key=lambda frame: frame["time"])


def _frame(frame: Any, size: Size) -> Frame:
    if not isinstance(frame, Mapping) or not isinstance(frame.get("points"), Mapping):
        raise ExampleError("bad_tracks", f"a frame must be a dict with time and points by object, not {frame!r:.80}")
    for key, entry in frame["points"].items():
        if not isinstance(entry, Mapping) or "point" not in entry:
            raise ExampleError(
                "bad_tracks", f"object {key!r} must be a dict with point and occluded, not {entry!r:.80}"
            )
    checked = {"time": parse_media_time(frame.get("time")), "points": frame["points"]}
    per_mille([point for _, _, point in _visible([checked])], size)  # raises for what is no point
    return checked


def _only(objects: Set[Any], frame: Frame) -> Frame:
    return {"time": frame["time"], "points": {key: e for key, e in frame["points"].items() if key in objects}}


def _shown(frames: Sequence[Frame], frame_times: Sequence[float] | None) -> list[Frame]:
    """The frames within 0.01 s of one that the model is shown; all of them where that is not known."""
    if frame_times is None:
        return list(frames)
    times = np.asarray(frame_times, dtype=float)
    return [frame for frame in frames if np.any(np.abs(times - frame["time"]) <= TOLERANCE_S)]


def _on_grid(frames: Sequence[Frame], fps: float) -> list[Frame]:
    """The frames within 0.01 s of a multiple of 1 / fps."""
    return [frame for frame in frames if abs(math.remainder(frame["time"], 1 / fps)) <= TOLERANCE_S]


def _first_and_last(frames: Sequence[Frame]) -> list[Frame]:
    """Each object in its first and last annotated frame, whether it can be seen there or not."""
    ends: dict[Any, list[int]] = {}
    for i, frame in enumerate(frames):
        for key in frame["points"]:
            ends.setdefault(key, [i, i])[1] = i
    kept = (_only({key for key in frame["points"] if i in ends[key]}, frame) for i, frame in enumerate(frames))
    return [frame for frame in kept if frame["points"]]


def _query(
    shown: Sequence[Frame], annotated: Sequence[Frame], training: bool, rng: np.random.RandomState
) -> tuple[float, Any, Point]:
    """Time, object and place of the point that the prompt gives: the first visible one, in training at times another.

    Taken from all annotated frames if nothing can be seen in those that are shown.
    """
    candidates = _visible(shown) or _visible(annotated)
    if not candidates:
        raise ExampleError("no_points", "a track from a single point needs a visible point")
    if not training or rng.uniform() < FIRST_POINT_PROBABILITY:
        return candidates[0]
    return candidates[rng.randint(0, len(candidates))]


def _visible(frames: Sequence[Frame]) -> list[tuple[float, Any, Point]]:
    return [
        (frame["time"], key, entry["point"])
        for frame in frames
        for key, entry in frame["points"].items()
        if not entry.get("occluded", False)
    ]


def _query_text(time_s: float, point: Point, size: Size, label: str, scene: Scene) -> str:
    if not scene.is_plain:
        return video_points([time_s], [[point]], size, label)
    place = plain_points([point], size, scene.pixel_size(size), prefix=f"Time: {time_string(time_s)} ")
    return f"{label} ({place})"


def _answer(annotated: Sequence[Frame], frames: Sequence[Frame], size: Size, label: str, scene: Scene) -> str:
    """The track; "" if all is hidden, which leaves the example out (Molmo2 §11)."""
    if not annotated:
        return NOTHING
    if not frames:
        return NO_TRACKS
    if scene.is_plain:
        return plain_tracks(frames, size, scene.pixel_size(size))
    return tracks(frames, size, label)


def _fps(message: Message) -> float:
    fps = message.get("sampling_fps")
    if isinstance(fps, bool) or not isinstance(fps, int | float | np.number) or not 0 < fps < math.inf:
        raise ExampleError("bad_fps", f"sampling_fps must be a number above 0, not {fps!r}")
    return float(fps)
