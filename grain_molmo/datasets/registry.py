"""Datasets by name: those of this library, those that were registered, and those that installed packages offer.

A package offers datasets as entry points of the group `grain_molmo.datasets`, in its pyproject.toml:

    [project.entry-points."grain_molmo.datasets"]
    birds = "acme_birds:Birds"
"""

import difflib
import functools
import logging
import os
import re
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from grain_molmo.datasets.base import Dataset, StoreDataset
from grain_molmo.datasets.evaluation import EVALUATION_DATASETS
from grain_molmo.datasets.features import FeatureDataset
from grain_molmo.datasets.molmo2 import MULTI_IMAGE_DATASETS
from grain_molmo.datasets.molmo2_video import VIDEO_DATASETS
from grain_molmo.datasets.pixmo import PIXMO_DATASETS
from grain_molmo.datasets.prompts import MathCodePrompts
from grain_molmo.datasets.spatial import SpatialRelations
from grain_molmo.datasets.written import WrittenDataset, is_written, written_names
from grain_molmo.errors import ConfigError
from grain_molmo.store import canonical_name, resolve_data_dir

logger = logging.getLogger(__name__)

DatasetFactory = Callable[..., Dataset]
PathLike = str | os.PathLike[str]

ENTRY_POINTS = "grain_molmo.datasets"
"""Group of the entry points that offer datasets."""

CONVERTED_DATASETS: dict[str, DatasetFactory] = {
    **PIXMO_DATASETS,
    **VIDEO_DATASETS,
    **MULTI_IMAGE_DATASETS,
    **EVALUATION_DATASETS,
}
"""The datasets of this library, all of which read the store."""

_REGISTRY: dict[str, DatasetFactory] = {
    **CONVERTED_DATASETS,
    MathCodePrompts.NAME: MathCodePrompts,
    "feature_files": FeatureDataset,
    "spatial_relations": SpatialRelations,
}


def register_dataset(name: str, factory: DatasetFactory) -> None:
    """Makes a dataset known by name; a later registration of the same name replaces the earlier.

    Args:
        name: '-' and '_' are the same.
        factory: a `Dataset` class or a function, called as `factory(split=..., **kwargs)`.

    Raises:
        ConfigError: `factory` is neither.
    """
    if not callable(factory):
        raise ConfigError(f"register_dataset({name!r}, {factory!r}): give a Dataset class or a function that makes one")
    _REGISTRY[canonical_name(name)] = factory


def get_dataset(name: str, split: str = "train", **kwargs: Any) -> Dataset:
    """The dataset of that name.

    Args:
        name: '-' and '_' are the same. Registered, or of examples that were written into the data folder, or offered by
            an installed package; the first of these that has it.
        split: which part of it.
        **kwargs: what the dataset takes, `data_dir` for the converted ones.

    Raises:
        ConfigError: no such name; the message has the nearest ones. Or a package offers it that does not import. (A
            ValueError, too.)
        StoreError: the dataset was not converted into the data folder.
    """
    return _find(name, kwargs.get("data_dir"))(split=split, **kwargs)


def open_dataset(name: str, split: str, data_dir: PathLike | None, args: Mapping[str, Any] | None = None) -> Dataset:
    """The dataset of that name, told where the store is if it is one that reads the store.

    A dataset of one's own may have a `data_dir` that means something else, so it is told only what `args` say.
    """
    factory = _find(name, data_dir)
    made = factory.func if isinstance(factory, functools.partial) else factory
    reads_store = isinstance(made, type) and issubclass(made, StoreDataset)
    told = {"data_dir": resolve_data_dir(data_dir)} if reads_store and "data_dir" not in (args or {}) else {}
    try:
        return factory(**{"split": split, **told, **(args or {})})
    except TypeError as error:
        error.add_note(f"while making dataset {name!r} with split={split!r} and dataset_args {dict(args or {})!r}")
        raise


def available_names(data_dir: PathLike | None) -> list[str]:
    """All names that `open_dataset` knows, those of examples that were written into the data folder among them."""
    return sorted({*dataset_names(), *written_names(data_dir)})


