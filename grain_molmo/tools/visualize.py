"""Writes a page to look at in a browser: examples of sets, or the packed rows of a stage as the model gets them.

The page is a folder that opens from a file: pictures with their points, boxes, tracks, crops and visual tokens, videos
as strips, conversations with their loss weights, and of rows what lies where and what attends to what. One filters by
set, searches the text and turns pages by the keyboard. A page that is there is replaced. Exit codes: 0 done, 1 failed,
2 wrong usage, 130 stopped, and then nothing is left.

examples:
  grain-molmo visualize pixmo-points --data-dir DATA
  grain-molmo visualize pixmo-cap molmo2-cap --num-examples 1000 --data-dir DATA --out page
  grain-molmo visualize --stage sft --steps 2 --data-dir DATA
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from grain_molmo.datasets.base import Dataset
from grain_molmo.datasets.registry import open_dataset
from grain_molmo.errors import ConfigError, MissingSplitError, StoreError
from grain_molmo.loader import make_loader
from grain_molmo.recipes import RECIPES, find_stage
from grain_molmo.stages import STAGES, customized
from grain_molmo.store import canonical_name, list_converted, resolve_data_dir
from grain_molmo.text.tokenizer import load_tokenizer
from grain_molmo.tools.arguments import whole_number
from grain_molmo.view.describe import MOST_STILLS, describe_example
from grain_molmo.view.describe_row import describe_packed_row
from grain_molmo.view.model import ExampleCard, RowCard
from grain_molmo.view.page import PageReport, check_out, write_page
from grain_molmo.view.row_view import take_row

DEFAULT_OUT = "grain-molmo-page"
ALL = "all"
_MOST_THREADS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    what = parser.add_argument_group("what to show: sets by name, or a stage")
    what.add_argument("names", nargs="*", metavar="NAME", help=f"sets such as pixmo-points, or {ALL!r}")
    what.add_argument("--split", default="train", metavar="S", help="of the sets (train)")
    what.add_argument(
        "--num-examples", type=whole_number(0), default=200, metavar="N", help="of each set; 0: all (200)"
    )
    what.add_argument(
        "--as-in", choices=list(STAGES), default="sft", metavar="STAGE", help="whose prompts, crops and frames (sft)"
    )
    what.add_argument("--stage", choices=list(STAGES), help="show packed rows of this stage instead of sets")
    what.add_argument("--recipe", choices=list(RECIPES), help="the published stage of that name")
    what.add_argument("--steps", type=whole_number(1), default=4, metavar="N", help="batches of the stage (4)")
    what.add_argument("--batch-size", type=whole_number(1), default=4, metavar="N", help="rows of a batch (4)")
    how = parser.add_argument_group("how")
    how.add_argument("--data-dir", metavar="DIR", help="the store's folder; default: $GRAIN_MOLMO_DATA")
    how.add_argument("--tokenizer", default="bytes", help='file, folder, hub name or "bytes" (bytes)')
    how.add_argument("--seed", type=int, default=0, metavar="N", help="of the choice of examples and of theirs (0)")
    how.add_argument(
        "--max-stills", type=whole_number(1), default=MOST_STILLS, metavar="N", help=f"of a video ({MOST_STILLS})"
    )
    how.add_argument(
        "--max-side", type=whole_number(16), default=1024, metavar="N", help="pixels of a picture's longer side (1024)"
    )
    how.add_argument("--out", metavar="DIR", default=DEFAULT_OUT, help=f"the page's folder (./{DEFAULT_OUT})")
    how.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(args: argparse.Namespace) -> int:
    """Writes the page and says where it is; the exit code."""
    if bool(args.names) == bool(args.stage):
        raise ConfigError(f"name sets, or {ALL!r}, or give --stage")
    out = Path(args.out).expanduser()
    check_out(out)
    with _cards_of_stage(args) if args.stage else contextlib.nullcontext(_cards_of_sets(args)) as shown:
        bar = tqdm(total=shown.total, unit=" cards", desc="visualize", disable=not sys.stderr.isatty(), leave=False)
        with bar:
            report = write_page(
                out,
                shown.cards,
                title=shown.title,
                note=shown.note,
                max_side=args.max_side,
                threads=min(_MOST_THREADS, os.cpu_count() or 1),
                progress=bar.update,
            )
    _say(report, shown, args.json)
    return 0


@dataclass(frozen=True)
class _Shown:
    """What a page is of: its cards, how many they will be, and what it says of itself."""

    cards: Iterator[ExampleCard | RowCard]
    total: int
    title: str
    note: str


def _cards_of_sets(args: argparse.Namespace) -> _Shown:
    """Examples of the sets that were named."""
    datasets = _datasets(args)
    chosen = {name: choose_examples(len(dataset), args.num_examples, args.seed) for name, dataset in datasets.items()}
    stage, tokenizer = find_stage(args.as_in), load_tokenizer(args.tokenizer)
    counts = [f"{name}: {len(chosen[name]):,} of {len(dataset):,}" for name, dataset in datasets.items()]
    cards = (
        describe_example(
            dataset,
            index,
            name=name,
            stage=stage,
            tokenizer=tokenizer,
            max_stills=args.max_stills,
            seed=args.seed,
        )
        for name, dataset in datasets.items()
        for index in chosen[name]
    )
    names = ", ".join(datasets) if len(datasets) <= 3 else f"{len(datasets)} sets"
    examples = f"{counts[0]} examples. " if len(datasets) == 1 else ""
    note = f"{examples}Split {args.split}, as in stage {stage.name}, tokenizer {args.tokenizer}, seed {args.seed}."
    return _Shown(cards, sum(map(len, chosen.values())), names, note)


def choose_examples(available: int, wanted: int, seed: int) -> Sequence[int]:
    """Indices to show, ascending: so many at random, or all if 0 are wanted or there are no more.

    >>> list(choose_examples(3, 0, 0)), len(choose_examples(100, 7, 0))
    ([0, 1, 2], 7)
    """
    if not 0 < wanted < available:
        return range(available)
    return sorted(np.random.default_rng(seed).choice(available, wanted, replace=False).tolist())


def _datasets(args: argparse.Namespace) -> dict[str, Dataset]:
    """The sets that were named, or all that the folder has of that split."""
    if args.names != [ALL]:
        names = dict.fromkeys(map(canonical_name, args.names))
        return {name: open_dataset(name, args.split, args.data_dir) for name in names}
    data_dir = resolve_data_dir(args.data_dir)
    found: dict[str, Dataset] = {}
    for name in list_converted(data_dir):
        with contextlib.suppress(MissingSplitError):
            found[name] = open_dataset(name, args.split, data_dir)
    if not found:
        raise StoreError(f"{data_dir} has no set with a split {args.split!r}; `grain-molmo inspect` says what it has")
    return found


@contextlib.contextmanager
def _cards_of_stage(args: argparse.Namespace) -> Iterator[_Shown]:
    """The rows of the first batches of a stage."""
    stage = customized(find_stage(args.stage, args.recipe), batch_size=args.batch_size)
    tokenizer = load_tokenizer(args.tokenizer)
    loader = make_loader(stage, data_dir=args.data_dir, tokenizer=tokenizer, seed=args.seed)

    def rows() -> Iterator[RowCard]:
        for step in range(args.steps):
            batch = next(loader)
            for number, infos in enumerate(loader.batch_info.rows if loader.batch_info else ()):
                yield describe_packed_row(
                    take_row(batch, number),
                    infos,
                    stage,
                    tokenizer,
                    step=step,
                    number=number,
                    max_stills=args.max_stills,
                )

    recipe = f", recipe {args.recipe}" if args.recipe else ""
    note = f"Packed rows of the first {args.steps} batches{recipe}, tokenizer {args.tokenizer}, seed {args.seed}."
    try:
        yield _Shown(rows(), args.steps * stage.batch_size, f"stage {stage.name}", note)
    finally:
        loader.close()


def _say(report: PageReport, shown: _Shown, as_json: bool) -> None:
    if as_json:
        found = {"page": str(report.page), "items": report.items, "sets": report.sets, "problems": report.problems}
        print(json.dumps(found))
        return
    problems = f"; {report.problems:,} with a problem, which they say" if report.problems else ""
    print(f"{shown.title}: {report.items:,} cards{problems}\nopen {report.page}")
