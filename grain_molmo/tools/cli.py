"""`grain-molmo`: one command, a module for each subcommand."""

import importlib
import sys
from collections.abc import Sequence

from grain_molmo import __version__
from grain_molmo.tools.colour import paint
from grain_molmo.tools.hints import did_you_mean, nearest
from grain_molmo.tools.parser import CommandParser, HelpFormatter, complain, describe
from grain_molmo.tools.program import EXIT_USAGE, run_command, run_safely

PROG = "grain-molmo"

# Each module is as `grain_molmo.tools.parser` says, and is imported when its command is asked for.
_COMMANDS = {
    "demo": ("grain_molmo.tools.demo", "sample data, converted, packed, and a picture of what the model sees"),
    "convert": ("converters.to_arrayrecord", "hub, local or sample rows into the store"),
    "inspect": ("grain_molmo.tools.inspect", "what is in a store or a stage, or what would be on the hub"),
    "visualize": ("grain_molmo.tools.visualize", "a page to look at sets, or at a stage's packed rows, in a browser"),
    "index": ("grain_molmo.tools.index", "lengths of a stage's examples, so that plans need not encode them"),
    "verify": ("grain_molmo.tools.verify", "whether a store is sound: checksums, records, references, media"),
    "bench": ("grain_molmo.tools.bench", "how fast this machine reads, decodes, packs and loads"),
    "size": ("grain_molmo.tools.sizing", "what TPU pods need of their hosts, and whether these keep up"),
    "completion": ("grain_molmo.tools.completion", "a script that lets the shell complete these words"),
}

_EPILOG = """\
`grain-molmo help COMMAND` says more, with examples. Names of sets and stages take '-' and '_' alike.

exit codes: 0 done, 1 failed, 2 wrong usage.
"""

_START = (
    ("a first look, half a minute, no network", ("demo",)),
    ("which sets there are", ("inspect",)),
    ("a thousand rows of one, with their pictures", ("convert pixmo-cap --max-rows 1000 --data-dir DATA",)),
    ("what is in them", ("inspect pixmo-cap --data-dir DATA", "visualize pixmo-cap --data-dir DATA")),
    ("all commands", ("--help",)),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    return run_safely(lambda: _run(words), PROG)


def _run(words: Sequence[str]) -> int:
    match list(words):
        case []:
            print(_start())
            return 0
        case ["help", *topics]:
            return _run([*topics, "--help"])
        case [name, *rest] if name in _COMMANDS:
            return run_command(importlib.import_module(_COMMANDS[name][0]), rest, f"{PROG} {name}")
        case [name, *_] if not name.startswith("-"):
            meant = did_you_mean(f"{PROG} {known}" for known in nearest(name, _COMMANDS))
            complain(PROG, f"there is no command {name!r}", f"{meant}{PROG} --help lists them")
            return EXIT_USAGE
        case _:
            main_parser().parse_args(words)
            return EXIT_USAGE


def main_parser(*, whole: bool = False) -> CommandParser:
    """The parser of the line's first word, or of all words: the commands' modules are imported for these."""
    parser = CommandParser(
        prog=PROG,
        usage="%(prog)s COMMAND ...",
        description="Vision-language training data for JAX: convert, look, measure.",
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    commands = parser.add_subparsers(title="commands", prog=PROG, metavar="COMMAND", required=True)
    for name, (module, summary) in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, add_help=whole, formatter_class=HelpFormatter)
        if whole:
            describe(command, importlib.import_module(module))
    commands.add_parser("help", help="what a command does and takes", add_help=False).add_argument(
        "topics", nargs="*", metavar="COMMAND", choices=list(_COMMANDS) if whole else None
    )
    return parser


def _start() -> str:
    """What somebody reads who gives no words."""
    lines = ["Vision-language training data for JAX: PixMo and Molmo2 as ArrayRecord, packed and mixed by Grain."]
    for what, commands in _START:
        known = [words for words in commands if words.partition(" ")[0] in (*_COMMANDS, "--help")]
        lines += ["", paint(f"{what}:", "heading"), *(f"  {PROG} {words}" for words in known)]
    return "\n".join(lines)
