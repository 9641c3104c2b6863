"""The demo from end to end, on sample data that was converted once."""

import json

import numpy as np
import pytest
from PIL import Image

from grain_molmo import get_dataset
from grain_molmo.tools import demo
from grain_molmo.tools.cli import main


@pytest.fixture(scope="session")
def run_demo(demo_folder):
    """Runs the demo in the folder where the sample was converted."""
    return lambda *words: main(["demo", "--out", str(demo_folder), "--rows", str(demo.FEWEST_ROWS), *words])


def test_the_demo_reports_what_it_made(run_demo, demo_folder, capsys):
    assert run_demo("--json") == 0

    report = json.loads(capsys.readouterr().out)
    assert sum(sum(one["rejected"].values()) for one in report["datasets"].values()) > 0
    for stage in demo.DEMO_STAGES.values():
        told = report["stages"][stage.name]
        assert told["mixture"] == pytest.approx(dict(stage.weights))
        assert set(report["datasets"]) >= set(stage.weights)
        shape = [stage.batch_size, stage.crops_per_row, 729, 588]
        assert told["batch"]["images"] == {"shape": shape, "dtype": "uint8"}
        assert told["batch"]["input_tokens"]["shape"] == [stage.batch_size, stage.seq_len]
        assert told["batch"]["token_pooling"]["shape"][2] == stage.pooling_width
        assert told["stats"]["rows"] == demo.NUM_BATCHES * stage.batch_size
        assert max(told["stats"]["token_fill"], told["stats"]["crop_fill"]) > 0.9
        assert told["stats"]["skipped_examples"] == told["stats"]["skipped_media"] == {}
        picture = np.asarray(Image.open(told["picture"]))
        assert picture.shape[1:] == (1600, 3)
        assert picture.std() > 10
    # each of the sets of pretraining shows one picture an example
    rates = report["stages"]["pretraining"]["throughput"]
    assert rates["images_per_s"] == rates["examples_per_s"] > 0
    assert report["stages"]["sft"]["throughput"]["frames_per_s"] > 0


def test_a_second_run_keeps_what_was_converted(run_demo, demo_folder, capsys):
    shards = {path: path.stat().st_mtime_ns for path in demo_folder.glob("data/*/*.array_record*")}

    assert run_demo() == 0

    text = capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in demo_folder.glob("data/*/*.array_record*")} == shards
    for word in (
        "pixmo_cap_qa",
        "60%",
        "token_pooling",
        "examples/s",
        "packed-row.png",
        "grain-molmo convert pixmo-cap",
    ):
        assert word in text


def test_what_the_demo_leaves_is_a_store_that_everything_can_use(data_dir):
    example = get_dataset("pixmo-cap", data_dir=data_dir)[0]

    assert np.asarray(example["image"]).shape == example["image"].shape


def test_a_folder_that_cannot_be_written_ends_the_demo_in_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")

    assert main(["demo", "--out", str(tmp_path / "file")]) == 1

    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("grain-molmo demo: ")
    assert "--out" in last


@pytest.mark.parametrize("code", [130, 143])
def test_a_demo_that_is_stopped_while_it_converts_is_stopped_not_failed(code, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("converters.to_arrayrecord.main", lambda *words, **names: code)
    assert main(["demo", "--out", str(tmp_path / "demo")]) == code
    assert "try another --out" not in capsys.readouterr().err


def test_rows_hold_several_examples_of_the_demo(data_dir):
    for stage in demo.DEMO_STAGES.values():
        loaded = demo.load_batches(data_dir, stage, num_batches=2)

        assert loaded.stats["examples"] >= 3 * loaded.stats["rows"]
        assert len({info.dataset for info in loaded.infos}) >= 2
