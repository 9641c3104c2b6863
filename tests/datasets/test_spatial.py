import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feature_files import spatial_rows, write_spatial
from PIL import Image

import grain_molmo as gm
from converters.to_arrayrecord import main as convert
from grain_molmo.datasets.spatial import SpatialRelations, relation_fields
from grain_molmo.errors import ConfigError, ExampleError, MediaError
from grain_molmo.testing import check_dataset
from grain_molmo.vision.file_image import FileImage


def test_a_row_asks_of_each_caption_whether_it_is_true():
    fields = relation_fields({"spatial_relation": "left", "label": 1, "captions": ["A.", "B."]})
    assert [(one["question"], one["answer"]) for one in fields["message_list"]] == [
        ('Is this true of the picture? "A."', "Yes"),
        ('Is this true of the picture? "B."', "Yes"),
    ]
    assert fields["captions"] == ["A.", "B."]


@pytest.mark.parametrize("captions", [None, []])
def test_a_row_without_captions_asks_for_the_relation(captions: Any):
    fields = relation_fields({"spatial_relation": "top", "label": 0, "captions": captions})
    assert fields["question"] == 'Does the spatial relation "top" hold in this picture?'
    assert (fields["answer"], fields["spatial_relation"], fields["label"]) == ("No", "top", 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"spatial_relation": "above"},
            "bad_relation: spatial_relation is 'above'; it must be left, right, top or",
        ),
        ({"spatial_relation": None}, "bad_relation"),
        ({"spatial_relation": ["left"]}, "bad_relation"),
        ({"label": 2}, "bad_label: label is 2; it must be 0 or 1"),
        ({"label": None}, "bad_label"),
        ({"label": "left"}, "bad_label"),
        ({"captions": [""]}, "bad_captions"),
        ({"captions": [1]}, "bad_captions"),
        ({"features": [np.nan]}, "not_finite"),
    ],
)
def test_values_that_there_are_not_are_refused(change: dict[str, Any], message: str):
    with pytest.raises(ExampleError, match=message):
        relation_fields({"spatial_relation": "left", "label": 1, "captions": ["A."], **change})


def test_a_saved_folder_is_pictures_with_questions_and_labelled_features_at_once(tmp_path: Path):
    dataset = SpatialRelations(write_spatial(tmp_path / "spatial_hf"))
    assert len(dataset) == 8
    assert dataset.feature_shape == (6,)
    example = dataset[3]
    assert example["image"].shape == (10, 23, 3)
    assert np.asarray(example["image"])[0, 0].tolist() == [60, 0, 0]
    assert (example["spatial_relation"], example["label"]) == ("bottom", 1)
    assert [one["answer"] for one in example["message_list"]] == ["Yes", "Yes"]
    np.testing.assert_array_equal(example["features"], np.float32(spatial_rows()["features"][3]))
    named = {"id": "000000003", "source": "spatial_hf", "split": "train"}
    assert example["metadata"] == {"image_path": "images/3.png", **named}
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.fingerprint == dataset.fingerprint
    assert copy[3]["label"] == 1


def test_the_splits_of_a_folder_are_opened_by_name(tmp_path: Path):
    from datasets import Dataset, DatasetDict

    columns = spatial_rows()
    parts = {"train": Dataset.from_dict(columns), "test": Dataset.from_dict({k: v[:2] for k, v in columns.items()})}
    DatasetDict(parts).save_to_disk(tmp_path / "both")
    assert len(SpatialRelations(tmp_path / "both")) == 8
    assert len(SpatialRelations(tmp_path / "both", "test")) == 2
    rows = Dataset.from_dict(spatial_rows(2))
    DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "same")
    assert len({SpatialRelations(tmp_path / "same", split).fingerprint for split in ("train", "test")}) == 2
    with pytest.raises(ConfigError, match="no split 'validation'; it has train, test"):
        SpatialRelations(tmp_path / "both", "validation")


def test_features_and_captions_are_optional_and_ids_are_the_rows_own(tmp_path: Path):
    columns = {name: spatial_rows()[name] for name in ("image_path", "spatial_relation", "label")}
    dataset = SpatialRelations(write_spatial(tmp_path / "plain", {**columns, "id": [f"n{i}" for i in range(8)]}))
    assert dataset.ids[:2] == ["n0", "n1"]
    assert dataset[1]["metadata"]["id"] == "n1"
    assert dataset[1]["answer"] == "Yes"
    assert "features" not in dataset[1]
    with pytest.raises(ConfigError, match="has no features"):
        _ = dataset.feature_shape


