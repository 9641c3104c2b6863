import pickle
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from feature_files import features_ND

import grain_molmo as gm
from converters.own.source import OwnSource
from converters.own.tensors import tensor_rows
from converters.to_arrayrecord import main as convert
from grain_molmo.datasets.feature_table import FeatureTable
from grain_molmo.datasets.features import FeatureDataset
from grain_molmo.datasets.file_fingerprint import files_fingerprint
from grain_molmo.datasets.labelled import as_features, as_label
from grain_molmo.errors import ConfigError, ExampleError
from grain_molmo.testing import check_dataset

LABELS = np.arange(12) % 3


def write_npz(path: Path, features: np.ndarray | None = None, labels: Any = LABELS, **more: Any) -> Path:
    np.savez(path, features=features_ND() if features is None else features, labels=labels, **more)
    return path


def write_layers(folder: Path, names: tuple[str, ...] = ("layer_9", "layer_10", "layer_23"), **more: Any) -> Path:
    folder.mkdir()
    for seed, name in enumerate(names):
        write_npz(folder / f"{name}.npz", features_ND(seed=seed), **more)
    return folder


def test_a_file_is_a_dataset_of_labelled_rows(tmp_path: Path):
    dataset = FeatureDataset(write_npz(tmp_path / "clip.npz", image_path=[f"{i}.png" for i in range(12)]))
    assert len(dataset) == 12
    assert dataset.feature_shape == (6,)
    example = dataset[5]
    np.testing.assert_array_equal(example["features"], features_ND()[5])
    assert example["features"].dtype == np.float32
    assert example["label"] == 2
    assert example["metadata"] == {"image_path": "5.png", "id": "000000005", "source": "clip", "split": "train"}
    assert dataset.ids[5] == "000000005"
    assert dataset.labels_N.tolist() == LABELS.tolist()


def test_an_example_belongs_to_whoever_asked_for_it(tmp_path: Path):
    dataset = FeatureDataset(write_npz(tmp_path / "a.npz"))
    dataset[0]["features"][:] = 7
    np.testing.assert_array_equal(dataset[0]["features"], features_ND()[0])


def test_rows_are_named_by_the_files_own_ids(tmp_path: Path):
    dataset = FeatureDataset(write_npz(tmp_path / "a.npz", ids=[f"n{i}" for i in range(12)]))
    assert dataset.ids[:2] == ["n0", "n1"]
    assert dataset[1]["metadata"]["id"] == "n1"


def test_what_is_known_of_a_row_is_text_where_the_file_has_bytes(tmp_path: Path):
    path = write_npz(tmp_path / "a.npz", ids=np.array([b"n%d" % i for i in range(12)]), metadata=np.arange(12))
    dataset = FeatureDataset(path)
    assert dataset.ids[1] == "n1"
    assert dataset[1]["metadata"] == {"ids": "n1", "id": "n1", "metadata": 1, "source": "a", "split": "train"}


def test_labels_may_lie_beside_the_layers_that_they_are_of(tmp_path: Path):
    folder = write_layers(tmp_path / "d")
    np.save(folder / "labels.npy", LABELS[::-1])
    dataset = FeatureDataset(folder, labels=folder / "labels.npy")
    assert dataset.feature_shape == (3, 6)
    assert dataset.labels_N.tolist() == LABELS[::-1].tolist()


def test_two_files_of_one_layer_are_both_named(tmp_path: Path):
    folder = write_layers(tmp_path / "d")
    np.save(folder / "layer_10.npy", features_ND())
    with pytest.raises(ConfigError, match=r"has layer_10.npy and layer_10.npz for one layer"):
        FeatureDataset(folder, layers=9)


def test_features_may_have_any_shape_and_labels_may_lie_elsewhere(tmp_path: Path):
    grid = np.arange(2 * 3 * 4, dtype=np.float16).reshape(2, 3, 4)
    np.save(tmp_path / "grid.npy", grid)
    np.save(tmp_path / "labels.npy", [1.0, 0.0])
    dataset = FeatureDataset(tmp_path / "grid.npy", tmp_path / "labels.npy")
    assert dataset.feature_shape == (3, 4)
    np.testing.assert_array_equal(dataset[1]["features"], grid[1])
    assert [example["label"] for example in dataset] == [1, 0]
    assert FeatureDataset(tmp_path / "grid.npy", [5, 6])[1]["label"] == 6


