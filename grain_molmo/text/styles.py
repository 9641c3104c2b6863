"""The style of a message (what kind of answer is wanted) and the tag in front of the user's text (Molmo2 §2.2)."""

import numpy as np

from grain_molmo.errors import ConfigError

DEMO_STYLES = frozenset(
    {
        *("user_qa", "correction_qa", "text_sft", "long_caption", "short_caption"),
        *("point_count", "pointing", "cosyn_point"),
        *("multi_image_pointing", "multi_image_counting"),
        *("multi_image_point_then_count", "multi_image_count_then_point"),
        *("video_long_caption", "video_short_caption", "video_transcript"),
        *("video_clip_caption_start_end", "video_clip_caption_start_end_in_seconds"),
        *("video_clip_transcript_start_end", "video_clip_transcript_start_end_in_seconds"),
        *("video_frame_caption_timestamp", "video_frame_caption_timestamp_in_seconds"),
        *("video_point", "video_point_count", "video_count", "video_count_point"),
        *("video_point_track_per_frame", "video_point_track_start_end", "video_single_point_track_start_end"),
    }
)
"""Styles that a person's own words make plain, so that SFT gives them no tag."""

MULTIPLE_CHOICE_STYLES = frozenset(
    {
        *("a_okvqa_mc", "ai2_diagram", "ai2_diagram_no_letter", "science_qa", "eval_multiple_choice"),
        *("multi_image_mc", "multi_image_mc_exp", "mantis_instruct_mc", "eval_multi_image_mc"),
        *("video_multiple_choice", "video_multiple_choice_count_without_pointing"),
        *("video_multiple_choice_multiple_correct", "video_multiple_choice_w_subtitle"),
    }
)
"""Styles whose options say what is wanted; no tag in SFT either."""

_NEVER_A_LENGTH = frozenset({"pointing", "point_count", "cosyn_point"})
_SAME_AS = {
    "eval_short_answer": "vqa2",
    "eval_multiple_choice": "a_okvqa_mc",
    "video_multiple_choice_count_without_pointing": "video_multiple_choice",
    "video_short_answer_count_without_pointing": "video_short_answer",
}
_SAME_AS_BY_PREFIX = {"video_eval_": "video_", "eval_multi_image_": "multi_image_"}

STYLE_MODES = ("style_and_length_v2", "demo_or_style_v2", "style", "no_style")

NO_LENGTH_PROBABILITY = 0.1
LENGTH_NOISE_CHARS = 25
LENGTH_UNIT_CHARS = 15
LENGTH_HINT_OF_PROMPTS = 65
"""Where there is no answer yet."""


def canonical_style(style: str) -> str:
    """The style that this one is trained as: evaluation styles are those of their training sets.

    >>> canonical_style("video_eval_short_answer")
    'video_short_answer'
    """
    for prefix, replacement in _SAME_AS_BY_PREFIX.items():
        if style.startswith(prefix):
            style = replacement + style.removeprefix(prefix)
    return _SAME_AS.get(style, style)


def style_prefix(style: str, answer: str | None, mode: str, rng: np.random.RandomState) -> str:
    """The tag for the user's first text: "", "style:" or "style N:".

    Args:
        style: canonical; "" gives no tag in any mode and draws nothing.
        answer: the last answer. Its characters, blurred and in units of 15, are the length hint N. Without one (a
            prompt) N is 65, and nothing is drawn.
        mode: "style_and_length_v2" (pretraining), "demo_or_style_v2" (SFT: no tag for everyday styles), "style"
            (always) or "no_style" (never).
        rng: "style_and_length_v2" draws one uniform, then one normal if N is shown; the other modes draw nothing.
    """
    if mode not in STYLE_MODES:
        raise ConfigError(f"style mode {mode!r}: must be one of {', '.join(STYLE_MODES)}")
    if not style or mode == "no_style":
        return ""
    if mode == "demo_or_style_v2":
        return "" if style in DEMO_STYLES or style in MULTIPLE_CHOICE_STYLES else f"{style}:"
    if mode == "style_and_length_v2" and style not in _NEVER_A_LENGTH:
        if answer is None:
            return f"{style} {LENGTH_HINT_OF_PROMPTS}:"
        if rng.uniform() > NO_LENGTH_PROBABILITY:
            return f"{style} {_length_hint(answer, rng)}:"
    return f"{style}:"


def _length_hint(answer: str, rng: np.random.RandomState) -> int:
    """Floor division, so that short answers may get 0 or less: a 5-character answer with noise -35 gives -2."""
    return (len(answer) + int(rng.normal(scale=LENGTH_NOISE_CHARS))) // LENGTH_UNIT_CHARS
