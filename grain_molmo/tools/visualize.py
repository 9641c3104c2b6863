"""Writes a page to look at in a browser: examples of sets, or the packed rows of a stage as the model gets them.

The page is a folder that opens from a file: pictures with their points, boxes, tracks, crops and visual tokens, videos
as strips, conversations with their loss weights, and of rows what lies where and what attends to what. One filters by
set, searches the text and turns pages by the keyboard. A page that is there is replaced; stopped on the way, nothing of
the new one is left.
"""

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from grain_molmo.errors import ConfigError
from grain_molmo.recipes import RECIPES
from grain_molmo.stages import STAGES
from grain_molmo.tools.arguments import stage_name, weights_by_name, whole_number
from grain_molmo.view.model import MOST_STILLS

if TYPE_CHECKING:
    from grain_molmo.view.page import PageReport

DEFAULT_OUT = "grain-molmo-page"
_MOST_THREADS = 8
_MOST_LINES, _FEWEST_A_LINE = 20, 25
"""Of progress, where no terminal shows a bar: lines in all, and cards from one to the next."""
EXIT_CODES = {130: "stopped by an interrupt"}
EXAMPLES = (
    ("what is in a set", "pixmo-points --data-dir DATA"),
    ("a thousand examples of each of two sets", "pixmo-cap molmo2-cap --num-examples 1000 --data-dir DATA --out page"),
    ("what the model gets in the first rows of a stage", "--stage sft --steps 2 --data-dir DATA"),
    ("the same of a mixture of your own", "--stage pretraining --mixture pixmo-cap=0.7,pixmo-docs=0.3 --data-dir DATA"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    what = parser.add_argument_group("what to show: sets by name, or a stage")
    what.add_argument("names", nargs="*", metavar="NAME", help="sets such as pixmo-points, or all")
    what.add_argument("--split", default="train", metavar="S", help="of the sets (train)")
    what.add_argument(
        "--num-examples", type=whole_number(0), default=200, metavar="N", help="of each set; 0: all (200)"
    )
    what.add_argument(
        "--as-in",
        type=stage_name,
        choices=list(STAGES),
        default="sft",
        metavar="STAGE",
        help="whose prompts, crops and frames (sft)",
    )
    what.add_argument(
        "--stage", type=stage_name, choices=list(STAGES), help="packed rows of this stage instead of sets"
    )
    what.add_argument(
        "--mixture", type=weights_by_name, metavar="SETS", help='of the stage, not its own: "pixmo-cap=0.7,my-set=0.3"'
    )
    what.add_argument("--recipe", choices=list(RECIPES), help="the published stage of that name")
    what.add_argument("--steps", type=whole_number(1), default=4, metavar="N", help="batches of the stage (4)")
    what.add_argument("--batch-size", type=whole_number(1), default=4, metavar="N", help="rows of a batch (4)")
    how = parser.add_argument_group("how")
    how.add_argument("--data-dir", metavar="DIR", help="the store's folder; default: $GRAIN_MOLMO_DATA")
    how.add_argument("--tokenizer", default="bytes", help='file, folder, hub name or "bytes" (bytes)')
    how.add_argument("--seed", type=int, default=0, metavar="N", help="of the choice of examples and of theirs (0)")
    how.add_argument(
        "--max-stills",
        type=whole_number(1),
        default=MOST_STILLS,
        metavar="N",
        help=f"frames of a film ({MOST_STILLS})",
    )
    how.add_argument(
        "--max-side", type=whole_number(16), default=1024, metavar="N", help="pixels of a picture's longer side (1024)"
    )
    how.add_argument("--out", metavar="DIR", default=DEFAULT_OUT, help=f"the page's folder (./{DEFAULT_OUT})")
    how.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(args: argparse.Namespace) -> int:
    """Writes the page and says where it is; the exit code."""
    if bool(args.names) == bool(args.stage):
        raise ConfigError("name sets, or all, or give --stage")
    if args.mixture and not args.stage:
        raise ConfigError("--mixture is of the rows of a stage; name the --stage, too")
    from grain_molmo.tools.cards import (  # here, so that --help needs neither Grain nor JAX
        cards_of_sets,
        cards_of_stage,
    )
    from grain_molmo.view.page import check_out, write_page

    out = Path(args.out).expanduser()
    check_out(out)
    source = cards_of_stage(args) if args.stage else contextlib.nullcontext(cards_of_sets(args))
    with source as shown, _Progress(shown.total) as progress:
        report = write_page(
            out,
            shown.cards,
            title=shown.title,
            note=shown.note,
            max_side=args.max_side,
            threads=min(_MOST_THREADS, os.cpu_count() or 1),
            progress=progress.update,
        )
    _say(shown.title, report, args.json)
    return 0


class _Progress:
    """How far the page is: a bar on a terminal, else a line now and then."""

    def __init__(self, total: int):
        self._total, self._done = total, 0
        self._every = max(_FEWEST_A_LINE, total // _MOST_LINES)
        self._is_terminal = sys.stderr.isatty()
        self._bar = tqdm(total=total, unit=" cards", desc="visualize", disable=not self._is_terminal, leave=False)

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bar.close()

    def update(self, cards: int) -> None:
        """So many more cards are drawn."""
        self._bar.update(cards)
        before, self._done = self._done, self._done + cards
        if not self._is_terminal and self._done // self._every > before // self._every:
            print(f"visualize: {self._done:,} of {self._total:,} cards", file=sys.stderr, flush=True)


def _say(title: str, report: "PageReport", as_json: bool) -> None:
    if as_json:
        found = {"page": str(report.page), "items": report.items, "sets": report.sets, "problems": report.problems}
        print(json.dumps(found))
        return
    problems = f"; {report.problems:,} with a problem, which they say" if report.problems else ""
    print(f"{title}: {report.items:,} cards{problems}\nopen {report.page}")
