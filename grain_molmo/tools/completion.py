"""Prints a script that lets the shell complete commands, options, and names of sets, stages and pods.

The script holds all names, so that completing takes no time; print it anew after an update. Where it goes depends on
the shell: the examples are for bash with bash-completion and for zsh with a folder of its own; tcsh reads it with
`eval`.
"""

import argparse
from collections.abc import Iterator, Mapping

EXAMPLES = (
    ("bash, for each new shell", "bash > ~/.local/share/bash-completion/completions/grain-molmo"),
    ("zsh, in a folder that is in $fpath before compinit runs", "zsh > ~/.zfunc/_grain-molmo"),
    ("tcsh", "tcsh > ~/.grain-molmo.tcsh"),
)

# By metavar, what the shell itself completes; names of functions in the scripts that shtab writes.
_FILES: Mapping[str, str] = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
_FOLDERS: Mapping[str, str] = {"bash": "_shtab_compgen_dirs", "zsh": "_files -/", "tcsh": "d"}
_COMPLETED = {"DIR": _FOLDERS, "FILE": _FILES, "HUB_OR_PATH": _FILES, "SOURCE": _FILES}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "tcsh"), help="bash, zsh or tcsh")


def run(args: argparse.Namespace) -> int:
    """Prints the script; the exit code."""
    import shtab

    from grain_molmo.tools.cli import main_parser

    parser = main_parser(whole=True)
    names = _names_by_metavar()
    for action in _actions(parser):
        metavar = action.metavar if isinstance(action.metavar, str) else ""
        if metavar in _COMPLETED:
            action.complete = _COMPLETED[metavar]  # type: ignore[attr-defined]  # what shtab looks for
        elif metavar in names and action.choices is None:
            action.choices = names[metavar]
    print(shtab.complete(parser, args.shell))
    return 0


def _names_by_metavar() -> dict[str, list[str]]:
    """What there is to name, where anything else may be given, too."""
    import tpu_configs  # the command line alone reaches to the pods' files
    from converters.sets import SETS
    from grain_molmo.datasets.registry import dataset_names

    sets = dict.fromkeys(name.replace("_", "-") for name in (*SETS, *dataset_names()))
    return {"NAME": list(sets), "POD": tpu_configs.names()}


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All arguments of a parser and of its subcommands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
