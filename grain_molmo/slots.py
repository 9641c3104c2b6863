"""What an example shows: pictures, or frames of a video, not decoded yet, and the crops that they will fill."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from grain_molmo.errors import ExampleError, MediaError
from grain_molmo.vision.crops import (
    FRAME_POOLED,
    PATCHES_PER_CROP,
    Tiling,
    frame_pooling,
    pooling_indices,
    render_crops,
)
from grain_molmo.vision.videos import Video

_FRAME_COST = 4
"""What decoding a frame costs in crops of a picture, roughly: frames between those wanted are decoded, too."""


@dataclass(frozen=True)
class PictureSlot:
    """A picture of an example.

    Attributes:
        picture: LazyImage, [H, W, 3] uint8 array or PIL image.
        tiling: how it is cut.
        first_crop: where its crops begin among the example's.
    """

    picture: Any
    tiling: Tiling
    first_crop: int

    @property
    def n_crops(self) -> int:
        """Crops that it fills."""
        return self.tiling.n_crops

    @property
    def n_pooled(self) -> int:
        """Visual tokens that it pools to."""
        return self.tiling.n_pooled

    @property
    def cost(self) -> int:
        """Work to render it, in crops of a picture."""
        return self.n_crops

    def pooling(self) -> np.ndarray:
        """[n_pooled, 4] int32 patches of each visual token, counted from the example's first crop; -1 is none."""
        return shift_pooling(pooling_indices(self.tiling), self.first_crop)

    def render(self, out_CPD: np.ndarray) -> str:
        """Decodes it and writes its crops into [n_crops, 729, 588] uint8. Raises MediaError or StoreError."""
        render_crops(picture_pixels(self.picture), self.tiling, out_CPD)
        return "picture"


@dataclass(frozen=True)
class FramesSlot:
    """The frames that an example shows of its video; each is one crop.

    Attributes:
        video: not decoded yet.
        times_s: [F] float64, when the frames are shown, counted from the start of the clip.
        clip_start_s: where in the video the clip begins.
        n_wanted: frames that the stage would show if a row had room for their tokens.
    """

    video: Video
    times_s: np.ndarray
    clip_start_s: float
    n_wanted: int
    first_crop: int = 0

    @property
    def n_crops(self) -> int:
        """Crops that they fill: one each."""
        return len(self.times_s)

    @property
    def n_pooled(self) -> int:
        """Visual tokens that they pool to, 81 each."""
        return self.n_crops * FRAME_POOLED

    @property
    def cost(self) -> int:
        """Work to render them, in crops of a picture."""
        return _FRAME_COST * self.n_crops

    def pooling(self) -> np.ndarray:
        """[n_pooled, 9] int32 patches of each visual token, counted from the example's first crop."""
        first_patch_F = PATCHES_PER_CROP * (self.first_crop + np.arange(self.n_crops, dtype=np.int32))
        return (first_patch_F[:, None, None] + frame_pooling()).reshape(self.n_pooled, -1)

    def render(self, out_CPD: np.ndarray) -> str:
        """Decodes them and writes them into [F, 729, 588] uint8; "prepared" or "original", whichever was read.

        Raises MediaError or StoreError.
        """
        return self.video.render(self.times_s, out_CPD, self.clip_start_s)


MediaSlot = PictureSlot | FramesSlot


def shift_pooling(pooling: np.ndarray, first_crop: int) -> np.ndarray:
    """The same windows when the crops they speak of begin at crop `first_crop`; -1 stays -1."""
    if first_crop == 0:
        return pooling
    return np.where(pooling >= 0, pooling + np.int32(first_crop * PATCHES_PER_CROP), np.int32(-1))


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
