"""Records of `tf.train.Example` in ArrayRecord or TFRecord files, and TFDS folders of them, without TensorFlow."""

import gzip
import json
import os
import re
import shutil
import struct
import tempfile
import threading
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, Protocol

from array_record.python.array_record_module import ArrayRecordReader

from converters.own.features import Feature
from converters.own.groups import KEY
from converters.own.tables import Part, split_of, visible_files
from converters.rows import Row
from grain_molmo.errors import ConfigError, RowError
from grain_molmo.store.example_proto import decode_example

_NAME = re.compile(r"\.(array_?record|tfrec(?:ords?)?)(?:-\d{5}-of-(\d{5}))?(\.gz)?$", re.IGNORECASE)


class _Reader(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> bytes: ...


class ArrayRecordFile:
    """The payloads of an ArrayRecord file. Raises ConfigError if it is none."""

    def __init__(self, path: Path):
        self._reader = ArrayRecordReader(str(path))
        if not self._reader.ok():
            raise ConfigError(f"{path} does not read as ArrayRecord")
        self._length = self._reader.num_records()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> bytes:
        try:
            return self._reader.read(index, index + 1)[0]
        except (RuntimeError, IndexError) as error:
            raise RowError("bad_record", f"record {index} does not read ({error})") from error


class TfRecordFile:
    """The payloads of a TFRecord file, plain or packed; their places are listed once. Raises ConfigError if it is none.

    Lengths are checked against their checksums, so that nothing else is taken for a TFRecord.
    """

    def __init__(self, path: Path):
        self._file = _open_unpacked(path)
        self._starts, self._sizes = array("q"), array("q")
        self._lock = threading.Lock()
        end, at = os.fstat(self._file.fileno()).st_size, 0
        while at < end:
            self._file.seek(at)
            header = self._file.read(12)
            size, checksum = struct.unpack("<QI", header) if len(header) == 12 else (0, 0)
            if len(header) < 12 or _masked_crc(header[:8]) != checksum or at + 16 + size > end:
                raise ConfigError(f"{path} does not read as TFRecord: record {len(self._starts)} is damaged or cut off")
            self._starts.append(at + 12)
            self._sizes.append(size)
            at += 16 + size

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> bytes:
        with self._lock:
            self._file.seek(self._starts[index])
            return self._file.read(self._sizes[index])


def _open_unpacked(path: Path) -> IO[bytes]:
    try:
        if path.suffix.lower() != ".gz":
            return open(path, "rb")
        unpacked = tempfile.TemporaryFile()  # noqa: SIM115
        with gzip.open(path) as file:
            shutil.copyfileobj(file, unpacked, 1 << 20)
        unpacked.flush()
        return unpacked
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path} cannot be read ({error})") from error


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC32C = _crc_table()


def _masked_crc(data: bytes) -> int:
    """TFRecord's checksum: CRC-32C, rotated and shifted so that data which hold checksums have others."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC32C[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


class ExampleRows:
    """A row for each record, which is a `tf.train.Example`.

    Args:
        readers: of the files, in order.
        parse: the row of an example's features.
        where: for messages.

    Raises:
        ConfigError: the first record is no `tf.train.Example`, or there is none.
    """

    schema = None
    folder: Path | None = None

    def __init__(self, readers: Sequence[_Reader], parse: Callable[[dict[str, list[Any]]], Row], where: str):
        self._readers, self._parse = list(readers), parse
        self._ends = list(accumulate(map(len, self._readers)))
        if not len(self):
            raise ConfigError(f"{where} holds no records")
        try:
            first = [self.row(index) for index in range(min(8, len(self)))]
        except RowError as error:
            raise ConfigError(f"{where}: its records are not tf.train.Example ({error})") from error
        self.columns = tuple(dict.fromkeys((KEY, *(name for row in first for name in row))))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def row(self, index: int) -> Row:
        """One record. Raises RowError: `bad_record`."""
        reader = bisect_right(self._ends, index)
        payload = self._readers[reader][index - (self._ends[reader - 1] if reader else 0)]
        try:
            features = decode_example(payload)
            if not features:
                raise ValueError("it has no features")
            return {KEY: _key(index), **self._parse(features)}
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise RowError("bad_record", f"record {index}, {payload[:24]!r}: {error}") from error

    def select(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """Whole columns; None where a record lacks one or cannot be read."""
        columns: dict[str, list[Any]] = {name: [] for name in names}
        for index in range(len(self)):
            try:
                row = self.row(index) if set(names) - {KEY} else {}
            except RowError:
                row = {}
            for name, values in columns.items():
                values.append(_key(index) if name == KEY else row.get(name))
        return columns


def _key(index: int) -> str:
    return f"{index:09d}"


def plain_features(features: Mapping[str, list[Any]]) -> Row:
    """A row of features that nobody described: a list of one value is that value, bytes that read as text are text."""
    return {name: _plain([_text_or_bytes(value) for value in values]) for name, values in features.items()}


def _plain(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values or None


def _text_or_bytes(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return value


def is_records(path: Path) -> bool:
    """Whether the file holds records, by its name."""
    return _NAME.search(path.name) is not None


def record_rows(paths: Sequence[Path], parse: Callable[[dict[str, list[Any]]], Row] = plain_features) -> ExampleRows:
    """The rows of ArrayRecord or TFRecord files. Raises ConfigError if one is missing, damaged or of something else."""
    readers = [ArrayRecordFile(path) if _is_array_record(path) else TfRecordFile(path) for path in paths]
    return ExampleRows(readers, parse, str(paths[0]))


def require_all_shards(parts: Sequence[Part]) -> None:
    """Raises ConfigError if files of a numbered series ("-00000-of-00008") are missing."""
    for part in parts:
        series: dict[str, list[Path]] = {}
        for path in part.files:
            match = _NAME.search(path.name)
            if match and match[2]:
                series.setdefault(f"{path.name[: match.start()]} of {match[2]}", []).append(path)
        for name, paths in series.items():
            total = int(name.rpartition(" ")[2])
            if len(paths) != total:
                raise ConfigError(f"{paths[0].parent} has {len(paths)} of {total} files such as {paths[0].name}")


def _is_array_record(path: Path) -> bool:
    match = _NAME.search(path.name)
    return match is not None and match[1].lower().startswith("array")


def find_tfds(root: Path) -> Path | None:
    """The folder of a TFDS dataset (the one with features.json) at or below a path; None if there is none.

    Raises ConfigError if there are several, of other configs or versions.
    """
    found = sorted(path.parent for path in root.rglob("features.json") if (path.parent / "dataset_info.json").is_file())
    if len(found) > 1:
        raise ConfigError(f"{root} holds several TFDS datasets; name one of {', '.join(map(str, found))}")
    return found[0] if found else None


def tfds_rows(folder: Path, part: Part) -> ExampleRows:
    """The rows of a split of a TFDS folder, as its features.json says. Raises ConfigError."""
    try:
        described = json.loads((folder / "features.json").read_text())
        feature = Feature.from_json(described, "", folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder / 'features.json'} does not read ({error!r})") from error
    return record_rows(part.files, feature.row)


def tfds_parts(folder: Path) -> list[Part]:
    """The splits of a TFDS folder. What dataset_info.json says of file names does not always hold, so they are read."""
    parts: dict[str, list[Path]] = {}
    for path in visible_files(folder):
        if is_records(path) and path.parent == folder:
            stem = _NAME.sub("", path.name)
            parts.setdefault(stem.rpartition("-")[2] or split_of(path, folder), []).append(path)
    found = [Part(split, tuple(paths)) for split, paths in parts.items()]
    require_all_shards(found)
    return found
