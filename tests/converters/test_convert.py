import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from loopback import Answer, Web, all_files, convert, make_picture, records, rejects, sha256, write_rows

from converters.sets import SETS
from grain_molmo.errors import ConfigError, StoreError
from grain_molmo.store import MediaStore, load_manifest


def caption_rows(urls: list[str]) -> list[dict]:
    return [{"image_url": url, "caption": f"Caption {i}.", "transcripts": ["t"]} for i, url in enumerate(urls)]


@pytest.mark.parametrize("kind", ["parquet", "arrow", "json"])
def test_rows_become_records_in_their_order_with_their_pictures(web: Web, tmp_path: Path, kind: str):
    urls = [web.picture(i, (20 + i, 10)) for i in range(30)]
    summary = convert("pixmo_cap", write_rows(tmp_path / "rows", caption_rows(urls), kind), tmp_path / "data")
    found = records(tmp_path / "data", "pixmo_cap")
    assert [record.annotation["caption"] for record in found] == [f"Caption {i}." for i in range(30)]
    assert [record.annotation["url"] for record in found] == urls
    store = MediaStore(tmp_path / "data")
    for i, record in enumerate(found):
        assert (record.media[0].width, record.media[0].height) == (20 + i, 10)
        assert store.read(record.media[0].sha256) == make_picture(i, (20 + i, 10))
    assert summary.examples == {"train": 30}
    assert (summary.media_new, summary.media_shared, summary.rejected, summary.warnings) == (30, 0, {}, [])


def test_every_row_is_in_a_record_or_rejected_with_its_reason(web: Web, tmp_path: Path):
    good = web.picture(1)
    bad = {
        "http_404": {"image_url": web.url("/gone")},
        "http_500": {"image_url": web.serve("/broken", Answer(status=500))},
        "not_an_image": {"image_url": web.serve("/page", b"<html>")},
        "bad_url": {"image_url": "ftp://host/a"},
        "missing_image_url": {"image_url": None},
        "empty_caption": {"caption": " "},
        "wrong_type": {"image_url": ["A", "list"]},
    }
    rows = caption_rows([good] * (2 * len(bad)))
    for i, changes in enumerate(bad.values()):
        rows[2 * i] |= changes
    summary = convert("pixmo_cap", write_rows(tmp_path / "rows", rows, "json"), tmp_path)
    found = rejects(tmp_path, "pixmo_cap")
    assert [(reject["row"], reject["reason"]) for reject in found] == [(2 * i, reason) for i, reason in enumerate(bad)]
    assert found[0]["url"] == web.url("/gone")
    assert summary.rejected == dict.fromkeys(bad, 1) == load_manifest(tmp_path, "pixmo_cap")["train"].rejected
    assert [r.annotation["caption"] for r in records(tmp_path, "pixmo_cap")] == [row["caption"] for row in rows[1::2]]


def point_row(url: str, data: bytes, label: str, points: list[tuple[float, float]], **changes) -> dict:
    xy = [{"x": float(x), "y": float(y)} for x, y in points]
    row = {"image_url": url, "image_sha256": sha256(data), "points": xy, "count": len(xy), "label": label}
    return {**row, "collection_method": "pointing", **changes}


def test_the_labels_of_a_picture_make_one_record_or_as_many_as_60_points_need(web: Web, tmp_path: Path):
    urls = [web.picture(i) for i in range(3)]
    many = [(1.0, 2.0)]
    rows = [
        point_row(urls[0], make_picture(0), "a", many * 40),
        point_row(urls[1], make_picture(1), "b", [(50, 101.0)]),
        point_row(urls[0], make_picture(0), "c", many * 20),
        point_row(urls[0], make_picture(0), "d", many * 61),
        point_row(urls[0], make_picture(0), "e", many),
        point_row(urls[1], make_picture(1), "f", []),
        point_row(urls[2], make_picture(7), "g", many),
        point_row(urls[0], make_picture(0), "h", many, collection_method="counting"),
    ]
    convert("pixmo_points", write_rows(tmp_path / "rows", rows), tmp_path)
    found = records(tmp_path, "pixmo_points", "train_pointing")
    assert [[label["label"] for label in record.annotation["labels"]] for record in found] == [["a", "c"], ["e"], ["f"]]
    assert len({record.id for record in found}) == 3
    assert [(reject["row"], reject["reason"]) for reject in rejects(tmp_path, "pixmo_points", "train_pointing")] == [
        (3, "more_than_60_points"),
        (1, "points_out_of_range"),
        (6, "hash_mismatch"),
    ]
    (counting,) = records(tmp_path, "pixmo_points", "train_counting")
    assert counting.annotation["labels"] == [{"label": "h", "points": [[1.0, 2.0]]}]
    assert counting.media == found[0].media


