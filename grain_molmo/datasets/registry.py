"""Datasets by name."""

import functools
import os
from collections.abc import Callable
from typing import Any

from grain_molmo.datasets.base import Dataset, StoreDataset
from grain_molmo.datasets.evaluation import EVALUATION_DATASETS
from grain_molmo.datasets.molmo2 import MULTI_IMAGE_DATASETS
from grain_molmo.datasets.molmo2_video import VIDEO_DATASETS
from grain_molmo.datasets.pixmo import PIXMO_DATASETS
from grain_molmo.datasets.written import WrittenDataset, is_written, written_names
from grain_molmo.errors import ConfigError
from grain_molmo.store import canonical_name, resolve_data_dir

DatasetFactory = Callable[..., Dataset]

CONVERTED_DATASETS: dict[str, DatasetFactory] = {
    **PIXMO_DATASETS,
    **VIDEO_DATASETS,
    **MULTI_IMAGE_DATASETS,
    **EVALUATION_DATASETS,
}
"""The datasets of this library, all of which read the store."""

_REGISTRY: dict[str, DatasetFactory] = dict(CONVERTED_DATASETS)


def register_dataset(name: str, factory: DatasetFactory) -> None:
    """Makes a dataset known by name; a later registration of the same name replaces the earlier.

    Args:
        name: '-' and '_' are the same.
        factory: a `Dataset` class or a function, called as `factory(split=..., **kwargs)`.
    """
    if not callable(factory):
        raise ConfigError(f"register_dataset({name!r}, {factory!r}): give a Dataset class or a function that makes one")
    _REGISTRY[canonical_name(name)] = factory


def get_dataset(name: str, split: str = "train", **kwargs: Any) -> Dataset:
    """The dataset of that name.

    Args:
        name: '-' and '_' are the same. Registered, or of examples that were written into the data folder.
        split: which part of it.
        **kwargs: what the dataset takes, `data_dir` for the converted ones.

    Raises:
        ConfigError: no such name; the message lists those there are. (A ValueError, too.)
        StoreError: the dataset was not converted into the data folder.
    """
    canonical = canonical_name(name)
    if canonical in _REGISTRY:
        return _REGISTRY[canonical](split=split, **kwargs)
    data_dir = kwargs.get("data_dir")
    if is_written(data_dir, canonical):
        return WrittenDataset(canonical, split, **kwargs)
    where = f" (no examples of this name were written into {data_dir})" if data_dir is not None else ""
    raise ConfigError(f"unknown dataset {name!r}{where}; known: {', '.join(available_names(data_dir))}")


def open_dataset(name: str, split: str, data_dir: str | os.PathLike[str] | None) -> Dataset:
    """The dataset of that name, told where the store is if it is one that reads the store.

    A dataset of one's own may have a `data_dir` that means something else, so it is made with its split alone.
    """
    factory = _REGISTRY.get(canonical_name(name), WrittenDataset)
    made = factory.func if isinstance(factory, functools.partial) else factory
    reads_store = isinstance(made, type) and issubclass(made, StoreDataset)
    return get_dataset(name, split, data_dir=resolve_data_dir(data_dir)) if reads_store else get_dataset(name, split)


def available_names(data_dir: str | os.PathLike[str] | None) -> list[str]:
    """All registered names, and those of examples that were written into the data folder."""
    return sorted({*_REGISTRY, *written_names(data_dir)})


def dataset_names() -> list[str]:
    """All registered names."""
    return sorted(_REGISTRY)
