"""What a loader's state belongs to, part by part, so that a refusal can say which part differs."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Protocol

import numpy as np

from grain_molmo.datasets.base import Dataset, content_fingerprint
from grain_molmo.packing.rows import PlanPhase
from grain_molmo.rng import stable_hash
from grain_molmo.stages import Stage
from grain_molmo.text.tokenizer import Tokenizer

_NOT_OF_THE_STAGE = {"name", "mixture", "groups", "phases", "rules", "dataset_args"}
"""Fields that change no batch, or that other parts of a fingerprint hold, as far as they have come into effect."""

_DETAILS = "details"


class Reader(Protocol):
    """Whatever makes something of the draws: an `Encoder`, a `FeatureReader`."""

    @property
    def stage(self) -> Stage:
        """What is drawn, cut and said how."""
        ...

    @property
    def datasets(self) -> Mapping[str, Dataset]:
        """By the names of the draws."""
        ...

    @property
    def tokenizer(self) -> Tokenizer | None:
        """None where there is no text."""
        ...

    @property
    def seed(self) -> int:
        """The run's."""
        ...

    @property
    def training(self) -> bool:
        """Whether examples vary as in training."""
        ...


def fingerprint(
    reader: Reader, phases: Sequence[PlanPhase], step: int, order: Sequence[str] = (), filtered: Collection[str] = ()
) -> dict[str, str]:
    """By part, a hash of all that the batches before a step depend on.

    Phases that begin with that step or later are left out, and datasets that only they use: they may still change.
    What was removed of a dataset belongs to it, whenever it is drawn.

    Args:
        reader: holds the stage, the datasets, the tokenizer and the seed.
        phases: what is drawn from which step on.
        step: the number of batches that were handed out.
        order: of the datasets, where it matters.
        filtered: datasets of which examples are removed.

    Returns:
        "stage" (lengths and formats), "mixture", "data", "tokenizer", "seed"; and in "details", for a refusal to name,
        a short hash of each field of the stage and of each dataset.
    """
    begun = [phase for phase in phases if phase.step == 0 or phase.step < step]
    stage = {each.name: getattr(reader.stage, each.name) for each in fields(Stage)} | {"training": reader.training}
    mixture = [(phase.step, dict(phase.weights), _sorted(phase.excluded)) for phase in begun]
    filtered_here = {name for name in filtered if name in reader.datasets}  # without one, the data differ
    names = sorted({name for phase in begun for name in phase.weights} | filtered_here)
    data = {name: (content_fingerprint(reader.datasets[name]), reader.stage.rule(name)) for name in names}
    stage = {key: value for key, value in stage.items() if key not in _NOT_OF_THE_STAGE}
    return {
        "stage": _hash(stage),
        "mixture": _hash([mixture, *order]),
        "data": _hash(data),
        "tokenizer": reader.tokenizer.fingerprint if reader.tokenizer else "",
        "seed": str(reader.seed),
        _DETAILS: " ".join(f"{name}={_hash(value)[:4]}" for name, value in {**stage, **data}.items()),
    }


def differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """Which parts of two fingerprints differ, and which fields and datasets where both tell; "" if none does.

    >>> ours = {"stage": "1", "data": "7", "details": "seq_len=3f2a pixmo_cap=77b1"}
    >>> differences(ours, ours | {"stage": "2", "details": "seq_len=c0de pixmo_cap=77b1"})
    'stage differ (seq_len)'
    """
    parts = [part for part in ours if part != _DETAILS and theirs.get(part) != ours[part]]
    if not parts:
        return ""
    here, there = (dict(_pairs(each.get(_DETAILS, ""))) for each in (ours, theirs))
    names = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    return f"{', '.join(parts)} differ" + (f" ({', '.join(names)})" if names and there else "")


def _pairs(details: str) -> list[list[str]]:
    return [entry.rsplit("=", 1) for entry in details.split(" ") if "=" in entry]


def _sorted(excluded: Mapping[str, Collection[int]]) -> list[tuple[str, list[int]]]:
    return [(name, sorted(indices)) for name, indices in sorted(excluded.items())]


def _hash(value: object) -> str:
    return f"{stable_hash(json.dumps(value, sort_keys=True, default=_plain)):016x}"


def _plain(value: object) -> object:
    """What JSON says for it: values alone, for how numbers of numpy are written depends on its version."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    return repr(value)
