"""The evaluation blocks of the PixMo guide, with this library's commands on generated data and a model just trained."""

import json

import pytest

import grain_molmo as gm
from grain_molmo.examples.evaluate import main as evaluate
from grain_molmo.examples.train import main as train

pytestmark = pytest.mark.xdist_group("loader")  # they share the sample
MODEL = ["--width=16", "--threads=1", "--mesh=data=1", "--tokenizer=bytes"]


@pytest.fixture(scope="module")
def checkpoint(sample_dir, tmp_path_factory):
    """The run of a trainer that took one step."""
    folder = tmp_path_factory.mktemp("run")
    run = [f"--checkpoints={folder}", f"--data-dir={sample_dir}", "--steps=1", "--batch-size=1", "--seq-len=1024"]
    assert train([*MODEL, *run]) == 0
    return folder


def evaluated(capsys, *arguments):
    short = ["--max-new-tokens=2", "--seq-len=1280", "--batch-size=2"]
    assert evaluate([*MODEL, *short, *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_points_evaluation_runs(sample_dir, checkpoint, tmp_path, monkeypatch, capsys):
    """`torchrun ... eval_downstream.py Molmo-7B-D-0924 pixmo_points:validation --high_res --fsdp`."""
    monkeypatch.chdir(tmp_path)
    arguments = ["pixmo_points:validation", "--high-res", "--mesh", "fsdp=2", "--data-dir", sample_dir]
    summary = evaluated(capsys, *arguments, "--checkpoint", checkpoint)
    whole = gm.get_dataset("pixmo_points", "validation", data_dir=sample_dir)
    assert summary["examples"] == summary["scored"] == sum(len(example["message_list"]) for example in whole)
    assert {"precision", "recall", "f1", "count_correct", "count_close"} <= summary.keys()
    rows = json.loads((tmp_path / "predictions.json").read_text())
    assert len({row["example_id"] for row in rows}) == len(rows) == summary["examples"]


def test_the_dense_caption_evaluation_writes_what_scorers_need(sample_dir, checkpoint, tmp_path, monkeypatch, capsys):
    """`torchrun ... eval.py --task dense_caption_eval /path/to/checkpoint`, and its predictions.json.

    The scorer asks a paid model; here it is seen that all it needs is in the file.
    """
    monkeypatch.chdir(tmp_path)
    summary = evaluated(capsys, "--task", "dense_caption_eval", "--data-dir", sample_dir, "--checkpoint", checkpoint)
    rows = json.loads((tmp_path / "predictions.json").read_text())
    captions = gm.get_dataset("pixmo_cap", "validation", data_dir=sample_dir)
    assert summary == {"examples": len(captions), "unusable": 0, "scored": 0}
    for row, known in zip(rows, captions, strict=True):
        assert row["example_id"] == known["metadata"]["id"]
        assert row["image_url"] == known["metadata"]["url"]
        assert isinstance(row["prediction"], str)
        assert row["metadata"]["caption"] == known["caption"]
        assert row["metadata"]["transcripts"] == known["transcripts"]
        assert known["caption"] not in row["prompt"]
