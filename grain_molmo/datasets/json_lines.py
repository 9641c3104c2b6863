"""Files of one JSON object a line: read in order or line by line at random, shuffled and split with a seed."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from grain_molmo.datasets.base import PathLike
from grain_molmo.errors import ConfigError, ExampleError, StoreError
from grain_molmo.rng import stable_hash
from grain_molmo.text.tokenizer import BYTES, Tokenizer, load_tokenizer

Fields = dict[str, Any]
Builder = Callable[[], Iterable[Mapping[str, Any]]]
_GZIP = b"\x1f\x8b"
_ID_FIELDS = ("qid", "query_id", "id")


class Line(NamedTuple):
    """A line: what to call it in errors, the byte of its file that it begins at (or its number), and its bytes."""

    where: str
    offset: int
    data: bytes


class LineSource:
    """The lines of a file that are not blank, or what a function returns, as JSON; can be read again at random.

    Of a file nothing is kept in memory and none stays open; what a function returns is kept.

    Args:
        path: of a file of one JSON object a line.
        builder: a function, instead; it is called once.

    Attributes:
        name: what to call it.

    Raises:
        ConfigError: neither or both; on iteration, a file that cannot be read or an item that is not JSON.
    """

    def __init__(self, path: PathLike | None, builder: Builder | None):
        if (path is None) == (builder is None):
            raise ConfigError("give either dataset_path, a file of one JSON object a line, or dataset_builder")
        self._path = None if path is None else Path(path).expanduser().absolute()
        self._built = () if builder is None else tuple(_build_lines(builder))
        self.name = "dataset_builder" if path is None else str(path)

    def __iter__(self) -> Iterator[Line]:
        return iter(self._built) if self._path is None else _read_lines(self._path)

    def lines_at(self, offsets: Sequence[int]) -> "LinesAt | tuple[Line, ...]":
        """The lines that have these offsets, by index."""
        if self._path is None:
            return tuple(self._built[offset] for offset in offsets)
        return LinesAt(self._path, np.array(offsets, np.int64))


def _read_lines(path: Path) -> Iterator[Line]:
    try:
        with open(path, "rb") as file:
            if file.peek(2).startswith(_GZIP):
                raise ConfigError(f"{path} is compressed; unpack it, for its lines are read at random")
            offset = 0
            for number, data in enumerate(file, start=1):
                if data.strip():
                    yield Line(f"{path} line {number}", offset, data)
                offset += len(data)
    except OSError as error:
        raise ConfigError(f"dataset_path {path} cannot be read ({error.strerror})") from error


def _build_lines(builder: Builder) -> Iterator[Line]:
    for number, item in enumerate(builder()):
        where = f"dataset_builder item {number}"
        try:
            yield Line(where, number, json.dumps(item).encode())
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{where} cannot be written as JSON ({error})") from error


def parse_line(line: Line) -> Fields:
    """The object of a line. Raises ExampleError (`bad_json`) that names the line."""
    try:
        fields = json.loads(line.data)
    except (ValueError, RecursionError) as error:
        raise ExampleError("bad_json", f"{line.where}: is no JSON ({error})") from error
    if not isinstance(fields, dict):
        raise ExampleError("bad_json", f"{line.where}: is {type(fields).__name__}, it must be an object")
    return fields


@dataclass(frozen=True)
class LinesAt:
    """Lines of a file by where they begin, read when asked for; nothing else is in memory, and no file stays open.

    Args:
        path: of the file.
        offsets_N: [N] int64, bytes.
    """

    path: Path
    offsets_N: np.ndarray

    def __getitem__(self, index: int) -> Line:
        """Line `index`. Raises StoreError if the file is gone."""
        offset = int(self.offsets_N[index])
        try:
            with open(self.path, "rb") as file:
                file.seek(offset)
                return Line(f"{self.path} at byte {offset}", offset, file.readline())
        except OSError as error:
            raise StoreError(f"{self.path} cannot be read any more ({error.strerror})") from error


def shuffled_split(
    ids: Sequence[str], seed: int, split: str = "train", splits: Mapping[str, float] | None = None
) -> list[int]:
    """Indices of a split's items, shuffled.

    Items are ordered by a hash of seed and id: their order in the file does not matter, and where some are added, all
    but a few at the borders stay in the split that they were in.

    >>> parts = {"train": 0.75, "validation": 0.25}
    >>> [len(shuffled_split("abcdefgh", 0, part, parts)) for part in parts]
    [6, 2]

    Args:
        ids: of all items.
        seed: of the order.
        split: which one.
        splits: share of each; what is left of 1 goes nowhere. None: all items are of the split, whatever its name.

    Raises:
        ConfigError: shares that are not positive or sum to more than 1, or no such split.
    """
    order = sorted(range(len(ids)), key=lambda index: (stable_hash("split", seed, ids[index]), ids[index]))
    if splits is None:
        return order
    if not all(share > 0 for share in splits.values()) or math.fsum(splits.values()) > 1 + 1e-9:
        raise ConfigError(f"splits={dict(splits)}: shares must be positive and sum to at most 1")
    if split not in splits:
        raise ConfigError(f"split={split!r}: splits={dict(splits)} has no such part")
    names = list(splits)
    before = [splits[name] for name in names[: names.index(split)]]
    start, stop = (round(math.fsum(shares) * len(order)) for shares in (before, [*before, splits[split]]))
    return order[start:stop]


@dataclass(frozen=True)
class DatasetUtility:
    """What a dataset of prompts is made with, beside its data.

    Attributes:
        seed: of the order and of splits.
        tokenizer: what `load_tokenizer` makes of the argument.
    """

    seed: int
    tokenizer: Tokenizer

    def __init__(self, seed: int = 0, tokenizer: PathLike | Tokenizer = BYTES):
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "tokenizer", load_tokenizer(tokenizer))


def load_shuffle_split_dataset(
    util: DatasetUtility,
    dataset_path: PathLike | None = None,
    dataset_builder: Builder | None = None,
    *,
    split: str = "train",
    splits: Mapping[str, float] | None = None,
) -> list[Fields]:
    """The objects of a JSONL file, or those that a function returns, of one split and shuffled with the seed.

    Every process has all of them: it is the loader that deals the rows of each batch to processes, so that neither
    what is drawn nor what it is called depends on how many there are.

    Args:
        util: its seed decides the order, with the `qid`, `query_id` or `id` of each object, or its place without one.
        dataset_path: a file of one object a line.
        dataset_builder: called once, instead of a path.
        split, splits: see `shuffled_split`.

    Raises:
        ConfigError: neither or both of path and function, a file that cannot be read, an item that is not JSON, no
            such split.
        ExampleError: a line that is no JSON object.
    """
    items = [parse_line(line) for line in LineSource(dataset_path, dataset_builder)]
    ids = [str(next((fields[key] for key in _ID_FIELDS if key in fields), place)) for place, fields in enumerate(items)]
    return [items[index] for index in shuffled_split(ids, util.seed, split, splits)]
