"""What a dataset says about a picture, as the strings of conversations (Molmo2 §2).

`format_example` composes; the rooms it goes through are the prompt (`PROMPT_MODES`), the answer, the style's tag and
the chat markers. All randomness comes from the example's own random state, in the order in which Molmo2 §8.3 draws it.
A field that is None counts as absent, as in rows of a table.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from grain_molmo.errors import ConfigError, ExampleError
from grain_molmo.text.chat import chat_strings
from grain_molmo.text.points import NOTHING, image_points, plain_count, plain_points
from grain_molmo.text.styles import POINTING_STYLES, canonical_style, style_prefix

POINT_FORMATS = ("markup", "plain")
POINT_MARK = "<|POINT|>"
"""Where an inline point goes in an answer that comes with `answer_annotations`."""

Message = Mapping[str, Any]


def format_example(
    example: Mapping[str, Any],
    rng: np.random.RandomState,
    *,
    style_mode: str,
    prompt_mode: str,
    image_size: tuple[int, int] | None = None,
    point_format: str = "markup",
) -> list[str] | list[list[str]]:
    """The example's conversations as strings with chat markers, user and assistant in turn.

    Args:
        example: what `Dataset.get` returns. With `message_list` it becomes a message tree, a list of conversations in
            random order; otherwise it is itself one message and becomes one conversation. A message holds
            `messages` (strings in turn, or dicts with `role` and `content`), or `multi_turn_messages` (messages that
            become the turns of one conversation), or the fields of one question and answer: `style`, `prompt`,
            `question`, `label`, `answer`, `answers`, `text`, `points`, ... `questions` and `answers` of equal length
            are a message tree, too.
        rng: the example's random state.
        style_mode: how the style shows in the prompt, see `style_prefix`.
        prompt_mode: how a prompt is made from fields: "none" takes the fields as they are.
        image_size: (width, height) of the picture, for points in pixels.
        point_format: "markup" for `<points ...>`, "plain" for "Point: x=245 y=378".

    Raises:
        ExampleError: `no_answer`, `empty_answer`, `no_label`, `bad_text`, `bad_roles`, `bad_time`, `no_points`,
            `bad_points`, `bad_count`, `no_scale`.
        ConfigError: an unknown mode.
    """
    if prompt_mode not in PROMPT_MODES:
        raise ConfigError(f"prompt mode {prompt_mode!r}: must be one of {', '.join(PROMPT_MODES)}")
    if point_format not in POINT_FORMATS:
        raise ConfigError(f"point format {point_format!r}: must be one of {', '.join(POINT_FORMATS)}")
    rules = _Rules(style_mode, PROMPT_MODES[prompt_mode], image_size, point_format)
    if example.get("message_list") is None:
        if example.get("questions") is not None:
            example = {**example, "message_list": _paired(example)}
        else:
            return _format_message(example, rng, rules)
    if not example["message_list"]:
        raise ExampleError("no_answer", "the example's message_list is empty")
    conversations = [_format_message(message, rng, rules) for message in example["message_list"]]
    rng.shuffle(conversations)
    return conversations


def _paired(example: Message) -> list[dict[str, Any]]:
    """One message for each of an example's `questions` and its answer in `answers`."""
    questions, answers = example["questions"], example.get("answers")
    if not isinstance(questions, list | tuple) or not isinstance(answers, list | tuple):
        raise ExampleError("no_answer", "questions and answers must be lists")
    if len(questions) != len(answers):
        raise ExampleError("no_answer", f"{len(questions)} questions, {len(answers)} answers")
    style = {"style": example.get("style")}
    return [{**style, "question": q, "answer": a} for q, a in zip(questions, answers, strict=True)]


def field_prompt(message: Message, rng: np.random.RandomState) -> str:
    """The prompt that the fields hold themselves, in prompt mode "none"; "" where the style must say it all.

    First match: `prompt`; for pointing styles `question`, the lower-cased `label`, `label_cased`; `timestamp`;
    `start_time` and `end_time`; `question`.
    """
    if "prompt" in message:
        return _text(message, "prompt")
    if _style(message) in POINTING_STYLES:
        return _text(message, "question") if "question" in message else _label(message)
    if "timestamp" in message:
        return _seconds(message, "timestamp")
    if "start_time" in message:
        return f"{_seconds(message, 'start_time')}-{_seconds(message, 'end_time')}"
    return _text(message, "question") if "question" in message else ""


