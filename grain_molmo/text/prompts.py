"""The user's text: as the fields say it, or in a person's words drawn from templates (Molmo2 §2.3)."""

from collections.abc import Callable, Sequence

import numpy as np

from grain_molmo.errors import ExampleError
from grain_molmo.text import templates_captions as templates
from grain_molmo.text.fields import Message, style_of, text_of
from grain_molmo.text.multiple_choice import is_multiple_choice, multiple_choice, plain_form, read_choice
from grain_molmo.text.scene import Scene, Task
from grain_molmo.text.templates_captions import for_video
from grain_molmo.text.times import clock_string, parse_media_time, parse_time, time_string

CAPTION_TEMPLATES = {
    "long_caption": templates.LONG_CAPTION,
    "short_caption": templates.SHORT_CAPTION,
    "video_long_caption": for_video(templates.LONG_CAPTION),
    "video_short_caption": for_video(templates.SHORT_CAPTION),
    "video_transcript": templates.VIDEO_TRANSCRIPT,
    "video_motion_caption": templates.VIDEO_MOTION_CAPTION,
    "video_object_caption": templates.VIDEO_OBJECT_CAPTION,
}

MOMENT_TEMPLATES = {
    "video_frame_caption_timestamp": (templates.FRAME_CAPTION, templates.FRAME_CAPTION_SECONDS),
    "video_clip_caption_start_end": (templates.CLIP_CAPTION, templates.CLIP_CAPTION_SECONDS),
    "video_clip_short_caption_start_end": (templates.CLIP_CAPTION, templates.CLIP_CAPTION_SECONDS),
    "video_clip_transcript_start_end": (templates.CLIP_TRANSCRIPT, templates.CLIP_TRANSCRIPT_SECONDS),
}
"""For times on the clock and for times in seconds. The published code loses the times of short clip captions (§11)."""

CLOCK_PROBABILITY = 0.5

Prompt = tuple[str, str | None]
"""The user's text, and the answer where the text decides it too."""
PromptMode = Callable[[Message, Task | None, Scene, np.random.RandomState], Prompt]


def field_prompt(message: Message, task: Task | None, scene: Scene, rng: np.random.RandomState) -> Prompt:
    """The prompt that the fields hold themselves, in prompt mode "none"; "" where the style must say it all.

    First match: `prompt`; for pointing styles `question` or the label; `question` with its options, in the form of
    evaluation; `timestamp`; `start_time` and `end_time`; `question`. Draws nothing.
    """
    if "prompt" in message:
        return text_of(message, "prompt"), None
    if task is not None:
        return task.question or task.subject, None
    if is_multiple_choice(message):
        return plain_form(read_choice(message, answered=scene.answered))
    if "timestamp" in message:
        return _seconds(message, "timestamp"), None
    if "start_time" in message:
        return f"{_seconds(message, 'start_time')}-{_seconds(message, 'end_time')}", None
    return text_of(message, "question") if "question" in message else "", None


def template_prompt(message: Message, task: Task | None, scene: Scene, rng: np.random.RandomState) -> Prompt:
    """The prompt of mode "uber_model_v2": a template of the style, or the question; the first match of Molmo2 §2.3."""
    style = style_of(message)
    if "prompt" in message:
        return text_of(message, "prompt"), None
    if style in CAPTION_TEMPLATES and "question" not in message:
        words = {"object": text_of(message, "object")} if style == "video_object_caption" else {}
        return draw(CAPTION_TEMPLATES[style], rng, **words), None
    if style in MOMENT_TEMPLATES:
        return _moment_prompt(message, style, rng), None
    if style == "video_short_answer":
        return draw(templates.VIDEO_SHORT_ANSWER, rng, question=text_of(message, "question")), None
    if "_exp" in style:
        return _reasoning(message, scene)
    if task is not None:
        return task.question or draw(task.templates, rng, **task.words), None
    if is_multiple_choice(message):
        return multiple_choice(message, rng, training=scene.training, answered=scene.answered)
    return text_of(message, "question") if "question" in message else "", None


PROMPT_MODES: dict[str, PromptMode] = {"none": field_prompt, "uber_model_v2": template_prompt}


def draw(choices: Sequence[str], rng: np.random.RandomState, **words: str) -> str:
    """One of the templates, drawn uniformly, with its keywords filled in."""
    return choices[rng.randint(0, len(choices))].format(**words)


def _reasoning(message: Message, scene: Scene) -> Prompt:
    prompt = templates.WITH_EXPLANATION.format(question=text_of(message, "question"))
    if not scene.answered:
        return prompt, None
    return prompt, f"{text_of(message, 'explanation')} Answer: {text_of(message, 'answer')}"


def _moment_prompt(message: Message, style: str, rng: np.random.RandomState) -> str:
    on_clock, in_seconds = MOMENT_TEMPLATES[style]
    keys = ("timestamp",) if style == "video_frame_caption_timestamp" else ("start_time", "end_time")
    times = {key: parse_media_time(message.get(key)) for key in keys}
    if rng.uniform() > CLOCK_PROBABILITY:
        return draw(in_seconds, rng, **{key: time_string(time) for key, time in times.items()})
    return draw(on_clock, rng, **{key: clock_string(time) for key, time in times.items()})


def _seconds(message: Message, key: str) -> str:
    try:
        return f"{parse_time(message.get(key)):.2f}"
    except ExampleError as error:
        raise ExampleError(error.reason, f"{key}: {error.detail}") from error
