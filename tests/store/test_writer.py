"""Writing a split: pictures once, shards kept over a stop, a commit that can be cut off anywhere and run again."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from array_record.python.array_record_module import ArrayRecordReader
from store_makers import (
    ODD,
    Item,
    all_files,
    item,
    picture,
    read_all,
    records_of,
    ref_of,
    two_shards,
    visible_files,
    write_split,
    write_two,
)

from grain_molmo.errors import ConfigError, StoreError
from grain_molmo.store import (
    MediaStore,
    Record,
    Reject,
    SplitWriter,
    content_key,
    load_manifest,
    load_rejects,
    recover,
)
from grain_molmo.store import writer as module
from grain_molmo.store.example_proto import decode_example

MEDIA_SHARD = "media/birds-train.array_record-00000-of-00002"


def test_what_was_written_is_read_and_lies_under_these_names(tmp_path: Path):
    write_two(tmp_path)
    assert read_all(tmp_path) == records_of(two_shards())
    assert set(visible_files(tmp_path)) == {
        "birds/birds-train.array_record-00000-of-00002",
        "birds/birds-train.array_record-00001-of-00002",
        "birds/dataset_info.json",
        "birds/features.json",
        "birds/manifest.json",
        "birds/rejects-train.jsonl",
        "media/birds-train.array_record-00000-of-00002",
        "media/birds-train.array_record-00001-of-00002",
        "media/birds-train.index.npy",
        "media/birds-train.manifest.json",
    }


def test_nothing_hidden_is_left_behind(tmp_path: Path):
    write_two(tmp_path)
    assert list(tmp_path.rglob(".*")) == []


def test_a_media_record_is_a_tf_train_example_for_any_reader_of_array_record(tmp_path: Path):
    write_two(tmp_path)
    reader = ArrayRecordReader(str(tmp_path / MEDIA_SHARD))
    records = [decode_example(payload) for payload in reader.read_all()]
    reader.close()
    assert records == [
        {
            "sha256": [content_key(picture(number)).encode()],
            "kind": [b"image"],
            "encoded": [picture(number)],
            "width": [4],
            "height": [3],
        }
        for number in (0, 1)
    ]


def test_pictures_are_written_once_within_a_set_across_shards_and_across_sets(tmp_path: Path):
    write_two(tmp_path)
    write_split(tmp_path, [[item(1, picture(3), picture(4))], [item(2, picture(4))]], name="bees")
    write_split(tmp_path, [[item(1, picture(0))]], name="ants")
    store = MediaStore(tmp_path)
    assert {group.name: len(group) for group in store.groups} == {"birds-train": 4, "bees-train": 1}
    assert load_manifest(tmp_path, "ants")["train"].media_group is None
    everything = b"".join(visible_files(tmp_path / "media").values())
    assert [everything.count(picture(number)) for number in range(5)] == [1] * 5
    assert read_all(tmp_path, "ants") == [item(1, picture(0))[0]]


def test_a_conversion_made_anew_adds_a_group_and_overwrites_none(tmp_path: Path):
    write_two(tmp_path)
    media = visible_files(tmp_path / "media")
    write_split(tmp_path, [[item(9, picture(9)), item(0, picture(0))]], version=2)
    write_split(tmp_path, [[item(9, picture(10))]], version=3)
    assert media.items() <= visible_files(tmp_path / "media").items()
    assert [group.name for group in MediaStore(tmp_path).groups] == ["birds-train", "birds-train-2", "birds-train-3"]
    assert read_all(tmp_path) == [item(9, picture(10))[0]]
    assert "birds/birds-train.array_record-00000-of-00002" not in visible_files(tmp_path)


def test_splits_of_one_set_stand_beside_each_other(tmp_path: Path):
    write_two(tmp_path)
    write_split(tmp_path, [[item(1, picture(1))]], split="validation")
    assert sorted(load_manifest(tmp_path, "birds")) == ["train", "validation"]
    assert (len(read_all(tmp_path)), len(read_all(tmp_path, split="validation"))) == (6, 1)


def test_the_manifest_tells_where_rows_came_from_and_what_was_left_out(tmp_path: Path):
    rejects = [Reject(1, "a", "x", ""), Reject(2, "b", "y", ""), Reject(3, "c", "y", "")]
    made = write_split(tmp_path, two_shards(), rejects=rejects, rows=6)
    assert load_manifest(tmp_path, "birds") == {"train": made}
    assert list(made.rejected.items()) == [("y", 2), ("x", 1)]
    assert (made.source, made.converter, made.num_examples) == ({"kind": "test"}, {"rows": 6}, 6)


def test_rejects_are_kept_with_their_shard_and_in_a_table_of_valid_utf8(tmp_path: Path):
    writer = SplitWriter(tmp_path, "birds", "train", num_shards=1)
    rejects: list[Reject] = []

    def items() -> Iterator[Item]:
        yield item(1)
        rejects.append(ODD)  # found while the items are made

    writer.write_shard(0, items(), rejects)
    again = SplitWriter(tmp_path, "birds", "train", num_shards=1)
    assert again.shard_rejects(0) == [ODD]
    again.finish(source={}, converter={}, rejects=again.shard_rejects(0))
    (line,) = (tmp_path / "birds/rejects-train.jsonl").read_text(encoding="utf-8").splitlines()
    assert Reject(**json.loads(line)) == ODD
    assert list(load_rejects(tmp_path, "birds", "train")) == [ODD]
    (tmp_path / "birds/rejects-train.jsonl").write_text("{")
    with pytest.raises(StoreError, match=r"rejects-train\.jsonl does not read"):
        list(load_rejects(tmp_path, "birds", "train"))


def test_a_writer_made_again_finds_what_was_finished(tmp_path: Path):
    first, second = two_shards()
    writer = SplitWriter(tmp_path, "birds", "train", num_shards=2, arguments={"a": (1, 2)})
    writer.write_shard(0, first)
    again = SplitWriter(tmp_path, "birds", "train", num_shards=2, arguments={"a": [1, 2]})
    assert [again.has_shard(shard) for shard in (0, 1)] == [True, False]
    again.write_shard(1, second)
    again.finish(source={}, converter={}, rejects=[])
    assert read_all(tmp_path) == records_of(two_shards())


@pytest.mark.parametrize("changed", [{"num_shards": 1}, {"num_shards": 3}, {"arguments": {"a": 2}}, {"arguments": {}}])
def test_a_writer_with_other_arguments_finds_nothing_and_leaves_nothing_of_the_old_run(tmp_path: Path, changed: dict):
    first, second = two_shards()
    writer = SplitWriter(tmp_path, "birds", "train", num_shards=2, arguments={"a": 1})
    writer.write_shard(0, first)
    writer.write_shard(1, second)
    other = SplitWriter(tmp_path, "birds", "train", **{"num_shards": 2, "arguments": {"a": 1}, **changed})
    assert not any(other.has_shard(shard) for shard in range(3))
    assert visible_files(tmp_path) == {}


def test_discarding_forgets_finished_shards_and_their_pictures(tmp_path: Path):
    writer = SplitWriter(tmp_path, "birds", "train", num_shards=2)
    writer.write_shard(0, two_shards()[0])
    writer.discard()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_remains_of_a_committed_run_are_never_taken_over(tmp_path: Path):
    writer = SplitWriter(tmp_path, "birds", "train", num_shards=2)
    for shard, items in enumerate(two_shards()):
        writer.write_shard(shard, items)
    (staging,) = (tmp_path / "birds").glob(".train.*.partial")
    kept = (staging / "shard-00000.json").read_bytes()
    writer.finish(source={}, converter={}, rejects=[])
    whole = all_files(tmp_path)
    staging.mkdir()
    (staging / "shard-00000.json").write_bytes(kept)  # as if the clean-up had been cut off; run.json goes first
    recover(tmp_path, "birds")
    assert all_files(tmp_path) == whole
    assert not SplitWriter(tmp_path, "birds", "train", num_shards=2).has_shard(0)


def test_a_finished_shard_is_not_written_twice(tmp_path: Path):
    writer = SplitWriter(tmp_path, "birds", "train", num_shards=1)
    writer.write_shard(0, two_shards()[0])
    with pytest.raises(ConfigError, match="shard 0 was finished"):
        writer.write_shard(0, two_shards()[1])
    writer.finish(source={}, converter={}, rejects=[])
    assert read_all(tmp_path) == records_of(two_shards()[:1])


@pytest.mark.parametrize("shard", [-1, 2])
def test_a_shard_beyond_the_number_of_shards_is_refused(tmp_path: Path, shard: int):
    with pytest.raises(ConfigError, match=f"no shard {shard} of 2"):
        SplitWriter(tmp_path, "birds", "train", num_shards=2).write_shard(shard, [])


def test_a_split_with_a_shard_missing_is_not_committed(tmp_path: Path):
    writer = SplitWriter(tmp_path, "birds", "train", num_shards=2)
    writer.write_shard(0, two_shards()[0])
    with pytest.raises(StoreError, match="birds train, 2 shards: shard 1 was not written"):
        writer.finish(source={}, converter={}, rejects=[])
    assert not (tmp_path / "birds/manifest.json").exists()


def test_an_exception_among_the_items_leaves_no_shard(tmp_path: Path):
    def items() -> Iterator[Item]:
        yield from two_shards()[0]
        raise RuntimeError("the source broke")

    writer = SplitWriter(tmp_path, "birds", "train", num_shards=1)
    with pytest.raises(RuntimeError, match="the source broke"):
        writer.write_shard(0, items())
    assert not writer.has_shard(0)
    assert visible_files(tmp_path) == {}
    writer.write_shard(0, two_shards()[0])  # nothing of the first attempt counts as written
    writer.finish(source={}, converter={}, rejects=[])
    assert read_all(tmp_path) == records_of(two_shards()[:1])


def test_a_record_whose_picture_is_not_given_is_named(tmp_path: Path):
    writer = SplitWriter(tmp_path, "birds", "train", num_shards=1)
    with pytest.raises(StoreError, match=f"'owl' refers to media {content_key(picture(5))}"):
        writer.write_shard(0, [(Record("owl", {}, (ref_of(picture(5)),)), {})])
    assert visible_files(tmp_path) == {}


def test_a_shard_holds_no_more_than_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_RECORDS_PER_SHARD", 3)
    writer = SplitWriter(tmp_path, "birds", "train", num_shards=1)
    with pytest.raises(StoreError, match="over 3 records; use more shards"):
        writer.write_shard(0, [item(number) for number in range(4)])
    assert writer.write_shard(0, [item(number) for number in range(3)]).records == 3


@pytest.mark.parametrize(
    ("name", "split", "num_shards"),
    [
        *((name, "train", 1) for name in ("../x", "a/b", "", "media")),
        *(("birds", split, 1) for split in ("../train", "", "train-2")),
        ("birds", "train", 0),
    ],
)
def test_names_that_could_reach_other_files_are_refused(tmp_path: Path, name: str, split: str, num_shards: int):
    with pytest.raises(ConfigError):
        SplitWriter(tmp_path, name, split, num_shards=num_shards)
    assert list(tmp_path.iterdir()) == []
