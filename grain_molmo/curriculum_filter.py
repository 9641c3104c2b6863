"""A loader's curriculum: scores of examples to a plan without those that are mastered."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from grain_molmo.curriculum import Curriculum, Removals, choose_removals, example_ids
from grain_molmo.datasets.base import Dataset
from grain_molmo.errors import ConfigError
from grain_molmo.packing.active import Removal
from grain_molmo.packing.rows import PackedRows
from grain_molmo.store import canonical_name

logger = logging.getLogger(__name__)

Scores = Mapping[str, float] | Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class FilterReport:
    """What a call of `Loader.filter` did to a dataset.

    Attributes:
        removed: examples that are left out from the declared step on.
        active: examples that are left.
        unknown: ids with a score that no example has; of scores for several datasets at once, ids that none has.
        not_numbers: ids whose score is NaN or no number; their examples stay.
    """

    removed: int
    active: int
    unknown: int
    not_numbers: int


@dataclass(frozen=True)
class CurriculumFilter:
    """Declares what scores take out of a plan.

    Args:
        plan: of the loader.
        datasets: by the names of its draws.
        curricula: by the names of those that are filtered.

    Raises:
        ConfigError: a curriculum of a dataset that is none of the plan's.
    """

    plan: PackedRows
    datasets: Mapping[str, Dataset]
    curricula: Mapping[str, Curriculum]
    _ids: dict[str, list[str]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, plan: PackedRows, datasets: Mapping[str, Dataset], curriculum: Curriculum | Mapping[str, Curriculum]
    ) -> "CurriculumFilter":
        """One curriculum for all datasets, or one each for some."""
        if isinstance(curriculum, Curriculum):
            return cls(plan, datasets, dict.fromkeys(datasets, curriculum))
        if not isinstance(curriculum, Mapping):
            raise ConfigError(f"curriculum is {curriculum!r:.80}, not a Curriculum or a dict of these by dataset name")
        curricula = {canonical_name(name): one for name, one in curriculum.items()}
        for name, one in curricula.items():
            if name not in datasets:
                raise ConfigError(f"curriculum: {name!r} is no dataset of the stage; it has {', '.join(datasets)}")
            if not isinstance(one, Curriculum):
                raise ConfigError(f"curriculum: that of {name!r} is {one!r}, not a Curriculum")
        return cls(plan, datasets, curricula)

    def declare(
        self, state: dict[str, Any], eval_scores: Scores, step: int
    ) -> tuple[dict[str, Any], dict[str, FilterReport]]:
        """The state with what the scores take out from a step on, and what that is; see `Loader.filter`."""
        by_name = self._by_dataset(eval_scores)
        chosen: dict[str, Removals] = {}
        masks: dict[str, np.ndarray] = {}
        active: dict[str, int] = {}
        for name, scores in by_name.items():
            removed_N = self.plan.removed(state, name)
            indices = np.flatnonzero(~removed_N)
            chosen[name] = choose_removals(self._ids_of(name), indices, scores, self.curricula[name])
            active[name] = len(indices) - len(chosen[name].indices)
            if len(chosen[name].indices):
                masks[name] = np.zeros_like(removed_N)
                masks[name][chosen[name].indices] = True
        if masks:
            state = self.plan.remove_from(state, Removal(step, masks))
        nowhere = self._unknown(eval_scores, chosen)
        reports = {
            name: FilterReport(len(one.indices), active[name], nowhere[name], one.not_numbers)
            for name, one in chosen.items()
        }
        for name, report in reports.items():
            logger.info(
                "filter: %s loses %d examples from step %d on, %d remain", name, report.removed, step, report.active
            )
            if report.unknown or report.not_numbers:
                message = (
                    "filter: of the scores of %s, %d are of unknown ids and %d are no numbers; they change nothing"
                )
                logger.warning(message, name, report.unknown, report.not_numbers)
        return state, reports

    def _by_dataset(self, eval_scores: Scores) -> dict[str, Mapping[str, float]]:
        if not isinstance(eval_scores, Mapping):
            raise ConfigError(f"filter: eval_scores is {eval_scores!r:.80}, not a dict of scores by example id")
        nested = [isinstance(value, Mapping) for value in eval_scores.values()]
        if not any(nested):
            return dict.fromkeys(self.curricula, eval_scores)  # pyright: ignore[reportReturnType, reportArgumentType]
        if not all(nested):
            raise ConfigError("filter: give scores by id, or by dataset name such scores, not both")
        scores = {canonical_name(str(name)): of_ids for name, of_ids in eval_scores.items()}
        if strangers := scores.keys() - self.curricula.keys():
            known = ", ".join(self.curricula)
            raise ConfigError(f"filter: no curriculum for {', '.join(sorted(strangers))}; there are some for {known}")
        return scores  # pyright: ignore[reportReturnType]

    def _unknown(self, eval_scores: Scores, chosen: Mapping[str, Removals]) -> dict[str, int]:
        """By dataset, ids that it does not have; of scores for all at once, those that none of them has."""
        if any(isinstance(value, Mapping) for value in eval_scores.values()) or not chosen:
            return {name: one.unknown for name, one in chosen.items()}
        nowhere = set.intersection(*(set(one.unknown_ids) for one in chosen.values()))
        return dict.fromkeys(chosen, len(nowhere))

    def _ids_of(self, name: str) -> list[str]:
        if name not in self._ids:
            self._ids[name] = example_ids(self.datasets[name])
        return self._ids[name]
