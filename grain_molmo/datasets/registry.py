"""Datasets by name."""

from collections.abc import Callable
from typing import Any

from grain_molmo.datasets.base import Dataset
from grain_molmo.datasets.pixmo import PIXMO_DATASETS
from grain_molmo.errors import ConfigError
from grain_molmo.store import canonical_name

DatasetFactory = Callable[..., Dataset]

_REGISTRY: dict[str, DatasetFactory] = dict(PIXMO_DATASETS)


def register_dataset(name: str, factory: DatasetFactory) -> None:
    """Makes a dataset known by name; a later registration of the same name replaces the earlier.

    Args:
        name: '-' and '_' are the same.
        factory: a `Dataset` class or a function, called as `factory(split=..., **kwargs)`.
    """
    _REGISTRY[canonical_name(name)] = factory


def get_dataset(name: str, split: str = "train", **kwargs: Any) -> Dataset:
    """The dataset of that name.

    Args:
        name: '-' and '_' are the same.
        split: which part of it.
        **kwargs: what the dataset takes, `data_dir` for the converted ones.

    Raises:
        ConfigError: no such name; the message lists those there are. (A ValueError, too.)
        StoreError: the dataset was not converted into the data folder.
    """
    canonical = canonical_name(name)
    if canonical not in _REGISTRY:
        raise ConfigError(f"unknown dataset {name!r}; known: {', '.join(dataset_names())}")
    return _REGISTRY[canonical](split=split, **kwargs)


def dataset_names() -> list[str]:
    """All registered names."""
    return sorted(_REGISTRY)