def test_a_folder_of_layers_is_stacked_in_the_order_of_their_numbers(tmp_path: Path):
    folder = write_layers(tmp_path / "dinov2")
    stacked = FeatureDataset(folder)
    assert stacked.feature_shape == (3, 6)
    np.testing.assert_array_equal(stacked[4]["features"], np.stack([features_ND(seed=seed)[4] for seed in range(3)]))
    assert stacked[4]["metadata"]["source"] == "dinov2"
    for chosen in (10, "layer_10"):
        one = FeatureDataset(folder, layers=chosen)
        assert one.feature_shape == (6,)
        np.testing.assert_array_equal(one[4]["features"], features_ND(seed=1)[4])
    assert FeatureDataset(folder, layers=[23, 9]).feature_shape == (2, 6)
    np.testing.assert_array_equal(FeatureDataset(folder, layers=[23, 9])[0]["features"][0], features_ND(seed=2)[0])


def test_a_held_out_share_is_the_same_for_everyone_and_the_rest_is_for_training(tmp_path: Path):
    path = write_npz(tmp_path / "a.npz")

    def ids(split: str, seed: int = 0) -> list[str]:
        return FeatureDataset(path, split=split, validation_fraction=0.25, seed=seed).ids

    assert len(ids("validation")) == 3
    assert sorted(ids("train") + ids("validation")) == FeatureDataset(path).ids
    assert ids("validation") == ids("validation") != ids("validation", seed=1)


def test_a_copy_of_another_process_reads_the_same(tmp_path: Path):
    dataset = FeatureDataset(write_layers(tmp_path / "d"), layers=[9, 10], split="validation", validation_fraction=0.5)
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(pickle.dumps(dataset)) < 10_000
    assert copy.fingerprint == dataset.fingerprint
    np.testing.assert_array_equal(copy[2]["features"], dataset[2]["features"])


def test_a_relative_path_holds_wherever_the_copy_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_npz(tmp_path / "a.npz")
    np.save(tmp_path / "labels.npy", LABELS)
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(FeatureDataset("a.npz", labels="labels.npy"))
    monkeypatch.chdir("/")
    assert len(pickle.loads(pickled)) == 12


def test_the_fingerprint_is_of_the_content_and_of_what_was_chosen(tmp_path: Path):
    one = FeatureDataset(write_npz(tmp_path / "a.npz")).fingerprint
    assert FeatureDataset(write_npz(tmp_path / "b.npz")).fingerprint == one
    assert FeatureDataset(tmp_path / "a.npz", labels=[0] * 12).fingerprint != one
    assert FeatureDataset(tmp_path / "a.npz", validation_fraction=0.5).fingerprint != one
    assert FeatureDataset(write_npz(tmp_path / "c.npz", features_ND(seed=1))).fingerprint != one


def test_large_files_are_told_apart_by_parts_of_them(tmp_path: Path):
    with open(tmp_path / "a", "wb") as file:
        file.truncate(100 << 20)
    before = files_fingerprint([tmp_path / "a"])
    (tmp_path / "one").write_bytes(b"ab")
    (tmp_path / "two").write_bytes(b"c")
    (tmp_path / "un").write_bytes(b"a")
    (tmp_path / "deux").write_bytes(b"bc")
    one, other = ([tmp_path / name for name in names] for names in (("one", "two"), ("un", "deux")))
    assert files_fingerprint(one) != files_fingerprint(other)
    with open(tmp_path / "a", "r+b") as file:
        file.seek((100 << 20) - 1)
        file.write(b"x")
    assert files_fingerprint([tmp_path / "a"]) != before


