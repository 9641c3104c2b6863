"""Features that were computed before, straight from the files that hold them."""

import functools
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from grain_molmo.datasets.base import Dataset, Example
from grain_molmo.datasets.feature_table import FeatureTable, Labels, Layers, PathLike, open_feature_table
from grain_molmo.datasets.file_fingerprint import files_fingerprint
from grain_molmo.datasets.labelled import as_features
from grain_molmo.errors import ConfigError, ExampleError
from grain_molmo.rng import stable_hash

TRAIN, VALIDATION = "train", "validation"


class FeatureDataset(Dataset):
    """Features and labels of a file of tensors, or of a folder with a file for each layer.

    An example is `{"features": [*shape] float32, "label": int, "metadata": {...}}`: with `id` (the file's own `id` or
    `ids` of the row, else its number), `source`, `split` and what else the file says of the row. Draws nothing.

    Args:
        path: `.pt`, `.pth`, `.npy`, `.npz` or `.safetensors`, or a folder of them.
        labels: N whole numbers, or the path of a file with them; None: those of the file.
        split: "train" or "validation".
        layers: of a folder: a number or name for one layer, several for features [L, ...]; None: all.
        features_key: what the file calls the features.
        labels_key: what it calls the labels.
        validation_fraction: share of the rows to hold out as "validation", drawn by `seed`; 0: all rows are "train".
        seed: another one, other rows held out.
        num_classes: if given, labels must be 0 to this, exclusive.

    Raises:
        ConfigError: as `open_feature_table`; also a label of no class, or a split without rows.
    """

    def __init__(
        self,
        path: PathLike,
        labels: Labels | None = None,
        split: str = TRAIN,
        *,
        layers: Layers | None = None,
        features_key: str = "features",
        labels_key: str = "labels",
        validation_fraction: float = 0.0,
        seed: int = 0,
        num_classes: int | None = None,
    ):
        self.split = split
        path, labels = _absolute(path), _absolute(labels) if isinstance(labels, str | os.PathLike) else labels
        self._open = functools.partial(
            open_feature_table, path, labels, layers=layers, features_key=features_key, labels_key=labels_key
        )
        self._table: FeatureTable = self._open()
        _require_classes(self._table.labels_N, num_classes, path)
        self.rows_N = _rows_of_split(len(self._table), split, validation_fraction, seed)
        self.fingerprint = self._fingerprint()

    def __len__(self) -> int:
        return len(self.rows_N)

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of an example's features."""
        return self._table.shape

    @property
    def labels_N(self) -> np.ndarray:
        """[N] int32, the labels of all examples."""
        return self._table.labels_N[self.rows_N]

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the file says of all of its rows."""
        return self._table.metadata

    @functools.cached_property
    def ids(self) -> list[str]:
        """The id of each example."""
        return [self._table.identity(row) for row in self.rows_N.tolist()]

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item`. Raises ExampleError("not_finite") for features that are NaN or infinite."""
        row = int(self.rows_N[item])
        identity = self._table.identity(row)
        try:
            features = as_features(self._table.features(row)).astype(np.float32, copy=False)
        except ExampleError as error:
            raise ExampleError(error.reason, f"row {row} of {self._source}: {error.detail}", identity) from error
        metadata = {**self._table.known(row), "id": identity, "source": self._source, "split": self.split}
        return {"features": features, "label": int(self._table.labels_N[row]), "metadata": metadata}

    @property
    def _source(self) -> str:
        return self._table.files[0].stem if not self._table.is_stacked else self._table.files[0].parent.name

    def _fingerprint(self) -> str:
        chosen = (array.astype("<i8").tobytes() for array in (self.labels_N, self.rows_N))
        digests = [hashlib.blake2b(part, digest_size=8).hexdigest() for part in chosen]
        return f"{stable_hash(files_fingerprint(self._table.files), str(self.feature_shape), *digests):016x}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_table": None}  # the files are mapped again where it is opened

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._table = self._open()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._source!r}, {len(self)} examples of {list(self.feature_shape)})"


def _absolute(path: PathLike) -> Path:
    """For a copy in a process that works in another folder."""
    return Path(path).expanduser().absolute()


def _require_classes(labels_N: np.ndarray, num_classes: int | None, where: Any) -> None:
    if num_classes is None:
        return
    wrong = np.flatnonzero((labels_N < 0) | (labels_N >= num_classes))
    if len(wrong):
        row = int(wrong[0])
        raise ConfigError(
            f"{where}: row {row}: label is {labels_N[row]}, with {num_classes} classes it must be 0 to "
            f"{num_classes - 1}; {len(wrong):,} rows are like this"
        )


def _rows_of_split(number: int, split: str, fraction: float, seed: int) -> np.ndarray:
    """[N] int64, rows of the split in order: of the validation split the first of a shuffle that the seed draws."""
    if not 0 <= fraction < 1:
        raise ConfigError(f"validation_fraction={fraction}: must be at least 0 and below 1")
    if split not in (TRAIN, VALIDATION):
        raise ConfigError(f"split={split!r}: must be {TRAIN!r} or {VALIDATION!r}")
    shuffled = np.random.RandomState(stable_hash("held out", seed) % (1 << 32)).permutation(number)
    num_held_out = round(fraction * number)
    rows = shuffled[:num_held_out] if split == VALIDATION else shuffled[num_held_out:]
    if not len(rows):
        raise ConfigError(f"split {split!r} has none of the {number} rows; see validation_fraction={fraction}")
    return np.sort(rows)
