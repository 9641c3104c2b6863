"""Datasets by name."""

from pathlib import Path

import pytest

from grain_molmo.datasets import registry
from grain_molmo.datasets.base import Dataset
from grain_molmo.datasets.registry import dataset_names, get_dataset, register_dataset
from grain_molmo.errors import ConfigError, StoreError


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


class Mine(Dataset):
    def __init__(self, split: str = "train", size: int = 3):
        self.split, self.size = split, size

    def __len__(self) -> int:
        return self.size


def test_the_seven_sets_of_pixmo_are_there_from_the_start():
    assert set(dataset_names()) >= {
        "pixmo_ask_model_anything",
        "pixmo_cap",
        "pixmo_cap_qa",
        "pixmo_clocks",
        "pixmo_count",
        "pixmo_docs",
        "pixmo_points",
    }


def test_a_registered_class_or_function_is_made_with_split_and_arguments():
    register_dataset("my-set", Mine)
    register_dataset("larger", lambda split, **kwargs: Mine(split, size=7, **kwargs))
    dataset = get_dataset("my_set", split="validation", size=4)
    assert (dataset.split, len(dataset)) == ("validation", 4)  # pyright: ignore[reportAttributeAccessIssue]
    assert len(get_dataset("larger")) == 7
    assert {"my_set", "larger"} <= set(dataset_names())
    assert dataset_names() == sorted(dataset_names())


def test_hyphens_and_underscores_name_the_same_set_and_the_later_registration_holds():
    register_dataset("my-set", Mine)
    register_dataset("my_set", lambda split: Mine(split, size=1))
    assert len(get_dataset("my-set")) == len(get_dataset("my_set")) == 1


def test_an_unknown_name_is_refused_with_the_nearest_ones_and_where_the_others_are():
    with pytest.raises(ConfigError, match=r"unknown dataset 'pixmo-cup'; the nearest: pixmo_cap, .*dataset_names") as e:
        get_dataset("pixmo-cup")
    assert isinstance(e.value, ValueError)
    assert len(str(e.value)) < 300  # not all ninety of them
    with pytest.raises(ConfigError, match=r"unknown dataset 'qqqq'; grain_molmo.dataset_names\(\) lists"):
        get_dataset("qqqq")


@pytest.mark.parametrize("name", ["../x", "a/b", ""])
def test_a_name_that_is_none_is_refused(name: str):
    with pytest.raises(ConfigError, match="is no dataset name"):
        register_dataset(name, Mine)
    with pytest.raises(ConfigError, match="is no dataset name"):
        get_dataset(name)


def test_a_set_that_was_not_converted_says_how_to(tmp_path: Path):
    with pytest.raises(StoreError, match="grain-molmo convert pixmo-cap"):
        get_dataset("pixmo-cap", data_dir=tmp_path)