BAD = {
    "no labels": ({"x": 1}, {}, "has no 'labels'; give them with labels="),
    "no features": ({"labels": LABELS, "emb": features_ND()}, {}, r"no 'features'; it has 'labels' \[12\], 'emb' \[12"),
    "other number": ({"features": features_ND(), "labels": LABELS[:-1]}, {}, r"labels are \[11\], .* 12 rows"),
    "half labels": ({"features": features_ND(), "labels": LABELS + 0.5}, {}, "row 0: label is 0.5"),
    "huge labels": ({"features": features_ND(), "labels": LABELS + (1 << 40)}, {}, "row 0: label is 1099511627776"),
    "nan label": ({"features": features_ND(), "labels": np.where(LABELS == 2, np.nan, 0)}, {}, "row 2: label is nan"),
    "text labels": ({"features": features_ND(), "labels": ["a"] * 12}, {}, "row 0: label is 'a'"),
    "too many classes": ({"features": features_ND(), "labels": LABELS}, {"num_classes": 2}, "row 2: label is 2"),
    "flat": ({"features": np.zeros(12), "labels": LABELS}, {}, r"\[rows, \.\.\.\]"),
    "text": ({"features": np.full((12, 2), "x"), "labels": LABELS}, {}, "must be numbers"),
    "no rows": ({"features": np.zeros((0, 2)), "labels": []}, {}, "must be numbers"),
    "one file": ({"features": features_ND(), "labels": LABELS}, {"layers": 3}, "is one file"),
    "split": ({"features": features_ND(), "labels": LABELS}, {"split": "test"}, "must be 'train' or 'validation'"),
    "empty split": ({"features": features_ND(), "labels": LABELS}, {"split": "validation"}, "none of the 12 rows"),
    "fraction": ({"features": features_ND(), "labels": LABELS}, {"validation_fraction": 1}, "below 1"),
}


@pytest.mark.parametrize("what", BAD)
def test_files_that_are_no_labelled_features_are_named_with_what_to_do(tmp_path: Path, what: str):
    arrays, arguments, message = BAD[what]
    if "x" in arrays:
        arrays = {"features": features_ND()}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ConfigError, match=message):
        FeatureDataset(tmp_path / "a.npz", **arguments)


def test_layers_that_do_not_belong_together_are_named(tmp_path: Path):
    folder = write_layers(tmp_path / "d")
    with pytest.raises(ConfigError, match="0 files for layer 7; it has layer_9, layer_10, layer_23"):
        FeatureDataset(folder, layers=7)
    write_npz(folder / "layer_30.npz", labels=LABELS[::-1])
    with pytest.raises(ConfigError, match="different labels"):
        FeatureDataset(folder)
    write_npz(folder / "layer_30.npz", features_ND(width=7))
    with pytest.raises(ConfigError, match=r"layer_30.npz is \[12, 7\]"):
        FeatureDataset(folder)
    np.save(folder / "layer_9.npy", features_ND())
    with pytest.raises(ConfigError, match="for one layer; leave one"):
        FeatureDataset(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no file of tensors"):
        FeatureDataset(tmp_path / "empty")


def test_features_that_are_not_finite_are_an_error_of_their_example_alone(tmp_path: Path):
    features = features_ND()
    features[3, 1] = np.nan
    dataset = FeatureDataset(write_npz(tmp_path / "a.npz", features))
    with pytest.raises(ExampleError, match="not_finite: row 3 of a: 1 of 6 features") as raised:
        dataset[3]
    assert raised.value.example_id == "000000003"
    assert np.isfinite(dataset[4]["features"]).all()


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([1, 2], "float32"),
        ([[1.5], [2.5]], "float32"),
        (np.zeros(2, np.float16), "float16"),
        (np.zeros(2, ml_dtypes.bfloat16), "bfloat16"),
        (np.zeros(2, ">f4"), "float32"),
        (np.zeros(2, np.float64), "float32"),
        (np.zeros(2, np.uint8), "float32"),
        (np.zeros(2, ml_dtypes.float8_e4m3fn), "float32"),
    ],
)
def test_features_keep_their_sixteen_bits_and_else_become_float32(value: Any, dtype: str):
    assert as_features(value).dtype == np.dtype(dtype if dtype != "bfloat16" else ml_dtypes.bfloat16)
    assert as_features(value).dtype.isnative


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([[1], [1, 2]], "bad_features"),
        (["a"], "bad_features"),
        ([], "bad_features"),
        (None, "bad_features"),
        (np.zeros(1, "c8"), "bad_features"),
        ([1e39], "not_finite"),
        ([float("inf")], "not_finite"),
    ],
)
def test_features_of_no_numbers_or_no_shape_are_refused(value: Any, reason: str):
    with pytest.raises(ExampleError, match=reason):
        as_features(value)


