import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loopback import Web, all_files, make_picture, rejects, sha256, write_rows
from own_sources import CAPTIONS, KINDS, add, convert_own, converted, tfrecord, write_array_record, write_source
from PIL import Image

import grain_molmo as gm
from converters.own import open_own
from converters.own.source import OwnSource
from converters.to_arrayrecord import main
from grain_molmo.errors import ConfigError
from grain_molmo.store.example_proto import encode_example
from grain_molmo.testing.form import form_problems


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_source_makes_the_same_examples(tmp_path: Path, kind: str):
    source = write_source(kind, tmp_path / "source")
    examples = converted(source, tmp_path / "data")
    assert [example["caption"] for example in examples] == CAPTIONS
    assert [example["image"].encoded() for example in examples] == [make_picture(i) for i in range(3)]
    assert all(example["style"] == "short_caption" for example in examples)
    if kind.startswith("webdataset"):
        assert [example["metadata"]["score"] for example in examples] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "webdataset.tgz"])
def test_plain_sources_train(tmp_path: Path, kind: str):
    convert_own(write_source(kind, tmp_path / "source"), tmp_path / "data")
    stage = gm.Stage(mixture={"mine": 1.0})
    loader = gm.make_loader(stage, data_dir=tmp_path / "data", tokenizer="bytes", batch_size=1, num_threads=1)
    try:
        assert next(loader)["loss_weights"].sum() > 0
        assert loader.stats()["skipped_media"] == loader.stats()["skipped_examples"] == {}
    finally:
        loader.close()


@pytest.mark.parametrize("kind", ["parquet", "webdataset.tgz", "tfrecord"])
def test_the_command_line_converts_with_several_processes_and_keeps_what_is_there(tmp_path: Path, kind: str):
    source = write_source(kind, tmp_path / "source")
    for folder, processes in (("one", "1"), ("two", "2")):
        words = ["my-set", "--source", str(source), "--rows-per-shard", "1", "--n-procs", processes]
        assert main([*words, "--data-dir", str(tmp_path / folder)]) == 0
    assert all_files(tmp_path / "one") == all_files(tmp_path / "two")
    before = all_files(tmp_path / "one")
    assert main(["my-set", "--source", str(source), "--rows-per-shard", "1", "--data-dir", str(tmp_path / "one")]) == 0
    assert all_files(tmp_path / "one") == before
    assert main(["verify-nothing", "--data-dir", str(tmp_path / "one")]) == 2