def dataset_names() -> list[str]:
    """All names of datasets of this library, of registered ones, and of those that installed packages offer."""
    _offered.cache_clear()
    return sorted({*_REGISTRY, *_offered()})


def _find(name: str, data_dir: PathLike | None) -> DatasetFactory:
    canonical = canonical_name(name)
    if canonical in _REGISTRY:
        _warn_if_shadowed(canonical, "registered already")
        return _REGISTRY[canonical]
    if is_written(data_dir, canonical):
        _warn_if_shadowed(canonical, "in the data folder")
        return functools.partial(WrittenDataset, canonical)
    _offered.cache_clear()  # it may have been installed meanwhile
    if canonical in _offered():
        return _imported(canonical, _offered()[canonical])
    raise ConfigError(_unknown(name, data_dir))


def _unknown(name: str, data_dir: PathLike | None) -> str:
    where = _where_it_was_not(data_dir)
    near = difflib.get_close_matches(canonical_name(name), available_names(data_dir))
    hint = f"the nearest: {', '.join(near)}; " if near else ""
    return (
        f"unknown dataset {name!r}{where}; {hint}grain_molmo.dataset_names() lists all that are registered, "
        "`grain-molmo inspect` those in a data folder, and grain_molmo.register_dataset adds one"
    )


def _where_it_was_not(data_dir: PathLike | None) -> str:
    try:
        folder = resolve_data_dir(data_dir)
    except ConfigError:
        return " (and no data folder was given to look for it: data_dir=, --data-dir or $GRAIN_MOLMO_DATA)"
    if not folder.is_dir():
        return f" (and there is no folder {folder})"
    return f" (no examples of this name were written into {folder})"


@functools.cache
def _offered() -> Mapping[str, list[EntryPoint]]:
    """Entry points of installed packages by the dataset's name. None is imported."""
    offered: dict[str, list[EntryPoint]] = {}
    try:
        points = entry_points(group=ENTRY_POINTS)
    except Exception as error:  # one package whose file of them is not well formed is enough
        _warn(f"what installed packages offer cannot be read ({type(error).__name__}: {error}); none of it is known")
        return {}
    for point in points:
        try:
            offered.setdefault(canonical_name(point.name), []).append(point)
        except ConfigError as error:
            _warn(f"{_package(point)} offers a dataset that nobody can ask for: {error}")
    return offered


def _imported(name: str, points: list[EntryPoint]) -> DatasetFactory:
    """What the entry point of that name stands for. Raises ConfigError if it does not import, or there are two."""
    if len(points) > 1:
        packages = " and ".join(sorted(map(_package, points)))
        raise ConfigError(f"dataset {name!r} is offered by {packages}; register the one you mean under another name")
    (point,) = points
    try:
        factory = point.load()
    except (Exception, SystemExit) as error:  # whatever another's module trips over
        problem = f"{type(error).__name__}: {error}"
        raise ConfigError(f"dataset {name!r} of {_package(point)}: {point.value} fails: {problem}") from error
    if not callable(factory):
        wanted = "a Dataset class or a function that makes one"
        raise ConfigError(f"dataset {name!r} of {_package(point)}: {point.value} is {factory!r}, not {wanted}")
    return cast("DatasetFactory", factory)


def _warn_if_shadowed(name: str, why: str) -> None:
    for point in _offered().get(name, ()):
        # A package may also register its datasets itself when it is imported.
        package = re.split("[.:]", point.value)[0]  # `point.module` fails where the value is not well formed
        if getattr(_REGISTRY.get(name), "__module__", "").partition(".")[0] != package:
            _warn(f"{_package(point)} offers a dataset {name!r}, which is {why}; the package's is not used")


@functools.cache
def _warn(message: str) -> None:
    """Once a message."""
    logger.warning(message)


def _package(point: EntryPoint) -> str:
    return f"package {point.dist.name} {point.dist.version}" if point.dist is not None else f"entry point {point.name}"
