"""Converts PixMo and Molmo2 sets, or data of your own, into ArrayRecord annotations and a media store.

A conversion that was stopped goes on where it was when the same command is given again. Rows that cannot be converted
are listed with their reasons in DATA/NAME/rejects-SPLIT.jsonl.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # run as a file: Python put this folder on the path, not the checkout that holds it
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from converters.flags import EXAMPLES, EXIT_CODES, add_arguments
from grain_molmo.tools.program import run_command

__all__ = ["EXAMPLES", "EXIT_CODES", "add_arguments", "main", "run"]


def main(argv: Sequence[str] | None = None, prog: str = "to_arrayrecord.py") -> int:
    """Runs the program, which is the same as `grain-molmo convert`; the exit code."""
    return run_command(sys.modules[__name__], argv, prog)


def run(args: argparse.Namespace) -> int:
    """Converts; the exit code."""
    from converters.run import convert  # the work, and what it imports: not for --help

    return convert(args)


if __name__ == "__main__":
    sys.exit(main())
