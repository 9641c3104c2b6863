"""Mixtures of datasets of one's own: with arguments, or as objects that are made already."""

from pathlib import Path

import numpy as np
import pytest

import grain_molmo as gm
from grain_molmo.datasets import registry
from grain_molmo.errors import ConfigError
from grain_molmo.stage_data import open_datasets


class Words(gm.Dataset):
    def __init__(self, split: str = "train", size: int = 3, word: str = "word"):
        self.split, self.size, self.word = split, size, word

    def __len__(self) -> int:
        return self.size

    def get(self, item: int, rng: np.random.RandomState) -> dict:
        return {"messages": [f"{item}?", self.word]}


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    gm.register_dataset("words", Words)
    gm.register_dataset("others", Words)


def test_a_stage_says_with_what_arguments_its_datasets_are_made():
    listed = [{"name": "words", "weight": 1, "args": {"size": 5}}, {"name": "others", "weight": 3}]
    one = gm.Stage(mixture=listed, dataset_args={"others": {"word": "none", "split": "test"}})
    other = gm.Stage(
        mixture={"words": 0.25, "others": 0.75},
        dataset_args={"others": {"word": "none", "split": "test"}, "words": {"size": 5}},
    )
    assert one == other
    for stage in (one, gm.Stage(groups=(gm.Group(name="g", rate=1, datasets=("words", "others")),),
                                dataset_args=one.dataset_args)):  # fmt: skip
        opened, missing = open_datasets(stage, None)
        assert {name: vars(dataset) for name, dataset in opened.items()} == {
            "words": {"split": "train", "size": 5, "word": "word"},
            "others": {"split": "test", "size": 3, "word": "none"},
        }
        assert missing == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset_args": {"others": {}}}, "has dataset_args for sets that it has not: others"),
        ({"dataset_args": {"words": 7}}, "args of dataset 'words' are 7, not a dict"),
        ({"dataset_args": {"words": {1: 2}}}, "not a dict of keyword arguments"),
        (
            {"mixture": [{"name": "words", "weight": 1, "args": {}}], "dataset_args": {"words": {}}},
            "args of 'words' are in its mixture and in dataset_args",
        ),
        ({"mixture": [{"name": "words", "weight": 1, "arg": {}}]}, "a list holds .* not .*'arg'"),
        ({"mixture": [{"name": "words"}]}, "a list holds"),
        ({"mixture": ["words"]}, "a list holds"),
        (
            {"phases": [gm.Phase(step=3, mixture={"words": 1})], "dataset_args": {"others": {}}},
            "dataset_args for sets that it has not",
        ),
    ],
)
def test_arguments_that_make_no_sense_are_refused(settings: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        gm.Stage(**{"mixture": {"words": 1}, **settings})


def test_a_later_phase_says_no_arguments_of_its_own():
    with pytest.raises(ConfigError, match=r"phase from step 2 has args of words; give Stage\(dataset_args"):
        gm.Phase(step=2, mixture=[{"name": "words", "weight": 1, "args": {"size": 2}}])


def test_a_run_goes_on_with_other_arguments_for_the_same_examples():
    states = []
    for place in ("here", "away"):
        stage = gm.Stage(mixture={"words": 1}, dataset_args={"words": {"word": place}}, seq_len=64, batch_size=1)
        with gm.make_loader(stage, tokenizer="bytes", num_threads=1) as loader:
            if states:
                loader.set_state(states[0])
            next(loader)
            states.append(loader.get_state())
    assert [state["plan"]["step"] for state in states] == [1, 2]


def test_datasets_that_are_made_already_need_no_registration(tmp_path: Path):
    gm.write_dataset([{"text": "Stored."}], tmp_path, "stored", progress=False)
    stage = gm.Stage(mixture={"my-own": 1, "words": 1, "stored": 1}, seq_len=64, batch_size=4)
    given = {"my_own": Words(word="given"), "words": Words(size=9)}  # also instead of one that is registered
    opened, _ = open_datasets(stage, tmp_path, given)
    assert (opened["my_own"], opened["words"]) == (given["my_own"], given["words"])
    with gm.make_loader(stage, datasets=given, data_dir=tmp_path, tokenizer="bytes", num_threads=1) as loader:
        for _ in range(12):
            next(loader)
        assert set(loader.stats()["datasets"]) == {"my_own", "stored", "words"}


def test_they_stand_in_groups_too():
    stage = gm.Stage(groups=(gm.Group(name="g", rate=1, datasets=("mine", "nobodys")),))
    opened, missing = open_datasets(stage, None, {"mine": Words()})
    assert (list(opened), missing) == (["mine"], ["nobodys"])


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({"others": Words()}, "datasets has 'others', which stage 'custom' does not"),
        ({"words": Words}, "datasets.'words'. is .*give a grain_molmo.Dataset that is made already"),
        ({"words": Words(size=0)}, "dataset 'words' has no examples"),
        ({"mine": Words()}, "'mine' is made already; it has one object and no dataset_args"),
    ],
)
def test_objects_of_no_use_are_refused(datasets: dict, message: str):
    stage = gm.Stage(mixture={"words": 1, "mine": 1}, dataset_args={"mine": {}} if "mine" in datasets else {})
    with pytest.raises(ConfigError, match=message):
        open_datasets(stage, None, {"mine": Words(), **datasets})
