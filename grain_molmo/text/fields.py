"""The fields of a message, checked as they are read."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from grain_molmo.errors import ExampleError
from grain_molmo.text.styles import canonical_style

Message = Mapping[str, Any]


def present(message: Message) -> Message:
    """The message without the fields that are None, as tables fill them in."""
    if not isinstance(message, Mapping):
        raise ExampleError("bad_text", f"a message is {type(message).__name__}, not a dict")
    return {key: value for key, value in message.items() if value is not None}


def style_of(message: Message) -> str:
    """The canonical style, "" without one."""
    style = message.get("style") or ""
    if not isinstance(style, str):
        raise ExampleError("bad_text", f"style must be text, not {type(style).__name__}")
    return canonical_style(style)


def text_of(message: Message, key: str) -> str:
    """The text in a field; `bad_text` if there is none."""
    text = message.get(key)
    if not isinstance(text, str):
        raise ExampleError("bad_text", f"{key} must be text, not {type(text).__name__}")
    return text


def list_of(message: Message, key: str, reason: str) -> list[Any]:
    """The entries of a list, tuple or array; `reason` if the field holds anything else."""
    value = message.get(key)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if not isinstance(value, list | tuple):
        raise ExampleError(reason, f"{key} must be a list, not {type(value).__name__}")
    return list(value)


def point_groups(message: Message) -> list[list[Any]]:
    """The field `points` as a list for each picture or frame, empty where it is None; `bad_points` if it is none."""
    groups = list_of(message, "points", "bad_points")
    return [[] if group is None else list_of({"points": group}, "points", "bad_points") for group in groups]


def label_of(message: Message, *, lowered: bool = False) -> str:
    """What is pointed at: `label` (lower-cased if wanted), `label_cased`, or else the question itself."""
    if "label" in message:
        label = text_of(message, "label")
        return label.lower() if lowered else label
    for key in ("label_cased", "question"):
        if key in message:
            return text_of(message, key)
    raise ExampleError(
        "no_label", "points and counts need a label, which says of what (or a label_cased, or a question)"
    )


def size_of(message: Message) -> tuple[int, int] | None:
    """Width and height, where the message has them."""
    for width, height in (("width", "height"), ("w", "h")):
        if width in message and height in message:
            return message[width], message[height]
    return None
