"""Labelled features instead of tokens: what probes train on, drawn, sharded and resumed as everything else is."""

import math
import operator
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from grain_molmo.datasets.base import Dataset, metadata_of
from grain_molmo.datasets.labelled import FEATURES, LABEL, as_features
from grain_molmo.errors import ConfigError, DamagedRecordError, ExampleError
from grain_molmo.packing.draw import Draw
from grain_molmo.packing.rows import PlannedExample
from grain_molmo.render import Batch, ExampleInfo
from grain_molmo.rng import stable_hash
from grain_molmo.stages import Stage

_ASKED_FOR_SHAPE = 100
_READ_AT_ONCE = 1024


@dataclass(frozen=True)
class LabelledFeatures:
    """An example for a probe.

    Attributes:
        id: its own.
        features: of the reader's shape, float32.
        label: a class.
        metadata: what its dataset says beside.
    """

    id: str
    features: np.ndarray
    label: int
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class FeatureReader:
    """Reads draws of datasets whose examples are `{"features": array, "label": int, "metadata": {...}}`.

    Args:
        datasets: by the name that the draws use.
        stage: of kind "features".
        seed: the run's.
        shape: of every example's features.
        training: as of an `Encoder`; it changes nothing here.
    """

    datasets: Mapping[str, Dataset]
    stage: Stage
    seed: int
    shape: tuple[int, ...]
    training: bool = True
    tokenizer: None = None

    @classmethod
    def of(cls, datasets: Mapping[str, Dataset], stage: Stage, seed: int, *, training: bool = True) -> "FeatureReader":
        """A reader of these datasets. Raises ConfigError unless all have features of one shape."""
        shapes = {name: _shape_of(name, dataset) for name, dataset in datasets.items()}
        if len(set(shapes.values())) > 1:
            each = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
            raise ConfigError(f"stage {stage.name!r}: features of one shape make a batch; there are {each}")
        return cls(datasets, stage, seed, next(iter(shapes.values())), training)

    def plan(self, draw: Draw) -> PlannedExample:
        """An example a row; nothing is read to know it."""
        return PlannedExample(draw, n_tokens=1, n_crops=0, n_pooled=0, cost=1)

    def __call__(self, draw: Draw, rng: np.random.RandomState | None = None) -> LabelledFeatures:
        """The example, drawn with `rng`, which is seeded for it here; default a new one.

        Raises ExampleError if it has no such features or label, and StoreError for a lost shard.
        """
        rng = np.random.RandomState(0) if rng is None else rng  # which takes longer than to read a vector
        rng.seed([*divmod(stable_hash("features", self.seed, *draw), 1 << 32)])
        example_id = ""
        try:
            example = self.datasets[draw.dataset].get(draw.index, rng)
            if not isinstance(example, Mapping):
                raise ExampleError("bad_example", f"get returned {type(example).__name__}, not a dict")
            facts = metadata_of(example)
            example_id = str(facts.get("id", draw.index))
            return LabelledFeatures(example_id, self._checked(_features(example)), _label(example), facts)
        except DamagedRecordError as error:
            raise ExampleError("damaged_record", str(error)) from error
        except ExampleError as error:
            raise ExampleError(error.reason, error.detail, error.example_id or example_id) from error
        except Exception as error:
            error.add_note(f"while reading {draw.dataset} example {draw.index}, epoch {draw.epoch}")
            raise

    def _checked(self, features: np.ndarray) -> np.ndarray:
        if features.shape != self.shape:
            raise ExampleError("bad_features", f"features of {list(features.shape)}, others are {list(self.shape)}")
        return features


def _features(example: Mapping[str, Any]) -> np.ndarray:
    if not isinstance(example, Mapping) or example.get(FEATURES) is None:
        raise ExampleError("no_features", "the example has no features")
    return as_features(example[FEATURES]).astype(np.float32, copy=False)


def _label(example: Mapping[str, Any]) -> int:
    """Stricter than `as_label`, which reads tables: what a dataset gives is a whole number, no 5.0 and no True."""
    label = example.get(LABEL)
    try:
        number = operator.index(label)  # pyright: ignore[reportArgumentType]  (also of an array of no axes)
    except TypeError:
        number = None
    if number is None or isinstance(label, bool) or not -(2**31) <= number < 2**31:
        raise ExampleError("bad_label", f"label is {label!r}, it must be a whole number of 32 bits")
    return number


def _shape_of(name: str, dataset: Dataset) -> tuple[int, ...]:
    shape = getattr(dataset, "feature_shape", None)
    if shape is not None:
        return tuple(shape)
    problem = ""
    for index in range(min(len(dataset), _ASKED_FOR_SHAPE)):
        try:
            return _features(dataset[index]).shape
        except (ExampleError, DamagedRecordError) as error:
            problem = problem or str(error)
    raise ConfigError(f"{name} is of no use for a stage of kind 'features': its first example: {problem}")


@dataclass(frozen=True)
class FeatureRows:
    """Planned rows to the arrays of a batch.

    Attributes:
        reader: reads the examples.
    """

    reader: FeatureReader
    n_context: int = 1

    def row_bytes(self, n_shards: int) -> int:
        """Memory that a row takes."""
        return 4 * math.prod(self.reader.shape) + 8

    def __call__(
        self, rows: Sequence[Sequence[PlannedExample]], shards: Sequence[int], pool: Executor
    ) -> tuple[Batch, list[list[ExampleInfo]], float]:
        """The batch, what is in its rows, and the seconds that encoding took: none.

        Returns:
            `features` [B, *shape] float32, `labels` [B] int32, `loss_weights` [B] float32: 1, and 0 in rows without an
            example or with one that cannot be used, which are zeros.
        """
        batch = {
            "features": np.zeros((len(rows), *self.reader.shape), np.float32),
            "labels": np.zeros(len(rows), np.int32),
            "loss_weights": np.zeros(len(rows), np.float32),
        }
        infos: list[list[ExampleInfo]] = [[] for _ in rows]
        places = [(row, planned) for row, examples in enumerate(rows) for planned in examples]
        # Many at a time: threads that take turns with the interpreter read small vectors slower than one does.
        tasks = [places[start : start + _READ_AT_ONCE] for start in range(0, len(places), _READ_AT_ONCE)]
        outcomes = chain.from_iterable(pool.map(self._read_all, tasks))
        for (row, _), (read, info) in zip(places, outcomes, strict=True):
            infos[row].append(info)
            if read is not None:
                batch["features"][row], batch["labels"][row], batch["loss_weights"][row] = read.features, read.label, 1
        return batch, infos, 0.0

    def _read_all(
        self, places: Sequence[tuple[int, PlannedExample]]
    ) -> list[tuple[LabelledFeatures | None, ExampleInfo]]:
        rng = np.random.RandomState(0)
        return [self._read(planned, rng) for _, planned in places]

    def _read(self, planned: PlannedExample, rng: np.random.RandomState) -> tuple[LabelledFeatures | None, ExampleInfo]:
        draw, started = planned.draw, time.perf_counter()
        nothing = (0, 0)
        info = ExampleInfo(*draw, str(draw.index), 1, nothing, nothing, nothing, loss_weight=1.0)
        try:
            read = self.reader(draw, rng)
        except ExampleError as error:
            info = replace(info, id=error.example_id or info.id, blanked=error.reason, detail=error.detail)
            return None, replace(info, read_s=time.perf_counter() - started)
        done = time.perf_counter() - started
        info = replace(info, id=read.id, metadata=read.metadata, read_bytes=read.features.nbytes, read_s=done)
        return read, info
