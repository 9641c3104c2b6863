"""The plan of an evaluation: every example once, in order, one a row."""

from collections.abc import Mapping
from typing import Any

import grain

from grain_molmo.errors import ConfigError
from grain_molmo.packing.draw import Draw
from grain_molmo.packing.rows import PlannedBatch, PlannedExample, PlanPhase


class EachOnce(grain.IterDataset):
    """Global batches of all examples of some datasets, one dataset after the other; the last is filled with empty rows.

    Example n is in batch n // batch_size, row n % batch_size, whatever the number of hosts. Nothing is known of the
    lengths of examples beforehand. The iterator's state is the step alone.

    Args:
        sizes: number of examples by dataset name, in the order in which they come.
        batch_size: rows a batch.

    Raises:
        ConfigError: there is no example.
    """

    def __init__(self, sizes: Mapping[str, int], batch_size: int):
        super().__init__()
        self.sizes, self.batch_size = dict(sizes), batch_size
        self.num_examples = sum(sizes.values())
        if not self.num_examples:
            raise ConfigError(f"there is nothing to evaluate: {', '.join(sizes) or 'no dataset'} without examples")
        self.weights = {name: size / self.num_examples for name, size in sizes.items()}
        self.phases = (PlanPhase(0, self.weights),)

    @property
    def order(self) -> tuple[str, ...]:
        """The datasets, as they follow each other."""
        return tuple(self.sizes)

    def __len__(self) -> int:
        return -(-self.num_examples // self.batch_size)

    def batch_of(self, step: int) -> PlannedBatch:
        """The batch of a step; rows without an example are empty."""
        first = step * self.batch_size
        numbers = range(first, min(first + self.batch_size, self.num_examples))
        rows = [[PlannedExample(self._draw(number), 0, 0, 0, 0)] for number in numbers]
        padding: list[list[PlannedExample]] = [[] for _ in range(self.batch_size - len(rows))]
        return PlannedBatch(step, rows + padding, [], len(rows))

    def _draw(self, number: int) -> Draw:
        for name, size in self.sizes.items():
            if number < size:
                return Draw(name, 0, number)
            number -= size
        raise IndexError(number)

    def __iter__(self) -> "_EachOnceIterator":
        return _EachOnceIterator(self)


class _EachOnceIterator(grain.DatasetIterator):
    def __init__(self, plan: EachOnce):
        super().__init__()
        self._plan, self._step = plan, 0

    def __next__(self) -> PlannedBatch:
        if self._step >= len(self._plan):
            raise StopIteration
        self._step += 1
        return self._plan.batch_of(self._step - 1)

    def get_state(self) -> dict[str, Any]:
        return {"step": self._step}

    def set_state(self, state: dict[str, Any]) -> None:
        self._step = state["step"]
