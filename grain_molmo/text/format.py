"""What a dataset says about a picture or a video, as the strings of conversations (Molmo2 §2).

`format_example` composes; the rooms it goes through are the task of styles that point (`pointing_task`), the prompt
(`PROMPT_MODES`), the written answer, the style's tag and the chat markers. All randomness comes from the example's own
random state, in the order in which Molmo2 §8.3 draws it. A field that is None counts as absent, as in rows of a table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from grain_molmo.errors import ConfigError, ExampleError
from grain_molmo.text.chat import chat_strings
from grain_molmo.text.fields import Message, present, style_of, text_of
from grain_molmo.text.pointing import pointing_task
from grain_molmo.text.prompts import PROMPT_MODES, PromptMode
from grain_molmo.text.scene import Scene
from grain_molmo.text.styles import style_prefix
from grain_molmo.text.written_answers import written_answer

POINT_FORMATS = ("markup", "plain")


def format_example(
    example: Mapping[str, Any],
    rng: np.random.RandomState,
    *,
    style_mode: str,
    prompt_mode: str,
    image_sizes: Sequence[tuple[int, int]] = (),
    frame_times: Sequence[float] | None = None,
    point_format: str = "markup",
    training: bool = True,
    answered: bool = True,
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
        prompt_mode: how a prompt is made from fields: "none" takes the fields as they are, "uber_model_v2" draws from
            templates (Molmo2 §2.3).
        image_sizes: (width, height) of each picture, or of the video, for points in pixels.
        frame_times: seconds from the clip's start, of the frames that will be shown. Tracks keep to them.
        point_format: "markup" for `<points ...>`, "plain" for "Point: x=245 y=378", behind "Image: 2" or "Time: 1.5"
            (and "Object: 1") where there are several.
        training: whether multiple-choice questions and the points that tracks start from vary. Evaluation has one form.
        answered: whether the last answer is part of a conversation; a prompt ends with what the user says last,
            whether the example has the answer or not.

    Raises:
        ExampleError: `no_answer`, `no_prompt`, `empty_answer`, `no_label`, `bad_text`, `bad_roles`, `bad_time`,
            `no_points`, `bad_points`, `bad_tracks`, `bad_count`, `bad_fps`, `bad_options`, `no_scale`.
        ConfigError: an unknown mode.
    """
    if prompt_mode not in PROMPT_MODES:
        raise ConfigError(f"prompt mode {prompt_mode!r}: must be one of {', '.join(PROMPT_MODES)}")
    if point_format not in POINT_FORMATS:
        raise ConfigError(f"point format {point_format!r}: must be one of {', '.join(POINT_FORMATS)}")
    scene = Scene(
        image_sizes=tuple(image_sizes),
        frame_times=frame_times,
        point_format=point_format,
        training=training,
        answered=answered,
    )
    rules = _Rules(style_mode, PROMPT_MODES[prompt_mode], scene)
    messages = message_list(example)
    if messages is None:
        return _format_message(example, rng, rules)
    if not messages:
        raise ExampleError("no_answer", "the example's message_list is empty")
    conversations = [_format_message(message, rng, rules) for message in messages]
    rng.shuffle(conversations)
    return conversations


def message_list(example: Mapping[str, Any]) -> Sequence[Message] | None:
    """The messages that become a message tree, of `message_list` or `questions`; None if the example is one itself.

    Raises ExampleError, `no_answer`, for questions without an answer for each.
    """
    if example.get("message_list") is not None:
        return example["message_list"]
    return _paired(example) if example.get("questions") is not None else None


def _paired(example: Message) -> list[dict[str, Any]]:
    """One message for each of an example's `questions` and its answer in `answers`."""
    questions, answers = example["questions"], example.get("answers")
    if not isinstance(questions, list | tuple) or not isinstance(answers, list | tuple):
        raise ExampleError("no_answer", "questions and answers must be lists")
    if len(questions) != len(answers):
        raise ExampleError("no_answer", f"{len(questions)} questions, {len(answers)} answers")
    style = {"style": example.get("style")}
    return [{**style, "question": q, "answer": a} for q, a in zip(questions, answers, strict=True)]


@dataclass(frozen=True)
class _Rules:
    style_mode: str
    prompt: PromptMode
    scene: Scene

    @property
    def with_answers(self) -> "_Rules":
        """The rules for turns before a prompt."""
        return replace(self, scene=replace(self.scene, answered=True))


def _format_message(message: Message, rng: np.random.RandomState, rules: _Rules) -> list[str]:
    message = present(message)
    if "messages" in message:
        style, turns = style_of(message), plain_turns(message["messages"], answered=rules.scene.answered)
    elif "multi_turn_messages" in message:
        parts = [present(part) for part in message["multi_turn_messages"]]
        if not parts:
            raise ExampleError("no_answer", "multi_turn_messages is empty")
        earlier = [text for part in parts[:-1] for text in _question_and_answer(part, rng, rules.with_answers)]
        style, turns = style_of(parts[0]), [*earlier, *_question_and_answer(parts[-1], rng, rules)]
    else:
        style, turns = style_of(message), list(_question_and_answer(message, rng, rules))
    answer = turns[-1] if rules.scene.answered else None
    if any(not answer.strip() for answer in turns[1::2]):
        raise ExampleError("empty_answer", f"an answer of style {style!r} is empty")
    prefix = style_prefix(style, answer, rules.style_mode, rng)
    turns[0] = f"{prefix} {turns[0]}" if prefix and turns[0] else prefix or turns[0]
    return chat_strings(turns)


def plain_turns(messages: Sequence[str] | Sequence[Mapping[str, str]], *, answered: bool = True) -> list[str]:
    """Turns as strings, the user's first, from such strings or from dicts with `role` and `content`.

    A leading system message goes in front of the first user text as "System: ..." (Molmo2 §2.10).

    Args:
        messages: of one conversation.
        answered: whether the assistant has the last word; else the user, and an answer to that is left out.

    Raises:
        ExampleError: `bad_roles` unless user and assistant alternate and the right one has the last word.
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
        role, text = message.get("role"), text_of(message, "content")
        if role == "system" and i == 0:
            system = f"System: {text}\n"
        elif role == ("assistant" if len(turns) % 2 else "user"):
            turns.append(text)
        else:
            raise ExampleError("bad_roles", f"message {i} has role {role!r}; user and assistant must alternate")
    if not answered:
        turns = turns[: len(turns) - 1 + len(turns) % 2]
    if not turns or len(turns) % 2 == answered:
        hint = 'the assistant must have the last word (a stage of kind "prompts" takes what has no answer)'
        raise ExampleError("bad_roles", f"{len(turns)} turns; {hint}")
    return [system + turns[0], *turns[1:]]


def _question_and_answer(message: Message, rng: np.random.RandomState, rules: _Rules) -> tuple[str, ...]:
    """What the user says, and what the assistant answers unless it is a prompt."""
    task = pointing_task(message, rules.scene, rng)
    prompt, answer = rules.prompt(message, task, rules.scene, rng)
    if not rules.scene.answered:
        if not prompt and not style_of(message):
            raise ExampleError("no_prompt", f"there is nothing to ask; the message has {[*message]}")
        return (prompt,)
    if task is not None:
        return prompt, task.answer
    return prompt, written_answer(message, rng) if answer is None else answer
