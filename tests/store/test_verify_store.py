"""Verifying a store: every damage is found and named, and nothing else is called damage."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_makers import flip_bit, item, picture, two_shards, write_split

from grain_molmo.errors import ConfigError, StoreError
from grain_molmo.store import MediaRef, MediaStore, Record, Reject, SplitWriter, VideoFacts, content_key, load_manifest
from grain_molmo.store import commit as commit_module
from grain_molmo.store import shards as shards_module
from grain_molmo.store.files import json_text
from grain_molmo.store.media import build_index, write_group
from grain_molmo.store.verify import Report, num_bytes_of_shards, verify_store

REJECTS = [Reject(7, "a", "dead_link", "ü \ud800", "http://h/", 3, "2026-01-01T00:00:00")]


def make_store(folder: Path) -> Path:
    """Two sets, two splits, one of them converted twice."""
    write_split(folder, two_shards(), rejects=REJECTS, version=1)
    write_split(folder, [[item(30, picture(3))]], split="validation")
    write_split(folder, [[item(9, picture(0), picture(9))], [item(10)]], rejects=REJECTS, version=2)
    write_split(folder, [[item(1, picture(9), picture(11))]], name="bees")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Do not change what is in it, but for a moment."""
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def store(tmp_path: Path, made: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "store"))


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def blamed(report: Report) -> set[str]:
    return {finding.file for finding in report.damage}


def test_a_sound_store_has_no_findings_and_is_counted(made: Path):
    report = verify_store(made)
    assert (report.damage, report.warnings) == ((), ())
    assert (report.sets, report.records, report.media) == (2, 4, 6)
    assert report.files == len(files_of(made))
    assert report.num_bytes == sum((made / file).stat().st_size for file in files_of(made))


def test_a_moving_picture_may_be_a_picture_here_and_a_video_there(tmp_path: Path):
    moving = picture(1)
    ref = MediaRef(content_key(moving), "image", 4, 3, len(moving))
    filmed = dataclasses.replace(ref, kind="video", width=5, video=VideoFacts(1.0, 10, 10.0))
    for name, one in (("pictures", ref), ("videos", filmed)):
        write_split(tmp_path, [[(Record("a", {}, (one,)), {ref.sha256: moving})]], name=name)
    assert verify_store(tmp_path).damage == ()
    shorter = dataclasses.replace(filmed, num_bytes=7)
    write_split(tmp_path, [[(Record("a", {}, (shorter,)), {})]], name="wrong")
    (finding,) = verify_store(tmp_path).damage
    assert "of another kind or size" in finding.problem


@given(st.data())
@settings(max_examples=150)
def test_any_byte_of_any_file_that_is_changed_is_found(made: Path, data: st.DataObject):
    names = [name for name in files_of(made) if (made / name).stat().st_size]
    path = made / data.draw(st.sampled_from(names))
    whole = path.read_bytes()
    offset = data.draw(st.integers(0, len(whole) - 1))
    change = data.draw(st.integers(1, 255))
    path.write_bytes(whole[:offset] + bytes([whole[offset] ^ change]) + whole[offset + 1 :])
    shards_module._open_readers.__init__()
    try:
        assert str(path.relative_to(made)) in blamed(verify_store(made))
    finally:
        path.write_bytes(whole)


def test_any_file_that_is_lost_is_found(made: Path, tmp_path: Path):
    for file in files_of(made):
        (made / file).rename(tmp_path / "kept")
        shards_module._open_readers.__init__()
        try:
            report = verify_store(made)
            if file in ("birds/manifest.json", "bees/manifest.json"):  # then it is a folder full of shards
                file_or_folder = file.removesuffix("/manifest.json")
            elif file == "media/birds-train.manifest.json":  # no split of now added it, but its media are referred to
                file_or_folder = "birds/birds-train-2.array_record-00000-of-00002"
            else:
                file_or_folder = file
            assert file_or_folder in blamed(report)
        finally:
            (tmp_path / "kept").rename(made / file)


