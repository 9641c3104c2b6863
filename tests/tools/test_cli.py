"""The command line's frame: help, exit codes, and errors that are one line."""

import io
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from grain_molmo import __version__
from grain_molmo.errors import ConfigError, StoreError
from grain_molmo.tools import cli


@pytest.fixture
def command(monkeypatch):
    """A command "try" that does what it is told to."""

    def install(run):
        module = SimpleNamespace(add_arguments=lambda parser: parser.add_argument("--n", type=int), run=run)
        monkeypatch.setitem(sys.modules, "grain_molmo.tools.trial", module)
        monkeypatch.setitem(cli._COMMANDS, "try", ("grain_molmo.tools.trial", "does as told"))

    return install


def failing(error):
    def run(args):
        raise error

    return run


def test_help_lists_every_command(capsys):
    assert cli.main(["--help"]) == 0

    out = capsys.readouterr().out
    assert all(f"\n    {name} " in out for name in cli._COMMANDS)


@pytest.mark.parametrize("name", cli._COMMANDS)
def test_each_command_has_help_that_says_what_it_does(name, capsys):
    assert cli.main([name, "--help"]) == 0

    out = capsys.readouterr().out
    assert out.startswith(f"usage: grain-molmo {name}")
    assert "--json" in out or name in ("bench", "completion")


def test_no_command_shows_the_help(capsys):
    assert cli.main([]) == 0
    assert "convert" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["fly"], ["inspect", "--no-such-option"], ["inspect", "--num-samples", "-1"], ["demo", "--rows", "many"]]
)
def test_wrong_usage_ends_with_2_and_says_what_was_wrong(words, capsys):
    assert cli.main(words) == 2
    assert words[-1] in capsys.readouterr().err


def test_the_version_is_the_package_s(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"grain-molmo {__version__}\n"


def test_a_command_s_exit_code_is_the_program_s(command):
    command(lambda args: args.n)

    assert [cli.main(["try", "--n", str(n)]) for n in (0, 1, 5)] == [0, 1, 5]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("no such thing;\n  try another"), 2),
        (StoreError("shard 3 is damaged"), 1),
        (PermissionError(13, "Permission denied", "/data"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_are_one_line_without_a_traceback(command, capsys, error, code):
    command(failing(error))

    assert cli.main(["try"]) == code

    err = capsys.readouterr().err
    assert err.startswith("grain-molmo try: ")
    assert err.count("\n") == 1


def test_a_bug_keeps_its_traceback(command):
    command(failing(ZeroDivisionError()))

    with pytest.raises(ZeroDivisionError):
        cli.main(["try"])


@pytest.mark.parametrize("words", [["inspect", "pixmo-cats"], ["inspect", "--split", "train"], ["inspect", "a/b"]])
def test_names_that_mean_nothing_are_wrong_usage(words, tmp_path, capsys):
    assert cli.main([*words, "--data-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("grain-molmo inspect: ")


def test_a_folder_that_is_not_there_is_a_failure_with_a_hint(tmp_path, capsys):
    assert cli.main(["inspect", "--data-dir", str(tmp_path / "nowhere")]) == 1
    assert "grain-molmo convert" in capsys.readouterr().err


def test_output_that_the_terminal_cannot_encode_is_escaped(command, monkeypatch):
    terminal = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(terminal, "ascii"))
    command(lambda args: print("漢 \ud800") or 0)

    assert cli.main(["try"]) == 0
    assert terminal.getvalue() == b"\\u6f22 \\ud800\n"


def test_a_reader_that_has_seen_enough_ends_the_program_quietly(data_dir):
    read, write = os.pipe()
    os.close(read)  # as `head` does when it has its lines
    words = [sys.executable, "-m", "grain_molmo", "inspect", "--data-dir", str(data_dir)]
    process = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)

    assert process.returncode == 1
    assert process.stderr == ""


def test_a_program_without_standard_output_still_has_an_exit_code(data_dir):
    command = f'"{sys.executable}" -m grain_molmo verify --quick --data-dir "{data_dir}" >&-'
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_module_runs_as_a_program():
    process = subprocess.run([sys.executable, "-m", "grain_molmo", "fly"], capture_output=True, text=True, check=False)

    assert process.returncode == 2
    assert "there is no command 'fly'" in process.stderr
    assert "Traceback" not in process.stderr
