"""A forced conversion that was stopped goes on when it is asked for again, instead of beginning anew."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grain_molmo.errors import StoreError
from grain_molmo.store import load_manifest
from grain_molmo.store.files import read_json, write_json
from grain_molmo.store.staging import json_value


class ForcedRun:
    """Which splits of a set a forced conversion has done: those that are not what they were when it began.

    Use it under the dataset's lock.

    Args:
        data_dir: the store's folder.
        name: of the dataset.
        arguments: by split, what its conversion is given; those of another forced conversion begin a new one.
    """

    def __init__(self, data_dir: Path, name: str, arguments: Mapping[str, Any]):
        self._data_dir, self._name = data_dir, name
        self._file = _note(data_dir, name)
        noted = self._noted()
        self.goes_on = noted is not None and noted["arguments"] == json_value(dict(arguments))
        if noted is None or not self.goes_on:
            before = {split: self._first_shard(split) for split in arguments}
            noted = {"arguments": arguments, "before": before}
            write_json(self._file, noted)
        self._before: dict[str, str | None] = noted["before"]

    def _noted(self) -> dict[str, Any] | None:
        try:
            return read_json(self._file)
        except (FileNotFoundError, StoreError):
            return None

    def _first_shard(self, split: str) -> str | None:
        """The name of the split's first shard, which is another one after each conversion."""
        try:
            committed = load_manifest(self._data_dir, self._name).get(split)
        except StoreError:
            return None
        return committed.shards[0].file if committed else None

    def has_done(self, split: str) -> bool:
        """Whether the split was committed since the forced conversion began."""
        return self._first_shard(split) != self._before[split]

    def end(self) -> None:
        """All splits are done: to be asked again means to convert anew."""
        end_forced(self._data_dir, self._name)


def end_forced(data_dir: Path, name: str) -> None:
    """Forgets the forced conversion of a dataset: what other conversions write is none of what it has done."""
    _note(data_dir, name).unlink(missing_ok=True)


def _note(data_dir: Path, name: str) -> Path:
    return data_dir / name / ".forced.json"
