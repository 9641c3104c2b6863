"""Stops: killed anywhere, refused by the disk, and run again, a conversion ends in the same store."""

import contextlib
import errno
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from store_makers import (
    all_files,
    item,
    older_rows,
    picture,
    read_all,
    records_of,
    two_shards,
    visible_files,
    write_split,
    write_two,
)

from grain_molmo.errors import StoreError
from grain_molmo.store import (
    MediaStore,
    SplitWriter,
    content_key,
    dataset_lock,
    load_manifest,
    recover,
)
from grain_molmo.store import commit as commit_module
from grain_molmo.store.files import cannot_write


def is_committed(data_dir: Path) -> bool:
    if not (data_dir / "birds/manifest.json").exists():
        return False
    return load_manifest(data_dir, "birds")["train"].converter == {"version": 1}


# A stop is an exception at a step of `finish`, or SIGKILL at any file operation of a whole run.


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
        words = r"birds.*: cannot write \(File too large\); [\d.,]+ MB are free there; make room, .* is kept"
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
        (errno.EROFS, "make the folder writable, or choose another"),
        (errno.EACCES, "make the folder writable, or choose another"),
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
