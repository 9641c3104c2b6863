"""Members of zip files: where they lie if they are stored as they are, else their bytes within a limit."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from grain_molmo.errors import ConfigError
from grain_molmo.tensors.mapped import MOST_REPEATED_BYTES, map_file

_LOCAL_HEADER = b"PK\x03\x04"
_LOCAL_HEADER_BYTES = 30
_MOST_PACKED = 100  # times smaller than what they unpack to; numbers that were measured pack to half

_DAMAGE = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, OSError, EOFError)


def read_archive(path: Path, *, may_be_packed: bool) -> dict[str, np.ndarray]:
    """[bytes] uint8 of each member by its name; views of the mapped file where the member is stored as it is.

    Args:
        path: of a zip file.
        may_be_packed: whether members may be compressed. Those are unpacked into memory, unless they come to over a
            GiB that is over a hundred times the file's bytes.

    Raises:
        ConfigError: the file is cut off or damaged, or says of a member what cannot be true.
    """
    file_bytes = map_file(path)
    members: dict[str, np.ndarray] = {}
    with _opened(path) as archive:
        _refuse_bomb(archive, path, len(file_bytes))
        for info in archive.infolist():
            where = f"{path}: its member {info.filename!r:.80}"
            if info.filename in members:
                raise ConfigError(f"{where} is there twice")
            if info.flag_bits & 1:
                raise ConfigError(f"{where} is encrypted")
            if info.compress_type == zipfile.ZIP_STORED:
                members[info.filename] = _stored(file_bytes, info, where)
            elif may_be_packed and info.compress_type == zipfile.ZIP_DEFLATED:
                # No more than `file_size`, whatever the packed bytes hold.
                members[info.filename] = np.frombuffer(archive.read(info), np.uint8)
            else:
                raise ConfigError(f"{where} is compressed in a way that files of tensors are not; save it again")
    return members


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except ConfigError:
        raise
    except _DAMAGE as error:
        raise ConfigError(f"{path} is cut off or damaged: it does not read as a zip file ({error})") from error


def _refuse_bomb(archive: zipfile.ZipFile, path: Path, file_bytes: int) -> None:
    """Of all members together: a file may name the same packed bytes for each of thousands."""
    unpacked = sum(info.file_size for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED)
    if unpacked > max(MOST_REPEATED_BYTES, _MOST_PACKED * file_bytes):
        raise ConfigError(f"{path} has {file_bytes:,} bytes and would unpack to {unpacked:,}; refused")


def _stored(file_bytes: np.ndarray, info: zipfile.ZipInfo, where: str) -> np.ndarray:
    header = file_bytes[info.header_offset : info.header_offset + _LOCAL_HEADER_BYTES].tobytes()
    if len(header) < _LOCAL_HEADER_BYTES or not header.startswith(_LOCAL_HEADER):
        raise ConfigError(f"{where} is not where the directory says")
    name_bytes, extra_bytes = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    start = info.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes
    stop = start + info.file_size
    if info.file_size != info.compress_size or stop > len(file_bytes):
        raise ConfigError(f"{where} should have {info.file_size:,} bytes, but the file ends before or says two sizes")
    return file_bytes[start:stop]
