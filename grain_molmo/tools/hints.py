"""What somebody may have meant."""

import argparse
import difflib
import re
from collections.abc import Iterable, Iterator

_FEW = 3


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """The names that are most like a word, the nearest first; '-' and '_' and capitals are alike.

    >>> nearest("Pixmo_Cpa", ["pixmo-cap", "pixmo-points", "molmo2-cap"])
    ['pixmo-cap', 'pixmo-points']
    """
    plain = {_plain(name): name for name in known}
    near = difflib.get_close_matches(_plain(word), plain, n=_FEW, cutoff=0.6)
    begun = [name for name in plain if name not in near and len(word) > 2 and name.startswith(_plain(word))]
    return [plain[name] for name in [*near, *begun][:_FEW]]


def did_you_mean(names: Iterable[str]) -> str:
    """A question, or nothing without names.

    >>> did_you_mean(["--split", "--sample"])
    'did you mean --split or --sample? '
    """
    listed = " or ".join(names)
    return f"did you mean {listed}? " if listed else ""


def usage_hint(parser: argparse.ArgumentParser, message: str) -> str:
    """What to do about an error of argparse, whose message holds the words that it did not understand."""
    meant: list[str] = []
    if found := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
        choices = [choice.strip(" '") for choice in found[2].split(",")]
        meant = nearest(found[1], choices)
    elif message.startswith("unrecognized arguments: "):
        words = message.partition(": ")[2].split()
        options = list(_options(parser))
        meant = [name for word in words if word.startswith("--") for name in nearest(word.partition("=")[0], options)]
    return f"{did_you_mean(meant)}{parser.prog} --help says what there is"


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The long options of a parser and of its subcommands, each once."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from _options(one)
        yield from (option for option in action.option_strings if option.startswith("--"))


def _plain(word: str) -> str:
    return word.lower().replace("_", "-")