def test_the_command_line_takes_columns_and_values(tmp_path: Path):
    rows = [{"picture_name": "a.png", "words": "Yes.", "n": 1}]
    source = write_rows(tmp_path / "rows", rows, "json")
    (tmp_path / "rows" / "a.png").write_bytes(make_picture())
    words = ["--columns", "image=picture_name", "answer=words", "--values", "question=Is it red?", "style=vqa2"]
    assert main(["mine", "--from", "table", "--source", source, *words, "--data-dir", str(tmp_path / "data")]) == 0
    (example,) = gm.get_dataset("mine", data_dir=tmp_path / "data")
    assert (example["question"], example["answer"], example["style"]) == ("Is it red?", "Yes.", "vqa2")
    assert example["image"].encoded() == make_picture()
    assert example["metadata"] == {
        "id": example["metadata"]["id"],
        "source": "mine",
        "split": "train",
        "picture_name": "a.png",
        "n": 1,
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pixmo-cap", "--from", "table"], "known already"),
        (["mine", "--columns", "caption"], "FIELD="),
        (["mine", "--columns", "colour=text"], "nothing that a column can mean"),
        (["mine", "--columns", "caption=words"], "no column 'words'"),
        (["mine", "--split", "test"], "no split test"),
        (["mine", "--from", "tfds"], "no TFDS folder"),
        (["mine", "other", "--from", "table"], "one NAME"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_reason(
    tmp_path: Path, capsys, caplog, words: list[str], message: str
):
    source = write_rows(tmp_path / "rows", [{"text": "Words."}])
    assert main([*words, "--source", source, "--data-dir", str(tmp_path / "data")]) in (1, 2)
    assert message in capsys.readouterr().err + caplog.text


def test_rows_of_text_need_no_picture_and_equal_texts_have_names_of_their_own(tmp_path: Path):
    pq.write_table(pa.table({"text": ["One.", "Two.", "One.", None]}), tmp_path / "rows.parquet")
    examples = converted(tmp_path / "rows.parquet", tmp_path / "data")
    assert [example["text"] for example in examples] == ["One.", "Two.", "One."]
    assert len({example["metadata"]["id"] for example in examples}) == 3
    assert [one["reason"] for one in rejects(tmp_path / "data", "mine")] == ["nothing_to_learn"]


LESSONS = [
    ({"question": "Why?", "answer": 3}, {"question": "Why?", "answer": "3"}),
    ({"instruction": "Add.", "input": "1 1", "output": "2"}, {"question": "Add.\n1 1", "answer": "2"}),
    ({"question": "Which?", "choices": ["a", "b"], "answer": "B"}, {"options": ["a", "b"], "answer_idx": 1}),
    ({"question": "Which?", "choices": ["a", "b"], "answer": 0}, {"options": ["a", "b"], "answer_idx": 0}),
    ({"question": "Who?", "answers": [{"answer": "x"}, {"answer": "x"}]}, {"answers": ["x", "x"]}),
    ({"caption": ["One.", "Two."]}, {"message_list": [{"text": "One."}, {"text": "Two."}]}),
    ({"texts": [{"user": "Q", "assistant": "A", "source": "s"}]}, {"questions": ["Q"], "answers": ["A"]}),
    ({"qa_pairs": {"question": ["Q"], "answer": ["A"]}}, {"questions": ["Q"], "answers": ["A"]}),
    ({"label": "dogs", "points": [{"x": 1, "y": 2}]}, {"style": "pointing", "points": [[1, 2]], "label": "dogs"}),
    ({"label": "dogs", "count": 2}, {"style": "count", "count": 2}),
    ({"caption": "C", "count": 7, "label": 3}, {"label": "3", "count": 7}),
    ({"caption": "C", "count": 7}, {"caption": "C"}),
    ({"message_list": [{"question": "Q", "answer": "A"}]}, {"message_list": [{"question": "Q", "answer": "A"}]}),
    ({"Text": "Words"}, {"caption": "Words"}),
]


@pytest.mark.parametrize(("row", "expected"), LESSONS)
def test_columns_become_the_fields_that_are_learned(tmp_path: Path, row: dict, expected: dict):
    (tmp_path / "a.png").write_bytes(make_picture())
    (tmp_path / "rows.json").write_text(json.dumps([{"image": "a.png", **row}]))
    (example,) = converted(tmp_path / "rows.json", tmp_path / "data")
    for name, value in expected.items():
        if name == "message_list" and "text" in value[0]:
            assert [branch["text"] for branch in example[name]] == [branch["text"] for branch in value]
        else:
            assert example[name] == value


def test_what_is_not_learned_stays_with_the_metadata(tmp_path: Path):
    row = {"image": "a.png", "caption": "C", "width": 4, "nested": {"a": [1, None], "b": None}, "nothing": None}
    (tmp_path / "a.png").write_bytes(make_picture())
    (tmp_path / "rows.json").write_text(json.dumps([{"id": 5, **row, "metadata": {"licence": "CC0"}}]))
    (example,) = converted(tmp_path / "rows.json", tmp_path / "data")
    assert example["metadata"] == {
        "id": 5,
        "source": "mine",
        "split": "train",
        "image": "a.png",
        "width": 4,
        "nested": {"a": [1, None]},
        "licence": "CC0",
    }


def test_rows_cannot_name_files_outside_their_folder(tmp_path: Path):
    rows, secret = tmp_path / "rows", tmp_path / "secret.png"
    rows.mkdir()
    secret.write_bytes(make_picture())
    (rows / "link.png").symlink_to(secret)
    (rows / "inside.png").write_bytes(make_picture(1))
    good = ["inside.png", "../rows/inside.png", str(rows / "inside.png")]
    bad = ["../secret.png", str(secret), "link.png"]
    paths = [*bad, "a\0b", *good]
    table = [{"image": path, "caption": path.replace("\0", "0")} for path in paths]
    (rows / "rows.json").write_text(json.dumps(table))
    examples = converted(rows / "rows.json", tmp_path / "data")
    assert [example["caption"] for example in examples] == good
    reasons = [one["reason"] for one in rejects(tmp_path / "data", "mine")]
    assert reasons == ["path_outside", "path_outside", "path_outside", "missing_file"]
    examples = converted(rows / "rows.json", tmp_path / "any", allow_any_path=True)
    assert [example["caption"] for example in examples] == bad + good


def test_paths_may_start_in_a_folder_of_their_own(tmp_path: Path):
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a.png").write_bytes(make_picture())
    source = write_rows(tmp_path / "rows", [{"image": {"bytes": None, "path": "a.png"}, "text": "A"}])
    (example,) = converted(source, tmp_path / "data", media_dir=str(tmp_path / "media"))
    assert example["image"].encoded() == make_picture()


def test_pictures_are_fetched_and_their_hash_is_checked(web: Web, tmp_path: Path):
    rows = [
        {"url": web.picture(1), "text": "Good.", "sha256": sha256(make_picture(1))},
        {"url": web.picture(2), "text": "Other.", "sha256": sha256(b"")},
        {"url": web.url("/gone.png"), "text": "Gone.", "sha256": ""},
        {"url": "file:///etc/passwd", "text": "File.", "sha256": ""},
    ]
    (example,) = converted(write_rows(tmp_path / "rows", rows), tmp_path / "data")
    assert (example["caption"], example["metadata"]["url"]) == ("Good.", rows[0]["url"])
    rejected = rejects(tmp_path / "data", "mine")
    assert [one["reason"] for one in rejected] == ["hash_mismatch", "http_404", "bad_url"]
    assert [one["url"] for one in rejected[:2]] == [rows[1]["url"], rows[2]["url"]]


def test_web_pages_that_texts_are_from_are_no_pictures(web: Web, tmp_path: Path):
    rows = [{"url": web.url(f"/page/{i}"), "text": f"Text {i}."} for i in range(3)]
    examples = converted(write_rows(tmp_path / "rows", rows), tmp_path / "data")
    assert [example["text"] for example in examples] == ["Text 0.", "Text 1.", "Text 2."]
    assert web.requests == []
    assert convert_own(tmp_path / "rows", tmp_path / "pictures", columns=(("image", "url"),)).examples == {}
    assert len(web.requests) == 3


def test_bytes_go_before_files_and_files_before_urls(tmp_path: Path):
    row = {"image_url": "http://nowhere/a.png", "file_name": "a.png", "text": "A"}
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.png").write_bytes(make_picture(1))
    (example,) = converted(write_rows(tmp_path / "rows", [row]), tmp_path / "file")
    assert example["image"].encoded() == make_picture(1)
    write_rows(tmp_path / "rows", [{**row, "jpg": make_picture(2)}])
    (example,) = converted(tmp_path / "rows", tmp_path / "bytes")
    assert example["image"].encoded() == make_picture(2)
    assert "jpg" not in example["metadata"]


def test_splits_are_known_by_the_names_of_files_and_folders(tmp_path: Path):
    for name in ("data/train-00000-of-00002", "data/train-00001-of-00002", "val", "test/part-0"):
        path = tmp_path / "rows" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"text": [name]}), path)
    assert convert_own(tmp_path / "rows", tmp_path / "store").examples == {"train": 2, "test": 1, "validation": 1}
    for split in ("val", "validation"):
        assert convert_own(tmp_path / "rows", tmp_path / split, split=split).examples == {"validation": 1}
    pq.write_table(pa.table({"text": ["dev"]}), tmp_path / "rows" / "dev.parquet")
    with pytest.raises(ConfigError, match="mean the same"):
        convert_own(tmp_path / "rows", tmp_path / "both")


