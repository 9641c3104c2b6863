"""Conversions that are killed, stopped, forced, shared between processes, or tried again."""

import json
import os
import random
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from killing import NOW, kill_after, start
from loopback import Answer, Web, all_files, convert, make_picture, records, rejects, write_rows

from converters.fetch import ImageFetcher
from converters.rows import ArrowRows, read_rows, table_rows
from converters.sets import SETS
from converters.sources import state_of_files
from converters.to_arrayrecord import main
from grain_molmo.errors import ConfigError, StoreBusyError
from grain_molmo.store import MediaStore, dataset_lock, load_manifest


def caption_rows(web: Web, count: int) -> list[dict]:
    """Rows of which some share a picture, some have a picture that is gone, and some one that is none."""
    rng = random.Random(count)
    rows = []
    for i in range(count):
        number = rng.randrange(count)
        url = web.picture(number)
        if number % 9 == 0:
            url = web.url(f"/gone{number}")
        elif number % 14 == 0:
            url = web.serve(f"/page{number}", b"<html>")
        rows.append({"image_url": url, "caption": f"Caption {i}.", "transcripts": ["t"]})
    return rows


def arguments(source: str, data_dir: Path, *more: str) -> list[str]:
    places = ["--source", source, "--data-dir", str(data_dir)]
    return ["pixmo-cap", *places, "--allow-private", "--validation-fraction", "0.2", "--rows-per-shard", "8", *more]


