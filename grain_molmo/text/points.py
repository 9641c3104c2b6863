"""Points and tracks as the markup that models write, and back (Molmo2 §2.6-2.9).

Coordinates are whole thousandths of the picture's width and height, printed with at least three digits. Points of one
picture or frame are sorted after rounding, x first; their numbers run on across pictures and frames. Coordinates
outside the picture are moved to its edge (the published code leaves some outside, Molmo2 §11).

`scale` is the (width, height) that coordinates are measured against: the picture's size for pixels, 100 for percent.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grain_molmo.errors import ConfigError, ExampleError
from grain_molmo.text.times import time_string

Point = Sequence[float]
"""x and y, in units of the scale that goes with it."""
Scale = float | Sequence[float]
"""The (width, height) at which a coordinate reaches the far edge, or one number for both."""

NOTHING = "There are none."

_TEMPLATES = {
    "point": "{tag}",
    "pointing": "{tag}",
    "point_count": "Counting the {tag} shows a total of {n}.",
    "point_then_count": "Counting the {tag} shows a total of {n}.",
    "count_point": "There are {n} {tag}.",
    "count_then_point": "There are {n} {tag}.",
    "count": "{n}",
}


def image_points(
    points: Sequence[Point], scale: Scale, label: str, mode: str | None = None, *, alt: str | None = None
) -> str:
    """The answer that points at things in one picture.

    Args:
        points: x, y pairs.
        scale: what the coordinates are measured against.
        label: what is pointed at, written inside the tag as it is.
        mode: "point", "point_count", "count_point", "count", the spellings "pointing", "point_then_count" and
            "count_then_point", or None for the bare tag.
        alt: text for the tag's `alt` attribute, for points inside running text.

    Raises:
        ExampleError: a coordinate that is no finite number, or not pairs.

    >>> image_points([(50, 25.55), (12.34, 3)], 100, "dogs", "pointing")
    '<points coords="1 1 123 030 2 500 256">dogs</points>'
    """
    return multi_image_points([1], [points], scale, label, mode, alt=alt)


def multi_image_points(
    images: Sequence[int],
    points: Sequence[Sequence[Point]],
    scale: Scale,
    label: str,
    mode: str | None = None,
    *,
    separator: str = ";",
    alt: str | None = None,
) -> str:
    """The answer that points at things in several pictures: `images` are their 1-based numbers, in order of mention.

    `points[i]` belongs to `images[i]`; `separator` stands between pictures; the rest is as in `image_points`.
    """
    return _points_answer([str(image) for image in images], points, scale, label, mode, separator, alt)


def video_points(
    timestamps: Sequence[float],
    points: Sequence[Sequence[Point]],
    scale: Scale,
    label: str,
    mode: str | None = None,
    *,
    separator: str = ";",
) -> str:
    """The answer that points at things in a video: `points[i]` are seen at `timestamps[i]`, in seconds.

    Frames stay in the order given; the rest is as in `image_points`.
    """
    return _points_answer([time_string(t) for t in timestamps], points, scale, label, mode, separator)


def tracks(frames: Sequence[Mapping[str, Any]], scale: Scale, label: str, *, separator: str = ";") -> str:
    """The answer that follows objects through a video (Molmo2 §2.8).

    Objects are numbered in order of first appearance and keep their number; occluded points are left out, and so are
    frames that show none.

    Args:
        frames: `{"time": seconds, "points": {object id: {"point": (x, y), "occluded": bool}}}` each, in any order.
        scale: what the coordinates are measured against.
        label: what is followed.
        separator: stands between frames.

    Returns:
        The tag; "There are none." for no frames; "" where frames show nothing, which callers leave out.
    """
    if not frames:
        return NOTHING
    groups = []
    for time, points in _numbered_frames(frames, scale):
        entries = zip(points, per_mille(points.values(), scale), strict=True)
        groups.append(_group(time_string(time), [(number, x, y) for number, (x, y) in entries]))
    return f'<tracks coords="{separator.join(groups)}">{label}</tracks>' if groups else ""


def _numbered_frames(frames: Sequence[Mapping[str, Any]], scale: Scale) -> Iterator[tuple[float, dict[int, Point]]]:
    """By time, each frame's visible points by object number; frames without any are left out."""
    numbers: dict[Any, int] = {}
    for frame in sorted(frames, key=lambda frame: frame["time"]):
        visible = {key: entry["point"] for key, entry in frame["points"].items() if not entry.get("occluded", False)}
        places = dict(zip(visible, per_mille(visible.values(), scale), strict=True))
        for key in sorted(visible, key=places.__getitem__):
            numbers.setdefault(key, len(numbers) + 1)
        if visible:
            yield frame["time"], dict(sorted((numbers[key], point) for key, point in visible.items()))


