import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_random import ScriptedRandom

from grain_molmo.errors import ExampleError
from grain_molmo.text import templates_captions as captions
from grain_molmo.text import templates_pointing as pointing
from grain_molmo.text.format import format_example
from grain_molmo.text.prompts import CAPTION_TEMPLATES
from grain_molmo.text.styles import DEMO_STYLES, MULTIPLE_CHOICE_STYLES

CUE = {"text": "a caption"}
CLIP = {"start_time": "1:01.25", "end_time": 75, "text": "a caption"}
POINTS = {"label": "Red Car", "points": [[25, 50]], "point_scale": 100}
VIDEO_POINTS = {"label": "Red Car", "timestamps": [1.5], "points": [[[25, 50]]]}
TRACK = {
    "label": "the dog",
    "sampling_fps": 1,
    "width": 100,
    "height": 100,
    "points": [{"frame": 30 * t, "time": float(t), "points": {0: {"point": [10 * t, 5]}}} for t in range(3)],
}
IMAGES = {"labels": ["Dogs"], "normalized_labels": ["dog"], "points": [[[1, 2]]], "point_scale": 100}
CHOICE = {"question": "Which?", "options": ["red", "green"], "answer_idx": 1}
QA = {"question": "What?", "answer": "That."}

MESSAGES = {
    **{style: {**CUE, "object": "the ball"} for style in CAPTION_TEMPLATES},
    "video_frame_caption_timestamp": {"timestamp": 2.25, **CUE},
    "video_clip_caption_start_end": CLIP,
    "video_clip_short_caption_start_end": CLIP,
    "video_clip_transcript_start_end": CLIP,
    "video_short_answer": QA,
    "cosyn_chart_exp": {**QA, "explanation": "Because."},
    **dict.fromkeys(("pointing", "point_count", "point_then_count", "cosyn_point", "count"), POINTS),
    **dict.fromkeys(("video_point", "video_point_count", "video_count", "video_count_point"), VIDEO_POINTS),
    "video_point_track_per_frame": TRACK,
    "video_point_ground_start_end": TRACK,
    "video_single_point_track_per_frame": TRACK,
    "multi_image_pointing": IMAGES,
    "multi_image_counting": IMAGES,
    "multi_image_point_then_count": IMAGES,
    "multi_image_count_then_point": IMAGES,
    **{style: CHOICE for style in sorted(MULTIPLE_CHOICE_STYLES) if "_exp" not in style},
    "multi_image_mc_exp": {**CHOICE, "answer": "B. green", "explanation": "Because."},
    **dict.fromkeys(("user_qa", "correction_qa", "vqa2", "demo"), QA),
    "text_sft": {"messages": ["What?", "That."]},
    "video_merged_caption": CUE,
    "transcript": CUE,
}


def format_sft(message, rng, style="", **arguments):
    """The user's text and the answer as SFT has them, without chat markers."""
    message = {"style": style, **message}
    user, answer = format_example(message, rng, style_mode="demo_or_style_v2", prompt_mode="uber_model_v2", **arguments)
    return user.removeprefix("<|im_start|>user\n").removesuffix("<|im_end|>\n<|im_start|>assistant\n"), answer


