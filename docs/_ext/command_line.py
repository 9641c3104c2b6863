"""The directive `command-line`: what every command takes, read from the parsers themselves."""

import argparse
import inspect
import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from grain_molmo.tools.cli import main_parser


class CommandLine(SphinxDirective):
    """A section for each command of `grain-molmo`."""

    def run(self) -> list[nodes.Node]:
        """The sections."""
        commands = subparsers(main_parser(whole=True))
        return [self._command(name, parser) for name, parser in commands.items() if name != "help"]

    def _command(self, name: str, parser: argparse.ArgumentParser) -> nodes.section:
        section = nodes.section(ids=[nodes.make_id(name)], names=[name])
        section += nodes.title("", "", nodes.literal("", name))
        self.state.document.note_implicit_target(section, section)
        for block in re.split(r"\n\n+", inspect.cleandoc(parser.description or "")):
            section += literal(block) if block.startswith("  ") else nodes.paragraph("", "", *inline(block))
        section += literal(parser.format_usage().removeprefix("usage: "))
        for group in parser._action_groups:
            section += self._group(group, parser)
        if parser.epilog:
            section += literal(parser.epilog % {"prog": parser.prog})
        for own_name, own in subparsers(parser).items():
            section += self._command(f"{name} {own_name}", own)
        return section

    def _group(self, group: argparse._ArgumentGroup, parser: argparse.ArgumentParser) -> list[nodes.Node]:
        items = [
            nodes.definition_list_item(
                "",
                nodes.term("", "", nodes.literal("", words(action))),
                nodes.definition("", nodes.paragraph("", "", *inline(said(action, parser)))),
            )
            for action in group._group_actions
            if action.help not in (None, argparse.SUPPRESS) and not isinstance(action, argparse._HelpAction)
            if not isinstance(action, argparse._SubParsersAction)
        ]
        if not items:
            return []
        is_named = group.title not in ("positional arguments", "options")
        title = [nodes.rubric("", str(group.title).capitalize())] if is_named else []
        return [*title, nodes.definition_list("", *items)]


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a command's own commands."""
    return {
        name: own
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, own in action.choices.items()
    }


def words(action: argparse.Action) -> str:
    """What is typed: "NAME...", "--out DIR"."""
    formatter = argparse.HelpFormatter("")
    if not action.option_strings:
        return formatter._format_args(action, formatter._get_default_metavar_for_positional(action))
    value = "" if action.nargs == 0 else formatter._format_args(action, action.dest.upper())
    return " ".join([", ".join(action.option_strings), value]).strip()


def said(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    """The help of an argument, as a terminal would show it."""
    formatter = argparse.HelpFormatter(parser.prog)
    return formatter._expand_help(action)


def inline(text: str) -> Iterator[nodes.Node]:
    """Text with words in backticks, and options, as code."""
    parts = re.split(r"`([^`]+)`|((?<![\w-])--[a-z][\w-]*)", " ".join(text.split()))
    for words, quoted, option in zip_longest(parts[::3], parts[1::3], parts[2::3]):
        yield nodes.Text(words)
        if quoted or option:
            yield nodes.literal("", quoted or option)


def literal(text: str) -> nodes.literal_block:
    """A block as on a terminal."""
    block = nodes.literal_block("", inspect.cleandoc(text).rstrip())
    block["language"] = "none"
    return block


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers with Sphinx."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
