import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_random import ScriptedRandom

from grain_molmo.errors import ConfigError, ExampleError
from grain_molmo.text.chat import chat_strings
from grain_molmo.text.format import format_example, plain_turns
from grain_molmo.text.styles import DEMO_STYLES, MULTIPLE_CHOICE_STYLES, canonical_style, style_prefix


def format_none(example, rng=None, style_mode="no_style", **arguments):
    rng = rng or np.random.RandomState(0)
    return format_example(example, rng, style_mode=style_mode, prompt_mode="none", **arguments)


def question_and_answer(message, **arguments):
    """The user's text and the answer of a one-message example, without chat markers."""
    user, answer = format_none(message, **arguments)
    return user.removeprefix("<|im_start|>user\n").removesuffix("<|im_end|>\n<|im_start|>assistant\n"), answer


# style tags


@pytest.mark.parametrize(
    ("draws", "answer", "prefix"),
    [
        ([("uniform", 0.5), ("normal", -35.9)], "12345", "long_caption -2:"),
        ([("uniform", 0.11), ("normal", 0.0)], "x" * 44, "long_caption 2:"),
        ([("uniform", 0.11), ("normal", 1.0)], "x" * 44, "long_caption 3:"),
        ([("uniform", 0.1)], "12345", "long_caption:"),
    ],
)
def test_the_length_hint_is_one_uniform_then_one_normal(draws, answer, prefix):
    """Molmo2 §2.2."""
    rng = ScriptedRandom(*draws)
    assert style_prefix("long_caption", answer, "style_and_length_v2", rng) == prefix
    assert not rng.draws


@pytest.mark.parametrize("style", ["pointing", "point_count", "cosyn_point"])
def test_pointing_styles_never_get_a_length(style):
    assert style_prefix(style, "answer", "style_and_length_v2", ScriptedRandom()) == f"{style}:"


def test_nine_of_ten_captions_get_a_length():
    rng = np.random.RandomState(0)
    prefixes = [style_prefix("transcript", "x" * 600, "style_and_length_v2", rng) for _ in range(2000)]
    bare = prefixes.count("transcript:")
    assert 150 < bare < 250
    lengths = [int(prefix.removeprefix("transcript ").rstrip(":")) for prefix in prefixes if prefix != "transcript:"]
    assert 38.5 < np.mean(lengths) < 40.5


@pytest.mark.parametrize(
    ("style", "mode", "prefix"),
    [
        ("user_qa", "demo_or_style_v2", ""),
        ("pointing", "demo_or_style_v2", ""),
        ("science_qa", "demo_or_style_v2", ""),
        ("vqa2", "demo_or_style_v2", "vqa2:"),
        ("transcript", "demo_or_style_v2", "transcript:"),
        ("video_point_ground_start_end", "demo_or_style_v2", "video_point_ground_start_end:"),
        ("video_single_point_track_per_frame", "demo_or_style_v2", "video_single_point_track_per_frame:"),
        ("user_qa", "style", "user_qa:"),
        ("vqa2", "no_style", ""),
        ("", "style", ""),
        ("", "style_and_length_v2", ""),
    ],
)
def test_tags_of_the_modes_that_draw_nothing(style, mode, prefix):
    assert style_prefix(style, "answer", mode, ScriptedRandom()) == prefix


def test_there_are_28_demo_styles():
    assert len(DEMO_STYLES) == 28


def test_there_are_4_styles_of_multiple_choice_about_videos_and_9_about_images():
    """Molmo2 §2.2."""
    assert len(MULTIPLE_CHOICE_STYLES) == 13
    assert sum(style.startswith("video_multiple_choice") for style in MULTIPLE_CHOICE_STYLES) == 4
    assert not DEMO_STYLES & MULTIPLE_CHOICE_STYLES


@pytest.mark.parametrize(
    ("style", "trained_as"),
    [
        ("eval_short_answer", "vqa2"),
        ("eval_multiple_choice", "a_okvqa_mc"),
        ("video_eval_multiple_choice", "video_multiple_choice"),
        ("eval_multi_image_mc", "multi_image_mc"),
        ("video_short_answer_count_without_pointing", "video_short_answer"),
        ("long_caption", "long_caption"),
    ],
)
def test_evaluation_styles_are_those_of_training(style, trained_as):
    assert canonical_style(style) == trained_as


# whole examples


def test_a_caption_is_prompted_by_its_tag_alone():
    example = {"message_list": [{"style": "long_caption", "text": "x" * 30}]}
    rng = ScriptedRandom(("uniform", 0.9), ("normal", 0.0))
    assert format_none(example, rng, "style_and_length_v2") == [chat_strings(["long_caption 2:", "x" * 30])]


