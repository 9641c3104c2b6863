"""A store of the size that the hub's sets have, imitated: the examples of a small one, again and again.

Example i of a set is example i modulo n of the small set, its random choices included. So an index of it is written in
a moment, and is just what encoding every example would give.
"""

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from grain_molmo.datasets.base import Dataset, Example
from grain_molmo.datasets.registry import register_dataset
from grain_molmo.encode import Encoder
from grain_molmo.errors import ExampleError
from grain_molmo.indexing import write_epoch
from grain_molmo.lengths import UNUSABLE, LengthFiles, Lengths, pack_lengths
from grain_molmo.packing.draw import Draw
from grain_molmo.rng import example_rng
from grain_molmo.stage_data import open_datasets
from grain_molmo.stages import Stage


class Repeated(Dataset):
    """As many examples as wished, of a dataset that has fewer."""

    def __init__(self, dataset: Dataset, name: str, size: int):
        self._dataset, self._name, self._size = dataset, name, size
        self.fingerprint = f"{size} times over: {getattr(dataset, 'fingerprint', '')}"

    def __len__(self) -> int:
        return self._size

    @property
    def num_kinds(self) -> int:
        """Examples that differ."""
        return min(self._size, len(self._dataset))

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item` modulo `num_kinds`; whatever the state of `rng` was, it becomes that one's."""
        kind = item % self.num_kinds
        rng.set_state(example_rng(0, self._name, 0, kind).get_state(legacy=False))
        return self._dataset.get(kind, rng)


def repeated_stage(stage: Stage, data_dir: Path, size: int) -> Stage:
    """The stage over sets of that size, which are registered as `repeated_NAME`."""
    datasets, _ = open_datasets(stage, data_dir)
    for name, dataset in datasets.items():
        repeated = Repeated(dataset, name, size)
        register_dataset(_new_name(name), functools.partial(_given, repeated))
    return replace(
        stage,
        mixture={_new_name(name): weight for name, weight in stage.weights.items()},
        rules={_new_name(name): rule for name, rule in stage.rules.items()},
    )


def _new_name(name: str) -> str:
    return f"repeated_{name}"


def _given(dataset: Dataset, split: str) -> Dataset:
    return dataset


def write_repeated_index(data_dir: Path, encoder: Encoder, num_draws: int) -> int:
    """Writes the index that a run of so many draws needs; its bytes."""
    num_bytes = 0
    for name, weight in encoder.stage.weights.items():
        dataset, files = encoder.datasets[name], LengthFiles.of(data_dir, encoder, name)
        assert isinstance(dataset, Repeated)
        assert files is not None
        for epoch in range(1 + int(num_draws * weight) // len(dataset)):
            write_epoch(files, epoch, _entries(encoder, name, dataset))
            num_bytes += files.path(epoch).stat().st_size
    return num_bytes


def _entries(encoder: Encoder, name: str, dataset: Repeated) -> Iterator[bytes]:
    kinds = b"".join(pack_lengths(_lengths(encoder, Draw(name, 0, kind))) for kind in range(dataset.num_kinds))
    whole, rest = divmod(len(dataset), dataset.num_kinds)
    yield from (kinds for _ in range(whole))
    yield kinds[: len(pack_lengths(UNUSABLE)) * rest]


def _lengths(encoder: Encoder, draw: Draw) -> Lengths:
    try:
        return encoder(draw).lengths
    except ExampleError:
        return UNUSABLE
