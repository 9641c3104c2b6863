"""Whether an example has a form that the loader takes, beyond what fails when it is encoded."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from grain_molmo.datasets.field_names import misnamed
from grain_molmo.datasets.lessons import INSIDE_CURE, shown_by, unmeant_points
from grain_molmo.errors import ExampleError
from grain_molmo.vision.lazy import LazyImage, LazyVideo
from grain_molmo.vision.pictures import picture_size_hw
from grain_molmo.vision.videos import as_video

_PLAIN = "text, numbers, None, arrays, and lists and dicts of these"


class Problem(NamedTuple):
    """What is wrong with one example: which check, where in it, what, and what to do."""

    check: str
    field: str
    what: str
    cure: str


def form_problems(example: Any) -> Iterator[Problem]:
    """What is wrong with the example as a dict: its media by their kind, points, metadata. Decodes nothing."""
    if not isinstance(example, Mapping):
        returned = "None" if example is None else f"{_a(example)}"
        yield Problem("format", "", f"get returned {returned}", "return a dict, see grain_molmo.Dataset")
        return
    if odd := [key for key in example if not isinstance(key, str)]:
        yield Problem("format", "", f"{odd[0]!r} is the name of a field", "name fields by text")
    yield from _misnamed(example)
    if example.get("image") is not None and example.get("video") is not None:
        yield Problem("format", "image", "there is a video, too", "give pictures or a video, not both")
    else:
        yield from _media_problems(example)
        yield from _stray_media_problems(example)
        yield from _points_problems(example)
    yield from _metadata_problems(example)


def ends_with_user(example: Any) -> bool:
    """Whether the example is a prompt: a conversation that ends with what the user says."""
    messages = example.get("messages") if isinstance(example, Mapping) else None
    return isinstance(messages, list | tuple) and len(messages) % 2 == 1


def _misnamed(example: Mapping[Any, Any]) -> Iterator[Problem]:
    for name, near in misnamed(example):
        yield Problem("format", name, "nothing reads a field of this name", f"call it {near!r} if that is meant")


def pictures_of(example: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The example's pictures, each with its place."""
    image = example.get("image")
    if image is None:
        return []
    if isinstance(image, list | tuple):
        return [(f"image[{i}]", one) for i, one in enumerate(image)]
    return [("image", image)]


def _media_problems(example: Mapping[str, Any]) -> Iterator[Problem]:
    if isinstance(example.get("image"), list | tuple) and not example["image"]:
        yield Problem("format", "image", "it is an empty list", "leave it out if the example is text alone")
    for place, picture in pictures_of(example):
        yield from _picture_problems(place, picture)
    if example.get("video") is not None:
        metadata = example.get("metadata")
        fps = metadata.get("video_fps") if isinstance(metadata, Mapping) else None
        try:
            as_video(example["video"], timestamps=example.get("timestamps"), fps=fps)
        except ExampleError as error:
            cure = "give the path or the bytes of a file, or [F, H, W, 3] uint8 with metadata video_fps"
            yield Problem("format", "video", error.detail, cure)


def _stray_media_problems(example: Mapping[str, Any]) -> Iterator[Problem]:
    """Media of an example that shows none: under names that nobody reads."""
    if example.get("image") is not None or example.get("video") is not None:
        return
    for name, value in example.items():
        one = value[0] if isinstance(value, list | tuple) and value else value
        is_pixels = isinstance(one, np.ndarray) and one.dtype == np.uint8 and one.ndim in (3, 4)
        cure = "name pictures `image`, one or a list, and a video `video`"
        if name != "features" and (is_pixels or isinstance(one, Image.Image | LazyImage | LazyVideo)):
            yield Problem("format", str(name), "it is not shown", cure)


def _picture_problems(place: str, picture: Any) -> Iterator[Problem]:
    if isinstance(picture, str | bytes) or hasattr(picture, "__fspath__"):
        cure = "open it in get: np.array(Image.open(path).convert('RGB'))"
        yield Problem("format", place, f"it is {_a(picture)}, not pixels", cure)
        return
    try:
        picture_size_hw(picture)
    except ExampleError as error:
        cure = "give [H, W, 3] uint8 RGB, a PIL image or a list of them"
        yield Problem("format", place, error.detail, cure)
        return
    if not isinstance(picture, np.ndarray):
        return
    if picture.dtype != np.uint8:
        scale = "(image * 255).round().astype(np.uint8)" if picture.dtype.kind == "f" else "image.astype(np.uint8)"
        yield Problem("format", place, f"its pixels are {picture.dtype}", f"give uint8, 0 to 255: {scale}")
    if picture.ndim == 3 and picture.shape[2] not in (1, 3, 4):
        cure = "give [H, W, 3] RGB"
        if picture.shape[0] in (1, 3, 4):
            cure += ": image.transpose(1, 2, 0)"
        yield Problem("format", place, f"its shape is {picture.shape}", cure)


def _points_problems(example: Mapping[str, Any]) -> Iterator[Problem]:
    """The first point of each message outside of the picture: it would be moved to the edge, and nobody said so."""
    try:
        for place, one in unmeant_points(example, shown_by(example), _sizes(example)):
            yield Problem("format", place, str(one), INSIDE_CURE)
    except ExampleError:  # encoding tells
        return


def _sizes(example: Mapping[str, Any]) -> list[tuple[int, int]]:
    """(width, height) of the pictures or the video; none if one has no size, which is told of it."""
    try:
        if example.get("video") is not None:
            metadata = example.get("metadata")
            fps = metadata.get("video_fps") if isinstance(metadata, Mapping) else None
            video = as_video(example["video"], timestamps=example.get("timestamps"), fps=fps)
            return [(video.width, video.height)]
        sizes_hw = [picture_size_hw(picture) for _, picture in pictures_of(example)]
        return [(width, height) for height, width in sizes_hw]
    except ExampleError:
        return []


def _metadata_problems(example: Mapping[str, Any]) -> Iterator[Problem]:
    metadata = example.get("metadata")
    if metadata is None:
        return
    if not isinstance(metadata, Mapping):
        yield Problem("metadata", "metadata", f"it is {_a(metadata)}", "give a dict")
        return
    own = metadata.get("id")
    if isinstance(own, bool) or not isinstance(own, str | int | np.integer | None):
        yield Problem("metadata", "metadata.id", f"it is {own!r}", "give text or a whole number")
    for place, value in _odd_values("metadata", metadata):
        yield Problem("metadata", place, f"it is {_a(value)}", f"keep metadata to {_PLAIN}")


def _odd_values(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What a log or a file of predictions could not hold."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _odd_values(f"{place}.{key}", inner)
            if not isinstance(key, str):
                yield f"{place}, a key", key
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for i, inner in enumerate(value):
            yield from _odd_values(f"{place}[{i}]", inner)
    elif not (value is None or isinstance(value, str | bool | int | float | np.ndarray | np.generic)):
        yield place, value


def _a(value: Any) -> str:
    name = "PIL image" if isinstance(value, Image.Image) else type(value).__name__
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"
