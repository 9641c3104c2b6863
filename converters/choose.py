"""Which sets a stage of training needs."""

from typing import Any

from converters.sets import SETS
from converters.spec import SetSpec
from grain_molmo.datasets.registry import CONVERTED_DATASETS
from grain_molmo.stages import STAGES

STAGE_CHOICES = (*STAGES, "all")


def set_of_dataset(name: str) -> str:
    """The set that a dataset of this library reads: pixmo_docs of pixmo_docs_charts."""
    factory: Any = CONVERTED_DATASETS[name]
    return getattr(factory, "func", factory).NAME  # the class, also under functools.partial


def sets_of_stage(stage: str, *, include_eval: bool = False) -> list[SetSpec]:
    """The sets in a stage's mixture, in its order; of "all" those of all stages.

    Args:
        stage: one of STAGE_CHOICES.
        include_eval: also the sets that were made to evaluate one of them.
    """
    stages = STAGES.values() if stage == "all" else [STAGES[stage]]
    names = dict.fromkeys(set_of_dataset(name) for one in stages for name in one.weights)
    for_training = [SETS[name] for name in names]
    for_evaluation = [spec for spec in SETS.values() if include_eval and spec.evaluates in names]
    return for_training + for_evaluation
