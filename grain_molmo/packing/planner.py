"""Which examples share a row, decided by two lengths: tokens and crops. No media is opened to decide it.

A pool holds the examples that wait. Each row starts with the one that has waited longest, so none waits for more rows
than the pool has places; then the oldest that fit, while there is room for several; then the two of the pool that
fill what is left best. Compared with the published two-dimensional knapsack over 48 examples (Molmo2 §7.1) rows are
as full or fuller at a fraction of the time, and nothing waits for thousands of examples.
"""

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

Item = TypeVar("Item")

_FREE = 1 << 28  # tokens of a place without an example: more than fits anywhere


class Waiting(NamedTuple, Generic[Item]):
    """An example in the pool: its place in the stream, its lengths, and whatever the caller keeps with it."""

    position: int
    tokens: int
    crops: int
    item: Item


class RowPacker(Generic[Item]):
    """Turns a stream of lengths into rows.

    Deterministic: rows depend on the examples added and nothing else, and a packer restored with `restore` goes on
    as the one whose `waiting` it was given.

    Args:
        max_tokens: token budget of a row.
        max_crops: crop budget of a row.
        places: how many examples wait; more fill better, wait longer and cost more per row.
    """

    def __init__(self, max_tokens: int, max_crops: int, places: int = 48):
        self._max_tokens, self._max_crops = max_tokens, max_crops
        self._pool: list[Waiting[Item] | None] = [None] * places
        self._free = list(range(places - 1, -1, -1))
        self._by_age: list[int] = []  # places of the examples that wait, the longest waiting first
        self._sum_tokens = self._sum_crops = 0  # of the examples that wait
        # Tokens, crops and value by place. One more than there are places: the last stands for "no example", so that a
        # pair can be one example alone.
        most = 4 * max_tokens * max(1, max_crops)  # the value of two examples that fill a row each
        self._lengths_3N = np.zeros((3, places + 1), np.int32 if most < 2**31 else np.int64)
        self._lengths_3N[0, :places] = _FREE

    @property
    def waiting(self) -> list[Waiting[Item] | None]:
        """The examples that wait, by place; None is a free place."""
        return list(self._pool)

    def restore(self, examples: Sequence[Waiting[Item] | None]) -> None:
        """Fills an empty packer's places as another's were."""
        waiting_by_place = {place: waiting for place, waiting in enumerate(examples) if waiting is not None}
        for place, waiting in sorted(waiting_by_place.items(), key=lambda item: item[1].position):
            self._free.remove(place)
            self._put(place, waiting)

    def discard(self, is_unwanted: Callable[[Item], bool]) -> None:
        """Lets go of examples that wait."""
        for place, waiting in enumerate(self._pool):
            if waiting is not None and is_unwanted(waiting.item):
                self._remove(place)
        self._free.sort(reverse=True)

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
        while self._by_age:
            rows.append(self._take_row())
        return rows

    def _put(self, place: int, waiting: Waiting[Item]) -> None:
        tokens, crops = waiting.tokens, waiting.crops
        self._pool[place] = waiting
        self._by_age.append(place)
        self._sum_tokens += tokens
        self._sum_crops += crops
        lengths_3N = self._lengths_3N
        lengths_3N[0, place] = tokens
        lengths_3N[1, place] = crops
        # How much of a row it fills, both budgets counting alike, as a whole number so that sums are exact.
        lengths_3N[2, place] = tokens * max(1, self._max_crops) + crops * self._max_tokens

    def _take_row(self) -> list[Waiting[Item]]:
        num_waiting = len(self._by_age)
        mean_tokens = self._sum_tokens / num_waiting or 1.0
        mean_crops = self._sum_crops / num_waiting or 1e-9
        tokens, crops = self._max_tokens, self._max_crops
        row: list[Waiting[Item]] = []

        def take(*places: int) -> None:
            nonlocal tokens, crops
            for place in places:
                taken = self._remove(place)
                tokens -= taken.tokens
                crops -= taken.crops
                row.append(taken)

        def room() -> float:
            """About how many more examples fit."""
            return min(tokens / mean_tokens, crops / mean_crops)

        take(self._by_age[0])
        while room() > 2.7 and (oldest := self._oldest_that_fits(tokens, crops)) is not None:
            take(oldest)
        if room() > 1.7:
            take(*self._best_fill(tokens, crops, beside_oldest=True))
        while best := self._best_fill(tokens, crops):
            take(*best)
        # Free places are filled in one order whether the packer was restored or not.
        self._free.sort(reverse=True)
        return sorted(row)

    def _remove(self, place: int) -> Waiting[Item]:
        taken = self._pool[place]
        assert taken is not None
        self._pool[place] = None
        self._by_age.remove(place)
        self._sum_tokens -= taken.tokens
        self._sum_crops -= taken.crops
        self._lengths_3N[0, place] = _FREE
        self._free.append(place)
        return taken

    def _oldest_that_fits(self, tokens: int, crops: int) -> int | None:
        """Place of the example that has waited longest of those that fit into what is left."""
        for place in self._by_age:
            waiting = self._pool[place]
            assert waiting is not None
            if waiting.tokens <= tokens and waiting.crops <= crops:
                return place
        return None

    def _best_fill(self, tokens: int, crops: int, *, beside_oldest: bool = False) -> list[int]:
        """Places of the two examples (or the one) that fill what is left best; [] if none fits.

        Args:
            tokens, crops: what is left.
            beside_oldest: also try the oldest that fits and the best two beside it, if those three fill more.
        """
        fits_N = self._lengths_3N[0] <= tokens
        fits_N &= self._lengths_3N[1] <= crops
        places = fits_N.nonzero()[0]  # the last is "no example"
        nothing = len(places) - 1
        if nothing == 0:
            return []
        lengths_3M = self._lengths_3N.take(places, axis=1)
        pairs_3MM = lengths_3M[:, :, None] + lengths_3M[:, None, :]
        best_value, best = _best_pair(pairs_3MM, tokens, crops)
        if beside_oldest:
            place = self._oldest_that_fits(tokens, crops)
            oldest = int(places.searchsorted(place))
            own_tokens, own_crops, own_value = lengths_3M[:, oldest].tolist()
            value, pair = _best_pair(pairs_3MM, tokens - own_tokens, crops - own_crops, without=oldest)
            if own_value + value > best_value:
                best = (oldest, *pair)
        return [int(places[member]) for member in best if member != nothing]


def _best_pair(
    pairs_3MM: np.ndarray, tokens: int, crops: int, without: int | None = None
) -> tuple[int, tuple[int, int]]:
    """The highest value of a pair within the limits, and the pair.

    Args:
        pairs_3MM: [3, M, M] integers: tokens, crops and value of each pair; the last member is "no example".
        tokens, crops: the limits.
        without: a member that is in no pair.
    """
    over_MM = tokens - pairs_3MM[0]
    over_MM |= crops - pairs_3MM[1]
    over_MM >>= 31  # all bits set where a pair is over a limit, none elsewhere
    num_members = len(over_MM)
    over_MM.reshape(-1)[: -1 : num_members + 1] = -1  # an example is no pair with itself; nothing and nothing is one
    if without is not None:
        over_MM[without] = over_MM[:, without] = -1
    over_MM |= pairs_3MM[2]  # now the value, or -1
    best = int(over_MM.argmax())
    first, second = divmod(best, num_members)
    return int(over_MM[first, second]), (first, second)
