"""Answers that datasets hold in words (Molmo2 §2.3)."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from grain_molmo.errors import ExampleError
from grain_molmo.text.fields import Message, style_of, text_of
from grain_molmo.text.points import image_points

POINT_MARK = "<|POINT|>"
"""Where an inline point goes in an answer that comes with `answer_annotations`."""


def written_answer(message: Message, rng: np.random.RandomState) -> str:
    """The first of `answers` (a majority vote), `answer`, `answer_with_points`, `text`.

    Raises:
        ExampleError: `no_answer`, `bad_text`, `bad_points`.
    """
    if "answers" in message:
        return _majority(message["answers"], rng)
    if "answer" in message:
        answer = text_of(message, "answer")
        if "answer_annotations" in message:
            return _with_inline_points(answer, message["answer_annotations"])
        return f"{text_of(message, 'explanation')} Answer: {answer}" if "explanation" in message else answer
    for key in ("answer_with_points", "text"):
        if key in message:
            return text_of(message, key)
    wanted = "answers, answer, answer_with_points or text"
    raise ExampleError("no_answer", f"style {style_of(message)!r} needs {wanted}; the message has {[*message]}")


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
    points = [
        image_points(a["points"], 100, text_of(a, "inline_text"), alt=text_of(a, "alt_text")) for a in annotations
    ]
    return texts[0] + "".join(point + text for point, text in zip(points, texts[1:], strict=True))
