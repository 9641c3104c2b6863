import numpy as np
import pytest

from grain_molmo.text.counting import NO_POINTING_PREFIXES, asks_to_count, with_no_pointing_prefix


@pytest.mark.parametrize(
    "question",
    [
        "How many dogs are there?",
        "howmany birds do you see",
        "Look closely. HOW MANY windows?",
        "Count the chairs.",
        "Please tally every red car in view",
        "there are ____ people",
        "In the photo we see a total of ___ cups",
        "What is the total number of boats?",
        "what's the number of legs",
        "What amount of apples is left",
        "The caption states the count of houses.",
        "How many quarters are on the table?",
        "How many Europeans are on the list?",
        "How many lessons are listed?",
        "How many squares does the pattern have?",
    ],
)
def test_questions_about_countable_things_are_found(question):
    assert asks_to_count(question)


@pytest.mark.parametrize(
    "question",
    [
        "What colour is the dog?",
        "How many minutes are left?",
        "How many km to the next town?",
        "How many square feet is the room?",
        "How many dollars does it cost?",
        "How many miles per hour does the sign allow?",
        "How many kilograms can it lift?",
        "How many liters of milk?",
        "How many more goals do they need?",
        "How many likes does the post have?",
        "How many ways are there to solve it?",
        "How many degrees is it outside?",
        "How many megabytes are free?",
        "How many watts does the bulb use?",
        "Approximately how many people are there?",
        "Do not count the chairs.",
        "What is the amount of money?",
        "What is the number of the bus?",
        "Is this an account the bank opened?",
        "The count of Monte Cristo",
        "",
    ],
)
def test_other_questions_are_left_alone(question):
    assert not asks_to_count(question)


def test_the_detector_takes_linear_time():
    for piece in ("how many minutes ", "how ", "count ", "there are __ ", "what's the ", "what is ", "number of "):
        assert not asks_to_count(piece * 20_000)


def test_there_are_28_distinct_instructions():
    assert len(set(NO_POINTING_PREFIXES)) == len(NO_POINTING_PREFIXES) == 28


def test_the_instruction_goes_in_front_and_each_is_drawn_alike():
    rng = np.random.RandomState(0)
    drawn = [with_no_pointing_prefix("How many dogs?", rng) for _ in range(28 * 200)]
    counts = [drawn.count(f"{prefix} How many dogs?") for prefix in NO_POINTING_PREFIXES]
    assert sum(counts) == len(drawn)
    assert min(counts) > 140
    assert max(counts) < 260


def test_nothing_is_drawn_for_other_questions():
    rng = np.random.RandomState(3)
    assert with_no_pointing_prefix("What is it?", rng) == "What is it?"
    assert rng.uniform() == np.random.RandomState(3).uniform()
