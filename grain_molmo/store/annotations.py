"""Reading annotation records: a Grain random-access source over one or more splits of a converted dataset."""

import os
from collections.abc import Sequence
from pathlib import Path

from grain_molmo.errors import DamagedRecordError, MissingSplitError
from grain_molmo.store.files import canonical_name
from grain_molmo.store.manifest import load_manifest
from grain_molmo.store.records import Record, decode_record
from grain_molmo.store.shards import RecordReader


class AnnotationSource:
    """Records of the given splits, one after the other; opens nothing until a record is read.

    Picklable, safe to share between threads, and usable as a `grain.sources.RandomAccessDataSource`.

    Args:
        data_dir: the store's folder.
        name: dataset name as converted.
        splits: store splits to concatenate.

    Raises:
        StoreError: the dataset was not converted into this folder.
        MissingSplitError: it has no such split.
    """

    def __init__(self, data_dir: str | os.PathLike[str], name: str, splits: Sequence[str]):
        self.name = canonical_name(name)
        self.folder = Path(data_dir) / self.name
        self.splits = tuple(splits)
        manifest = load_manifest(data_dir, name)
        missing = [split for split in self.splits if split not in manifest]
        if missing:
            raise MissingSplitError(f"{self.folder} has no split {missing[0]!r}; it has {', '.join(sorted(manifest))}")
        self.shards = tuple(shard for split in self.splits for shard in manifest[split].shards)
        self._reader = RecordReader(self.folder, self.shards)

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, index: int) -> Record:
        """Record `index`.

        Raises:
            DamagedRecordError: its bytes do not read; the message names the file or folder, and the record.
            StoreError: its shard is missing or cut off.
        """
        payload = self._reader[index]
        try:
            return decode_record(payload)
        except (ValueError, KeyError, IndexError) as error:
            raise DamagedRecordError(
                f"{self.folder}: record {index} is no annotation record ({error}); convert again"
            ) from error

    def check(self) -> None:
        """Raises StoreError if a shard is missing or has another size than it should; opens none."""
        self._reader.check()

    @property
    def fingerprint(self) -> str:
        """Stands for the content: equal for equal shards, wherever they lie."""
        return ",".join(shard.sha256[:16] for shard in self.shards)

    def __repr__(self) -> str:
        return f"AnnotationSource({self.name!r}, {self.splits!r}, {len(self)} records)"