def test_a_tree_shuffles_its_branches_after_every_other_draw():
    messages = [{"style": "long_caption", "text": f"caption {i}"} for i in range(6)]
    seen = format_none({"message_list": messages}, np.random.RandomState(7), "style_and_length_v2")
    rng = np.random.RandomState(7)
    expected = [format_none(message, rng, "style_and_length_v2") for message in messages]
    rng.shuffle(expected)
    assert seen == expected
    assert {branch[1] for branch in seen} == {f"caption {i}" for i in range(6)}


def test_the_same_random_state_gives_the_same_strings():
    example = {"message_list": [{"style": "vqa2", "question": "q", "answers": ["a", "b"]} for _ in range(5)]}
    first, second = (format_none(example, np.random.RandomState(1), "style_and_length_v2") for _ in range(2))
    assert first == second


def test_a_flat_example_is_one_conversation():
    assert format_none({"question": "q", "answer": "a", "image": object()}) == chat_strings(["q", "a"])


def test_the_tag_goes_before_the_first_turn_and_measures_the_last_answer():
    example = {"style": "synthetic_qa", "messages": ["q1", "a1", "q2", "x" * 45]}
    rng = ScriptedRandom(("uniform", 0.9), ("normal", 0.0))
    expected = chat_strings(["synthetic_qa 3: q1", "a1", "q2", "x" * 45])
    assert format_none(example, rng, "style_and_length_v2") == expected


def test_messages_with_roles_and_a_system_message():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
    ]
    assert plain_turns(messages) == ["System: Be brief.\nq", "a"]
    assert format_none({"messages": messages}) == chat_strings(["System: Be brief.\nq", "a"])


def test_multi_turn_messages_become_turns_with_the_first_style():
    parts = [{"style": "vqa2", "question": "q1", "answer": "a1"}, {"style": "x", "question": "q2", "text": "a2"}]
    assert format_none({"multi_turn_messages": parts}, style_mode="style") == chat_strings(
        ["vqa2: q1", "a1", "q2", "a2"]
    )


# prompts and answers from fields


@pytest.mark.parametrize(
    ("message", "prompt", "answer"),
    [
        ({"prompt": "p", "question": "q", "text": "t"}, "p", "t"),
        ({"question": "q", "answer": "a", "text": "t"}, "q", "a"),
        ({"question": "q", "answer": "a", "explanation": "because."}, "q", "because. Answer: a"),
        ({"question": "q", "answer": None, "answer_with_points": "w"}, "q", "w"),
        ({"timestamp": 2, "text": "t"}, "2.00", "t"),
        ({"start_time": 1.5, "end_time": "3", "text": "t"}, "1.50-3.00", "t"),
        ({"text": "t"}, "", "t"),
    ],
)
def test_prompts_and_answers_by_field(message, prompt, answer):
    assert question_and_answer(message) == (prompt, answer)


def test_the_most_frequent_answer_wins_and_ties_are_drawn():
    assert question_and_answer({"question": "q", "answers": ["a", "b", "b"]})[1] == "b"
    message = {"question": "q", "answers": ["c", "a", "b", "a", "c"]}
    rng = np.random.RandomState(0)
    assert {format_none(message, rng)[1] for _ in range(40)} == {"a", "c"}


def test_points_inside_an_answer_replace_their_marks():
    message = {
        "question": "q",
        "answer": "See <|POINT|> and <|POINT|>.",
        "answer_annotations": [
            {"points": [[50, 50]], "inline_text": "it", "alt_text": "dog"},
            {"points": [[0, 120]], "inline_text": "that", "alt_text": "cat"},
        ],
    }
    assert question_and_answer(message)[1] == (
        'See <points alt="dog" coords="1 1 500 500">it</points> and '
        '<points alt="cat" coords="1 1 000 1000">that</points>.'
    )
    with pytest.raises(ExampleError, match="bad_points"):
        question_and_answer({**message, "answer": "no mark"})


POINTS = {"points": [[25.0, 50.0]], "point_scale": 100}
TAG = '<points coords="1 1 250 500">red car</points>'


