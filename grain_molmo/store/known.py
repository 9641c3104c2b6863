"""Which shard of a running conversion holds which media: 20 bytes a medium, so that millions are known to a process."""

import threading
from collections.abc import Sequence

import numpy as np

from grain_molmo.store.media import key_halves, split_key


class KnownMedia:
    """Media of the shards that were added, by content hash. Safe to share between threads."""

    def __init__(self) -> None:
        self.shards: set[int] = set()
        self._lock = threading.Lock()
        # Sorted by the first half of the hash; a medium that several shards hold has an entry for each.
        self._high = np.zeros(0, np.uint64)
        self._low = np.zeros(0, np.uint64)
        self._shard = np.zeros(0, np.uint32)

    def add(self, shard: int, keys: Sequence[str]) -> None:
        """Adds what a shard holds; a second time for the same shard changes nothing."""
        with self._lock:
            if shard in self.shards:
                return
            self.shards.add(shard)
            halves = key_halves(sorted(keys))
            places = np.searchsorted(self._high, halves[:, 0])
            self._high, self._low, self._shard = (
                np.insert(self._high, places, halves[:, 0]),
                np.insert(self._low, places, halves[:, 1]),
                np.insert(self._shard, places, np.uint32(shard)),
            )

    def first_shard(self, sha256: str) -> int | None:
        """The first of the shards that hold the medium, or None."""
        high, low = split_key(sha256)
        with self._lock:
            highs, lows, shards = self._high, self._low, self._shard
        start, stop = np.searchsorted(highs, np.uint64(high)), np.searchsorted(highs, np.uint64(high), side="right")
        found = shards[start:stop][lows[start:stop] == np.uint64(low)]
        return int(found.min()) if len(found) else None


def first_mentions(halves_by_shard: Sequence[np.ndarray]) -> list[np.ndarray]:
    """[N] bool for each shard: which of its media no shard before it holds. See `media.key_halves`."""
    halves = np.concatenate([np.zeros((0, 2), np.uint64), *halves_by_shard])
    order = np.lexsort((halves[:, 1], halves[:, 0]))  # stable: of equal ones the first shard's comes first
    again = np.all(halves[order[1:]] == halves[order[:-1]], axis=1)
    is_first = np.ones(len(halves), bool)
    is_first[order[1:][again]] = False
    return np.split(is_first, np.cumsum([len(one) for one in halves_by_shard])[:-1])
