"""Weights of a mixture."""

import math
from collections.abc import Mapping

from grain_molmo.errors import ConfigError


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