PromptMode = Callable[[Message, np.random.RandomState], str]
PROMPT_MODES: dict[str, PromptMode] = {"none": field_prompt}


@dataclass(frozen=True)
class _Rules:
    style_mode: str
    prompt: PromptMode
    image_size: tuple[int, int] | None
    point_format: str


def _format_message(message: Message, rng: np.random.RandomState, rules: _Rules) -> list[str]:
    message = _present(message)
    if "messages" in message:
        style, turns = _style(message), plain_turns(message["messages"])
    elif "multi_turn_messages" in message:
        parts = [_present(part) for part in message["multi_turn_messages"]]
        if not parts:
            raise ExampleError("no_answer", "multi_turn_messages is empty")
        style, turns = _style(parts[0]), [text for part in parts for text in _question_and_answer(part, rng, rules)]
    else:
        style, turns = _style(message), list(_question_and_answer(message, rng, rules))
    if any(not answer.strip() for answer in turns[1::2]):
        raise ExampleError("empty_answer", f"an answer of style {style!r} is empty")
    prefix = style_prefix(style, turns[-1], rules.style_mode, rng)
    turns[0] = f"{prefix} {turns[0]}" if prefix and turns[0] else prefix or turns[0]
    return chat_strings(turns)


def plain_turns(messages: Sequence[str] | Sequence[Mapping[str, str]]) -> list[str]:
    """Turns as strings, the user's first, from such strings or from dicts with `role` and `content`.

    A leading system message goes in front of the first user text as "System: ..." (Molmo2 §2.10).

    Raises:
        ExampleError: `bad_roles` unless user and assistant alternate and the assistant has the last word.
    """
    if isinstance(messages, str | Mapping):
        raise ExampleError("bad_text", "messages must be a list of strings or of dicts with role and content")
    turns: list[str] = []
    system = ""
    for i, message in enumerate(messages):
        if isinstance(message, str):
            turns.append(message)
            continue
        if not isinstance(message, Mapping):
            raise ExampleError("bad_text", f"message {i} is {type(message).__name__}, not text or a dict with content")
        role, text = message.get("role"), _text(message, "content")
        if role == "system" and i == 0:
            system = f"System: {text}\n"
        elif role == ("assistant" if len(turns) % 2 else "user"):
            turns.append(text)
        else:
            raise ExampleError("bad_roles", f"message {i} has role {role!r}; user and assistant must alternate")
    if not turns or len(turns) % 2:
        raise ExampleError("bad_roles", f"{len(turns)} turns; the assistant must have the last word")
    return [system + turns[0], *turns[1:]]


def _question_and_answer(message: Message, rng: np.random.RandomState, rules: _Rules) -> tuple[str, str]:
    prompt = rules.prompt(message, rng)
    if _style(message) in POINTING_STYLES:
        return prompt, _pointing_answer(message, rules)
    return prompt, _written_answer(message, rng)


def _written_answer(message: Message, rng: np.random.RandomState) -> str:
    """First match of Molmo2 §2.3: `answers`, `answer`, `answer_with_points`, `text`."""
    if "answers" in message:
        return _majority(message["answers"], rng)
    if "answer" in message:
        answer = _text(message, "answer")
        if "answer_annotations" in message:
            return _with_inline_points(answer, message["answer_annotations"])
        return f"{_text(message, 'explanation')} Answer: {answer}" if "explanation" in message else answer
    for key in ("answer_with_points", "text"):
        if key in message:
            return _text(message, key)
    wanted = "answers, answer, answer_with_points or text"
    raise ExampleError("no_answer", f"style {_style(message)!r} needs {wanted}; the message has {[*message]}")


