"""Every command's --help, and that its examples run as they stand, on sample data."""

import argparse
import importlib
import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from converters.sample import write_sample
from grain_molmo.tools import bench, cli, demo, sizing
from grain_molmo.tools.bench.report import Report

MODULES = {name: importlib.import_module(module) for name, (module, _) in cli._COMMANDS.items()}
BENCHMARKS = {f"bench {name}": module for name, (module, _) in bench._BENCHMARKS.items()}
EXAMPLES = [
    f"{command} {words}"
    for command, module in {**MODULES, **BENCHMARKS}.items()
    for _, words in getattr(module, "EXAMPLES", ())
]


@pytest.mark.parametrize("command", [*MODULES, *BENCHMARKS])
def test_help_says_what_a_command_does_with_examples_and_exit_codes(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([*command.split(), "--help"]) == 0
    first = capsys.readouterr().out
    assert cli.main(["help", *command.split()]) == 0

    assert capsys.readouterr().out == first
    assert "examples:\n" in first, "give the module EXAMPLES"
    assert "exit codes: 0 " in first
    assert max(len(line) for line in first.partition("examples:")[0].splitlines()) <= 80


@pytest.mark.parametrize("command", [*MODULES, *BENCHMARKS])
def test_every_argument_is_explained_with_its_default(command):
    parser = cli.main_parser(whole=True)
    for word in command.split():
        (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        parser = commands.choices[word]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            continue
        assert action.help, action
        default = action.default[0] if isinstance(action.default, list) and action.default else action.default
        if default not in (None, False, [], argparse.SUPPRESS):
            assert "default" in action.help or f"{default:g}" if isinstance(default, float) else str(default), action


def test_a_start_without_words_shows_a_way_in(capsys):
    assert cli.main([]) == 0
    assert "grain-molmo demo" in capsys.readouterr().out


def heavy_modules(*words):
    """Which of the modules that take long to import a command line did import."""
    watch = (
        "import sys; from grain_molmo.tools.cli import main; main(sys.argv[1:]);"
        "print(sorted({'numpy', 'jax', 'grain', 'datasets', 'tensorflow'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", watch, *words], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("words", [["--help"], ["inspekt"], [], ["--version"]])
def test_the_first_words_need_no_library(words):
    assert heavy_modules(*words) == "[]"


@pytest.mark.parametrize("command", ["demo", "convert", "inspect", "index", "verify", "size"])
def test_help_of_a_command_needs_neither_jax_nor_grain(command):
    assert heavy_modules(command, "--help") == "['numpy']"


# ---- examples ----


@pytest.fixture(scope="module")
def place(tmp_path_factory, data_dir) -> Path:
    """A folder with all that the examples name: a store, rows and pictures to convert, figures that were measured."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "DATA").symlink_to(data_dir)
    write_sample(folder / "path/to/datasets", ["pixmo-cap", "pixmo-count", "pixmo-docs"], rows=8)
    (folder / "path/to/pixmo-docs").symlink_to(folder / "path/to/datasets/pixmo-docs")
    write_sample(folder / "path/to/videos", ["molmo2-videopoint"], rows=10)
    (folder / "VIDEOS").symlink_to(folder / "path/to/videos/video_datasets")
    own = folder / "path/to/my-set"
    own.mkdir()
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(own / "a.png")
    (own / "rows.jsonl").write_text(json.dumps({"image": "a.png", "TEXT": "Nothing but black."}) + "\n")
    for stage in ("pretraining", "sft"):
        (folder / f"{stage}.json").write_text(json.dumps(_measured(stage)))
    return folder


def _measured(stage):
    figures = {"examples_per_row": 4, "read_bytes_per_row": 1e6, "cpu_s_per_row": 0.5, "plan_s_per_example": 1e-4}
    settings = {"stage": stage, "data_dir": "DATA"}
    return {"benchmark": "loader", "settings": settings, "figures": figures, "machine": {"processor": "one"}}


@pytest.fixture
def stubbed(monkeypatch, data_dir):
    """No minutes: benchmarks and the demo only read their words; each has tests of its own."""

    def measure(args):
        return Report(**_measured(getattr(args, "stage", "sft")) | {"text": (), "machine": _MACHINE})

    for module in BENCHMARKS.values():
        monkeypatch.setattr(module, "run", measure)
    monkeypatch.setattr(demo, "run", lambda args: 0)
    monkeypatch.setattr(sizing, "_measure", lambda args, stages: [])


_MACHINE = {"processor": "one", "cores": 1, "load_average": 0.0}


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_help_runs_as_it_stands(example, place, stubbed, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(place)
    words = shlex.split(example.partition(" > ")[0])
    if words[0] == "convert":
        words = _without_network(words, tmp_path)
    monkeypatch.delenv("GRAIN_MOLMO_DATA", raising=False)

    assert cli.main(words) == 0, capsys.readouterr().err


def _without_network(words, out):
    """The words of a conversion, of sample rows where the hub would be asked, into a folder of its own."""
    words = [str(out) if before == "--data-dir" else word for before, word in zip(["", *words], words, strict=False)]
    if "--source" in words:
        return words + (["--image-cache", "path/to/datasets/image-cache"] if "my-set" not in words else [])
    return words + ([] if "--sample" in words else ["--sample"]) + ["--rows", "10"]
