"""Examples that are removed from a run while it goes on: which they are, and what a dataset draws without them.

A dataset's draws are numbered along its shuffled epochs. Without some of its examples it makes the same draws in the
same order but theirs: in the epoch that is under way as in later ones.
"""

import base64
import functools
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from grain_molmo.packing.shuffle import ShuffledEpochs


class ActiveDraws:
    """The draws of a dataset from one of them on, those of removed examples left out.

    Args:
        epochs: all draws.
        removed_N: [N] bool, which examples are removed; not all of them.
        slot: the first visit that this speaks of, counted along the run.
        draw: number of the draw from which on that visit finds its own.
    """

    def __init__(self, epochs: ShuffledEpochs, removed_N: np.ndarray, slot: int, draw: int):
        self.removed_N, self.slot, self.draw = removed_N, slot, draw
        self._num_active = len(removed_N) - int(removed_N.sum())
        self._places = functools.lru_cache(maxsize=2)(lambda epoch: _active_places(epochs, removed_N, epoch))

    @functools.cached_property
    def _before(self) -> int:
        """Draws of active examples before the first, had they been active from the beginning."""
        epoch, offset = divmod(self.draw, len(self.removed_N))
        return epoch * self._num_active + int(np.searchsorted(self._places(epoch), offset))

    def number(self, slot: int) -> int:
        """The draw of a visit."""
        epoch, place = divmod(self._before + slot - self.slot, self._num_active)
        return epoch * len(self.removed_N) + int(self._places(epoch)[place])


def _active_places(epochs: ShuffledEpochs, removed_N: np.ndarray, epoch: int) -> np.ndarray:
    """[n_active] places of an epoch, ascending, at which it visits an example that is not removed."""
    return np.flatnonzero(~removed_N[epochs.indices(epoch)])


@dataclass(frozen=True)
class Removal:
    """Examples that a run removes.

    Attributes:
        step: the first batch without them.
        examples: by dataset, [N] bool.
    """

    step: int
    examples: Mapping[str, np.ndarray]

    @functools.cached_property
    def packed(self) -> list[Any]:
        """JSON to make it again from."""
        return [self.step, {name: pack_mask(removed_N) for name, removed_N in sorted(self.examples.items())}]

    @classmethod
    def unpack(cls, packed: Sequence[Any], sizes: Mapping[str, int]) -> "Removal":
        """The removal that was `packed`, of datasets of these sizes."""
        step, masks = packed
        return cls(step, {name: unpack_mask(mask, sizes[name]) for name, mask in masks.items()})


def filtered_in(state: Mapping[str, Any]) -> set[str]:
    """Names of the datasets of which a plan's state removes examples."""
    return {name for _, examples in state.get("removals", ()) for name in examples}


def union(masks: Iterable[np.ndarray], size: int) -> np.ndarray:
    """[size] bool, what is in any of the masks."""
    return functools.reduce(np.logical_or, masks, np.zeros(size, bool))


def pack_mask(mask_N: np.ndarray) -> str:
    """A mask as text, compressed: some bits an example at most."""
    return base64.b64encode(zlib.compress(np.packbits(mask_N).tobytes(), 9)).decode()


def unpack_mask(text: str, size: int) -> np.ndarray:
    """[size] bool, the mask that `pack_mask` packed."""
    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return np.unpackbits(bits, count=size).astype(bool)
