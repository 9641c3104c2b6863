"""A stage cut to other sizes, or with another mixture."""

from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral

from grain_molmo.errors import ConfigError
from grain_molmo.stages import DatasetRule, Stage


def customized(
    stage: Stage, *, batch_size: int | None = None, seq_len: int | None = None, max_frames: int | None = None
) -> Stage:
    """The stage cut to other sizes; with more frames a row gets room for at least as many crops.

    Raises ConfigError for sizes that cannot be, and for frames in a stage without video.
    """
    if max_frames is not None and not stage.max_frames:
        raise ConfigError(f"max_frames={max_frames}: stage {stage.name!r} has no video")
    # What is no number, the stage refuses.
    crops_per_row = max(stage.crops_per_row, max_frames) if isinstance(max_frames, Integral) else None
    wishes = {"batch_size": batch_size, "seq_len": seq_len, "max_frames": max_frames, "crops_per_row": crops_per_row}
    return replace(stage, **{key: value for key, value in wishes.items() if value is not None})


def with_mixture(stage: Stage, weights: Mapping[str, float], rules: Mapping[str, DatasetRule] | None = None) -> Stage:
    """The stage with these weights instead of its own mixture, groups and phases.

    Args:
        stage: gives all else; what it says of other datasets goes.
        weights: by dataset name.
        rules: of these datasets; default those that the stage has for them.
    """
    if rules is None:
        rules = {name: rule for name, rule in stage.rules.items() if name in weights}
    arguments = {name: given for name, given in stage.dataset_args.items() if name in weights}
    return replace(stage, mixture=weights, groups=(), phases=(), rules=rules, dataset_args=arguments)
