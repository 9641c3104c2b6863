from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_random import ScriptedRandom

from grain_molmo.errors import ExampleError
from grain_molmo.text import templates_choice as templates
from grain_molmo.text.multiple_choice import Choice, multiple_choice, plain_form, read_choice, varied_form

COLOURS = {"question": "Which?", "options": ["red", "green", "blue"], "answer_idx": 1}
CHOICE = read_choice(COLOURS)
U = "uniform"


def first_of(templates):
    return ("randint", (0, len(templates)), 0)


def test_evaluation_has_one_form_and_draws_nothing():
    """Molmo2 §2.5."""
    prompt, answer = multiple_choice(COLOURS, ScriptedRandom(), training=False)
    assert prompt == "Which?\nOnly return the correct answer option.\nA. red\nB. green\nC. blue"
    assert answer == "B. green"


def test_evaluation_leaves_unlabelled_options_without_names():
    message = {"question": "Which?", "unlabelled_options": ["red", "green"], "answer_idx": 0}
    assert multiple_choice(message, ScriptedRandom(), training=False) == (
        "Which?\nOnly return the correct answer option.\nred\ngreen",
        "red",
    )


def test_a_tenth_of_training_has_the_form_of_evaluation():
    assert multiple_choice(COLOURS, ScriptedRandom((U, 0.09)), training=True) == plain_form(CHOICE)
    rng = np.random.RandomState(0)
    plain = sum(multiple_choice(COLOURS, rng, training=True) == plain_form(CHOICE) for _ in range(5000))
    assert 430 < plain < 570


@pytest.mark.parametrize(
    ("draws", "prompt", "answer"),
    [
        (  # the name alone, instructed, a rare marker, roman numerals
            [
                *((U, 0.1), (U, 0.9), (U, 0.4), (U, 0.2), ("randint", (0, 19), 13), ("randint", (0, 4), 3)),
                *((U, 0.5), ("randint", (0, 16), 0), ("randint", (0, 15), 0)),
            ],
            "Which?\n<i> red\n<ii> green\n<iii> blue\nAnswer with the numeral of the correct option.",
            "ii",
        ),
        (  # the name alone, direct, "identifier"
            [
                *((U, 0.1), (U, 0.9), (U, 0.5), (U, 0.3), ("randint", (0, 4), 0), ("randint", (0, 4), 2)),
                *((U, 0.7), ("randint", (0, 9), 3)),
            ],
            "Which identifier answers the question?\nWhich?\n1. red\n2. green\n3. blue",
            "2",
        ),
        (  # name and text on one line, "label"
            [
                *((U, 0.3), (U, 0.7), (U, 0.05), (U, 0.1), (U, 0.3), ("randint", (0, 4), 3), ("randint", (0, 4), 1)),
                *(("randint", (0, 3), 1), (U, 0.9), ("randint", (0, 16), 1), ("randint", (0, 15), 1)),
            ],
            "Which?\nRepeat the correct option together with its label.\n(a) red ||| (b) green ||| (c) blue",
            "(b) green",
        ),
        (  # name and text on one line without a separator
            [
                *((U, 0.3), (U, 0.7), (U, 0.05), (U, 0.9), (U, 0.3), ("randint", (0, 4), 1), ("randint", (0, 4), 0)),
                *(("randint", (0, 3), 2), (U, 0.1), ("randint", (0, 19), 2)),
            ],
            "Which? A) red B) green C) blue",
            "B) green",
        ),
        (  # text alone, in a bulleted list
            [(U, 0.3), (U, 0.8), (U, 0.5), (U, 0.9), (U, 0.4), first_of(templates.BULLETS), ("randint", (0, 19), 0)],
            "Which?\n• red\n• green\n• blue",
            "green",
        ),
        (  # text alone, instructed, line by line
            [(U, 0.3), (U, 0.9), (U, 0.5), (U, 0.1), (U, 0.6), ("randint", (0, 14), 1), ("randint", (0, 15), 2)],
            "Repeat the correct option.\nWhich?\nred\ngreen\nblue",
            "green",
        ),
        (  # text alone, on one line
            [(U, 0.3), (U, 0.9), (U, 0.05), (U, 0.9), ("randint", (0, 2), 0), ("randint", (0, 19), 2)],
            "Which? red; green; blue",
            "green",
        ),
    ],
)
def test_forms_of_training_and_the_order_of_their_draws(draws, prompt, answer):
    """Molmo2 §2.5, steps 1 to 9."""
    rng = ScriptedRandom(*draws)
    assert varied_form(CHOICE, rng) == (prompt, answer)
    assert not rng.draws


