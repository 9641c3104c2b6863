"""Manifests: what a folder says of itself, to us and to TFDS, and what is said when it is damaged."""

import json
import sys
import tracemalloc
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from store_makers import flip_bit, item, picture, records_of, two_shards, write_split

from grain_molmo.errors import ConfigError, StoreError
from grain_molmo.store import AnnotationSource, Record, canonical_name, list_converted, load_manifest, resolve_data_dir
from grain_molmo.store import shards as shards_module
from grain_molmo.store.files import write_json


def as_tfds_sees_it(record: Record) -> dict:
    """The features of a record; a sequence of dicts is a dict of sequences there."""
    fields = {"sha256": str.encode, "kind": str.encode, "width": int, "height": int, "num_bytes": int}
    media = {name: [kind(getattr(ref, name)) for ref in record.media] for name, kind in fields.items()}
    media["video"] = [
        json.dumps(vars(ref.video), separators=(",", ":")).encode() if ref.video else b"" for ref in record.media
    ]
    return {"id": record.id.encode(), "annotation": record.annotation, "media": media}


def read_with_tfds(folder: Path, split: str) -> list[dict]:
    source = tfds.builder_from_directory(folder).as_data_source(split)
    assert "tensorflow" not in sys.modules
    found = []
    for i in range(len(source)):
        example = source[i]
        media = {name: list(values) for name, values in example["media"].items()}
        found.append({"id": example["id"], "annotation": json.loads(example["annotation"]), "media": media})
    return found


def test_tfds_reads_a_set_without_tensorflow(tmp_path: Path):
    write_split(tmp_path, two_shards())
    write_split(tmp_path, [[item(0, picture(0), text="ü\u2028")]], split="validation")
    expected = [as_tfds_sees_it(record) for record in records_of(two_shards())]
    assert read_with_tfds(tmp_path / "birds", "train") == expected
    assert [example["annotation"]["text"] for example in read_with_tfds(tmp_path / "birds", "validation")] == [
        "ü\u2028"
    ]


def test_tfds_reads_every_generation_of_every_split_and_slices_of_them(tmp_path: Path):
    later = [[item(10, picture(9)), item(11)], [item(12)], [item(13)]]
    write_split(tmp_path, two_shards(), name="v1.5-birds")
    write_split(tmp_path, two_shards(), name="v1.5-birds", split="train_two")
    for version in (2, 3):
        write_split(tmp_path, later, name="v1.5-birds", version=version)
    write_split(tmp_path, [[item(20)]], name="v1.5-birds", split="train_two", version=2)
    folder = tmp_path / "v1.5_birds"
    assert sorted(path.name.partition("-")[2] for path in folder.glob("*.array_record-*")) == [
        *(f"train-3.array_record-0000{shard}-of-00003" for shard in range(3)),
        "train_two-2.array_record-00000-of-00001",
    ]
    expected = [as_tfds_sees_it(record) for record in records_of(later)]
    assert read_with_tfds(folder, "train") == expected
    assert read_with_tfds(folder, "train[:50%]") == expected[:2]
    assert read_with_tfds(folder, "train[1:3]") == expected[1:3]
    assert read_with_tfds(folder, "train_two") == [as_tfds_sees_it(item(20)[0])]


def test_tfds_reads_a_set_whose_records_have_no_media(tmp_path: Path):
    write_split(tmp_path, [[item(0), item(1)]], name="texts")
    assert read_with_tfds(tmp_path / "texts", "train") == [as_tfds_sees_it(item(i)[0]) for i in range(2)]


def test_a_source_reads_the_splits_asked_for_one_after_the_other(tmp_path: Path):
    write_split(tmp_path, two_shards())
    write_split(tmp_path, [[item(9)]], split="validation")
    source = AnnotationSource(tmp_path, "birds", ["validation", "train"])
    assert [record.id for record in source] == ["id-9", *(f"id-{i}" for i in range(6))]
    assert repr(source) == "AnnotationSource('birds', ('validation', 'train'), 7 records)"
    with pytest.raises(ConfigError, match=r"no split 'test'; it has train, validation"):
        AnnotationSource(tmp_path, "birds", ["test"])


def test_the_fingerprint_follows_the_content_not_the_place(tmp_path: Path):
    for place in ("a", "b"):
        write_split(tmp_path / place, two_shards())
    write_split(tmp_path / "c", two_shards()[::-1])
    prints = [AnnotationSource(tmp_path / place, "birds", ["train"]).fingerprint for place in ("a", "b", "c")]
    assert prints[0] == prints[1] != prints[2]


