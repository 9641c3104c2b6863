"""Which sets a stage needs."""

import pytest

from converters.choose import STAGE_CHOICES, set_of_dataset, sets_of_stage
from converters.request import SetRequest, source_splits
from converters.sets import SETS
from grain_molmo.stages import STAGES


def names(stage: str, **options: bool) -> list[str]:
    return [spec.name for spec in sets_of_stage(stage, **options)]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_needs_each_set_of_its_mixture_once(stage: str):
    assert len(set(names(stage))) == len(names(stage))
    assert set(names(stage)) == {set_of_dataset(name) for name in STAGES[stage].mixture}


def test_all_is_every_stage():
    assert set(names("all")) == {name for stage in STAGES for name in names(stage)}
    assert len(set(names("all"))) == len(names("all")) == 14


def test_evaluation_sets_come_with_the_set_that_they_evaluate_and_only_when_asked_for():
    assert "pixmo_points_eval" not in names("pretraining")
    assert names("pretraining", include_eval=True) == [*names("pretraining"), "pixmo_points_eval"]
    assert "pixmo_points_eval" not in names("sft", include_eval=True)


def test_test_splits_are_left_out_of_training_and_validation_is_not():
    def splits(name: str, include_eval: bool) -> tuple[str, ...]:
        return source_splits(SETS[name], SetRequest(name=name, include_eval=include_eval), is_local=False)

    assert splits("pixmo_count", False) == ("train", "validation")
    assert splits("pixmo_count", True) == ("train", "validation", "test")
    assert splits("molmo2_cap", False) == ("train", "val")
    assert splits("molmo2_videocapqa", False) == ("CapQA",)


def test_every_stage_can_be_chosen():
    assert set(STAGE_CHOICES) == {"pretraining", "sft", "long_context", "all"}
