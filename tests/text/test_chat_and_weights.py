import json

import pytest

from grain_molmo.errors import ConfigError
from grain_molmo.text.chat import chat_strings
from grain_molmo.text.weights import CAPTION, POINT, PRETRAINING, SFT, LossWeighting


def test_turns_are_marked_as_in_the_published_pipeline(golden):
    cases = {case["name"]: case["messages"] for case in json.loads((golden / "text.json").read_text(encoding="utf-8"))}
    assert chat_strings(["What is the capital of France?", "Paris."]) == cases["text_only_single_turn"]
    turns = ["Name a color.", "Red", "Another one, please.", "Blue, like the sea."]
    assert chat_strings(turns) == cases["text_only_two_turns"]


def test_answers_stay_verbatim():
    assert chat_strings(["q", "  two lines\n\n "])[1] == "  two lines\n\n "


@pytest.mark.parametrize(
    ("weighting", "n", "branches", "weight"),
    [
        (PRETRAINING, 7, 3, 1.0),
        (SFT, 3, 3, 2 / 3),
        (SFT, 4, 1, 1.0),
        (POINT, 9, 4, 0.2),
        (CAPTION, 9, 4, 0.1),
        (LossWeighting(0.5, root_length=True), 4, 4, 0.5),
    ],
)
def test_token_weights(weighting, n, branches, weight):
    assert weighting.token_weight(n, branches) == pytest.approx(weight)


def test_an_override_replaces_only_what_it_names():
    assert SFT.overridden(None) == SFT
    assert SFT.overridden(0.5) == LossWeighting(0.5, root_length=True, root_subsegments=True)
    assert SFT.overridden({"root_length": False, "weight": None}) == LossWeighting(1.0, False, True)
    assert SFT.overridden({"weight": 0.2, "root_length": False, "root_subsegments": False}) == POINT
    assert SFT.overridden(POINT) == POINT


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_no_weight_is_refused(weight):
    with pytest.raises(ConfigError, match="loss weight"):
        LossWeighting(weight)
    with pytest.raises(ConfigError, match="loss weight"):
        SFT.overridden(weight)


def test_an_override_of_an_unknown_field_is_refused():
    with pytest.raises(ConfigError, match="root_lenght"):
        SFT.overridden({"root_lenght": True})
