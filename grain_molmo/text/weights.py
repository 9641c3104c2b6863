"""How much each answer token counts in the loss (Molmo2 §6.3)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from grain_molmo.errors import ConfigError


@dataclass(frozen=True)
class LossWeighting:
    """A rule that gives one weight to all answer tokens of a branch.

    Attributes:
        weight: factor on every token, 0 or more.
        root_length: also 2 / √(answer tokens of the branch), so that a long answer counts more than a short one, but
            not in proportion.
        root_subsegments: also 1 / √(branches) in a message tree.

    Raises:
        ConfigError: a weight below 0, or no finite number.
    """

    weight: float = 1.0
    root_length: bool = False
    root_subsegments: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ConfigError(f"loss weight {self.weight}: must be a finite number, 0 or more")
        object.__setattr__(self, "weight", float(self.weight))

    def token_weight(self, num_answer_tokens: int, num_branches: int = 1) -> float:
        """Weight of each answer token of a branch with `num_answer_tokens` of them, one of `num_branches`.

        >>> round(LossWeighting(root_length=True).token_weight(4), 3)
        1.0
        """
        length_factor = 2 / math.sqrt(num_answer_tokens) if self.root_length else 1.0
        branch_factor = 1 / math.sqrt(num_branches) if self.root_subsegments else 1.0
        return self.weight * length_factor * branch_factor

    def overridden(self, override: "LossWeighting | Mapping[str, Any] | float | None") -> "LossWeighting":
        """This rule with a dataset's own wishes applied.

        A number takes the place of `weight` and keeps the other rules; a mapping replaces the fields that it names with
        something other than None; a `LossWeighting` replaces everything; None changes nothing.

        Args:
            override: one of these.

        Raises:
            ConfigError: a mapping names a field that there is not.
        """
        if override is None:
            return self
        if isinstance(override, LossWeighting):
            return override
        if isinstance(override, Mapping):
            unknown = set(override) - {field.name for field in fields(self)}
            if unknown:
                raise ConfigError(f"loss weighting has no field {', '.join(sorted(map(str, unknown)))}")
            return replace(self, **{key: value for key, value in override.items() if value is not None})
        return replace(self, weight=float(override))


PRETRAINING = LossWeighting()
SFT = LossWeighting(root_length=True, root_subsegments=True)
POINT = LossWeighting(weight=0.2)
"""For the pointing and tracking sets of SFT: their short, regular answers would otherwise outweigh the rest."""
CAPTION = LossWeighting(weight=0.1)
"""For the video captions of SFT, which are very long."""