def per_mille(points: Iterable[Point], scale: Scale) -> list[tuple[int, int]]:
    """Whole thousandths of the scale, half to even, moved into 0..1000, in the order given.

    >>> per_mille([(25.55, 120)], 100)
    [(256, 1000)]
    """
    return _on_grid(points, scale, (1000, 1000))


def plain_points(points: Sequence[Point], scale: Scale, image_size: tuple[int, int], *, prefix: str = "") -> str:
    """The points as "Point: x=245 y=378", one a line in the order given, in pixels of a (width, height) picture."""
    width, height = image_size
    pixels = _on_grid(points, scale, image_size)
    lines = [f"{prefix}Point: x={min(x, width - 1)} y={min(y, height - 1)}" for x, y in pixels]
    return "\n".join(lines) or NOTHING


def plain_tracks(frames: Sequence[Mapping[str, Any]], scale: Scale, image_size: tuple[int, int]) -> str:
    """The answer of `tracks` as lines like "Time: 0.5 Object: 1 Point: x=245 y=378", in pixels."""
    if not frames:
        return NOTHING
    return "\n".join(
        plain_points([point], scale, image_size, prefix=f"Time: {time_string(time)} Object: {number} ")
        for time, points in _numbered_frames(frames, scale)
        for number, point in points.items()
    )


def plain_answer(lines: str, n: int, mode: str) -> str:
    """Plain points with their number before, behind, alone or not at all, as the mode wants (see `image_points`)."""
    if mode == "count":
        return plain_count(n)
    if mode in ("point_count", "point_then_count"):
        return f"{lines}\n{plain_count(n)}"
    return f"{plain_count(n)}\n{lines}" if mode in ("count_point", "count_then_point") else lines


def plain_count(n: int) -> str:
    """The count as "Count: 3"."""
    return f"Count: {n}"


@dataclass(frozen=True)
class ParsedPoint:
    """A point read from markup.

    Attributes:
        frame: the picture's number, from 1, or the frame's time in seconds.
        object_id: the object's number.
        x, y: from the upper left corner, in the units that were asked for.
    """

    frame: float
    object_id: int
    x: float
    y: float


@dataclass(frozen=True)
class PointTag:
    """A tag read from markup: "points" or "tracks", what it names, and its points."""

    kind: str
    label: str
    points: tuple[ParsedPoint, ...]


_TAG = re.compile(r'<(points|tracks)\b[^<>]*? coords="([0-9\t:;,. ]*)"')
_LABEL = re.compile(r"[^<>]*>([^<]*)")
_GROUP = re.compile(r"[\t:,;]")
_TRIPLE = re.compile(r"(?<![0-9])([0-9]{1,9}) ([0-9]{3,4}) ([0-9]{3,4})(?= |$)")