def test_labels_are_whole_numbers_of_any_type():
    assert [as_label(value) for value in (3, 3.0, np.int64(3), np.array(3), True)] == [3, 3, 3, 3, 1]
    for value in ("3", 3.5, None, float("nan"), 1 << 31, [3]):
        with pytest.raises(ExampleError, match="bad_label"):
            as_label(value)
    with pytest.raises(ExampleError, match="it must be 0 or 1"):
        as_label(2, (0, 1))


# ---- in the store ----


def converted(source: Path, data_dir: Path, *words: str) -> gm.Dataset:
    assert convert(["my-features", "--source", str(source), "--data-dir", str(data_dir), *words]) == 0
    return gm.get_dataset("my-features", data_dir=data_dir)


def same(one: Any, other: Any) -> None:
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine["features"], theirs["features"])
        assert (mine["label"], mine["metadata"]["id"]) == (theirs["label"], theirs["metadata"]["id"])


@pytest.mark.parametrize("name", ["id", "ids"])
def test_a_converted_row_has_the_id_that_its_file_gives_it(tmp_path: Path, name: str):
    source = write_npz(tmp_path / "a.npz", **{name: np.array([b"n%d" % i for i in range(12)])})
    stored = converted(source, tmp_path / "data")
    assert (
        [stored[i]["metadata"]["id"] for i in range(12)] == FeatureDataset(source).ids == [f"n{i}" for i in range(12)]
    )


def test_a_converted_file_gives_the_examples_that_the_file_gives(tmp_path: Path):
    names = {"ids": [f"n{i}" for i in range(12)], "image_path": [f"{i}.png" for i in range(12)]}
    source = write_npz(tmp_path / "a.npz", **names)
    stored = converted(source, tmp_path / "data", "--rows-per-shard", "5")
    same(stored, FeatureDataset(source))
    assert stored[1]["metadata"]["image_path"] == "1.png", "not taken for a picture to store"
    assert stored.feature_shape == (6,)
    assert stored[0]["features"].dtype == np.float32
    stored[0]["features"][:] = 0  # one's own
    same(stored, FeatureDataset(source))


def test_a_record_holds_the_bytes_and_not_the_digits_of_features(tmp_path: Path):
    features = features_ND(width=768).astype(np.float16)
    stored = converted(write_npz(tmp_path / "a.npz", features), tmp_path / "data")
    record = stored.records[3]
    np.testing.assert_array_equal(record.annotation["features"], features[3])
    assert record.annotation["features"].dtype == np.float16
    payload = stored.records._reader[3]
    assert features[3].tobytes() in payload
    assert len(payload) < 2 * 768 + 500


def test_columns_beside_the_features_are_read_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = tensor_rows(write_npz(tmp_path / "a.npz"), OwnSource())
    monkeypatch.setattr(FeatureTable, "features", lambda table, row: pytest.fail("read"))
    assert rows.select(["label"]) == {"label": LABELS.tolist()}


def test_a_folder_of_layers_or_one_of_them_is_converted(tmp_path: Path):
    folder = write_layers(tmp_path / "dinov2")
    same(converted(folder, tmp_path / "all"), FeatureDataset(folder))
    same(converted(folder, tmp_path / "one", "--layers", "10"), FeatureDataset(folder, layers=10))
    same(converted(folder, tmp_path / "two", "--layers", "23", "layer_9"), FeatureDataset(folder, layers=[23, 9]))