def _majority(answers: Sequence[str], rng: np.random.RandomState) -> str:
    """One of the most frequent answers, drawn uniformly."""
    if not answers or not all(isinstance(answer, str) for answer in answers):
        raise ExampleError("no_answer", "answers must be a list of at least one string")
    counts = Counter(answers)  # keeps the order of first occurrence
    most = max(counts.values())
    candidates = [answer for answer, count in counts.items() if count == most]
    return candidates[rng.randint(len(candidates))]


def _with_inline_points(answer: str, annotations: Sequence[Message]) -> str:
    texts = answer.split(POINT_MARK)
    if len(texts) != len(annotations) + 1:
        raise ExampleError("bad_points", f"{len(texts) - 1} {POINT_MARK} marks, {len(annotations)} answer_annotations")
    points = [image_points(a["points"], 100, _text(a, "inline_text"), alt=_text(a, "alt_text")) for a in annotations]
    return texts[0] + "".join(point + text for point, text in zip(points, texts[1:], strict=True))


def _pointing_answer(message: Message, rules: _Rules) -> str:
    """`clip_points` needs no code: points outside the picture always move to its edge (see `points`)."""
    style = _style(message)
    points = message.get("points")
    if style == "count" and "count" in message:
        if not isinstance(message["count"], Integral):
            raise ExampleError("bad_count", f"count must be a whole number, not {message['count']!r}")
        n = int(message["count"])
        return plain_count(n) if rules.point_format == "plain" else str(n) if n else NOTHING
    if points is None or (len(points) == 0 and style not in ("pointing", "point_count")):
        raise ExampleError("no_points", f"style {style!r} needs points")
    scale = _point_scale(message, rules.image_size)
    if rules.point_format == "plain":
        return _plain_answer(message, points, scale, rules.image_size)
    has_label = "label" in message or "label_cased" in message
    label = _label(message) if has_label else _text(message, "question")
    return image_points(points, scale, label, "point" if style == "cosyn_point" else style)


def _plain_answer(message: Message, points: Any, scale: Any, image_size: tuple[int, int] | None) -> str:
    style = _style(message)
    if style == "count":
        return plain_count(len(points))
    size = image_size or _size_fields(message)
    if size is None:
        raise ExampleError("no_scale", "plain points are in pixels; pass image_size")
    lines = plain_points(points, scale, size)
    return f"{lines}\n{plain_count(len(points))}" if style in ("point_count", "point_then_count") else lines


def _point_scale(message: Message, image_size: tuple[int, int] | None) -> float | tuple[int, int]:
    """What the points are measured against: `point_scale`, the message's own picture, its size fields, the picture."""
    if "point_scale" in message:
        return message["point_scale"]
    sizes = (image_size if "image" in message else None, _size_fields(message), image_size)
    scale = next((size for size in sizes if size is not None), None)
    if scale is None:
        raise ExampleError("no_scale", "points need point_scale, width and height, or a picture to be measured against")
    return scale


def _size_fields(message: Message) -> tuple[int, int] | None:
    for width, height in (("width", "height"), ("w", "h")):
        if width in message and height in message:
            return message[width], message[height]
    return None


def _label(message: Message) -> str:
    if "label" in message:
        return _text(message, "label").lower()
    if "label_cased" in message:
        return _text(message, "label_cased")
    raise ExampleError("no_label", "pointing needs a question, a label or a label_cased")


def _seconds(message: Message, key: str) -> str:
    try:
        return f"{float(message[key]):.2f}"
    except (KeyError, TypeError, ValueError) as error:
        raise ExampleError("bad_time", f"{key} must be seconds, not {message.get(key)!r}") from error


def _present(message: Message) -> Message:
    if not isinstance(message, Mapping):
        raise ExampleError("bad_text", f"a message is {type(message).__name__}, not a dict")
    return {key: value for key, value in message.items() if value is not None}


def _style(message: Message) -> str:
    style = message.get("style") or ""
    if not isinstance(style, str):
        raise ExampleError("bad_text", f"style must be text, not {type(style).__name__}")
    return canonical_style(style)


def _text(message: Message, key: str) -> str:
    text = message.get(key)
    if not isinstance(text, str):
        raise ExampleError("bad_text", f"{key} must be text, not {type(text).__name__}")
    return text
