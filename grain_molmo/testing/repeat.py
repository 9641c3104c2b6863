"""Whether an example is a function of its index and the random state, whoever asks for it, and when and where."""

import mmap
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from grain_molmo.datasets.base import Dataset
from grain_molmo.testing.facts import RAISED, RNG, first_difference, shown
from grain_molmo.testing.findings import Finding
from grain_molmo.testing.visits import Visit, revisit, seeded_globally, told, visit


def repeated(dataset: Dataset, known: Visit, seed: int) -> Finding | None:
    """What differs when an example is asked for once more, the process's own random states being other ones."""
    with seeded_globally(seed + 1):
        again = revisit(dataset, known.index, seed)
    cure = "draw what varies from `rng`; no clock, counter, fresh generator or cache may change an example"
    return difference_from("repeat", "at the second visit", cure, known, again)


def asked_backwards(dataset: Dataset, visits: Sequence[Visit], seed: int) -> Iterator[Finding]:
    """What differs when examples are asked for in the opposite order."""
    cure = "keep nothing of one call for the next: an example depends on its index and `rng` alone"
    yield from _compare(dataset, visits[::-1], seed, "order", "in another order", cure)


def pickled_copy(dataset: Dataset) -> Dataset | Finding:
    """A copy by way of pickle, or why there is none."""
    try:
        return pickle.loads(pickle.dumps(dataset))
    except Exception as error:  # whatever an attribute raises
        cure = "define the class at the top of a module, and leave out of __getstate__ what is open or locked"
        return Finding(check="pickling", what=f"it does not pickle{_culprit(dataset)}: {told(error)}", cure=cure)


def asked_of_copy(copy: Dataset, visits: Sequence[Visit], seed: int) -> Iterator[Finding]:
    """What differs in a copy that was made before the dataset was asked for anything."""
    cure = "make examples of what is pickled with the dataset, not of what the process or its class has collected"
    yield from _compare(copy, visits, seed, "pickling", "in a pickled copy", cure)


def asked_after_changes(dataset: Dataset, visits: Sequence[Visit], seed: int) -> Iterator[Finding]:
    """What differs after a caller has changed what it was given. May leave the dataset spoilt: give a copy."""

    def spoil(index: int) -> Visit:
        example, _ = visit(dataset, index, seed)
        _spoil(example)
        return revisit(dataset, index, seed)

    cure = "return copies of what is kept, or keep arrays read-only (array.setflags(write=False))"
    yield from _compare(dataset, visits, seed, "changes", "after a caller changed the example", cure, ask=spoil)


def _compare(
    dataset: Dataset,
    visits: Sequence[Visit],
    seed: int,
    check: str,
    when: str,
    cure: str,
    *,
    ask: Callable[[int], Visit] | None = None,
) -> Iterator[Finding]:
    for known in visits:
        again = ask(known.index) if ask else revisit(dataset, known.index, seed)
        if found := difference_from(check, when, cure, known, again):
            yield found


def difference_from(check: str, when: str, cure: str, known: Visit, again: Visit) -> Finding | None:
    """How an example that was asked for again is another than it was known, if it is."""
    difference = first_difference(known.facts, again.facts)
    if difference is None:
        return None
    place, had, has = difference
    if RAISED in again.facts and RAISED not in known.facts:
        place, what = "", f"get raised {shown(again.facts[RAISED])} {when}"
    elif place == RNG:
        place, what = "", f"get drew more or fewer numbers from `rng` {when}, so what the loader draws next differs"
    else:
        what = f"it is {shown(had)} at first, and {shown(has)} {when}"
    return Finding(check=check, what=what, cure=cure, index=known.index, id=known.id, field=place)


def _culprit(dataset: Dataset) -> str:
    """Which attribute does not pickle, if it is one."""
    for name, value in getattr(dataset, "__dict__", {}).items():
        try:
            pickle.dumps(value)
        except Exception:
            return f" (its attribute {name!r}, {type(value).__name__})"
    return ""


def _spoil(value: Any) -> None:
    """Changes all that can be changed of an example in place, except in files."""
    if isinstance(value, Mapping):
        for inner in value.values():
            _spoil(inner)
        if isinstance(value, dict):
            value.clear()
    elif isinstance(value, list | tuple):
        for inner in value:
            _spoil(inner)
        if isinstance(value, list):
            value.clear()
    elif isinstance(value, np.ndarray):
        if value.flags.writeable and value.dtype.kind in "biufc" and not _is_of_a_file(value):
            value[...] = value == 0
    elif isinstance(value, Image.Image):
        inverted = value.point(lambda level: 255 - level) if value.mode in ("L", "RGB") else 0
        value.paste(inverted, (0, 0, *value.size))


def _is_of_a_file(array: np.ndarray | None) -> bool:
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return isinstance(array, mmap.mmap | memoryview)