def test_saved_splits_and_class_names_are_read(tmp_path: Path):
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["cat", "dog"])})
    parts = {split: Dataset.from_dict({"text": [split], "label": [1]}, features) for split in ("train", "validation")}
    DatasetDict(parts).save_to_disk(tmp_path / "saved")
    assert convert_own(tmp_path / "saved", tmp_path / "data").examples == {"train": 1, "validation": 1}
    examples = converted(
        tmp_path / "saved", tmp_path / "qa", columns=(("answer", "label"),), values=(("question", "Which?"),)
    )
    assert examples[0]["answer"] == "dog"
    (tmp_path / "saved" / "train" / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(ConfigError, match=r"data-00000-of-00001.arrow is missing"):
        convert_own(tmp_path / "saved", tmp_path / "again")


def test_folders_of_classes_and_of_metadata_are_read(tmp_path: Path):
    for name in ("cat/a.png", "dog/b.png", "dog/.hidden.png"):
        path = tmp_path / "classes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_picture(len(name)))
    with pytest.raises(ConfigError, match=r"say nothing to learn; their columns are __key__, png, folder, image"):
        convert_own(tmp_path / "classes", tmp_path / "data")
    chosen = {"columns": (("answer", "folder"),), "values": (("question", "What is it?"),)}
    examples = converted(tmp_path / "classes", tmp_path / "data", **chosen)
    assert [(example["metadata"]["id"], example["answer"]) for example in examples] == [
        ("cat/a", "cat"),
        ("dog/b", "dog"),
    ]


def test_the_hub_is_asked_for_its_splits_and_its_rows_name_no_files(tmp_path: Path, monkeypatch):
    import datasets

    made = datasets.Dataset.from_list([{"image": "/etc/passwd", "text": "A"}, {"image": None, "text": "B"}])
    monkeypatch.setattr("datasets.get_dataset_split_names", lambda *_, **__: ["train_sft"])
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: made)
    monkeypatch.setattr("converters.sources.resolve_revision", lambda *_: "abc")
    spec, (split,) = open_own("mine", "owner/name", OwnSource(config="chat"))
    assert (split.split, split.origin["revision"], split.origin["config"]) == ("train_sft", "abc", "chat")
    assert spec.store_split("train_sft") == "train_sft"
    with pytest.raises(Exception, match="rows of the hub name no files"):
        spec.media(split.rows.row(0), _place(split))
    assert spec.parse(split.rows.row(1), _place(split))["example"]["text"] == "B"


