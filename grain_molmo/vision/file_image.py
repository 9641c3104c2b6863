"""Pictures in files that know their size, and decode when asked for pixels."""

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np

from grain_molmo.errors import ExampleError, MediaError
from grain_molmo.vision.image import decode_image, probe_image


class FileImage:
    """Stands for the [H, W, 3] uint8 RGB array of a file; `np.asarray(image)` decodes it. Picklable.

    Args:
        path: of the file, which is not opened until its size or its pixels are asked for.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)

    @functools.cached_property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, 3), upright. Raises ExampleError: `missing_file`, `bad_image`."""
        try:
            info = probe_image(self.path.read_bytes())
        except OSError as error:
            raise ExampleError("missing_file", f"{self.path} cannot be read ({error.strerror})") from error
        except MediaError as error:
            raise ExampleError("bad_image", f"{self.path}: {error.detail}") from error
        return info.height, info.width, 3

    @property
    def dtype(self) -> np.dtype:
        """uint8."""
        return np.dtype(np.uint8)

    def encoded(self) -> bytes:
        """The file's bytes. Raises MediaError("missing_file")."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise MediaError("missing_file", f"{self.path} cannot be read ({error.strerror})") from error

    def decode(self) -> np.ndarray:
        """[H, W, 3] uint8. Raises MediaError if the file does not decode to the size that it had before."""
        image_HW3 = decode_image(self.encoded())
        if "shape" in self.__dict__ and image_HW3.shape != self.shape:
            raise MediaError("other_size", f"{self.path} is {image_HW3.shape}, it was {self.shape}")
        return image_HW3

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a picture in a file cannot be an array without decoding it")
        return np.asarray(self.decode(), dtype=dtype)

    def __repr__(self) -> str:
        return f"FileImage({str(self.path)!r})"
