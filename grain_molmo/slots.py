"""What an example shows: pictures, or frames of a video, not decoded yet, and the crops that they will fill."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from grain_molmo.vision.crops import (
    FRAME_POOLED,
    PATCHES_PER_CROP,
    Tiling,
    frame_pooling,
    pooling_indices,
    render_crops,
)
from grain_molmo.vision.pictures import picture_pixels
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

    @property
    def in_memory(self) -> bool:
        """Whether it holds the picture itself, or a file that is open, and not only where to find it."""
        return not hasattr(self.picture, "decode")

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

    @property
    def in_memory(self) -> bool:
        """Whether it holds the video itself, frames or bytes, and not only where to find it."""
        return getattr(self.video, "in_memory", False)

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
