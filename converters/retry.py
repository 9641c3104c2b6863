"""Trying again, alone, the rows that were rejected for a reason that may have passed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from converters.fetch.reasons import may_pass
from converters.plan import Unit
from converters.units import Made
from grain_molmo.errors import StoreError
from grain_molmo.store import Record, RecordReader, Reject, SplitWriter, load_manifest
from grain_molmo.store.records import decode_record


def hopeful_ids(rejects: Sequence[Reject]) -> set[str]:
    """The units of rows that were rejected for what may have passed."""
    return {reject.id for reject in rejects if may_pass(reject.reason)}


def committed_records(data_dir: Path, name: str, split: str, shard: int) -> Iterator[Record]:
    """Records of a committed annotation shard, in order."""
    info = load_manifest(data_dir, name)[split].shards[shard]
    reader = RecordReader(data_dir / name, [info])
    return (decode_record(reader[record]) for record in range(info.records))


def retry_shard(
    writer: SplitWriter,
    shard: int,
    units: Sequence[Unit],
    rejects: Sequence[Reject],
    committed: Callable[[], Iterator[Record]],
    convert: Callable[[Sequence[Unit]], Iterator[Made]],
) -> None:
    """Writes a shard with what its rejected rows are by now, or keeps it as it is if they are still rejected.

    Args:
        writer: of a run that adds to the committed split.
        shard: which.
        units: what the shard is made of.
        rejects: its rows that are in no record.
        committed: the records that it has.
        convert: units to their records. It is called twice, so that no bytes wait for the decision: what was fetched
            the first time lies on disk the second time.
    """
    hopeful = hopeful_ids(rejects)
    again = [unit for unit in units if unit.id in hopeful]
    by_unit: dict[str, list[Reject]] = {}
    for reject in rejects:
        by_unit.setdefault(reject.id, []).append(reject)
    has_won = False
    for made in convert(again):
        by_unit[made.unit.id] = made.rejects
        has_won = has_won or bool(made.records)
    if has_won:
        still: list[Reject] = []
        writer.write_shard(shard, _merged(units, by_unit, hopeful, committed(), convert(again), still), still)
    else:
        writer.keep_shard(shard, [reject for unit in units for reject in by_unit.get(unit.id, ())])


def _merged(
    units: Sequence[Unit],
    rejects: Mapping[str, Sequence[Reject]],
    hopeful: set[str],
    committed: Iterator[Record],
    converted: Iterator[Made],
    still: list[Reject],
) -> Iterator[tuple[Record, Mapping[str, bytes]]]:
    """Records of all units in order: those of the hopeful ones as converted, the rest as committed."""
    record = next(committed, None)
    for unit in units:
        while record is not None and _is_of(record, unit):
            if unit.id not in hopeful:
                yield record, {}  # the store has its media
            record = next(committed, None)
        if unit.id in hopeful:
            made = next(converted)
            still += made.rejects
            for new in made.records:
                yield new, made.media
        else:
            still += rejects.get(unit.id, ())
    if record is not None:
        raise StoreError(f"record {record.id!r} is of no row of the source; convert again with --force")


def _is_of(record: Record, unit: Unit) -> bool:
    return record.id == unit.id or (record.id.startswith(f"{unit.id}+") and record.id[len(unit.id) + 1 :].isdecimal())
