"""What is drawn on pictures and frames: what answers point at, and the points, boxes and masks of an example."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from grain_molmo.datasets.base import metadata_of
from grain_molmo.errors import ConfigError
from grain_molmo.text.parse import read_points
from grain_molmo.text.points import PointTag, parse_tags
from grain_molmo.view.fields import text_of
from grain_molmo.view.model import Mark, Track

Size = tuple[int, int]
"""Width and height, pixels."""


@dataclass(frozen=True)
class Pointed:
    """A point that an answer gives.

    Attributes:
        frame: the picture's number, from 1, or the time in seconds.
        mark: where, and what.
        follows: whether it belongs to a track.
    """

    frame: float
    mark: Mark
    follows: bool = False


def pointed_at(text: str, group: int, sizes: Sequence[Size]) -> list[Pointed]:
    """What a conversation points at, as markup or as plain lines.

    Args:
        text: of the conversation.
        group: of the marks.
        sizes: (width, height) of the pictures, or of the video; plain lines are in their pixels.
    """
    return [
        Pointed(
            point.frame,
            Mark(x=point.x, y=point.y, label=tag.label, number=point.object_id, group=group),
            tag.kind == "tracks",
        )
        for tag in parse_tags(text) or _plain(text, sizes)
        for point in tag.points
    ]


def _plain(text: str, sizes: Sequence[Size]) -> list[PointTag]:
    if not sizes:
        return []
    try:
        points = read_points(text, sizes[0] if len(sizes) == 1 else list(sizes), (1, 1))
    except ConfigError:  # sizes that are none
        return []
    kind = "tracks" if len({point.object_id for point in points}) < len(points) else "points"
    return [PointTag(kind, "", tuple(points))]


def tracks_of(pointed: Sequence[Pointed]) -> tuple[Track, ...]:
    """The tracks among what a video's answers point at: the places of one thing in order of time."""
    places: dict[tuple[int, int, str], list[tuple[float, float, float]]] = {}
    for one in pointed:
        if one.follows:
            key = (one.mark.group, one.mark.number, one.mark.label)
            places.setdefault(key, []).append((one.frame, one.mark.x, one.mark.y))
    return tuple(
        Track(label, number, group, tuple(sorted(where)))
        for (group, number, label), where in places.items()
        if len(where) > 1
    )


def held_marks(example: Mapping[str, Any], size: Size, group: int) -> tuple[Mark, ...]:
    """Boxes and masks of an example's first picture, the latter by the box around them.

    `boxes` are [N, 4] (left, top, right, bottom) in pixels of the picture, or of a `box_scale` (100 for percent), with
    `box_labels` [N]; masks are those of the metadata, [H, W] bool.

    Args:
        example: as a dataset returns it.
        size: of the picture.
        group: of the marks.
    """
    return (*_boxes(example, size, group), *_masks(metadata_of(example).get("masks"), group))


def held_points(example: Mapping[str, Any], size: Size) -> tuple[Mark, ...]:
    """The field `points` of an example of one picture, for one whose answer says nothing of them.

    They are in pixels, or of a `point_scale`. Anything that is no list of pairs is left out.
    """
    width, height = _scale(example.get("point_scale"), size)
    names = example.get("object_names")
    names = names if isinstance(names, list | tuple) else []
    marks = []
    for number, point in enumerate(_rows(example.get("points"), 2)):
        label = names[number] if number < len(names) else example.get("label", "")
        marks.append(Mark(x=point[0] / width, y=point[1] / height, label=text_of(label), number=number + 1))
    return tuple(marks)


def _boxes(example: Mapping[str, Any], size: Size, group: int) -> list[Mark]:
    width, height = _scale(example.get("box_scale"), size)
    labels = example.get("box_labels")
    labels = labels if isinstance(labels, list | tuple) else []
    return [
        _box(left / width, top / height, right / width, bottom / height, number, group, labels)
        for number, (left, top, right, bottom) in enumerate(_rows(example.get("boxes"), 4))
    ]


def _masks(masks: Any, group: int) -> list[Mark]:
    marks = []
    for number, mask in enumerate(masks if isinstance(masks, list | tuple) else []):
        try:
            mask_HW = np.asarray(mask, dtype=bool)
        except Exception:  # rows of several lengths, or what is neither true nor false
            continue
        if mask_HW.ndim != 2 or not mask_HW.any():
            continue
        rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
        height, width = mask_HW.shape
        left, right = int(columns[0]) / width, (int(columns[-1]) + 1) / width
        top, bottom = int(rows[0]) / height, (int(rows[-1]) + 1) / height
        marks.append(_box(left, top, right, bottom, number, group, []))
    return marks


def _box(left: float, top: float, right: float, bottom: float, number: int, group: int, labels: Sequence[Any]) -> Mark:
    label = text_of(labels[number]) if number < len(labels) else ""
    extent = {"width": right - left, "height": bottom - top}
    return Mark(kind="box", x=left, y=top, **extent, label=label, number=number + 1, group=group)


def _scale(scale: Any, size: Size) -> tuple[float, float]:
    """The width and height that coordinates are measured against; the picture's if none is given or it is none."""
    try:
        width, height = (scale, scale) if isinstance(scale, int | float) else scale
        return (float(width), float(height)) if width > 0 and height > 0 else size
    except (TypeError, ValueError):
        return size


def _rows(value: Any, length: int) -> list[list[float]]:
    """Rows of so many finite numbers; nothing if the value is no such list, which another field's reader may say."""
    if isinstance(value, list | tuple):
        keys = ("x", "y") if length == 2 else ("left", "top", "right", "bottom")
        value = [[row.get(key) for key in keys] if isinstance(row, Mapping) else row for row in value]
    try:
        rows_NK = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return []
    return rows_NK.tolist() if rows_NK.ndim == 2 and rows_NK.shape[1] == length and np.isfinite(rows_NK).all() else []
