"""What a training stage is made of, the presets, and the published recipes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any, cast

from grain_molmo.errors import ConfigError
from grain_molmo.packing.mixture import normalize_weights
from grain_molmo.store import canonical_name
from grain_molmo.text.format import POINT_FORMATS, PROMPT_MODES
from grain_molmo.text.styles import STYLE_MODES
from grain_molmo.text.weights import PRETRAINING, LossWeighting
from grain_molmo.vision.crops import PATCHES_PER_CROP

Mixture = Mapping[str, float] | Sequence[Mapping[str, Any]]

_POOLED_PER_CROP = math.ceil(PATCHES_PER_CROP**0.5 / 2) ** 2


@dataclass(frozen=True, kw_only=True)
class DatasetRule:
    """What a stage does differently for one dataset.

    Attributes:
        loss: overrides the stage's loss weighting, see `LossWeighting.overridden`.
        p_high_res: share of visits that use `high_res_max_crops` (Molmo2 §3.7).
    """

    loss: LossWeighting | Mapping[str, Any] | float | None = None
    p_high_res: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.p_high_res <= 1:
            raise ConfigError(f"p_high_res is {self.p_high_res}, it must be between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Datasets that share a rate, each by the square root of its size (Molmo2 §8.1)."""

    name: str
    rate: float
    datasets: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of training: which data, cut to which lengths, said how.

    Attributes:
        mixture: weight by dataset name, any positive scale; or a list of `{"name": ..., "weight": ...}`.
        groups: instead of `mixture`: groups of datasets with a rate each.
        name: for logs and states.
        split: of every dataset.
        seq_len: tokens a row (T).
        batch_size: rows a global batch (B).
        crops_per_row: crops a row (C), global crops counted.
        max_crops: crops that a picture is cut into at most, its global crop not counted.
        high_res_max_crops: the same for high-resolution visits.
        max_images: pictures an example may have.
        style_mode, prompt_mode, point_format: see `format_example`.
        loss: how much answer tokens count.
        rules: what single datasets do differently.
        waiting: examples that wait to be placed; more fill rows better, wait longer, and take longer to restore.
    """

    mixture: Mixture = field(default_factory=dict)
    groups: tuple[Group, ...] = ()
    name: str = "custom"
    split: str = "train"
    seq_len: int = 4096
    batch_size: int = 256
    crops_per_row: int = 24
    max_crops: int = 8
    high_res_max_crops: int = 24
    max_images: int = 5
    style_mode: str = "style_and_length_v2"
    prompt_mode: str = "none"
    point_format: str = "markup"
    loss: LossWeighting = PRETRAINING
    rules: Mapping[str, DatasetRule] = field(default_factory=dict)
    waiting: int = 48

    def __post_init__(self) -> None:
        if bool(self.mixture) == bool(self.groups):
            raise ConfigError(f"stage {self.name!r}: give a mixture or groups, one of the two")
        if self.mixture:
            object.__setattr__(self, "mixture", normalize_weights(_weights_by_name(self.mixture)))
        object.__setattr__(self, "rules", {canonical_name(name): rule for name, rule in sorted(self.rules.items())})
        for name, rule in self.rules.items():
            if not isinstance(rule, DatasetRule):
                raise ConfigError(f"stage {self.name!r}: the rule of {name!r} is {rule!r}, not a DatasetRule")
        listed = {*self.weights, *(canonical_name(name) for group in self.groups for name in group.datasets)}
        if strangers := self.rules.keys() - listed:
            raise ConfigError(f"stage {self.name!r} has rules for sets that it has not: {', '.join(sorted(strangers))}")
        for key in ("seq_len", "batch_size", "max_crops", "high_res_max_crops", "max_images", "waiting"):
            if not isinstance(getattr(self, key), Integral):
                raise ConfigError(f"stage {self.name!r}: {key} is {getattr(self, key)!r}, it must be a whole number")
            if getattr(self, key) < 1:
                raise ConfigError(f"stage {self.name!r}: {key} is {getattr(self, key)}, it must be at least 1")
        if self.crops_per_row < 2:
            raise ConfigError(f"stage {self.name!r}: crops_per_row is {self.crops_per_row}; a picture takes 2 or more")
        for key, allowed in (
            ("style_mode", STYLE_MODES),
            ("prompt_mode", PROMPT_MODES),
            ("point_format", POINT_FORMATS),
        ):
            if getattr(self, key) not in allowed:
                raise ConfigError(f"stage {self.name!r}: {key}={getattr(self, key)!r}; one of {', '.join(allowed)}")

    @property
    def pooled_per_row(self) -> int:
        """Rows of `token_pooling` (P): a crop pools to 196 tokens at most, and there are no more than the row has."""
        return min(self.seq_len, self.crops_per_row * _POOLED_PER_CROP)

    @property
    def weights(self) -> Mapping[str, float]:
        """The mixture's weights, which sum to 1; empty for a stage of groups."""
        return cast("Mapping[str, float]", self.mixture)

    def rule(self, dataset: str) -> DatasetRule:
        """What holds for the dataset."""
        return self.rules.get(dataset, DatasetRule())


