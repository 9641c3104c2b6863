"""Writing a split: pictures once, shards kept over a stop, a commit that can be cut off anywhere and run again."""

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from array_record.python.array_record_module import ArrayRecordReader
from store_makers import (
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
)

from grain_molmo.errors import ConfigError, StoreError
from grain_molmo.store import (
    MediaStore,
    Record,
    Reject,
    SplitWriter,
    content_key,
    dataset_lock,
    load_manifest,
    load_rejects,
    recover,
)
from grain_molmo.store import commit as commit_module
from grain_molmo.store import writer as module
from grain_molmo.store.example_proto import decode_example
from grain_molmo.store.files import cannot_write

MEDIA_SHARD = "media/birds-train.array_record-00000-of-00002"
ODD = Reject(7, "\ud800", "dead_link", "\udfff \\ ü", "http://h/\ud83d")


def write_two(data_dir: Path) -> None:
    write_split(data_dir, two_shards(), rejects=[ODD], version=1)


def is_committed(data_dir: Path) -> bool:
    if not (data_dir / "birds/manifest.json").exists():
        return False
    return load_manifest(data_dir, "birds")["train"].converter == {"version": 1}


def older_rows(count: int) -> list[list[Item]]:
    """Another conversion of the same split, with one picture in common."""
    return [[item(100 + shard, picture(0), picture(100 + shard))] for shard in range(count)]


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


@pytest.mark.parametrize("steps", range(8))
def test_a_discard_cut_off_anywhere_leaves_no_shard_whose_pictures_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
):
    writer = SplitWriter(tmp_path, "birds", "train", num_shards=2)
    writer.write_shard(0, two_shards()[0])
    with monkeypatch.context() as patch, contextlib.suppress(_Stopped):
        _stop_after(patch, steps, (os, "unlink"), (os, "rmdir"))
        writer.discard()
    write_two(tmp_path)
    assert read_all(tmp_path) == records_of(two_shards())


def test_finish_cut_off_behind_the_media_then_other_arguments_lose_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        _stop_after(patch, 0, (commit_module, "save_manifest"))
        with pytest.raises(_Stopped):
            write_two(tmp_path)
    write_split(tmp_path, [[item(1, picture(0), picture(3))]], version=2)
    assert read_all(tmp_path) == [item(1, picture(0), picture(3))[0]]
    assert all(content_key(picture(number)) in MediaStore(tmp_path) for number in range(4))


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


# Stops. A stop is an exception at a step of `finish`, or SIGKILL at any file operation of a whole run.


class _Stopped(Exception):
    pass


def _stop_after(patch: pytest.MonkeyPatch, calls: int, *functions: tuple[object, str]) -> None:
    """Lets so many calls of the functions through; the next one, and all after it, raise."""
    left = [calls]

    def counted(function: Callable) -> Callable:
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                raise _Stopped
            return function(*args, **kwargs)

        return call

    for owner, name in functions:
        patch.setattr(owner, name, counted(getattr(owner, name)))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    write_two(folder)
    return visible_files(folder)


def test_finish_cut_off_between_its_steps_and_run_again_gives_the_same_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: dict[str, bytes]
):
    prepared = tmp_path / "prepared"
    writer = SplitWriter(prepared, "birds", "train", num_shards=2, arguments={"version": 1})
    for shard, items in enumerate(two_shards()):
        writer.write_shard(shard, items)
    for steps in range(100):
        folder = tmp_path / str(steps)
        shutil.copytree(prepared, folder)
        with monkeypatch.context() as patch:
            _stop_after(patch, steps, (os, "replace"), (commit_module, "save_manifest"), (shutil, "rmtree"))
            try:
                write_two(folder)
            except _Stopped:
                pass
            else:
                break
        recover(folder, "birds")
        if not is_committed(folder):
            write_two(folder)
        assert visible_files(folder) == uninterrupted
    # Index and manifest of the media, rejects and the commit itself are made ready. Then four media files, two shards,
    # `save_manifest` and the three files that it writes, rejects; two folders are removed.
    assert steps == 4 + 4 + 2 + 4 + 1 + 2


