"""Features of a file or of a folder of layers, with their labels and what else is known of each row."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grain_molmo.datasets.labelled import as_label
from grain_molmo.errors import ConfigError, ExampleError
from grain_molmo.tensors import TENSOR_SUFFIXES, load_tensors

PathLike = str | os.PathLike[str]
Labels = PathLike | Sequence[int] | np.ndarray
Layers = int | str | Sequence[int | str]

METADATA = "metadata"
_IDS = ("id", "ids")


@dataclass(frozen=True)
class FeatureTable:
    """Rows of labelled features.

    Attributes:
        files: that they are from.
        layers: [N, *shape] of each layer; one, unless they are stacked.
        is_stacked: whether features have the layer as their first dimension.
        labels_N: [N] int32.
        columns: what is known of each row, N values each.
        metadata: what is known of all.
    """

    files: tuple[Path, ...]
    layers: tuple[np.ndarray, ...]
    is_stacked: bool
    labels_N: np.ndarray
    columns: Mapping[str, Sequence[Any]]
    metadata: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row's features."""
        one = self.layers[0].shape[1:]
        return (len(self.layers), *one) if self.is_stacked else one

    def features(self, row: int) -> np.ndarray:
        """[*shape] of one row, as the file has them; a copy."""
        return np.stack([layer[row] for layer in self.layers]) if self.is_stacked else np.array(self.layers[0][row])

    def identity(self, row: int) -> str:
        """The row's name: its `id` or `ids`, else its number."""
        names = next((self.columns[name] for name in _IDS if name in self.columns), None)
        return f"{row:09d}" if names is None else str(_plain(names[row]))

    def known(self, row: int) -> dict[str, Any]:
        """What else is known of one row."""
        return {name: _plain(values[row]) for name, values in self.columns.items()}


def is_tensor_file(path: Path) -> bool:
    """Whether the file holds tensors, by its name."""
    return path.suffix.lower() in TENSOR_SUFFIXES and not path.name.startswith(".")


def open_feature_table(
    path: PathLike,
    labels: Labels | None = None,
    *,
    layers: Layers | None = None,
    features_key: str = "features",
    labels_key: str = "labels",
) -> FeatureTable:
    """The features of a file, or of the files of a folder; nothing but labels is read yet.

    A file holds an array [N, ...], or a dict of such with `features`, `labels` and perhaps `metadata`. Other arrays of
    N, and lists of N in `metadata`, belong to the rows; the rest of `metadata` belongs to all.

    Args:
        path: a file that `load_tensors` reads, or a folder with one for each layer of the same rows
            (`layer_10.pt`, `layer_23.pt`).
        labels: if the files have none, or others are wanted: N whole numbers, or the path of a file with them.
        layers: of a folder, by number or name: one gives its features, several are stacked in this order. None: all,
            by number.
        features_key: what the features are called.
        labels_key: what the labels are called.

    Raises:
        ConfigError: there is no such file, layer or key, or the arrays do not belong together; the message says which.
    """
    path = Path(path).expanduser()
    files, is_stacked = ((path,), False) if not path.is_dir() else _layer_files(path, layers, labels)
    if layers is not None and not path.is_dir():
        raise ConfigError(f"{path} is one file; layers={layers!r} is for a folder of them")
    found = [_contents(file, features_key) for file in files]
    arrays = tuple(_features(file, content[features_key]) for file, content in zip(files, found, strict=True))
    for file, array in zip(files, arrays, strict=True):
        if array.shape != arrays[0].shape:
            raise ConfigError(f"{file} is {list(array.shape)}, {files[0]} is {list(arrays[0].shape)}: name the layers")
    number = len(arrays[0])
    labels_N = _common_labels(files, found, labels, labels_key, number)
    columns, metadata = _about(found[0], (features_key, labels_key), number)
    return FeatureTable(files, arrays, is_stacked, labels_N, columns, metadata)


def _layer_files(folder: Path, layers: Layers | None, labels: Labels | None) -> tuple[tuple[Path, ...], bool]:
    """The files of the layers, and whether they are to be stacked. The labels may lie beside them."""
    beside = Path(labels).expanduser().resolve() if isinstance(labels, str | os.PathLike) else None
    files = [file for file in sorted(folder.iterdir(), key=_by_number) if is_tensor_file(file)]
    by_name: dict[str, Path] = {}
    for file in (file for file in files if file.resolve() != beside):
        if (other := by_name.setdefault(file.stem, file)) != file:
            raise ConfigError(f"{folder} has {other.name} and {file.name} for one layer; leave one")
    if not by_name:
        raise ConfigError(f"{folder} holds no file of tensors ({', '.join(TENSOR_SUFFIXES)})")
    if layers is None:
        return tuple(by_name.values()), len(by_name) > 1
    is_one = isinstance(layers, int | str)
    chosen = [_chosen(folder, by_name, layer) for layer in ([layers] if is_one else layers)]
    if not chosen:
        raise ConfigError(f"layers={layers!r}: name at least one of {', '.join(by_name)}")
    return tuple(chosen), not is_one


