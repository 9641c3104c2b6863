"""The media of an example, as values that people have at hand, as bytes that the store keeps."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from grain_molmo.datasets.example_record import IMAGE, IMAGES, TEXT, VIDEO
from grain_molmo.errors import ExampleError, GrainMolmoError, MediaError
from grain_molmo.store import MediaRef, Medium, VideoFacts, content_key
from grain_molmo.vision.chosen import Frames
from grain_molmo.vision.image import probe_image
from grain_molmo.vision.lazy import LazyImage, LazyVideo
from grain_molmo.vision.pictures import picture_pixels, picture_size_hw
from grain_molmo.vision.video import probe_video

_PNG_EFFORT = 3  # of 9: half a percent larger than the default, in a third of the time


def example_media(example: Mapping[str, Any]) -> tuple[str, list[Medium]]:
    """What an example shows ("image", "images", "video" or ""), and its media in order.

    Pictures and videos from files or bytes are kept as they are; arrays and PIL images become PNGs of their pixels.

    Raises:
        ExampleError: `bad_image`, `bad_video`, `mixed_media`.
    """
    image, video = example.get("image"), example.get("video")
    if image is not None and video is not None:
        raise ExampleError("mixed_media", "an example has pictures or a video, not both")
    if video is not None:
        return VIDEO, _video(video)
    if isinstance(image, Frames):  # which of them are shown, the annotation says
        return VIDEO, _video(image.video)
    if image is None:
        return TEXT, []
    if isinstance(image, list | tuple):
        return IMAGES, [_picture(one, f"image[{i}]") for i, one in enumerate(image)]
    return IMAGE, [_picture(image, "image")]


def _picture(value: Any, where: str) -> Medium:
    try:
        if isinstance(value, LazyImage):
            return Medium(value.ref, value.encoded)
        data = _encoded(value) if _is_encoded(value) else _png(value)
        info = probe_image(data)
    except (GrainMolmoError, OSError, ValueError, TypeError) as error:
        raise ExampleError("bad_image", f"{where} ({_named(value)}): {error}") from error
    return Medium(MediaRef(content_key(data), "image", info.width, info.height, len(data)), lambda: data)


def _video(value: Any) -> list[Medium]:
    if isinstance(value, LazyVideo):
        frames = [Medium(value.frames_ref, value.encoded_frames)] if value.frames_ref is not None else []
        return [Medium(value.ref, value.encoded), *frames]
    try:
        if isinstance(value, np.ndarray):
            raise MediaError(
                "bad_array", "frames in an array cannot be stored as a video; give a file, or a list as image"
            )
        data = _encoded(value)
        info = probe_video(data)
    except (GrainMolmoError, OSError, ValueError, TypeError) as error:
        raise ExampleError("bad_video", f"video ({_named(value)}): {error}") from error
    facts = VideoFacts(info.duration_s, info.num_frames, info.fps)
    return [Medium(MediaRef(content_key(data), "video", info.width, info.height, len(data), facts), lambda: data)]


def _is_encoded(value: Any) -> bool:
    return isinstance(value, bytes | str | os.PathLike | Mapping) or hasattr(value, "encoded")


def _encoded(value: Any) -> bytes:
    """The bytes of a file that a value is, names, or can tell: also `{"bytes": ..., "path": ...}` of `datasets`."""
    if isinstance(value, Mapping):
        inner = value.get("bytes") if value.get("bytes") is not None else value.get("path")
        if not isinstance(inner, bytes | str):
            raise TypeError(f"a dict of media has bytes or a path, not {', '.join(map(str, value)) or 'nothing'}")
        value = inner
    if isinstance(value, bytes):
        return value
    if isinstance(value, str | os.PathLike):
        return Path(value).read_bytes()
    if hasattr(value, "encoded"):
        return value.encoded()
    raise TypeError("it must be the path or the bytes of a file, or a stored one")


def _png(picture: Any) -> bytes:
    picture_size_hw(picture)  # says what a picture may be
    pixels_HW3 = picture_pixels(picture)
    done, data = cv2.imencode(
        ".png", cv2.cvtColor(pixels_HW3, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, _PNG_EFFORT]
    )
    if not done:
        raise MediaError("unreadable", f"pixels of {pixels_HW3.shape} cannot be written as PNG")
    return data.tobytes()


def _named(value: Any) -> str:
    return str(value) if isinstance(value, str | os.PathLike) else type(value).__name__
