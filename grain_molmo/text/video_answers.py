"""Pointing and counting in videos (Molmo2 §2.7)."""

from grain_molmo.errors import ExampleError
from grain_molmo.text.fields import Message, label_of, list_of, point_groups, size_of, style_of, text_of
from grain_molmo.text.image_answers import whole_count
from grain_molmo.text.points import NOTHING, plain_answer, plain_count, plain_points, video_points
from grain_molmo.text.scene import Scene, Task
from grain_molmo.text.templates_captions import for_video
from grain_molmo.text.templates_pointing import COUNT, COUNT_THEN_POINT, POINT_COUNT, POINTING
from grain_molmo.text.times import parse_media_time, time_string

TEMPLATES = {
    "video_point": for_video(POINTING),
    "video_point_count": for_video(POINT_COUNT),
    "video_count": for_video(COUNT),
    "video_count_point": for_video(COUNT_THEN_POINT),
}
_MODES = {
    "video_point": "point",
    "video_point_count": "point_count",
    "video_count": "count",
    "video_count_point": "count_point",
}

PERCENT = 100
APOLOGY = "I'm sorry, I cannot tell where {label} is in this video."
"""For what nobody could answer, where the dataset does not say why."""


def video_point_task(message: Message, scene: Scene) -> Task:
    """A message of a style in `TEMPLATES`.

    It has `question` or `label`; `timestamps` in seconds from the clip's start and for each of them `points` in percent
    of the frame; `count` where there are no points; `unanswerable` and `explanation` where nobody could point.
    """
    label = label_of(message)
    question = text_of(message, "question") if "question" in message else None
    answer = _answer(message, label, scene) if scene.answered else ""
    templates = TEMPLATES[style_of(message)]
    return Task(answer=answer, subject=label, templates=templates, words={"label": label}, question=question)


def _answer(message: Message, label: str, scene: Scene) -> str:
    mode = _MODES[style_of(message)]
    if message.get("unanswerable", False):
        return text_of(message, "explanation") if "explanation" in message else APOLOGY.format(label=label)
    count = whole_count(message) if "count" in message else None
    if count == 0:
        return plain_answer(NOTHING, 0, mode) if scene.is_plain else NOTHING
    if mode == "count" and count is not None:
        return plain_count(count) if scene.is_plain else str(count)
    times, points = _timed_points(message)
    scale = message.get("point_scale", PERCENT)
    if not scene.is_plain:
        return video_points(times, points, scale, label, mode)
    lines = _plain_lines(times, points, scale, scene.pixel_size(size_of(message))) if mode != "count" else []
    return plain_answer("\n".join(lines) or NOTHING, sum(map(len, points)), mode)


def _timed_points(message: Message) -> tuple[list[float], list[list]]:
    if "points" not in message:
        raise ExampleError("no_points", f"style {style_of(message)!r} needs points, or a count of 0")
    points = point_groups(message)
    times = [parse_media_time(time) for time in list_of(message, "timestamps", "bad_time")]
    if len(times) != len(points):
        raise ExampleError("bad_points", f"{len(times)} timestamps, points of {len(points)} frames")
    return times, points


def _plain_lines(times: list[float], points: list[list], scale: float, size: tuple[int, int]) -> list[str]:
    return [
        plain_points(group, scale, size, prefix=f"Time: {time_string(time)} ")
        for time, group in zip(times, points, strict=True)
        if group
    ]
