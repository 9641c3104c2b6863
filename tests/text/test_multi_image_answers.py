from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_random import ScriptedRandom

from grain_molmo.errors import ExampleError
from grain_molmo.text import templates_pointing as templates
from grain_molmo.text.format import format_example
from grain_molmo.text.points import parse_points

EXAMPLE = {
    "labels": ["a Cat", "Dogs", "Cats"],
    "normalized_labels": ["cat", "dog", "cat"],
    "points": [[[7, 8]], [[50, 50]], [[10, 20], [5, 6]]],
    "point_scale": 100,
    "clip_points": True,
}
POINTING, COUNTING = "multi_image_pointing", "multi_image_counting"
POINT_THEN_COUNT, COUNT_THEN_POINT = "multi_image_point_then_count", "multi_image_count_then_point"
ALL, SOME, CAT, DOG = ("uniform", 0.49), ("uniform", 0.5), ("randint", (0, 2), 0), ("randint", (0, 2), 1)


class AllImages(np.random.RandomState):
    """Always selects all pictures."""

    def uniform(self):
        return 0.0


def format_images(rng, style=POINT_THEN_COUNT, change=None, prompt_mode="uber_model_v2", **arguments):
    example = {"style": style, **EXAMPLE, **(change or {})}
    user, answer = format_example(example, rng, style_mode="no_style", prompt_mode=prompt_mode, **arguments)
    return user.removeprefix("<|im_start|>user\n").removesuffix("<|im_end|>\n<|im_start|>assistant\n"), answer


def some(*selected):
    """The draws that select these pictures, and the first template."""
    order = [*selected, *({0, 1, 2} - {*selected})]
    return SOME, ("randint", (1, 4), len(selected)), ("permutation", 3, np.array(order))


def test_a_selection_of_pictures_in_the_order_drawn():
    """Molmo2 §2.6; the numbers of points run on across pictures."""
    rng = ScriptedRandom(CAT, *some(2, 0), ("randint", (0, 14), 0))
    prompt, answer = format_images(rng)
    assert prompt == "Point to a Cat in image_3, image_1 and count them."
    assert (
        answer == 'Counting the <points coords="3 1 050 060 2 100 200;1 3 070 080">a Cat</points> shows a total of 3.'
    )
    assert not rng.draws


ALL_CATS = '<points coords="1 1 070 080;3 2 050 060 3 100 200">a Cat</points>'


@pytest.mark.parametrize(
    ("style", "n_templates", "answer"),
    [
        (COUNTING, 9, "3"),
        (POINT_THEN_COUNT, 14, f"Counting the {ALL_CATS} shows a total of 3."),
        (COUNT_THEN_POINT, 9, f"There are 3 {ALL_CATS}."),
        (f"eval_{COUNTING}", 9, "3"),
    ],
)
def test_all_pictures_by_style(style, n_templates, answer):
    rng = ScriptedRandom(CAT, ALL, ("randint", (0, n_templates), 0))
    prompt, seen = format_images(rng, style)
    assert "a Cat" in prompt
    assert "all images" in prompt
    assert seen == answer


def test_pointing_in_all_pictures_may_sound_like_one_picture():
    rng = ScriptedRandom(CAT, ALL, ("uniform", 0.49), ("randint", (0, 43), 0))
    assert format_images(rng, POINTING) == (templates.POINTING[0].format(label="a Cat"), ALL_CATS)
    rng = ScriptedRandom(CAT, ALL, ("uniform", 0.5), ("randint", (0, 11), 0))
    assert format_images(rng, POINTING)[0] == "Point to a Cat in all images."


def test_one_picture_is_all_of_them_and_draws_nothing():
    change = {"labels": ["Dogs"], "normalized_labels": ["dog"], "points": [[[1, 1]]]}
    rng = ScriptedRandom(("randint", (0, 1), 0), ("randint", (0, 9), 0))
    prompt, answer = format_images(rng, COUNTING, change)
    assert prompt == "How many Dogs are there in all images?"
    assert answer == "1"


@pytest.mark.parametrize("style", [POINTING, COUNTING, POINT_THEN_COUNT, COUNT_THEN_POINT])
def test_what_is_not_in_the_selection_is_none(style):
    n = {POINTING: 11, POINT_THEN_COUNT: 14}.get(style, 9)
    rng = ScriptedRandom(DOG, *some(0, 2), ("randint", (0, n), 0))
    assert format_images(rng, style)[1] == "There are none."


