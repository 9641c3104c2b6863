"""The pictures or the video of a plain row: bytes, files beside the rows, or URLs, under whatever name."""

import base64
import binascii
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.spec import Embedded, EmbeddedVideo, FromFile, FromUrl, FromVideo, MediaSource
from grain_molmo.datasets.example_record import IMAGE, IMAGES, TEXT, VIDEO
from grain_molmo.errors import RowError

# Without the prefix of a data URL only what is too long for a path.
_BASE64 = re.compile(r"(?:data:[\w/+.-]+;base64,|(?=.{512}))([A-Za-z0-9+/\s]+={0,2})\s*", re.ASCII | re.DOTALL)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True)
class Folders:
    """Where the files that rows name may be.

    Attributes:
        roots: relative paths start in one of them, and no path leads out of them.
        anywhere: paths may lead anywhere.
    """

    roots: tuple[Path, ...]
    anywhere: bool = False

    def find(self, name: str) -> Path:
        """The file of that name. Raises RowError: `missing_file`, `path_outside`."""
        outside = None
        for root in self.roots:
            path = root / name
            try:
                real = Path(os.path.realpath(path))
                is_file = path.is_file()
            except (OSError, ValueError) as error:  # a name that no file can have
                raise RowError("missing_file", f"{name!r:.200}: {error}") from error
            if not self.anywhere and not real.is_relative_to(os.path.realpath(root)):
                outside = path
            elif is_file:
                return path
        if outside is not None:
            raise RowError(
                "path_outside", f"{name!r:.200} leads out of {outside_of(self.roots)}; allow it with --allow-any-path"
            )
        if not self.roots:
            raise RowError("missing_file", f"{name!r:.200} is a path, but rows of the hub name no files")
        raise RowError("missing_file", f"{name!r:.200} is no file in {outside_of(self.roots)}")


def outside_of(roots: Iterable[Path]) -> str:
    """The folders, for a message."""
    return " or ".join(dict.fromkeys(map(str, roots)))


def row_media(
    images: Sequence[Any], videos: Sequence[Any], folders: Folders, sha256: Any = None
) -> tuple[str, list[MediaSource]]:
    """What a row shows, and where that is.

    Args:
        images: the values of the columns that may hold its pictures, the likeliest first: bytes, `{bytes, path}`, a
            path, a URL, base64, or a list of these. Bytes go before files, files before URLs.
        videos: the same of its video.
        folders: where files may be.
        sha256: of the picture that is fetched, if the row says so.

    Raises:
        RowError: `missing_file`, `path_outside`, `bad_image`, `bad_video`, `video_url`, `mixed_media`.
    """
    shown = _best(images, folders, "image")
    filmed = _best(videos, folders, "video")
    if filmed is not None and shown is not None:
        raise RowError("mixed_media", "the row has pictures and a video; name the columns of one of them")
    if filmed is not None:
        sources, _ = filmed
        if len(sources) != 1:
            raise RowError("bad_video", f"the row has {len(sources)} videos, an example shows one")
        return VIDEO, sources
    if shown is None:
        return TEXT, []
    sources, is_list = shown
    if len(sources) == 1 and isinstance(sources[0], FromUrl) and isinstance(sha256, str) and len(sha256) == 64:
        return IMAGES if is_list else IMAGE, [FromUrl(sources[0].url, sha256.lower())]
    return IMAGES if is_list else IMAGE, sources


def _best(values: Sequence[Any], folders: Folders, kind: str) -> tuple[list[MediaSource], bool] | None:
    """The media of the first value that says the most of them, and whether it is a list; None without any."""
    found: list[tuple[int, list[MediaSource], bool]] = []
    first_error: RowError | None = None
    for value in values:
        is_list = isinstance(value, list | tuple)
        items = [item for item in value if item is not None] if is_list else [value]
        if not items:
            continue
        try:
            sources = [_source(item, folders, kind) for item in items]
        except RowError as error:
            first_error = first_error or error
            continue
        found.append((max(_rank(source) for source in sources), sources, is_list))
    if found:
        _, sources, is_list = min(found, key=lambda one: one[0])
        return sources, is_list
    if first_error is not None:
        raise first_error
    return None


def is_base64(value: Any) -> bool:
    """Whether a value is the bytes of a picture in letters, or a list of such."""
    if isinstance(value, list):
        return any(map(is_base64, value))
    return isinstance(value, str) and _BASE64.fullmatch(value) is not None


def _rank(source: MediaSource) -> int:
    return 0 if isinstance(source, Embedded | EmbeddedVideo) else 2 if isinstance(source, FromUrl) else 1


def _source(value: Any, folders: Folders, kind: str) -> MediaSource:
    if isinstance(value, Mapping):
        data = value.get("bytes")
        value = data if data else next((value[key] for key in ("path", "url", "src") if value.get(key)), None)
    if isinstance(value, bytes) and value:
        return Embedded(value) if kind == "image" else EmbeddedVideo(value)
    if not isinstance(value, str) or not value:
        raise RowError(f"bad_{kind}", f"{type(value).__name__} {value!r:.80} is no {kind}")
    if _URL.match(value):
        if kind == "video":
            raise RowError("video_url", f"{value:.200}: videos are not fetched; download them and name the files")
        return FromUrl(value)
    encoded = _BASE64.fullmatch(value) if kind == "image" else None
    if encoded:
        try:
            return Embedded(base64.b64decode(encoded[1]))
        except (binascii.Error, ValueError) as error:
            raise RowError("bad_image", f"base64 that does not decode: {error}") from error
    path = folders.find(value)
    return FromFile(path) if kind == "image" else FromVideo(path)
