import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loopback import Web, make_picture, sha256

from converters.to_arrayrecord import main
from grain_molmo.datasets.registry import get_dataset
from grain_molmo.store import list_converted, load_manifest

PROGRAM = Path(__file__).parents[2] / "converters/to_arrayrecord.py"


def write_rows(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def caption_rows(web: Web, count: int) -> list[dict]:
    return [{"image_url": web.picture(i), "caption": f"Caption {i}.", "transcripts": ["t"]} for i in range(count)]


def test_local_rows_are_converted_and_summed_up_in_one_json_object(web: Web, tmp_path: Path, capsys):
    rows = caption_rows(web, 20)
    rows[3]["caption"] = ""
    write_rows(tmp_path / "rows/train.parquet", rows)
    arguments = ["pixmo-cap", "--source", str(tmp_path / "rows"), "--data-dir", str(tmp_path), "--json"]
    assert main([*arguments, "--allow-private", "--validation-fraction", "0.3", "--workers", "2"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    (summary,) = report["datasets"]
    assert summary["name"] == "pixmo_cap"
    assert sum(summary["examples"].values()) == 19
    assert set(summary["examples"]) == {"train", "validation"}
    assert summary["rejected"] == {"empty_caption": 1}
    assert len(get_dataset("pixmo-cap", data_dir=tmp_path)) == summary["examples"]["train"]


def test_several_sets_come_from_folders_of_their_names(web: Web, tmp_path: Path):
    write_rows(tmp_path / "rows/pixmo-cap/data/train-00000-of-00001.parquet", caption_rows(web, 2))
    qa = {"image_url": web.picture(), "question": "[USER] What?", "answer": "This."}
    write_rows(tmp_path / "rows/pixmo_capqa/train.parquet", [qa])
    arguments = ["pixmo-cap", "pixmo-capqa", "--source", str(tmp_path / "rows"), "--data-dir", str(tmp_path / "data")]
    assert main([*arguments, "--allow-private"]) == 0
    assert list_converted(tmp_path / "data") == ["pixmo_cap", "pixmo_cap_qa"]


def test_one_set_that_fails_does_not_stop_the_others(web: Web, tmp_path: Path, capsys):
    write_rows(tmp_path / "rows/pixmo-cap/train.parquet", caption_rows(web, 2))
    arguments = ["pixmo-clocks", "pixmo-cap", "--source", str(tmp_path / "rows"), "--data-dir", str(tmp_path), "--json"]
    # Whether a picture is held out depends on its URL, and with it on the port of this run's server.
    assert main([*arguments, "--allow-private", "--validation-fraction", "0"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert "no folder for pixmo_clocks" in report["datasets"][0]["error"]
    assert report["datasets"][1]["examples"] == {"train": 2}


def test_only_the_split_and_the_rows_asked_for_are_converted(web: Web, tmp_path: Path):
    row = {"image_url": web.picture(), "count": 0, "points": {"x": [], "y": []}, "label": "cat", "image_sha256": ""}
    schema = pa.schema({"x": pa.list_(pa.float32()), "y": pa.list_(pa.float32())})
    for split in ("train", "validation", "test"):
        table = pa.Table.from_pylist([row] * 3)
        table = table.set_column(2, "points", table["points"].cast(pa.struct(list(schema))))
        (tmp_path / "rows").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / f"rows/{split}.parquet")
    arguments = ["pixmo-count", "--source", str(tmp_path / "rows"), "--data-dir", str(tmp_path)]
    assert main([*arguments, "--allow-private", "--split", "test", "--max-rows", "2"]) == 0
    assert {split: entry.num_examples for split, entry in load_manifest(tmp_path, "pixmo_count").items()} == {"test": 2}


def test_pictures_of_an_excluded_source_are_left_out(web: Web, tmp_path: Path):
    def row(i: int) -> dict:
        points = [{"x": 1.0, "y": 2.0}]
        row = {"image_url": web.picture(i), "image_sha256": sha256(make_picture(i)), "points": points, "count": 1}
        return {**row, "label": "cat", "collection_method": "pointing"}

    write_rows(tmp_path / "rows/train.parquet", [row(i) for i in range(3)])
    write_rows(tmp_path / "eval/data/test-00000-of-00001.parquet", [row(1)])
    arguments = ["pixmo-points", "--source", str(tmp_path / "rows"), "--data-dir", str(tmp_path)]
    assert main([*arguments, "--allow-private", "--exclude", str(tmp_path / "eval")]) == 0
    split = load_manifest(tmp_path, "pixmo_points")["train_pointing"]
    assert (split.num_examples, split.rejected) == (2, {"excluded_image": 1})
    assert split.converter["excluded"]["split"] == "test"


def test_an_image_cache_is_filled_and_then_used(web: Web, tmp_path: Path):
    write_rows(tmp_path / "rows/train.parquet", caption_rows(web, 3))
    arguments = ["pixmo-cap", "--source", str(tmp_path / "rows"), "--image-cache", str(tmp_path / "pictures")]
    assert main([*arguments, "--allow-private", "--data-dir", str(tmp_path / "a")]) == 0
    asked = len(web.requests)
    assert main([*arguments, "--allow-private", "--data-dir", str(tmp_path / "b")]) == 0
    assert (asked, len(web.requests)) == (3, 3)


def test_nothing_converted_is_a_failure(web: Web, tmp_path: Path, capsys):
    rows = [{"image_url": web.url("/gone"), "caption": "A dog."}]
    write_rows(tmp_path / "rows/train.parquet", rows)
    arguments = ["pixmo-cap", "--source", str(tmp_path / "rows"), "--data-dir", str(tmp_path), "--allow-private"]
    assert main([*arguments, "--json"]) == 1
    (summary,) = json.loads(capsys.readouterr().out)["datasets"]
    assert summary["rejected"] == {"http_404": 1}
    assert "none of 1 rows could be converted" in summary["error"]


def test_wrong_columns_are_a_failure_that_names_them(tmp_path: Path, capsys):
    write_rows(tmp_path / "rows/train.parquet", [{"image_url": "http://host/a", "text": "A dog."}])
    assert main(["pixmo-cap", "--source", str(tmp_path / "rows"), "--data-dir", str(tmp_path), "--json"]) == 1
    (summary,) = json.loads(capsys.readouterr().out)["datasets"]
    assert summary["error"] == "pixmo-cap: column 'caption' is missing; the rows have: image_url, text"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["pixmo-dogs"],
        ["../etc"],
        ["pixmo-cap", "--sample", "--source", "somewhere"],
        ["pixmo-cap", "--validation-fraction", "1.5"],
        ["pixmo-cap", "--max-rows", "0"],
        ["pixmo-cap", "--max-rejected", "30"],
        ["pixmo-cap", "--force", "--retry-rejects"],
        ["my-captions", "--columns", "caption=TEXT"],
    ],
)
def test_wrong_usage_has_its_own_exit_code(tmp_path: Path, arguments: list[str]):
    assert main([*arguments, "--data-dir", str(tmp_path)]) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_data_folder_must_be_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GRAIN_MOLMO_DATA", raising=False)
    assert main(["pixmo-cap", "--sample"]) == 2


def test_the_sample_of_every_set_converts_without_a_network(tmp_path: Path, capsys):
    arguments = ["all", "--sample", "--rows", "16", "--data-dir", str(tmp_path), "--json"]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["datasets"]) == 17
    for summary in report["datasets"]:
        assert sum(summary["examples"].values()) > 0
        assert sum(summary["rejected"].values()) > 0, "the sample holds bad rows on purpose"
    assert len(get_dataset("pixmo_points", data_dir=tmp_path)) > 0
    assert main(arguments) == 0  # again: the same rows, so nothing is converted twice
    again = json.loads(capsys.readouterr().out)["datasets"]
    assert all(summary["already_there"] == list(summary["examples"]) for summary in again)


def test_the_program_runs_as_a_file_from_any_folder(tmp_path: Path):
    command = [sys.executable, str(PROGRAM), "--help"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--image-cache" in result.stdout
    assert "examples:" in result.stdout