def test_pictures_without_points_are_passed_over():
    change = {"points": [[], None, [[5, 6]]]}
    rng = ScriptedRandom(CAT, ALL, ("randint", (0, 14), 0))
    assert '"3 1 050 060"' in format_images(rng, change=change)[1]


def test_labels_without_their_normal_form_are_lower_cased():
    change = {"normalized_labels": None, "labels": ["Dog ", "dog", "Cat"]}
    rng = ScriptedRandom(DOG, ALL, ("randint", (0, 14), 0))
    prompt, answer = format_images(rng, change=change)
    assert "Dog " in prompt
    assert '"1 1 070 080;2 2 500 500"' in answer


def test_without_templates_the_prompt_is_label_and_pictures():
    assert format_images(ScriptedRandom(CAT, *some(0)), prompt_mode="none")[0] == "a Cat in image_1"


def test_the_message_may_be_one_of_several():
    example = {
        "image": [object()] * 3,
        "message_list": [{"style": COUNTING, **EXAMPLE}, {"question": "q", "answer": "a"}],
    }
    tree = format_example(example, np.random.RandomState(0), style_mode="no_style", prompt_mode="uber_model_v2")
    assert len(tree) == 2


def test_plain_points_say_their_picture_in_its_own_pixels():
    sizes = [(100, 100), (200, 200), (400, 800)]
    arguments = {"point_format": "plain", "image_sizes": sizes}
    rng = ScriptedRandom(CAT, ALL, ("randint", (0, 14), 0))
    assert format_images(rng, **arguments)[1] == (
        "Image: 1 Point: x=7 y=8\nImage: 3 Point: x=40 y=160\nImage: 3 Point: x=20 y=48\nCount: 3"
    )
    rng = ScriptedRandom(CAT, ALL, ("randint", (0, 9), 0))
    assert format_images(rng, COUNTING, **arguments)[1] == "Count: 3"
    rng = ScriptedRandom(DOG, *some(0), ("randint", (0, 11), 0))
    assert format_images(rng, POINTING, **arguments)[1] == "There are none."


def test_half_of_the_questions_are_about_all_pictures_and_every_label_is_as_likely():
    rng = np.random.RandomState(0)
    prompts = [format_images(rng, COUNTING)[0] for _ in range(4000)]
    assert 1880 < sum("all images" in prompt for prompt in prompts) < 2120
    assert 1880 < sum("Dogs" in prompt for prompt in prompts) < 2120
    sizes = Counter(prompt.count("image_") for prompt in prompts if "all images" not in prompt)
    assert all(560 < sizes[n] < 780 for n in (1, 2, 3))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"points": None}, "bad_points"),
        ({"points": [[[1, 2]], [[1, 2]]]}, "bad_points"),
        ({"points": [3, [], []]}, "bad_points"),
        ({"points": [[[1]], [[1]], [[1]]]}, "bad_points"),
        ({"labels": None}, "no_label"),
        ({"labels": "cat"}, "no_label"),
        ({"labels": ["a", "b", None]}, "no_label"),
        ({"labels": [], "normalized_labels": [], "points": []}, "no_label"),
        ({"normalized_labels": ["a", "b", 3]}, "no_label"),
        ({"normalized_labels": ["a", "b"]}, "bad_points"),
        ({"point_scale": None}, "no_scale"),
    ],
)
def test_malformed_examples_name_their_reason(change, reason):
    with pytest.raises(ExampleError) as caught:
        format_images(AllImages(0), change=change)
    assert caught.value.reason == reason


PERCENT = st.floats(0, 100, allow_subnormal=False)
PICTURES = st.lists(
    st.tuples(st.sampled_from(["cat", "dog"]), st.lists(st.tuples(PERCENT, PERCENT), max_size=5)),
    min_size=1,
    max_size=5,
)


@given(PICTURES, st.integers(0, 2**32 - 1))
def test_points_read_back_from_pictures_of_one_label(pictures, seed):
    names, points = [name for name, _ in pictures], [group for _, group in pictures]
    change = {"labels": names, "normalized_labels": names, "points": points}
    prompt, answer = format_images(np.random.RandomState(seed), POINT_THEN_COUNT, change)
    assert (prompt, answer) == format_images(np.random.RandomState(seed), POINT_THEN_COUNT, change)
    parsed = parse_points(answer, 100)
    assert [p.object_id for p in parsed] == list(range(1, len(parsed) + 1))
    named = {names[int(p.frame) - 1] for p in parsed}
    assert len(named) <= 1
    for i in {int(p.frame) - 1 for p in parsed}:
        assert len(points[i]) == sum(p.frame == i + 1 for p in parsed)