def test_any_shard_that_is_cut_off_is_found_at_a_glance(store: Path):
    for file in (file for file in files_of(store) if "array_record" in file):
        whole = (store / file).read_bytes()
        (store / file).write_bytes(whole[:-1])
        for quick in (False, True):
            (first, *_) = verify_store(store, quick=quick).damage
            assert first.file == file or not quick
            assert any(f"has {len(whole) - 1:,} bytes" in str(one) for one in verify_store(store, quick=quick).damage)
        (store / file).write_bytes(whole)


def test_a_damaged_record_is_named_and_so_is_what_to_do(store: Path):
    shards_module._open_readers.__init__()
    path = store / "media/bees-train.array_record-00000-of-00001"
    flip_bit(path, path.read_bytes().index(picture(11)) + 5)
    report = verify_store(store)
    texts = [str(finding) for finding in report.damage]
    assert texts == [
        "bees/bees-train.array_record-00000-of-00001, record 0: refers to media "
        f"{content_key(picture(11))[:32]}…, which the store does not hold, or not whole; restore it, or convert again: "
        f"grain-molmo convert bees --force --data-dir {store}",
        "media/bees-train.array_record-00000-of-00001: its checksum is not the one in the manifest; restore it, or "
        "delete it and convert again with --force the sets that refer to its media",
        "media/bees-train.array_record-00000-of-00001, record 0: does not read; restore it, or delete it and convert "
        "again with --force the sets that refer to its media",
    ]


def test_ids_are_unique_within_a_set_and_may_recur_in_another(tmp_path: Path):
    write_split(tmp_path, [[item(1)]], name="bees")
    write_split(tmp_path, [[item(1), item(2)], [item(3)]])
    assert verify_store(tmp_path).damage == ()
    write_split(tmp_path, [[item(4), item(2), item(5), item(4)]], split="validation")
    found = [(one.file[-30:], one.record, one.problem) for one in verify_store(tmp_path).damage]
    shard = "birds-validation.array_record-00000-of-00001"[-30:]
    assert found == [(shard, number, "a record before it in the set has the same id") for number in (1, 3)]


@pytest.mark.parametrize(
    "wrong", [{"width": 5}, {"height": 5}, {"num_bytes": 5}, {"kind": "frames"}, {"sha256": "0123" * 16}]
)
def test_a_reference_agrees_with_what_it_refers_to(tmp_path: Path, wrong: dict):
    write_split(tmp_path, [[item(1, picture(1))]], name="bees")
    record, media = item(2, picture(1))
    other = dataclasses.replace(record.media[0], **wrong)
    if "sha256" in wrong:  # held for a moment, by a group that is taken away
        media = {other.sha256: picture(2)}
    write_split(tmp_path, [[item(0), (Record("x", {}, (other,)), media)]])
    for path in (tmp_path / "media").glob("birds-*"):
        path.unlink()
    (finding, *_) = verify_store(tmp_path).damage
    assert (finding.file, finding.record) == ("birds/birds-train.array_record-00000-of-00001", 1)
    assert ("does not hold" if "sha256" in wrong else "of another kind or size") in finding.problem


def test_an_index_that_points_elsewhere_is_found_though_its_checksum_holds(store: Path):
    (group,) = (group for group in MediaStore(store).groups if group.name == "bees-train")
    write_group(store / "media", "bees-train", group.shards, build_index([[content_key(b"another")]]))
    assert "media/bees-train.index.npy" in blamed(verify_store(store))


def test_media_that_are_not_what_they_are_called_are_found_by_looking_into_them(tmp_path: Path):
    record, media = item(1, picture(1))
    write_split(tmp_path, [[(record, dict.fromkeys(media, picture(2)))]])
    seen: list[tuple[MediaRef, bytes]] = []
    assert verify_store(tmp_path).damage == ()
    (finding,) = verify_store(tmp_path, check_media=lambda ref, data: seen.append((ref, data))).damage
    assert (finding.record, finding.problem) == (0, "its bytes are not those of its SHA-256")
    assert seen == []


def test_all_media_are_looked_into_once_and_what_is_said_of_them_is_found(store: Path):
    seen: list[bytes] = []

    def check(ref: MediaRef, data: bytes) -> str | None:
        seen.append(data)
        assert (ref.kind, ref.width, ref.height, ref.num_bytes) == ("image", 4, 3, len(data))
        return "is of no use" if data == picture(9) else None

    (finding,) = verify_store(store, check_media=check).damage
    assert sorted(seen) == sorted(picture(number) for number in (0, 1, 2, 3, 9, 11))
    assert (finding.file[:18], finding.problem) == ("media/birds-train-", "is of no use")


