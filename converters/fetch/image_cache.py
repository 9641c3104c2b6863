"""Pictures and failures on disk: the user's cache of pictures, and what a run has learned until it is finished."""

import hashlib
import json
import os
import re
import threading
import uuid
from pathlib import Path
from typing import Any

from grain_molmo.errors import FetchError


class ImageCache:
    """A folder of pictures under the SHA-256 of their URL, the layout that the published downloader leaves behind."""

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder).expanduser()
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, url: str) -> Path:
        """Where the picture of a URL lies, whether or not it is there."""
        return self.folder / hashlib.sha256(_utf8(url)).hexdigest()

    def read(self, url: str) -> bytes | None:
        """What lies there. It may be anything: the published downloader writes its error messages there, too."""
        return self.read_key(self.path(url).name)

    def read_key(self, key: str) -> bytes | None:
        """What lies under the hash of a URL."""
        if not re.fullmatch(r"[0-9a-f]{64}", key):  # never a path
            return None
        try:
            return (self.folder / key).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, url: str, data: bytes) -> None:
        """Stores a picture; a reader sees all of it or nothing."""
        path = self.path(url)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


class FetchSpool:
    """What the fetching of one run has come to, so that the run asks no URL twice, however often it is killed.

    Failures are lines of `failures.jsonl`, each written at once; a line that a kill cut off counts as never written.
    Pictures lie in `pictures`, if there is no cache for them. Several threads and processes may use one folder.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)
        self.pictures = ImageCache(self.folder / "pictures")
        self._lock = threading.Lock()
        self._file = os.open(self.folder / "failures.jsonl", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        # Where the line of a failure begins: a set may have hundreds of thousands, too many to hold them all.
        self._begins: dict[bytes, int] = self._read_begins()

    def __enter__(self) -> "FetchSpool":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; the spool cannot be used any more."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
            self._file = -1

    def failure(self, url: str, sha256: str | None) -> FetchError | None:
        """What asking for a URL came to, if it failed."""
        with self._lock:
            begin = self._begins.get(_key(url, sha256))
            line = None if begin is None else self._read_line(begin)
        if line is None:
            return None
        return FetchError(line["reason"], line["detail"], line["attempts"], line["time"])

    def add_failure(self, url: str, sha256: str | None, error: FetchError) -> None:
        """Remembers that asking for a URL failed."""
        facts = {"reason": error.reason, "detail": error.detail, "attempts": error.attempts, "time": error.time}
        line = json.dumps({"url": url, "sha256": sha256, **facts}).encode() + b"\n"
        with self._lock:
            written = os.write(self._file, line)  # one call, at the end of the file: no other process comes between
            if written < len(line):
                raise OSError(f"{self.folder / 'failures.jsonl'}: {written} of {len(line)} bytes could be written")
            self._begins[_key(url, sha256)] = os.lseek(self._file, 0, os.SEEK_CUR) - len(line)

    def _read_begins(self) -> dict[bytes, int]:
        begins: dict[bytes, int] = {}
        at, line = 0, b"\n"
        with open(self._file, "rb", closefd=False) as lines:
            for line in lines:
                facts = _parse(line)
                if facts is not None:
                    begins.setdefault(_key(facts["url"], facts["sha256"]), at)
                at += len(line)
        if not line.endswith(b"\n"):  # a kill came between: what follows begins a line of its own
            os.write(self._file, b"\n")
        return begins

    def _read_line(self, begin: int) -> dict[str, Any] | None:
        with open(self._file, "rb", closefd=False) as lines:
            lines.seek(begin)
            return _parse(lines.readline())


def _parse(line: bytes) -> dict[str, Any] | None:
    """The facts of a line; None if it is not whole."""
    try:
        facts = json.loads(line)
        return facts if {"url", "sha256", "reason", "detail", "attempts", "time"} <= facts.keys() else None
    except (ValueError, AttributeError):
        return None


def _key(url: str, sha256: str | None) -> bytes:
    return hashlib.blake2b(_utf8(f"{url}\n{sha256 or ''}"), digest_size=16).digest()


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
