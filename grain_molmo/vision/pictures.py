"""What counts as a picture in an example: a stored one, a PIL image, or an array of pixels."""

from typing import Any

import numpy as np
from PIL import Image

from grain_molmo.errors import ExampleError, MediaError


def picture_size_hw(picture: Any) -> tuple[int, int]:
    """Upright height and width of a picture, pixels, without decoding it. Raises ExampleError("bad_image")."""
    shape = getattr(picture, "shape", None)
    if shape is None and hasattr(picture, "size"):  # PIL: (width, height)
        shape = (picture.size[1], picture.size[0])
    if shape is None or len(shape) not in (2, 3) or 0 in shape[:2]:
        of_shape = "" if shape is None else f" of shape {shape}"
        wanted = "an array of [H, W, 3] uint8, a PIL image or a LazyImage"
        raise ExampleError("bad_image", f"image is {type(picture).__name__}{of_shape}; it must be {wanted}")
    return int(shape[0]), int(shape[1])


def picture_pixels(picture: Any) -> np.ndarray:
    """[H, W, 3] uint8 RGB of a LazyImage, a PIL image or an array (gray, RGB or RGBA, uint8).

    Raises MediaError if it has no such pixels.
    """
    if hasattr(picture, "decode"):
        return picture.decode()
    if isinstance(picture, Image.Image):
        return _pil_pixels(picture)
    pixels = np.asarray(picture)
    if pixels.dtype != np.uint8:
        raise MediaError("bad_array", f"a picture is an array of uint8, not {pixels.dtype}")
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise MediaError("bad_array", f"a picture is an array of [H, W, 3], not {pixels.shape}")
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else np.ascontiguousarray(pixels[:, :, :3])


def _pil_pixels(picture: Image.Image) -> np.ndarray:
    try:
        return np.asarray(picture.convert("RGB"))
    except Exception as error:  # a PIL image that was opened but not loaded can fail in as many ways as its file
        raise MediaError("unreadable", f"{type(error).__name__}: {error}") from error
