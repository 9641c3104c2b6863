"""What a loader's state belongs to, and what a refusal says of two that differ."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

import grain_molmo as gm
from grain_molmo.fingerprint import differences, fingerprint
from grain_molmo.packing.rows import PlanPhase

STAGE = gm.Stage(mixture={"talks": 1, "more": 1}, batch_size=2, seq_len=256)


class Talks(gm.Dataset):
    def __len__(self):
        return 4

    def get(self, item, rng):
        return {"messages": ["What?", "That."]}


@dataclass(frozen=True)
class Run:
    stage: gm.Stage = STAGE
    datasets: dict = field(default_factory=lambda: {name: Talks() for name in ("talks", "more")})
    tokenizer: None = None
    seed: int = 0
    training: bool = True


def phase(step=0, excluded=None, **weights):
    return PlanPhase(step, weights or {"talks": 1.0}, excluded or {})


def of(run=None, phases=None, step=0, **settings):
    return fingerprint(run or Run(), phases or [phase()], step, **settings)


def test_a_phase_belongs_to_a_state_once_a_batch_of_it_was_handed_out():
    short, long = [phase()], [phase(), phase(step=5, more=1.0)]

    assert of(phases=long, step=5) == of(phases=short, step=5)
    assert differences(of(phases=long, step=6), of(phases=short, step=6)) == "mixture, data differ (more)"


def test_the_first_phase_belongs_to_a_state_from_the_beginning():
    assert differences(of(phases=[phase()]), of(phases=[phase(talks=2.0)])) == "mixture differ"


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (of(Run(training=False)), of(), "stage differ (training)"),
        (of(Run(seed=1)), of(), "seed differ"),
        (of(Run(stage=replace(STAGE, seq_len=128, batch_size=4))), of(), "stage differ (batch_size, seq_len)"),
        (of(Run(stage=replace(STAGE, name="other"))), of(), ""),
        (of(phases=[phase(excluded={"talks": [1]})]), of(), "mixture differ"),
        (of(phases=[phase(excluded={"talks": [2, 1]})]), of(phases=[phase(excluded={"talks": {1, 2}})]), ""),
        (of(order=["a", "b"]), of(order=["b", "a"]), "mixture differ"),
        (of(filtered=["more"]), of(), "data differ (more)"),
        (of(filtered=["not there"]), of(), ""),
        (of(phases=[phase(talks=np.float64(1))]), of(), ""),
    ],
)
def test_what_changes_a_batch_changes_a_state_and_is_named(ours, theirs, said):
    assert differences(ours, theirs) == said
    assert differences(theirs, ours) == said


def test_a_state_of_a_version_that_told_no_details_is_refused_by_its_parts_alone():
    ours = of(Run(stage=replace(STAGE, seq_len=128)))
    theirs = {part: value for part, value in of().items() if part != "details"}

    assert differences(ours, theirs) == "stage differ"
    assert differences(of(), theirs) == ""


def test_a_dataset_whose_name_holds_an_equals_sign_is_named_in_full():
    ours = {"data": "1", "details": "a=b=c0de"}

    assert differences(ours, {"data": "2", "details": "a=b=77b1"}) == "data differ (a=b)"


def test_when_a_phase_begins_which_rules_and_which_tokenizer_belong_to_a_state():
    early, late = ([phase(), phase(step=step, more=1.0)] for step in (3, 5))
    rule = replace(STAGE, rules={"talks": gm.DatasetRule(loss=0.5)})

    assert differences(of(phases=early, step=9), of(phases=late, step=9)) == "mixture differ"
    assert differences(of(Run(stage=rule)), of()) == "data differ (talks)"
    assert differences(of(Run(tokenizer=gm.load_tokenizer("bytes"))), of()) == "tokenizer differ"
