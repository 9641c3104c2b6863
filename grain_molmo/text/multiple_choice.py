"""Multiple-choice questions: one plain form for evaluation, many forms for training (Molmo2 §2.5)."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from grain_molmo.errors import ExampleError
from grain_molmo.text import templates_choice as templates
from grain_molmo.text.fields import Message, list_of, text_of

PLAIN_PROBABILITY = 0.1
"""How often training shows the form of evaluation."""
PLAIN_INSTRUCTION = "Only return the correct answer option."

LABEL_ONLY_PROBABILITY = 0.25
LABELLED_PROBABILITY = 0.8
INLINE_PROBABILITY = 0.1
INSTRUCTED_PROBABILITY = 0.5
RARE_MARKER_PROBABILITY = 0.2
BULLET_PROBABILITY = 0.5
KIND_PROBABILITY, IDENTIFIER_PROBABILITY = 0.6, 0.2


@dataclass(frozen=True)
class Choice:
    """A question, its options, which of them is right, and whether they are named in the plain form."""

    question: str
    options: list[str]
    right: int
    named: bool


def is_multiple_choice(message: Message) -> bool:
    """Whether the message is a question with options to choose from."""
    return "question" in message and ("options" in message or "unlabelled_options" in message)


def read_choice(message: Message, *, answered: bool = True) -> Choice:
    """The fields `question`, `options` or `unlabelled_options`, and `answer_idx`, which a prompt need not have.

    Raises:
        ExampleError: `bad_options`, `bad_text`.
    """
    named = "options" in message
    options = list_of(message, "options" if named else "unlabelled_options", "bad_options")
    if not options or not all(isinstance(option, str) for option in options):
        raise ExampleError("bad_options", "options must be a list of at least one text")
    answer_idx = message.get("answer_idx") if answered else message.get("answer_idx", 0)
    try:
        right = operator.index(answer_idx)  # type: ignore[arg-type]
    except TypeError as error:
        raise ExampleError("bad_options", f"answer_idx is {answer_idx!r}, no whole number") from error
    if not 0 <= right < len(options):
        raise ExampleError("bad_options", f"answer_idx is {right}, there are {len(options)} options")
    return Choice(text_of(message, "question"), options, right, named)


def multiple_choice(
    message: Message, rng: np.random.RandomState, *, training: bool, answered: bool = True
) -> tuple[str, str]:
    """Prompt and answer; in training nine of ten have a varied form. Evaluation draws nothing."""
    choice = read_choice(message, answered=answered)
    if not training or rng.uniform() < PLAIN_PROBABILITY:
        return plain_form(choice)
    return varied_form(choice, rng)


def plain_form(choice: Choice) -> tuple[str, str]:
    r"""Prompt and answer of evaluation. More options than there are letters get no names.

    >>> plain_form(Choice("Which?", ["red", "green"], 1, named=True))
    ('Which?\nOnly return the correct answer option.\nA. red\nB. green', 'B. green')
    """
    lines = choice.options
    _, letters = templates.NAME_SETS[0]
    if choice.named and len(lines) <= len(letters):
        lines = _named(lines, letters, templates.COMMON_MARKERS[0])
    return "\n".join((choice.question, PLAIN_INSTRUCTION, *lines)), lines[choice.right]


def varied_form(choice: Choice, rng: np.random.RandomState) -> tuple[str, str]:
    """Prompt and answer in one of the many forms of training, drawn in the order of Molmo2 §2.5.

    Only those sets of names are drawn from that have one for each option; where none has (more than 26 options), the
    options get no names and the answer is the option's text. An option of no words is only asked for by a name.
    """
    name_sets = [names for names in templates.NAME_SETS if len(names[1]) >= len(choice.options)]
    must_name = not choice.options[choice.right].strip()
    label_only = bool(rng.uniform() < LABEL_ONLY_PROBABILITY)
    named = label_only or bool(rng.uniform() < (1.0 if must_name else LABELLED_PROBABILITY))
    inline = rng.uniform() < INLINE_PROBABILITY
    instructed = rng.uniform() < INSTRUCTED_PROBABILITY
    if not name_sets:
        label_only = named = False
    items, names, marker, kind = choice.options, (), ("", ""), ""
    if named:
        marker = _draw(_marker_list(rng), rng)
        kind, names = _draw(name_sets, rng)
        items = _named(items, names, marker)
    block = _inline(items, choice.options, marker, named, rng) if inline else _lines(items, named, rng)
    if named:
        kind = _kind_word(kind, rng)
    if label_only:
        direct, instructions = templates.DIRECT_WITH_NAME, templates.ANSWER_WITH_NAME
    else:
        direct = templates.DIRECT
        instructions = templates.ANSWER_WITH_NAME_AND_TEXT if named else templates.ANSWER_WITH_TEXT
    words = {"question": choice.question, "options": block, "kind": kind}
    if instructed:
        words["instruction"] = _draw(instructions, rng).format(kind=kind)
    prompt = _draw(templates.LAYOUTS if instructed else direct, rng).format(**words)
    return prompt, names[choice.right] if label_only else items[choice.right]


T = TypeVar("T")
Marker = tuple[str, str]


def _named(options: Sequence[str], names: Sequence[str], marker: Marker) -> list[str]:
    before, behind = marker
    return [f"{before}{name}{behind}{option}" for name, option in zip(names, options, strict=False)]


def _marker_list(rng: np.random.RandomState) -> Sequence[Marker]:
    return templates.COMMON_MARKERS if rng.uniform() > RARE_MARKER_PROBABILITY else templates.RARE_MARKERS


def _inline(
    items: Sequence[str], options: Sequence[str], marker: Marker, named: bool, rng: np.random.RandomState
) -> str:
    """The items on one line, behind a separator that neither markers nor the ends of options could be taken for."""
    marks = "".join(marker)
    free = [s for s in templates.SEPARATORS if s not in marks and not any(o.endswith(s) for o in options)]
    separators = [*free, ""] if named else free
    return f"{_draw(separators, rng)} ".join(items) if separators else "\n".join(items)


def _lines(items: Sequence[str], named: bool, rng: np.random.RandomState) -> str:
    if not named and rng.uniform() < BULLET_PROBABILITY:
        bullet = _draw(templates.BULLETS, rng)
        items = [f"{bullet} {item}" for item in items]
    return "\n".join(items)


def _kind_word(kind: str, rng: np.random.RandomState) -> str:
    u = rng.uniform()
    if u < KIND_PROBABILITY:
        return kind
    return "identifier" if u < KIND_PROBABILITY + IDENTIFIER_PROBABILITY else "label"


def _draw(choices: Sequence[T], rng: np.random.RandomState) -> T:
    return choices[rng.randint(0, len(choices))]
