"""Spatial relations: pictures of which a relation holds or does not, in rows of `save_to_disk`."""

import functools
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from grain_molmo.datasets.base import Dataset, Example, PathLike, require
from grain_molmo.datasets.file_fingerprint import files_fingerprint
from grain_molmo.datasets.labelled import as_features, as_label
from grain_molmo.errors import ConfigError, ExampleError
from grain_molmo.rng import stable_hash
from grain_molmo.vision.file_image import FileImage

logger = logging.getLogger(__name__)

RELATIONS = ("left", "right", "top", "bottom")
LABELS = (0, 1)
STYLE = "spatial_relation"

_ANSWERS = {0: "No", 1: "Yes"}
_REQUIRED = ("spatial_relation", "label")


def relation_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a row's example, without its picture and metadata.

    `spatial_relation`, `label` and `captions` as the row has them, `features` as an array if it has some, and what is
    learned: for each caption, whether it is true of the picture; without captions, whether the relation holds.

    Args:
        row: with `spatial_relation` (one of `RELATIONS`) and `label` (1: it holds, 0: it does not); perhaps `captions`,
            sentences that state the relation, and `features`.

    Raises:
        ExampleError: `bad_relation`, `bad_label`, `bad_captions`, `bad_features`, `not_finite`.

    >>> relation_fields({"spatial_relation": "left", "label": 0})["answer"]
    'No'
    """
    relation, label = checked_relation(row.get("spatial_relation"), row.get("label"))
    captions = _captions(row.get("captions"))
    fields: dict[str, Any] = {"spatial_relation": relation, "label": label}
    if captions:
        fields["captions"] = captions
        fields["message_list"] = [_lesson(f'Is this true of the picture? "{caption}"', label) for caption in captions]
    else:
        fields |= _lesson(f'Does the spatial relation "{relation}" hold in this picture?', label)
    if row.get("features") is not None:
        fields["features"] = as_features(row["features"])
    return fields


def checked_relation(relation: Any, label: Any) -> tuple[str, int]:
    """The relation and the label, if they are what they must be. Raises ExampleError: `bad_relation`, `bad_label`."""
    if relation not in RELATIONS:
        wanted = f"{', '.join(RELATIONS[:-1])} or {RELATIONS[-1]}"
        raise ExampleError("bad_relation", f"spatial_relation is {relation!r:.80}; it must be {wanted}")
    return relation, as_label(label, LABELS)


def require_shown(fields: Mapping[str, Any], has_picture: bool) -> None:
    """Raises ExampleError("no_picture") for a relation of which there is nothing to see."""
    if not has_picture and fields.get("features") is None:
        raise ExampleError("no_picture", "the row has no picture (image_path or image) and no features")


def _captions(value: Any) -> list[str]:
    captions = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(captions, Sequence) or not all(isinstance(one, str) and one.strip() for one in captions):
        raise ExampleError("bad_captions", f"captions are {value!r:.80}; they must be a list of texts")
    return list(captions)


def _lesson(question: str, label: int) -> dict[str, str]:
    return {"style": STYLE, "question": question, "answer": _ANSWERS[label]}


class SpatialRelations(Dataset):
    """Spatial relations straight from a folder of `save_to_disk`, as questions about pictures and as labelled features.

    An example has the fields of `relation_fields`, `image` (of `image_path`, not opened until it is asked for its size
    or pixels, or of a column `image`) and `metadata` with `id`, `source`, `split` and the row's other columns. So a
    stage shows the picture and asks, and a stage of kind "features" takes `features` and `label`. Draws nothing.

    Args:
        path: the folder.
        split: of a folder with several; None: the only one, or "train".
        image_dir: where the paths of `image_path` start; default: the folder itself.
        allow_any_path: `image_path` may lead out of `image_dir`.
        on_error: "raise" if a row has another relation or label than there may be, or "skip" such rows, which are then
            counted in `rejected`.

    Raises:
        ConfigError: the folder is none of `save_to_disk`, has no such split, lacks a column, or has a bad row; the
            message names the row and its value.
    """

    def __init__(
        self,
        path: PathLike,
        split: str | None = None,
        *,
        image_dir: PathLike | None = None,
        allow_any_path: bool = False,
        on_error: str = "raise",
    ):
        require("on_error", on_error, ("raise", "skip"))
        self.path = Path(path).expanduser().absolute()  # for a copy in a process that works in another folder
        self.split, self._data = _load_split(self.path, split)
        self._image_dir = Path(image_dir).expanduser().absolute() if image_dir is not None else self.path
        self._allow_any_path = allow_any_path
        missing = [name for name in _REQUIRED if name not in self._data.column_names]
        if missing:
            raise ConfigError(f"{self.path} has no column {missing[0]!r}; it has {', '.join(self._data.column_names)}")
        self.rows_N, self.rejected = _checked_rows(self.path, self._data, on_error)
        files = [Path(file["filename"]) for file in self._data.cache_files]
        self.fingerprint = f"{stable_hash(files_fingerprint(files), self.split, on_error):016x}"

    def __len__(self) -> int:
        return len(self.rows_N)

    @functools.cached_property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of an example's features. Raises ConfigError if the first row has none."""
        features = self._row(0).get("features")
        if features is None:
            raise ConfigError(f"{self.path} has no features: it holds pictures and questions alone")
        return as_features(features).shape

    @property
    def ids(self) -> list[str]:
        """The id of each example."""
        names = self._data["id"] if "id" in self._data.column_names else None
        return [_identity(row, names[row] if names is not None else None) for row in self.rows_N.tolist()]

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item`.

        Raises ExampleError: as `relation_fields`; `missing_file` or `path_outside` for a picture that is none;
        `no_picture` for a row without one that has no features either.
        """
        row = self._row(item)
        identity = _identity(int(self.rows_N[item]), row.get("id"))
        try:
            fields = relation_fields(row)
            picture = self._picture(row)
            require_shown(fields, bool(picture))
        except ExampleError as error:
            raise ExampleError(error.reason, f"row {self.rows_N[item]}: {error.detail}", identity) from error
        if "features" in fields:
            fields["features"] = fields["features"].astype(np.float32, copy=False)
        rest = {name: value for name, value in row.items() if name not in {*fields, *picture}}
        return {
            **picture,
            **fields,
            "metadata": {**rest, "id": identity, "source": self.path.name, "split": self.split},
        }

    def _row(self, item: int) -> dict[str, Any]:
        return _with_relation_named(self._data, self._data[int(self.rows_N[item])])

    def _picture(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """`image`, if the row has one."""
        if row.get("image_path"):
            return {"image": FileImage(self._find(row["image_path"]))}
        return {"image": row["image"]} if row.get("image") is not None else {}

    def _find(self, name: str) -> Path:
        """The picture of that name. Raises ExampleError("path_outside")."""
        path = self._image_dir / name
        real, root = (Path(os.path.realpath(one)) for one in (path, self._image_dir))
        if not self._allow_any_path and not real.is_relative_to(root):
            raise ExampleError("path_outside", f"{name!r:.200} leads out of {root}; see image_dir and allow_any_path")
        return path

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path.name!r}, {self.split!r}, {len(self)} examples)"


def _identity(row: int, name: Any) -> str:
    return f"{row:09d}" if name is None else str(name)


def _load_split(path: Path, split: str | None) -> tuple[str, Any]:
    """The split's name and its rows."""
    from datasets import DatasetDict, load_from_disk  # loading it takes seconds that other datasets need not spend

    try:
        found = load_from_disk(str(path))
    except Exception as error:  # whatever the library, Arrow or JSON raise for a folder that is something else
        raise ConfigError(f"{path} does not load as a folder of save_to_disk ({error!r})") from error
    splits: dict[str, Any] = {}
    if isinstance(found, DatasetDict):
        splits |= {str(name): rows for name, rows in found.items()}
    else:
        splits[str(found.split or "train")] = found
    if split is None:
        split = next(iter(splits)) if len(splits) == 1 else "train"
    if split not in splits:
        raise ConfigError(f"{path} has no split {split!r}; it has {', '.join(splits)}")
    return split, splits[split]


def _with_relation_named(data: Any, row: dict[str, Any]) -> dict[str, Any]:
    """The row with its relation by name, where the table has it as the number of a class."""
    names: Sequence[str] = getattr(data.features["spatial_relation"], "names", None) or ()
    relation = row["spatial_relation"]
    is_class = isinstance(relation, int) and 0 <= relation < len(names)
    return {**row, "spatial_relation": names[relation]} if is_class else row


def _checked_rows(path: Path, data: Any, on_error: str) -> tuple[np.ndarray, dict[str, int]]:
    """[N] int64, the rows whose relation and label are good, and how many are not by reason."""
    good: list[int] = []
    rejected: dict[str, int] = {}
    for row, values in enumerate(data.select_columns(list(_REQUIRED))):
        try:
            named = _with_relation_named(data, values)
            checked_relation(named["spatial_relation"], named["label"])
        except ExampleError as error:
            if on_error == "raise":
                raise ConfigError(f"{path}: row {row}: {error.detail}; on_error='skip' leaves such rows out") from error
            rejected[error.reason] = rejected.get(error.reason, 0) + 1
            continue
        good.append(row)
    if rejected:
        logger.warning("%s: left out %s", path, ", ".join(f"{n:,} {reason}" for reason, n in rejected.items()))
    if not good:
        raise ConfigError(f"{path} has no row with a relation of {', '.join(RELATIONS)} and a label of 0 or 1")
    return np.asarray(good, np.int64), rejected