def test_pictures_kept_for_evaluation_are_left_out_by_url_or_hash(web: Web, tmp_path: Path):
    rows = [point_row(web.picture(i), make_picture(i), "a", [(1, 1)]) for i in range(4)]
    excluded = frozenset({rows[1]["image_url"], rows[2]["image_sha256"]})
    convert("pixmo_points", write_rows(tmp_path / "rows", rows), tmp_path, excluded=excluded)
    assert [record.annotation["url"] for record in records(tmp_path, "pixmo_points", "train_pointing")] == [
        rows[0]["image_url"],
        rows[3]["image_url"],
    ]
    found = rejects(tmp_path, "pixmo_points", "train_pointing")
    assert [(reject["row"], reject["reason"]) for reject in found] == [(1, "excluded_image"), (2, "excluded_image")]
    assert "/1.png" not in web.requests


def test_pixels_where_percent_belongs_are_suspected_aloud(web: Web, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    rows = [point_row(web.picture(i), make_picture(i), "a", [(320, 200 * (i > 0))]) for i in range(3)]
    rows.append(point_row(rows[0]["image_url"], make_picture(0), "b", [(3, 2)]))
    summary = convert("pixmo_points", write_rows(tmp_path / "rows", rows), tmp_path)
    assert summary.rejected == {"points_out_of_range": 3}
    assert "are these pixels" in summary.warnings[0]
    assert "are these pixels" in summary.to_text()
    assert "are these pixels" in caplog.text


def test_counts_are_taken_without_a_matching_hash_but_not_with_points_outside(web: Web, tmp_path: Path):
    def row(url: str, x: float) -> dict:
        return {
            "image_url": url,
            "image_sha256": "0" * 64,
            "count": 1,
            "points": {"x": [x], "y": [5.0]},
            "label": "cat",
        }

    rows = [row(web.picture(0, (40, 30)), 39.5), row(web.picture(1, (20, 30)), 39.5)]
    source = write_rows(tmp_path / "rows", rows)
    evaluation = {**rows[0], "points": {"x": None, "y": None}, "count": 3}
    write_rows(tmp_path / "rows", [evaluation, rows[0]], split="validation")
    summary = convert("pixmo_count", source, tmp_path)
    assert summary.examples == {"train": 1, "validation": 2}
    assert summary.rejected == {"points_outside_image": 1}
    assert [record.annotation["points"] for record in records(tmp_path, "pixmo_count", "validation")] == [
        None,
        [[39.5, 5.0]],
    ]


def test_documents_bring_their_pictures_along(tmp_path: Path):
    questions = {"question": ["What?"], "answer": ["A chart"]}
    images = [{"bytes": make_picture(i), "path": None} for i in range(3)]
    images[1] = {"bytes": b"<html>", "path": "a.png"}
    rows = [{"image": image, "image_id": f"c{i}", "questions": questions} for i, image in enumerate(images)]
    write_rows(tmp_path / "rows/charts", rows)
    summary = convert("pixmo_docs", str(tmp_path / "rows"), tmp_path)
    assert summary.examples == {"train_charts": 2}
    assert rejects(tmp_path, "pixmo_docs", "train_charts")[0]["reason"] == "not_an_image"
    assert [record.annotation["image_id"] for record in records(tmp_path, "pixmo_docs", "train_charts")] == ["c0", "c2"]


def test_pictures_in_files_beside_local_rows_are_found(tmp_path: Path):
    questions = {"question": ["What?"], "answer": ["A chart"]}
    rows = [{"image": f"{i}.png", "image_id": f"c{i}", "questions": questions} for i in range(2)]
    write_rows(tmp_path / "rows/charts", rows, "json")
    (tmp_path / "rows/charts/0.png").write_bytes(make_picture())
    assert convert("pixmo_docs", str(tmp_path / "rows"), tmp_path).rejected == {"missing_image": 1}


def test_pictures_that_another_set_stored_are_shared(web: Web, tmp_path: Path):
    urls = [web.picture(i) for i in range(4)]
    qa = [{"image_url": url, "question": "[USER] What?", "answer": "This."} for url in urls[1:]]
    convert("pixmo_cap", write_rows(tmp_path / "cap", caption_rows(urls)), tmp_path)
    summary = convert("pixmo_cap_qa", write_rows(tmp_path / "qa", qa), tmp_path)
    assert (summary.media_new, summary.media_shared) == (0, 3)
    assert len(MediaStore(tmp_path)) == 4


def test_rows_of_another_set_are_refused_before_anything_is_fetched(web: Web, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"pixmo-cap-qa: column 'question' is missing"):
        convert("pixmo_cap_qa", write_rows(tmp_path / "rows", caption_rows([web.picture()])), tmp_path)
    assert web.requests == []


def test_a_set_of_which_nothing_converts_leaves_the_reasons_behind_and_nothing_else(web: Web, tmp_path: Path, caplog):
    source = write_rows(tmp_path / "rows", caption_rows([web.url("/a"), web.url("/b")]))
    summary = convert("pixmo_cap", source, tmp_path / "data")
    assert (summary.examples, summary.rejected) == ({}, {"http_404": 2})
    assert "none of 2 rows" in caplog.text
    (name, table), *others = all_files(tmp_path / "data").items()
    assert (name, others) == ("pixmo_cap/rejects-train.jsonl", [])
    assert [json.loads(line)["reason"] for line in table.splitlines()] == ["http_404"] * 2
    web.serve("/b", make_picture())
    assert convert("pixmo_cap", source, tmp_path / "data").examples == {"train": 1}


def test_a_conversion_is_not_repeated_until_something_changes_or_force(web: Web, tmp_path: Path):
    source = write_rows(tmp_path / "rows", caption_rows([web.picture(i) for i in range(3)]))
    convert("pixmo_cap", source, tmp_path)
    asked = len(web.requests)
    again = convert("pixmo_cap", source, tmp_path)
    assert (again.already_there, again.examples, len(web.requests)) == (["train"], {"train": 3}, asked)
    assert convert("pixmo_cap", source, tmp_path, max_rows=2).examples == {"train": 2}
    assert convert("pixmo_cap", source, tmp_path, max_rows=2, validation_fraction=0.001).already_there == []
    assert convert("pixmo_cap", source, tmp_path, max_rows=2, force=True).already_there == []
    assert len(web.requests) == asked + 6


class Stopped(Exception):
    pass


@pytest.mark.parametrize("stop_at", [0, 5, 9, 14])
def test_after_a_stop_the_same_command_ends_in_the_same_bytes(web: Web, tmp_path: Path, monkeypatch, stop_at: int):
    urls = [web.picture(i) if i % 5 else web.serve(f"/page{i}", b"<html>") for i in range(15)]
    source = write_rows(tmp_path / "rows", caption_rows(urls))
    spec = replace(SETS["pixmo_cap"], rows_per_shard=4)
    convert(spec, source, tmp_path / "at once")

    parse = spec.parse

    def stopping(row, place):
        if row["image_url"] == urls[stop_at]:
            raise Stopped
        return parse(row, place)

    with pytest.raises(Stopped):
        convert(replace(spec, parse=stopping), source, tmp_path / "stopped")
    assert not (tmp_path / "stopped/pixmo_cap/manifest.json").exists()
    before = len(web.requests)
    assert convert(spec, source, tmp_path / "stopped").rejected == {"not_an_image": 3}
    assert all_files(tmp_path / "stopped") == all_files(tmp_path / "at once")
    # Pictures of finished shards are not fetched again; it was stopped while the shard before was begun.
    assert len(web.requests) - before <= 15 - max(0, stop_at // 4 - 1) * 4


def test_a_stop_at_the_commit_is_made_up_for(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = write_rows(tmp_path / "rows", caption_rows([web.picture(i) for i in range(3)]))
    convert("pixmo_cap", source, tmp_path / "at once")
    with monkeypatch.context() as patch:
        patch.setattr("grain_molmo.store.writer.complete_commit", lambda run: (_ for _ in ()).throw(Stopped))
        with pytest.raises(Stopped):
            convert("pixmo_cap", source, tmp_path / "stopped")
    convert("pixmo_cap", source, tmp_path / "stopped")
    assert all_files(tmp_path / "stopped") == all_files(tmp_path / "at once")


def test_dead_urls_move_no_example_to_another_split_or_shard(web: Web, tmp_path: Path):
    urls = [web.picture(i) for i in range(60)]
    source = write_rows(tmp_path / "rows", caption_rows(urls))
    spec = replace(SETS["pixmo_cap"], rows_per_shard=8)
    convert(spec, source, tmp_path / "all", validation_fraction=0.3)
    for i in range(0, 60, 7):
        web.serve(f"/{i}.png", Answer(status=404))
    convert(spec, source, tmp_path / "some", validation_fraction=0.3)
    alive = set(urls) - set(urls[::7])
    for split in ("train", "validation"):
        before, after = (records(tmp_path / folder, "pixmo_cap", split) for folder in ("all", "some"))
        assert len(after) < len(before)
        assert after == [record for record in before if record.annotation["url"] in alive]
        manifests = [load_manifest(tmp_path / folder, "pixmo_cap")[split] for folder in ("all", "some")]
        assert len(manifests[0].shards) == len(manifests[1].shards)


def test_a_write_that_fails_is_an_error_and_not_a_reject(web: Web, tmp_path: Path):
    source = write_rows(tmp_path / "rows", caption_rows([web.picture()]))
    (tmp_path / "data").write_text("a file where the folder belongs")
    with pytest.raises((StoreError, OSError)):
        convert("pixmo_cap", source, tmp_path / "data")


def test_annotations_hold_numbers_that_json_knows(web: Web, tmp_path: Path):
    row = point_row(web.picture(), make_picture(), "a", [(np.float64(1.5), 2)])
    convert("pixmo_points", write_rows(tmp_path / "rows", [row]), tmp_path)
    (record,) = records(tmp_path, "pixmo_points", "train_pointing")
    assert json.loads(json.dumps(record.annotation)) == record.annotation
