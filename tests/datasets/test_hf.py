"""Tables in the forms of the hub, read as they are."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

import grain_molmo as gm
from grain_molmo.errors import ConfigError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


class Asked(gm.HfDataset):
    def get(self, item: int, rng: np.random.RandomState) -> dict:
        row = self.data[item]
        return {"messages": [row["question"], row["answer"]]}


def asked(path: object) -> type[Asked]:
    return type("Asked", (Asked,), {"PATH": path})


ROWS = {
    "train": [{"question": f"q{i}", "answer": f"a{i}"} for i in range(5)],
    "test": [{"question": "last", "answer": "one"}],
}


@pytest.fixture(params=["parquet", "saved"])
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with two splits, as the hub has it or as `save_to_disk` writes it."""
    tables = {split: datasets.Dataset.from_list(rows) for split, rows in ROWS.items()}
    if request.param == "saved":
        datasets.DatasetDict(tables).save_to_disk(tmp_path / "hub")
    else:
        for split, table in tables.items():
            table.to_parquet(tmp_path / "hub" / "data" / f"{split}-00000-of-00001.parquet")
    return tmp_path / "hub"


def test_a_folder_is_read_by_its_splits(hub: Path):
    dataset = asked(hub)
    assert dataset.download() is None
    assert (len(dataset()), len(dataset("test")), dataset("test").split) == (5, 1, "test")
    assert [dataset()[i]["messages"] for i in range(5)] == [[f"q{i}", f"a{i}"] for i in range(5)]


def test_a_split_that_is_not_there_is_named_with_those_that_are(hub: Path):
    with pytest.raises(ConfigError, match=r"Asked: split 'validation' of .*hub cannot be loaded.*train.*test"):
        asked(hub)("validation")


def test_a_saved_dataset_alone_is_its_own_split(tmp_path: Path):
    datasets.Dataset.from_list(ROWS["train"]).save_to_disk(tmp_path / "one")
    assert len(asked(tmp_path / "one")()) == 5
    with pytest.raises(ConfigError, match=r"split 'test' of .* it has train"):
        asked(tmp_path / "one")("test")


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.csv", "rows.parquet"])
def test_a_file_is_read_by_its_ending(tmp_path: Path, name: str):
    path = tmp_path / name
    table = datasets.Dataset.from_list(ROWS["train"])
    writers = {".json": table.to_json, ".jsonl": table.to_json, ".csv": table.to_csv, ".parquet": table.to_parquet}
    writers[path.suffix](path)
    assert asked(path)()[4]["messages"] == ["q4", "a4"]


def test_a_file_may_be_named_from_home_and_in_capitals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "rows.JSON").write_text(json.dumps(ROWS["train"]))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(asked("~/rows.JSON")()) == 5


def test_a_file_that_does_not_read_is_named_with_the_reason(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text('{"question": "q"}\n{"question":\n')
    with pytest.raises(ConfigError, match=r"rows.jsonl cannot be loaded: it does not read \(JSON parse error"):
        asked(tmp_path / "rows.jsonl")()


def test_a_file_of_another_kind_is_refused(tmp_path: Path):
    (tmp_path / "rows.xml").write_text(json.dumps(ROWS))
    with pytest.raises(ConfigError, match=r"rows.xml cannot be loaded: a file must be one of .parquet, .json"):
        asked(tmp_path / "rows.xml")()


def test_a_path_that_leads_nowhere_and_no_path_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="Asked has no PATH"):
        Asked()
    with pytest.raises(ConfigError, match=r"Asked.PATH is .*nothing': no folder or file of this machine"):
        asked(tmp_path / "nothing")()
    with pytest.raises(
        ConfigError, match=r"Asked.PATH is 'nobody/nothing': no folder .* that can be reached .*Offline"
    ):
        asked("nobody/nothing").download()


class Own(Asked):
    """Sets its split itself, before the base does."""

    def __init__(self, path: Path, split: str):
        self.PATH, self.split = str(path), split
        super().__init__()

    def load(self) -> object:
        return datasets.load_from_disk(self.PATH)[self.split]


def test_it_pickles_small_where_its_rows_lie_in_files(tmp_path: Path):
    many = datasets.Dataset.from_dict({"question": [f"q{i}" for i in range(20_000)], "answer": ["a"] * 20_000})
    datasets.DatasetDict(train=many, test=many.select([7])).save_to_disk(tmp_path / "hub")
    dataset = Own(tmp_path / "hub", "train")
    data = pickle.dumps(dataset)
    assert len(data) < 10_000
    assert pickle.loads(data)[19_999]["messages"] == ["q19999", "a"]
    assert len(Own(tmp_path / "hub", "test")) == 1  # the base keeps the split that was set before it