def test_a_store_of_an_older_version_opens_and_lacks_checksums(store: Path):
    for path in [*store.glob("*/manifest.json"), *store.glob("media/*.manifest.json")]:
        entries = json.loads(path.read_text())
        for key in ("sha256", "files", "index"):
            entries.pop(key, None)
        for split in entries.get("splits", {}).values():
            del split["rejects_sha256"]
        path.write_text(json_text(entries))
    report = verify_store(store)
    assert report.damage == ()
    checked = {file for file in files_of(store) if "array_record" not in file}
    assert {finding.file for finding in report.warnings} == checked
    assert {finding.problem for finding in report.warnings} == {"no checksum (converted by an older version)"}
    write_split(store, [[item(1)]], version=4)
    assert load_manifest(store, "birds").keys() == {"train", "validation"}


def test_what_no_manifest_lists_is_a_warning(store: Path):
    for file in ("birds/notes.txt", "birds/.birds.tmp-1-01234567", "media/old.array_record-00000-of-00001"):
        (store / file).write_text("")
    (store / "birds/rejects-test.jsonl").write_text("")
    (store / "mine").mkdir()
    SplitWriter(store, "birds", "test", num_shards=2).write_shard(0, two_shards()[0])
    (run,) = (store / "birds").glob(".test.*.partial")
    report = verify_store(store)
    assert report.damage == ()
    assert {finding.file: finding.problem for finding in report.warnings} == {
        "birds/notes.txt": "no manifest lists it",
        "birds/.birds.tmp-1-01234567": "left by a conversion that was killed",
        "birds/rejects-test.jsonl": "lists the rows of a split of which none could be converted; it has no checksum",
        f"birds/{run.name}": "a conversion of test is not finished",
        "media/old.array_record-00000-of-00001": "no manifest lists it",
    }


@pytest.mark.parametrize("step", ["_move", "save_manifest", "_remove_old_shards"])
def test_a_commit_that_was_cut_off_is_a_warning_and_not_damage(store: Path, monkeypatch: pytest.MonkeyPatch, step: str):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(commit_module, step, stop)
        with pytest.raises(KeyboardInterrupt):
            write_split(store, two_shards(), version=3)
    report = verify_store(store)
    assert report.damage == ()
    assert "a conversion of train was stopped in the middle of its commit" in {one.problem for one in report.warnings}


def test_one_set_is_verified_with_the_media_that_it_refers_to(store: Path):
    flip_bit(store / "birds/manifest.json", 30)
    flip_bit(store / "media/birds-train.index.npy", 130)
    report = verify_store(store, ["b-ees".replace("-", "")])
    assert (blamed(report), report.sets, report.media) == (set(), 1, 2)  # of bees-train, and of birds-train-2
    assert num_bytes_of_shards(store, ["bees"]) < num_bytes_of_shards(store)
    with pytest.raises(StoreError, match="grain-molmo convert wasps"):
        verify_store(store, ["wasps"])
    with pytest.raises(ConfigError):
        verify_store(store, ["../birds"])
    with pytest.raises(StoreError, match="there is no folder"):
        verify_store(store / "nowhere")


def test_of_much_damage_in_a_file_the_first_is_named_and_the_rest_counted(tmp_path: Path):
    write_split(tmp_path, [[item(number) for number in range(30)]], split="a")
    write_split(tmp_path, [[item(number, picture(number)) for number in range(100, 130)]])
    for path in (tmp_path / "media").iterdir():
        path.unlink()
    findings = [one for one in verify_store(tmp_path).damage if one.file.startswith("birds/birds-train.")]
    assert len(findings) == 21
    assert findings[0].problem == "10 more records are not sound"


def test_progress_tells_the_bytes_of_all_shards(made: Path):
    told: list[int] = []
    verify_store(made, progress=told.append)
    assert (
        sum(told)
        == num_bytes_of_shards(made)
        == sum((made / file).stat().st_size for file in files_of(made) if "array_record" in file)
    )
