"""The directive `command-line`: what every command takes, read from the parsers themselves."""

import argparse
import functools
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from grain_molmo.tools.cli import _COMMANDS

_COLUMNS = 90


class CommandLine(SphinxDirective):
    """A section for each command of `grain-molmo`."""

    def run(self) -> list[nodes.Node]:
        """The sections."""
        return [self._command(name, parser) for name, parser in parsers().items()]

    def _command(self, name: str, parser: argparse.ArgumentParser) -> nodes.section:
        section = nodes.section(ids=[nodes.make_id(name)], names=[name])
        section += nodes.title("", "", nodes.literal("", name))
        self.state.document.note_implicit_target(section, section)
        for block in re.split(r"\n\n+", inspect.cleandoc(parser.description or "")):
            section += literal(block) if block.startswith("  ") else nodes.paragraph("", "", *inline(block))
        parser.formatter_class = functools.partial(argparse.RawDescriptionHelpFormatter, width=_COLUMNS)
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
        return [nodes.definition_list("", *items)] if items else []


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command."""
    found = {}
    for name, (module_name, _) in _COMMANDS.items():
        module = importlib.import_module(module_name)
        if name == "convert":
            found[name] = importlib.import_module("converters.arguments").build_parser(f"grain-molmo {name}")
            continue
        found[name] = argparse.ArgumentParser(f"grain-molmo {name}", description=module.__doc__)
        module.add_arguments(found[name])
    return found


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
    """Text with words in backticks as code."""
    for number, part in enumerate(" ".join(text.split()).split("`")):
        yield nodes.literal("", part) if number % 2 else nodes.Text(part)


def literal(text: str) -> nodes.literal_block:
    """A block as on a terminal."""
    block = nodes.literal_block("", inspect.cleandoc(text).rstrip())
    block["language"] = "none"
    return block


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers with Sphinx."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
