"""Pointing and counting in one picture (Molmo2 §2.6)."""

from numbers import Integral

from grain_molmo.errors import ExampleError
from grain_molmo.text.fields import Message, label_of, size_of, style_of, text_of
from grain_molmo.text.points import NOTHING, Scale, image_points, plain_answer, plain_count, plain_points
from grain_molmo.text.scene import Scene, Task
from grain_molmo.text.templates_pointing import COUNT, POINT_COUNT, POINTING

TEMPLATES = {
    "pointing": POINTING,
    "cosyn_point": POINTING,
    "point_count": POINT_COUNT,
    "point_then_count": POINT_COUNT,
    "count": COUNT,
}


def image_task(message: Message, scene: Scene) -> Task:
    """A message of a style in `TEMPLATES`: `question` or `label`, and `points` or, for "count", `count`."""
    label = label_of(message, lowered=True)
    question = text_of(message, "question") if "question" in message else None
    answer = _answer(message, label, scene) if scene.answered else ""
    templates = TEMPLATES[style_of(message)]
    return Task(answer=answer, subject=label, templates=templates, words={"label": label}, question=question)


def whole_count(message: Message) -> int:
    """The field `count`; `bad_count` if it is no whole number."""
    count = message["count"]
    if not isinstance(count, Integral) or isinstance(count, bool) or count < 0:
        raise ExampleError("bad_count", f"count must be a whole number, not {count!r}")
    return int(count)


def _answer(message: Message, label: str, scene: Scene) -> str:
    """`clip_points` needs no code: points outside the picture always move to its edge (see `points`)."""
    style = style_of(message)
    points = message.get("points")
    if style == "count" and "count" in message:
        n = whole_count(message)
        return plain_count(n) if scene.is_plain else str(n) if n else NOTHING
    if points is None or (len(points) == 0 and style not in ("pointing", "point_count")):
        raise ExampleError("no_points", f"style {style!r} needs points")
    scale = points_scale(message, scene.image_size)
    if scene.is_plain:
        lines = "" if style == "count" else plain_points(points, scale, scene.pixel_size(size_of(message)))
        return plain_answer(lines, len(points), style)
    return image_points(points, scale, label, "point" if style == "cosyn_point" else style)


def points_scale(message: Message, image_size: tuple[int, int] | None) -> Scale:
    """What the points are measured against: `point_scale`, the message's own picture, its size fields, the picture.

    Raises ExampleError: `no_scale`.
    """
    if "point_scale" in message:
        return message["point_scale"]
    sizes = (image_size if "image" in message else None, size_of(message), image_size)
    scale = next((size for size in sizes if size is not None), None)
    if scale is None:
        raise ExampleError("no_scale", "points need point_scale, width and height, or a picture to be measured against")
    return scale
