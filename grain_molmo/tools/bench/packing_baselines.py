"""Two other ways to pack, to compare ours with. They take one example at a time and give at most one row back."""

from collections.abc import Sequence

import numpy as np

from grain_molmo.packing.planner import Waiting

Row = list[Waiting[None]]


class KnapsackPacker:
    """What the published pipeline does (Molmo2 §7.1): a buffer, and the best knapsack of it when it is full.

    Args:
        max_tokens, max_crops: budgets of a row.
        image_weight: what a crop counts where a token counts 1.
        buffer: examples that wait.
    """

    def __init__(self, max_tokens: int, max_crops: int, image_weight: int, buffer: int = 48):
        self._unit = max(1, max_tokens // 512)
        self._capacity = (max_tokens // self._unit, max_crops)
        self._image_weight, self._size = image_weight, buffer
        self._buffer: Row = []

    def add(self, waiting: Waiting[None]) -> Row | None:
        """Adds the next example; a row if the buffer was full or the example fills one alone, else None."""
        if self._quantized(waiting) >= self._capacity[0]:
            return [waiting]
        row = self._take_best() if len(self._buffer) == self._size else None
        self._buffer.append(waiting)
        return row

    def _quantized(self, waiting: Waiting[None]) -> int:
        return -(-waiting.tokens // self._unit)

    def _take_best(self) -> Row:
        sizes = [(self._quantized(waiting), waiting.crops) for waiting in self._buffer]
        values = [waiting.tokens + waiting.crops * self._image_weight for waiting in self._buffer]
        chosen = best_knapsack(sizes, values, self._capacity)
        row = [self._buffer[item] for item in chosen]
        kept = set(chosen)
        self._buffer = [waiting for item, waiting in enumerate(self._buffer) if item not in kept]
        return row


def best_knapsack(sizes: Sequence[tuple[int, int]], values: Sequence[int], capacity: tuple[int, int]) -> list[int]:
    """Items of the highest total value that fit both capacities, the last first; among equals the earlier items."""
    best_TC = np.zeros((capacity[0] + 1, capacity[1] + 1), np.int32)
    improves = np.zeros((len(sizes), *best_TC.shape), bool)
    for item, ((tokens, crops), value) in enumerate(zip(sizes, values, strict=True)):
        with_item_TC = best_TC[: best_TC.shape[0] - tokens, : best_TC.shape[1] - crops] + np.int32(value)
        without_TC = best_TC[tokens:, crops:]
        improves[item, tokens:, crops:] = with_item_TC > without_TC
        without_TC[...] = np.maximum(with_item_TC, without_TC)
    tokens, crops = capacity
    chosen = []
    for item in reversed(range(len(sizes))):
        if improves[item, tokens, crops]:
            chosen.append(item)
            tokens, crops = tokens - sizes[item][0], crops - sizes[item][1]
    return chosen


class FirstFitPacker:
    """The plain way: into the first open row that has room; the oldest row goes when one more would be open.

    Args:
        max_tokens, max_crops: budgets of a row.
        open_rows: rows that may be open.
    """

    def __init__(self, max_tokens: int, max_crops: int, open_rows: int = 32):
        self._budgets, self._open_rows = (max_tokens, max_crops), open_rows
        self._rows: list[Row] = []
        self._left: list[tuple[int, int]] = []  # tokens and crops that each open row has room for

    def add(self, waiting: Waiting[None]) -> Row | None:
        """Adds the next example; a row if one had to go for it, else None."""
        for number, (tokens, crops) in enumerate(self._left):
            if waiting.tokens <= tokens and waiting.crops <= crops:
                self._rows[number].append(waiting)
                self._left[number] = tokens - waiting.tokens, crops - waiting.crops
                return None
        done = None
        if len(self._rows) == self._open_rows:
            done = self._rows.pop(0)
            self._left.pop(0)
        self._rows.append([waiting])
        self._left.append((self._budgets[0] - waiting.tokens, self._budgets[1] - waiting.crops))
        return done
