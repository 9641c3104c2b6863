"""The cards that `grain-molmo visualize` shows: examples of sets, or the rows of a stage's first batches."""

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from grain_molmo.datasets.base import Dataset
from grain_molmo.datasets.registry import open_dataset
from grain_molmo.errors import MissingSplitError, StoreError
from grain_molmo.loader import make_loader
from grain_molmo.recipes import find_stage
from grain_molmo.stage_changes import customized, with_mixture
from grain_molmo.store import canonical_name, list_converted, resolve_data_dir
from grain_molmo.text.tokenizer import load_tokenizer
from grain_molmo.view.describe import describe_example
from grain_molmo.view.describe_row import describe_packed_row
from grain_molmo.view.model import ExampleCard, RowCard
from grain_molmo.view.row_view import take_row

ALL = "all"
"""Stands for every set of the folder."""


@dataclass(frozen=True)
class Cards:
    """What a page is of.

    Attributes:
        cards: in the order of the page.
        total: how many they will be.
        title, note: what the page says of itself.
    """

    cards: Iterator[ExampleCard | RowCard]
    total: int
    title: str
    note: str


def cards_of_sets(args: argparse.Namespace) -> Cards:
    """Examples of the sets that were named."""
    datasets = _datasets(args)
    chosen = {name: choose_examples(len(dataset), args.num_examples, args.seed) for name, dataset in datasets.items()}
    stage, tokenizer = find_stage(args.as_in, args.recipe), load_tokenizer(args.tokenizer)
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
    total = sum(map(len, chosen.values()))
    there = sum(map(len, datasets.values()))
    stage_words = f"as in stage {stage.name}{_recipe(args)}, {_settings(args)}"
    note = f"{total:,} of {there:,} examples of split {args.split}, {stage_words}."
    return Cards(cards, total, names, note)


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
def cards_of_stage(args: argparse.Namespace) -> Iterator[Cards]:
    """The rows of the first batches of a stage; its loader is closed behind them."""
    stage = customized(find_stage(args.stage, args.recipe), batch_size=args.batch_size)
    if args.mixture:
        stage = with_mixture(stage, args.mixture)
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

    note = f"Packed rows of the first {args.steps} batches{_recipe(args)}, {_settings(args)}."
    try:
        yield Cards(rows(), args.steps * stage.batch_size, f"stage {stage.name}", note)
    finally:
        loader.close()


def _recipe(args: argparse.Namespace) -> str:
    return f" of recipe {args.recipe}" if args.recipe else ""


def _settings(args: argparse.Namespace) -> str:
    return f"tokenizer {args.tokenizer}, seed {args.seed}"
