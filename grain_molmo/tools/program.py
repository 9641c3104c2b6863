"""Runs a command from its words to its exit code: errors are lines for people, never tracebacks."""

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from grain_molmo.errors import ConfigError, GrainMolmoError
from grain_molmo.tools.logs import log_to_stderr
from grain_molmo.tools.parser import command_parser, complain

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def run_command(module: ModuleType, words: Sequence[str] | None, prog: str) -> int:
    """Runs a command's module (see `grain_molmo.tools.parser`); the exit code.

    Args:
        module: the command.
        words: of the command line, behind the command's name; default the program's own.
        prog: what it was called by.
    """

    def work() -> int:
        args = command_parser(module, prog).parse_args(words)
        log_to_stderr()
        return module.run(args)

    return run_safely(work, prog)


def run_main(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int], words: Sequence[str] | None
) -> int:
    """The same for a program with a parser of its own."""
    return run_safely(lambda: run(parser.parse_args(words)), parser.prog)


def run_safely(work: Callable[[], int], prog: str) -> int:
    """The exit code of the work, or of what it fails with; of that says in a line what went wrong."""
    _escape_what_the_terminal_lacks()
    try:
        code = work()
        if sys.stdout is not None:  # nor is it there for a program that is started with it closed
            sys.stdout.flush()  # here, where a reader that went away can still be handled
        return code
    except SystemExit as error:  # argparse ends the process; a caller wants the code
        return int(error.code or 0)
    except BrokenPipeError:  # the reader of our output, `head` for one, has seen enough
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except (GrainMolmoError, OSError) as error:
        complain(prog, error, getattr(error, "hint", ""))
        return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED
    except ImportError as error:
        if "pip install" not in str(error):  # a bug, not an extra that is missing
            raise
        complain(prog, error)
        return EXIT_FAILED
    except KeyboardInterrupt:
        complain(prog, "stopped")
        return EXIT_INTERRUPTED


def _escape_what_the_terminal_lacks() -> None:
    """Captions hold any text: what the output's encoding cannot say is escaped, not an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
