"""Shows what was converted: sets, splits, columns, sizes, what was rejected and why, and examples in readable form.

Without a name, a table of the whole data folder, or of the sets that can be converted if no folder is named; with one,
that set in detail. Of a set that was not converted it says what it is on the hub and how to get it. With --stage, what
that stage trains on: the mixture, which of its sets are there, and how to get the others. Only annotations are read,
never a picture or video.
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
from grain_molmo.readable import jsonable
from grain_molmo.recipes import RECIPES, find_stage
from grain_molmo.stages import STAGES
from grain_molmo.store import AnnotationSource, canonical_name, list_converted, resolve_data_dir
from grain_molmo.tools import inspect_text as text
from grain_molmo.tools.arguments import stage_name, whole_number
from grain_molmo.tools.hints import did_you_mean, nearest
from grain_molmo.tools.inspect_stage import report_stage, stage_json, stage_text
from grain_molmo.tools.store_report import (
    SplitReport,
    coverage,
    network_rejects,
    part_of,
    report_records,
    report_set,
    report_store,
)

EXIT_DONE, EXIT_NOT_THERE = 0, 1
EXIT_CODES = {1: "not there, or failed"}
EXAMPLES = (
    ("the sets that can be converted, or what a folder holds of them", ""),
    ("the same of a folder that is named", "--data-dir DATA"),
    (
        "a set: its splits, columns, what was rejected, and five examples",
        "pixmo-points --data-dir DATA --num-samples 5",
    ),
    ("one of its splits", "pixmo-points --split validation --data-dir DATA"),
    ("the mixture of a stage, and which of its sets are there", "--stage sft --data-dir DATA"),
    ("a set's figures for a program", "pixmo-cap --data-dir DATA --json"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    what = parser.add_argument_group("what to look at")
    what.add_argument("name", nargs="?", metavar="NAME", help="a set such as pixmo-cap; default: all that are there")
    what.add_argument("--data-dir", metavar="DIR", help="the store's folder; default: $GRAIN_MOLMO_DATA")
    what.add_argument("--split", metavar="S", help="only this split of a set, such as train or train_charts")
    what.add_argument("--stage", type=stage_name, choices=list(STAGES), help="the mixture of this stage instead")
    what.add_argument("--recipe", choices=list(RECIPES), help="with --stage: the published stage of that name")
    how = parser.add_argument_group("how to show it")
    how.add_argument(
        "--num-samples", type=whole_number(0), default=2, metavar="N", help="examples of a set to show (2)"
    )
    how.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(args: argparse.Namespace) -> int:
    """Prints what the folder holds, or what it holds of one set or stage; 1 if that set is not there."""
    if args.stage is not None:
        return _show_stage(args)
    if args.recipe is not None:
        raise ConfigError("--recipe belongs to --stage")
    if args.name is not None:
        return _show_set(args)
    if args.split is not None:
        raise ConfigError("--split needs the name of a set; without a name all splits are listed")
    try:
        data_dir = resolve_data_dir(args.data_dir)
    except ConfigError as error:
        return _show_convertible(error, args.json)
    return _show_store(data_dir, args.json)


# ---- the whole folder, and stages ----


def _show_store(data_dir: Path, as_json: bool) -> int:
    report = report_store(data_dir)
    there = {one.name for one in report.sets}
    missing = [name for name in _convertible() if name not in there]
    if as_json:
        print(json.dumps({"data_dir": str(data_dir), **asdict(report), "not_converted": missing}))
    else:
        print(text.store_text(data_dir, report, missing))
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
    else:
        print(text.convertible_text(hubs, problem))
    return EXIT_DONE


def _show_stage(args: argparse.Namespace) -> int:
    """What a stage trains on; 1 if sets of it, all of which it needs without a recipe, are not there."""
    if args.name is not None or args.split is not None:
        raise ConfigError("--stage shows a whole mixture: leave out NAME and --split")
    try:
        data_dir = resolve_data_dir(args.data_dir)
    except ConfigError:  # the mixture can be said without a folder
        data_dir = None
    parts = report_stage(find_stage(args.stage, args.recipe), data_dir)
    if args.json:
        print(json.dumps(stage_json(args.stage, args.recipe, data_dir, parts)))
    else:
        print(stage_text(args.stage, args.recipe, data_dir, parts))
    is_there = [part.examples is not None for part in parts]
    enough = any(is_there) if args.recipe else all(is_there)
    return EXIT_DONE if enough or data_dir is None else EXIT_NOT_THERE


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
            "records": jsonable(asdict(records)),
            "units": _units(name),
            "examples": [{"index": index, "example": jsonable(example)} for index, example in samples],
        }
        print(json.dumps(report))
    else:
        shown = text.SetText(dataset, name, data_dir, splits, rows, records, _units(name), _may_pass(asked), samples)
        print(text.set_text(shown))
    return EXIT_DONE


def _units(name: str) -> Mapping[str, str]:
    """What the numbers of a set's annotations are, by field."""
    from converters.sets import SETS

    return SETS[name].units if name in SETS else {}