def _weights_by_name(mixture: Mixture) -> dict[str, float]:
    if isinstance(mixture, Mapping):
        entries = list(mixture.items())
    else:
        try:
            entries = [(entry["name"], entry["weight"]) for entry in mixture]
        except (TypeError, KeyError) as error:
            raise ConfigError('mixture: a list holds {"name": ..., "weight": ...} for each dataset') from error
    weights: dict[str, float] = {}
    for name, weight in entries:
        if not isinstance(weight, int | float) or isinstance(weight, bool):
            raise ConfigError(f"mixture: the weight of {name!r} is {weight!r}, not a number")
        if (canonical := canonical_name(name)) in weights:
            raise ConfigError(f"mixture: {name!r} is listed twice")
        weights[canonical] = float(weight)
    return weights


PRETRAINING_STAGE = Stage(
    name="pretraining",
    mixture={"pixmo_cap": 60, "pixmo_points": 25, "pixmo_count": 5, "pixmo_docs": 5, "pixmo_cap_qa": 5},
)

STAGES: dict[str, Stage] = {PRETRAINING_STAGE.name: PRETRAINING_STAGE}

_MOLMO2_PRETRAINING = replace(
    PRETRAINING_STAGE,
    mixture={},
    groups=(
        Group(name="captions", rate=0.6, datasets=("pixmo_cap_with_transcripts",)),
        Group(
            name="pointing",
            rate=0.3,
            datasets=("pixmo_points_train", "pixmo_count_train", "pixmo_points_high_freq_train", "cosyn_point"),
        ),
        Group(name="nlp", rate=0.1, datasets=("tulu4_max_2304",)),
    ),
    seq_len=2536,
    batch_size=128,
    crops_per_row=16,
)

RECIPES: dict[str, dict[str, Stage]] = {"molmo2": {"pretraining": _MOLMO2_PRETRAINING}}
"""The published mixtures with their lengths and batch sizes (Molmo2 §10, datasets §3.4), by recipe and stage."""


def find_stage(stage: str | Stage, recipe: str | None = None) -> Stage:
    """The stage of that name, as the recipe has it.

    Raises ConfigError for an unknown stage or recipe, or a recipe given for a stage of one's own.
    """
    if isinstance(stage, Stage):
        if recipe is not None:
            raise ConfigError(f"recipe {recipe!r} names a published stage; it cannot be applied to a Stage of your own")
        return stage
    if recipe is not None and recipe not in RECIPES:
        raise ConfigError(f"unknown recipe {recipe!r}; known: {', '.join(RECIPES)}")
    known = STAGES if recipe is None else RECIPES[recipe]
    name = canonical_name(stage) if isinstance(stage, str) else None
    if name not in known:
        raise ConfigError(f"unknown stage {stage!r}; known: {', '.join(known)}, or pass a grain_molmo.Stage")
    return known[name]


def group_weights(groups: Sequence[Group], sizes: Mapping[str, int]) -> dict[str, float]:
    """Weights of the datasets that are there: square root of the size within a group, times the group's rate.

    A dataset without a size is left out, so its group's others share its part; a group without any is left out, so
    that the other groups keep their proportions.
    """
    weights: dict[str, float] = {}
    for group in groups:
        roots = {name: math.sqrt(sizes[name]) for name in group.datasets if name in sizes}
        for name, root in roots.items():
            weights[name] = group.rate * root / sum(roots.values())
    return weights
