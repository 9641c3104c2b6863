"""Shuffled epochs of a dataset by random access."""

import functools
from typing import Any, Protocol, cast

import grain
import numpy as np

from grain_molmo.rng import stable_hash

# Below this a permutation as an array is faster to make and to look up than Grain's index shuffle, which walks its
# cycle many times for small sets.
_ARRAY_UP_TO = 1 << 16


class Order(Protocol):
    """Indices in shuffled order, by position."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> int: ...


def permutation(size: int, seed: int) -> "Order":
    """A permutation of range(size) that depends on the seed alone, by random access.

    Args:
        size: at least 1.
        seed: any non-negative integer.

    Returns:
        An object of length `size`; item i is the i-th of the shuffled indices. For large sizes it takes no memory.
    """
    if size <= _ARRAY_UP_TO:
        # RandomState: its stream is frozen across numpy versions.
        return np.random.RandomState(np.random.MT19937(seed)).permutation(np.arange(size, dtype=np.int32))
    if (size - 1) & (size - 2) == 0:
        # Here Grain's index shuffle repeats one index and misses another (65,537 for one).
        return _OneMore(permutation(size - 1, seed), seed % size)
    return cast(Order, _Indices(size).shuffle(seed=seed % 2**32))


class _OneMore:
    """An order of one more index: the new one, the largest, changes places with the one at `place`."""

    def __init__(self, order: Order, place: int):
        self._order, self._place = order, place

    def __len__(self) -> int:
        return len(self._order) + 1

    def __getitem__(self, position: int) -> int:
        last = len(self._order)
        if position == self._place:
            return last
        return self._order[self._place if position == last else position]


class _Indices(grain.MapDataset):
    """`grain.MapDataset.range(size)` without the bookkeeping, which takes as long as the shuffle itself."""

    def __init__(self, size: int):
        super().__init__()
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        return index


class ShuffledEpochs(grain.MapDataset):
    """(epoch, index) pairs: epoch after epoch of a dataset of `size` examples, each in an order of its own.

    >>> [index for epoch, index in (ShuffledEpochs("pixmo_cap", 3, seed=0)[i] for i in range(3))]  # a permutation
    [2, 0, 1]

    Args:
        name: the dataset's name; two datasets of one size are shuffled differently.
        size: examples in the dataset.
        seed: the run's.
    """

    def __init__(self, name: str, size: int, seed: int):
        super().__init__()
        self._name, self._size, self._seed = name, size, seed
        # Two: a batch can lie across the end of an epoch.
        self._order = functools.lru_cache(maxsize=2)(self._make_order)
        self._indices = functools.lru_cache(maxsize=2)(self._list_indices)

    def _make_order(self, epoch: int) -> Order:
        return permutation(self._size, stable_hash("shuffle", self._seed, self._name, epoch))

    def indices(self, epoch: int) -> np.ndarray:
        """[size] int64, the indices of an epoch in order: all of them in memory, some 3 us each for a large set."""
        return self._indices(epoch)

    def _list_indices(self, epoch: int) -> np.ndarray:
        order = self._order(epoch)
        if isinstance(order, np.ndarray):
            return order.astype(np.int64)
        return np.fromiter((order[position] for position in range(self._size)), np.int64, self._size)

    def __reduce__(self):
        return type(self), (self._name, self._size, self._seed)  # the cache does not pickle

    def __len__(self) -> int:
        return 2**63 - 1  # epochs never end

    def __getitem__(self, draw: int | slice) -> Any:
        """(epoch, index) of the dataset's draw number `draw`, or a dataset of those at a slice of numbers."""
        if isinstance(draw, slice):
            return self.slice(draw)
        epoch, position = divmod(draw, self._size)
        return epoch, int(self._order(epoch)[position])
