"""What the model learns of an example that says it in fields of its own: the brief forms, as messages.

An example may hold a conversation (`messages`, `message_list`, ...), or the fields of one message, which
`format_example` takes as they are. Two things are left to say: what it is called where an example holds a caption, or
points that name no style, and whether all of it makes sense.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from grain_molmo.datasets.example_record import IMAGE, IMAGES, TEXT, VIDEO
from grain_molmo.datasets.field_names import misnamed
from grain_molmo.errors import ExampleError
from grain_molmo.text.fields import list_of
from grain_molmo.text.format import format_example
from grain_molmo.text.outside import Outside, points_outside
from grain_molmo.text.prompts import PROMPT_MODES
from grain_molmo.text.subtitles import subtitle_text

SHORT_CAPTION_CHARS = 200
"""Captions up to this long are asked for as short ones, where the example gives no style."""

_CONVERSATIONS = ("messages", "message_list", "multi_turn_messages", "questions")
_ALIKE = 0.7  # names of fields, of an example that is of no use as it is
_FORMS = "a caption, question and answer, points with a label, count with a label, messages, message_list or text"

INSIDE_CURE = "mend it, say its point_scale (100: percent), or give clip_points=True to have it moved to the edge"
"""What to do about a point outside of its picture."""

_LESSONS = (*_CONVERSATIONS, "question", "answer", "answers", "text", "points", "count")

Fields = dict[str, Any]


def with_lesson(example: Mapping[str, Any], shows: str) -> Fields:
    """The example with whatever it takes to ask and answer it; its own fields stay, those that are None are left out.

    The first that fits:

    - a conversation, or `questions` with `answers`: as it is.
    - `points`, of a `label` or `object_names` (one for each point): style "pointing", "point_count" with a `count`.
      A `query` asks for the points of one name; of several names, each is asked for by itself. Points are pairs or
      `{x, y}`, in pixels of the picture unless a `point_scale` says otherwise. In a video they come with `timestamps`.
    - `count` of a `label` or `object_name`: style "count".
    - `question` (or `query`) with `answer` (or `answers`, `time`): as it is.
    - `caption`: a long or short caption by its length; without a picture or video a text.

    A `style` that the example gives is kept.

    Args:
        example: as `Dataset.get` returns it, or without its media.
        shows: "image", "images", "video" or "".

    Raises:
        ExampleError: `bad_points` where points and their names are not as many.

    >>> with_lesson({"caption": "A dog."}, "image")
    {'caption': 'A dog.', 'style': 'short_caption', 'text': 'A dog.'}
    """
    fields = {name: value for name, value in example.items() if value is not None}
    if any(name in fields for name in _CONVERSATIONS):
        return fields
    for alias, name in (("query", "question"), ("object_name", "label")):
        if alias in fields and name not in fields:
            fields[name] = fields[alias]
    if "points" in fields and _is_pointed_at(fields):
        return _pointing(fields, shows)
    if "count" in fields and not ("answer" in fields or "answers" in fields):
        return _styled(fields, "video_count" if shows == VIDEO else "count")
    if "question" in fields and ("answer" in fields or "answers" in fields):
        return fields
    if "query" in fields and isinstance(fields.get("time"), str):
        return {**fields, "answer": fields["time"]}
    if "caption" in fields and "text" not in fields:
        return {**_styled(fields, _caption_style(fields["caption"], shows)), "text": fields["caption"]}
    return fields


def has_lesson(example: Mapping[str, Any]) -> bool:
    """Whether an example asks or tells something; labelled features may do neither."""
    return any(example.get(name) is not None for name in _LESSONS)


def shown_by(example: Mapping[str, Any]) -> str:
    """What an example shows, as `with_lesson` takes it."""
    if example.get("video") is not None:
        return VIDEO
    image = example.get("image")
    if image is None:
        return TEXT
    return IMAGES if isinstance(image, list | tuple) else IMAGE


def require_lesson(example: Mapping[str, Any], sizes: Sequence[tuple[int, int]]) -> None:
    """Raises ExampleError if an example cannot be asked and answered in some prompt mode, or its subtitle be read.

    Args:
        example: with its lesson.
        sizes: (width, height) of its pictures, or of its video, pixels.
    """
    try:
        for prompt_mode in PROMPT_MODES:
            _random.state.seed(0)
            format_example(example, _random.state, style_mode="no_style", prompt_mode=prompt_mode, image_sizes=sizes)
    except ExampleError as error:
        slips = _slips(example) if error.reason.startswith("no_") else ()
        raise ExampleError(error.reason, "; ".join((_in_full(error, example), *slips))) from error
    subtitle_text(example.get("subtitle") or "", ())


def _in_full(error: ExampleError, example: Mapping[str, Any]) -> str:
    """What is wrong; where nothing is said to learn, in the words of the brief forms."""
    if error.reason != "no_answer" or has_lesson(example):
        return error.detail
    return f"it says nothing to learn: it needs {_FORMS}; it has {', '.join(map(str, example)) or 'no field'}"


def _slips(example: Mapping[str, Any]) -> Iterator[str]:
    for name, near in misnamed(example, _ALIKE):
        yield f"nothing reads a field {name!r}; call it {near!r} if that is meant"


def unmeant_points(
    example: Mapping[str, Any], shows: str, sizes: Sequence[tuple[int, int]]
) -> Iterator[tuple[str, Outside]]:
    """(place, point) of the first in each message that lies outside of its picture, unless `clip_points` allows it.

    Args:
        example, shows: as `with_lesson` takes them.
        sizes: (width, height) of its pictures, or of its video, as far as they are known, pixels.

    Raises:
        ExampleError: as `with_lesson`.
    """
    for place, message in pointing_messages(example, shows):
        if not message.get("clip_points"):
            yield from ((place + one.place, one) for one in islice(points_outside(message, sizes), 1))


def require_points_inside(example: Mapping[str, Any], shows: str, sizes: Sequence[tuple[int, int]]) -> None:
    """Raises ExampleError, `points_outside`, for the first of `unmeant_points`."""
    for place, one in unmeant_points(example, shows, sizes):
        raise ExampleError("points_outside", f"{place} {one}; {INSIDE_CURE}")


def pointing_messages(example: Mapping[str, Any], shows: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place, message) of what may be answered with points in an example, as `with_lesson` takes it."""
    if not any(example.get(name) is not None for name in _CONVERSATIONS):
        yield "", with_lesson(example, shows)
    yield from _listed_messages(example)


