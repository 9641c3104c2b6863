"""What features.json of a TFDS folder says about the features of its records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PLAIN = ("Text", "Image", "Scalar", "Tensor", "ClassLabel", "BBox", "BBoxFeature")
_DICTS = ("FeaturesDict", "Translation")
_LISTS = ("Sequence",)


@dataclass(frozen=True)
class Feature:
    """A feature, and those inside it.

    Attributes:
        kind: TFDS's name of its class.
        path: its name in a record, the names above it in front.
        inner: by name, of a dict; of a list what its items are, under "".
        is_text: whether its bytes are text.
        is_scalar: whether it is one value.
        length: numbers in one item, 0 if that is not known.
        names: of classes.
    """

    kind: str
    path: str
    inner: Mapping[str, "Feature"] = field(default_factory=dict)
    is_text: bool = False
    is_scalar: bool = False
    length: int = 0
    names: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, described: Mapping[str, Any], path: str, folder: Path) -> "Feature":
        """The feature that a part of features.json describes. Raises KeyError or TypeError if it is none."""
        kind = described["pythonClassName"].rpartition(".")[2]
        if kind in _DICTS:
            features = described["featuresDict"]["features"]
            inner = {
                name: cls.from_json(one, f"{path}/{name}" if path else name, folder) for name, one in features.items()
            }
            return cls(kind, path, inner)
        if kind in _LISTS:
            return cls(kind, path, {"": cls.from_json(described["sequence"]["feature"], path, folder)})
        if kind == "ClassLabel":
            return cls(kind, path, is_scalar=True, names=_class_names(folder, path))
        if kind in ("BBox", "BBoxFeature"):
            return cls(kind, path, length=4)
        tensor = described.get("tensor", {})
        shape = [int(size) for size in tensor.get("shape", {}).get("dimensions", ())]
        is_text = kind == "Text" or tensor.get("dtype") in ("string", "object")
        is_scalar = kind in ("Text", "Image", "Scalar") or not shape
        return cls(kind, path, is_text=is_text, is_scalar=is_scalar, length=max(0, _product(shape)))

    def row(self, features: Mapping[str, list[Any]]) -> dict[str, Any]:
        """The row of a record's features. Raises ValueError if a value is not what was described."""
        value = self._value(features)
        return value if isinstance(value, dict) else {"value": value}

    def _value(self, features: Mapping[str, list[Any]]) -> Any:
        if self.kind in _DICTS:
            return {name: one._value(features) for name, one in self.inner.items()}
        if self.kind in _LISTS:
            return self.inner[""]._values(features)
        values = self._read(features)
        if values is None or not self.is_scalar:
            return values
        return values[0] if values else None

    def _values(self, features: Mapping[str, list[Any]]) -> Any:
        """The items of a list: dicts come from lists of each of their fields."""
        if self.kind in _DICTS:
            columns = {name: one._values(features) for name, one in self.inner.items()}
            lists = {name: column for name, column in columns.items() if isinstance(column, list)}
            length = max(map(len, lists.values()), default=0)
            return [{name: column[i] for name, column in lists.items() if i < len(column)} for i in range(length)]
        values = self._read(features)
        if values is None or self.is_scalar or self.length <= 1:
            return values
        return [values[at : at + self.length] for at in range(0, len(values), self.length)]

    def _read(self, features: Mapping[str, list[Any]]) -> list[Any] | None:
        """The values as the record has them; None if the kind, or the way that it is written, is not known here."""
        if self.kind not in _PLAIN or self.path not in features:
            return None
        values = features[self.path]
        if self.names:
            return [self.names[value] if 0 <= value < len(self.names) else value for value in values]
        return [value.decode() for value in values] if self.is_text else values


def _class_names(folder: Path, path: str) -> tuple[str, ...]:
    """TFDS keeps the names of classes in a file beside features.json."""
    file = folder / f"{path.replace('/', '-')}.labels.txt"
    return tuple(file.read_text(encoding="utf-8").splitlines()) if file.is_file() else ()


def _product(sizes: list[int]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product
