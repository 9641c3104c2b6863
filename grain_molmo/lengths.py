"""Lengths of examples, known beforehand: what the plan asks of a draw, without encoding it.

`DATA/lengths/NAME/KEY/epoch-00000.lengths` holds the lengths of all examples of one epoch of a dataset, 16 bytes each,
then a SHA-256. KEY stands for all that they depend on: the dataset's content and arguments, the tokenizer, the seed,
and what the stage does to an example; not the mixture, the batch size or how rows are packed. `key.json` spells it out.

An index changes no batch, only how soon it is planned: where it has no answer, the example is encoded.
"""

import hashlib
import json
import logging
import mmap
import os
import re
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from grain_molmo.datasets.base import StoreDataset
from grain_molmo.encode import Encoder, Lengths
from grain_molmo.errors import ConfigError, ExampleError, StoreError
from grain_molmo.packing.draw import Draw
from grain_molmo.stages import Stage
from grain_molmo.store import canonical_name, resolve_data_dir

logger = logging.getLogger(__name__)

LENGTHS_FOLDER = "lengths"
ENCODING_VERSION = 1
"""Raised when examples come to other lengths than before. A test with known lengths notices."""

_FORMAT = 1
_ENTRY = struct.Struct("<4i")
_DIGEST_BYTES = 32
_SPOTS = 4
# Whatever else a stage has may change how long its examples are. Of rules and loss, `lengths_key` takes what does; what
# a dataset's arguments change is in its fingerprint.
_NOT_OF_AN_EXAMPLE = {"mixture", "groups", "phases", "name", "split", "batch_size", "waiting", "rules", "loss"}
_NOT_OF_AN_EXAMPLE |= {"dataset_args"}

UNUSABLE = Lengths(0, 0, 0, 0)
"""Stands in the files for an example that cannot be encoded."""


def lengths_key(encoder: Encoder, name: str) -> dict[str, Any] | None:
    """All that the lengths of a dataset's examples depend on, beside epoch and index.

    Returns:
        A JSON-able dict; None for a dataset that does not say what it holds (it has no `fingerprint`).
    """
    dataset, stage = encoder.datasets[name], encoder.stage
    content = getattr(dataset, "fingerprint", None)
    if not content:
        return None
    rule = stage.rule(name)
    used = {each.name: getattr(stage, each.name) for each in fields(Stage) if each.name not in _NOT_OF_AN_EXAMPLE}
    # An example without an answer token in its row is left out, unless nothing is learned from the dataset anyway.
    used |= {"p_high_res": rule.p_high_res, "learns": stage.loss.overridden(rule.loss).weight > 0}
    return {
        "format": _FORMAT,
        "encoding": ENCODING_VERSION,
        "dataset": name,
        "class": f"{type(dataset).__module__}.{type(dataset).__qualname__}",
        "arguments": _arguments(dataset) if isinstance(dataset, StoreDataset) else {},
        "examples": len(dataset),
        "tokenizer": encoder.tokenizer.fingerprint,
        "seed": encoder.seed,
        "stage": dict(sorted(used.items())),
        "content": str(content),
    }


def _arguments(dataset: StoreDataset) -> dict[str, Any]:
    """What a dataset of the store was told, beside where the store is: its fingerprint is of the records alone."""
    plain = str | int | float | bool | tuple | None
    return {key: value for key, value in sorted(vars(dataset).items()) if isinstance(value, plain)}


