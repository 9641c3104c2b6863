"""Files of features as rows: a vector and a label each, and what else their file says of a row."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from converters.own.groups import KEY
from converters.own.source import OwnSource
from converters.own.tables import Part, split_of
from converters.rows import Row
from grain_molmo.datasets.feature_table import FeatureTable, is_tensor_file, open_feature_table


class TensorRows:
    """A row for each of a table's: its name as `__key__`, features, label, and what the file says of it.

    Args:
        table: of features.
        features, label: what their columns are called.
    """

    schema = None
    folder: Path | None = None

    def __init__(self, table: FeatureTable, features: str, label: str):
        self._table, self._features, self._label = table, features, label
        self.beside = tuple(name for name in table.columns if name not in (KEY, features, label))
        self.columns = (KEY, features, label, *self.beside)

    def __len__(self) -> int:
        return len(self._table)

    def row(self, index: int) -> Row:
        """One row, its features as the file has them."""
        return {**self._without_features(index), self._features: self._table.features(index)}

    def _without_features(self, index: int) -> Row:
        return {
            **self._table.known(index),
            KEY: self._table.identity(index),
            self._label: int(self._table.labels_N[index]),
        }

    def select(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """Whole columns; of features only if they are asked for."""
        read = self.row if self._features in names else self._without_features
        rows = [read(index) for index in range(len(self))]
        return {name: [row.get(name) for row in rows] for name in names}


def tensor_parts(path: Path) -> list[Part]:
    """The one split of a file or folder of features, by its name."""
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if is_tensor_file(file))
    return [Part(split_of(path, path), tuple(files))] if files else []


def tensor_rows(path: Path, own: OwnSource) -> TensorRows:
    """The rows of a file or folder of features. Raises ConfigError as `open_feature_table` does."""
    chosen = dict(own.columns)
    features, label = chosen.get("features", "features"), chosen.get("label", "label")
    layers = [int(layer) if layer.isdecimal() else layer for layer in own.layers]
    only = layers[0] if len(layers) == 1 else layers or None
    labels_key = chosen.get("label", "labels")
    table = open_feature_table(path, own.labels, layers=only, features_key=features, labels_key=labels_key)
    return TensorRows(table, features, label)
