"""Which rows make which example, split and shard: settled before a picture is fetched, so failures shift nothing."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from converters.plan_units import Unit, Units, UnitsBuilder
from converters.rows import scan_rows
from converters.sources import SourceSplit
from converters.spec import SetSpec
from grain_molmo.rng import stable_hash

__all__ = ["SplitPlan", "Unit", "is_held_out", "plan_splits"]


@dataclass(frozen=True)
class SplitPlan:
    """What one split of the store is made of.

    Attributes:
        split: of the store.
        source: where its rows are.
        source_split: the store's name of the source's split; `train` where a validation split was held out of it.
        held_out: share of the pictures or videos that went to a validation split of our own; 0 if none was made.
        shards: the units of each shard, in source order; made when they are asked for.
        num_rows: source rows of the split.
    """

    split: str
    source: SourceSplit
    source_split: str
    held_out: float
    shards: Sequence[tuple[Unit, ...]]
    num_rows: int


def is_held_out(url: str, fraction: float) -> bool:
    """Whether a picture belongs to a validation split that holds `fraction` of all pictures.

    A function of the URL alone: the same on every machine, whichever URLs still answer. A picture held out at one
    fraction is held out at every larger one, so what one set validates on, no set with a larger share trains on.
    """
    return _is_held_out(_digest(url), fraction)


def _is_held_out(digest: str, fraction: float) -> bool:
    return stable_hash("validation", digest) < fraction * 2**64


def plan_splits(
    spec: SetSpec,
    sources: Sequence[SourceSplit],
    *,
    validation_fraction: float | None = None,
    max_rows: int | None = None,
    rows_per_shard: int | None = None,
) -> list[SplitPlan]:
    """The splits of the store, from those of a source; splits without rows are left out.

    Args:
        spec: the set.
        sources: its source splits. Where one of them is a validation split, none is carved from the train split.
        validation_fraction: instead of the set's own.
        max_rows: take only the first rows of each source split.
        rows_per_shard: instead of the set's own.
    """
    fraction = spec.validation_fraction if validation_fraction is None else validation_fraction
    has_own = any(spec.store_split(source.split) == "validation" for source in sources)
    plans = []
    for source in sources:
        held_out = fraction if fraction and not has_own and spec.store_split(source.split) == "train" else 0.0
        units = _units_of(spec, source, held_out, max_rows)
        for split, numbers in units.by_split():
            shards = _Shards(units, numbers, rows_per_shard or spec.rows_per_shard)
            plans.append(
                SplitPlan(split, source, spec.store_split(source.split), held_out, shards, units.num_rows(numbers))
            )
    return plans


def _units_of(spec: SetSpec, source: SourceSplit, fraction: float, max_rows: int | None) -> Units:
    """The units of a source split, in the order of each unit's first row."""
    names = [_present(alternatives.split("|"), source.rows.columns) for alternatives in spec.placed_by]
    config = source.config or spec.config_of_others
    source_split = spec.store_split(source.split)
    builder = UnitsBuilder()
    for index, values in enumerate(scan_rows(source.rows, names, max_rows)):
        row = dict(zip(names, values, strict=True))
        identity = spec.identity(row)
        if not isinstance(identity, str):
            identity = None  # the row is rejected when it is read; until then it needs a place
        subset = spec.subset(row) if spec.subset else ""
        within = spec.within(row) if spec.within else ""
        key = f"{identity}\0{within}\0{subset}" if spec.grouped and identity is not None else None
        if builder.add_row(index, key):
            continue
        digest = "" if identity is None else _digest(identity)
        held_out = identity is not None and _is_held_out(digest, fraction)
        split = "validation" if held_out else source_split
        qualifiers = [part for part in (config, subset) if part]
        where = [source_split] if source_split != "train" else []
        short = _short_name(identity, digest, index)
        name = "/".join([*where, *qualifiers, f"{short}@{within}" if within else short])
        builder.name_unit("_".join([split, *qualifiers]), name)
    return builder.build()


def _present(names: Sequence[str], columns: Sequence[str]) -> str:
    return next((name for name in names if name in columns), names[0])


def _short_name(identity: str | None, digest: str, row: int) -> str:
    """The identity itself if it is a short name; of a URL and the like the beginning of its hash."""
    if not identity:
        return f"row-{row}"
    is_name = len(identity) <= 100 and identity.isprintable() and "://" not in identity
    return identity if is_name else digest[:16]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class _Shards(Sequence[tuple[Unit, ...]]):
    """Shards of at most so many rows each (a single larger unit is a shard of its own)."""

    def __init__(self, units: Units, numbers: np.ndarray, rows_per_shard: int):
        self._units, self._numbers = units, numbers
        self._starts = [0]
        num_rows = 0
        for at, length in enumerate(units.lengths[numbers].tolist()):
            if num_rows and num_rows + length > rows_per_shard:
                self._starts.append(at)
                num_rows = 0
            num_rows += length

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> tuple[Unit, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[Unit, ...]]: ...
    def __getitem__(self, index: int | slice) -> tuple[Unit, ...] | list[tuple[Unit, ...]]:
        if isinstance(index, slice):
            return [self[shard] for shard in range(*index.indices(len(self)))]
        shard = range(len(self))[index]
        stop = self._starts[shard + 1] if shard + 1 < len(self) else len(self._numbers)
        return tuple(self._units[number] for number in self._numbers[self._starts[shard] : stop].tolist())