def _place(split):
    from converters.spec import Place

    return Place(None, "train", split.rows.folder)


def test_tar_members_that_are_no_files_are_passed_over_and_what_is_not_known_is_not_run(tmp_path: Path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        link = tarfile.TarInfo("0.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        add(tar, "./1.left.PNG", make_picture(1))
        add(tar, "./1.right.png", make_picture(2))
        add(tar, "./1.txt", b"Both.")
        add(tar, "./1.pickle", b"cos\nsystem\n(S'false'\ntR.")
        add(tar, "2.txt", b"\xff\xfe")
        add(tar, "3.json", b'{"caption": "In JSON.", "url": "http://nowhere/a.png"}')
        add(tar, "3.png", make_picture(3))
    examples = converted(tmp_path / "a.tar", tmp_path / "data")
    assert [image.encoded() for image in examples[0]["image"]] == [make_picture(1), make_picture(2)]
    assert (examples[1]["caption"], examples[1]["image"].encoded()) == ("In JSON.", make_picture(3))
    assert [one["reason"] for one in rejects(tmp_path / "data", "mine")] == ["bad_member"] * 2


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tfrecord", "a.array_record", "a.parquet", "a.csv", "a.json"])
def test_damaged_files_are_refused_by_name(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"[1, 2" if name.endswith("json") else b"\x1f\x8b damaged \xff\xfe,\n1,2,3\n" * 40)
    with pytest.raises(ConfigError, match=name):
        convert_own(tmp_path / name, tmp_path / "data")


def test_a_missing_shard_of_a_series_is_noticed(tmp_path: Path):
    for shard in (0, 2):
        write_array_record(
            tmp_path / f"a-train.array_record-{shard:05d}-of-00003", [encode_example(bytes_lists={"text": [b"A"]})]
        )
    with pytest.raises(ConfigError, match="2 of 3 files"):
        convert_own(tmp_path, tmp_path / "data")


def test_a_tfrecord_that_is_cut_off_is_refused(tmp_path: Path):
    whole = tfrecord([encode_example(bytes_lists={"text": [b"A"]})] * 2)
    (tmp_path / "a.tfrecord").write_bytes(whole[:-1])
    with pytest.raises(ConfigError, match="record 1 is damaged or cut off"):
        convert_own(tmp_path / "a.tfrecord", tmp_path / "data")


def test_a_tfds_folder_is_read_as_its_features_say(tmp_path: Path):
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(),
            "caption": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            "points": tfds.features.Sequence({"x": np.float32, "y": np.float32}),
            "inner": {"tags": tfds.features.Sequence(tfds.features.Text()), "score": np.float32},
        }
    )
    folder = tmp_path / "birds" / "1.0.0"
    folder.mkdir(parents=True)
    features.save_config(folder)
    (folder / "dataset_info.json").write_text(json.dumps({"name": "birds", "version": "1.0.0"}))
    record = encode_example(
        bytes_lists={"image": [make_picture()], "caption": [b"A bird."], "inner/tags": [b"a", b"b"]},
        int64_lists={"label": [1]},
        float_lists={"points/x": [1.0, 2.0], "points/y": [3.0, 4.0], "inner/score": [0.5]},
    )
    write_array_record(folder / "birds-train.array_record-00000-of-00001", [record])
    write_array_record(folder / "birds-holdout.array_record-00000-of-00001", [record])
    (example,) = converted(tmp_path / "birds", tmp_path / "data")
    assert (example["style"], example["label"]) == ("pointing", "dog")
    assert example["points"] == [[1.0, 3.0], [2.0, 4.0]]
    assert example["metadata"]["inner"] == {"tags": ["a", "b"], "score": 0.5}
    assert example["image"].encoded() == make_picture()
    assert len(gm.get_dataset("mine", "holdout", data_dir=tmp_path / "data")) == 1


