"""What a training stage is made of, and the presets."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import Any, cast

from grain_molmo.errors import ConfigError
from grain_molmo.packing.weights import normalize_weights
from grain_molmo.store import canonical_name
from grain_molmo.text.format import POINT_FORMATS, PROMPT_MODES
from grain_molmo.text.styles import STYLE_MODES
from grain_molmo.text.weights import CAPTION, POINT, PRETRAINING, SFT, LossWeighting
from grain_molmo.vision.crops import PATCHES_PER_CROP

Mixture = Mapping[str, float] | Sequence[Mapping[str, Any]]
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_LEAST = {
    **dict.fromkeys(("seq_len", "batch_size", "max_crops", "high_res_max_crops", "max_images", "waiting"), 1),
    "crops_per_row": 0,
    "max_frames": 0,
}
"""The fields of a stage that are whole numbers, and the least that each may be."""

KINDS = ("train", "prompts", "features")

_POOLED_PER_CROP = math.ceil(PATCHES_PER_CROP**0.5 / 2) ** 2


def as_paths(paths: Paths) -> tuple[str | os.PathLike[str], ...]:
    """One path or several, as several."""
    return (paths,) if isinstance(paths, str | os.PathLike) else tuple(paths)


@dataclass(frozen=True, kw_only=True)
class DatasetRule:
    """What a stage does differently for one dataset.

    Attributes:
        loss: overrides the stage's loss weighting, see `LossWeighting.overridden`.
        p_high_res: share of visits that use `high_res_max_crops`, 0 to 1 (Molmo2 §3.7).

    Raises:
        ConfigError: a share out of that range.
    """

    loss: LossWeighting | Mapping[str, Any] | float | None = None
    p_high_res: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.p_high_res <= 1:
            raise ConfigError(f"p_high_res is {self.p_high_res}, it must be between 0 and 1")
        # Plain numbers of numpy's, here and below: what a float32 comes to with others depends on numpy's version.
        object.__setattr__(self, "p_high_res", float(self.p_high_res))


@dataclass(frozen=True)
class Member:
    """A dataset of a group.

    Attributes:
        name: of the dataset.
        size: counts as its number of examples, whatever that is; below 1, as that share of it; 0 is the same as 1.
        factor: multiplies the square root of the size.

    Raises:
        ConfigError: a size below 0, or a factor that is not above 0.
    """

    name: str
    size: float | None = None
    factor: float = 1.0

    def __post_init__(self) -> None:
        if not (self.size is None or 0 <= self.size < math.inf) or not 0 < self.factor < math.inf:
            raise ConfigError(f"member {self.name!r}: size={self.size}, factor={self.factor}; they must be positive")
        object.__setattr__(self, "size", None if self.size is None else float(self.size))
        object.__setattr__(self, "factor", float(self.factor))

    def term(self, num_examples: int) -> float:
        """Its part of the group, of `num_examples` that it has, before the parts are made to sum to 1 (Molmo2 §8.1)."""
        if self.size is None:
            size: float = num_examples
        else:
            size = self.size * num_examples if 0 < self.size < 1 else max(1, self.size)
        return math.sqrt(size) * self.factor


@dataclass(frozen=True, kw_only=True)
class Group:
    """Datasets that share a rate, each by the square root of its size unless a `Member` says otherwise (Molmo2 §8.1).

    Attributes:
        name: for logs.
        rate: share of what is drawn, in proportion to the other groups'; above 0.
        datasets: names, or a `Member` for one with a size or factor of its own.
    """

    name: str
    rate: float
    datasets: tuple[str | Member, ...]

    @property
    def members(self) -> tuple[Member, ...]:
        """The datasets, by their names in the registry."""
        listed = (one if isinstance(one, Member) else Member(one) for one in self.datasets)
        return tuple(replace(member, name=canonical_name(member.name)) for member in listed)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What a stage draws from a step on: other weights, other datasets, or the same without some examples.

    What was drawn before and waits for a row still comes, in one of the next rows (at most as many as `Stage.waiting`).
    Each dataset goes on with its next example, whatever it shared the mixture with before; one that is new begins its
    first epoch, and one that comes again goes on where it was.

    Attributes:
        step: the first global batch that is drawn this way.
        mixture, groups: as of a `Stage`; neither: those of the phase before.
        exclude: quarantine files of examples to leave out from here on, see `FaultPolicy`.

    Raises:
        ConfigError: a step below 0, both a mixture and groups, a mixture with args, or nothing that changes.
    """

    step: int
    mixture: Mixture = field(default_factory=dict)
    groups: tuple[Group, ...] = ()
    exclude: Sequence[str | os.PathLike[str]] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.step, Integral) or self.step < 0:
            raise ConfigError(f"a phase begins at step {self.step!r}; it must be a whole number, not below 0")
        object.__setattr__(self, "step", int(self.step))
        if self.mixture and self.groups:
            raise ConfigError(f"the phase from step {self.step}: give a mixture or groups, not both")
        if self.step and not (self.mixture or self.groups or self.exclude):
            raise ConfigError(f"the phase from step {self.step} changes nothing: give a mixture, groups or exclude")
        if self.mixture:
            weights, args = _weights_and_args(self.mixture)
            if args:
                names = ", ".join(args)
                raise ConfigError(f"the phase from step {self.step} has args of {names}; give Stage(dataset_args=...)")
            object.__setattr__(self, "mixture", normalize_weights(weights))
        object.__setattr__(self, "exclude", as_paths(self.exclude))

    @property
    def weights(self) -> Mapping[str, float]:
        """The mixture's weights, which sum to 1; empty for groups."""
        return cast("Mapping[str, float]", self.mixture)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of training: which data, cut to which lengths, said how.

    Attributes:
        mixture: weight by dataset name, any positive scale; or a list of `{"name": ..., "weight": ...}`, each with
            `"args"` if it needs some, which then are in `dataset_args`.
        groups: instead of `mixture`: groups of datasets with a rate each.
        phases: what changes at a later step.
        name: for logs.
        kind: "train": examples to learn from; "prompts": each ends before its last answer, for a model to go on, and
            nothing is learned; "features": labelled features, for probes, of which the fields below say nothing.
        split: of every dataset.
        seq_len: tokens a row (T).
        batch_size: rows a global batch (B).
        crops_per_row: crops a row (C), global crops counted; 0 for a stage of text alone.
        max_crops: crops that a picture is cut into at most, its global crop not counted.
        high_res_max_crops: the same for high-resolution visits.
        max_images: pictures an example may have.
        max_frames: frames that a video is shown in at most; 0 for a stage without video.
        max_fps: frames a second at most; longer videos are shown in `max_frames` evenly spaced ones.
        style_mode, prompt_mode, point_format: see `format_example`.
        loss: how much answer tokens count.
        rules: what single datasets do differently.
        dataset_args: keyword arguments by dataset name, with which it is made. They may differ where a run goes on.
        waiting: examples that wait to be placed; more fill rows better, wait longer, and take longer to restore.

    Raises:
        ConfigError: neither a mixture nor groups or both, phases out of order, rules or arguments for sets that are not
            in it, an unknown kind or mode, or a number out of its range. The message names the stage and the field.
    """

    mixture: Mixture = field(default_factory=dict)
    groups: tuple[Group, ...] = ()
    phases: tuple[Phase, ...] = ()
    name: str = "custom"
    kind: str = "train"
    split: str = "train"
    seq_len: int = 4096
    batch_size: int = 256
    crops_per_row: int = 24
    max_crops: int = 8
    high_res_max_crops: int = 24
    max_images: int = 5
    max_frames: int = 0
    max_fps: float = 2.0
    style_mode: str = "style_and_length_v2"
    prompt_mode: str = "none"
    point_format: str = "markup"
    loss: LossWeighting = PRETRAINING
    rules: Mapping[str, DatasetRule] = field(default_factory=dict)
    dataset_args: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    waiting: int = 48

    def __post_init__(self) -> None:
        if bool(self.mixture) == bool(self.groups):
            raise ConfigError(f"stage {self.name!r}: give a mixture or groups, one of the two")
        args = _args_by_name(self.dataset_args)
        if self.mixture:
            weights, listed_args = _weights_and_args(self.mixture)
            object.__setattr__(self, "mixture", normalize_weights(weights))
            if twice := args.keys() & listed_args.keys():
                raise ConfigError(f"stage {self.name!r}: args of {min(twice)!r} are in its mixture and in dataset_args")
            args |= listed_args
        object.__setattr__(self, "dataset_args", dict(sorted(args.items())))
        object.__setattr__(self, "phases", tuple(self.phases))
        steps = [0, *(phase.step for phase in self.phases)]
        if steps != sorted(set(steps)):
            order = "the first after 0, each after the one before"
            raise ConfigError(f"stage {self.name!r}: phases begin at steps {steps[1:]}; {order}")
        object.__setattr__(self, "rules", {canonical_name(name): rule for name, rule in sorted(self.rules.items())})
        for name, rule in self.rules.items():
            if not isinstance(rule, DatasetRule):
                raise ConfigError(f"stage {self.name!r}: the rule of {name!r} is {rule!r}, not a DatasetRule")
        listed = {name for phase in self.all_phases for name in phase.weights}
        listed |= {member.name for phase in self.all_phases for group in phase.groups for member in group.members}
        for what, named in (("rules", self.rules), ("dataset_args", self.dataset_args)):
            if strangers := named.keys() - listed:
                names = ", ".join(sorted(strangers))
                raise ConfigError(f"stage {self.name!r} has {what} for sets that it has not: {names}")
        self._check_numbers()
        for key, allowed in (
            ("kind", KINDS),
            ("style_mode", STYLE_MODES),
            ("prompt_mode", PROMPT_MODES),
            ("point_format", POINT_FORMATS),
        ):
            if getattr(self, key) not in allowed:
                raise ConfigError(f"stage {self.name!r}: {key}={getattr(self, key)!r}; one of {', '.join(allowed)}")

    def _check_numbers(self) -> None:
        """Raises ConfigError for a number that cannot be, and makes plain ones of numpy's: the state compares them."""
        for key, least in _LEAST.items():
            value = getattr(self, key)
            if not isinstance(value, Integral):
                raise ConfigError(f"stage {self.name!r}: {key} is {value!r}, it must be a whole number")
            if value < least:
                raise ConfigError(f"stage {self.name!r}: {key} is {value}, it must be at least {least}")
            object.__setattr__(self, key, int(value))
        if self.crops_per_row == 1:
            raise ConfigError(f"stage {self.name!r}: crops_per_row is 1; a picture takes at least two, text none")
        if self.max_frames > self.crops_per_row:
            room = f"a row has room for {self.crops_per_row} frames (crops_per_row)"
            raise ConfigError(f"stage {self.name!r}: max_frames is {self.max_frames}; {room}")
        if not isinstance(self.max_fps, Real) or not 0 < self.max_fps < math.inf:
            raise ConfigError(f"stage {self.name!r}: max_fps is {self.max_fps!r}, it must be a number above 0")
        object.__setattr__(self, "max_fps", float(self.max_fps))

    @property
    def pooling_width(self) -> int:
        """Patches pooled into a visual token at most: windows of 2 x 2 of pictures, of 3 x 3 of frames."""
        return 9 if self.max_frames else 4

    @property
    def pooled_per_row(self) -> int:
        """Rows of `token_pooling` (P): a crop pools to 196 tokens at most, and there are no more than the row has."""
        return min(self.seq_len, self.crops_per_row * _POOLED_PER_CROP)

    @property
    def weights(self) -> Mapping[str, float]:
        """The mixture's weights, which sum to 1; empty for a stage of groups."""
        return cast("Mapping[str, float]", self.mixture)

    @property
    def all_phases(self) -> tuple[Phase, ...]:
        """What is drawn from step 0, and what changes later; each with its mixture or groups, named or not."""
        phases = [Phase(step=0, mixture=self.mixture, groups=self.groups)]
        for phase in self.phases:
            kept = phases[-1]
            same = {} if phase.mixture or phase.groups else {"mixture": kept.mixture, "groups": kept.groups}
            phases.append(replace(phase, **same))
        return tuple(phases)

    def rule(self, dataset: str) -> DatasetRule:
        """What holds for the `dataset` of that name."""
        return self.rules.get(dataset, DatasetRule())


