"""`grain-molmo index` makes what `make_loader` with the same arguments looks for."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from grain_molmo.encode import Encoder
from grain_molmo.lengths import LengthFiles, LengthIndex
from grain_molmo.packing.mixture import Draw
from grain_molmo.recipes import find_stage
from grain_molmo.stage_data import open_datasets
from grain_molmo.store.lock import write_lock
from grain_molmo.tools.cli import main

pytestmark = pytest.mark.xdist_group("index")  # they share the converted sample


@pytest.fixture
def store(data_dir, tmp_path):
    """A copy of the sample store, to write to; media are not needed to encode."""
    shutil.copytree(data_dir, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def encoder_of(data_dir, tokenizer):
    def make(stage, **options):
        chosen = find_stage(stage, **options)
        return Encoder(open_datasets(chosen, data_dir)[0], chosen, tokenizer, 0)

    return make


def index(store, *words):
    return main(["index", "--data-dir", str(store), "--tokenizer", "bytes", "--n-procs", "1", *words])


def run_json(capsys, store, *words):
    code = index(store, *words, "--json")
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("stage", ["pretraining", "sft"])
def test_what_is_indexed_is_what_a_run_looks_for(store, encoder_of, capsys, stage):
    code, said = run_json(capsys, store, "--stage", stage, "--epochs", "2")
    encoder = encoder_of(stage)
    assert code == 0
    assert said["ok"]
    assert {(one["dataset"], one["epoch"]) for one in said["indexed"]} == {
        (name, epoch) for name in encoder.datasets for epoch in (0, 1)
    }
    found = LengthIndex.open(store, encoder, strict=True)
    for name, dataset in encoder.datasets.items():
        draws = [Draw(name, 1, i) for i in range(len(dataset))]
        unknown = [draw for draw in draws if found.get(draw) is None]
        said_of = next(one for one in said["indexed"] if (one["dataset"], one["epoch"]) == (name, 1))
        assert len(unknown) == said_of["unusable"]


def test_lengths_of_the_sample_are_those_of_this_version(data_dir, encoder_of):
    """Where they change without the sample, `ENCODING_VERSION` must: existing indexes are out of date."""
    digest = hashlib.sha256()
    for stage in ("pretraining", "sft"):
        encoder = encoder_of(stage)
        for name, dataset in encoder.datasets.items():
            for i in range(len(dataset)):
                digest.update(repr((name, i, *encoder(Draw(name, 0, i)).lengths)).encode())
    assert digest.hexdigest()[:16] == "fad41f04a70b4f18"


def test_a_second_time_nothing_is_left_to_do(store, capsys):
    assert index(store, "pixmo-cap") == 0
    capsys.readouterr()
    code, said = run_json(capsys, store, "pixmo-cap")
    assert code == 0
    assert [one["seconds"] for one in said["indexed"]] == [None]
    assert index(store, "pixmo-cap") == 0
    assert "was there" in capsys.readouterr().out


def test_exit_codes_tell_usage_damage_and_another_writer(store, encoder_of, capsys):
    code, said = run_json(capsys, store, "pixmo-cats")
    assert (code, said["ok"]) == (2, False)
    assert "pixmo_cap" in said["error"]
    assert index(store, "--stage", "sft", "--seq-len", "0") == 2

    files = LengthFiles.of(store, encoder_of("pretraining"), "pixmo_cap")
    with write_lock(store, f"lengths-pixmo_cap-{files.folder.name}", files.folder):
        assert index(store, "pixmo-cap") == 3
    assert index(store, "pixmo-cap") == 0
    data = files.path(0).read_bytes()
    files.path(0).write_bytes(data[:5] + bytes([data[5] ^ 1]) + data[6:])
    capsys.readouterr()
    assert index(store, "pixmo-cap") == 1
    assert "epoch-00000.lengths is damaged" in capsys.readouterr().err


def test_a_term_signal_stops_it_and_the_same_command_goes_on(store):
    """The child sends itself the signal when the first set is done."""
    program = (
        "import os, signal, sys\n"
        "from grain_molmo import indexing\n"
        "from grain_molmo.tools.cli import main\n"
        "write_epoch = indexing.write_epoch\n"
        "def stop(*args):\n"
        "    write_epoch(*args)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "indexing.write_epoch = stop\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    words = ["index", "--data-dir", str(store), "--tokenizer", "bytes", "--n-procs", "2", "--json"]
    stopped = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, env=os.environ)
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr
    assert json.loads(stopped.stdout)["ok"] is False
    assert len(list((store / "lengths").rglob("*.lengths"))) == 1
    assert index(store) == 0
    assert len(list((store / "lengths").rglob("*.lengths"))) == 5


def test_the_sets_that_are_named_need_no_others_of_the_stage(store, tmp_path):
    """Their lengths are those that a run of the whole stage looks up."""
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("media", "pixmo_cap"):
        (alone / name).symlink_to(store / name)
    assert index(alone, "pixmo-cap") == 0
    assert index(store) == 0
    keys = [[path.name for path in (folder / "lengths" / "pixmo_cap").iterdir()] for folder in (alone, store)]
    assert keys[0] == keys[1]
    assert len(keys[0]) == 1
