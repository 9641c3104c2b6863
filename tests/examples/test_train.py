"""The example trainer learns, compiles once, and is the same run however often it is stopped and on what."""

import argparse
import json
import re
import shutil

import grain.checkpoint
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from killed import SETS, SMALL, command_line, run, run_and_kill

import grain_molmo as gm
from converters.to_arrayrecord import main as convert
from grain_molmo.errors import ConfigError
from grain_molmo.examples import watch
from grain_molmo.examples.step import checksum
from grain_molmo.examples.train import main, make_mesh, mesh_axes
from grain_molmo.stage_changes import with_mixture
from grain_molmo.stages import STAGES
from grain_molmo.tools.arguments import weights_by_name

STEPS = 8

pytestmark = pytest.mark.xdist_group("examples")  # they share the data and the undisturbed run


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    assert convert([*SETS, "--sample", "--rows", "24", "--data-dir", str(folder)]) == 0
    return folder


def train(folder, **options):
    """The trainer in this process; the lines of its steps."""
    log = folder / "log"
    assert main(command_line({**SMALL, "checkpoints": folder, "log": log, **options})) == 0
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, data_dir):
    """The folder of a run that is left alone, and its steps."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, train(folder, **{"data-dir": data_dir, "steps": STEPS})


@pytest.fixture(scope="session")
def killed(tmp_path_factory, data_dir):
    """The folder of the same run, killed at the fifth step, and the steps that it took."""
    folder = tmp_path_factory.mktemp("killed")
    options = {**SMALL, "data-dir": data_dir, "checkpoints": folder, "steps": STEPS}
    return folder, run_and_kill(options, lambda line: line["step"] == 4)


def without_seconds(steps):
    return [(step["step"], step["batch"], step["loss"]) for step in steps]


def test_the_loss_falls(undisturbed):
    losses = [step["loss"] for step in undisturbed[1]]
    assert np.mean(losses[-3:]) < 0.9 * losses[0]


def test_killed_and_gone_on_it_is_the_run_that_was_left_alone_to_the_bit(undisturbed, killed, data_dir, tmp_path):
    shutil.copytree(killed[0], tmp_path, dirs_exist_ok=True)
    before = killed[1]
    after = train(tmp_path, **{"data-dir": data_dir, "steps": STEPS})
    assert 0 < after[0]["step"] <= before[-1]["step"] + 1
    assert without_seconds(before[: after[0]["step"]] + after) == without_seconds(undisturbed[1])
    assert without_seconds(before) == without_seconds(undisturbed[1][: len(before)])
    parts = (ocp.StandardCheckpointer().restore(each / f"{STEPS}" / "model") for each in (undisturbed[0], tmp_path))
    jax.tree.map(np.testing.assert_array_equal, *parts)


def test_killed_and_gone_on_with_other_devices_it_learns_from_the_same(undisturbed, killed, data_dir, tmp_path):
    shutil.copytree(killed[0], tmp_path, dirs_exist_ok=True)
    options = {**SMALL, "data-dir": data_dir, "checkpoints": tmp_path, "steps": STEPS, "mesh": "fsdp=2,context=2"}
    steps, summary = run(options, devices=4)
    assert summary["compilations"] == 1
    expected = undisturbed[1][steps[0]["step"] :]
    np.testing.assert_allclose([step["loss"] for step in steps], [step["loss"] for step in expected], rtol=1e-4)


def test_it_says_how_far_it_is_and_where_the_same_command_goes_on(undisturbed, data_dir, tmp_path, capsys):
    shutil.copytree(undisturbed[0], tmp_path / "run")
    capsys.readouterr()

    train(tmp_path / "run", **{"data-dir": data_dir, "steps": STEPS + 2})
    going_on, *_, last = capsys.readouterr().err.splitlines()
    train(tmp_path / "run", **{"data-dir": data_dir, "steps": STEPS})
    done = capsys.readouterr().err

    assert going_on.startswith(f"going on from step {STEPS} of {STEPS + 2}")
    assert re.match(rf"step {STEPS + 2} of {STEPS + 2}: loss \d", last)
    assert "give more --steps" in done


def test_interrupted_it_says_from_which_step_it_goes_on(undisturbed, data_dir, tmp_path, capsys, monkeypatch):
    shutil.copytree(undisturbed[0], tmp_path / "run")

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.Watch, "step_done", interrupt)
    options = {**SMALL, "checkpoints": tmp_path / "run", "data-dir": data_dir, "steps": STEPS + 2}
    assert main(command_line(options)) == 130

    assert f"the same command goes on from step {STEPS}\n" in capsys.readouterr().err


def test_what_the_model_saw_is_what_the_loader_gives(undisturbed, data_dir):
    with gm.make_loader(data_dir=data_dir, tokenizer="bytes", batch_size=2, seq_len=1024, num_threads=2) as loader:
        seen = [f"{int(jax.jit(checksum)(next(loader))):08x}" for _ in range(2)]
    assert seen == [step["batch"] for step in undisturbed[1][:2]]


def test_the_checksum_sees_a_value_that_changes_or_moves():
    batch = {"images": np.arange(48, dtype=np.uint8).reshape(2, 3, 8), "tokens": np.arange(6, dtype=np.int32)}
    others = [
        {**batch, "tokens": batch["tokens"][[1, 0, 2, 3, 4, 5]]},
        {**batch, "images": batch["images"][::-1]},
        {**batch, "images": np.where(batch["images"] == 7, 9, batch["images"]).astype(np.uint8)},
        {"images": batch["images"], "weights": batch["tokens"].astype(np.float32)},
    ]
    assert len({int(checksum(each)) for each in [batch, *others]}) == len(others) + 1


def test_the_loader_is_a_grain_iterator_to_a_checkpoint_manager(data_dir, tmp_path):
    options = {"data_dir": data_dir, "tokenizer": "bytes", "batch_size": 2, "seq_len": 1024, "num_threads": 1}
    with ocp.CheckpointManager(tmp_path) as checkpoints, gm.make_loader(**options) as loader:
        next(loader)
        checkpoints.save(1, args=ocp.args.Composite(data=grain.checkpoint.CheckpointSave(loader)))
        checkpoints.wait_until_finished()
        expected = next(loader)
        with gm.make_loader(**options) as other:
            checkpoints.restore(1, args=ocp.args.Composite(data=grain.checkpoint.CheckpointRestore(other)))
            jax.tree.map(np.testing.assert_array_equal, next(other), expected)


def test_a_checkpoint_holds_the_loader_in_a_small_readable_file(undisturbed):
    file = undisturbed[0] / f"{STEPS}" / "data" / "metadata"
    assert json.loads(file.read_text())["fingerprint"]
    assert file.stat().st_size < 4096


def test_a_checkpoint_that_is_damaged_is_named_and_without_it_the_one_before_serves(undisturbed, data_dir, tmp_path):
    shutil.copytree(undisturbed[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "log").unlink()
    (tmp_path / f"{STEPS}" / "data" / "metadata").write_text("")
    with pytest.raises(ValueError, match="Expecting value") as damaged:
        train(tmp_path, **{"data-dir": data_dir, "steps": STEPS})
    assert f"{tmp_path / str(STEPS)} does not restore" in damaged.value.__notes__[0]
    shutil.rmtree(tmp_path / f"{STEPS}")
    after = train(tmp_path, **{"data-dir": data_dir, "steps": STEPS})
    assert without_seconds(after) == without_seconds(undisturbed[1])[-len(after) :]


@pytest.mark.parametrize(
    "axes", ["", "data", "data=0", "data=-2", "data=-1,fsdp=-1", "data=1,data=1", "rows=1", "data=1,"]
)
def test_what_is_no_mesh_is_refused_where_it_is_typed(capsys, axes):
    assert main(["--checkpoints", "RUN", "--mesh", axes]) == 2
    assert "is not like data=2,fsdp=-1,context=2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--checkpoints", "RUN", "--stage", "stf"], "did you mean sft?"),
        (["--checkpoints", "RUN"], "no data folder"),
        (["--checkpoints", "RUN", "--mesh", "data=4096"], "there are"),
        ([], "--checkpoints"),
    ],
)
def test_wrong_usage_is_a_line_for_people(words, said, capsys, monkeypatch):
    monkeypatch.delenv("GRAIN_MOLMO_DATA", raising=False)
    assert main(words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize("axes", ["data=4096", "data=4096,fsdp=-1"])
def test_a_mesh_of_more_devices_than_there_are_is_refused(axes):
    with pytest.raises(ConfigError, match=f"mesh {axes}: there are {jax.device_count()} devices"):
        make_mesh(mesh_axes(axes))


def test_the_stall_is_the_share_of_waiting_after_the_first_step(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(watch.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: now.append(now.pop() + seconds))
    seen = watch.Watch(None, least_s=0.9)
    for step, wait_s in enumerate([5.0, 0.1, 0.0]):
        with seen.waiting():
            now[0] += wait_s
        seen.step_done(step, {"loss": np.float32(1), "batch": np.uint32(7)})
    summary = seen.summary()
    assert summary["first_wait_s"] == 5
    assert summary["step_s"] == pytest.approx(0.95)
    assert summary["stall"] == pytest.approx(0.1 / 1.9)


def test_a_mixture_takes_the_place_of_the_stage_s_and_keeps_its_rules():
    stage = with_mixture(STAGES["sft"], weights_by_name("molmo2-cap=0.75,my-set=0.25"))
    assert (dict(stage.weights), [*stage.rules]) == ({"molmo2_cap": 0.75, "my_set": 0.25}, ["molmo2_cap"])
    assert weights_by_name("pixmo_cap") == {"pixmo_cap": 1}
    with pytest.raises(argparse.ArgumentTypeError, match=r"is not like pixmo_cap=0\.7"):
        weights_by_name("pixmo_cap=much")
