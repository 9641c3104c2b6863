"""Which examples share a row, decided by two lengths: tokens and crops. No media is opened to decide it.

A pool holds the examples that wait. Each row starts with the one that has waited longest, so none waits for more rows
than the pool has places; then the oldest that fit, while there is room for several; then the two of the pool that
fill what is left best. Compared with the published two-dimensional knapsack over 48 examples (Molmo2 §7.1) rows are
as full or fuller at a fraction of the time, and nothing waits for thousands of examples.
"""

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

Item = TypeVar("Item")

_FREE = 1 << 28  # tokens of a place without an example: more than fits anywhere
_OLDEST_TRIED = 1


class Waiting(NamedTuple, Generic[Item]):
    """An example in the pool: its place in the stream, its lengths, and whatever the caller keeps with it."""

    position: int
    tokens: int
    crops: int
    item: Item


class RowPacker(Generic[Item]):
    """Turns a stream of lengths into rows.

    Deterministic: rows depend on the examples added and nothing else, and a packer restored with `restore` goes on
    as the one whose `places` it was given.

    Args:
        max_tokens: token budget of a row.
        max_crops: crop budget of a row.
        places: how many examples wait; more fill better, wait longer and cost more per row.
    """

    def __init__(self, max_tokens: int, max_crops: int, places: int = 48):
        self._max_tokens, self._max_crops = max_tokens, max_crops
        self._pool: list[Waiting[Item] | None] = [None] * places
        self._free = list(range(places - 1, -1, -1))
        # One more than there are places: the last stands for "no example", so that a pair can be one example alone.
        self._tokens_N = np.full(places + 1, _FREE, np.int32)
        self._crops_N = np.zeros(places + 1, np.int32)
        self._value_N = np.zeros(places + 1, np.int64)
        self._position_N = np.zeros(places + 1, np.int64)
        self._tokens_N[places] = 0
        self._places = places

    @property
    def places(self) -> list[int]:
        """Stream positions of the examples that wait, by place; -1 is a free place."""
        return [waiting.position if waiting else -1 for waiting in self._pool]

    def restore(self, examples: Sequence[Waiting[Item] | None]) -> None:
        """Fills an empty packer's places as another's were."""
        for place, waiting in enumerate(examples):
            if waiting is not None:
                self._free.remove(place)
                self._put(place, waiting)

    def add(self, waiting: Waiting[Item]) -> list[Waiting[Item]] | None:
        """Adds the next example of the stream; returns a row, in stream order, when the pool is full, else None.

        Raises ValueError for an example that fits no row, or has no token.
        """
        if not (0 < waiting.tokens <= self._max_tokens and 0 <= waiting.crops <= self._max_crops):
            raise ValueError(f"an example of {waiting.tokens} tokens and {waiting.crops} crops fits no row")
        self._put(self._free.pop(), waiting)
        return None if self._free else self._take_row()

    def drain(self) -> list[list[Waiting[Item]]]:
        """Rows of what still waits, for a stream that ends."""
        rows = []
        while len(self._free) < self._places:
            rows.append(self._take_row())
        return rows

    def _put(self, place: int, waiting: Waiting[Item]) -> None:
        self._pool[place] = waiting
        self._tokens_N[place] = waiting.tokens
        self._crops_N[place] = waiting.crops
        # How much of a row it fills, both budgets counting alike, as a whole number so that sums are exact.
        self._value_N[place] = waiting.tokens * max(1, self._max_crops) + waiting.crops * self._max_tokens
        self._position_N[place] = waiting.position

    def _take_row(self) -> list[Waiting[Item]]:
        waiting = self._tokens_N[:-1] < _FREE
        num_waiting = self._places - len(self._free)
        mean_tokens = int(self._tokens_N[:-1][waiting].sum()) / num_waiting or 1.0
        mean_crops = int(self._crops_N[:-1][waiting].sum()) / num_waiting or 1e-9
        tokens, crops = self._max_tokens, self._max_crops
        row: list[Waiting[Item]] = []

        def take(*places: int) -> None:
            nonlocal tokens, crops
            for place in places:
                taken = self._pool[place]
                assert taken is not None
                self._pool[place] = None
                self._tokens_N[place] = _FREE
                tokens -= taken.tokens
                crops -= taken.crops
                row.append(taken)
                self._free.append(place)

        def room() -> float:
            """About how many more examples fit."""
            return min(tokens / mean_tokens, crops / mean_crops)

        take(int(self._oldest_first(tokens, crops)[0]))
        while room() > 2.7 and len(fitting := self._oldest_first(tokens, crops)):
            take(int(fitting[0]))
        if room() > 1.7:
            take(*self._best_three(tokens, crops))
        while pair := self._best_pair(tokens, crops)[1]:
            take(*pair)
        # Free places are filled in one order whether the packer was restored or not.
        self._free.sort(reverse=True)
        return sorted(row)

    def _oldest_first(self, tokens: int, crops: int) -> np.ndarray:
        """Places whose example fits into what is left, the longest waiting first."""
        fits = (self._tokens_N[:-1] <= tokens) & (self._crops_N[:-1] <= crops)
        places = fits.nonzero()[0]
        return places[self._position_N[places].argsort()]

    def _best_pair(self, tokens: int, crops: int) -> tuple[int, tuple[int, ...]]:
        """The value of the two examples (or the one) that fill what is left best, and their places; none fits: ()."""
        fits = self._tokens_N <= tokens
        fits &= self._crops_N <= crops
        places = fits.nonzero()[0]  # the last is "no example"
        if len(places) == 1:
            return 0, ()
        tokens_M, crops_M, value_M = self._tokens_N[places], self._crops_N[places], self._value_N[places]
        possible_MM = np.add.outer(tokens_M, tokens_M) <= tokens
        possible_MM &= np.add.outer(crops_M, crops_M) <= crops
        possible_MM.reshape(-1)[:: len(places) + 1] = False  # an example is no pair with itself
        value_MM = np.add.outer(value_M, value_M)
        value_MM *= possible_MM
        first, second = divmod(int(value_MM.argmax()), len(places))
        best = tuple(int(places[place]) for place in (first, second) if place != len(places) - 1)
        return int(value_MM[first, second]), best

    def _best_three(self, tokens: int, crops: int) -> tuple[int, ...]:
        """Places of the best pair, or of one of the oldest and the best pair beside it, whichever fills more."""
        best_value, best = self._best_pair(tokens, crops)
        for place in self._oldest_first(tokens, crops)[:_OLDEST_TRIED]:
            own_tokens = self._tokens_N[place]
            self._tokens_N[place] = _FREE  # it cannot be in its own pair
            value, pair = self._best_pair(tokens - int(own_tokens), crops - int(self._crops_N[place]))
            self._tokens_N[place] = own_tokens
            value += int(self._value_N[place])
            if value > best_value:
                best_value, best = value, (int(place), *pair)
        return best