def _listed_messages(message: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name in ("message_list", "multi_turn_messages"):
        listed = message.get(name)
        for i, one in enumerate(listed if isinstance(listed, list | tuple) else ()):
            if isinstance(one, Mapping):
                place = f"{within}{name}[{i}]."
                yield place, one
                yield from _listed_messages(one, place)


class _Random(threading.local):
    """A random state for each thread: to seed one again takes a hundredth of the time that it takes to make one."""

    def __init__(self) -> None:
        self.state = np.random.RandomState(0)


_random = _Random()


def _is_pointed_at(fields: Fields) -> bool:
    return not ("answer" in fields and "style" not in fields)  # points beside an answer in words are a remark


def _pointing(fields: Fields, shows: str) -> Fields:
    fields = _styled(fields, _pointing_style(fields, shows))
    points = _pairs(list_of(fields, "points", "bad_points"))
    if "object_names" not in fields or "label" in fields or "answer" in fields:
        return {**fields, "points": points}
    names = list_of(fields, "object_names", "bad_points")
    if len(names) != len(points):
        raise ExampleError("bad_points", f"{len(points)} points, {len(names)} object_names")
    measured = {name: fields[name] for name in ("point_scale", "clip_points") if name in fields}
    distinct = list(dict.fromkeys(names))
    if len(distinct) == 1:
        return {**fields, "points": points, "label": distinct[0]}
    branches = [
        {
            "style": fields["style"],
            "label": name,
            "points": [point for point, other in zip(points, names, strict=True) if other == name],
            **measured,
        }
        for name in distinct
    ]
    return {**fields, "points": points, "message_list": branches}


def _pairs(value: Any) -> Any:
    """Points as pairs, at any depth of lists; anything else as it is."""
    if isinstance(value, Mapping) and value.keys() >= {"x", "y"}:
        return [value["x"], value["y"]]
    return [_pairs(item) for item in value] if isinstance(value, list | tuple) else value


def _styled(fields: Fields, style: str) -> Fields:
    return fields if "style" in fields or not style else {**fields, "style": style}


def _caption_style(caption: Any, shows: str) -> str:
    if shows == TEXT:
        return ""
    length = "short" if isinstance(caption, str) and len(caption) <= SHORT_CAPTION_CHARS else "long"
    return f"video_{length}_caption" if shows == VIDEO else f"{length}_caption"


def _pointing_style(fields: Fields, shows: str) -> str:
    counts = "count" in fields
    if shows == VIDEO:
        return "video_point_count" if counts else "video_point"
    if shows == IMAGES and "labels" in fields:  # points of one label in a list of pictures speak of the first
        return "multi_image_point_then_count" if counts else "multi_image_pointing"
    return "point_count" if counts else "pointing"