def test_a_record_that_is_no_annotation_is_named(tmp_path: Path):
    write_split(tmp_path, two_shards())
    source = AnnotationSource(tmp_path, "birds", ["train"])
    source._reader = shards_module.RecordReader(
        tmp_path / "media",
        [
            shards_module.ShardInfo(path.name, 2, path.stat().st_size, "")
            for path in sorted((tmp_path / "media").glob("*.array_record*"))
        ],
    )
    with pytest.raises(StoreError, match=r"birds: record 3 is no annotation record .*media/sha256"):
        source[3]


def test_a_set_that_was_not_converted_says_how_to_convert_it(tmp_path: Path):
    with pytest.raises(StoreError, match="grain-molmo convert pixmo-cap --data-dir"):
        load_manifest(tmp_path, "pixmo_cap")
    assert list_converted(tmp_path) == list_converted(tmp_path / "nowhere") == []


def test_converted_sets_are_listed_by_name(tmp_path: Path):
    for name in ("bees", "ants-red"):
        write_split(tmp_path, [[item(0, picture(0))]], name=name)
    assert list_converted(tmp_path) == ["ants_red", "bees"]
    assert load_manifest(tmp_path, "ants-red") == load_manifest(tmp_path, "ants_red")


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "\x00" * 9, "[]", "3", "null", "{}", '{"format": 1}', '{"format": 1, "splits": 3}'),
        *(f'{{"format": 1, "splits": {{"train": {entry}}}}}' for entry in ("{}", "[]", '{"shards": [{}]}')),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path: Path, content: str):
    path = tmp_path / "birds/manifest.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(StoreError, match=r"birds/manifest\.json is damaged .* delete it and convert"):
        load_manifest(tmp_path, "birds")


def test_no_flipped_bit_of_a_manifest_raises_anything_but_the_store_s_own_errors(tmp_path: Path):
    write_split(tmp_path, two_shards())
    path = tmp_path / "birds/manifest.json"
    whole = path.read_bytes()
    refused = 0
    for offset in range(len(whole)):
        path.write_bytes(whole)
        flip_bit(path, offset, bit=offset % 8)
        shards_module._open_readers.__init__()
        try:
            source = AnnotationSource(tmp_path, "birds", ["train"])
            assert {source[i].annotation["number"] for i in range(len(source))} <= {*range(6)}
        except (StoreError, ConfigError):
            refused += 1
    assert refused == len(whole)


def test_a_manifest_of_another_format_is_refused(tmp_path: Path):
    write_json(tmp_path / "birds/manifest.json", {"format": 2, "splits": {}})
    with pytest.raises(StoreError, match="has format 2, this version reads 1"):
        load_manifest(tmp_path, "birds")


def test_ten_million_records_open_without_touching_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stem = "birds-train.array_record"
    shards = [
        {"file": f"{stem}-{i:05d}-of-01000", "records": 10_000, "num_bytes": 10**9, "sha256": f"{i:064x}"}
        for i in range(1000)
    ]
    entry = {"shards": shards, "media_group": None, "rejected": {}, "source": {}, "converter": {}}
    write_json(tmp_path / "birds/manifest.json", {"format": 1, "splits": {"train": entry}})
    opened = []
    monkeypatch.setattr(shards_module, "_open_shard", lambda path, info: opened.append(path.name) or _FakeReader())
    tracemalloc.start()
    source = AnnotationSource(tmp_path, "birds", ["train"])
    assert len(source) == 10_000_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20
    assert opened == []
    for index, shard, record in ((0, 0, 0), (9_999, 0, 9_999), (10_000, 1, 0), (9_999_999, 999, 9_999)):
        assert source._reader[index] == record
        assert opened[-1] == f"{stem}-{shard:05d}-of-01000"
    assert len(opened) == 3


class _FakeReader:
    def read(self, start: int, stop: int) -> list[int]:
        assert stop == start + 1
        return [start]


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "..", "a.", ".a", "a..b", "a b", "a\n", "a\\b", "a\x00", "~"])
def test_names_that_could_leave_the_folder_are_refused(name: str):
    with pytest.raises(ConfigError, match="is no dataset name"):
        canonical_name(name)


@pytest.mark.parametrize(("name", "canonical"), [("pixmo-cap", "pixmo_cap"), ("a_b-c", "a_b_c"), ("v1.5", "v1.5")])
def test_hyphens_in_names_are_underscores(name: str, canonical: str):
    assert canonical_name(name) == canonical == canonical_name(canonical)


def test_the_data_folder_is_the_argument_or_the_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAIN_MOLMO_DATA", "/from/variable")
    assert resolve_data_dir(None) == Path("/from/variable")
    assert resolve_data_dir("~/x") == Path.home() / "x"
    for value in ("", None):
        monkeypatch.delenv("GRAIN_MOLMO_DATA", raising=False)
        with pytest.raises(ConfigError, match=r"--data-dir.*GRAIN_MOLMO_DATA"):
            resolve_data_dir(value)