def kind_of_answer(answer, text):
    return "text" if answer == text else "marker and text" if answer.endswith(text) else "name"


def test_the_kinds_of_answers_are_as_frequent_as_published():
    """Molmo2 §2.5: 24.6, 60.1 and 15.3 of a hundred over 20,000 draws."""
    rng = np.random.RandomState(0)
    kinds = Counter(kind_of_answer(varied_form(CHOICE, rng)[1], "green") for _ in range(20_000))
    shares = [kinds[kind] / 200 for kind in ("name", "marker and text", "text")]
    assert shares == pytest.approx([24.6, 60.1, 15.3], abs=1.2)


def test_a_separator_is_never_taken_for_part_of_an_option():
    choice = Choice("Which?", ["red;", "green"], 0, named=True)
    text_only = [(U, 0.3), (U, 0.9), (U, 0.05), (U, 0.9), ("randint", (0, 1), 0), ("randint", (0, 19), 2)]
    assert varied_form(choice, ScriptedRandom(*text_only))[0] == "Which? red; ||| green"
    none_left = Choice("Which?", ["red;", "green |||"], 0, named=True)
    line_by_line = [(U, 0.3), (U, 0.9), (U, 0.05), (U, 0.9), ("randint", (0, 19), 2)]
    assert varied_form(none_left, ScriptedRandom(*line_by_line))[0] == "Which? red;\ngreen |||"


@pytest.mark.parametrize(("n_options", "n_name_sets"), [(10, 4), (11, 3), (20, 3), (21, 2), (26, 2)])
def test_only_sets_with_enough_names_are_drawn_from(n_options, n_name_sets):
    """The published code fails there (Molmo2 §2.5, §11)."""
    choice = Choice("Which?", [f"o{i}" for i in range(n_options)], n_options - 1, named=True)
    draws = [
        (U, 0.1),
        (U, 0.9),
        (U, 0.9),
        (U, 0.3),
        ("randint", (0, 4), 0),
        ("randint", (0, n_name_sets), n_name_sets - 1),
    ]
    prompt, answer = varied_form(choice, ScriptedRandom(*draws, (U, 0.1), ("randint", (0, 9), 0)))
    assert prompt.endswith(f"{answer}. o{n_options - 1}")


def test_more_options_than_letters_get_no_names():
    options = [f"option {i}" for i in range(30)]
    choice = Choice("Which?", options, 28, named=True)
    assert plain_form(choice)[1] == "option 28"
    rng = np.random.RandomState(0)
    assert {varied_form(choice, rng)[1] for _ in range(200)} == {"option 28"}


def test_an_option_without_words_is_always_named():
    choice = Choice("Which?", ["red", ""], 1, named=True)
    rng = np.random.RandomState(0)
    assert all(varied_form(choice, rng)[1].strip() for _ in range(500))


def test_unlabelled_options_may_still_be_named_in_training():
    choice = read_choice({"question": "Which?", "unlabelled_options": ["red", "green"], "answer_idx": 1})
    rng = np.random.RandomState(0)
    text_only = sum(varied_form(choice, rng)[1] == "green" for _ in range(4000))
    assert 480 < text_only < 720


@pytest.mark.parametrize(
    "change",
    [
        {"options": []},
        {"options": "red"},
        {"options": ["red", 3]},
        {"options": None},
        {"answer_idx": None},
        {"answer_idx": 3},
        {"answer_idx": -1},
        {"answer_idx": "1"},
        {"answer_idx": 1.0},
    ],
)
def test_options_that_are_none_are_example_errors(change):
    with pytest.raises(ExampleError, match="bad_options"):
        read_choice({**COLOURS, **change})


OPTIONS = st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=35)


@given(OPTIONS, st.integers(0, 2**32 - 1), st.booleans())
def test_the_prompt_holds_every_option_and_the_answer(options, seed, training):
    message = {"question": "{options} 100 %?", "options": options, "answer_idx": len(options) - 1}
    prompt, answer = multiple_choice(message, np.random.RandomState(seed), training=training)
    assert message["question"] in prompt
    assert answer in prompt
    assert all(option in prompt for option in options)
