"""Which rows make which example, split and shard: settled before a picture is fetched, so failures shift nothing."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from converters.sources import SourceSplit
from converters.spec import SetSpec
from grain_molmo.rng import stable_hash


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows that are converted together: one row, or all rows of a picture or video.

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
        source_split: the store's name of the source's split; `train` where a validation split was held out of it.
        held_out: share of the pictures or videos that went to a validation split of our own; 0 if none was made.
        shards: the units of each shard, in source order.
    """

    split: str
    source: SourceSplit
    source_split: str
    held_out: float
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
    return stable_hash("validation", _digest(url)) < fraction * 2**64


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
        units: dict[str, list[Unit]] = {}
        for split, unit in _units(spec, source, held_out, max_rows):
            units.setdefault(split, []).append(unit)
        for split, in_split in units.items():
            shards = tuple(_cut(in_split, rows_per_shard or spec.rows_per_shard))
            plans.append(SplitPlan(split, source, spec.store_split(source.split), held_out, shards))
    return plans


def _units(spec: SetSpec, source: SourceSplit, fraction: float, max_rows: int | None) -> Iterable[tuple[str, Unit]]:
    """(store split, unit) in the order of each unit's first row."""
    names = [_present(alternatives.split("|"), source.rows.columns) for alternatives in spec.placed_by]
    columns = source.rows.select(names)
    config = source.config or spec.config_of_others
    source_split = spec.store_split(source.split)

    rows: dict[tuple[str | None, str, str, int | None], list[int]] = {}
    for index, values in enumerate(zip(*(columns[name][:max_rows] for name in names), strict=True)):
        row = dict(zip(names, values, strict=True))
        identity = spec.identity(row)
        if not isinstance(identity, str):
            identity = None  # the row is rejected when it is read; until then it needs a place
        subset = spec.subset(row) if spec.subset else ""
        within = spec.within(row) if spec.within else ""
        alone = not spec.grouped or identity is None
        rows.setdefault((identity, within, subset, index if alone else None), []).append(index)

    seen: Counter[str] = Counter()
    for (identity, within, subset, _), indices in rows.items():
        held_out = identity is not None and is_held_out(identity, fraction)
        split = "validation" if held_out else source_split
        qualifiers = [part for part in (config, subset) if part]
        where = [source_split] if source_split != "train" else []
        short = _short_name(identity, indices[0])
        name = "/".join([*where, *qualifiers, f"{short}@{within}" if within else short])
        seen[name] += 1
        unit_id = name if seen[name] == 1 else f"{name}.{seen[name]}"
        yield "_".join([split, *qualifiers]), Unit(unit_id, tuple(indices))


def _present(names: Sequence[str], columns: Sequence[str]) -> str:
    return next((name for name in names if name in columns), names[0])


def _short_name(identity: str | None, row: int) -> str:
    """The identity itself if it is a short name; of a URL and the like the beginning of its hash."""
    if not identity:
        return f"row-{row}"
    is_name = len(identity) <= 100 and identity.isprintable() and "://" not in identity
    return identity if is_name else _digest(identity)[:16]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


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
