"""Datasets of the Hugging Face hub, or of files in its forms, read as they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grain_molmo.datasets.base import DatasetBase
from grain_molmo.errors import ConfigError

_FORMATS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv", ".arrow": "arrow"}


class HfDataset(DatasetBase):
    """A dataset that the `datasets` library reads: a subclass gives `PATH` and `get`, which finds rows in `self.data`.

    Rows are read from files in Arrow's form, so a large dataset takes no memory, and a pickled one is small.

    Args:
        split: see `DatasetBase`.

    Raises:
        ConfigError: there is no PATH, nothing there, or no such split.
    """

    PATH: str = ""
    """Of the hub (owner/name), or of a folder or file of this machine: a table, or what `save_to_disk` wrote."""

    @classmethod
    def download(cls, n_procs: int | None = None) -> None:
        """Fetches and prepares all splits, so that `load` finds them; `n_procs` processes at a time."""
        _load(cls, None, n_procs)

    def load(self) -> Any:
        """The rows of `self.split`, a `datasets.Dataset`."""
        return _load(type(self), self.split, None)


def _load(dataset: type[HfDataset], split: str | None, n_procs: int | None) -> Any:
    path = str(dataset.PATH)
    if not path:
        raise ConfigError(f"{dataset.__name__} has no PATH; name a dataset of the hub, a folder or a file")
    try:
        return _load_path(path, split, n_procs)
    except (FileNotFoundError, ConnectionError) as error:  # what `datasets` raises for one that is not there
        known = "no folder or file of this machine, and no dataset of the hub that can be reached"
        raise ConfigError(f"{dataset.__name__}.PATH is {path!r}: {known} ({error})") from error
    except (ValueError, KeyError) as error:
        what = path if split is None else f"split {split!r} of {path}"
        raise ConfigError(f"{dataset.__name__}: {what} cannot be loaded: {error}") from error


def _load_path(path: str, split: str | None, n_procs: int | None) -> Any:
    import datasets  # takes a second
    from datasets.exceptions import DatasetGenerationError

    folder = Path(path).expanduser()
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        saved = datasets.load_from_disk(str(folder))
        splits = saved if isinstance(saved, datasets.DatasetDict) else {str(saved.split or "train"): saved}
        return splits if split is None else _split_of(splits, split)
    if folder.is_file() and folder.suffix.lower() not in _FORMATS:
        raise ValueError(f"a file must be one of {', '.join(_FORMATS)}")
    try:
        if folder.is_file():
            kind = _FORMATS[folder.suffix.lower()]
            return datasets.load_dataset(kind, data_files=str(folder), split=split, num_proc=n_procs)
        return datasets.load_dataset(str(folder) if folder.is_dir() else path, split=split, num_proc=n_procs)
    except DatasetGenerationError as error:  # which says nothing of the reason itself
        raise ValueError(f"it does not read ({error.__cause__ or error})") from error


def _split_of(splits: Mapping[Any, Any], split: str) -> Any:
    if split not in splits:
        raise ValueError(f"it has {', '.join(map(str, splits))}")
    return splits[split]