def _chosen(folder: Path, by_name: Mapping[str, Path], layer: int | str) -> Path:
    numbered = [file for name, file in by_name.items() if isinstance(layer, int) and _numbers(name)[-1:] == [layer]]
    found = [by_name[layer]] if layer in by_name and isinstance(layer, str) else numbered
    if len(found) != 1:
        raise ConfigError(f"{folder} has {len(found)} files for layer {layer!r}; it has {', '.join(by_name)}")
    return found[0]


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name)]


def _by_number(path: Path) -> tuple[list[int], str]:
    return _numbers(path.stem), path.name


def _contents(file: Path, features_key: str) -> Mapping[str, Any]:
    content = load_tensors(file)
    if isinstance(content, np.ndarray):
        return {features_key: content}
    if not isinstance(content, Mapping):
        kind = type(content).__name__
        raise ConfigError(f"{file} holds a {kind}; features are an array, or a dict with {features_key!r}")
    if features_key not in content:
        has = ", ".join(f"{name!r} {_described(value)}" for name, value in list(content.items())[:20]) or "nothing"
        raise ConfigError(
            f"{file} has no {features_key!r}; it has {has}. Name the features: features_key=, or --columns features="
        )
    return content


def _described(value: Any) -> str:
    return str(list(value.shape)) if isinstance(value, np.ndarray) else f"({type(value).__name__})"


def _features(file: Path, value: Any) -> np.ndarray:
    is_number = isinstance(value, np.ndarray) and value.dtype.kind in "fiubV"  # V: bfloat16
    if not is_number or value.ndim < 2 or 0 in value.shape:
        raise ConfigError(f"{file}: features are {_described(value)}; they must be numbers [rows, ...]")
    return value


def _common_labels(
    files: Sequence[Path], found: Sequence[Mapping[str, Any]], labels: Labels | None, labels_key: str, number: int
) -> np.ndarray:
    """The labels that were given, else those of the files, which must agree."""
    if labels is not None:
        return _labels(*_given_labels(labels, labels_key), number)
    own = [_labels(one[labels_key], file, number) for file, one in zip(files, found, strict=True) if labels_key in one]
    if not own:
        raise ConfigError(
            f"{files[0]} has no {labels_key!r}; give them with labels=, numbers or the path of a file, or --labels"
        )
    if any(not np.array_equal(own[0], other) for other in own):
        raise ConfigError(f"the files of {files[0].parent} have different labels: they are not layers of the same rows")
    return own[0]


def _given_labels(labels: Labels, labels_key: str) -> tuple[Any, Any]:
    """The labels, and where they are from."""
    if not isinstance(labels, str | os.PathLike):
        return labels, "labels"
    content = load_tensors(labels)
    if isinstance(content, Mapping) and labels_key in content:
        content = content[labels_key]
    return content, labels


def _labels(value: Any, where: Any, number: int) -> np.ndarray:
    """[N] int32. Raises ConfigError naming the row and its value."""
    try:
        values = np.asarray(value)
    except ValueError as error:
        raise ConfigError(f"{where}: labels are of no shape ({error})") from error
    if values.shape != (number,):
        raise ConfigError(f"{where}: labels are {list(values.shape)}, the features have {number:,} rows")
    try:
        with np.errstate(invalid="ignore"):
            labels = values.astype(np.int32)
        if values.dtype.kind in "biuf" and np.array_equal(labels.astype(values.dtype), values):
            return labels
    except (ValueError, TypeError, OverflowError):
        pass
    for row in range(number):
        try:
            as_label(values[row])
        except ExampleError as error:
            raise ConfigError(f"{where}: row {row}: {error.detail}") from error
    raise ConfigError(f"{where}: labels are {values.dtype}, not whole numbers")


def _about(
    content: Mapping[str, Any], taken: Sequence[str], number: int
) -> tuple[dict[str, Sequence[Any]], dict[str, Any]]:
    """What a file says beside features and labels: of each row, and of all."""
    beside = {str(name): value for name, value in content.items() if name not in taken}
    if isinstance(content.get(METADATA), Mapping):
        beside |= {str(name): value for name, value in beside.pop(METADATA).items()}
    of_rows = {name: value for name, value in beside.items() if _is_of_rows(value, number)}
    return of_rows, {name: value for name, value in beside.items() if name not in of_rows}


def _is_of_rows(value: Any, number: int) -> bool:
    is_list = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)
    return is_list and len(value) == number


def _plain(value: Any) -> Any:
    """What a file says of a row without NumPy's types; bytes, as arrays of texts are often saved, as text."""
    plain = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return plain.decode(errors="replace") if isinstance(plain, bytes) else plain
