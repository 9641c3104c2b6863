"""From a picture to crops and patches, and the tokens and pooling indices that stand for them (Molmo2 §3.3 to §3.6).

A picture is shown to the model twice: whole, resized to one crop (crop 0, "global"), and in detail, resized to a canvas
that a grid of overlapping crops tiles. All of it but the pixels follows from the picture's size.
"""

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from grain_molmo.special_tokens import IM_COL, IM_END, IM_PATCH, IM_START, LOW_RES_IM_START
from grain_molmo.vision.resize import resize_in_turn

PATCH = 14
"""Side of a patch, pixels."""
CROP_PATCHES = 27
"""Patches along the side of a crop."""
CROP = PATCH * CROP_PATCHES
"""Side of a crop, pixels: 378."""
MARGIN_PATCHES = 4
"""Patches at each inner border of a crop that the neighbouring crop owns."""
STEP_PATCHES = CROP_PATCHES - 2 * MARGIN_PATCHES
"""Patches from one crop to the next: 19."""
STEP = PATCH * STEP_PATCHES
"""Pixels from one crop to the next: 266."""
OVERLAP = CROP - STEP
"""Pixels that neighbouring crops share: 112."""
PATCHES_PER_CROP = CROP_PATCHES**2
VALUES_PER_PATCH = PATCH * PATCH * 3

FRAME_POOLED = 81
"""Visual tokens of a video's frame: 3 x 3 patches each."""

_GLOBAL_POOLED = 196
_PATCH_LINE = np.dtype((np.void, 3 * PATCH))


