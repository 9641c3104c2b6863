"""Packed rows as what the templates write down: segments in percent, and what attends to what as SVG paths."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from grain_molmo.view.drawn import colour_of, percent
from grain_molmo.view.model import ExampleCard, Place, RowCard


@dataclass(frozen=True)
class Segment:
    """An example's part of a bar: start and length in percent, the number of the example in the row, its colour."""

    x: str
    width: str
    number: int
    colour: int
    title: str
    wide: bool


def segments(card: RowCard, what: str, most: int) -> tuple[Segment, ...]:
    """Where the examples lie in a budget of the row: "tokens", "crops" or "pooled"."""
    found: list[Segment] = []
    for number, example, place in _placed(card):
        start, stop = getattr(place, what)
        title = f"{number + 1} {example.dataset} {example.id}: {what} {start:,} to {stop:,} ({stop - start:,})"
        found.append(_segment(start, stop, most, number, title))
    return tuple(found)


def runs(card: RowCard, what: str) -> tuple[Segment, ...]:
    """Runs of tokens of the row's examples: "branches", "visual" or "trained"."""
    found: list[Segment] = []
    for number, example, place in _placed(card):
        for i, (start, stop) in enumerate(getattr(place, what)):
            title = f"{number + 1} {example.dataset}: {_RUNS[what]} {i + 1}, tokens {start:,} to {stop:,}"
            found.append(_segment(start, stop, card.max_tokens, number, title))
    return tuple(found)


_RUNS = {"branches": "branch", "visual": "visual tokens", "trained": "trained tokens"}


def _placed(card: RowCard) -> Iterator[tuple[int, ExampleCard, Place]]:
    for number, example in enumerate(card.examples):
        if example.place is not None:
            yield number, example, example.place


def _segment(start: int, stop: int, most: int, number: int, title: str) -> Segment:
    share = (stop - start) / max(1, most)
    return Segment(percent(start / max(1, most)), percent(share), number, colour_of(number), title, share >= 0.03)


def attention_paths(attention_QK: np.ndarray) -> Mapping[int, str]:
    """SVG paths over a view of n by n that fill the cells where some (1) and where all (2) queries may attend."""
    parts: dict[int, list[str]] = {1: [], 2: []}
    for y, row in enumerate(attention_QK):
        for value, start, stop in _runs_of(row):
            if value in parts:
                parts[value].append(f"M{start} {y}h{stop - start}v1H{start}z")
    return {value: "".join(found) for value, found in parts.items()}


def _runs_of(row: np.ndarray) -> Iterator[tuple[int, int, int]]:
    changes = np.flatnonzero(row[1:] != row[:-1]) + 1
    for start, stop in itertools.pairwise([0, *changes.tolist(), len(row)]):
        if stop > start:
            yield int(row[start]), start, stop