@dataclass(frozen=True)
class LengthFiles:
    """Where the lengths of one dataset are.

    Attributes:
        folder: of this dataset and key.
        key_text: JSON of the key; part of every checksum, so that a file is of use in its own folder only.
        num_examples: in an epoch.
    """

    folder: Path
    key_text: str
    num_examples: int

    @classmethod
    def of(cls, data_dir: Path, encoder: Encoder, name: str) -> "LengthFiles | None":
        """The files of a dataset; None if it has no fingerprint."""
        key = lengths_key(encoder, name)
        if key is None:
            return None
        text = json.dumps(key, default=repr)
        short = hashlib.sha256(text.encode()).hexdigest()[:16]
        return cls(data_dir / LENGTHS_FOLDER / canonical_name(name) / short, text, len(encoder.datasets[name]))

    def path(self, epoch: int) -> Path:
        """The file of an epoch."""
        return self.folder / f"epoch-{epoch:05d}.lengths"

    def epochs(self) -> tuple[int, ...]:
        """The epochs that are there."""
        found = (re.fullmatch(r"epoch-(\d{5,})\.lengths", path.name) for path in self.folder.glob("epoch-*.lengths"))
        return tuple(sorted(int(match[1]) for match in found if match))

    def digest(self, *place: int) -> "hashlib._Hash":
        """The beginning of a checksum: of an epoch, or of a part of it that starts at an index."""
        return hashlib.sha256("\n".join([self.key_text, *map(str, place), ""]).encode())

    def read(self, epoch: int) -> mmap.mmap:
        """An epoch's file, mapped into memory and compared with its checksum.

        Raises FileNotFoundError if there is none, StoreError if it is damaged.
        """
        path = self.path(epoch)
        try:
            with open(path, "rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:  # ValueError: an empty file
            raise _damaged(path, str(error)) from error
        end = _ENTRY.size * self.num_examples
        if len(data) != end + _DIGEST_BYTES:
            raise _damaged(path, f"{len(data):,} bytes where {end + _DIGEST_BYTES:,} should be")
        digest = self.digest(epoch)
        with memoryview(data) as view, view[:end] as entries:
            digest.update(entries)
        if digest.digest() != data[end:]:
            raise _damaged(path, "its checksum is not that of its content")
        return data


def _damaged(path: Path, problem: str) -> StoreError:
    return StoreError(f"{path} is damaged ({problem}); delete it, and make it again with `grain-molmo index`")


def pack_lengths(lengths: Lengths) -> bytes:
    """An entry of a file."""
    return _ENTRY.pack(*lengths)


def count_unusable(data: bytes | mmap.mmap, num_examples: int) -> int:
    """Examples among the entries that cannot be encoded."""
    with memoryview(data) as view, view[: _ENTRY.size * num_examples] as entries:
        return sum(not entry[0] for entry in _ENTRY.iter_unpack(entries))


@dataclass(frozen=True)
class Coverage:
    """What an index knows of a dataset: which `epochs`, of so many `examples` each."""

    examples: int
    epochs: tuple[int, ...]


class LengthIndex:
    """Lengths by draw. Made with `open`; safe to share between threads; costs nothing until it is asked."""

    def __init__(self, files: dict[str, LengthFiles], encoder: Encoder, strict: bool):
        self._files, self._encoder, self._strict = files, encoder, strict
        self._epochs: dict[tuple[str, int], mmap.mmap | bytes] = {}  # without entries: there is no such file
        self._lock = threading.Lock()

    @classmethod
    def open(cls, data_dir: str | os.PathLike[str] | None, encoder: Encoder, *, strict: bool = False) -> "LengthIndex":
        """The index beside a store, for what this encoder would say.

        Args:
            data_dir: the store's folder; None: $GRAIN_MOLMO_DATA, and if that is not set, an index that knows nothing.
            encoder: of the run.
            strict: refuse damaged files, all of which are read now. Otherwise an epoch's file is read when it is first
                asked for, and one that is damaged is named in a warning and not used.

        Raises:
            StoreError: with `strict`, a file is damaged, or the encoder says otherwise than the file.
        """
        try:
            folder = resolve_data_dir(data_dir)
        except ConfigError:
            return cls({}, encoder, strict)
        found = ((name, LengthFiles.of(folder, encoder, name)) for name in encoder.datasets)
        index = cls({name: files for name, files in found if files is not None}, encoder, strict)
        if strict:
            for name, coverage in index.coverage().items():
                for epoch in coverage.epochs:
                    index._entries(name, epoch)
        return index

    def get(self, draw: Draw) -> Lengths | None:
        """The draw's lengths; None if they are not known, or if it cannot be encoded: the encoder says why."""
        entries = self._epochs.get(draw[:2])
        if entries is None:
            entries = self._entries(draw.dataset, draw.epoch)
        if not entries:
            return None
        lengths = _ENTRY.unpack_from(entries, _ENTRY.size * draw.index)
        return Lengths(*lengths) if lengths[0] else None

    def coverage(self) -> dict[str, Coverage]:
        """What is there, by dataset."""
        return {name: Coverage(files.num_examples, files.epochs()) for name, files in self._files.items()}

    def _entries(self, name: str, epoch: int) -> mmap.mmap | bytes:
        with self._lock:
            if (name, epoch) not in self._epochs:
                self._epochs[name, epoch] = self._read(name, epoch)
            return self._epochs[name, epoch]

    def _read(self, name: str, epoch: int) -> mmap.mmap | bytes:
        files = self._files.get(name)
        if files is None:
            return b""
        try:
            entries = files.read(epoch)
            self._compare(files.path(epoch), name, epoch, entries)
            return entries
        except FileNotFoundError:
            return b""
        except StoreError as error:
            if self._strict:
                raise
            logger.warning("%s; until then examples are encoded to plan", error)
            return b""

    def _compare(self, path: Path, name: str, epoch: int, entries: mmap.mmap) -> None:
        """Encodes a few examples to see that the file says the same: code may have changed without a new version."""
        for index in _spread(len(self._encoder.datasets[name])):
            try:
                now = self._encoder(Draw(name, epoch, index)).lengths
            except ExampleError:
                now = UNUSABLE
            then = _ENTRY.unpack_from(entries, _ENTRY.size * index)
            if now != then:
                lengths = "its tokens, crops, pooled tokens and cost"
                problem = f"example {index}: {lengths} are {tuple(now)} now, where the file says {then}"
                raise StoreError(f"{path} is out of date ({problem}); delete it and make it again")


def _spread(num_examples: int) -> Iterator[int]:
    """A few indices, first and last among them."""
    return iter(sorted({place * (num_examples - 1) // (_SPOTS - 1) for place in range(_SPOTS)}))
