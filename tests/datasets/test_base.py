"""What every dataset gives: random access, examples that depend on the index alone, pictures not opened."""

import pickle
from pathlib import Path

import grain
import numpy as np
import pytest

from grain_molmo.datasets.base import Dataset, DatasetBase, StoreDataset, open_media_store
from grain_molmo.errors import ConfigError, StoreError
from grain_molmo.rng import example_rng
from grain_molmo.store import MediaRef, Record, SplitWriter, content_key
from grain_molmo.vision.lazy import LazyImage


class Dice(Dataset):
    """A dataset that draws at random."""

    def __len__(self) -> int:
        return 5

    def get(self, item: int, rng: np.random.RandomState) -> dict:
        return {"number": item, "rolled": int(rng.randint(1 << 30))}


class Birds(StoreDataset):
    NAME = "birds"

    def get(self, item: int, rng: np.random.RandomState) -> dict:
        record = self.records[item]
        return {"image": self.images(record), **record.annotation}


def write_birds(data_dir: Path, split: str, *pictures: bytes) -> None:
    items = []
    for number, data in enumerate(pictures):
        ref = MediaRef(content_key(data), "image", 4, 3, len(data))
        items.append((Record(f"{split}-{number}", {"bird": number}, (ref,)), {ref.sha256: data}))
    writer = SplitWriter(data_dir, "birds", split, num_shards=1)
    writer.write_shard(0, items)
    writer.finish(source={}, converter={}, rejects=[])


def test_an_example_depends_on_its_index_alone():
    dataset = Dice()
    forwards = [dataset[index] for index in range(5)]
    assert [Dice()[index] for index in reversed(range(5))] == forwards[::-1]
    assert list(dataset) == forwards
    assert len({example["rolled"] for example in forwards}) == 5
    assert dataset[2] == dataset.get(2, example_rng(0, "Dice", 0, 2))


def test_indices_count_from_either_end_and_end_somewhere():
    dataset = Dice()
    assert dataset[-1] == dataset[4] == dataset[np.int64(4)]  # pyright: ignore[reportArgumentType]
    for outside in (5, -6):
        with pytest.raises(IndexError):
            dataset[outside]
    with pytest.raises(TypeError, match=r"Dice is read one example at a time: \[dataset\[i\] for i in range\(1, 3\)\]"):
        dataset[1:3]  # pyright: ignore[reportArgumentType]


def test_a_dataset_is_a_grain_source():
    assert isinstance(Dice(), grain.sources.RandomAccessDataSource)
    numbers = [example["number"] for example in grain.MapDataset.source(Dice()).shuffle(seed=0).repeat(2)]
    assert sorted(numbers) == sorted([*range(5)] * 2)


def test_a_dataset_that_forgot_a_method_says_which_class_it_is():
    class Unfinished(Dataset):
        pass

    with pytest.raises(NotImplementedError, match="Unfinished must say how many"):
        len(Unfinished())
    with pytest.raises(NotImplementedError, match="Unfinished must return an example"):
        Unfinished().get(0, np.random.RandomState(0))


class Words(DatasetBase):
    """Reads its annotations when it is made."""

    def load(self) -> list[str]:
        return {"train": ["one", "two"], "test": ["three"]}[self.split]

    def get(self, item: int, rng: np.random.RandomState) -> dict:
        return {"text": self.data[item]}


class Later(Words):
    """Sets its split itself, and tells the base nothing, as the guide's examples do."""

    def __init__(self, split: str = "train"):
        self.split = split
        super().__init__()


@pytest.mark.parametrize("made", [Words, Later])
def test_annotations_are_loaded_for_the_split_when_the_dataset_is_made(made: type[DatasetBase]):
    assert [example["text"] for example in made()] == ["one", "two"]
    dataset = made(split="test")
    assert (dataset.split, dataset.data, len(dataset), dataset[-1]) == ("test", ["three"], 1, {"text": "three"})
    assert pickle.loads(pickle.dumps(dataset))[0] == dataset[0]


def test_a_load_that_is_missing_or_returns_nothing_says_which_class_it_is():
    class Empty(DatasetBase):
        def load(self) -> None:
            pass

    with pytest.raises(NotImplementedError, match="DatasetBase must load its annotations"):
        DatasetBase()
    with pytest.raises(ConfigError, match=r"Empty.load\(\) returned NoneType; it must return a list"):
        Empty()


def test_a_stored_dataset_reads_its_split_and_leaves_pictures_unopened(tmp_path: Path):
    write_birds(tmp_path, "train", b"no picture at all", b"nor this")
    dataset = Birds("train", tmp_path)
    assert (len(dataset), dataset.split, repr(dataset)) == (2, "train", "Birds(2 examples)")
    (image,) = dataset[1]["image"]
    assert isinstance(image, LazyImage)
    assert (image.shape, image.encoded()) == ((3, 4, 3), b"nor this")


def test_several_splits_of_the_store_may_be_one_of_the_user_s(tmp_path: Path):
    write_birds(tmp_path, "train", b"1", b"2")
    write_birds(tmp_path, "more", b"3")
    dataset = Birds("train", tmp_path, store_splits=("more", "train"))
    assert [record.id for record in dataset.records] == ["more-0", "train-0", "train-1"]
    assert dataset.fingerprint != Birds("train", tmp_path).fingerprint
    with pytest.raises(ConfigError, match="no split 'test'; it has more, train"):
        Birds("test", tmp_path)


def test_a_stored_dataset_pickles_and_reads_elsewhere(tmp_path: Path):
    write_birds(tmp_path, "train", b"1", b"2")
    copy = pickle.loads(pickle.dumps(Birds("train", tmp_path)))
    assert copy[1]["image"][0].encoded() == b"2"


def test_a_set_that_was_not_converted_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(StoreError, match="grain-molmo convert birds"):
        Birds("train", tmp_path)
    monkeypatch.delenv("GRAIN_MOLMO_DATA", raising=False)
    with pytest.raises(ConfigError, match="GRAIN_MOLMO_DATA"):
        Birds("train")


def test_the_media_store_is_shared_until_a_conversion_adds_to_it(tmp_path: Path):
    assert len(open_media_store(tmp_path)) == 0
    write_birds(tmp_path, "train", b"1")
    one, other = Birds("train", tmp_path), Birds("train", tmp_path)
    assert one.media is other.media
    write_birds(tmp_path, "validation", b"1", b"2")
    later = Birds("validation", tmp_path)
    assert later[1]["image"][0].encoded() == b"2"
    assert len(one.media) == 1
