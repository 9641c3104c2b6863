"""The units of a source: millions of them in arrays, each an object only when it is asked for."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows that are converted together: one row, or all rows of a picture or video.

    Attributes:
        id: unique within the set.
        rows: indices of the rows, in source order.
    """

    id: str
    rows: tuple[int, ...]


class Units:
    """The units of a source split, by number.

    Args:
        names: UTF-8 of all names, one after the other.
        name_ends: [N] where each name ends.
        again: of units that share their name with one before, which of them they are: 2, 3 and so on.
        rows: [R] source rows, those of a unit together.
        lengths: [N] rows of each unit.
        splits: names of splits.
        split_of: [N] which of them each unit belongs to.
    """

    def __init__(
        self,
        names: bytes,
        name_ends: np.ndarray,
        again: dict[int, int],
        rows: np.ndarray,
        lengths: np.ndarray,
        splits: list[str],
        split_of: np.ndarray,
    ):
        self.lengths = lengths
        self._names, self._name_ends, self._again = names, name_ends, again
        self._rows, self._row_ends = rows, np.cumsum(lengths)
        self._splits, self._split_of = splits, split_of

    def __getitem__(self, number: int) -> Unit:
        name = _name(self._names, self._name_ends, number)
        times = self._again.get(number, 1)
        end = int(self._row_ends[number])
        rows = self._rows[end - int(self.lengths[number]) : end]
        return Unit(name if times == 1 else f"{name}.{times}", tuple(rows.tolist()))

    def by_split(self) -> Iterator[tuple[str, np.ndarray]]:
        """(split, numbers of its units in order), the split with the first row first."""
        for number, split in enumerate(self._splits):
            yield split, np.flatnonzero(self._split_of == number)

    def num_rows(self, numbers: np.ndarray) -> int:
        """Source rows of some units."""
        return int(self.lengths[numbers].sum())


class UnitsBuilder:
    """Takes the rows of a source split in order."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, int] = {}
        self._unit_of_row = array("q")
        self._rows = array("q")
        self._names = bytearray()
        self._name_ends = array("q")
        self._hashes = array("q")
        self._splits: dict[str, int] = {}
        self._split_of = array("l")

    def add_row(self, row: int, key: str | None) -> bool:
        """Adds a row to the unit of its key, None for one of its own; False if the unit is new and needs a name."""
        number = len(self._name_ends)
        if key is not None:
            digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            number = self._by_key.setdefault(digest, number)
        self._rows.append(row)
        self._unit_of_row.append(number)
        return number < len(self._name_ends)

    def name_unit(self, split: str, name: str) -> None:
        """Puts the unit of the row just added into a split."""
        encoded = name.encode("utf-8", "surrogatepass")
        self._names += encoded
        self._name_ends.append(len(self._names))
        self._hashes.append(hash(encoded))
        self._split_of.append(self._splits.setdefault(split, len(self._splits)))

    def build(self) -> Units:
        """The units of all rows."""
        names, ends = bytes(self._names), np.array(self._name_ends, np.int64)
        unit_of_row = np.array(self._unit_of_row, np.int64)
        order = np.argsort(unit_of_row, kind="stable")
        return Units(
            names,
            ends,
            _repeated(names, ends, np.array(self._hashes, np.int64)),
            np.array(self._rows, np.int64)[order],
            np.bincount(unit_of_row, minlength=len(ends)),
            list(self._splits),
            np.array(self._split_of, np.int64),
        )


def _repeated(names: bytes, ends: np.ndarray, hashes: np.ndarray) -> dict[int, int]:
    """Of units whose name occurred before: the how manieth they are, or the next number that no other name ends in."""
    known, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    seen: Counter[str] = Counter()
    again: dict[int, int] = {}
    for number in np.flatnonzero(counts[inverse] > 1).tolist():
        name = _name(names, ends, number)
        seen[name] += 1
        if seen[name] > 1:
            while _is_known(known, f"{name}.{seen[name]}"):
                seen[name] += 1
            again[number] = seen[name]
    return again


def _is_known(hashes: np.ndarray, name: str) -> bool:
    wanted = hash(name.encode("utf-8", "surrogatepass"))
    at = int(np.searchsorted(hashes, wanted))
    return at < len(hashes) and int(hashes[at]) == wanted


def _name(names: bytes, ends: np.ndarray, number: int) -> str:
    begin = int(ends[number - 1]) if number else 0
    return names[begin : int(ends[number])].decode("utf-8", "surrogatepass")
