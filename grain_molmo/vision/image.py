"""From the bytes of a picture to upright RGB pixels, or to its size without decoding it.

The content decides the format, never a file name. JPEG goes through `simplejpeg`, whose pixels are Pillow's in half the
time; everything else, and every JPEG that `simplejpeg` refuses, goes through Pillow.
"""

import io
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import cv2
import numpy as np
import simplejpeg
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from grain_molmo.errors import MediaError

MAX_PIXELS = 178_956_970
"""Pictures with more pixels are refused before any is decoded (half a gigabyte of RGB; Pillow's own limit)."""

T = TypeVar("T")

_SIDEWAYS = (5, 6, 7, 8)
"""The EXIF orientations that exchange width and height."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_METADATA = (b"eXIf", b"iTXt", b"tEXt", b"zTXt")

_truncation_lock = threading.Lock()
_tolerated = 0  # how often Pillow's tolerance for damaged files was on, under the lock


@dataclass(frozen=True)
class ImageInfo:
    """What a picture's header says: its size as shown upright, pixels, and Pillow's name of its format."""

    width: int
    height: int
    format: str


def probe_image(data: bytes) -> ImageInfo:
    """The size and format of a picture, from its header alone: no pixel is decoded.

    It agrees with the shape that `decode_image` returns for every file that decodes.

    Raises:
        MediaError: the header cannot be read, or announces more than `MAX_PIXELS`.
    """
    return _read(data, lambda: _probe(data))


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """[H, W, 3] uint8 RGB pixels of a picture, upright: alpha dropped, EXIF orientation applied (Molmo2 §3.1).

    The first frame of an animation; what is there of a truncated file, the rest gray or black. A malformed EXIF block
    is ignored.

    Raises:
        MediaError: with reason "empty", "not_an_image" (no format known here), "too_large" (more than `max_pixels`),
            "truncated" (too little left to decode) or "unreadable".
    """
    return _read(data, lambda: _decode(data, max_pixels))


def require_whole(data: bytes) -> None:
    """Refuses a picture of which `decode_image` would make up a part because the file ends early or is damaged.

    Most pictures are JPEG: those are decoded at an eighth of their size, which reads them to the end all the same.

    Raises:
        MediaError: "truncated", or what `decode_image` refuses the picture for.
    """
    if _is_whole_jpeg(data):
        return
    before = _tolerated
    error = _strict_error(data)
    if error is None and (ImageFile.LOAD_TRUNCATED_IMAGES or _tolerated != before):
        with _truncation_lock:  # another thread's tolerance may have been ours
            switched = ImageFile.LOAD_TRUNCATED_IMAGES
            ImageFile.LOAD_TRUNCATED_IMAGES = False
            try:
                error = _strict_error(data)
            finally:
                ImageFile.LOAD_TRUNCATED_IMAGES = switched
    if error is not None:
        decode_image(data)  # if it can make nothing of it, it says why
        if isinstance(error, OSError):  # other errors are about metadata, which tolerance skips
            raise MediaError("truncated", f"the picture is not whole: {error}")


def _is_whole_jpeg(data: bytes) -> bool:
    """Whether the data are a JPEG to its end; False may also mean that it is one that Pillow must look at."""
    if data[:2] != b"\xff\xd8":
        return False
    try:
        simplejpeg.decode_jpeg(data, colorspace="GRAY", min_factor=8)
    except ValueError:
        return False
    return True


def _strict_error(data: bytes) -> Exception | None:
    """What decoding without tolerance fails with."""
    try:
        _decode(data, MAX_PIXELS)
    except Exception as error:
        return error
    return None


def _read(data: bytes, attempt: Callable[[], T]) -> T:
    """What `attempt` returns; if it fails, what it returns with Pillow's tolerance for damaged files switched on.

    Pillow has one switch for the whole process. It belongs to the user's program, so it is on only while a file that
    failed is tried again. Another thread that sees it on meanwhile gets what its own second attempt would have got.
    """
    if not data:
        raise MediaError("empty", "there are no bytes")
    try:
        return attempt()
    except MediaError:
        raise
    except Exception:  # hostile bytes raise all sorts in Pillow: OSError, SyntaxError, struct.error, MemoryError, ...
        global _tolerated
        with _truncation_lock:
            before = ImageFile.LOAD_TRUNCATED_IMAGES
            _tolerated += 1
            ImageFile.LOAD_TRUNCATED_IMAGES = True
            try:
                return attempt()
            except MediaError:
                raise
            except Exception as error:
                raise MediaError(_reason(error), f"{type(error).__name__}: {error}") from error
            finally:
                ImageFile.LOAD_TRUNCATED_IMAGES = before


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not_an_image"
    if isinstance(error, Image.DecompressionBombError):
        return "too_large"
    return "truncated" if "truncated" in str(error).lower() else "unreadable"


def _probe(data: bytes) -> ImageInfo:
    with _open(_metadata_first(data)) as image:
        return _header(image, MAX_PIXELS)


def _decode(data: bytes, max_pixels: int) -> np.ndarray:
    with _open(data) as image:
        info = _header(image, max_pixels)
        pixels_HW3 = _decode_jpeg(data, image.size)
        if pixels_HW3 is not None:
            pixels_HW3 = _upright(pixels_HW3, _orientation(image))
        else:
            rgb = image.convert("RGB")  # before EXIF is looked at: of some formats it is known only now
            pixels_HW3 = _upright(np.array(rgb), _orientation(rgb))
    height, width, _ = pixels_HW3.shape
    # Icons may hold another size than they announce. What a PNG says behind its pixels is not in `info`.
    if info.format != "PNG" and (width, height) != (info.width, info.height):
        raise MediaError("unreadable", f"the header says {info.width}x{info.height}, the pixels are {width}x{height}")
    return pixels_HW3


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=_formats())


@cache
def _formats() -> tuple[str, ...]:
    """Every format that Pillow knows but EPS: it is a program, and Pillow would run Ghostscript on it."""
    Image.init()
    return tuple(name for name in Image.ID if name != "EPS")


def _header(image: Image.Image, max_pixels: int) -> ImageInfo:
    width, height = image.size
    if width * height > max_pixels:
        raise MediaError("too_large", f"{width}x{height} is more than {max_pixels} pixels")
    if _orientation(image) in _SIDEWAYS and not _turned_by_pillow(image):
        width, height = height, width
    return ImageInfo(width, height, image.format or "")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, as Pillow finds it in EXIF or XMP; 1 if there is none or it makes no sense."""
    try:
        # The base class's method: the one of PNG decodes the pixels to look behind them.
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # malformed EXIF raises all sorts, and must not cost the picture
        return 1
    return int(orientation) if orientation in range(1, 9) else 1


