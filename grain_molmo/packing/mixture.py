"""The global stream of examples: which example of which dataset comes n-th."""

import logging
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import grain
import numpy as np

from grain_molmo.errors import ConfigError
from grain_molmo.packing.shuffle import ShuffledEpochs
from grain_molmo.rng import stable_hash

logger = logging.getLogger(__name__)

BLOCK = 1024


class Draw(NamedTuple):
    """One visit of one example: all that its random choices may depend on, beside the run's seed."""

    dataset: str
    epoch: int
    index: int  # pyright: ignore[reportIncompatibleMethodOverride]  (a tuple's method, which nobody calls here)


def normalize_weights(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights that sum to 1, by name in alphabetical order, datasets of weight 0 left out.

    Raises ConfigError for negative, infinite or not-a-number weights, and if none is positive.
    """
    for name, weight in weights.items():
        if not math.isfinite(weight) or weight < 0:
            raise ConfigError(f"mixture: the weight of {name!r} is {weight}; weights are finite and not negative")
    total = math.fsum(weights.values())
    if total <= 0:
        raise ConfigError("mixture: no dataset has a positive weight")
    return {name: weight / total for name, weight in sorted(weights.items()) if weight > 0}


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


class MixedStream(grain.MapDataset):
    """Datasets mixed by exact weight, each shuffled epoch by epoch: item n is the n-th `Draw` of the run.

    In every block of 1,024 draws each dataset gets its exact share, rounded so that the error does not add up from
    block to block, in an order shuffled within the block. (Grain's `mix` turns weights into small integers, which is
    up to 1 % off, and interleaves with a fixed period.) The stream depends on the weights, sizes and seed alone;
    another dataset in the mixture changes when an example comes, never which draws it makes.

    Args:
        weights: by dataset name, any positive scale.
        sizes: number of examples by dataset name.
        seed: the run's.

    Raises:
        ConfigError: bad weights, or a dataset without examples.
    """

    def __init__(self, weights: Mapping[str, float], sizes: Mapping[str, int], seed: int):
        super().__init__()
        self.weights = normalize_weights(weights)
        self._names = list(self.weights)
        for name in self._names:
            if sizes[name] < 1:
                raise ConfigError(f"mixture: dataset {name!r} has no examples")
        self._weights_D = np.array(list(self.weights.values()))
        self._epochs = [ShuffledEpochs(name, sizes[name], seed) for name in self._names]
        self._seed = seed
        # Draws of each dataset before block b. Not a list: two threads may fill in the same block.
        self._starts = {0: np.zeros(len(self._names), np.int64)}
        self._block: tuple[int, list[int], list[int]] | None = None

    def __len__(self) -> int:
        return 2**63 - 1

    def __getitem__(self, position: int | slice) -> Any:
        """The `Draw` at a position, or a dataset of the draws at a slice of them."""
        if isinstance(position, slice):
            return self.slice(position)
        if position < 0:
            raise IndexError(f"draw {position}: the stream begins at 0")
        block, offset = divmod(position, BLOCK)
        datasets, draws = self._plan(block)
        dataset = datasets[offset]
        epoch, index = self._epochs[dataset][draws[offset]]
        return Draw(self._names[dataset], epoch, index)

    def _block_counts(self, block: int) -> np.ndarray:
        return allocate((block + 1) * BLOCK * self._weights_D - self._starts[block], BLOCK)

    def _plan(self, block: int) -> tuple[list[int], list[int]]:
        """Dataset and that dataset's draw number at each position of a block."""
        cached = self._block  # one read: another thread may replace it
        if cached is not None and cached[0] == block:
            return cached[1], cached[2]
        for known in range(len(self._starts) - 1, block):
            self._starts[known + 1] = self._starts[known] + self._block_counts(known)
        counts_D = self._block_counts(block)
        order = np.random.RandomState(np.random.MT19937(stable_hash("mixture", self._seed, block)))
        datasets_S = order.permutation(np.repeat(np.arange(len(counts_D)), counts_D))
        draws_S = np.empty(BLOCK, np.int64)
        for dataset, start in enumerate(self._starts[block]):
            places = np.flatnonzero(datasets_S == dataset)
            draws_S[places] = start + np.arange(len(places))
        # Lists: one number at a time is read from them, which costs a fraction of reading it from an array.
        datasets, draws = datasets_S.tolist(), draws_S.tolist()
        self._block = (block, datasets, draws)
        return datasets, draws


def log_mixture(weights: Mapping[str, float], sizes: Mapping[str, int]) -> None:
    """Writes the mixture table to the log: share, size, and draws until a dataset has been seen once."""
    logger.info("mixture of %d datasets:", len(weights))
    for name, weight in sorted(weights.items(), key=lambda item: -item[1]):
        logger.info("  %6.2f %%  %-32s %12s examples", 100 * weight, name, f"{sizes[name]:,}")
