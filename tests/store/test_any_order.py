"""Shards written in any order, by several processes, or twice: the store that comes out is always the same."""

import itertools
import multiprocessing
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_makers import Item, all_files, item, picture, read_all, records_of, two_shards, write_split

from grain_molmo.errors import StoreError
from grain_molmo.store import Record, Reject, SplitWriter, load_manifest
from grain_molmo.store.known import KnownMedia, first_mentions
from grain_molmo.store.media import key_halves
from grain_molmo.store.writer import _known_media

hashes = st.integers(0, 40).map(lambda number: f"{number % 3:016x}{number:016x}" + "0" * 32)


def four_shards() -> list[list[Item]]:
    """Pictures in one shard, in all of them, and a shard whose pictures all occur before it."""
    a, b, c, d, e, f = (picture(i) for i in range(6))
    return [
        [item(0, a), item(1, b, a)],
        [item(2, c), item(3, a), item(4, d)],
        [item(5, d, c), item(6, b)],
        [item(7, e), item(8, d), item(9, f, e), item(10)],
    ]


@pytest.fixture(scope="module")
def in_order(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("in order")
    write_split(folder, four_shards())
    return all_files(folder)


def forgetful_attach(data_dir: Path) -> SplitWriter:
    """As in a new process: nothing is remembered of other shards."""
    _known_media.cache_clear()
    return SplitWriter.attach(data_dir, "birds", "train")


def finish(data_dir: Path) -> None:
    writer = SplitWriter(data_dir, "birds", "train", num_shards=4)
    writer.finish(source={"kind": "test"}, converter={}, rejects=[])


@pytest.mark.parametrize("order", [[3, 2, 1, 0], [1, 0, 3, 2], [2, 0, 1, 3]])
def test_the_order_of_the_shards_does_not_show(tmp_path: Path, in_order: dict[str, bytes], order: list[int]):
    SplitWriter(tmp_path, "birds", "train", num_shards=4)
    for shard in order:
        forgetful_attach(tmp_path).write_shard(shard, four_shards()[shard])
    finish(tmp_path)
    assert all_files(tmp_path) == in_order


def test_shards_written_at_once_hold_media_twice_until_the_commit_removes_them(
    tmp_path: Path, in_order: dict[str, bytes]
):
    SplitWriter(tmp_path, "birds", "train", num_shards=4)
    writers = [forgetful_attach(tmp_path) for _ in range(4)]
    streams = [iter(items) for items in four_shards()]
    first = {shard: next(stream) for shard, stream in enumerate(streams)}

    def nested(shard: int):  # shard k is begun, and asks for its first record, while the shards before it are open
        yield first[shard]
        if shard < 3:
            writers[shard + 1].write_shard(shard + 1, nested(shard + 1))
        yield from streams[shard]

    writers[0].write_shard(0, nested(0))
    finish(tmp_path)
    assert all_files(tmp_path) == in_order


def _write(data_dir: Path, shard: int) -> None:
    SplitWriter.attach(data_dir, "birds", "train").write_shard(shard, four_shards()[shard])


def test_processes_write_shards_side_by_side(tmp_path: Path, in_order: dict[str, bytes]):
    SplitWriter(tmp_path, "birds", "train", num_shards=4)
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_write, args=(tmp_path, shard)) for shard in random.Random(0).sample(range(4), 4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    finish(tmp_path)
    assert all_files(tmp_path) == in_order


def test_of_two_who_write_the_same_shard_the_first_to_finish_counts(tmp_path: Path, in_order: dict[str, bytes]):
    writer = SplitWriter(tmp_path, "birds", "train", num_shards=4)
    other = forgetful_attach(tmp_path)
    for shard in range(3):
        writer.write_shard(shard, four_shards()[shard])
    counted = []

    def slow():
        yield from four_shards()[3]
        counted.append(other.write_shard(3, four_shards()[3], [Reject(1, "a", "b", "c")]))

    info = writer.write_shard(3, slow(), [Reject(2, "late", "late", "late")])
    assert [info] == counted
    assert writer.shard_rejects(3) == [Reject(1, "a", "b", "c")]
    finish(tmp_path)
    assert all_files(tmp_path) == in_order


def test_media_that_other_sets_add_meanwhile_are_stored_all_the_same(tmp_path: Path):
    writer = SplitWriter(tmp_path, "birds", "train", num_shards=2)
    writer.write_shard(0, two_shards()[0])
    write_split(tmp_path, [[item(1, picture(3))]], name="bees")
    writer.write_shard(1, two_shards()[1])
    writer.finish(source={"kind": "test"}, converter={}, rejects=[])
    alone = tmp_path / "alone"
    write_split(alone, two_shards())
    assert {name: all_files(tmp_path)[name] for name in all_files(alone)} == all_files(alone)


def test_nobody_attaches_to_a_conversion_that_was_not_begun_or_is_over(tmp_path: Path):
    for _ in range(2):
        with pytest.raises(StoreError, match="no conversion of train is under way"):
            SplitWriter.attach(tmp_path, "birds", "train")
        write_split(tmp_path, two_shards())


def test_a_shard_of_a_discarded_run_never_counts(tmp_path: Path):
    old = SplitWriter(tmp_path, "birds", "train", num_shards=4)

    def items():
        yield from four_shards()[0]
        SplitWriter(tmp_path, "birds", "train", num_shards=4, arguments={"other": 1})

    with pytest.raises(StoreError, match="discarded while shard 0 was written"):
        old.write_shard(0, items())
    assert not SplitWriter.attach(tmp_path, "birds", "train").has_shard(0)


def test_a_shard_whose_files_are_lost_is_written_again(tmp_path: Path, in_order: dict[str, bytes]):
    writer = SplitWriter(tmp_path, "birds", "train", num_shards=4)
    for shard, items in enumerate(four_shards()):
        writer.write_shard(shard, items)
    next((tmp_path / "media").glob(".*.partial/00001-*")).unlink()
    assert [writer.has_shard(shard) for shard in range(4)] == [True, False, True, True]
    with pytest.raises(StoreError, match="shard 1 was not written"):
        finish(tmp_path)
    writer.write_shard(1, four_shards()[1])
    finish(tmp_path)
    assert all_files(tmp_path) == in_order


def test_shards_of_the_committed_split_are_kept_as_they_are(tmp_path: Path):
    before = write_split(tmp_path, two_shards())
    writer = SplitWriter(tmp_path, "birds", "train", num_shards=2, arguments={"again": 1})
    writer.keep_shard(0, [Reject(1, "a", "b", "c")])
    writer.write_shard(1, [*two_shards()[1], item(6, picture(9))])
    after = writer.finish(source={}, converter={}, rejects=writer.shard_rejects(0))
    assert after.shards[0].sha256 == before.shards[0].sha256
    assert read_all(tmp_path) == [*records_of(two_shards()), item(6, picture(9))[0]]
    assert after.rejected == {"b": 1}
    with pytest.raises(StoreError, match="no committed split with as many shards"):
        SplitWriter(tmp_path, "birds", "train", num_shards=3).keep_shard(0)


def test_what_else_a_run_remembers_goes_with_it(tmp_path: Path):
    writer = SplitWriter(tmp_path, "birds", "train", num_shards=1)
    writer.spool_folder.mkdir()
    (writer.spool_folder / "failures.jsonl").write_text("x")
    again = SplitWriter(tmp_path, "birds", "train", num_shards=1)
    assert (again.spool_folder / "failures.jsonl").read_text() == "x"
    again.write_shard(0, [(Record("a", {}), {})])
    again.finish(source={}, converter={}, rejects=[])
    assert not writer.spool_folder.exists()
    assert load_manifest(tmp_path, "birds")["train"].num_examples == 1


@given(st.lists(st.lists(hashes, unique=True, max_size=8), min_size=1, max_size=6), st.randoms())
@settings(max_examples=60)
def test_each_medium_is_first_mentioned_once(keys_by_shard: list[list[str]], rng: random.Random):
    is_first = first_mentions([key_halves(keys) for keys in keys_by_shard])
    kept = [list(itertools.compress(*pair)) for pair in zip(keys_by_shard, is_first, strict=True)]
    assert list(itertools.chain(*kept)) == list(dict.fromkeys(itertools.chain(*keys_by_shard)))
    known = KnownMedia()
    for shard in rng.sample(range(len(keys_by_shard)), len(keys_by_shard)):
        known.add(shard, keys_by_shard[shard])
    for shard, keys in enumerate(kept):
        assert all(known.first_shard(key) == shard for key in keys)
    assert known.first_shard("f" * 64) is None