@pytest.mark.parametrize(
    ("message", "prompt", "answer"),
    [
        ({"style": "pointing", "label": "Red Car"}, "red car", TAG),
        ({"style": "point_count", "label": "Red Car"}, "red car", f"Counting the {TAG} shows a total of 1."),
        ({"style": "cosyn_point", "label": "Red Car", "question": "Where?"}, "Where?", TAG),
        ({"style": "pointing", "question": "red car"}, "red car", TAG),
        ({"style": "pointing", "label_cased": "Red Car"}, "Red Car", TAG.replace("red car", "Red Car")),
        ({"style": "count", "label": "red car"}, "red car", "1"),
        ({"style": "pointing", "label": "x", "points": []}, "x", "There are none."),
        ({"style": "point_count", "label": "x", "points": []}, "x", "There are none."),
        ({"style": "count", "label": "x", "points": None, "count": 5}, "x", "5"),
        ({"style": "count", "label": "x", "points": None, "count": 0}, "x", "There are none."),
    ],
)
def test_pointing_answers_by_style(message, prompt, answer):
    assert question_and_answer({**POINTS, **message}) == (prompt, answer)


@pytest.mark.parametrize(
    ("message", "image_size", "coords"),
    [
        ({"point_scale": 200, "width": 50, "height": 50, "image": 0}, (100, 100), "125 250"),
        ({"width": 50, "height": 50, "image": 0}, (100, 200), "250 250"),
        ({"width": 50, "height": 100}, (100, 100), "500 500"),
        ({"w": 50, "h": 100}, None, "500 500"),
        ({}, (100, 1000), "250 050"),
    ],
)
def test_points_are_measured_against_the_first_scale_that_is_there(message, image_size, coords):
    """Units of the datasets sheet, §0.4."""
    message = {"style": "pointing", "label": "x", "points": [[25.0, 50.0]], **message}
    assert f"1 1 {coords}" in question_and_answer(message, image_sizes=[image_size] if image_size else [])[1]


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ({"style": "pointing"}, "Point: x=100 y=100"),
        ({"style": "point_count"}, "Point: x=100 y=100\nCount: 1"),
        ({"style": "count"}, "Count: 1"),
        ({"style": "count", "count": 0}, "Count: 0"),
    ],
)
def test_plain_points_are_in_pixels(message, answer):
    message = {"label": "x", **POINTS, **message}
    assert question_and_answer(message, point_format="plain", image_sizes=[(400, 200)])[1] == answer


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        ({"message_list": []}, "no_answer"),
        ({"multi_turn_messages": []}, "no_answer"),
        ({"question": "q"}, "no_answer"),
        ({"question": "q", "answers": []}, "no_answer"),
        ({"question": "q", "answer": ""}, "empty_answer"),
        ({"message_list": [{"text": "fine"}, {"text": " \n"}]}, "empty_answer"),
        ({"messages": ["q", "", "q", "a"]}, "empty_answer"),
        ({"question": "q", "answer": 3}, "bad_text"),
        ({"question": 3, "answer": "a"}, "bad_text"),
        ({"messages": ["q", 3]}, "bad_text"),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant"}]}, "bad_text"),
        ({"messages": []}, "bad_roles"),
        ({"messages": ["q"]}, "bad_roles"),
        ({"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "q"}]}, "bad_roles"),
        ({"messages": [{"role": "user", "content": "q"}] * 2}, "bad_roles"),
        ({"messages": [{"role": "system", "content": "s"}]}, "bad_roles"),
        ({"style": "pointing", "label": "x"}, "no_points"),
        ({"style": "cosyn_point", "label": "x", "points": [], "point_scale": 100}, "no_points"),
        ({"style": "pointing", "points": [[1, 1]], "point_scale": 100}, "no_label"),
        ({"style": "pointing", "label": "x", "points": [[1, 1]]}, "no_scale"),
        ({"style": "pointing", "label": "x", "points": [[1]], "point_scale": 100}, "bad_points"),
        ({"timestamp": "noon", "text": "t"}, "bad_time"),
        ({"start_time": 1, "text": "t"}, "bad_time"),
    ],
)
def test_what_cannot_be_formatted_names_its_reason(example, reason):
    with pytest.raises(ExampleError) as caught:
        format_none(example)
    assert caught.value.reason == reason


@pytest.mark.parametrize("wrong", [{"style_mode": "styles"}, {"prompt_mode": "nothing"}, {"point_format": "xml"}])
def test_unknown_modes_are_refused_with_the_choice(wrong):
    arguments = {"style_mode": "style", "prompt_mode": "none", **wrong}
    with pytest.raises(ConfigError, match="must be one of"):
        format_example({"style": "x", "text": "t"}, np.random.RandomState(0), **arguments)


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_no_answer_is_lost_or_changed(answers, seed):
    example = {"message_list": [{"style": "long_caption", "text": answer} for answer in answers]}
    branches = format_none(example, np.random.RandomState(seed), "style_and_length_v2")
    assert sorted(branch[1] for branch in branches) == sorted(answers)
