"""The command line's parsers: help that fits the terminal, with examples, and errors that say what was meant.

A command is a module with a docstring, `add_arguments(parser)` and `run(args) -> int`; it may have

- `EXAMPLES`: pairs of what an example does and the words behind the command, which run as they stand,
- `EXIT_CODES`: by code what it means, where that is more than 0 done, 1 failed, 2 wrong usage.
"""

import argparse
import re
import shutil
import sys
import textwrap
from types import ModuleType
from typing import NoReturn

from grain_molmo.tools.colour import paint
from grain_molmo.tools.hints import usage_hint

EXIT_CODES = {0: "done", 1: "failed", 2: "wrong usage"}
_WIDEST = 120
_TO_BE_TYPED, _GOES_ON = " " * 4, " " * 8


class CommandParser(argparse.ArgumentParser):
    """A parser of a command: its errors are a line, and a hint."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with 2, having said what was wrong and what may have been meant."""
        complain(self.prog, message, usage_hint(self, message))
        self.exit(2)


def complain(prog: str, problem: object, hint: str = "") -> None:
    """Says on standard error in one line what went wrong, and in another what to do."""
    one_line = " ".join(str(problem).split())
    print(f"{paint(f'{prog}:', 'bad', sys.stderr)} {one_line}", file=sys.stderr)
    if hint:
        print(f"{paint('hint:', 'hint', sys.stderr)} {hint}", file=sys.stderr)


def command_parser(module: ModuleType, prog: str) -> CommandParser:
    """The parser of a command, with what its module says about it."""
    parser = CommandParser(prog=prog, formatter_class=HelpFormatter)
    describe(parser, module)
    return parser


def describe(parser: argparse.ArgumentParser, module: ModuleType) -> None:
    """Gives a parser the module's arguments, its docstring as a description, and its examples and exit codes."""
    parser.description = module.__doc__
    module.add_arguments(parser)
    parser.usage = parser.usage or _short_usage(parser)
    parser.epilog = _epilog(parser.prog, module)


def _short_usage(parser: argparse.ArgumentParser) -> str:
    """What comes in which order; the options are listed below it anyway."""
    words = ["%(prog)s"]
    for action in parser._actions:
        if not action.option_strings:
            word = str(action.metavar or action.dest)
            words.append({"*": f"[{word} ...]", "?": f"[{word}]"}.get(str(action.nargs), word))
    return " ".join([*words, "[options]"])


def _epilog(prog: str, module: ModuleType) -> str:
    paragraphs = []
    if examples := getattr(module, "EXAMPLES", ()):
        lines = [line for what, words in examples for line in (f"  {what}:", f"    {prog} {words}".rstrip())]
        paragraphs.append("\n".join(["examples:", *lines]))
    codes = {**EXIT_CODES, **getattr(module, "EXIT_CODES", {})}
    paragraphs.append("exit codes: " + ", ".join(f"{code} {what}" for code, what in sorted(codes.items())) + ".")
    return "\n\n".join(paragraphs)


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Wraps the paragraphs of descriptions to the terminal, but for lines that are indented."""

    def __init__(self, prog: str):
        super().__init__(prog, width=min(_WIDEST, shutil.get_terminal_size().columns) - 2, max_help_position=30)
        self._action_max_length = 14  # argparse forgets that subcommands are indented

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(_fill(paragraph, width, indent) for paragraph in text.strip().split("\n\n"))

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


def _fill(paragraph: str, width: int, indent: str) -> str:
    """The paragraph wrapped; of a list each entry for itself, and nothing that is to be typed."""
    lines: list[str] = []
    for line in paragraph.splitlines():
        goes_on = bool(lines) and (not line.startswith(" ") or line.startswith(_GOES_ON))
        if goes_on and not lines[-1].startswith(_TO_BE_TYPED):
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line)
    return "\n".join(indent + line for each in lines for line in _wrap(each, width - len(indent)))


def _wrap(line: str, width: int) -> list[str]:
    if line.startswith(_TO_BE_TYPED):
        return [line]
    hanging = re.match(r" *(\S+( \S+)* {2,})?", line)
    later = " " * (len(hanging[0]) if hanging else 0)
    return textwrap.wrap(line, width, subsequent_indent=later, break_on_hyphens=False, break_long_words=False)
