"""Shards: complete or not there, read by any thread or process, and every damage told by file and record."""

import multiprocessing
import os
import pickle
import random
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from array_record.python.array_record_module import ArrayRecordReader
from store_makers import flip_bit

from grain_molmo.errors import StoreError
from grain_molmo.store import RecordReader, ShardInfo
from grain_molmo.store import shards as module
from grain_molmo.store.shards import ANNOTATION_OPTIONS, MEDIA_OPTIONS, file_sha256, write_shard

PAYLOADS = [bytes([65 + i]) * (200 + i) for i in range(20)]


@pytest.fixture(autouse=True)
def _fresh_readers() -> None:
    module._open_readers.__init__()


@pytest.fixture
def shard(tmp_path: Path) -> tuple[Path, ShardInfo]:
    path = tmp_path / "a.array_record-00000-of-00001"
    return path, write_shard(path, PAYLOADS, MEDIA_OPTIONS)


def readable(path: Path, info: ShardInfo) -> list[int]:
    """Which records read; those must be right. The others must say which shard, and which record, they are."""
    reader, good = RecordReader(path.parent, [info]), []
    for i in range(info.records):
        try:
            assert reader[i] == PAYLOADS[i]
            good.append(i)
        except StoreError as error:
            assert str(path) in str(error)  # noqa: PT017
            assert "index" in str(error) or f"record {i} " in str(error)  # noqa: PT017
    return good


@pytest.mark.parametrize("options", [MEDIA_OPTIONS, ANNOTATION_OPTIONS])
def test_the_same_records_make_the_same_file(tmp_path: Path, options: str):
    first = write_shard(tmp_path / "a", PAYLOADS, options)
    second = write_shard(tmp_path / "b", iter(PAYLOADS), options)
    assert replace(second, file="a") == first
    assert (first.records, first.num_bytes) == (20, (tmp_path / "a").stat().st_size)
    assert first.sha256 == file_sha256(tmp_path / "b")


def test_any_reader_of_array_record_reads_a_shard(shard: tuple[Path, ShardInfo]):
    reader = ArrayRecordReader(str(shard[0]))
    assert reader.read_all() == PAYLOADS
    reader.close()


def test_every_record_is_a_chunk_of_its_own(shard: tuple[Path, ShardInfo]):
    reader = ArrayRecordReader(str(shard[0]))
    assert reader.writer_options_string().split(",")[0] == "group_size:1"
    reader.close()


def test_an_empty_shard_reads_as_empty(tmp_path: Path):
    info = write_shard(tmp_path / "empty", [], MEDIA_OPTIONS)
    reader = RecordReader(tmp_path, [info])
    assert (info.records, len(reader)) == (0, 0)
    with pytest.raises(IndexError):
        reader[0]


@pytest.mark.parametrize("before", [b"", b"what was there"])
def test_an_exception_among_the_items_leaves_what_was_there(tmp_path: Path, before: bytes):
    def items() -> Iterator[bytes]:
        yield from PAYLOADS
        raise RuntimeError("the source broke")

    path = tmp_path / "a"
    if before:
        path.write_bytes(before)
    with pytest.raises(RuntimeError, match="the source broke"):
        write_shard(path, items(), MEDIA_OPTIONS)
    assert [*tmp_path.iterdir()] == ([path] if before else [])
    assert not before or path.read_bytes() == before


