"""The example evaluation: every example once, answers that are the model's, scores, and a file to read."""

import argparse
import json
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

import grain_molmo as gm
from converters.to_arrayrecord import main as convert
from grain_molmo.datasets.registry import open_dataset
from grain_molmo.errors import ConfigError
from grain_molmo.examples import evaluate as program
from grain_molmo.examples.answer import make_answer
from grain_molmo.examples.model import ModelConfig, predict
from grain_molmo.examples.step import init_state
from grain_molmo.examples.train import make_mesh, open_checkpoints
from grain_molmo.stages import STAGES
from grain_molmo.text.format import format_example

STAGE = replace(STAGES["pretraining"], max_crops=1, high_res_max_crops=1, crops_per_row=2)
pytestmark = pytest.mark.xdist_group("loader")  # they share the sample

SMALL = ["--width", "16", "--max-new-tokens", "2", "--threads", "1", "--mesh", "data=1", "--seq-len", "640"]


@pytest.fixture(autouse=True)
def few_crops(monkeypatch):
    """Rows of two crops, so that the model has little to look at."""
    monkeypatch.setattr(program, "STAGES", {"pretraining": STAGE})


@pytest.fixture(scope="module")
def points_eval_dir(tmp_path_factory):
    """The points with masks, of generated rows."""
    folder = tmp_path_factory.mktemp("points_eval")
    assert convert(["pixmo-points-eval", "--sample", "--rows", "24", "--data-dir", str(folder)]) == 0
    return folder


def run(folder, sample_dir, *arguments, capsys):
    """The program's summary, and what it wrote."""
    out = folder / "predictions.json"
    assert program.main([*SMALL, "--data-dir", str(sample_dir), "--out", str(out), *arguments]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1]), json.loads(out.read_text())


BEHIND_THE_END = " And more."  # as models that are not stopped go on


def right_answers(monkeypatch, prompts):
    """In the model's place, somebody who knows what is right: one token a byte, and a row after the other."""
    tokenizer = gm.load_tokenizer("bytes")
    answers = []
    for one in prompts:
        width, height = one["metadata"]["image_size"]
        form = {"style_mode": "no_style", "prompt_mode": "none", "image_sizes": [(width, height)]}
        ((_, text),) = format_example(one, np.random.RandomState(0), **form)
        answers.append([*tokenizer.encode(text.strip()), tokenizer.eos_id, *tokenizer.encode(BEHIND_THE_END)])
    given = iter(answers)

    def make(config, max_new_tokens, mesh):
        def answer(params, batch):
            rows = np.pad(np.asarray(batch["input_tokens"]), ((0, 0), (0, 1000)))
            for row, length in zip(rows, (np.asarray(batch["segment_ids"]) > 0).sum(axis=1), strict=True):
                if length:
                    text = next(given)
                    row[length : length + len(text)] = text
            return rows

        return answer

    monkeypatch.setattr(program, "make_answer", make)


def test_someone_who_knows_the_answers_scores_in_full(monkeypatch, sample_dir, tmp_path, capsys):
    prompts = gm.EachMessage(open_dataset("pixmo_points", "validation", sample_dir))
    right_answers(monkeypatch, prompts)
    summary, rows = run(tmp_path, sample_dir, "pixmo_points:validation", capsys=capsys)
    assert summary == {
        "examples": len(prompts),
        "unusable": 0,
        **dict.fromkeys(("precision", "recall", "f1", "count_correct", "count_close", "count_valid"), 1.0),
        "scored": len(prompts),
    }
    assert [row["example_id"] for row in rows] == prompts.ids
    for row, one in zip(rows, prompts, strict=True):
        assert BEHIND_THE_END not in row["prediction"]
        assert row["prompt"].startswith("<|im_start|>user\npoint")
        assert row["prompt"].endswith("<|im_end|>\n<|im_start|>assistant\n")
        assert row["metadata"]["message"]["label"] == one["message_list"][0]["label"]
        assert len(gm.read_points(row["prediction"], row["metadata"]["image_size"])) == len(
            row["metadata"]["message"]["points"]
        )


