"""The global stream of examples: which example of which dataset comes n-th."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import grain
import numpy as np

from grain_molmo.errors import ConfigError
from grain_molmo.packing.draw import Draw
from grain_molmo.packing.shuffle import ShuffledEpochs
from grain_molmo.packing.weights import normalize_weights
from grain_molmo.rng import stable_hash

logger = logging.getLogger(__name__)

BLOCK = 1024
_MARKS_KEPT = 16


def allocate(targets_D: np.ndarray, slots: int) -> np.ndarray:
    """Whole numbers near the targets that sum to `slots`: [D] int64, none negative.

    Args:
        targets_D: [D] float64, summing to `slots` up to rounding; may be slightly negative.
    """
    counts_D = np.floor(np.maximum(targets_D, 0)).astype(np.int64)
    while (missing := slots - int(counts_D.sum())) != 0:
        lag_D = targets_D - counts_D
        if missing > 0:
            counts_D[np.argsort(-lag_D, kind="stable")[:missing]] += 1
        else:
            positive = counts_D.nonzero()[0]
            counts_D[positive[np.argsort(lag_D[positive], kind="stable")[:-missing]]] -= 1
    return counts_D


class Mark(NamedTuple):
    """A place in a stream from which it goes on at once: where a block begins, and the draws made before it."""

    block: int
    drawn: Mapping[str, int]


class MixedStream(grain.MapDataset):
    """Datasets mixed by exact weight, each shuffled epoch by epoch: item n is the n-th `Draw` of the run.

    In every block of 1,024 draws each dataset gets its exact share, rounded so that the error does not add up from
    block to block, in an order shuffled within the block. (Grain's `mix` turns weights into small integers, which is
    up to 1 % off, and interleaves with a fixed period.) The stream depends on the weights, sizes and seed alone;
    another dataset in the mixture changes when an example comes, never which draws it makes.

    A stream may take over from another one, of other weights: it begins where that one ended, and each dataset goes on
    with its next draw.

    Args:
        weights: by dataset name, any positive scale.
        sizes: number of examples by dataset name.
        seed: the run's.
        start: position of its first draw.
        drawn: draws made before it, by dataset name; none where a name is missing.
        mark: what `mark` of a stream with the same arguments said, to go on there at once; without it the way to a
            position takes some 10 µs for each block before it.

    Raises:
        ConfigError: bad weights, or a dataset without examples.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        sizes: Mapping[str, int],
        seed: int,
        *,
        start: int = 0,
        drawn: Mapping[str, int] | None = None,
        mark: Mark | None = None,
    ):
        super().__init__()
        self.weights = normalize_weights(weights)
        self.start, self.drawn = start, dict(drawn or {})
        self._names = list(self.weights)
        for name in self._names:
            if sizes[name] < 1:
                raise ConfigError(f"mixture: dataset {name!r} has no examples")
        self._weights_D = np.array(list(self.weights.values()))
        self._epochs = [ShuffledEpochs(name, sizes[name], seed) for name in self._names]
        self._seed = seed
        # Blocks are shuffled by their numbers along the run, so that streams of a block or more do not shuffle alike.
        self._first_block = -(-start // BLOCK)
        self._before_D = self._counts(self.drawn)
        # Draws of each dataset before block b of this stream, for some b. Replaced, never changed: threads share it.
        self._starts = {0: self._before_D}
        if mark is not None:
            self._starts = {0: self._before_D, mark.block: self._counts(mark.drawn)}
        self._block: tuple[int, list[int], list[int]] | None = None

    def _counts(self, drawn: Mapping[str, int]) -> np.ndarray:
        return np.array([drawn.get(name, 0) for name in self._names], np.int64)

    def __len__(self) -> int:
        return 2**63 - 1

    def __getitem__(self, position: int | slice) -> Any:
        """The `Draw` at a position, or a dataset of the draws at a slice of them."""
        if isinstance(position, slice):
            return self.slice(position)
        dataset, number = self._at(position)
        epoch, index = self._epochs[dataset][number]
        return Draw(self._names[dataset], epoch, index)

    def numbered(self, position: int) -> tuple[str, int]:
        """The dataset drawn at a position, and which of that dataset's draws of the run it is."""
        dataset, number = self._at(position)
        return self._names[dataset], number

    def drawn_before(self, position: int) -> dict[str, int]:
        """Draws of the run made before a position, by dataset name, those of earlier streams included."""
        block, offset = self._place(position)
        datasets, _ = self._plan(block)
        counts_D = self._start(block) + np.bincount(datasets[:offset], minlength=len(self._names))
        return {**self.drawn, **dict(zip(self._names, counts_D.tolist(), strict=True))}

    def mark(self, position: int) -> Mark:
        """Where the block of a position begins: a stream made with it is at the position at once."""
        block, _ = self._place(position)
        return Mark(block, dict(zip(self._names, self._start(block).tolist(), strict=True)))

    def _place(self, position: int) -> tuple[int, int]:
        """Block of this stream and offset within it."""
        if position < self.start:
            raise IndexError(f"draw {position}: the stream begins at {self.start}")
        return divmod(position - self.start, BLOCK)

    def _at(self, position: int) -> tuple[int, int]:
        """Number of the dataset at a position, and which of its draws."""
        block, offset = self._place(position)
        datasets, draws = self._plan(block)
        return datasets[offset], draws[offset]

    def _block_counts(self, block: int, start_D: np.ndarray) -> np.ndarray:
        return allocate(self._before_D + (block + 1) * BLOCK * self._weights_D - start_D, BLOCK)

    def _start(self, block: int) -> np.ndarray:
        """[D] int64, draws of each dataset before a block, reached from the nearest block before it that is known."""
        starts = self._starts  # one read: another thread may replace it
        if block not in starts:
            known = max(each for each in starts if each <= block)
            start_D = starts[known]
            for each in range(known, block):
                start_D = start_D + self._block_counts(each, start_D)
            recent = sorted(starts)[-_MARKS_KEPT:]
            self._starts = {0: self._before_D, **{each: starts[each] for each in recent}, block: start_D}
            return start_D
        return starts[block]

    def _plan(self, block: int) -> tuple[list[int], list[int]]:
        """Dataset and that dataset's draw number at each position of a block."""
        cached = self._block  # one read: another thread may replace it
        if cached is not None and cached[0] == block:
            return cached[1], cached[2]
        start_D = self._start(block)
        counts_D = self._block_counts(block, start_D)
        entropy = stable_hash("mixture", self._seed, self._first_block + block)
        order = np.random.RandomState(np.random.MT19937(entropy))
        datasets_S = order.permutation(np.repeat(np.arange(len(counts_D)), counts_D))
        draws_S = np.empty(BLOCK, np.int64)
        for dataset, start in enumerate(start_D):
            places = np.flatnonzero(datasets_S == dataset)
            draws_S[places] = start + np.arange(len(places))
        # Lists: one number at a time is read from them, which costs a fraction of reading it from an array.
        datasets, draws = datasets_S.tolist(), draws_S.tolist()
        self._block = (block, datasets, draws)
        return datasets, draws


def log_mixture(weights: Mapping[str, float], sizes: Mapping[str, int], step: int = 0) -> None:
    """Writes the mixture table to the log: from which step on, share and size of each dataset."""
    logger.info("mixture of %d datasets from step %d:", len(weights), step)
    for name, weight in sorted(weights.items(), key=lambda item: -item[1]):
        logger.info("  %6.2f %%  %-32s %12s examples", 100 * weight, name, f"{sizes[name]:,}")