_STEPS = ("open", "os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "os.scandir", "os.listdir", "next_item")


def _kill_at(step: int, run: Callable[[], None]) -> bool:
    """Runs in a forked process that is killed right before its step number `step`; False if it got through.

    A step is a record asked for, or a file operation of those that Python audits.
    """
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)  # a child that hangs fails the test
        done = 0

        def count(event: str, _: tuple) -> None:
            nonlocal done
            if event in _STEPS:
                if done == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                done += 1

        status = 1
        try:
            sys.addaudithook(count)
            run()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return status != 0


@pytest.mark.parametrize("old_shards", [0, 1, 2])
def test_a_run_killed_anywhere_shows_no_partial_shard_and_run_again_gives_the_same_store(
    tmp_path: Path, old_shards: int
):
    def start(folder: Path) -> Path:
        if old_shards:
            write_split(folder, older_rows(old_shards), version=0)
        return folder

    wanted_folder = start(tmp_path / "uninterrupted")
    before = visible_files(wanted_folder)
    write_two(wanted_folder)
    wanted = all_files(wanted_folder)
    old, new = records_of(older_rows(old_shards)), records_of(two_shards())
    step = 0
    while True:
        folder = start(tmp_path / str(step))
        killed = _kill_at(step, lambda folder=folder: write_two(folder))
        for name, data in visible_files(folder).items():
            assert data in (wanted.get(name), before.get(name)), name
        if (folder / "birds/manifest.json").exists():
            assert read_all(folder) in (old, new)
        recover(folder, "birds")
        if not is_committed(folder):
            write_two(folder)
        assert all_files(folder) == wanted
        if not killed:
            break
        step += 3 if old_shards else 2
    assert step > 60


@pytest.mark.parametrize("limit", [60, 900, 70_000])
def test_a_full_disk_is_told_and_the_same_command_goes_on_when_there_is_room(
    tmp_path: Path, uninterrupted: dict[str, bytes], limit: int
):
    def convert() -> None:
        with dataset_lock(tmp_path, "birds"):
            write_two(tmp_path)

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))  # a write past it fails as on a full disk
    try:
        words = r"birds.*: cannot write \(File too large\); [\d.,]+ MB are free there; make room, .* shards are kept"
        with pytest.raises(StoreError, match=words):
            convert()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert visible_files(tmp_path) == {}
    convert()
    assert visible_files(tmp_path) == uninterrupted


def test_a_full_disk_in_the_middle_of_a_reconversion_leaves_the_old_split(tmp_path: Path):
    write_split(tmp_path, older_rows(1), version=0)
    before = visible_files(tmp_path)
    writer = SplitWriter(tmp_path, "birds", "train", num_shards=2, arguments={"version": 1})
    for shard, items in enumerate(two_shards()):
        writer.write_shard(shard, items)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(StoreError, match="cannot write"):
            write_two(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert visible_files(tmp_path) == before
    assert read_all(tmp_path) == records_of(older_rows(1))
    write_two(tmp_path)
    assert read_all(tmp_path) == records_of(two_shards())


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "make room, then give the same command again"),
        (errno.EDQUOT, "make room, then give the same command again"),
        (errno.EROFS, "make the folder writable, or choose another --data-dir"),
        (errno.EACCES, "make the folder writable, or choose another --data-dir"),
        (errno.EIO, "mend that, then give the same command again"),
    ],
)
def test_what_the_system_refuses_is_told_with_what_to_do(tmp_path: Path, number: int, advice: str):
    reason = os.strerror(number)
    assert f"a.json: cannot write ({reason}); " in str(cannot_write(tmp_path / "a.json", OSError(number, reason)))
    assert advice in str(cannot_write(tmp_path / "no" / "folder" / "a.json", OSError(number, reason)))
    if number != errno.EIO:  # ArrayRecord has only words
        words = RuntimeError(f"write() failed: {reason}; writing a; at byte 3; Could not submit chunk: 1")
        assert str(cannot_write(tmp_path / "a", words)) == str(cannot_write(tmp_path / "a", OSError(number, reason)))
