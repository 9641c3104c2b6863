"""Colours are for terminals: not for files, pipes, JSON, NO_COLOR or dumb terminals."""

import io
import json
import os
import pty
import subprocess
import sys

import pytest

from grain_molmo.tools.cli import main
from grain_molmo.tools.colour import paint


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def colours(monkeypatch):
    """Sets the variables that speak of colours, and no others of them."""

    def use(**variables):
        for name in ("NO_COLOR", "FORCE_COLOR", "ANSI_COLORS_DISABLED"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("TERM", "xterm")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return use


@pytest.mark.parametrize(
    ("stream", "variables", "coloured"),
    [
        (Terminal(), {}, True),
        (io.StringIO(), {}, False),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {"FORCE_COLOR": "1"}, True),
        (Terminal(), {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_who_gets_colours(colours, stream, variables, coloured):
    colours(**variables)
    assert ("\x1b[" in paint("sound", "good", stream)) == coloured
    assert "sound" in paint("sound", "good", stream)


@pytest.mark.parametrize(
    "words", [["inspect"], ["inspect", "pixmo-points"], ["inspect", "--stage", "sft"], ["verify", "--quick"]]
)
def test_json_has_no_colours_even_if_they_are_forced(colours, data_dir, capsys, words):
    colours(FORCE_COLOR="1")
    assert main([*words, "--data-dir", str(data_dir), "--json"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    json.loads(out)


@pytest.mark.parametrize("words", [["inspect"], ["inspect", "pixmo-count"], ["verify", "--quick"]])
def test_colours_say_nothing_that_the_words_do_not(colours, data_dir, capsys, words):
    texts = []
    for variables in ({"FORCE_COLOR": "1"}, {"NO_COLOR": "1"}):
        colours(**variables)
        assert main([*words, "--data-dir", str(data_dir)]) == 0
        texts.append(capsys.readouterr().out)
    coloured, plain = texts
    assert coloured != plain
    for code in ("\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m"):
        coloured = coloured.replace(code, "")
    assert coloured == plain


def test_a_table_fits_the_terminal_and_is_whole_in_a_pipe(data_dir):
    words = [sys.executable, "-m", "grain_molmo", "inspect", "--data-dir", str(data_dir)]
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": "72", "NO_COLOR": "1"}
    with subprocess.Popen(words, stdout=follower, stderr=subprocess.DEVNULL, env=environment) as process:
        os.close(follower)
        shown = b""
        while block := _read(leader):
            shown += block
    os.close(leader)
    piped = subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout

    assert process.returncode == 0
    rows = [line for line in shown.decode().splitlines() if line.startswith("  ") and "  train" in line]
    assert rows
    assert max(map(len, rows)) <= 72
    assert "…" in shown.decode()
    assert "…" not in piped


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux says so when the other side is closed
        return b""
