"""Where the pictures of a view go: into the document itself, or into files beside it."""

import base64
import hashlib
import os
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import simplejpeg

from grain_molmo.errors import StoreError

Pixels = Callable[[], np.ndarray]

QUALITY = 88
_FILE_NAME = re.compile(r"[A-Za-z0-9_-]{1,120}")


class NotWrittenError(StoreError):
    """A file of a view cannot be written: no fault of the picture, and the view is not whole without it."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system says of writing there comes out as NotWrittenError with the path."""
    try:
        yield
    except OSError as error:
        raise NotWrittenError(f"{path} cannot be written: {error.strerror or error}") from error


class MediaSink(Protocol):
    """Takes pictures, gives URLs."""

    def put(self, key: str, pixels_HW3: Pixels, most: int) -> str:
        """The URL of a picture.

        Args:
            key: equal for equal pixels.
            pixels_HW3: makes the picture, [H, W, 3] uint8; what it raises comes out.
            most: pixels of its longer side; a larger picture is made smaller, a smaller one stays as it is.

        Raises:
            NotWrittenError: the picture is made, but there is no place for it.
        """
        ...


class InlineMedia:
    """Pictures as data URIs: the document needs no file beside it.

    Args:
        max_side: of any picture, pixels.
    """

    def __init__(self, max_side: int = 768):
        self.max_side = max_side

    def put(self, key: str, pixels_HW3: Pixels, most: int) -> str:
        """The picture itself, as a URL."""
        data = encode_jpeg(pixels_HW3(), min(most, self.max_side))
        return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"


class FolderMedia:
    """Pictures as files of a folder, each written once and never half; may be used by threads at a time.

    Args:
        folder: made when the first picture comes.
        max_side: of any picture, pixels.
    """

    def __init__(self, folder: Path, max_side: int = 1024):
        self.folder = folder
        self.max_side = max_side
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def put(self, key: str, pixels_HW3: Pixels, most: int) -> str:
        """The file's URL, seen from beside the folder."""
        most = min(most, self.max_side)
        name = f"{_file_stem(key)}-{most}.jpg"
        path = self.folder / name
        with self._lock_of(name):
            if not path.exists():
                _write_whole(path, encode_jpeg(pixels_HW3(), most))
        return f"{self.folder.name}/{name}"

    def _lock_of(self, name: str) -> threading.Lock:
        """One for each file: two cards may show the same picture at the same time."""
        with self._guard:
            return self._locks.setdefault(name, threading.Lock())


def encode_jpeg(pixels_HW3: np.ndarray, most: int) -> bytes:
    """A JPEG of the picture, its longer side at most so many pixels.

    Colours are kept at full resolution: marks, charts and text have sharp coloured edges.

    Args:
        pixels_HW3: [H, W, 3] uint8.
        most: pixels, at least 1.
    """
    height, width = pixels_HW3.shape[:2]
    scale = most / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels_HW3 = cv2.resize(pixels_HW3, size, interpolation=cv2.INTER_AREA)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels_HW3), QUALITY, colorspace="RGB", colorsubsampling="444")


def _file_stem(key: str) -> str:
    """The key, or its hash where it is no name that every file system and URL takes."""
    if _FILE_NAME.fullmatch(key):
        return key
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _write_whole(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{uuid.uuid4().hex}.partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_bytes(data)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
