"""Points that do not lie in what they were measured against: in writing they would be moved to its edge."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from grain_molmo.errors import ExampleError
from grain_molmo.text import image_answers, multi_image_answers, track_answers, video_answers
from grain_molmo.text.fields import Message, present, size_of, style_of
from grain_molmo.text.points import Scale

_ROUNDING = 1e-6  # of the side: what a division and a product leave of a coordinate on the very edge


class Outside(NamedTuple):
    """A point outside.

    Attributes:
        place: in the message, such as "points[3]".
        xy: the point.
        scale: (width, height) that it was measured against.
    """

    place: str
    xy: tuple[float, float]
    scale: tuple[float, float]

    def __str__(self) -> str:
        (x, y), (width, height) = self.xy, self.scale
        return f"({x:g}, {y:g}) is outside of {width:g} x {height:g}"


def points_outside(message: Message, sizes: Sequence[tuple[int, int]]) -> Iterator[Outside]:
    """The points of a message outside of what they are measured against, if its answer is made of points.

    What encoding refuses is passed over here: points that are no numbers, or measured against nothing.

    Args:
        message: as `format_example` takes it, of any style.
        sizes: (width, height) of the pictures or the video, as far as they are known, pixels.
    """
    message = present(message)
    scale = _pair(_measure(message, sizes[0] if sizes else None))
    if scale is None:
        return
    for place, (x, y) in _points("points", message.get("points")):
        slack_x, slack_y = (_ROUNDING * side for side in scale)
        if not (-slack_x <= x <= scale[0] + slack_x and -slack_y <= y <= scale[1] + slack_y):
            yield Outside(place, (x, y), scale)


def _measure(message: Message, first_size: tuple[int, int] | None) -> Scale | None:
    """What the points are measured against; None if the answer is made of none, or if nothing says it."""
    if "messages" in message or "multi_turn_messages" in message:
        return None
    style = style_of(message)
    if style in image_answers.TEMPLATES and not (style == "count" and "count" in message):
        try:
            return image_answers.points_scale(message, first_size)
        except ExampleError:
            return None
    if style in video_answers.TEMPLATES and not (style == "video_count" and "count" in message):
        return message.get("point_scale", video_answers.PERCENT)
    if style in multi_image_answers.TEMPLATES:
        return message.get("point_scale")
    return (size_of(message) or first_size) if style in track_answers.STYLES else None


def _pair(scale: Any) -> tuple[float, float] | None:
    try:
        width, height = (scale, scale) if isinstance(scale, int | float) else scale
        return float(width), float(height)
    except (TypeError, ValueError):
        return None


def _points(place: str, value: Any) -> Iterator[tuple[str, tuple[float, float]]]:
    """Every pair of numbers in lists of any depth, and in the frames of tracks, but for what is hidden there."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(value, dict):
        inner = value["points"].items() if isinstance(value.get("points"), dict) else ()
        for key, entry in inner:
            if isinstance(entry, dict) and not entry.get("occluded"):
                yield from _points(f"{place}.points[{key!r}].point", entry.get("point"))
    elif isinstance(value, list | tuple):
        if len(value) == 2 and all(isinstance(number, int | float | np.number) for number in value):
            yield place, (float(value[0]), float(value[1]))
            return
        for i, one in enumerate(value):
            yield from _points(f"{place}[{i}]", one)