@pytest.mark.parametrize("style", MESSAGES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("point_format", ["markup", "plain"])
def test_every_style_has_a_prompt_and_an_answer(style, training, point_format):
    seen = set()
    for seed in range(20):
        arguments = {"training": training, "point_format": point_format, "image_sizes": [(640, 480)]}
        prompt, answer = format_sft(MESSAGES[style], np.random.RandomState(seed), style, **arguments)
        assert prompt.strip()
        assert answer.strip()
        assert "{" not in prompt or style in MULTIPLE_CHOICE_STYLES
        assert "<" not in answer or point_format == "markup" or style in MULTIPLE_CHOICE_STYLES
        assert (prompt, answer) == format_sft(MESSAGES[style], np.random.RandomState(seed), style, **arguments)
        seen.add(prompt)
    tag = f"{style}:"
    tagged = style not in DEMO_STYLES and style not in MULTIPLE_CHOICE_STYLES
    assert all(prompt.startswith(tag) == tagged for prompt in seen)


@pytest.mark.parametrize("style", MESSAGES)
def test_every_style_can_do_without_templates(style):
    example = {"style": style, **MESSAGES[style]}
    rng = np.random.RandomState(0)
    user, answer = format_example(example, rng, style_mode="style", prompt_mode="none")
    assert user.strip()
    assert answer.strip()


@pytest.mark.parametrize(
    ("style", "templates"),
    [
        ("long_caption", captions.LONG_CAPTION),
        ("short_caption", captions.SHORT_CAPTION),
        ("video_transcript", captions.VIDEO_TRANSCRIPT),
        ("pointing", [t.format(label="red car") for t in pointing.POINTING]),
        ("video_point", [t.format(label="Red Car") for t in captions.for_video(pointing.POINTING)]),
        ("video_point_count", [t.format(label="Red Car") for t in captions.for_video(pointing.POINT_COUNT)]),
    ],
)
def test_each_template_is_drawn_with_one_whole_number(style, templates):
    for i, template in enumerate(templates):
        rng = ScriptedRandom(("randint", (0, len(templates)), i))
        assert format_sft(MESSAGES[style], rng, style)[0] == template
        assert not rng.draws


@pytest.mark.parametrize("style", [s for s in MESSAGES if s != "text_sft"])
def test_a_prompt_of_the_dataset_comes_first(style):
    prompt, _ = format_sft({**MESSAGES[style], "prompt": "Say it.", "answer": "x"}, np.random.RandomState(0), style)
    assert prompt.removeprefix(f"{style}: ") == "Say it."


@pytest.mark.parametrize("style", ["pointing", "cosyn_point", "video_point_count", "video_count", "long_caption"])
def test_a_question_comes_before_templates(style):
    message = {**MESSAGES[style], "question": "Where are they?"}
    assert format_sft(message, ScriptedRandom(), style)[0] == "Where are they?"


@pytest.mark.parametrize("style", ["video_point_track_per_frame", "multi_image_pointing"])
def test_tracks_and_several_pictures_always_take_a_template(style):
    message = {**MESSAGES[style], "question": "Where are they?"}
    assert format_sft(message, np.random.RandomState(0), style)[0] != "Where are they?"


def test_a_question_with_its_own_style_is_verbatim():
    assert format_sft(QA, ScriptedRandom(), "vqa2") == ("vqa2: What?", "That.")
    assert format_sft(QA, ScriptedRandom(), "user_qa") == ("What?", "That.")
    assert format_sft(QA, ScriptedRandom(), "video_multiple_choice") == ("What?", "That.")


def test_a_style_without_templates_is_prompted_by_its_tag():
    """Molmo2 §2.3, row 13."""
    assert format_sft(CUE, ScriptedRandom(), "video_merged_caption") == ("video_merged_caption:", "a caption")


def test_an_explained_answer():
    prompt, answer = format_sft(MESSAGES["cosyn_chart_exp"], ScriptedRandom(), "cosyn_chart_exp")
    assert prompt == f"cosyn_chart_exp: {captions.WITH_EXPLANATION.format(question='What?')}"
    assert answer == "Because. Answer: That."


@pytest.mark.parametrize(("u", "time"), [(0.51, "2.2 seconds"), (0.5, "00:00:02.2")])
def test_a_moment_is_in_seconds_half_the_time(u, time):
    """Molmo2 §2.4: one uniform, then the template."""
    rng = ScriptedRandom(("uniform", u), ("randint", (0, 13), 0))
    prompt, _ = format_sft(MESSAGES["video_frame_caption_timestamp"], rng, "video_frame_caption_timestamp")
    assert prompt == f"Describe what the video shows at {time}."


@pytest.mark.parametrize(("u", "times"), [(0.9, "61.2 to 75.0 seconds"), (0.1, "00:01:01.2 to 00:01:15.0")])
@pytest.mark.parametrize("style", ["video_clip_caption_start_end", "video_clip_short_caption_start_end"])
def test_a_clip_is_told_by_start_and_end(style, u, times):
    """Short captions of clips keep their times (a fix, Molmo2 §11)."""
    rng = ScriptedRandom(("uniform", u), ("randint", (0, 21), 0))
    assert format_sft(CLIP, rng, style)[0].endswith(f"Describe the video from {times}.")


def test_all_draws_of_a_message_come_before_those_of_the_next():
    """Molmo2 §8.3."""
    messages = [{"style": s, **MESSAGES[s]} for s in ("long_caption", "video_clip_caption_start_end", "pointing")]
    arguments = {"style_mode": "style_and_length_v2", "prompt_mode": "uber_model_v2"}
    tree = format_example({"message_list": messages}, np.random.RandomState(3), **arguments)
    rng = np.random.RandomState(3)
    expected = [format_example(message, rng, **arguments) for message in messages]
    rng.shuffle(expected)
    assert tree == expected


def test_turns_of_one_conversation_may_point():
    parts = [{"style": "video_count", **VIDEO_POINTS}, {"style": "video_point", **VIDEO_POINTS}]
    rng = ScriptedRandom(("randint", (0, 6), 0), ("randint", (0, 43), 0))
    turns = format_example(
        {"multi_turn_messages": parts}, rng, style_mode="demo_or_style_v2", prompt_mode="uber_model_v2"
    )
    assert turns[1] == "1"
    assert turns[3] == '<points coords="1.5 1 250 500">Red Car</points>'


@pytest.mark.parametrize(
    ("style", "change", "reason"),
    [
        ("video_object_caption", {"object": None}, "bad_text"),
        ("video_frame_caption_timestamp", {"timestamp": None}, "bad_time"),
        ("video_frame_caption_timestamp", {"timestamp": "noon"}, "bad_time"),
        ("video_clip_caption_start_end", {"end_time": float("nan")}, "bad_time"),
        ("video_clip_caption_start_end", {"start_time": -1}, "bad_time"),
        ("video_short_answer", {"question": None}, "bad_text"),
        ("cosyn_chart_exp", {"explanation": None}, "bad_text"),
        ("vqa2", {"answer": None}, "no_answer"),
    ],
)
def test_what_a_style_lacks_is_named(style, change, reason):
    with pytest.raises(ExampleError) as caught:
        format_sft({**MESSAGES[style], **change}, np.random.RandomState(0), style)
    assert caught.value.reason == reason


@settings(max_examples=60)
@given(st.sampled_from(sorted(MESSAGES)), st.text(min_size=1).filter(str.strip), st.integers(0, 2**32 - 1))
def test_words_of_the_dataset_are_never_taken_for_keywords(style, words, seed):
    message = {key: words if isinstance(value, str) else value for key, value in MESSAGES[style].items()}
    times = {key: value for key, value in MESSAGES[style].items() if key in ("start_time", "end_time")}
    prompt, answer = format_sft({**message, **times}, np.random.RandomState(seed), style)
    assert prompt.strip()
    assert answer.strip()