def test_videos_are_read_from_files_and_from_bytes(tmp_path: Path, media: Path):
    path = next(path for path in sorted((media / "videos").rglob("*.mp4")) if path.stat().st_size < 300_000)
    (tmp_path / "a.mp4").write_bytes(path.read_bytes())
    rows = [{"video": "a.mp4", "caption": "A"}, {"video": "http://nowhere/a.mp4", "caption": "B"}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        add(tar, "0.mp4", path.read_bytes())
        add(tar, "0.txt", b"A")
    for name in ("rows.json", "b.tar"):
        (example,) = converted(tmp_path / name, tmp_path / f"data-{name}")
        assert example["video"].encoded() == path.read_bytes()
        assert example["style"] == "video_short_caption"
    assert [one["reason"] for one in rejects(tmp_path / "data-rows.json", "mine")] == ["video_url"]


_DETECTION = "records/openvinotoolkit__datumaro/tests/assets/tf_detection_api_dataset"
MEDIA_FILES = {
    "hf/AI-Hypercomputer__maxtext/c4-validation-00000-of-01637.parquet": {"validation": 40},
    "hf/SmooSenseAI__smoosense/images.parquet": "say nothing to learn",
    "hf/SmooSenseAI__smoosense/various_bbox.parquet": "say nothing to learn",
    "hf/iejMac__video2dataset/youtube.parquet": "say nothing to learn",
    "hf/muxixi727__R1-Multimodal-Journey/train-00000-of-00001.parquet": {"path_outside": 2389},
    "hf/okotaku__diffengine/tests/testdata/dataset": {"train": 1},
    "hf/okotaku__diffengine/tests/testdata/dataset/metadata.csv": {"train": 1},
    "hf/okotaku__diffengine/tests/testdata/dataset/metadata_cn.csv": {"train": 1},
    "hf/rom1504__img2dataset/sample_image.parquet": {"train": 2},
    "hf/rom1504__img2dataset/test_1000.parquet": {"test": 1000},
    "hf/rom1504__img2dataset/test_bbox.parquet": {"test": 1},
    "records/AI-Hypercomputer__maxtext": {"train": 1000, "validation": 200},
    "records/google__grain/grain/_src/python/testdata/digits.array_record-00000-of-00002": "not tf.train.Example",
    "records/google__grain/grain/_src/python/testdata/morris_sequence_first_5.tfrecord": "not tf.train.Example",
    _DETECTION: "say nothing to learn",
    f"{_DETECTION}/label_map.pbtxt": "is no table",
    "records/webdataset__webdataset/compressed.tar": {"train": 3},
    "records/webdataset__webdataset/mpdata.tar": "of which mp cannot be read",
}


@pytest.mark.parametrize("name", MEDIA_FILES)
def test_real_tables_and_records_convert_or_are_refused_with_a_reason(
    tmp_path: Path, media: Path, name: str, monkeypatch
):
    from converters import media as loading
    from converters.fetch import check_picture

    expected = MEDIA_FILES[name]
    monkeypatch.setattr(loading.ImageFetcher, "fetch", lambda self, url, sha256=None: check_picture(make_picture()))
    monkeypatch.setattr(loading.ImageFetcher, "prefetch", lambda self, requests: None, raising=False)
    if isinstance(expected, str):
        with pytest.raises(ConfigError, match=expected):
            convert_own(media / name, tmp_path)
        return
    summary = convert_own(media / name, tmp_path)
    assert {**summary.examples, **summary.rejected} == expected


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("hf/SmooSenseAI__smoosense/images.parquet", {"caption": "filename"}),
        (
            "records/openvinotoolkit__datumaro/tests/assets/tf_detection_api_dataset/test.tfrecord",
            {"caption": "image/format"},
        ),
    ],
)
def test_real_pictures_are_had_once_their_words_are_named(tmp_path: Path, media: Path, name: str, columns: dict):
    convert_own(media / name, tmp_path, columns=tuple(columns.items()))
    (split,) = [path.name for path in tmp_path.glob("mine/rejects-*")]
    examples = list(gm.get_dataset("mine", split[8:-6], data_dir=tmp_path))
    assert examples
    for example in examples:
        assert np.asarray(example["image"]).shape == example["image"].shape


