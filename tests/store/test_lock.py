"""One writer a dataset: who holds the lock is named, and what a killed writer left is put right."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from store_makers import all_files, item, two_shards, write_split

from grain_molmo.errors import StoreBusyError, StoreError
from grain_molmo.store import SplitWriter, dataset_lock, list_converted

fork = multiprocessing.get_context("fork")


def _hold(data_dir: Path, connection) -> None:
    with dataset_lock(data_dir, "birds"):
        connection.send("held")
        connection.recv()


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds the lock until it is told something."""
    ours, theirs = fork.Pipe()
    process = fork.Process(target=_hold, args=(tmp_path, theirs))
    process.start()
    assert ours.recv() == "held"
    yield process, ours
    if process.is_alive():
        process.kill()
    process.join()


def test_a_second_writer_is_refused_and_told_who_is_writing(tmp_path: Path, holder):
    process, _ = holder
    words = rf"birds is being written by process {process.pid} on {os.uname().nodename} since \d{{4}}-.*\+00:00; wait"
    with pytest.raises(StoreBusyError, match=words), dataset_lock(tmp_path, "birds"):
        pass
    with dataset_lock(tmp_path, "bees"):  # another dataset is free
        pass


def test_who_waits_gets_the_lock_when_the_other_is_done(tmp_path: Path, holder):
    process, connection = holder
    connection.send("done")
    with dataset_lock(tmp_path, "birds", wait=True):
        process.join()
    assert process.exitcode == 0


def test_the_lock_of_a_killed_writer_is_free(tmp_path: Path, holder):
    process, _ = holder
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with dataset_lock(tmp_path, "birds"):
        write_split(tmp_path, two_shards(), name="birds")
    assert list_converted(tmp_path) == ["birds"]


def test_no_file_of_the_lock_but_an_empty_hidden_one_stays(tmp_path: Path):
    with dataset_lock(tmp_path, "b-irds"):
        write_split(tmp_path, two_shards(), name="b-irds")
    assert {name: data for name, data in all_files(tmp_path).items() if name[0] == "."} == {".locks/b_irds.lock": b""}


def test_names_are_one_lock_however_they_are_spelled(tmp_path: Path, holder):
    with dataset_lock(tmp_path, "two-birds"):
        refused = fork.Process(target=_expect_busy, args=(tmp_path, "two_birds"))
        refused.start()
        refused.join()
        assert refused.exitcode == 0


def _expect_busy(data_dir: Path, name: str) -> None:
    with pytest.raises(StoreBusyError), dataset_lock(data_dir, name):
        pass


def test_leftovers_of_killed_writers_are_gone_and_what_can_be_taken_over_is_not(tmp_path: Path):
    write_split(tmp_path, [[item(0)]])
    write_split(tmp_path, [[item(0)]], name="birds_two")
    whole = all_files(tmp_path)
    writer = SplitWriter(tmp_path, "birds", "train", num_shards=2)
    writer.write_shard(0, two_shards()[0])
    begun = all_files(tmp_path)
    (run,) = (tmp_path / "birds").glob(".train.*.partial")
    (media,) = (tmp_path / "media").glob(".birds-train.*.partial")
    for folder in (run, media, tmp_path / "birds"):
        (folder / ".x.json.tmp-123-0123abcd").write_text("")
    (run / "00001-0123abcd.annotations").write_text("")
    (media / "00001-0123abcd.media").write_text("")
    for old in ("birds/.test.partial", "birds/.train.0123456789ab.partial", "media/.birds-train.0123456789ab.partial"):
        (tmp_path / old / "deep").mkdir(parents=True)
    with dataset_lock(tmp_path, "birds"):
        assert all_files(tmp_path).keys() - begun.keys() == {".locks/birds.lock", ".locks/birds.json"}
        again = SplitWriter(tmp_path, "birds", "train", num_shards=2)
        assert [again.has_shard(shard) for shard in (0, 1)] == [True, False]
        again.discard()
    assert {name: data for name, data in all_files(tmp_path).items() if not name.startswith(".locks")} == whole


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match=r"file/\.locks/birds\.lock: cannot write"),
        dataset_lock(tmp_path / "file", "birds"),
    ):
        pass
