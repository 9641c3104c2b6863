"""What a stage trains on: its mixture, which of its sets are there, and how to get the others."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from grain_molmo.datasets.registry import CONVERTED_DATASETS, available_names, open_dataset
from grain_molmo.errors import MissingSplitError, NotConvertedError
from grain_molmo.readable import table, terminal_width
from grain_molmo.stages import Stage, group_weights
from grain_molmo.tools.colour import paint


@dataclass(frozen=True)
class Part:
    """A dataset of a stage's mixture.

    Attributes:
        name: of the dataset.
        group: of the stage that it is listed in; "" for a plain mixture.
        weight: its share of the examples that are drawn, 0 to 1; of a group, among the datasets that are there. None
            if that cannot be said.
        examples: that it has; None if it is not there.
        set_name: the set that it is converted from; None if this library does not convert it.
        is_video: whether that set's videos must be brought along.
    """

    name: str
    group: str
    weight: float | None
    examples: int | None
    set_name: str | None
    is_video: bool


def report_stage(stage: Stage, data_dir: Path | None) -> list[Part]:
    """The datasets of a stage in its order, and what the folder holds of them; nothing without a folder.

    Raises StoreError if one of them is damaged.
    """
    groups = {member.name: group.name for group in stage.groups for member in group.members}
    names = list(groups or stage.weights)
    known = set(available_names(data_dir))
    sizes = {name: _size(stage, name, data_dir) for name in names if name in known}
    there = {name: size for name, size in sizes.items() if size is not None}
    weights: Mapping[str, float] = stage.weights
    if groups:
        weights = group_weights(stage.groups, there)
        total = sum(weights.values())
        weights = {name: weight / total for name, weight in weights.items()}
    return [_part(name, groups.get(name, ""), weights.get(name), there.get(name)) for name in names]


def _part(name: str, group: str, weight: float | None, examples: int | None) -> Part:
    from converters.choose import set_of_dataset  # the command line alone reaches to the converters
    from converters.sets import SETS

    set_name = set_of_dataset(name) if name in CONVERTED_DATASETS else None
    is_video = set_name is not None and SETS[set_name].is_video
    return Part(name, group, weight, examples, set_name, is_video)


def _size(stage: Stage, name: str, data_dir: Path | None) -> int | None:
    if data_dir is None:
        return None
    try:
        return len(open_dataset(name, stage.split, data_dir, stage.dataset_args.get(name)))
    except (NotConvertedError, MissingSplitError):
        return None


def missing_sets(parts: Sequence[Part]) -> list[str]:
    """The sets that would have to be converted, each once."""
    return list(dict.fromkeys(part.set_name for part in parts if part.examples is None and part.set_name))


def convert_command(parts: Sequence[Part], data_dir: Path | None) -> str:
    """The command that converts what is missing; "" if nothing is, or nothing can be."""
    names = [name.replace("_", "-") for name in missing_sets(parts)]
    if not names:
        return ""
    videos = " --video-dir VIDEOS" if any(part.is_video and part.examples is None for part in parts) else ""
    return f"grain-molmo convert {' '.join(names)} --data-dir {data_dir or 'DATA'}{videos}"


def stage_json(stage: str, recipe: str | None, data_dir: Path | None, parts: Sequence[Part]) -> dict[str, Any]:
    """The same as JSON-able values."""
    return {
        "stage": stage,
        "recipe": recipe,
        "data_dir": None if data_dir is None else str(data_dir),
        "datasets": [asdict(part) for part in parts],
        "not_converted": missing_sets(parts),
        "command": convert_command(parts, data_dir) or None,
    }


def stage_text(stage: str, recipe: str | None, data_dir: Path | None, parts: Sequence[Part]) -> str:
    """The mixture for people, and what to do next."""
    of = f" of recipe {recipe}" if recipe else ""
    there = [part for part in parts if part.examples is not None]
    if data_dir is None:
        where = "which sets are there cannot be said without --data-dir or $GRAIN_MOLMO_DATA"
    else:
        where = f"{len(there)} of its {len(parts)} datasets are in {data_dir}"
    convertible = [part for part in parts if part.set_name or part.examples is not None]
    lines = [f"stage {stage}{of}: {where}", "", _mixture_table(convertible, data_dir)]
    if others := [part.name for part in parts if part not in convertible]:
        names = f"not converted by this library ({len(others)}): {', '.join(others)}"
        lines += ["", *textwrap.wrap(names, terminal_width() or 120, subsequent_indent="  ")]
        lines += ["  a loader leaves them out, and the others of their group share their part"]
    if command := convert_command(parts, data_dir):
        lines += ["", f"get what is missing:  {paint(command, 'hint')}"]
    if there and (recipe or len(there) == len(parts)):
        words = f"{stage!r}, " + (f"recipe={recipe!r}, " if recipe else "")
        lines += ["", f"in Python:  grain_molmo.make_loader({words}data_dir={str(data_dir)!r})"]
    return "\n".join(lines)


def _mixture_table(parts: Sequence[Part], data_dir: Path | None) -> str:
    grouped = any(part.group for part in parts)
    rows = [
        [
            *([part.group] if grouped else []),
            part.name,
            "-" if part.weight is None else f"{part.weight:.1%}",
            "?" if data_dir is None else "missing" if part.examples is None else f"{part.examples:,}",
        ]
        for part in parts
    ]
    return table([*(["group"] if grouped else []), "dataset", "weight", "examples"], rows, left=2 if grouped else 1)
