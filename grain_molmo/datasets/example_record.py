"""Examples as annotation records and back: the one form of what `write_dataset` and the plain sources store.

The annotation of a record is `{"example": fields, "shows": "image" | "images" | "video", "features": array}`, the last
two absent where there are none. The fields are those of the example without its media, which the record refers to. Of a
video that is shown in chosen `Frames` it has their times, `"times_s"`. JSON has no tuples and no arrays, so both come
back as lists; dicts with keys other than text come back as they were.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from grain_molmo.datasets.labelled import FEATURES
from grain_molmo.errors import ExampleError
from grain_molmo.vision.chosen import Frames

IMAGE, IMAGES, VIDEO, TEXT = "image", "images", "video", ""
"""What an example shows: one picture, a list of pictures, a video, or nothing."""

FORM = "examples"
"""What the manifest's `source` says under "form" of splits whose records have this form."""

_MEDIA_FIELDS = ("image", "video")
_ITEMS = "@items"  # {"@items": [[key, value], ...]} stands for a dict that JSON cannot write


def to_annotation(example: Mapping[str, Any], shows: str) -> dict[str, Any]:
    """The annotation of an example whose media are stored apart.

    Args:
        example: its fields; `image` and `video` are passed over, an array `features` is stored as one.
        shows: "image", "images", "video" or "".

    Raises:
        ExampleError: `not_storable`, naming the field whose value JSON cannot hold.

    >>> to_annotation({"image": ..., "caption": "Red.", "metadata": {(0, 1.5): np.float32(2)}}, "image")
    {'example': {'caption': 'Red.', 'metadata': {'@items': [[[0, 1.5], 2.0]]}}, 'shows': 'image'}
    """
    arrays = {FEATURES: example[FEATURES]} if isinstance(example.get(FEATURES), np.ndarray) else {}
    apart = (*_MEDIA_FIELDS, *arrays)
    fields = {name: _field_to_json(value, name) for name, value in example.items() if name not in apart}
    annotation = {"example": fields, **({"shows": shows} if shows else {}), **arrays}
    chosen = example.get("image")
    return {**annotation, "times_s": chosen.timestamps.tolist()} if isinstance(chosen, Frames) else annotation


def _field_to_json(value: Any, name: Any) -> Any:
    if not isinstance(name, str):
        raise ExampleError("not_storable", f"the field {name!r} has no text for a name")
    try:
        return _to_json(value, name)
    except RecursionError as error:
        raise ExampleError("not_storable", f"{name} is nested too deep") from error


def to_example(annotation: Mapping[str, Any], images: Sequence[Any], videos: Sequence[Any]) -> dict[str, Any]:
    """The example of an annotation, with the media of its record put back, and features as float32.

    Raises KeyError if it is none.
    """
    shows = annotation.get("shows", TEXT)
    media: dict[str, Any] = {}
    if "times_s" in annotation:
        media["image"] = Frames(videos[0], annotation["times_s"])
    elif shows == VIDEO:
        media["video"] = videos[0]
    elif shows:
        media["image"] = images[0] if shows == IMAGE else list(images)
    if FEATURES in annotation:
        media[FEATURES] = annotation[FEATURES].astype(np.float32)
    return {**media, **{name: _from_json(value) for name, value in annotation["example"].items()}}


def _to_json(value: Any, where: str) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, str) and not value.isascii():
        _require_unicode(value, where)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not np.isfinite(value):
            raise ExampleError("not_storable", f"{where} is {value}; numbers are finite, or None where unknown")
        return float(value)
    if isinstance(value, list | tuple):
        return [_to_json(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value) and _ITEMS not in value:
            return {key: _to_json(item, f"{where}.{key}") for key, item in value.items()}
        pairs = [
            [_to_json(key, f"a key of {where}"), _to_json(item, f"{where}[{key!r}]")] for key, item in value.items()
        ]
        return {_ITEMS: pairs}
    raise ExampleError(
        "not_storable",
        f"{where} is {type(value).__name__}; a field holds text, numbers, arrays, lists and dicts of them, or None "
        "(media go into image or video)",
    )


def _require_unicode(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:  # half of a pair of surrogates, of which no tokenizer makes tokens
        raise ExampleError("not_storable", f"{where} is no Unicode text ({error.reason})") from error


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {_ITEMS}:
            return {_hashable(_from_json(key)): _from_json(item) for key, item in value[_ITEMS]}
        return {key: _from_json(item) for key, item in value.items()}
    return value


def _hashable(key: Any) -> Any:
    return tuple(map(_hashable, key)) if isinstance(key, list) else key
