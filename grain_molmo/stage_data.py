"""What a stage draws from: its datasets opened, and the phases of its mixture with weights by dataset."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, count
from typing import Any

from grain_molmo.datasets.base import Dataset, PathLike, StoreDataset
from grain_molmo.datasets.registry import available_names, open_dataset
from grain_molmo.errors import ConfigError, MissingSplitError, NotConvertedError
from grain_molmo.packing.rows import PlanPhase
from grain_molmo.quarantine import read_quarantine
from grain_molmo.stages import DatasetRule, Group, Paths, Stage, as_paths, group_weights
from grain_molmo.store import canonical_name

logger = logging.getLogger(__name__)


def open_datasets(
    stage: Stage, data_dir: PathLike | None, datasets: Mapping[str, Dataset] | None = None
) -> tuple[dict[str, Dataset], list[str]]:
    """The datasets of all phases of a stage by name, and the names of its groups' that cannot be opened.

    Args:
        stage: says which, and with what arguments they are made.
        data_dir: where the converted ones are.
        datasets: some that are made already, by the names that the stage has for them.

    Raises:
        ConfigError: an unknown name, in a mixture; a dataset that the stage does not name, or that has no examples.
        StoreError: a dataset of a mixture was not converted into the folder, or none of the groups' was; a shard is
            missing or cut off, which is found at once and not hours into the run.
    """
    by_weight = dict.fromkeys(name for phase in stage.all_phases for name in phase.weights)
    groups = [group for phase in stage.all_phases for group in phase.groups]
    given = _given(stage, datasets or {}, {*by_weight, *(member.name for group in groups for member in group.members)})
    opened = {name: given[name] if name in given else _open(stage, name, data_dir) for name in by_weight}
    grouped, missing = _open_groups(stage, groups, data_dir, given)
    opened = {**grouped, **opened}
    if empty := [name for name, dataset in opened.items() if not len(dataset)]:
        raise ConfigError(f"dataset {empty[0]!r} has no examples")
    _check_stores(opened.values())
    return opened, [name for name in missing if name not in opened]


def open_to_evaluate(
    wanted: str | Dataset | Sequence[str | Dataset], stage: Stage, split: str | None, data_dir: PathLike | None
) -> tuple[dict[str, Dataset], dict[str, DatasetRule]]:
    """Datasets to go through one after the other, by name, in this order, and the stage's rules for some of them.

    A name that comes again gets a number.

    Args:
        wanted: a name, "name:split" or a dataset; or several.
        stage: has arguments of datasets and rules for them.
        split: of names that don't say one; None: see `open_named`.
        data_dir: where the converted ones are.

    Raises:
        ConfigError: a name that is unknown, or a split that there is not.
        StoreError: a dataset was not converted into the folder, or a shard is missing or cut off.
    """
    opened: dict[str, Dataset] = {}
    rules: dict[str, DatasetRule] = {}
    for one in [wanted] if isinstance(wanted, str | Dataset) else wanted:
        if isinstance(one, str):
            base = canonical_name(one.partition(":")[0])
            dataset = open_named(one, split, data_dir, stage.dataset_args.get(base))
        elif isinstance(one, Dataset):
            base, dataset = type(one).__name__, one
        else:
            raise ConfigError(f"{one!r:.80} is nothing to evaluate; give a grain_molmo.Dataset or a name")
        name = next(name for name in chain([base], (f"{base}.{n}" for n in count(2))) if name not in opened)
        opened[name] = dataset
        if base in stage.rules:
            rules[name] = stage.rules[base]
    if not opened:
        raise ConfigError("there is nothing to evaluate: no dataset is given")
    _check_stores(opened.values())
    return opened, rules


def open_named(
    name: str, split: str | None, data_dir: PathLike | None, args: Mapping[str, Any] | None = None
) -> Dataset:
    """The dataset of "name:split", or of "name" and the split; without one its "validation", or else its "test"."""
    base, _, own_split = name.partition(":")
    if own_split or split:
        return open_dataset(base, own_split or split or "", data_dir, args)
    try:
        return open_dataset(base, "validation", data_dir, args)
    except MissingSplitError:
        return open_dataset(base, "test", data_dir, args)


def _given(stage: Stage, datasets: Mapping[str, Dataset], listed: Collection[str]) -> dict[str, Dataset]:
    """The datasets that the caller made, by their canonical names. Raises ConfigError for one of no use."""
    given: dict[str, Dataset] = {}
    for name, dataset in datasets.items():
        if not isinstance(dataset, Dataset):
            raise ConfigError(f"datasets[{name!r}] is {dataset!r:.80}; give a grain_molmo.Dataset that is made already")
        if (canonical := canonical_name(name)) not in listed:
            raise ConfigError(f"datasets has {name!r}, which stage {stage.name!r} does not; name it in the mixture")
        if canonical in given or canonical in stage.dataset_args:
            raise ConfigError(f"dataset {name!r} is made already; it has one object and no dataset_args")
        given[canonical] = dataset
    return given


def _open(stage: Stage, name: str, data_dir: PathLike | None) -> Dataset:
    return open_dataset(name, stage.split, data_dir, stage.dataset_args.get(name))


def _open_groups(
    stage: Stage, groups: Iterable[Group], data_dir: PathLike | None, given: Mapping[str, Dataset]
) -> tuple[dict[str, Dataset], list[str]]:
    """The datasets of the groups that there are, and the names of the others."""
    names = dict.fromkeys(member.name for group in groups for member in group.members)
    if not names:
        return {}, []
    known = set(available_names(data_dir))
    opened = {name: given[name] for name in names if name in given}
    unknown: list[str] = []
    unconverted: list[str] = []
    for name in (name for name in names if name not in opened):
        if name not in known:
            unknown.append(name)
            continue
        try:
            opened[name] = _open(stage, name, data_dir)
        except (NotConvertedError, MissingSplitError):
            unconverted.append(name)
    for lacking, why, cure in (
        (unknown, "not registered", "register them with grain_molmo.register_dataset"),
        (unconverted, "not converted", "convert them with grain-molmo convert"),
    ):
        if lacking:
            message = "stage %r lists datasets that are %s: %s; the others share their part. To have them, %s."
            logger.warning(message, stage.name, why, ", ".join(lacking), cure)
    if not opened:
        raise NotConvertedError(f"none of the datasets of stage {stage.name!r} was converted: {', '.join(unconverted)}")
    return opened, unknown + unconverted


def _check_stores(datasets: Iterable[Dataset]) -> None:
    stored = [dataset for dataset in datasets if isinstance(dataset, StoreDataset)]
    for dataset in stored:
        dataset.records.check()
    for media in {id(dataset.media): dataset.media for dataset in stored}.values():
        media.check()


def plan_phases(stage: Stage, datasets: Mapping[str, Dataset], exclude: Paths = ()) -> list[PlanPhase]:
    """The stage's phases with the weights that they come to.

    Args:
        stage: its first mixture and its `phases`.
        datasets: those that are there, by name.
        exclude: quarantine files of examples to leave out from the start; each phase adds its own.

    Raises:
        ConfigError: a phase of which no dataset is there, or a quarantine file that is not there or of other data.
    """
    sizes = {name: len(dataset) for name, dataset in datasets.items()}
    paths = [*as_paths(exclude)]
    phases: list[PlanPhase] = []
    for phase in stage.all_phases:
        paths += phase.exclude
        weights = phase.weights or group_weights(phase.groups, sizes)
        if not weights:
            raise ConfigError(f"stage {stage.name!r}: no dataset of the phase from step {phase.step} is there")
        # Of the phase's own datasets only: what is said of those that come later is no part of it.
        drawn = {name: datasets[name] for name in weights}
        excluded = read_quarantine(paths, drawn).examples
        phases.append(PlanPhase(phase.step, weights, excluded))
    return phases