def test_a_shard_is_not_visible_before_its_last_record_is_written(tmp_path: Path):
    def items() -> Iterator[bytes]:
        for payload in PAYLOADS:
            assert not (tmp_path / "a").exists()
            yield payload

    write_shard(tmp_path / "a", items(), MEDIA_OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_shard_that_does_not_read_back_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write = module._write_records

    def cut_off(path: Path, temporary: Path, *arguments: object) -> int:
        count = write(path, temporary, *arguments)  # pyright: ignore[reportArgumentType]
        os.truncate(temporary, temporary.stat().st_size // 2)
        return count

    monkeypatch.setattr(module, "_write_records", cut_off)
    with pytest.raises(StoreError, match=r"big: the shard .* disk full"):
        write_shard(tmp_path / "big", [os.urandom(100_000)] * 3, MEDIA_OPTIONS)
    assert [*tmp_path.iterdir()] == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))  # a write past it fails as on a full disk
    try:
        with pytest.raises(StoreError, match=r"big.*: cannot write .*File too large"):
            write_shard(tmp_path / "big", [os.urandom(100_000)] * 9, MEDIA_OPTIONS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [*tmp_path.iterdir()] == []


def test_a_folder_that_cannot_be_written_is_told_with_its_path(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/a: cannot write \((Not a directory|File exists)\); .* MB are free"):
        write_shard(tmp_path / "file" / "a", PAYLOADS, MEDIA_OPTIONS)


def test_records_of_several_shards_are_one_row(tmp_path: Path):
    sizes = (3, 0, 1, 4)
    infos, expected = [], []
    for number, size in enumerate(sizes):
        payloads = [f"{number}-{i}".encode() for i in range(size)]
        infos.append(write_shard(tmp_path / str(number), payloads, ANNOTATION_OPTIONS))
        expected += payloads
    reader = RecordReader(tmp_path, infos)
    assert [reader[i] for i in range(len(reader))] == expected
    for outside in (-1, 8):
        with pytest.raises(IndexError, match=f"record {outside} of 8"):
            reader[outside]


def test_a_missing_shard_is_named(shard: tuple[Path, ShardInfo]):
    shard[0].unlink()
    with pytest.raises(StoreError, match=r"a\.array_record-00000-of-00001: shard is missing"):
        RecordReader(shard[0].parent, [shard[1]])[0]


@pytest.mark.parametrize("change", [-1, 1, -70_000])
def test_a_shard_of_another_size_is_named_with_both_sizes(shard: tuple[Path, ShardInfo], change: int):
    path, info = shard
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + b"x" * change)
    with pytest.raises(
        StoreError, match=f"{info.num_bytes + change:,} bytes where the manifest says {info.num_bytes:,}"
    ):
        RecordReader(path.parent, [info])[0]


@pytest.mark.parametrize("content", [b"\0", b"no shard ", bytes(range(256))])
def test_a_file_of_the_right_size_that_is_no_shard_is_named(shard: tuple[Path, ShardInfo], content: bytes):
    path, info = shard
    path.write_bytes((content * info.num_bytes)[: info.num_bytes])
    assert readable(path, info) == []


def test_a_shard_with_fewer_records_than_promised_is_damaged(shard: tuple[Path, ShardInfo]):
    path, info = shard
    with pytest.raises(StoreError, match="index does not read"):
        RecordReader(path.parent, [replace(info, records=21)])[0]


@pytest.mark.parametrize("options", [MEDIA_OPTIONS, ANNOTATION_OPTIONS])
def test_a_flipped_bit_in_a_record_costs_that_record_alone(tmp_path: Path, options: str):
    path = tmp_path / "a"
    payloads = [random.Random(i).randbytes(200 + i) for i in range(20)]  # so that they stand in the file as they are
    info = write_shard(path, payloads, options)
    whole = path.read_bytes()
    for damaged in (0, 7, 19):
        path.write_bytes(whole)
        flip_bit(path, whole.index(payloads[damaged][50:100]), bit=3)
        reader = RecordReader(tmp_path, [replace(info, sha256=str(damaged))])
        with pytest.raises(StoreError, match=rf"a: record {damaged} does not read"):
            reader[damaged]
        assert all(reader[i] == payloads[i] for i in range(20) if i != damaged)


def test_no_flipped_bit_anywhere_passes_for_data(tmp_path: Path):
    path = tmp_path / "a"
    info = write_shard(path, PAYLOADS, MEDIA_OPTIONS)
    whole = path.read_bytes()
    outcomes = set()
    used = [offset for offset, byte in enumerate(whole) if byte]  # the rest is padding
    for offset in used[::19]:
        path.write_bytes(whole)
        flip_bit(path, offset, bit=offset % 8)
        outcomes.add(len(readable(path, replace(info, sha256=str(offset)))))
    assert outcomes <= {0, 19, 20}  # the index is damaged, a record is, nothing that matters is
    assert 19 in outcomes


def test_threads_share_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module._open_readers, "_limit", 2)  # so that readers are dropped while they are used
    infos = [write_shard(tmp_path / str(i), [f"{i}-{k}".encode() for k in range(50)], MEDIA_OPTIONS) for i in range(5)]
    reader = RecordReader(tmp_path, infos)

    def read(seed: int) -> bool:
        order = random.Random(seed).sample(range(250), 250)
        return all(reader[i] == f"{i // 50}-{i % 50}".encode() for i in order)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(16)))


def test_a_pickled_reader_reads(shard: tuple[Path, ShardInfo]):
    reader = RecordReader(shard[0].parent, [shard[1]])
    assert reader[3] == PAYLOADS[3]
    copy = pickle.loads(pickle.dumps(reader))
    assert [copy[i] for i in range(20)] == PAYLOADS


def test_a_forked_process_reads_with_readers_of_its_own(shard: tuple[Path, ShardInfo]):
    reader = RecordReader(shard[0].parent, [shard[1]])
    assert reader[0] == PAYLOADS[0]

    def in_child() -> None:
        assert not module._open_readers._readers
        assert [reader[i] for i in range(20)] == PAYLOADS

    children = [multiprocessing.get_context("fork").Process(target=in_child) for _ in range(3)]
    for child in children:
        child.start()
    assert [reader[i] for i in range(20)] == PAYLOADS
    for child in children:
        child.join(60)
        assert child.exitcode == 0


def test_a_shard_that_was_converted_anew_is_read_anew(shard: tuple[Path, ShardInfo]):
    path, info = shard
    old = RecordReader(path.parent, [info])
    assert old[0] == PAYLOADS[0]
    turned = PAYLOADS[::-1]
    new_info = write_shard(path, turned, MEDIA_OPTIONS)
    assert new_info.num_bytes == info.num_bytes  # so that the size cannot tell them apart
    new = RecordReader(path.parent, [new_info])
    assert [new[i] for i in range(20)] == turned
    assert [old[i] for i in range(20)] == PAYLOADS  # it still holds the old file open


def test_no_more_shards_stay_open_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module._open_readers, "_limit", 3)
    infos = [write_shard(tmp_path / str(i), [str(i).encode()], MEDIA_OPTIONS) for i in range(12)]
    reader = RecordReader(tmp_path, infos)
    for index in (*range(12), *range(12), 11, 10, 9):
        assert reader[index] == str(index).encode()
        assert len(module._open_readers._readers) <= 3
    links = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    assert sorted(Path(link).name for link in links if link.startswith(str(tmp_path))) == ["10", "11", "9"]


def test_shards_are_opened_when_first_read_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    infos = [write_shard(tmp_path / str(i), PAYLOADS, MEDIA_OPTIONS) for i in range(3)]
    opened, open_shard = [], module._open_shard
    monkeypatch.setattr(module, "_open_shard", lambda *args: opened.append(args[0].name) or open_shard(*args))
    reader = RecordReader(tmp_path, infos)
    assert len(reader) == 60
    assert opened == []
    for index in (25, 59, 20, 39):
        reader[index]
    assert opened == ["1", "2"]