def test_a_picture_may_be_in_the_table_and_a_row_with_nothing_to_show_is_left_out(tmp_path: Path):
    columns = {name: spatial_rows()[name] for name in ("spatial_relation", "label")}
    pictures = [Image.new("RGB", (4 + i, 3)) if i else None for i in range(8)]
    dataset = SpatialRelations(write_spatial(tmp_path / "inside", {**columns, "image": pictures}))
    assert dataset[1]["image"].size == (5, 3)
    assert {*dataset[1]["metadata"]} == {"id", "source", "split"}
    with pytest.raises(ExampleError, match="no_picture: row 0: the row has no picture"):
        dataset[0]
    stored = _converted(tmp_path / "inside", tmp_path / "data", "--max-rejected", "0.5")
    assert (len(stored), stored[0]["image"].shape) == (7, (3, 5, 3))


def test_a_relative_path_holds_wherever_a_copy_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_spatial(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(SpatialRelations("a"))
    monkeypatch.chdir("/")
    assert pickle.loads(pickled)[0]["image"].shape == (10, 20, 3)


def test_a_bad_row_is_named_at_once_or_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    columns = spatial_rows()
    columns["spatial_relation"][2], columns["label"][5] = "above", 7
    folder = write_spatial(tmp_path / "bad", columns)
    with pytest.raises(ConfigError, match=r"row 2: spatial_relation is 'above'.*on_error='skip'"):
        SpatialRelations(folder)
    with caplog.at_level(logging.WARNING):
        dataset = SpatialRelations(folder, on_error="skip")
    assert dataset.rejected == {"bad_relation": 1, "bad_label": 1}
    assert "1 bad_relation, 1 bad_label" in caplog.text
    assert dataset.ids == [f"{i:09d}" for i in (0, 1, 3, 4, 6, 7)]
    assert dataset[2]["metadata"]["image_path"] == "images/3.png"
    columns["label"] = [3] * 8
    with pytest.raises(ConfigError, match="no row with a relation"):
        SpatialRelations(write_spatial(tmp_path / "worse", columns), on_error="skip")


def test_other_folders_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="does not load as a folder of save_to_disk"):
        SpatialRelations(tmp_path)
    folder = write_spatial(tmp_path / "a", {"image_path": ["a.png"], "label": [1]})
    with pytest.raises(ConfigError, match="no column 'spatial_relation'; it has image_path, label"):
        SpatialRelations(folder)


def test_pictures_lie_in_the_folder_or_where_it_is_said(tmp_path: Path):
    columns = spatial_rows()
    columns["image_path"][1] = "../secret.png"
    columns["image_path"][2] = str(tmp_path / "elsewhere.png")
    dataset = SpatialRelations(write_spatial(tmp_path / "a", columns))
    for item in (1, 2):
        with pytest.raises(ExampleError, match=f"path_outside: row {item}.*leads out of"):
            dataset[item]
    assert SpatialRelations(tmp_path / "a", allow_any_path=True)[1]["image"].path.name == "secret.png"
    inside = SpatialRelations(tmp_path / "a", image_dir=tmp_path / "a/images", allow_any_path=True)
    with pytest.raises(ExampleError, match="missing_file"):
        _ = inside[0]["image"].shape


def test_a_picture_in_a_file_says_what_is_wrong_with_it(tmp_path: Path):
    image = FileImage(write_spatial(tmp_path / "a") / "images/0.png")
    assert (image.shape, image.dtype) == ((10, 20, 3), np.uint8)
    image.path.write_bytes((tmp_path / "a/images/1.png").read_bytes())
    with pytest.raises(MediaError, match="other_size"):
        image.decode()
    image.path.write_bytes(b"no picture")
    with pytest.raises(ExampleError, match="bad_image"):
        _ = FileImage(image.path).shape
    image.path.unlink()
    with pytest.raises(MediaError, match="missing_file"):
        image.encoded()


def _converted(source: Path, data_dir: Path, *words: str) -> gm.Dataset:
    assert convert(["my-spatial", "--source", str(source), "--data-dir", str(data_dir), *words]) == 0
    return gm.get_dataset("my-spatial", data_dir=data_dir)


def test_a_converted_folder_gives_the_examples_that_the_folder_gives(tmp_path: Path):
    folder = write_spatial(tmp_path / "spatial_hf")
    straight, stored = SpatialRelations(folder), _converted(folder, tmp_path / "data")
    assert stored.feature_shape == straight.feature_shape
    for mine, theirs in zip(stored, straight, strict=True):
        np.testing.assert_array_equal(mine.pop("features"), theirs.pop("features"))
        np.testing.assert_array_equal(np.asarray(mine.pop("image")), np.asarray(theirs.pop("image")))
        assert mine.pop("metadata")["image_path"] == theirs.pop("metadata")["image_path"]
        assert mine == theirs


