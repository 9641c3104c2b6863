"""Tab completion: the scripts, sourced by real shells."""

import shutil
import subprocess

import pytest

from grain_molmo.tools.cli import main

BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shtab_grain_molmo
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The path of the script for a shell."""
    folder = tmp_path_factory.mktemp("completion")

    def write(shell, capsys):
        path = folder / f"completion.{shell}"
        if not path.exists():
            assert main(["completion", shell]) == 0
            path.write_text(capsys.readouterr().out)
        return path

    return write


@pytest.fixture
def complete(script, capsys):
    """What bash offers for the last word of a line."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")

    def complete(line):
        words = ["bash", "-c", BASH, "bash", str(script("bash", capsys)), *line.split(" ")]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()

    return complete


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("grain-molmo ver", ["verify"]),
        ("grain-molmo inspect --num", ["--num-samples"]),
        ("grain-molmo inspect --stage ", ["pretraining", "sft", "long_context"]),
        ("grain-molmo convert pixmo-cap pixmo-clo", ["pixmo-clocks"]),
        ("grain-molmo inspect --data-dir DATA molmo2-videot", ["molmo2-videotrack"]),
        ("grain-molmo bench lo", ["loader"]),
        ("grain-molmo bench loader --stage l", ["long_context"]),
        ("grain-molmo size v5e-8 v5p-5", ["v5p-512"]),
        ("grain-molmo help insp", ["inspect"]),
        ("grain-molmo completion z", ["zsh"]),
    ],
)
def test_bash_completes_commands_options_and_names(complete, line, offered):
    assert complete(line) == offered


def test_bash_completes_folders_where_one_is_wanted_and_files_where_rows_are(complete, tmp_path):
    (tmp_path / "data-of-mine").mkdir()
    (tmp_path / "data-of-mine.parquet").touch()
    assert complete(f"grain-molmo inspect --data-dir {tmp_path}/da") == [f"{tmp_path}/data-of-mine"]
    assert sorted(complete(f"grain-molmo convert --source {tmp_path}/da")) == [
        f"{tmp_path}/data-of-mine",
        f"{tmp_path}/data-of-mine.parquet",
    ]


def test_the_script_of_zsh_is_one(script, capsys):
    path = script("zsh", capsys)
    text = path.read_text()
    assert text.startswith("#compdef grain-molmo")
    assert "pixmo-clocks" in text
    if shutil.which("zsh"):
        subprocess.run(["zsh", "-n", str(path)], check=True)


def test_the_script_of_tcsh_names_the_commands(script, capsys):
    assert "verify" in script("tcsh", capsys).read_text()


def test_another_shell_is_refused(capsys):
    assert main(["completion", "fish"]) == 2
    assert "bash" in capsys.readouterr().err
