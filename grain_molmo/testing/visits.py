"""One call of `get`, remembered by its facts, and what is watched while it runs."""

import contextlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from grain_molmo.datasets.base import Dataset
from grain_molmo.errors import ExampleError
from grain_molmo.rng import example_rng, stable_hash
from grain_molmo.testing.facts import RAISED, RNG, Facts, facts_of, rng_fact


@dataclass(frozen=True)
class Visit:
    """What was returned for an index.

    Attributes:
        index: which example.
        id: its own name, "" without one.
        facts: of the example, and of the random state that it left.
        error: what `get` raised.
    """

    index: int
    id: str
    facts: Facts
    error: Exception | None = None

    @property
    def left_out(self) -> str:
        """Why the dataset wants the example left out, in a word; "" if it does not."""
        return self.error.reason if isinstance(self.error, ExampleError) else ""


def visit(dataset: Dataset, index: int, seed: int) -> tuple[Any, Visit]:
    """Example `index` with the random state that belongs to it, and what to keep of it; raises nothing."""
    rng = example_rng(seed, "check_dataset", 0, index)
    try:
        example = dataset.get(index, rng)
        return example, Visit(index, _id_of(example), {**facts_of(example), RNG: rng_fact(rng)})
    except Exception as error:  # a dataset of the user's own may raise anything
        return None, Visit(index, "", {RAISED: told(error)}, error)


def revisit(dataset: Dataset, index: int, seed: int) -> Visit:
    """What to keep of example `index`, its pixels not among it."""
    return visit(dataset, index, seed)[1]


def _id_of(example: Any) -> str:
    metadata = example.get("metadata") if isinstance(example, Mapping) else None
    own = metadata.get("id") if isinstance(metadata, Mapping) else None
    return "" if own is None else str(own)


def told(error: BaseException) -> str:
    """An exception in a line."""
    return f"{type(error).__name__}: {error}".rstrip(": ")


class GlobalRandom:
    """The random states that a process shares: which of them were drawn from or seeded since this was made."""

    def __init__(self) -> None:
        self._numpy, self._python = _numpy_state(), random.getstate()

    def touched(self) -> str:
        """Its name, "" for none."""
        if _numpy_state() != self._numpy:
            return "np.random"
        return "Python's random" if random.getstate() != self._python else ""


@contextlib.contextmanager
def seeded_globally(seed: int) -> Iterator[GlobalRandom]:
    """Seeds the random states that the process shares, and puts them back as they were."""
    numpy_before, python_before = np.random.get_state(), random.getstate()
    unusual = stable_hash("seeded globally", seed) % 2**32  # for a dataset may seed them with 0 itself
    np.random.seed(unusual)
    random.seed(unusual)
    try:
        yield GlobalRandom()
    finally:
        np.random.set_state(numpy_before)
        random.setstate(python_before)


def _numpy_state() -> tuple[Any, ...]:
    name, key, *rest = np.random.get_state(legacy=True)
    return name, np.asarray(key).tobytes(), *rest
