"""Shows what was converted: sets, splits, columns, sizes, what was rejected and why, and examples in readable form.

Without a name, a table of the whole data folder, or of the sets that can be converted if no folder is named; with one,
that set in detail. Of a set that was not converted it says what it is on the hub and how to get it. Only annotations
are read, never a picture or video.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from grain_molmo.datasets.registry import CONVERTED_DATASETS, get_dataset
from grain_molmo.datasets.written import WrittenDataset, is_written
from grain_molmo.errors import ConfigError
from grain_molmo.store import AnnotationSource, canonical_name, list_converted, resolve_data_dir
from grain_molmo.tools.arguments import whole_number
from grain_molmo.tools.readable import human_bytes, jsonable, readable, table
from grain_molmo.tools.store_report import (
    Coverage,
    MediaReport,
    RecordsReport,
    SplitReport,
    StoreReport,
    coverage,
    network_rejects,
    part_of,
    report_records,
    report_set,
    report_store,
)

EXIT_DONE, EXIT_NOT_THERE = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="a set such as pixmo-cap; default: all that are there")
    parser.add_argument("--data-dir", metavar="DIR", help="the store's folder; default: $GRAIN_MOLMO_DATA")
    parser.add_argument(
        "--num-samples", type=whole_number(0), default=2, metavar="N", help="examples of a set to show (2)"
    )
    parser.add_argument("--split", metavar="S", help="only this split of a set, such as train or train_charts")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(args: argparse.Namespace) -> int:
    """Prints what the folder holds, or what it holds of one set; 1 if that set is not there."""
    if args.name is None:
        if args.split is not None:
            raise ConfigError("--split needs the name of a set; without a name all splits are listed")
        try:
            data_dir = resolve_data_dir(args.data_dir)
        except ConfigError as error:
            return _show_convertible(error, args.json)
        return _show_store(data_dir, args.json)
    return _show_set(args)


# ---- the whole folder ----


def _show_store(data_dir: Path, as_json: bool) -> int:
    report = report_store(data_dir)
    there = {one.name for one in report.sets}
    missing = [name for name in _convertible() if name not in there]
    if as_json:
        print(json.dumps({"data_dir": str(data_dir), **asdict(report), "not_converted": missing}))
    else:
        print(_store_text(data_dir, report, missing))
    return EXIT_DONE


def _convertible() -> dict[str, str]:
    """Hub address of each set that can be converted."""
    from converters.sets import SETS  # the command line alone reaches from the library to the converters

    return {name: spec.hub for name, spec in SETS.items()}


def _show_convertible(problem: ConfigError, as_json: bool) -> int:
    """Without a folder to look into: what one could convert."""
    hubs = _convertible()
    if as_json:
        print(json.dumps({"data_dir": None, "sets": [], "not_converted": list(hubs)}))
        return EXIT_DONE
    rows = [[name.replace("_", "-"), f"https://huggingface.co/datasets/{hub}"] for name, hub in hubs.items()]
    lines = ["sets that can be converted", "", table(["set", "on the hub"], rows, left=2), ""]
    lines += ["convert one:  grain-molmo convert NAME --data-dir DATA", "what it is:   grain-molmo inspect NAME"]
    print("\n".join([*lines, f"what is there: {problem}"]))
    return EXIT_DONE


def _store_text(data_dir: Path, report: StoreReport, missing: Sequence[str]) -> str:
    examples = sum(split.examples for one in report.sets for split in one.splits)
    lines = [
        f"{data_dir}: {len(report.sets)} sets, {examples:,} examples, {report.media:,} media stored once each "
        f"({human_bytes(report.media_bytes)})"
    ]
    if report.sets:
        rows = [
            [one.name if number == 0 else "", *_split_cells(split)]
            for one in report.sets
            for number, split in enumerate(one.splits)
        ]
        lines += ["", table(["set", *_SPLIT_HEADINGS], rows, left=2)]
    if missing:
        names = ", ".join(name.replace("_", "-") for name in missing)
        lines += ["", f"not converted here: {names}", f"  grain-molmo convert NAME --data-dir {data_dir}"]
    if report.sets:
        lines += ["", f"more: grain-molmo inspect {report.sets[0].name.replace('_', '-')} --data-dir {data_dir}"]
    return "\n".join(lines)


_SPLIT_HEADINGS = ["split", "examples", "shards", "size", "media added", "their size", "rows rejected"]


def _split_cells(split: SplitReport) -> list[str]:
    return [
        split.name,
        f"{split.examples:,}",
        f"{split.shards:,}",
        human_bytes(split.num_bytes),
        f"{split.media_added:,}",
        human_bytes(split.media_bytes),
        f"{sum(split.rejected.values()):,}",
    ]


# ---- one set ----


def _show_set(args: argparse.Namespace) -> int:
    dataset = canonical_name(args.name)
    try:
        data_dir = resolve_data_dir(args.data_dir)
    except ConfigError:  # what a set is on the hub can be said without a folder
        return _show_hub(args, None)
    converted = list_converted(data_dir)
    name = _set_of(dataset, converted)
    if name not in converted:
        return _show_hub(args, data_dir)
    splits = _choose(report_set(data_dir, name).splits, name, args.split)
    records = report_records(data_dir, name, [split.name for split in splits])
    rows = coverage(splits)
    asked = network_rejects(data_dir, name, splits)
    samples = sample_examples(data_dir, name, dataset, [split.name for split in splits], args.num_samples)
    if args.json:
        report = {
            "name": name,
            "data_dir": str(data_dir),
            "converted": True,
            "splits": [asdict(split) for split in splits],
            "coverage": [{**asdict(one), "rows_in_records": one.rows_in_records} for one in rows],
            "network_rejects": asked,
            "network_rejects_that_may_pass": _may_pass(asked),
            "records": asdict(records),
            "examples": [{"index": index, "example": jsonable(example)} for index, example in samples],
        }
        print(json.dumps(report))
    else:
        print(f"{name}, converted into {data_dir / name}\n\n{_set_text(data_dir / name, splits, rows, records)}")
        if may_pass := _may_pass(asked):
            words = "1 rejected row fell" if may_pass == 1 else f"{may_pass:,} rejected rows fell"
            print(f"\n{words} to a failure of the network that may have passed; with the arguments of the conversion,")
            print(f"  grain-molmo convert {name.replace('_', '-')} --data-dir {data_dir} --retry-rejects tries again")
        for index, example in samples:
            print(f"\nexample {index} of {dataset}\n{readable(example)}")
    return EXIT_DONE


def _may_pass(asked: Mapping[str, int]) -> int:
    """How many of the rows that the network lost a later run may win back."""
    if not asked:
        return 0
    from converters.fetch.reasons import may_pass

    return sum(count for reason, count in asked.items() if may_pass(reason))


def _set_of(dataset: str, converted: Sequence[str]) -> str:
    """The set in the store that a dataset's name stands for: pixmo_docs for pixmo_docs_charts, too."""
    if dataset in converted:
        return dataset
    if dataset in CONVERTED_DATASETS:
        factory: Any = CONVERTED_DATASETS[dataset]
        return getattr(factory, "func", factory).NAME  # the class, also under functools.partial
    from converters.sets import find_set

    return find_set(dataset).name