def test_masks_of_people_are_what_points_are_held_against(monkeypatch, points_eval_dir, tmp_path, capsys):
    prompts = gm.EachMessage(open_dataset("pixmo_points_eval", "test", points_eval_dir))
    right_answers(monkeypatch, prompts)
    summary, rows = run(tmp_path, points_eval_dir, "pixmo_points_eval", capsys=capsys)  # it has a test split alone
    assert summary["f1"] == 1
    assert summary["scored"] == summary["examples"] == len(rows) == len(prompts)
    assert all("masks" not in row["metadata"] and row["metadata"]["points"] for row in rows)


def test_answers_do_not_depend_on_the_batch_or_the_mesh(sample_dir, tmp_path, capsys):
    one = run(tmp_path, sample_dir, "pixmo_points:validation", "--batch-size", "3", capsys=capsys)
    other = run(tmp_path, sample_dir, "pixmo_points:validation", "--mesh", "data=4", capsys=capsys)
    assert one == other


def test_an_example_that_does_not_fit_keeps_its_place_and_says_why(sample_dir, tmp_path, capsys):
    summary, rows = run(tmp_path, sample_dir, "--task", "dense_caption_eval", "--seq-len", "64", capsys=capsys)
    assert summary == {"examples": len(rows), "unusable": len(rows), "scored": 0}
    ids = [one["metadata"]["id"] for one in open_dataset("dense_caption_eval", "validation", sample_dir)]
    assert [row["example_id"] for row in rows] == ids
    assert all(row["error"].startswith("too_long: ") and row["prediction"] == "" for row in rows)


def test_the_newest_weights_of_a_run_answer_and_a_folder_without_any_is_told(tmp_path):
    mesh = make_mesh({"data": 1})
    options = argparse.Namespace(checkpoints=str(tmp_path / "run"), save_every=1)
    state = jax.jit(partial(init_state, config()))()
    with open_checkpoints(options) as checkpoints:
        for step in (1, 2):
            older = jax.tree.map(lambda array, step=step: array + step, state)
            checkpoints.save(step, args=ocp.args.Composite(model=ocp.args.StandardSave(older)))
        checkpoints.wait_until_finished()
    restored, new = (program.load_params(folder, config(), mesh) for folder in (str(tmp_path / "run"), None))
    jax.tree.map(lambda found, at_first: np.testing.assert_allclose(found, at_first + 2, atol=1e-5), restored, new)
    with pytest.raises(ConfigError, match="no checkpoint"):
        program.load_params(str(tmp_path / "nothing"), config(), mesh)


@pytest.mark.parametrize("arguments", [[], ["pixmo_points", "--task", "dense_caption_eval"]])
def test_one_thing_is_to_be_named(arguments, capsys):
    assert program.main(arguments) == 2
    assert "name a dataset, or a --task" in capsys.readouterr().err


def config():
    tokenizer = gm.load_tokenizer("bytes")
    return ModelConfig(vocab_size=tokenizer.vocab_size, special_base=tokenizer.special_base, width=16)


def test_the_answer_is_the_likeliest_token_again_and_again(sample_dir):
    """Of the rows with their answers in place, each token of an answer is the one that scores best where it stands."""
    n_new = 3
    params = program.load_params(None, config(), make_mesh({"data": 1}))
    prompts = gm.EachMessage(open_dataset("pixmo_points", "validation", sample_dir))
    options = {"stage": STAGE, "tokenizer": "bytes", "batch_size": 2, "seq_len": 640, "num_threads": 1}
    with gm.make_eval_loader(prompts, **options) as loader:
        batch = next(loader)
        stops = np.array([examples[0].tokens[1] for examples in loader.batch_info.rows])
    answered = np.asarray(make_answer(config(), n_new, make_mesh({"data": 1}))(params, batch))
    places = np.arange(answered.shape[1])
    is_answer = (places >= stops[:, None]) & (places < stops[:, None] + n_new)
    np.testing.assert_array_equal(np.where(is_answer, 0, answered)[:, :640], batch["input_tokens"])
    whole = {**batch, "input_tokens": answered, "position_ids": np.broadcast_to(places, answered.shape)}
    whole |= {"segment_ids": (places < stops[:, None] + n_new).astype(np.int32), "subsegment_ids": 0 * answered}
    best = np.asarray(jax.jit(partial(predict, config=config()))(params, whole).argmax(axis=-1))
    np.testing.assert_array_equal(answered[:, 1:][is_answer[:, 1:]], best[:, :-1][is_answer[:, 1:]])
