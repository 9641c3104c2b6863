"""Datasets by name."""

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from grain_molmo.datasets import registry
from grain_molmo.datasets.base import Dataset
from grain_molmo.datasets.registry import dataset_names, get_dataset, open_dataset, register_dataset
from grain_molmo.datasets.written import write_dataset
from grain_molmo.errors import ConfigError, StoreError


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    registry._warn.cache_clear()
    registry._offered.cache_clear()
    yield
    registry._offered.cache_clear()


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
    with pytest.raises(
        ConfigError, match=r"unknown dataset 'pixmo-cup' .*; the nearest: pixmo_cap, .*dataset_names"
    ) as e:
        get_dataset("pixmo-cup")
    assert isinstance(e.value, ValueError)
    assert len(str(e.value)) < 400  # not all ninety of them
    with pytest.raises(ConfigError, match=r"unknown dataset 'qqqq' .*; grain_molmo.dataset_names\(\) lists"):
        get_dataset("qqqq")


def test_an_unknown_name_may_be_one_of_a_folder_that_was_not_given_or_is_not_there(tmp_path, monkeypatch):
    monkeypatch.delenv("GRAIN_MOLMO_DATA", raising=False)
    with pytest.raises(ConfigError, match=r"unknown dataset 'my-dots' .and no data folder was given.*--data-dir"):
        get_dataset("my-dots")
    with pytest.raises(ConfigError, match=r"unknown dataset 'my-dots' .and there is no folder .*nowhere"):
        get_dataset("my-dots", data_dir=tmp_path / "nowhere")
    monkeypatch.setenv("GRAIN_MOLMO_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match=r"unknown dataset 'my-dots' .no examples of this name were written into"):
        get_dataset("my-dots")


@pytest.mark.parametrize("name", ["../x", "a/b", "", None, 3])
def test_a_name_that_is_none_is_refused(name: Any):
    with pytest.raises(ConfigError, match="is no dataset name"):
        register_dataset(name, Mine)
    with pytest.raises(ConfigError, match="is no dataset name"):
        get_dataset(name)


def test_a_set_that_was_not_converted_says_how_to(tmp_path: Path):
    with pytest.raises(StoreError, match="grain-molmo convert pixmo-cap"):
        get_dataset("pixmo-cap", data_dir=tmp_path)


Installs = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installs:
    """Installs a package `NAME` of one module `NAME_sets`, with entry points."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def install(name: str, code: str, **points: str) -> None:
        (site / f"{name}_sets.py").write_text(code)
        info = site / f"{name}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        lines = [f"{key} = {name}_sets{value}" for key, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[grain_molmo.datasets]", *lines, ""]))
        monkeypatch.delitem(sys.modules, f"{name}_sets", raising=False)

    return install


BIRDS = """
import grain_molmo as gm

class Birds(gm.Dataset):
    def __init__(self, split="train", size=4, data_dir="its own"):
        self.split, self.size, self.data_dir = split, size, data_dir

    def __len__(self):
        return self.size
"""


def test_what_a_package_offers_is_found_without_importing_it(install: Installs):
    install("acme_birds", BIRDS, **{"acme-birds": ":Birds"})
    assert "acme_birds" in dataset_names()
    assert "acme_birds_sets" not in sys.modules
    dataset = get_dataset("acme-birds", split="test", size=3)
    assert (type(dataset).__module__, dataset.split, len(dataset)) == ("acme_birds_sets", "test", 3)  # pyright: ignore


def test_a_package_that_does_not_import_is_named_when_its_dataset_is_asked_for(install: Installs):
    install("broken", "import a_module_that_is_nowhere", worms=":Worms", eels=":Eels")
    install("hollow", "Nothing = None", nothing=":Nothing", lost=":Lost")
    assert {"worms", "eels", "nothing"} <= set(dataset_names())
    with pytest.raises(ConfigError, match=r"'worms' of package broken 1.5: .*:Worms fails: ModuleNotFoundError") as e:
        get_dataset("worms")
    assert isinstance(e.value.__cause__, ModuleNotFoundError)
    with pytest.raises(ConfigError, match=r"'nothing' of package hollow 1.5: .* is None, not a Dataset class"):
        get_dataset("nothing")
    with pytest.raises(ConfigError, match=r"'lost' of package hollow 1.5: .*AttributeError"):
        get_dataset("lost")


def test_a_module_that_exits_where_it_is_imported_does_not_end_the_run(install: Installs):
    install("script", "raise SystemExit(3)", steps=":Steps")
    with pytest.raises(ConfigError, match=r"'steps' of package script 1.5: .*:Steps fails: SystemExit: 3"):
        get_dataset("steps")


@pytest.mark.parametrize("value", ["", " !!!", " and more"])
def test_an_entry_point_that_is_none_does_no_harm_to_a_set_of_the_library(
    install: Installs, tmp_path: Path, value: str
):
    install("damaged", BIRDS, pixmo_cap=value, birds=value)
    with pytest.raises(StoreError, match="convert pixmo-cap"):
        get_dataset("pixmo_cap", data_dir=tmp_path)
    with pytest.raises(ConfigError, match=r"package damaged 1.5"):
        get_dataset("birds")


def test_entry_points_that_cannot_be_read_do_no_harm_to_a_set_of_the_library(
    install: Installs, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    install("damaged", BIRDS)
    (info,) = (tmp_path / "site").glob("*.dist-info")
    (info / "entry_points.txt").write_text("[grain_molmo.datasets]\nno equals sign\n")
    with pytest.raises(StoreError, match="convert pixmo-cap"):
        get_dataset("pixmo_cap", data_dir=tmp_path)
    assert "pixmo_cap" in dataset_names()
    assert "what installed packages offer cannot be read" in caplog.text


def test_two_packages_that_offer_one_name_are_both_named(install: Installs):
    install("one", BIRDS, birds=":Birds")
    install("two", BIRDS, birds=":Birds")
    with pytest.raises(ConfigError, match=r"offered by package one 1\.5 and package two 1\.5"):
        get_dataset("birds")


def test_a_name_that_is_taken_stays_as_it_was_and_that_is_said_once(
    install: Installs, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    register_dataset("mine", Mine)
    write_dataset([{"text": "A word."}], tmp_path / "store", "words", progress=False)
    install("greedy", BIRDS, pixmo_cap=":Birds", mine=":Birds", words=":Birds", free=":Birds")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert isinstance(get_dataset("mine"), Mine)
            with pytest.raises(StoreError, match="convert pixmo-cap"):
                get_dataset("pixmo_cap", data_dir=tmp_path)
            assert len(get_dataset("words", data_dir=tmp_path / "store")) == 1
            assert len(get_dataset("free")) == 4
    told = [record.message for record in caplog.records]
    assert sorted(told) == [
        "package greedy 1.5 offers a dataset 'mine', which is registered already; the package's is not used",
        "package greedy 1.5 offers a dataset 'pixmo_cap', which is registered already; the package's is not used",
        "package greedy 1.5 offers a dataset 'words', which is in the data folder; the package's is not used",
    ]


def test_a_package_may_register_what_it_offers(install: Installs, caplog: pytest.LogCaptureFixture):
    install("both", BIRDS + "gm.register_dataset('birds', Birds)", birds=":Birds")
    assert len(get_dataset("birds")) == len(get_dataset("birds")) == 4
    assert not caplog.records


def test_a_name_that_nobody_can_ask_for_hides_no_other(install: Installs, caplog: pytest.LogCaptureFixture):
    install("odd", BIRDS, **{"a/b": ":Birds", "birds": ":Birds"})
    assert len(get_dataset("birds")) == 4
    assert "package odd 1.5 offers a dataset that nobody can ask for: 'a/b'" in caplog.text


def test_a_dataset_of_one_s_own_is_told_what_its_arguments_say_and_not_where_the_store_is(
    install: Installs, tmp_path: Path
):
    install("acme_birds", BIRDS, birds=":Birds")
    plain = vars(open_dataset("birds", "train", tmp_path))
    assert plain == {"split": "train", "size": 4, "data_dir": "its own"}
    told = vars(open_dataset("birds", "train", tmp_path, {"size": 2, "data_dir": "x", "split": "test"}))
    assert told == {"split": "test", "size": 2, "data_dir": "x"}
    with pytest.raises(StoreError, match="convert pixmo-cap"):  # and not that no folder was named
        open_dataset("pixmo_cap", "train", None, {"data_dir": tmp_path})
    with pytest.raises(TypeError) as e:
        open_dataset("birds", "train", tmp_path, {"sise": 2})
    assert e.value.__notes__ == ["while making dataset 'birds' with split='train' and dataset_args {'sise': 2}"]
