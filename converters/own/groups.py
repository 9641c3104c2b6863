"""Samples that are files of one name and several suffixes: WebDataset tar shards, and folders laid out like them.

A sample is what has the same name up to the first dot: `0001.jpg`, `0001.txt`, `0001.json`.
"""

import gzip
import json
import logging
import os
import shutil
import tarfile
import tempfile
import threading
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from converters.own.columns import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from converters.own.tables import visible_files
from converters.rows import Row
from grain_molmo.errors import ConfigError, RowError

log = logging.getLogger(__name__)

KEY, FOLDER = "__key__", "folder"
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_MOST_TEXT_BYTES = 64 << 20  # of what is packed in a few of them
_PACKED = ".gz"


class GroupedRows:
    """A row for each sample: its texts by suffix, the fields of its JSON, `image` or `video` (a list where there are
    several), `folder` if it lies in one, and its name as `__key__`.

    Members of other kinds have columns, but nothing in them: unpickling, for one, would run what somebody wrote.

    Args:
        members: (file, name, offset, size) of each member, those of a sample one after the other.
        read: the bytes of a member.
    """

    schema = None
    folder: Path | None = None

    def __init__(self, members: Iterator[tuple[int, str, int, int]], read: Callable[[int, int, int], bytes]):
        self._read = read
        self._keys: list[str] = []
        self._suffixes: dict[str, int] = {}
        self._first, self._suffix = array("q"), array("L")
        self._file, self._offset, self._size = array("L"), array("q"), array("q")
        last: tuple[int, str] | None = None
        for file, name, offset, size in members:
            key, suffix = split_name(name)
            if (file, key) != last:
                self._keys.append(key)
                self._first.append(len(self._suffix))
                last = (file, key)
            self._suffix.append(self._suffixes.setdefault(suffix, len(self._suffixes)))
            self._file.append(file)
            self._offset.append(offset)
            self._size.append(size)
        self._first.append(len(self._suffix))
        self._names = tuple(self._suffixes)
        parsed = dict.fromkeys(name for index in range(min(len(self), 8)) for name in self._peek(index))
        self.columns = tuple(dict.fromkeys((KEY, *(name.removesuffix(_PACKED) for name in self._names), *parsed)))
        self.unread = tuple(name for name in self._names if _kind(name) is None)

    def __len__(self) -> int:
        return len(self._keys)

    def _peek(self, index: int) -> Row:
        try:
            return self.row(index)
        except RowError:
            return {}

    def row(self, index: int) -> Row:
        """One sample. Raises RowError: `bad_member`."""
        row: Row = {KEY: self._keys[index]}
        if folder := self._keys[index].rpartition("/")[0]:
            row[FOLDER] = folder
        media: dict[str, list[bytes]] = {"image": [], "video": []}
        for member in range(self._first[index], self._first[index + 1]):
            suffix = self._names[self._suffix[member]]
            value = self._value(member, suffix)
            kind, plain = _kind(suffix), suffix.removesuffix(_PACKED)
            if kind in media:
                media[kind].append(value)
            elif plain == "json" and isinstance(value, dict):
                row |= {name: item for name, item in value.items() if name not in row}
                continue
            row[plain] = value
        for kind, values in media.items():
            if values:
                row.pop(f"{kind}s", None)
                row[kind] = values[0] if len(values) == 1 else values
        return row

    def _value(self, member: int, suffix: str) -> Any:
        """What a member holds: bytes of media, text, JSON, or None for any other."""
        kind = _kind(suffix)
        if kind is None:
            return None
        if self._size[member] < 0:
            raise RowError("bad_member", f"{self._name(member)} is a link or has holes; pack the file itself")
        data = self._read(self._file[member], self._offset[member], self._size[member])
        try:
            if suffix.endswith(_PACKED):
                data = _unpacked(data)
            if kind == "json":
                return json.loads(data)
            return data.decode("utf-8-sig").strip() if kind == "text" else data
        except (ValueError, OSError, EOFError, zlib.error, RecursionError) as error:
            raise RowError("bad_member", f"{self._name(member)} does not read ({error})") from error

    def _name(self, member: int) -> str:
        return f"{self._keys[_last_at_most(self._first, member)]}.{self._names[self._suffix[member]]}"

    def select(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """Whole columns; None where a sample lacks one or cannot be read. The keys cost nothing."""
        columns: dict[str, list[Any]] = {name: self._keys if name == KEY else [] for name in names}
        rest = [name for name in names if name != KEY]
        for index in range(len(self) if rest else 0):
            row = self._peek(index)
            for name in rest:
                columns[name].append(row.get(name))
        return columns


def split_name(name: str) -> tuple[str, str]:
    """The sample's key and the suffix of a member, lower-cased: the name is cut at the first dot behind its folders.

    >>> split_name("train/0001.left.JPG")
    ('train/0001', 'left.jpg')
    """
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


_KINDS = {
    **dict.fromkeys(IMAGE_SUFFIXES, "image"),
    **dict.fromkeys(VIDEO_SUFFIXES, "video"),
    **dict.fromkeys(("txt", "text", "caption", "cls", "transcript"), "text"),
    "json": "json",
}


def _kind(suffix: str) -> str | None:
    """What a member is by its suffix; None for what is not read."""
    return _KINDS.get(suffix.removesuffix(_PACKED).rpartition(".")[2])


def is_medium(name: str) -> bool:
    """Whether a file is a picture or a video, by its name."""
    return _kind(split_name(name)[1]) in ("image", "video")


def _unpacked(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(31)
    out = unpacker.decompress(data, _MOST_TEXT_BYTES)
    if unpacker.unconsumed_tail:
        raise ValueError(f"over {_MOST_TEXT_BYTES:,} bytes when unpacked")
    if not unpacker.eof:
        raise EOFError("the packed data are cut off")
    return out


def _last_at_most(starts: Sequence[int], value: int) -> int:
    return max(index for index, start in enumerate(starts) if start <= value)


def is_tar(path: Path) -> bool:
    """Whether the file is a tar shard, by its name."""
    return path.name.lower().endswith(TAR_SUFFIXES)


def tar_rows(paths: Sequence[Path]) -> GroupedRows:
    """The samples of tar shards. Raises ConfigError if one is damaged, or holds no files.

    A compressed shard is unpacked into a temporary file once, since its members could not be reached otherwise.
    """
    files = [_open_seekable(path) for path in paths]
    lock = threading.Lock()

    def members() -> Iterator[tuple[int, str, int, int]]:
        for number, (path, file) in enumerate(zip(paths, files, strict=True)):
            yield from ((number, *member) for member in _tar_members(path, file))

    def read(number: int, offset: int, size: int) -> bytes:
        with lock:
            files[number].seek(offset)
            return files[number].read(size)

    rows = GroupedRows(members(), read)
    if not len(rows):
        raise ConfigError(f"{paths[0]} holds no files")
    return rows


def _open_seekable(path: Path) -> IO[bytes]:
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        if not packed:
            return open(path, "rb")
        unpacked = tempfile.TemporaryFile()  # noqa: SIM115
        with gzip.open(path) as file:
            shutil.copyfileobj(file, unpacked, 1 << 20)
        return unpacked
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path} cannot be read ({error})") from error


def _tar_members(path: Path, file: IO[bytes]) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each file, hidden ones left out; a size of -1 if its bytes do not lie there in one."""
    file.seek(0, os.SEEK_END)
    end = file.tell()
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                cast("Any", tar).members.clear()  # it would keep every one
                name = member.name.removeprefix("./")
                is_link = member.islnk() or member.issym()
                if not (member.isreg() or is_link) or name.rpartition("/")[2].startswith("."):
                    continue
                if member.offset_data + member.size > end:
                    raise ConfigError(f"{path} is cut off within {name}")
                yield name, member.offset_data, -1 if is_link or member.issparse() else member.size
            _require_end(path, file, tar.offset)
    except tarfile.TarError as error:
        raise ConfigError(f"{path} does not read as a tar file ({error})") from error


def _require_end(path: Path, file: IO[bytes], offset: int) -> None:
    """Raises ConfigError unless zeros alone follow the last member: `tarfile` takes a damaged header for the end."""
    file.seek(offset)
    if not (block := file.read(tarfile.BLOCKSIZE)):
        log.warning("%s has no mark at its end, so it may have been cut off", path)
    while block:
        if block.strip(b"\0"):
            raise ConfigError(
                f"{path} does not read as a tar file beyond byte {offset:,}: damaged, cut off, or several"
            )
        block = file.read(1 << 20)


def folder_rows(root: Path, within: Path | None) -> GroupedRows:
    """The samples of a folder: pictures and videos with files of the same name beside them.

    Args:
        root: the folder.
        within: a folder out of which no link may lead, else its sample is rejected; None if links may lead anywhere.
    """
    paths = visible_files(root)
    names = [path.relative_to(root).as_posix() for path in paths]
    order = sorted(range(len(names)), key=lambda i: (split_name(names[i])[0], names[i]))
    members = ((0, names[i], i, 0) for i in order)
    return GroupedRows(members, lambda _, number, __: _read_file(paths[number], within))


def _read_file(path: Path, within: Path | None) -> bytes:
    if within is not None and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(within)):
        raise RowError("path_outside", f"{path} leads out of {within}; allow it with --allow-any-path")
    try:
        return path.read_bytes()
    except OSError as error:
        raise RowError("missing_file", str(error)) from error