def _turned_by_pillow(image: Image.Image) -> bool:
    """Whether `image.size` is already upright: so it is for TIFF, if the file's own tag says sideways."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(ExifTags.Base.Orientation) in _SIDEWAYS


def _decode_jpeg(data: bytes, size: tuple[int, int]) -> np.ndarray | None:
    """[H, W, 3] pixels as stored, or None where `simplejpeg` would not return what Pillow does.

    That is: anything but gray and YCbCr, whatever libjpeg complains about, and files of which it reads another size.
    """
    if data[:2] != b"\xff\xd8":
        return None
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        if (width, height) != size or colorspace not in ("Gray", "YCbCr"):
            return None
        return simplejpeg.decode_jpeg(data, colorspace="RGB")
    except ValueError:
        return None


def _upright(pixels_HW3: np.ndarray, orientation: int) -> np.ndarray:
    """The picture turned from how it is stored to how it is shown, by its EXIF orientation."""
    match orientation:
        case 2:
            return cv2.flip(pixels_HW3, 1)
        case 3:
            return cv2.rotate(pixels_HW3, cv2.ROTATE_180)
        case 4:
            return cv2.flip(pixels_HW3, 0)
        case 5:
            return cv2.transpose(pixels_HW3)
        case 6:
            return cv2.rotate(pixels_HW3, cv2.ROTATE_90_CLOCKWISE)
        case 7:
            return cv2.rotate(cv2.transpose(pixels_HW3), cv2.ROTATE_180)
        case 8:
            return cv2.rotate(pixels_HW3, cv2.ROTATE_90_COUNTERCLOCKWISE)
    return pixels_HW3


def _metadata_first(data: bytes) -> bytes:
    """The bytes up to a PNG's pixels, with the metadata from behind them moved in front; other data as it is.

    Some tools write EXIF and XMP behind the pixels. Pillow finds it there when it decodes, but not when it opens.
    """
    if not data.startswith(_PNG_SIGNATURE):
        return data
    pixels_at, late = None, []
    at = len(_PNG_SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length  # length, kind, content, checksum
        if end > len(data):
            break
        if kind == b"IDAT" and pixels_at is None:
            pixels_at = at
        elif kind == b"IEND" or (kind == b"fcTL" and pixels_at is not None):  # the end, or the next frame
            break
        elif kind in _PNG_METADATA and pixels_at is not None:
            late.append(data[at:end])
        at = end
    return data[:pixels_at] + b"".join(late) + data[pixels_at : pixels_at + 8] if pixels_at and late else data