@dataclass(frozen=True)
class Tiling:
    """The grid of crops that shows a picture in detail."""

    rows: int
    cols: int

    @property
    def n_crops(self) -> int:
        """Crops of the picture, the global one included."""
        return 1 + self.rows * self.cols

    @property
    def n_tokens(self) -> int:
        """Tokens that stand for the picture: patches, row ends and the markers around both views."""
        rows, cols = self.pooled_hw
        return 1 + _GLOBAL_POOLED + 1 + 1 + rows * (cols + 1) + 1

    @property
    def n_pooled(self) -> int:
        """Pooled patches of the picture, as many as it has `<im_patch>` tokens."""
        rows, cols = self.pooled_hw
        return _GLOBAL_POOLED + rows * cols

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """Height and width that the picture is resized to before it is cut into crops, pixels."""
        return STEP * self.rows + OVERLAP, STEP * self.cols + OVERLAP

    @property
    def pooled_hw(self) -> tuple[int, int]:
        """Rows and columns of 2x2 pooled patches in the detailed view."""
        height, width = self.canvas_hw
        return -(-height // (2 * PATCH)), -(-width // (2 * PATCH))


_WHOLE = Tiling(1, 1)
"""The grid of the global view."""


@lru_cache(maxsize=1 << 16)
def select_tiling(height: int, width: int, max_crops: int) -> Tiling:
    """The tiling of at most `max_crops` crops that a picture of this size is shown in (Molmo2 §3.3).

    The one that enlarges the picture least; if none is as large as the picture in both directions, the one that
    shrinks it least. Among equals the one with fewer crops, then with fewer rows.

    >>> select_tiling(768, 1024, max_crops=8)
    Tiling(rows=2, cols=3)
    """
    tilings_K2 = _candidates(max_crops)
    inner_hw = np.array([max(height - OVERLAP, 1), max(width - OVERLAP, 1)], np.float32)
    # float32, as published: it decides which tilings tie.
    scale_K = ((STEP * tilings_K2).astype(np.float32) / inner_hw).min(axis=1)
    enlarges_K = scale_K >= 1
    best = np.where(enlarges_K, scale_K, np.inf).argmin() if enlarges_K.any() else scale_K.argmax()
    rows, cols = tilings_K2[best]
    return Tiling(int(rows), int(cols))


@cache
def _candidates(max_crops: int) -> np.ndarray:
    """[K, 2] (rows, cols) of all tilings of at most `max_crops` crops, in order of preference."""
    if max_crops < 1:
        raise ValueError(f"max_crops must be at least 1, not {max_crops}")
    sides = range(1, max_crops + 1)
    tilings = [(rows, cols) for rows in sides for cols in sides if rows * cols <= max_crops]
    return np.array(sorted(tilings, key=lambda tiling: (tiling[0] * tiling[1], tiling[0])))


@cache
def layout_tokens(tiling: Tiling) -> np.ndarray:
    """[n_tokens] int32 offsets of the special tokens that stand for a picture; read-only (Molmo2 §3.6).

    The global view without, the detailed view with a token at the end of each row. The k-th `IM_PATCH` stands for the
    k-th row of `pooling_indices`.
    """
    rows, cols = tiling.pooled_hw
    row = [IM_PATCH] * cols + [IM_COL]
    tokens = [LOW_RES_IM_START] + [IM_PATCH] * _GLOBAL_POOLED + [IM_END, IM_START] + row * rows + [IM_END]
    return _read_only(np.array(tokens, np.int32))


@cache
def pooling_indices(tiling: Tiling) -> np.ndarray:
    """[n_pooled, 4] int32: the patches averaged into each visual token; read-only (Molmo2 §3.5).

    A patch is counted from the first of the picture's global crop. Missing ones, beyond the edge, are -1. First the
    windows of the global view, then those of the detailed one, each in raster order.
    """
    global_PP = np.arange(PATCHES_PER_CROP, dtype=np.int32).reshape(CROP_PATCHES, CROP_PATCHES)
    detail_YX = PATCHES_PER_CROP + _owned_patches(tiling)
    return _read_only(np.concatenate([pool_windows(global_PP, 2), pool_windows(detail_YX, 2)]))


@cache
def frame_pooling() -> np.ndarray:
    """[81, 9] int32: the patches averaged into each visual token of a frame, whole windows; read-only (Molmo2 §4.4)."""
    patches_PP = np.arange(PATCHES_PER_CROP, dtype=np.int32).reshape(CROP_PATCHES, CROP_PATCHES)
    return _read_only(pool_windows(patches_PP, 3))


def pool_windows(ids_YX: np.ndarray, size: int) -> np.ndarray:
    """[windows, size * size] int32: a grid of patch ids cut into square windows, padded with -1 to whole ones.

    The padding is split between both ends of an axis, the odd one at the far end (Molmo2 §3.5).

    >>> pool_windows(np.arange(6).reshape(2, 3), 2).tolist()
    [[0, 1, 3, 4], [2, -1, 5, -1]]
    """
    padding = [(-extent % size // 2, -(-(-extent % size) // 2)) for extent in ids_YX.shape]
    padded_YX = np.pad(ids_YX, padding, constant_values=-1)
    rows, cols = (extent // size for extent in padded_YX.shape)
    windows = padded_YX.reshape(rows, size, cols, size).transpose(0, 2, 1, 3)
    return windows.reshape(rows * cols, size * size).astype(np.int32)


def _owned_patches(tiling: Tiling) -> np.ndarray:
    """[Y, X] id of the patch that shows each place of the canvas, counted from the first crop of the tiling.

    Where crops overlap, each keeps a margin of 4 patches less: the picture's edges belong to the outer crops whole.
    """
    crop_Y, y = _owners(tiling.rows)
    crop_X, x = _owners(tiling.cols)
    crop_YX = crop_Y[:, None] * tiling.cols + crop_X
    return (crop_YX * PATCHES_PER_CROP + y[:, None] * CROP_PATCHES + x).astype(np.int32)


def _owners(n_crops: int) -> tuple[np.ndarray, np.ndarray]:
    """For each patch along an axis of the canvas: the crop that owns it, and its place in that crop."""
    places = np.arange(STEP_PATCHES * n_crops + 2 * MARGIN_PATCHES)
    crops = np.clip((places - MARGIN_PATCHES) // STEP_PATCHES, 0, n_crops - 1)
    return crops, places - STEP_PATCHES * crops


def render_crops(image_HW3: np.ndarray, tiling: Tiling, out_CPD: np.ndarray) -> None:
    """Write the patches of a picture's crops into `out_CPD`, the global crop first (Molmo2 §3.4).

    Args:
        image_HW3: [H, W, 3] uint8 RGB, upright.
        tiling: how to cut it.
        out_CPD: [n_crops, 729, 588] uint8, C-contiguous (a slice of a batch's crops is). A patch's values are ordered
            (y, x, channel).

    Raises:
        ValueError: an array has another shape or dtype.
    """
    _check_out(out_CPD, (tiling.n_crops, PATCHES_PER_CROP, VALUES_PER_PATCH))
    _check_picture(image_HW3)
    views = [(_WHOLE, out_CPD[:1])]
    if tiling != _WHOLE:
        views.append((tiling, out_CPD[1:]))
    canvases = resize_in_turn(image_HW3, [view.canvas_hw for view, _ in views])
    for canvas_HW3, (view, out) in zip(canvases, views, strict=True):
        _write_patches(canvas_HW3, view, out)
    if tiling == _WHOLE:  # in detail it looks the same
        out_CPD[1] = out_CPD[0]


def render_frame(image_HW3: np.ndarray, out_PD: np.ndarray) -> None:
    """Write the patches of a video's frame, resized to one crop whole, into `out_PD` (Molmo2 §4.4).

    Args:
        image_HW3: [H, W, 3] uint8 RGB, upright.
        out_PD: [729, 588] uint8, C-contiguous. A patch's values are ordered (y, x, channel).

    Raises:
        ValueError: an array has another shape or dtype.
    """
    _check_out(out_PD, (PATCHES_PER_CROP, VALUES_PER_PATCH))
    _check_picture(image_HW3)
    (canvas_HW3,) = resize_in_turn(image_HW3, [(CROP, CROP)])
    _write_patches(canvas_HW3, _WHOLE, out_PD[None])


def _check_out(out: np.ndarray, shape: tuple[int, ...]) -> None:
    if out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(f"out must be a contiguous uint8 array of {shape}, not {out.dtype} of {out.shape}")


def _check_picture(image_HW3: np.ndarray) -> None:
    if image_HW3.ndim != 3 or image_HW3.shape[2] != 3 or image_HW3.dtype != np.uint8:
        raise ValueError(f"a picture must be a uint8 array of [H, W, 3], not {image_HW3.dtype} of {image_HW3.shape}")


def _write_patches(canvas_HW3: np.ndarray, tiling: Tiling, out_CPD: np.ndarray) -> None:
    """Cut the canvas into overlapping crops, and those into patches."""
    pixels_HW3 = np.ascontiguousarray(canvas_HW3, np.uint8)
    line, pixel, _ = pixels_HW3.strides
    # A line of a patch lies side by side both in the canvas and in the patch: one item of 42 bytes, which numpy moves
    # in two thirds of the time of 42 items.
    grid = (tiling.rows, tiling.cols, CROP_PATCHES, CROP_PATCHES, PATCH)
    strides = (STEP * line, STEP * pixel, PATCH * line, PATCH * pixel, line)
    out_CPD.reshape(-1).view(_PATCH_LINE).reshape(grid)[...] = np.ndarray(grid, _PATCH_LINE, pixels_HW3, 0, strides)


def unpatchify(patches_CPD: np.ndarray) -> np.ndarray:
    """[C, 378, 378, 3]: the crops that patches [C, 729, 588] were cut from."""
    n_crops = patches_CPD.shape[0]
    grid = patches_CPD.reshape(n_crops, CROP_PATCHES, CROP_PATCHES, PATCH, PATCH, 3)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(n_crops, CROP, CROP, 3)


def _read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
