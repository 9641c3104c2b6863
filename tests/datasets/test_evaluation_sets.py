"""One prompt an example: messages taken apart, and pictures to be described."""

import pickle

import numpy as np
import pytest

import grain_molmo as gm
from grain_molmo.datasets.evaluation import DenseCaptionEval, EachMessage, shown_size
from grain_molmo.errors import ConfigError, ExampleError
from grain_molmo.rng import example_rng

PIXELS = np.zeros((20, 30, 3), np.uint8)


class Given(gm.Dataset):
    """The examples that it is given; those that are errors are raised."""

    fingerprint = "given"

    def __init__(self, *examples):
        self.examples = examples

    def __len__(self):
        return len(self.examples)

    def get(self, item, rng):
        if isinstance(self.examples[item], Exception):
            raise self.examples[item]
        return {**self.examples[item], "drawn": rng.randint(1000)}


def example(example_id, *labels, **fields):
    messages = [{"style": "pointing", "label": label, "points": [[1, 2]]} for label in labels]
    return {"image": PIXELS, "message_list": messages, "metadata": {"id": example_id, "url": "u"}, **fields}


def test_each_message_is_an_example_with_its_number_behind_the_id():
    each = EachMessage(Given(example("a", "dog", "cat"), example("b", "cow")))
    assert len(each) == 3
    assert each.ids == ["a#0", "a#1", "b#0"]
    assert [one["metadata"]["id"] for one in each] == each.ids
    assert [[m["label"] for m in one["message_list"]] for one in each] == [["dog"], ["cat"], ["cow"]]
    assert each[1]["metadata"] == {
        "id": "a#1",
        "url": "u",
        "image_size": [30, 20],
        "message": {"style": "pointing", "label": "cat", "points": [[1, 2]]},
    }
    assert each[1]["image"] is PIXELS


def test_examples_of_the_same_id_are_numbered_through():
    each = EachMessage(Given(example("a", "dog", "cat"), example("b", "cow"), example("a", "dog", "cat")))
    assert each.ids == ["a#0", "a#1", "b#0", "a#2", "a#3"]
    assert each[4]["message_list"][0]["label"] == "cat"


def test_questions_are_messages_too_and_an_example_that_is_one_itself_stays():
    asked = {"questions": ["How?", "Why?"], "answers": ["So.", "Because."], "style": "demo"}
    alone = {"messages": ["Hi", "Hello"], "metadata": {"id": "alone"}}
    each = EachMessage(Given(asked, alone))
    assert each.ids == ["0#0", "0#1", "alone"]
    assert each[1]["message_list"] == [{"style": "demo", "question": "Why?", "answer": "Because."}]
    assert each[2]["messages"] == ["Hi", "Hello"]
    assert each[2]["metadata"] == {"id": "alone"}


def test_an_example_that_cannot_be_had_keeps_one_place_and_says_why_when_it_is_wanted():
    each = EachMessage(
        Given(example("a", "dog"), ExampleError("bad", "no such thing"), example("c"), example("d", "cow"))
    )
    assert each.ids == ["a#0", "1", "c", "d#0"]
    with pytest.raises(ExampleError, match="no such thing"):
        each[1]
    assert each[2]["message_list"] == []
    assert each[3]["message_list"][0]["label"] == "cow"


def test_an_evaluation_set_is_one_fixed_thing_whatever_the_random_state():
    given = Given(example("a", "dog", "cat"), example("b", "cow"))
    each = EachMessage(given)
    drawn = [each.get(2, example_rng(seed, "each", epoch, 2))["drawn"] for seed in range(3) for epoch in range(3)]
    assert set(drawn) == {given[1]["drawn"]}
    assert each.fingerprint == pickle.loads(pickle.dumps(each)).fingerprint
    assert each.fingerprint != EachMessage(Given(example("a", "dog"))).fingerprint


class Clip:
    width, height = 64, 48


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"image": PIXELS}, [30, 20]),
        ({"image": [PIXELS, PIXELS[:5]]}, [[30, 20], [30, 5]]),
        ({"image": []}, None),
        ({"video": Clip()}, [64, 48]),
        ({"video": "a/file.mp4"}, None),
        ({}, None),
    ],
)
def test_the_size_of_what_is_shown_is_known_without_opening_it(fields, size):
    assert shown_size(fields) == size


pytest_loader_group = pytest.mark.xdist_group("loader")  # they share the sample


@pytest_loader_group
def test_points_of_the_validation_split_one_label_at_a_time(sample_dir):
    whole = gm.get_dataset("pixmo_points", "validation", data_dir=sample_dir, counting=False)
    each = EachMessage(whole)
    assert len(each) == sum(len(one["message_list"]) for one in whole) > len(whole)
    assert len({*each.ids}) == len(each)
    assert all(one["metadata"]["id"] == one_id for one, one_id in zip(each, each.ids, strict=True))


@pytest_loader_group
def test_pictures_to_be_described_ask_and_do_not_answer(sample_dir):
    described = gm.get_dataset("dense-caption-eval", "validation", data_dir=sample_dir)
    assert isinstance(described, DenseCaptionEval)
    captions = gm.get_dataset("pixmo_cap", "validation", data_dir=sample_dir)
    assert len(described) == len(captions) > 0
    for one, known in zip(described, captions, strict=True):
        assert one.keys() == {"image", "style", "metadata"}
        assert one["style"] == "long_caption"
        assert one["metadata"] == {
            **known["metadata"],
            "caption": known["caption"],
            "transcripts": known["transcripts"],
        }


@pytest_loader_group
def test_the_pictures_to_be_described_are_those_held_out_by_default(sample_dir):
    assert DenseCaptionEval(data_dir=sample_dir).split == "validation"
    with pytest.raises(ConfigError, match="test"):
        DenseCaptionEval("test", sample_dir)
