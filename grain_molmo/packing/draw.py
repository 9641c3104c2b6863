"""What the global stream of examples consists of."""

from typing import NamedTuple


class Draw(NamedTuple):
    """One visit of one example: all that its random choices may depend on, beside the run's seed."""

    dataset: str
    epoch: int
    index: int  # pyright: ignore[reportIncompatibleMethodOverride]  (a tuple's method, which nobody calls here)
