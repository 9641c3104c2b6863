"""The media store: found by hash in any group, and repaired by a later conversion when a group is damaged."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_makers import flip_bit, item, picture, read_all, records_of, two_shards, write_split

from grain_molmo.errors import DamagedRecordError, StoreError
from grain_molmo.store import MediaRef, MediaStore, content_key
from grain_molmo.store import shards as shards_module
from grain_molmo.store.media import MediaGroup, build_index, write_group
from grain_molmo.store.records import encode_media
from grain_molmo.store.shards import MEDIA_OPTIONS, write_shard

MEDIA_SHARD = "media/birds-train.array_record-00000-of-00002"
INDEX = "media/birds-train.index.npy"
hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_split(tmp_path, two_shards())
    return tmp_path


def make_group(folder: Path, keys_by_shard: list[list[str]], name: str = "g") -> MediaGroup:
    """A group of media under any hashes one likes; the bytes are the hash spelled out."""
    infos = []
    for number, keys in enumerate(keys_by_shard):
        payloads = [encode_media(MediaRef(key, "image", 1, 1, 64), key.encode()) for key in keys]
        infos.append(write_shard(folder / f"{name}-{number}", payloads, MEDIA_OPTIONS))
    write_group(folder, name, infos, build_index(keys_by_shard))
    return MediaGroup(folder, name)


def test_the_index_is_sorted_by_hash_and_says_where_each_lies():
    first, second, third = "00" * 16 + "f" * 32, "00" * 8 + "ff" * 24, "ff" * 8 + "00" * 24
    index = build_index([[third, first], [second]])
    high = 2**64 - 1
    assert index.dtype == np.uint64
    assert index.tolist() == [[0, 0, high], [0, high, 0], [1, 1 << 32, 0]]
    assert build_index([]).shape == build_index([[]]).shape == (3, 0)


@given(st.lists(hashes, unique=True, max_size=30), st.integers(1, 4), hashes)
@settings(max_examples=25)
def test_every_media_is_found_where_it_lies_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], num_shards: int, other: str
):
    keys_by_shard = [keys[shard::num_shards] for shard in range(num_shards)]
    group = make_group(tmp_path_factory.mktemp("group"), keys_by_shard)
    for shard, in_shard in enumerate(keys_by_shard):
        assert [group.locate(key) for key in in_shard] == [(shard, record) for record in range(len(in_shard))]
    assert (group.locate(other) is None) == (other not in keys)
    assert len(group) == len(keys)


def test_media_whose_hashes_begin_alike_are_told_apart(tmp_path: Path):
    alike = ["ab" * 8 + f"{number:016x}" + "0" * 32 for number in (5, 1, 2**64 - 1, 3)]
    keys = ["00" * 32, *alike, "ff" * 32]
    group = make_group(tmp_path, [keys[:3], keys[3:]])
    for number, key in enumerate(keys):
        assert group.locate(key) == divmod(number, 3)
        assert group.read(divmod(number, 3), key) == key.encode()
    assert group.locate("ab" * 8 + f"{4:016x}" + "0" * 32) is None


def test_media_of_all_groups_are_read_by_hash(store: Path):
    write_split(store, [[item(1, picture(7))]], name="bees")
    media = MediaStore(store)
    assert len(media) == 5
    for number in (0, 1, 2, 3, 7):
        assert content_key(picture(number)) in media
        assert media.read(content_key(picture(number))) == picture(number)


def test_a_hash_that_the_store_lacks_is_named(store: Path):
    lacking = content_key(b"?")
    assert lacking not in MediaStore(store)
    with pytest.raises(StoreError, match=f"lacks media {lacking}"):
        MediaStore(store).read(lacking)


def test_a_folder_without_media_is_an_empty_store(tmp_path: Path):
    assert len(MediaStore(tmp_path)) == 0
    assert content_key(b"") not in MediaStore(tmp_path)


def test_a_store_is_read_by_threads_and_after_pickling(store: Path):
    media = MediaStore(store)
    keys = [content_key(picture(number)) for number in range(4)] * 20
    with ThreadPoolExecutor(8) as pool:
        assert [*map(content_key, pool.map(media.read, keys))] == keys
    copy = pickle.loads(pickle.dumps(media))
    assert len(pickle.dumps(media)) < 4_000  # the index does not travel
    assert [*map(content_key, map(copy.read, keys))] == keys


# Damage. A store says what is damaged, and the conversion that its message asks for repairs it.


def damage_shard_missing(path: Path) -> None:
    path.unlink()


def damage_shard_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [damage_shard_missing, damage_shard_cut])
def test_a_lost_media_shard_is_named_and_converting_again_restores_its_pictures(store: Path, damage):
    shards_module._open_readers.__init__()
    damage(store / MEDIA_SHARD)
    lost, kept = content_key(picture(0)), content_key(picture(2))
    with pytest.raises(StoreError, match=MEDIA_SHARD):
        MediaStore(store).read(lost)
    assert (lost in MediaStore(store), kept in MediaStore(store)) == (False, True)
    assert MediaStore(store).read(kept) == picture(2)
    write_split(store, two_shards(), again=True)
    assert read_all(store) == records_of(two_shards())
    assert {group.name: len(group) for group in MediaStore(store).groups} == {"birds-train": 4, "birds-train-2": 2}


@pytest.mark.parametrize("content", [None, b"", b"\x93NUMPY", b"no index"])
def test_a_lost_index_is_named_and_converting_again_restores_its_pictures(store: Path, content: bytes | None):
    if content is None:
        (store / INDEX).unlink()
    else:
        (store / INDEX).write_bytes(content)
    with pytest.raises(StoreError, match=r"birds-train\.index\.npy is damaged .* convert again"):
        MediaStore(store).read(content_key(picture(0)))
    write_split(store, two_shards(), again=True)
    assert read_all(store) == records_of(two_shards())


def test_a_truncated_index_is_named(store: Path):
    data = (store / INDEX).read_bytes()
    (store / INDEX).write_bytes(data[:-8])
    with pytest.raises(StoreError, match=r"birds-train\.index\.npy is damaged"):
        MediaStore(store).read(content_key(picture(0)))


def test_no_flipped_bit_of_the_index_yields_another_picture(store: Path):
    whole = (store / INDEX).read_bytes()
    wanted = {content_key(picture(number)): picture(number) for number in range(4)}
    for offset in range(len(whole)):
        (store / INDEX).write_bytes(whole)
        flip_bit(store / INDEX, offset, bit=offset % 8)
        media = MediaStore(store)
        for key, data in wanted.items():
            try:
                assert media.read(key) == data
            except StoreError as error:
                assert "birds-train.index.npy" in str(error) or "lacks media" in str(error)  # noqa: PT017


def test_a_damaged_group_manifest_is_named(store: Path):
    path = store / "media/birds-train.manifest.json"
    for content in ("", "{", "[]", "{}", '{"shards": [{}]}', '{"shards": 3}', '{"shards": [3]}'):
        path.write_text(content)
        with pytest.raises(StoreError, match=r"birds-train\.manifest\.json is damaged"):
            MediaStore(store)


def test_a_damaged_picture_is_named_and_its_neighbours_are_read(store: Path):
    shards_module._open_readers.__init__()
    path = store / MEDIA_SHARD
    flip_bit(path, path.read_bytes().index(picture(0)) + 100)
    with pytest.raises(StoreError, match=f"{MEDIA_SHARD}: record 0 does not read"):
        MediaStore(store).read(content_key(picture(0)))
    assert MediaStore(store).read(content_key(picture(1))) == picture(1)
    path.unlink()  # as the message says
    write_split(store, two_shards(), again=True)
    assert read_all(store) == records_of(two_shards())


def test_what_is_stored_as_a_picture_but_is_none_is_named(tmp_path: Path):
    key = content_key(b"one")
    info = write_shard(tmp_path / "g-0", [b"no record at all"], MEDIA_OPTIONS)
    write_group(tmp_path, "g", [info], build_index([[key]]))
    with pytest.raises(DamagedRecordError, match="g-0: record 0 is no record of media"):
        MediaGroup(tmp_path, "g").read((0, 0), key)


def test_ten_million_media_open_without_reading_them(tmp_path: Path):
    group = make_group(tmp_path / "media", [["00" * 32]])
    index = np.lib.format.open_memmap(group._index_path, "w+", np.uint64, (3, 10_000_000))  # a hole on the disk
    index[:, -1] = 2**64 - 1, 7, 999 << 32 | 9_999
    del index
    entry = '{"file": "g-%d", "records": 10000, "num_bytes": 1, "sha256": ""}'
    entries = ",".join(entry % number for number in range(1000))
    (tmp_path / "media/g.manifest.json").write_text(f'{{"shards": [{entries}]}}')
    store = MediaStore(tmp_path)
    assert len(store) == 10_000_000
    assert store.groups[0].locate("f" * 16 + f"{7:016x}" + "0" * 32) == (999, 9_999)
    assert store.groups[0].locate("8" * 64) is None
    assert (tmp_path / "media/g.index.npy").stat().st_blocks * 512 < 1 << 20
