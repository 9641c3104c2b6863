"""Help as a terminal shows it: what is wrapped, what stays as it is to be typed, and what comes in which order."""

import argparse
from types import ModuleType

import pytest

from grain_molmo.tools.hints import nearest, usage_hint
from grain_molmo.tools.parser import command_parser, complain

DOC = """Does a thing.

A paragraph that is much longer than a narrow terminal is wide, so that it has to be wrapped somewhere.
  one         an entry of a list, which is told at such length that it goes on in a line of its own
        and goes on here
  two         another

    grain-molmo thing --with a line to be typed --that-is longer than a narrow terminal is wide
"""


@pytest.fixture
def module() -> ModuleType:
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("names", nargs="*", help="which")
        parser.add_argument("out", nargs="?", metavar="OUT", help="where")
        parser.add_argument("--some-option", help="a long-winded explanation-of-an-option that goes on and on-and-on")

    made = ModuleType("thing", DOC)
    made.add_arguments = add_arguments
    made.EXAMPLES = [("one that needs no words", ""), ("all of it", "a b")]
    made.EXIT_CODES = {3: "half done"}
    return made


def lines_of(module, monkeypatch, columns: int) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    return command_parser(module, "grain-molmo thing").format_help().splitlines()


@pytest.mark.parametrize(("columns", "widest"), [(60, 58), (80, 78), (500, 118)])
def test_help_is_as_wide_as_the_terminal_but_no_wider_than_one_reads(module, monkeypatch, columns, widest):
    lines = [line for line in lines_of(module, monkeypatch, columns) if "to be typed" not in line]

    assert max(map(len, lines)) <= widest
    assert max(map(len, lines)) > min(widest, 100) - 15


def test_what_is_to_be_typed_stays_in_one_line_and_entries_of_a_list_hang(module, monkeypatch):
    lines = lines_of(module, monkeypatch, 60)

    typed = "    grain-molmo thing --with a line to be typed --that-is longer than a narrow terminal is wide"
    assert typed in lines
    first, second = (
        next(i for i, line in enumerate(lines) if line.startswith(f"  {name} ")) for name in ("one", "two")
    )
    entry = lines[first:second]
    assert len(entry) > 1
    assert all(line.startswith(" " * 14) and line[14] != " " for line in entry[1:])
    assert " ".join(" ".join(entry).split()).endswith("of its own and goes on here")


def test_usage_says_what_may_be_left_out_and_the_end_how_it_can_end(module, monkeypatch):
    lines = lines_of(module, monkeypatch, 80)

    assert lines[0] == "usage: grain-molmo thing [names ...] [OUT] [options]"
    assert lines[-1] == "exit codes: 0 done, 1 failed, 2 wrong usage, 3 half done."
    start = lines.index("examples:")
    assert lines[start + 1 : start + 5] == [
        "  one that needs no words:",
        "    grain-molmo thing",
        "  all of it:",
        "    grain-molmo thing a b",
    ]


def test_a_problem_of_several_lines_is_told_in_one_and_the_hint_in_another(capsys):
    complain("prog", "first\n  second", "do that")
    complain("prog", "no hint")

    assert capsys.readouterr().err.splitlines() == ["prog: first second", "hint: do that", "prog: no hint"]


def test_an_option_with_its_value_is_answered_with_the_option(module):
    parser = command_parser(module, "prog")

    hint = usage_hint(parser, "unrecognized arguments: --sme-option=a-very-long-value some_options")

    assert hint == "did you mean --some-option? prog --help says what there is"


def test_no_more_names_are_offered_than_one_reads_and_none_twice():
    assert nearest("set-1", [f"set-{i}" for i in range(9)])[0] == "set-1"
    assert len(nearest("set", [f"set-of-very-many-{i}" for i in range(9)])) == 3
    assert nearest("mol", ["molmo", "molmo-of-a-longer-name"]) == ["molmo", "molmo-of-a-longer-name"]
