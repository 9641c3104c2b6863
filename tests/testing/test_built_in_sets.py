"""Every set of the library, on generated rows, is what `check_dataset` asks of a dataset."""

import functools
from dataclasses import replace

import pytest

import grain_molmo as gm
from grain_molmo.datasets.registry import CONVERTED_DATASETS, get_dataset
from grain_molmo.errors import MissingSplitError
from grain_molmo.stages import STAGES
from grain_molmo.testing import check_dataset

pytestmark = pytest.mark.xdist_group("all_sets")  # they share the converted rows

SPLITS = ("train", "validation", "test")
PROMPTS = replace(STAGES["pretraining"], kind="prompts")  # for a set that asks without an answer


def _distinct() -> dict[str, str]:
    """A name for each way in which a set is made: several names stand for the same."""
    names: dict[str, str] = {}
    for name, factory in CONVERTED_DATASETS.items():
        made = (factory.func, factory.keywords) if isinstance(factory, functools.partial) else (factory, {})
        names.setdefault(repr(made), name)
    return names


@pytest.mark.parametrize("name", _distinct().values())
def test_a_set_of_the_library_is_as_it_must_be(name, all_sets):
    checked = 0
    for split in SPLITS:
        try:
            dataset = get_dataset(name, split, data_dir=all_sets)
        except MissingSplitError:
            continue
        twice = getattr(dataset, "counting", None) == "both" or "oversample" in name  # a record's visits share its id
        stage = PROMPTS if isinstance(dataset, gm.DenseCaptionEval) else None
        checked += check_dataset(dataset, num_examples=4, stage=stage, skip=["ids"] if twice else []).checked
    if not checked:
        pytest.skip("the generated rows have none of its kind")


def test_at_least_most_of_them_are_there(all_sets):
    """So that the tests above do not skip what they are about."""
    assert len(_distinct()) > 40