def write_pointing(folder: Path, rows: list[dict]) -> Path:
    """A folder of pictures, each with what its row says."""
    folder.mkdir()
    for i, row in enumerate(rows):
        (folder / f"{i}.png").write_bytes(make_picture(i))
        with open(folder / "metadata.jsonl", "a") as file:
            file.write(json.dumps({"file_name": f"{i}.png", **row}) + "\n")
    return folder


def test_points_outside_of_the_picture_are_rejected_unless_they_may_be_moved(tmp_path: Path):
    width, height = Image.open(io.BytesIO(make_picture())).size
    rows = [
        {"points": [[width, height], [0, 0]], "label": "dot"},
        {"points": [[1, 1], [500, 1]], "label": "dot"},
        {"points": [{"x": 1, "y": height + 1}], "label": "dot"},
        {"points": [[500, 1]], "label": "dot", "clip_points": True},
        {"points": [[500, 1]], "label": "dot", "point_scale": 1000},
        {"points": [[99, 101]], "label": "dot", "point_scale": 100},
    ]
    source = write_pointing(tmp_path / "photos", rows)
    summary = convert_own(source, tmp_path / "data")
    found = rejects(tmp_path / "data", "mine")
    assert (summary.rejected, [one["row"] for one in found]) == ({"points_outside": 3}, [1, 2, 5])
    outside = f"points[1] (500, 1) is outside of {width} x {height}; "
    assert next(one["detail"] for one in found if one["row"] == 1).startswith(outside)
    assert all("clip_points=True" in one["detail"] for one in found)
    dataset = gm.get_dataset("mine", data_dir=tmp_path / "data")
    assert [list(form_problems(example)) for example in dataset] == [[], [], []]


@pytest.mark.parametrize(("values", "code"), [(["clip_points=true"], 0), (["clip_points=false"], 1), ([], 1)])
def test_the_command_line_says_what_points_outside_may_mean(tmp_path: Path, caplog, values: list[str], code: int):
    source = write_pointing(tmp_path / "photos", [{"points": [[500, 1]], "label": "dot"}])
    words = ["my-pts", "--source", str(source), "--data-dir", str(tmp_path / "data")]
    assert main([*words, *(["--values", *values] if values else [])]) == code
    assert ("--values point_scale=100" in caplog.text) == bool(code)


def test_an_error_names_the_set_once_and_leaves_no_folder(tmp_path: Path, caplog):
    source = write_pointing(tmp_path / "photos", [{"colour": 1}])
    assert main(["my-bare", "--source", str(source), "--data-dir", str(tmp_path / "data")]) == 1
    (message,) = [record.getMessage() for record in caplog.records if "nothing to learn" in record.getMessage()]
    assert message.replace("_", "-").count("my-bare") == 1
    assert not (tmp_path / "data" / "my_bare").exists()
