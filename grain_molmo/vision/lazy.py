"""A stored picture that knows its size and decodes when asked for its pixels."""

from typing import Any

import numpy as np

from grain_molmo.errors import MediaError
from grain_molmo.store import MediaRef, MediaStore
from grain_molmo.vision.image import decode_image


class LazyImage:
    """Stands for an [H, W, 3] uint8 RGB array; `np.asarray(image)` decodes it.

    Attributes:
        ref: what the annotation knows of the picture, without opening it.
    """

    __slots__ = ("_store", "ref")

    def __init__(self, ref: MediaRef, store: MediaStore):
        self.ref = ref
        self._store = store

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, 3), upright."""
        return self.ref.height, self.ref.width, 3

    @property
    def dtype(self) -> np.dtype:
        """uint8."""
        return np.dtype(np.uint8)

    def encoded(self) -> bytes:
        """The original file's bytes."""
        return self._store.read(self.ref.sha256)

    def decode(self) -> np.ndarray:
        """[H, W, 3] uint8. Raises MediaError if the bytes do not decode to the size that the store promised."""
        image_HW3 = decode_image(self.encoded())
        if image_HW3.shape != self.shape:
            raise MediaError("other_size", f"media {self.ref.sha256} is {image_HW3.shape}, stored as {self.shape}")
        return image_HW3

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a stored picture cannot be an array without decoding it")
        return np.asarray(self.decode(), dtype=dtype)

    def __repr__(self) -> str:
        return f"LazyImage({self.ref.width}x{self.ref.height}, {self.ref.sha256[:12]})"
