"""Which examples a model has mastered, and so need not be shown again: the pure part of `Loader.filter`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from grain_molmo.datasets.base import Dataset, StoreDataset, metadata_of
from grain_molmo.errors import ConfigError, DamagedRecordError, ExampleError
from grain_molmo.rng import example_rng


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """When examples of a dataset are left out of training: see `choose_removals`.

    Attributes:
        filter_threshold: examples with a score above it may be left out, for the rest of the run.
        max_filter_percentage: share of the examples still active that one call may leave out, from 0 to 1.

    Raises:
        ConfigError: the threshold is no number, or the share is not from 0 to 1.
    """

    filter_threshold: float
    max_filter_percentage: float = 1.0

    def __post_init__(self) -> None:
        threshold, share = self.filter_threshold, self.max_filter_percentage
        if not isinstance(threshold, Real) or math.isnan(threshold):
            raise ConfigError(f"curriculum: filter_threshold={threshold!r}, it must be a number")
        if not isinstance(share, Real) or not 0 <= share <= 1:
            raise ConfigError(f"curriculum: max_filter_percentage={share!r}, it must be from 0 to 1; 0.1 is 10 %")


@dataclass(frozen=True)
class Removals:
    """What a call of `filter` takes out of a dataset.

    Attributes:
        indices: [N] int64, of the examples to leave out, highest score first.
        unknown_ids: ids with a score that no example of the dataset has, active or not.
        not_numbers: ids of the dataset whose score is NaN or no number at all; their examples stay.
    """

    indices: np.ndarray
    unknown_ids: tuple[str, ...] = ()
    not_numbers: int = 0

    @property
    def unknown(self) -> int:
        """How many ids are unknown."""
        return len(self.unknown_ids)


def choose_removals(
    ids: Sequence[str], active_indices: np.ndarray, eval_scores: Mapping[str, float], curriculum: Curriculum
) -> Removals:
    """The active examples with a score above the threshold, the highest first, as many as the share allows.

    A score counts for every active example of its id; ties are taken in the order of `active_indices`. Infinity is a
    score like others: above every threshold but itself, or below.

    >>> choose_removals(["a", "b", "c"], np.arange(3), {"a": 0.7, "c": 0.8}, Curriculum(filter_threshold=0.5)).indices
    array([2, 0])

    Args:
        ids: of all examples of the dataset, by index; several may share one.
        active_indices: [A] integers, the examples not left out so far.
        eval_scores: by id, the better the model does the higher; keys that are no strings are taken as such.
        curriculum: threshold and share.
    """
    scores = {str(key): _number(score) for key, score in eval_scores.items()}
    known = scores.keys() & set(ids)
    threshold = curriculum.filter_threshold
    mastered = {key: score for key in known if (score := scores[key]) is not None and score > threshold}
    candidates: list[int] = [index for index in active_indices.tolist() if ids[index] in mastered]
    candidates.sort(key=lambda index: mastered[ids[index]], reverse=True)  # stable in reverse, too
    most = int(len(active_indices) * curriculum.max_filter_percentage)
    return Removals(
        np.array(candidates[:most], np.int64),
        tuple(key for key in scores if key not in known),
        sum(scores[key] is None for key in known),
    )


def _number(score: Any) -> float | None:
    """The score as a float, of any kind of scalar; None if it is NaN or no number."""
    # float() also takes text, which has no __float__, and arrays of one element.
    if not hasattr(score, "__float__") and not hasattr(score, "__index__"):
        return None
    if getattr(score, "ndim", 0) != 0:
        return None
    try:
        value = float(score)
    except (TypeError, ValueError, OverflowError):
        return None
    return None if math.isnan(value) else value


def example_ids(dataset: Dataset) -> list[str]:
    """The id of every example: what `ExampleInfo.id` says of it, whatever is drawn; no media are opened.

    A dataset's own `ids` if it has them; else those of a converted dataset's records; else `metadata["id"]` of each
    example, which costs a run through the dataset. An example without an id, or that cannot be had, goes by its index.

    Raises:
        ConfigError: `ids` are not as many as the examples.
        StoreError: a shard cannot be read.
    """
    given = getattr(dataset, "ids", None)
    if given is not None:
        ids = [str(each) for each in given]
        if len(ids) != len(dataset):
            raise ConfigError(f"{dataset!r} has {len(ids)} ids for {len(dataset)} examples; `ids` has one for each")
        return ids
    return [_example_id(dataset, index) for index in range(len(dataset))]


def _example_id(dataset: Dataset, index: int) -> str:
    try:
        if isinstance(dataset, StoreDataset):
            return dataset.example_id(index)
        # Not `dataset[index]`, which may be what its author likes; what is drawn does not matter.
        example = dataset.get(index, example_rng(0, type(dataset).__name__, 0, index))
    except (ExampleError, DamagedRecordError):  # the plan leaves it out anyway
        return str(index)
    return str(metadata_of(example).get("id", index))