def _choose(splits: Sequence[SplitReport], name: str, wanted: str | None) -> list[SplitReport]:
    """The splits of that name, or that belong to it. Raises ConfigError if there is none."""
    chosen = [split for split in splits if wanted in (None, split.name, part_of(split.name))]
    if not chosen:
        names = ", ".join(split.name for split in splits)
        raise ConfigError(f"{name} has no split {wanted!r}; it has {names}")
    return chosen


def sample_examples(
    data_dir: Path, name: str, dataset: str, splits: Sequence[str], number: int
) -> list[tuple[int, dict[str, Any]]]:
    """(index, example) of so many examples, spread evenly over the splits that one dataset can read.

    A set without a dataset class shows its records as they are stored.
    """
    if is_written(data_dir, name):
        split = "train" if "train" in splits else splits[0]
        written = WrittenDataset(name, split, data_dir)
        return [(i, written[i]) for i in _spread(range(len(written)), number)]
    if dataset not in CONVERTED_DATASETS:
        records = AnnotationSource(data_dir, name, splits)
        places = range(len(records))
        return [
            (i, {"id": record.id, **record.annotation, "media": list(record.media)})
            for i in _spread(places, number)
            for record in [records[i]]
        ]
    part = "train" if any(part_of(split) == "train" for split in splits) else part_of(splits[0])
    source: Any = get_dataset(dataset, split=part, data_dir=data_dir)
    visits = len(source) // max(1, len(source.records))  # a record may make several examples
    indices: list[int] = []
    start = 0
    for split in source.records.splits:
        stop = start + len(AnnotationSource(data_dir, name, [split]))
        if split in splits:
            indices += range(start * visits, stop * visits)
        start = stop
    return [(i, source[i]) for i in _spread(indices, number)]


