"""Conversations as other projects write them (LLaVA, ShareGPT, OpenAI, ...), as messages of ours."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from grain_molmo.errors import RowError

_ROLES = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "model", "chatgpt"), "assistant"),
    "system": "system",
}
_PLACEHOLDER = re.compile(r"[ \t]*<(image|video)>[ \t]*(?:\r?\n)?")
Message = dict[str, str]


def chat_messages(value: Any, num_images: int, num_videos: int) -> list[Message]:
    r"""The turns of a conversation, dicts with `role` and `content`.

    Turns are `{role, content}` or `{from, value}`, or there is a list of each, as tables may write lists of dicts. The
    content may be a list of parts, of which those of type "text" count. Media come before the text here, so `<image>`
    and `<video>` at the ends of a turn go; inside a sentence they become "image 2", or "the image" where there is but
    one.

    Args:
        value: the turns.
        num_images: pictures that the row has.
        num_videos: its videos.

    Raises:
        RowError: `bad_messages`, or `placeholder_mismatch` if the text speaks of more media than there are, or of some
            but not all.

    >>> chat_messages([{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}], 1, 0)
    [{'role': 'user', 'content': 'What?'}, {'role': 'assistant', 'content': 'A cat.'}]
    """
    if isinstance(value, Mapping) and all(isinstance(column, list) for column in value.values()):
        value = [dict(zip(value, turn, strict=False)) for turn in zip(*value.values(), strict=False)]
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not value:
        raise RowError("bad_messages", f"a conversation is a list of turns, not {type(value).__name__} {value!r:.80}")
    turns = [_turn(turn, i) for i, turn in enumerate(value)]
    seen = {"image": 0, "video": 0}
    messages = [{"role": role, "content": _without_placeholders(text, seen, num_images)} for role, text in turns]
    for kind, number in (("image", num_images), ("video", num_videos)):
        if seen[kind] not in (0, number):
            raise RowError("placeholder_mismatch", f"{seen[kind]} <{kind}> in the text, but the row has {number}")
    return messages


def _turn(turn: Any, number: int) -> tuple[str, str]:
    if not isinstance(turn, Mapping):
        raise RowError("bad_messages", f"turn {number} is {type(turn).__name__}, not a dict of role and content")
    name = next((turn[key] for key in ("role", "from") if turn.get(key) is not None), None)
    content = next((turn[key] for key in ("content", "value") if turn.get(key) is not None), None)
    role = _ROLES.get(name.lower()) if isinstance(name, str) else None
    if role is None:
        raise RowError("bad_messages", f"turn {number} is of {name!r}; known are {', '.join(_ROLES)}")
    if isinstance(content, list | tuple):
        content = "".join(_part(part, number) for part in content)
    if not isinstance(content, str):
        raise RowError("bad_messages", f"turn {number} has no text, but {type(content).__name__}")
    return role, content


def _part(part: Any, number: int) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping):
        if isinstance(part.get("text"), str):
            return part["text"]
        kind = str(part.get("type", "")).removesuffix("_url")
        if kind in ("image", "video"):
            return f"<{kind}>"
    raise RowError("bad_messages", f"turn {number} has a part that is neither text nor a picture: {part!r:.80}")


def _without_placeholders(text: str, seen: dict[str, int], num_images: int) -> str:
    """The text with words for media inside its sentences, and nothing for those at its ends; counts them all."""
    pieces: list[str] = []
    at = 0
    for match in _PLACEHOLDER.finditer(text):
        kind = match[1]
        seen[kind] += 1
        before, after = text[: match.start()], text[match.end() :]
        ends_line, starts_line = "\n" in match[0], before.endswith("\n")
        inside = _has_words(before) and _has_words(after) and not ends_line and not starts_line
        gap = "" if starts_line else "\n" if ends_line else " "
        pieces += [text[at : match.start()], f" {_name(kind, seen[kind], num_images)} " if inside else gap]
        at = match.end()
    return "".join([*pieces, text[at:]]).strip() if pieces else text


def _has_words(text: str) -> bool:
    return bool(_PLACEHOLDER.sub("", text).strip())


def _name(kind: str, number: int, num_images: int) -> str:
    return f"image {number}" if kind == "image" and num_images > 1 else f"the {kind}"
