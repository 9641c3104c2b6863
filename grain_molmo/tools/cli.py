"""`grain-molmo`: one command, a module for each subcommand."""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

from grain_molmo import __version__
from grain_molmo.errors import ConfigError, GrainMolmoError
from grain_molmo.tools.logs import log_to_stderr

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

# Each module has `add_arguments(parser)` and `run(args) -> int`, and is imported when its command is asked for.
_COMMANDS = {
    "demo": ("grain_molmo.tools.demo", "sample data, converted, packed, and a picture of what the model sees"),
    "convert": ("converters.to_arrayrecord", "hub, local or sample rows into the store"),
    "inspect": ("grain_molmo.tools.inspect", "what is in a store, or what would be on the hub"),
    "visualize": ("grain_molmo.tools.visualize", "a page to look at sets, or at a stage's packed rows, in a browser"),
    "index": ("grain_molmo.tools.index", "lengths of a stage's examples, so that plans need not encode them"),
    "verify": ("grain_molmo.tools.verify", "whether a store is sound: checksums, records, references, media"),
    "bench": ("grain_molmo.tools.bench", "how fast this machine reads, decodes, packs and loads"),
    "size": ("grain_molmo.tools.sizing", "what TPU pods need of their hosts, and whether these keep up"),
}

_EPILOG = """\
examples:
  grain-molmo demo --out demo
  grain-molmo convert pixmo-cap --data-dir DATA
  grain-molmo inspect pixmo-cap --data-dir DATA --num-samples 3
  grain-molmo verify --data-dir DATA
  grain-molmo bench loader
  grain-molmo size v5e-16

`grain-molmo COMMAND --help` says more. Exit codes: 0 done, 1 failed, 2 wrong usage.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    _escape_what_the_terminal_lacks()
    try:
        code = _run(words)
        sys.stdout.flush()  # here, where a reader that went away can still be handled
        return code
    except SystemExit as error:  # argparse ends the process; a caller wants the code
        return int(error.code or 0)
    except ConfigError as error:
        return _fail(words[0], error, EXIT_USAGE)
    except BrokenPipeError:  # the reader of our output, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except (GrainMolmoError, OSError) as error:
        return _fail(words[0], error, EXIT_FAILED)
    except KeyboardInterrupt:
        return _fail(words[0], "stopped", EXIT_INTERRUPTED)


def _run(words: Sequence[str]) -> int:
    if not words or words[0] not in _COMMANDS:
        _main_parser().parse_args(words or ["--help"])
        return EXIT_USAGE
    module = importlib.import_module(_COMMANDS[words[0]][0])
    prog = f"grain-molmo {words[0]}"
    if words[0] == "convert":  # a program of its own, which also runs from a checkout
        return module.main(words[1:], prog=prog)
    command = argparse.ArgumentParser(
        prog=prog, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(command)
    args = command.parse_args(words[1:])
    log_to_stderr()
    return module.run(args)


def _main_parser() -> argparse.ArgumentParser:
    """The parser of the line's first word."""
    parser = argparse.ArgumentParser(
        prog="grain-molmo",
        description="Vision-language training data for JAX: convert, look, measure.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"grain-molmo {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (_, summary) in _COMMANDS.items():
        commands.add_parser(name, help=summary, add_help=False)
    return parser


def _escape_what_the_terminal_lacks() -> None:
    """Captions hold any text: what the output's encoding cannot say is escaped, not an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(command: str, problem: object, code: int) -> int:
    """Says in one line what went wrong."""
    print(f"grain-molmo {command}: {' '.join(str(problem).split())}", file=sys.stderr)
    return code