def _spread(indices: Sequence[int], number: int) -> list[int]:
    """So many of the indices, the first and the last among them."""
    number = min(number, len(indices))
    return [indices[i * (len(indices) - 1) // max(1, number - 1)] for i in range(number)]


def _set_text(folder: Path, splits: Sequence[SplitReport], rows: Sequence[Coverage], records: RecordsReport) -> str:
    lines = [table(_SPLIT_HEADINGS, [_split_cells(split) for split in splits], left=1), "", "rows of the source"]
    for one in rows:
        lines += _coverage_lines(one)
    if any(one.rejected for one in rows):
        lines.append(f"  each with what was wrong: {folder / 'rejects-SPLIT.jsonl'}")
    lines += ["", f"columns of the annotations (first {records.read:,} records)"]
    lines += [f"  {key:<16}{kind}" for key, kind in records.columns.items()]
    lines += [f"  {_NOUNS.get(media.kind, media.kind):<16}{_media_text(media)}" for media in records.media]
    return "\n".join(lines)


_NOUNS = {"image": "pictures", "video": "videos", "frames": "prepared frames"}


def _media_text(media: MediaReport) -> str:
    low, high = (f"{width}x{height}" for width, height in (media.min_size, media.max_size))
    each = f"{media.per_record[0]}" if len(set(media.per_record)) == 1 else "{} to {}".format(*media.per_record)
    lasting = f", {media.seconds[0]:.1f} to {media.seconds[1]:.1f} s" if media.seconds else ""
    return f"{each} a record, {low} to {high} pixels{lasting}"


def _coverage_lines(one: Coverage) -> list[str]:
    source = one.source
    where = [str(source.get("path", "unknown"))]
    where += [f"{key} {source[key]}" for key in ("config", "split", "revision") if source.get(key)]
    share = f" ({sum(one.rejected.values()) / one.rows:.1%})" if one.rejected and one.rows else ""
    lines = [
        f"  {', '.join(where)}",
        f"    {one.rows:,} read: {one.rows_in_records:,} in records of {', '.join(one.splits)}; "
        f"{sum(one.rejected.values()):,} rejected{share}",
    ]
    return lines + [f"      {count:>6,}  {reason}" for reason, count in one.rejected.items()]


# ---- a set that is not there ----


def _show_hub(args: argparse.Namespace, data_dir: Path | None) -> int:
    """Says what the set is on the hub and how to convert it; raises ConfigError for an unknown name."""
    from converters.sets import find_set

    spec = find_set(_set_of(canonical_name(args.name), []))
    videos = " --video-dir VIDEOS" if spec.is_video else ""
    command = f"grain-molmo convert {spec.name.replace('_', '-')} --data-dir {data_dir or 'DATA'}{videos}"
    report = {
        "name": spec.name,
        "data_dir": None if data_dir is None else str(data_dir),
        "converted": False,
        "hub": spec.hub,
        "configs": [config for config in spec.configs if config],
        "splits": list(spec.splits),
        "columns": dict(spec.required),
        "optional_columns": dict(spec.optional),
        "command": command,
    }
    if args.json:
        print(json.dumps(report))
        return EXIT_NOT_THERE
    where = (
        f"is not in {data_dir}" if data_dir else "cannot be looked up: no --data-dir, and $GRAIN_MOLMO_DATA is not set"
    )
    lines = [f"{spec.name} {where}.", "", f"on the hub: https://huggingface.co/datasets/{spec.hub}"]
    if report["configs"]:
        lines.append(f"  configs   {', '.join(report['configs'])}")
    lines += [f"  splits    {', '.join(spec.splits)}", "  columns"]
    lines += [f"    {column:<20}{kind}" for column, kind in spec.required.items()]
    lines += [f"    {column:<20}{kind} (optional)" for column, kind in spec.optional.items()]
    print("\n".join([*lines, "", f"convert it:  {command}"]))
    return EXIT_NOT_THERE