def _weights_and_args(mixture: Mixture) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """The weights of a mixture, and the arguments that a list gives, both by dataset name."""
    if isinstance(mixture, Mapping):
        entries = [{"name": name, "weight": weight} for name, weight in mixture.items()]
    else:
        entries = list(mixture)
    weights: dict[str, float] = {}
    args: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        if not isinstance(entry, Mapping) or not {"name", "weight"} <= entry.keys() <= {"name", "weight", "args"}:
            raise ConfigError(
                f'mixture: a list holds {{"name": ..., "weight": ..., "args": {{...}}}}, not {entry!r:.80}'
            )
        name, weight = entry["name"], entry["weight"]
        if not isinstance(weight, int | float) or isinstance(weight, bool):
            raise ConfigError(f"mixture: the weight of {name!r} is {weight!r}, not a number")
        if (canonical := canonical_name(name)) in weights:
            raise ConfigError(f"mixture: {name!r} is listed twice")
        weights[canonical] = float(weight)
        if entry.get("args") is not None:
            args[canonical] = entry["args"]
    return weights, _args_by_name(args)


def _args_by_name(args: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    for name, own in args.items():
        if not isinstance(own, Mapping) or not all(isinstance(key, str) for key in own):
            raise ConfigError(f"args of dataset {name!r} are {own!r:.80}, not a dict of keyword arguments")
    return {canonical_name(name): dict(own) for name, own in args.items()}


PRETRAINING_STAGE = Stage(
    name="pretraining",
    mixture={"pixmo_cap": 60, "pixmo_points": 25, "pixmo_count": 5, "pixmo_docs": 5, "pixmo_cap_qa": 5},
)

POINTING_RULE = DatasetRule(loss=POINT, p_high_res=0.3)
"""For sets of SFT that point at things in pictures: their answers are short and regular, their objects small."""

SFT_STAGE = Stage(
    name="sft",
    # Our own shares, for the published ones are of 118 sets: pointing at and tracking in videos about as much as there
    # (13.6 % each), questions about videos most, captions and several pictures least.
    mixture={
        "molmo2_cap": 10,
        "molmo2_videocapqa": 20,
        "molmo2_videosubtitleqa": 12,
        "molmo2_askmodelanything": 12,
        "molmo2_videopoint": 14,
        "molmo2_videotrack": 14,
        "molmo2_multiimageqa": 6,
        "molmo2_synmultiimageqa": 6,
        "molmo2_multiimagepoint": 6,
    },
    seq_len=16_384,
    batch_size=128,
    crops_per_row=128,
    max_frames=128,
    style_mode="demo_or_style_v2",
    prompt_mode="uber_model_v2",
    loss=SFT,
    rules={
        "molmo2_cap": DatasetRule(loss=CAPTION),
        "molmo2_videopoint": DatasetRule(loss=POINT),
        "molmo2_videotrack": DatasetRule(loss=POINT),
        "molmo2_multiimagepoint": POINTING_RULE,
    },
)

LONG_CONTEXT_STAGE = replace(SFT_STAGE, name="long_context", seq_len=36_864, crops_per_row=384, max_frames=384)

STAGES: dict[str, Stage] = {stage.name: stage for stage in (PRETRAINING_STAGE, SFT_STAGE, LONG_CONTEXT_STAGE)}


def group_weights(groups: Sequence[Group], sizes: Mapping[str, int]) -> dict[str, float]:
    """Weights of the datasets that are there: their parts of a group, times the group's rate (Molmo2 §8.1).

    A dataset without a size is left out, so its group's others share its part; a group without any is left out, so
    that the other groups keep their proportions.
    """
    weights: dict[str, float] = {}
    for group in groups:
        terms = {member.name: member.term(sizes[member.name]) for member in group.members if member.name in sizes}
        for name, term in terms.items():
            weights[name] = float(group.rate) * term / sum(terms.values())
    return weights
