"""Which rows make which example, split and shard: settled before a picture is fetched, so failures shift nothing."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from converters.pixmo import SetSpec
from converters.sources import SourceSplit
from grain_molmo.rng import stable_hash


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows that are converted together: one row, or all rows of a picture.

    Attributes:
        id: unique within the set.
        rows: indices of the rows, in source order.
    """

    id: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class SplitPlan:
    """What one split of the store is made of.

    Attributes:
        split: of the store.
        source: where its rows are.
        shards: the units of each shard, in source order.
    """

    split: str
    source: SourceSplit
    shards: tuple[tuple[Unit, ...], ...]

    @property
    def num_rows(self) -> int:
        """Source rows of the split."""
        return sum(len(unit.rows) for shard in self.shards for unit in shard)


def is_held_out(url: str, fraction: float) -> bool:
    """Whether a picture belongs to a validation split that holds `fraction` of all pictures.

    A function of the URL alone: the same on every machine, whichever URLs still answer. A picture held out at one
    fraction is held out at every larger one, so what one set validates on, no set with a larger share trains on.
    """
    return stable_hash("validation", url) < fraction * 2**64


def plan_splits(
    spec: SetSpec,
    sources: Sequence[SourceSplit],
    *,
    validation_fraction: float | None = None,
    max_rows: int | None = None,
) -> list[SplitPlan]:
    """The splits of the store, from those of a source; splits without rows are left out.

    Args:
        spec: the set.
        sources: its source splits. Where one of them is a validation split, none is carved from the train split.
        validation_fraction: instead of the set's own.
        max_rows: take only the first rows of each source split.
    """
    fraction = spec.validation_fraction if validation_fraction is None else validation_fraction
    has_own = any(source.split == "validation" for source in sources)
    plans = []
    for source in sources:
        carved = fraction if fraction and not has_own and source.split == "train" else 0.0
        units: dict[str, list[Unit]] = {}
        for split, unit in _units(spec, source, carved, max_rows):
            units.setdefault(split, []).append(unit)
        plans += [
            SplitPlan(split, source, tuple(_cut(in_split, spec.rows_per_shard))) for split, in_split in units.items()
        ]
    return plans


def _units(spec: SetSpec, source: SourceSplit, fraction: float, max_rows: int | None) -> Iterable[tuple[str, Unit]]:
    """(store split, unit) in the order of each unit's first row."""
    subset_column, subset_values = spec.subsets or (None, ("",))
    columns = source.rows.select([spec.identity, *([subset_column] if subset_column else [])])
    identities = columns[spec.identity][:max_rows]
    subsets: Sequence[Any] = columns[subset_column] if subset_column else [None] * len(identities)

    rows: dict[Any, list[int]] = {}
    for index, (identity, subset) in enumerate(zip(identities, subsets, strict=False)):
        if subset_column and subset not in subset_values:
            subset = subset_values[0]  # the row is rejected when it is read; until then it needs a place
        alone = not spec.grouped or not isinstance(identity, str)
        rows.setdefault((identity, subset, index if alone else None), []).append(index)

    seen: Counter[str] = Counter()
    for (identity, subset, _), indices in rows.items():
        held_out = fraction > 0 and isinstance(identity, str) and is_held_out(identity, fraction)
        split = "validation" if held_out else source.split
        qualifiers = [part for part in (source.config, subset) if part]
        where = [source.split] if source.split != "train" else []
        name = "/".join([*where, *qualifiers, _short_name(spec, identity, indices[0])])
        seen[name] += 1
        unit_id = name if seen[name] == 1 else f"{name}.{seen[name]}"
        yield "_".join([split, *qualifiers]), Unit(unit_id, tuple(indices))


def _short_name(spec: SetSpec, identity: Any, row: int) -> str:
    if not isinstance(identity, str) or not identity:
        return f"row-{row}"
    if spec.identity == "image_url":
        return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return identity


def _cut(units: Iterable[Unit], rows_per_shard: int) -> Iterable[tuple[Unit, ...]]:
    """Shards of at most so many rows each (a single larger unit is a shard of its own)."""
    shard: list[Unit] = []
    num_rows = 0
    for unit in units:
        if shard and num_rows + len(unit.rows) > rows_per_shard:
            yield tuple(shard)
            shard, num_rows = [], 0
        shard.append(unit)
        num_rows += len(unit.rows)
    if shard:
        yield tuple(shard)