def run(command: list[str]) -> None:
    """A conversion from beginning to end, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ImageFetcher.__init__.__kwdefaults__, "now", lambda: NOW)
        assert main(command) == 0


@pytest.mark.parametrize(("procs", "kills"), [("1", 3), ("2", 1)])
def test_killed_at_any_moment_the_same_command_ends_in_the_same_files(web: Web, tmp_path: Path, procs: str, kills: int):
    source = write_rows(tmp_path / "rows", caption_rows(web, 120))
    run(arguments(source, tmp_path / "whole"))
    command = arguments(source, tmp_path / "killed", "--n-procs", procs)
    for _ in range(kills):
        asked = len(web.requests)
        kill_after(command, until=lambda: len(web.requests) > asked + 15)  # noqa: B023 it does not outlast the loop
    run(arguments(source, tmp_path / "killed"))
    assert all_files(tmp_path / "killed") == all_files(tmp_path / "whole")
    assert len(records(tmp_path / "killed", "pixmo_cap", "validation")) > 5


def test_processes_write_what_one_process_writes(web: Web, tmp_path: Path):
    source = write_rows(tmp_path / "rows", caption_rows(web, 60))
    spec = replace(SETS["pixmo_cap"], rows_per_shard=4)
    one = convert(spec, source, tmp_path / "one", n_procs=1)
    write_rows(tmp_path / "rows/docs/charts", [document(i % 5) for i in range(40)])
    for procs in (1, 3):
        out = tmp_path / f"docs {procs}"
        summary = convert("pixmo_docs", str(tmp_path / "rows/docs"), out, n_procs=procs, rows_per_shard=3)
        assert (summary.examples, summary.media_new, summary.media_shared) == ({"train_charts": 40}, 5, 35)
    assert all_files(tmp_path / "docs 3") == all_files(tmp_path / "docs 1")
    assert one.rejected.keys() == {"http_404", "not_an_image"}


def document(number: int) -> dict[str, Any]:
    questions = {"question": ["What?"], "answer": ["A chart"]}
    return {"image": {"bytes": make_picture(number), "path": None}, "image_id": f"c{number}", "questions": questions}


def test_a_second_converter_of_the_same_set_is_refused_and_one_of_another_set_is_not(web: Web, tmp_path: Path):
    source = write_rows(tmp_path / "rows", caption_rows(web, 3))
    with dataset_lock(tmp_path / "data", "pixmo_cap"):
        with pytest.raises(StoreBusyError, match="being written by process"):
            convert("pixmo_cap", source, tmp_path / "data")
        assert main(arguments(source, tmp_path / "data")) == 3
        docs = write_rows(tmp_path / "docs/charts", [document(0)])
        assert convert("pixmo_docs", docs, tmp_path / "data").examples == {"train_charts": 1}
    assert sum(convert("pixmo_cap", source, tmp_path / "data").examples.values()) > 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asked_to_stop_it_stops_soon_and_says_how_to_go_on(web: Web, tmp_path: Path, number: int, code: int):
    rows = caption_rows(web, 12)
    rows[5]["image_url"] = web.serve("/never", Answer(never=True))
    source = write_rows(tmp_path / "rows", rows)
    process = start([*arguments(source, tmp_path / "data"), "--validation-fraction", "0"])
    while "/never" not in web.requests and process.poll() is None:
        web.asked.wait(0.05)
    process.send_signal(number)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == code
    assert "the same command goes on from there" in said
    web.serve("/never", make_picture(7))
    run([*arguments(source, tmp_path / "data"), "--validation-fraction", "0"])
    run([*arguments(source, tmp_path / "whole"), "--validation-fraction", "0"])
    assert all_files(tmp_path / "data") == all_files(tmp_path / "whole")


class Stopped(Exception):
    pass


def test_a_forced_conversion_that_was_stopped_goes_on_when_forced_again(web: Web, tmp_path: Path, monkeypatch):
    urls = [web.picture(i) for i in range(12)]
    rows = [{"image_url": url, "caption": f"{i}", "transcripts": ["t"]} for i, url in enumerate(urls)]
    source = write_rows(tmp_path / "rows", rows)
    write_rows(tmp_path / "rows", rows[:4], split="validation")
    spec = replace(SETS["pixmo_cap"], rows_per_shard=2)
    for name in ("whole", "stopped"):
        convert(spec, source, tmp_path / name)
    convert(spec, source, tmp_path / "whole", force=True)
    asked = len(web.requests)

    def stopping(row: dict, place: Any) -> dict:
        if place.split == "validation" and row["caption"] == "3":
            raise Stopped
        return spec.parse(row, place)

    with pytest.raises(Stopped):
        convert(replace(spec, parse=stopping), source, tmp_path / "stopped", force=True)
    assert "train-2" in load_manifest(tmp_path / "stopped", "pixmo_cap")["train"].shards[0].file
    convert(spec, source, tmp_path / "stopped", force=True)
    assert all_files(tmp_path / "stopped") == all_files(tmp_path / "whole")
    assert len(web.requests) - asked <= 20  # no picture twice, but for those on their way when it was stopped
    again = convert(spec, source, tmp_path / "stopped", force=True)  # it was done: this is another one
    assert again.already_there == []
    assert "train-3" in load_manifest(tmp_path / "stopped", "pixmo_cap")["train"].shards[0].file


def test_what_others_wrote_after_a_forced_conversion_was_stopped_is_forced_anew(web: Web, tmp_path: Path):
    rows = [{"image_url": web.picture(i), "caption": f"{i}", "transcripts": ["t"]} for i in range(4)]
    source = write_rows(tmp_path / "rows", rows)
    spec = SETS["pixmo_cap"]
    convert(spec, source, tmp_path / "data")

    def stopping(row: dict, place: Any) -> dict:
        raise Stopped

    with pytest.raises(Stopped):
        convert(replace(spec, parse=stopping), source, tmp_path / "data", force=True)
    convert(spec, source, tmp_path / "data", max_rows=2)
    convert(spec, source, tmp_path / "data")
    assert convert(spec, source, tmp_path / "data", force=True).already_there == []


def test_rows_that_changed_under_the_same_name_are_converted_anew(web: Web, tmp_path: Path):
    rows = [{"image_url": web.picture(i), "caption": f"first {i}", "transcripts": ["t"]} for i in range(6)]
    source = write_rows(tmp_path / "rows", rows, "json")
    spec = replace(SETS["pixmo_cap"], rows_per_shard=2)

    def stopping(row: dict, place: Any) -> dict:
        if row["caption"] == "first 4":
            raise Stopped
        return spec.parse(row, place)

    with pytest.raises(Stopped):
        convert(replace(spec, parse=stopping), source, tmp_path / "data")
    for word in ("other", "third"):  # first before the conversion was done, then after
        write_rows(tmp_path / "rows", [{**row, "caption": f"{word} {i}"} for i, row in enumerate(rows)], "json")
        assert convert(spec, source, tmp_path / "data").already_there == []
        found = [record.annotation["caption"] for record in records(tmp_path / "data", "pixmo_cap")]
        assert found == [f"{word} {i}" for i in range(6)]


def test_files_too_large_to_read_are_told_apart_by_when_they_were_written(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("converters.sources._READ_BYTES", 3)
    path = tmp_path / "train.json"
    path.write_text("[{}]")
    os.utime(path, ns=(10**18, 10**18))
    before = state_of_files([path])
    assert state_of_files([path]) == before
    os.utime(path, ns=(10**18, 10**18 + 1))
    assert state_of_files([path]) != before


def test_rows_that_hosts_did_not_answer_for_are_tried_again_alone(web: Web, tmp_path: Path):
    urls = [web.picture(i) for i in range(40)]
    busy = {3: 503, 4: 429, 21: 500, 30: 503}
    for number, status in busy.items():
        web.serve(f"/{number}.png", Answer(status=status))
    web.serve("/9.png", Answer(status=404))
    rows = [{"image_url": url, "caption": f"{i}", "transcripts": ["t"]} for i, url in enumerate(urls)]
    rows[22]["caption"] = ""
    source = write_rows(tmp_path / "rows", rows)
    spec = replace(SETS["pixmo_cap"], rows_per_shard=5)
    first = convert(spec, source, tmp_path / "data")
    assert first.rejected == {"http_503": 2, "http_429": 1, "http_500": 1, "http_404": 1, "empty_caption": 1}
    before = all_files(tmp_path / "data")
    nothing = convert(spec, source, tmp_path / "data", retry_rejects=True)
    assert (nothing.retried, nothing.won) == (4, 0)
    assert all_files(tmp_path / "data") == before
    for number in (3, 21, 30):
        web.picture(number)
    asked = len(web.requests)
    summary = convert(spec, source, tmp_path / "data", retry_rejects=True)
    assert (summary.retried, summary.won, summary.media_new) == (4, 3, 3)
    assert set(web.requests[asked:]) == {"/3.png", "/4.png", "/21.png", "/30.png"}

    convert(spec, source, tmp_path / "whole")
    assert records(tmp_path / "data", "pixmo_cap") == records(tmp_path / "whole", "pixmo_cap")
    assert rejects(tmp_path / "data", "pixmo_cap") == rejects(tmp_path / "whole", "pixmo_cap")
    shards, whole = (load_manifest(tmp_path / name, "pixmo_cap")["train"].shards for name in ("data", "whole"))
    assert [shard.sha256 for shard in shards] == [shard.sha256 for shard in whole]
    store, in_whole = MediaStore(tmp_path / "data"), MediaStore(tmp_path / "whole")
    for record in records(tmp_path / "data", "pixmo_cap"):
        assert store.read(record.media[0].sha256) == in_whole.read(record.media[0].sha256)
    with pytest.raises(ConfigError, match="without it the split is converted anew"):
        convert(spec, source, tmp_path / "data", retry_rejects=True, max_rows=7)


def test_retries_keep_the_parts_of_pictures_with_many_labels(web: Web, tmp_path: Path):
    def row(number: int, label: str) -> dict:
        points = [{"x": 1.0, "y": 2.0}] * 40
        row = {"image_url": web.url(f"/{number}.png"), "image_sha256": "", "points": points, "count": 40}
        return {**row, "label": label, "collection_method": "pointing"}

    for number in range(4):
        web.picture(number)
    web.serve("/2.png", Answer(status=503))
    source = write_rows(tmp_path / "rows", [row(i % 4, f"label {i}") for i in range(12)], "json")
    spec = SETS["pixmo_points"]
    spec = replace(spec, media=SETS["pixmo_cap"].media)
    convert(spec, source, tmp_path / "data", retry_rejects=True)  # nothing there yet: as without
    web.picture(2)
    assert convert(spec, source, tmp_path / "data", retry_rejects=True).won == 3
    convert(spec, source, tmp_path / "whole")
    found, whole = (records(tmp_path / name, "pixmo_points", "train_pointing") for name in ("data", "whole"))
    assert found == whole
    assert len(found) == 12


def test_a_split_that_loses_too_much_is_not_committed_until_that_is_accepted(web: Web, tmp_path: Path, capsys):
    rows = [{"image_url": web.picture(i), "caption": f"{i}" if i % 3 else "", "transcripts": ["t"]} for i in range(9)]
    source = write_rows(tmp_path / "rows", rows)
    command = ["pixmo-cap", "--source", source, "--data-dir", str(tmp_path / "data"), "--json", "--allow-private"]
    assert main([*command, "--validation-fraction", "0", "--max-rejected", "0.3"]) == 1
    (summary,) = json.loads(capsys.readouterr().out)["datasets"]
    assert "3 of 9 rows were rejected" in summary["error"]
    assert "3 empty_caption" in summary["error"]
    assert not (tmp_path / "data/pixmo_cap/manifest.json").exists()
    asked = len(web.requests)
    assert main([*command, "--validation-fraction", "0", "--max-rejected", "0.34"]) == 0
    assert len(records(tmp_path / "data", "pixmo_cap")) == 6
    assert len(web.requests) == asked


def test_a_split_of_which_nothing_converts_is_a_failure_beside_one_that_does(web: Web, tmp_path: Path, capsys):
    rows = [{"image_url": web.picture(i), "caption": f"{i}", "transcripts": ["t"]} for i in range(3)]
    source = write_rows(tmp_path / "rows", [{**row, "caption": ""} for row in rows])
    write_rows(tmp_path / "rows", rows, split="validation")
    command = ["pixmo-cap", "--source", source, "--data-dir", str(tmp_path / "data"), "--json", "--allow-private"]
    assert main(command) == 1
    (summary,) = json.loads(capsys.readouterr().out)["datasets"]
    assert "pixmo_cap train: none of 3 rows" in summary["error"]
    assert summary["examples"] == {"validation": 3}


def test_generated_rows_leave_nothing_but_the_store(tmp_path: Path, capsys):
    assert main(["pixmo-cap", "--sample", "--rows", "12", "--seed", "5", "--data-dir", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"media", "pixmo_cap", ".locks"}
    origin = load_manifest(tmp_path, "pixmo_cap")["train"].source
    assert {key: origin[key] for key in ("kind", "training_rows", "seed")} == {
        "kind": "sample",
        "training_rows": 12,
        "seed": 5,
    }


def chunked(lengths: list[int]) -> Iterator[pa.RecordBatch]:
    start = 0
    for length in lengths:
        rows = [{"a": i, "b": [str(i)]} for i in range(start, start + length)]
        yield pa.RecordBatch.from_pylist(rows, pa.schema({"a": pa.int64(), "b": pa.list_(pa.string())}))
        start += length


@pytest.mark.parametrize("indices", [range(300), range(250, 20, -7), [5, 5, 299, 0, 150], []])
def test_rows_read_in_blocks_are_those_read_one_by_one(indices: list[int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("converters.rows._BLOCK_ROWS", 16)
    rows = table_rows(pa.Table.from_batches(list(chunked([100, 1, 0, 99, 100]))))
    assert isinstance(rows, ArrowRows)
    assert list(read_rows(rows, list(indices))) == [rows.row(index) for index in indices]