def test_written_and_converted_are_the_same(tmp_path: Path):
    folder = write_spatial(tmp_path / "spatial_hf")
    gm.write_dataset(SpatialRelations(folder), tmp_path / "data", "written")
    stored = gm.get_dataset("written", data_dir=tmp_path / "data")
    assert stored[3]["message_list"] == SpatialRelations(folder)[3]["message_list"]
    assert stored[3]["image"].encoded() == (folder / "images/3.png").read_bytes()


def test_rows_that_cannot_be_converted_are_rejected_with_their_reasons(tmp_path: Path):
    columns = spatial_rows()
    columns["spatial_relation"][2], columns["label"][3] = "above", 7
    columns["features"][4], columns["image_path"][5] = [1.0, 2.0], "../x.png"
    stored = _converted(write_spatial(tmp_path / "a", columns), tmp_path / "data")
    assert len(stored) == 4
    rejects = (tmp_path / "data/my_spatial/rejects-train.jsonl").read_text()
    reasons = ("bad_relation", "bad_label", "bad_features", "path_outside")
    assert [reason for reason in reasons if f'"{reason}"' in rejects] == list(reasons)
    assert "features are [2], those of the first row [6]" in rejects


def test_relations_and_labels_may_be_classes_or_text(tmp_path: Path):
    from datasets import ClassLabel, Dataset, Features, List, Value

    columns = {name: spatial_rows()[name] for name in ("image_path", "spatial_relation", "label", "captions")}
    write_spatial(tmp_path / "plain", columns)
    names = Features(
        image_path=Value("string"),
        spatial_relation=ClassLabel(names=["left", "right", "top", "bottom"]),
        label=ClassLabel(names=["false", "true"]),
        captions=List(Value("string")),
    )
    Dataset.from_dict(columns, features=names).save_to_disk(tmp_path / "classes")
    (tmp_path / "table").mkdir()
    lines = ["image_path,spatial_relation,label", *(f"images/{i}.png,left,{i % 2}" for i in range(8))]
    (tmp_path / "table/rows.csv").write_text("\n".join(lines))
    images = ["--media-dir", str(tmp_path / "plain")]
    stored = _converted(tmp_path / "classes", tmp_path / "one", *images)
    assert [(one["spatial_relation"], one["label"]) for one in stored][:3] == [("left", 0), ("right", 1), ("top", 0)]
    stored = _converted(tmp_path / "table", tmp_path / "two", *images)
    assert [(one["label"], one["answer"]) for one in stored][:2] == [(0, "No"), (1, "Yes")]
    straight = SpatialRelations(tmp_path / "classes")
    assert (straight[1]["spatial_relation"], straight[1]["label"]) == ("right", 1)


def test_spatial_relations_train_and_probe(tmp_path: Path):
    folder = write_spatial(tmp_path / "spatial_hf")
    gm.register_dataset("spatial", lambda split: SpatialRelations(folder, split))
    _converted(folder, tmp_path / "data")
    mixture = {"spatial": 1.0, "my-spatial": 1.0}
    small: dict[str, Any] = {"data_dir": tmp_path / "data", "tokenizer": "bytes", "num_threads": 1}
    for stage in (gm.Stage(mixture=mixture, seq_len=2048, batch_size=1), gm.Stage(mixture=mixture, kind="features")):
        loader = gm.make_loader(stage, **{**small, "batch_size": 4})
        try:
            batch = next(loader)
            assert (batch["loss_weights"].sum(axis=tuple(range(1, batch["loss_weights"].ndim))) > 0).all()
            assert loader.stats()["skipped_media"] == loader.stats()["skipped_examples"] == {}
        finally:
            loader.close()
    assert batch["features"].shape == (4, 6)


@pytest.mark.parametrize("kind", ["train", "features"])
def test_spatial_relations_are_a_sound_dataset(tmp_path: Path, kind: str):
    folder = write_spatial(tmp_path / "spatial_hf")
    stage = gm.Stage(mixture={"spatial": 1}, seq_len=2048, kind=kind)
    check_dataset(gm.get_dataset("spatial-relations", path=folder), stage=stage)
    check_dataset(_converted(folder, tmp_path / "data"), stage=stage)