def test_keys_and_labels_may_be_named_on_the_command_line(tmp_path: Path):
    np.savez(tmp_path / "a.npz", emb=features_ND(), target=LABELS)
    np.save(tmp_path / "labels.npy", LABELS[::-1])
    words = ["--columns", "features=emb", "label=target"]
    stored = converted(tmp_path / "a.npz", tmp_path / "one", *words)
    same(stored, FeatureDataset(tmp_path / "a.npz", features_key="emb", labels_key="target"))
    np.save(tmp_path / "b.npy", features_ND())
    stored = converted(tmp_path / "b.npy", tmp_path / "two", "--labels", str(tmp_path / "labels.npy"))
    assert [example["label"] for example in stored] == LABELS[::-1].tolist()


def test_rows_that_are_not_finite_are_rejected_with_their_reason(tmp_path: Path):
    features = features_ND()
    features[3, 1] = np.inf
    stored = converted(write_npz(tmp_path / "a.npz", features), tmp_path / "data")
    assert len(stored) == 11
    rejects = (tmp_path / "data/my_features/rejects-train.jsonl").read_text()
    assert '"row": 3' in rejects
    assert '"not_finite"' in rejects


def test_other_labels_are_another_conversion(tmp_path: Path):
    np.save(tmp_path / "a.npy", features_ND())
    for value in (1, 2):
        np.save(tmp_path / "labels.npy", [value] * 12)
        stored = converted(tmp_path / "a.npy", tmp_path / "data", "--labels", str(tmp_path / "labels.npy"))
        assert stored[0]["label"] == value


def test_examples_with_features_are_written_and_read_back(tmp_path: Path):
    half = features_ND().astype(ml_dtypes.bfloat16)
    examples = [{"features": row, "label": np.int64(i), "metadata": {"id": f"n{i}"}} for i, row in enumerate(half)]
    gm.write_dataset(examples, tmp_path, "mine")
    stored = gm.get_dataset("mine", data_dir=tmp_path)
    np.testing.assert_array_equal(stored[2]["features"], half[2].astype(np.float32))
    assert stored[2]["label"] == 2
    assert stored[2]["metadata"]["id"] == "n2"
    gm.write_dataset(stored, tmp_path, "again")
    same(gm.get_dataset("again", data_dir=tmp_path), stored)


def test_features_may_stand_beside_a_question(tmp_path: Path):
    example = {"question": "Which?", "answer": "This.", "features": [1.0, 2.0], "label": 1}
    gm.write_dataset([example], tmp_path, "mine")
    stored = gm.get_dataset("mine", data_dir=tmp_path)[0]
    assert (stored["question"], stored["label"], stored["features"].tolist()) == ("Which?", 1, [1.0, 2.0])


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        ({"features": [np.nan], "label": 1}, "not_finite"),
        ({"features": [1.0]}, "bad_label"),
        ({"features": [1.0], "label": "cat"}, "bad_label"),
        ({"features": "x", "label": 1}, "bad_features"),
        ({"features": [1.0], "label": 1, "question": "Why?", "answer": " "}, "empty_answer"),
        ({"label": 1}, ""),
    ],
)
def test_features_without_sense_are_not_written(tmp_path: Path, example: dict[str, Any], reason: str):
    with pytest.raises(ExampleError, match=f"^{reason}.*example 0"):
        gm.write_dataset([example], tmp_path, "mine")


def test_features_are_a_sound_dataset(tmp_path: Path):
    source = write_layers(tmp_path / "d", ids=[f"n{i}" for i in range(12)])
    stage = gm.Stage(kind="features", mixture={"d": 1})
    check_dataset(FeatureDataset(source, split="validation", validation_fraction=0.5), stage=stage)
    check_dataset(converted(source, tmp_path / "data"), stage=stage)


def test_files_of_features_have_a_name_that_mixtures_know(tmp_path: Path):
    dataset = gm.get_dataset("feature-files", path=write_npz(tmp_path / "a.npz"), num_classes=3)
    assert dataset[0]["label"] == 0
