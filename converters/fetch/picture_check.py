"""Whether bytes are a picture, and a whole one."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from grain_molmo.errors import MediaError, RowError
from grain_molmo.vision.image import ImageInfo, probe_image, require_whole

_CHECK_BYTES = 512 << 20  # that pictures take together while they are looked through
_BYTES_A_PIXEL = 6  # of a progressive JPEG's coefficients, or of RGBA beside RGB


@dataclass(frozen=True)
class Picture:
    """Original bytes that were found to be a picture, and what their header says."""

    data: bytes
    info: ImageInfo


def check_picture(data: bytes, sha256: str | None = None) -> Picture:
    """The bytes as a picture, of which the header was read.

    Raises:
        RowError: `hash_mismatch` if the bytes are not those with the given SHA-256, `not_an_image` if no decoder knows
            them, else the reason that the header is refused for.
    """
    if sha256 is not None:
        found = hashlib.sha256(data).hexdigest()
        if found != sha256.lower():
            raise RowError("hash_mismatch", f"the bytes have SHA-256 {found}, the row says {sha256}")
    try:
        return Picture(data, probe_image(data))
    except MediaError as error:
        # The first bytes tell people more than a decoder's message, and are the same in every run.
        begin = f"{len(data):,} bytes that begin {data[:24]!r}"
        raise RowError(error.reason, begin if error.reason == "not_an_image" else error.detail) from error


class WholePictures:
    """Looks pictures through to their last pixel, in any number of threads, in bounded memory."""

    def __init__(self) -> None:
        self._free = _CHECK_BYTES
        self._changed = threading.Condition()
        self._turn = threading.Lock()

    def check(self, data: bytes, sha256: str | None = None) -> Picture:
        """The bytes as a whole picture; what has the SHA-256 that it must have is what it was meant to be.

        Raises RowError: as `check_picture` does, and `truncated` for a picture that was cut off.
        """
        picture = check_picture(data, sha256)
        if sha256 is None:
            with self._room(_BYTES_A_PIXEL * picture.info.width * picture.info.height):
                try:
                    require_whole(data)
                except MediaError as error:
                    raise RowError(error.reason, error.detail) from error
        return picture

    @contextmanager
    def _room(self, num_bytes: int) -> Iterator[None]:
        """Waits for so much of the memory, or all of it: in turn, so that small pictures don't starve a large one."""
        num_bytes = min(num_bytes, _CHECK_BYTES)
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._free >= num_bytes)
            self._free -= num_bytes
        try:
            yield
        finally:
            with self._changed:
                self._free += num_bytes
                self._changed.notify_all()