def _may_pass(asked: Mapping[str, int]) -> int:
    """How many of the rows that the network lost a later run may win back."""
    if not asked:
        return 0
    from converters.fetch.reasons import may_pass

    return sum(count for reason, count in asked.items() if may_pass(reason))


def _set_of(dataset: str, converted: Sequence[str]) -> str:
    """The set in the store that a dataset's name stands for: pixmo_docs for pixmo_docs_charts, too.

    Raises ConfigError with the nearest names for one that stands for none.
    """
    if dataset in converted:
        return dataset
    if dataset in CONVERTED_DATASETS:
        factory: Any = CONVERTED_DATASETS[dataset]
        return getattr(factory, "func", factory).NAME  # the class, also under functools.partial
    from converters.sets import find_set, is_set

    if is_set(dataset):
        return find_set(dataset).name
    shown = [name.replace("_", "-") for name in dict.fromkeys([*converted, *_convertible(), *CONVERTED_DATASETS])]
    problem = ConfigError(f"there is no set {dataset.replace('_', '-')!r}, neither here nor among those of the hub")
    raise problem.with_hint(f"{did_you_mean(nearest(dataset, shown))}grain-molmo inspect lists them")


def _choose(splits: Sequence[SplitReport], name: str, wanted: str | None) -> list[SplitReport]:
    """The splits of that name, or that belong to it. Raises ConfigError if there is none."""
    chosen = [split for split in splits if wanted in (None, split.name, part_of(split.name))]
    if not chosen:
        names = list(dict.fromkeys(each for split in splits for each in (part_of(split.name), split.name)))
        problem = ConfigError(f"{name} has no split {wanted!r}; it has {', '.join(names)}")
        near = nearest(wanted or "", names)
        raise problem.with_hint(did_you_mean(near).strip()) if near else problem
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


# ---- a set that is not there ----


def _show_hub(args: argparse.Namespace, data_dir: Path | None) -> int:
    """Says what the set is on the hub and how to convert it; raises ConfigError for an unknown name."""
    from converters.sets import find_set

    spec = find_set(_set_of(canonical_name(args.name), []))
    videos = " --video-dir VIDEOS" if spec.is_video else ""
    report = {
        "name": spec.name,
        "data_dir": None if data_dir is None else str(data_dir),
        "converted": False,
        "hub": spec.hub,
        "configs": [config for config in spec.configs if config],
        "splits": list(spec.splits),
        "columns": dict(spec.required),
        "optional_columns": dict(spec.optional),
        "command": f"grain-molmo convert {spec.name.replace('_', '-')} --data-dir {data_dir or 'DATA'}{videos}",
    }
    print(json.dumps(report) if args.json else text.hub_text(report))
    return EXIT_NOT_THERE