def parse_points(text: str, scale: Scale = 1.0) -> list[ParsedPoint]:
    """The points of every `<points>` and `<tracks>` tag in `text`, in its order, in units of `scale` (Molmo2 §2.9).

    What is not well formed is passed over, since a model may have written it: points outside the picture, and a second
    point with the same number in a frame.

    >>> parse_points('<points coords="1 1 123 030 2 500 256">dogs</points>', 100)[1]
    ParsedPoint(frame=1.0, object_id=2, x=50.0, y=25.6)
    """
    return [point for tag in parse_tags(text, scale) for point in tag.points]


def parse_tags(text: str, scale: Scale = 1.0) -> list[PointTag]:
    """The `<points>` and `<tracks>` tags in `text`, in its order, as `parse_points` reads them, with what they name.

    >>> parse_tags('Here: <points coords="1 1 500 030">dogs</points>')[0].label
    'dogs'
    """
    width, height = _scale_pair(scale)
    tags = []
    for tag in _TAG.finditer(text):
        points = tuple(
            ParsedPoint(frame, number, x * width / 1000, y * height / 1000)
            for group in _GROUP.split(tag[2])
            for frame, number, x, y in _parse_group(group)
        )
        label = _LABEL.match(text, tag.end())
        tags.append(PointTag(tag[1], label[1] if label else "", points))
    return tags


def _parse_group(group: str) -> list[tuple[float, int, int, int]]:
    head, _, rest = group.strip().partition(" ")
    try:
        frame = float(head)
    except ValueError:
        return []
    if not math.isfinite(frame):  # so many digits
        return []
    found: dict[int, tuple[float, int, int, int]] = {}
    for triple in _TRIPLE.finditer(rest):
        number, x, y = map(int, triple.groups())
        if x <= 1000 and y <= 1000:
            found.setdefault(number, (frame, number, x, y))
    return list(found.values())


def _points_answer(
    names: Sequence[str],
    points: Sequence[Sequence[Point]],
    scale: Scale,
    label: str,
    mode: str | None,
    separator: str,
    alt: str | None = None,
) -> str:
    groups, n = [], 0
    for name, group in zip(names, points, strict=True):
        rounded = sorted(per_mille(group, scale))
        if rounded:  # the published code leaves a dangling name for an empty frame, which nothing can parse
            groups.append(_group(name, [(n + i, x, y) for i, (x, y) in enumerate(rounded, start=1)]))
        n += len(rounded)
    if mode is not None and mode not in _TEMPLATES:
        raise ConfigError(f"point mode {mode!r}: must be one of {', '.join(_TEMPLATES)}")
    if n == 0:
        return NOTHING
    alt_attribute = "" if alt is None else f' alt="{alt}"'
    tag = f'<points{alt_attribute} coords="{separator.join(groups)}">{label}</points>'
    return _TEMPLATES[mode or "point"].format(tag=tag, n=n)


def _group(name: str, entries: Iterable[tuple[int, int, int]]) -> str:
    return name + "".join(f" {number} {x:03d} {y:03d}" for number, x, y in entries)


def _on_grid(points: Iterable[Point], scale: Scale, steps: tuple[int, int]) -> list[tuple[int, int]]:
    """Nearest of `steps` equal steps along each side. Dividing first is part of the rule: it decides the halves."""
    (width, height), (columns, rows) = _scale_pair(scale), steps
    try:
        return [
            (
                min(max(round(columns * (float(x) / width)), 0), columns),
                min(max(round(rows * (float(y) / height)), 0), rows),
            )
            for x, y in points
        ]
    except (TypeError, ValueError, OverflowError) as error:
        raise ExampleError("bad_points", f"points must be pairs of finite numbers ({error})") from error


def _scale_pair(scale: Scale) -> tuple[float, float]:
    try:
        sides = (scale, scale) if isinstance(scale, int | float) else scale
        width, height = (float(side) for side in sides)
    except (TypeError, ValueError) as error:
        raise ExampleError("bad_points", f"points are measured against {scale!r}, no number or pair of them") from error
    if not (width > 0 and height > 0):
        raise ExampleError("bad_points", f"points are measured against {width} x {height}; both must be above 0")
    return width, height
