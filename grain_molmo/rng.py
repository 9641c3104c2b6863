"""Random numbers as a function of what an example is, never of where or when it is read."""

import hashlib
import operator

import numpy as np


def stable_hash(*parts: str | int) -> int:
    """64-bit hash of the parts, the same in every process and on every machine.

    >>> stable_hash("shuffle", 7) == stable_hash("shuffle", 7)
    True
    """
    # By value, not by type: numpy's integers and strings are Python's.
    text = "\x1f".join(f"str:{part}" if isinstance(part, str) else f"int:{operator.index(part)}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def example_rng(seed: int, dataset: str, epoch: int, index: int) -> np.random.RandomState:
    """The random state of one example's visit.

    It depends on these four values alone, so adding a dataset, a host or a thread changes no other example's draws.
    (The published pipeline seeds by (index, epoch) only, Molmo2 §8.2, which repeats draws across datasets.)
    """
    entropy = stable_hash("example", seed, dataset, epoch, index)
    return np.random.RandomState(np.random.MT19937(entropy))
