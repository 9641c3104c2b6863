"""The same conversion as a Beam pipeline."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from loopback import all_files, write_rows

from converters.beam import on_beam
from converters.convert import convert_set
from converters.jobs import run_shard
from converters.options import Options
from converters.request import SetRequest
from converters.sample import SampleSet, write_sample
from converters.to_arrayrecord import main
from grain_molmo.errors import StoreError


def convert(written: SampleSet, name: str, data_dir: Path, *, beam: bool) -> None:
    options = Options(
        rows_per_shard=8,
        workers=2,
        image_cache=str(written.image_cache),
        cache_only=True,
        video_dir=str(written.video_dir),
    )
    make_runner = (lambda opened: on_beam(opened.conversion, ["--runner=DirectRunner"])) if beam else None
    convert_set(SetRequest(name=name, source=str(written.folder)), data_dir, options, make_runner=make_runner)


def visible(data_dir: Path) -> dict[str, bytes]:
    return {name: data for name, data in all_files(data_dir).items() if not name.startswith(".")}


@pytest.mark.parametrize("name", ["pixmo-points", "pixmo-count", "molmo2-videocapqa"])
def test_a_pipeline_writes_the_same_store_shard_by_shard(name: str, tmp_path: Path):
    written = write_sample(tmp_path, [name], rows=32)[name]
    convert(written, name, tmp_path / "here", beam=False)
    convert(written, name, tmp_path / "beam", beam=True)
    assert visible(tmp_path / "beam") == visible(tmp_path / "here")
    assert len([file for file in visible(tmp_path / "beam") if "array_record-00001-of" in file]) > 0


def test_a_pipeline_that_failed_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sample = write_sample(tmp_path, ["pixmo-count"], rows=32)["pixmo-count"]
    convert(sample, "pixmo-count", tmp_path / "at once", beam=False)
    written = []

    def failing(job, worker, *rest):
        if written == [0, 1]:
            raise OSError("the machine is gone")
        written.append(job.shard)
        return run_shard(job, worker, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("converters.beam.run_shard", failing)
        with pytest.raises(StoreError, match="goes on where it was"):
            convert(sample, "pixmo-count", tmp_path / "stopped", beam=True)
    assert len(written) == 2
    convert(sample, "pixmo-count", tmp_path / "stopped", beam=True)
    assert visible(tmp_path / "stopped") == visible(tmp_path / "at once")


def test_the_command_line_hands_options_to_beam(tmp_path: Path):
    arguments = ["pixmo-cap", "--sample", "--rows", "16", "--json", "--data-dir", str(tmp_path)]
    program = [sys.executable, "-m", "grain_molmo", "convert", *arguments]
    beam = ["--runner", "DirectRunner", "--beam-option", "direct_num_workers=2"]
    result = subprocess.run([*program, *beam], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["datasets"][0]["examples"]


def test_options_without_a_runner_are_refused(tmp_path: Path):
    rows = write_rows(tmp_path / "rows", [{"image_url": "http://x/y", "caption": "c"}])
    arguments = ["pixmo-cap", "--source", rows, "--data-dir", str(tmp_path), "--beam-option", "a=b"]
    assert main(arguments) == 2


@pytest.mark.parametrize(
    "beam",
    [
        ["--runner", "Nope"],
        ["--runner", "a.b.C"],
        ["--runner", "DirectRunner", "--beam-option", "direct_num_workers=x"],
    ],
)
def test_a_runner_that_is_none_is_wrong_usage(beam: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = write_rows(tmp_path / "rows", [{"image_url": "http://x/y", "caption": "c"}])
    assert main(["pixmo-cap", "--source", rows, "--data-dir", str(tmp_path / "data"), "--json", *beam]) == 2
    assert "Beam does not take" in json.loads(capsys.readouterr().out)["error"]
    assert not (tmp_path / "data").exists()
