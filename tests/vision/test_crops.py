"""Tilings, tokens, pooling indices and patches (Molmo2 §3.3 to §3.6)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grain_molmo.special_tokens import IM_COL, IM_END, IM_PATCH, IM_START, LOW_RES_IM_START
from grain_molmo.vision.crops import (
    Tiling,
    frame_pooling,
    layout_tokens,
    pool_windows,
    pooling_indices,
    render_crops,
    select_tiling,
    unpatchify,
)
from grain_molmo.vision.resize import resize_bilinear

sides = st.integers(1, 5000)
crop_limits = st.integers(1, 24)


def tilings_of(most):
    """Any grid of at most so many crops. (Filtering pairs of numbers instead now and then fails a health check.)"""
    return st.sampled_from([Tiling(rows, cols) for rows in range(1, most + 1) for cols in range(1, most // rows + 1)])


tilings = tilings_of(24)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def rendered(image: np.ndarray, tiling: Tiling) -> np.ndarray:
    patches = np.full((tiling.n_crops, 729, 588), 7, np.uint8)
    render_crops(image, tiling, patches)
    return patches


class TestSelectTiling:
    @pytest.mark.parametrize(
        ("height", "width", "at_most_8", "tokens_8", "at_most_24", "tokens_24"),
        [
            (378, 378, (1, 1), 410, (1, 1), 410),
            (200, 310, (1, 1), 410, (1, 1), 410),
            (379, 378, (2, 1), 545, (2, 1), 545),
            (480, 640, (2, 2), 752, (2, 2), 752),
            (600, 800, (2, 3), 982, (2, 3), 982),
            (768, 1024, (2, 3), 982, (3, 4), 1619),
            (1000, 1000, (2, 2), 752, (4, 4), 2006),
            (1080, 1920, (2, 4), 1189, (4, 6), 2804),
            (1920, 1080, (4, 2), 1208, (6, 4), 2823),
            (2000, 300, (8, 1), 1400, (8, 1), 1400),
            (10000, 10000, (2, 2), 752, (4, 4), 2006),
        ],
    )
    def test_worked_numbers(self, height, width, at_most_8, tokens_8, at_most_24, tokens_24):
        for max_crops, grid, tokens in ((8, at_most_8, tokens_8), (24, at_most_24, tokens_24)):
            tiling = select_tiling(height, width, max_crops)
            assert tiling == Tiling(*grid)
            assert tiling.n_tokens == len(layout_tokens(tiling)) == tokens

    def test_sides_below_the_overlap_count_as_one_pixel_more(self):
        """Molmo2 §0.8: what training does; without it, 100x1000 would be a single crop."""
        assert select_tiling(100, 1000, 8) == Tiling(1, 4)
        assert select_tiling(50, 2000, 8) == Tiling(1, 8)

    @given(sides, sides, crop_limits)
    def test_no_other_tiling_is_preferable(self, height, width, max_crops):
        tiling = select_tiling(height, width, max_crops)
        inner = np.maximum(np.array([height, width], np.float32) - 112, 1)

        def scale(rows: int, cols: int) -> float:
            return float((np.array([266 * rows, 266 * cols], np.float32) / inner).min())

        ours = scale(tiling.rows, tiling.cols)
        assert tiling.rows * tiling.cols <= max_crops
        for rows in range(1, max_crops + 1):
            for cols in range(1, max_crops // rows + 1):
                other = scale(rows, cols)
                if other == ours:
                    assert (tiling.rows * tiling.cols, tiling.rows) <= (rows * cols, rows)
                elif ours < 1:
                    assert other < ours
                else:
                    assert other > ours or other < 1

    def test_at_least_one_crop_must_be_allowed(self):
        with pytest.raises(ValueError, match="at least 1"):
            select_tiling(100, 100, 0)


class TestLayoutTokens:
    def test_the_smallest_picture(self):
        tokens = layout_tokens(Tiling(1, 1)).tolist()
        whole = [LOW_RES_IM_START, *[IM_PATCH] * 196, IM_END]
        assert tokens == [*whole, IM_START, *([IM_PATCH] * 14 + [IM_COL]) * 14, IM_END]

    @pytest.mark.parametrize(("n", "length"), [(1, 14), (2, 23), (3, 33), (4, 42), (5, 52), (6, 61), (7, 71), (8, 80)])
    def test_pooled_patches_along_an_axis(self, n, length):
        assert Tiling(n, 1).pooled_hw == (length, 14)
        assert Tiling(1, n).pooled_hw == (14, length)

    @pytest.mark.parametrize(
        ("tiling", "tokens", "pooled", "crops"),
        [
            (Tiling(8, 1), 1400, 1316, 9),
            (Tiling(1, 8), 1334, 1316, 9),
            (Tiling(12, 1), 1970, 1848, 13),
            (Tiling(24, 1), 3680, 3444, 25),
            (Tiling(1, 24), 3462, 3444, 25),
        ],
    )
    def test_the_largest_counts(self, tiling, tokens, pooled, crops):
        assert (tiling.n_tokens, tiling.n_pooled, tiling.n_crops) == (tokens, pooled, crops)

    @given(tilings)
    def test_each_patch_token_has_its_pooling_row(self, tiling):
        tokens, pooling = layout_tokens(tiling), pooling_indices(tiling)
        assert tokens.dtype == pooling.dtype == np.int32
        assert len(tokens) == tiling.n_tokens
        assert pooling.shape == (tiling.n_pooled, 4)
        assert np.count_nonzero(tokens == IM_PATCH) == tiling.n_pooled

    @pytest.mark.parametrize("figures", [layout_tokens, pooling_indices])
    def test_what_is_cached_cannot_be_changed(self, figures):
        with pytest.raises(ValueError, match="read-only"):
            figures(Tiling(1, 2))[0] = 0


class TestPoolingIndices:
    def test_worked_numbers_of_the_global_view(self):
        pooling = pooling_indices(Tiling(1, 1))
        assert pooling[0].tolist() == [0, 1, 27, 28]
        assert pooling[13].tolist() == [26, -1, 53, -1]
        assert pooling[14].tolist() == [54, 55, 81, 82]
        assert pooling[195].tolist() == [728, -1, -1, -1]

    def test_worked_numbers_of_two_crops_side_by_side(self):
        detail = pooling_indices(Tiling(1, 2))[196:].reshape(14, 23, 4)
        assert detail[0, 0].tolist() == [729, 730, 756, 757]
        assert detail[0, 11].tolist() == [751, 1462, 778, 1489], "a window can straddle two crops"
        assert detail[13, 22].tolist() == [2185, 2186, -1, -1]

    def test_worked_numbers_of_four_crops(self):
        detail = pooling_indices(Tiling(2, 2))[196:].reshape(23, 23, 4)
        assert detail[11, 11].tolist() == [1345, 2056, 2317, 3028]
        assert (detail >= 0).all()

    @given(tilings)
    def test_every_row_pools_something_and_each_patch_at_most_once(self, tiling):
        pooling = pooling_indices(tiling)
        assert (pooling.max(axis=1) >= 0).all()
        used = pooling[pooling >= 0]
        assert len(np.unique(used)) == len(used)
        assert used.max() < 729 * tiling.n_crops
        assert len(used) == 729 + (19 * tiling.rows + 8) * (19 * tiling.cols + 8)

    def test_odd_padding_goes_to_the_far_end_and_even_padding_to_both(self):
        assert pool_windows(np.arange(4).reshape(1, 4), 3).tolist() == [
            [-1, -1, -1, -1, 0, 1, -1, -1, -1],
            [-1, -1, -1, 2, 3, -1, -1, -1, -1],
        ]


class TestRenderCrops:
    @given(tilings_of(12))
    @settings(max_examples=10)
    def test_the_patches_that_are_pooled_put_the_canvas_together_again(self, tiling):
        image = noise(300, 200)
        patches = rendered(image, tiling).reshape(-1, 14, 14, 3)

        rows, cols = tiling.pooled_hw
        windows = pooling_indices(tiling)[196:].reshape(rows, cols, 2, 2)
        ids = windows.transpose(0, 2, 1, 3).reshape(2 * rows, 2 * cols)[: 19 * tiling.rows + 8, : 19 * tiling.cols + 8]
        canvas = patches[ids].transpose(0, 2, 1, 3, 4).reshape(*tiling.canvas_hw, 3)
        assert np.array_equal(canvas, resize_bilinear(image, *tiling.canvas_hw))

    def test_crops_are_windows_of_the_canvas_behind_the_whole_picture(self):
        image = noise(700, 1100)
        crops = unpatchify(rendered(image, Tiling(2, 3)))
        canvas = resize_bilinear(image, 644, 910)
        assert np.array_equal(crops[0], resize_bilinear(image, 378, 378))
        for k in range(6):
            top, left = 266 * (k // 3), 266 * (k % 3)
            assert np.array_equal(crops[1 + k], canvas[top : top + 378, left : left + 378])

    def test_a_patch_is_flattened_by_row_column_channel(self):
        image = noise(378, 378)
        patches = rendered(image, Tiling(1, 1))
        assert np.array_equal(patches[0], patches[1])
        assert np.array_equal(patches[0, 27 + 2].reshape(14, 14, 3), image[14:28, 28:42])

    def test_only_the_own_crops_of_a_batch_are_written(self):
        tiling = Tiling(1, 2)
        batch = np.full((2, 6, 729, 588), 7, np.uint8)
        render_crops(noise(400, 640), tiling, batch[1, 2:5])
        assert np.array_equal(batch[1, 2:5], rendered(noise(400, 640), tiling))
        assert (batch[0] == 7).all()
        assert (batch[1, :2] == 7).all()
        assert (batch[1, 5:] == 7).all()

    def test_a_strided_picture_is_rendered_like_its_copy(self):
        for image in (noise(756, 400)[::2, ::-1], noise(378, 378)[::-1, ::-1]):
            tiling = select_tiling(*image.shape[:2], 8)
            assert np.array_equal(rendered(image, tiling), rendered(image.copy(), tiling))

    @pytest.mark.parametrize(
        "out",
        [
            np.empty((2, 729, 588), np.float32),
            np.empty((3, 729, 588), np.uint8),
            np.empty((4, 729, 588), np.uint8)[::2],
        ],
    )
    def test_a_wrong_output_is_refused(self, out):
        with pytest.raises(ValueError, match="out must be"):
            render_crops(noise(10, 10), Tiling(1, 1), out)

    @pytest.mark.parametrize("image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.float32)])
    def test_a_wrong_picture_is_refused(self, image):
        with pytest.raises(ValueError, match="a picture must be"):
            rendered(image, Tiling(1, 1))


def test_a_frame_pools_whole_windows_of_nine_patches():
    """Molmo2 §4.4: token (i, j) averages patches (3i + dy) * 27 + 3j + dx."""
    pooling = frame_pooling()
    assert (pooling.shape, pooling.dtype) == ((81, 9), np.int32)
    assert pooling[9 * 2 + 4].tolist() == [(6 + dy) * 27 + 12 + dx for dy in range(3) for dx in range(3)]
    assert sorted(pooling.ravel().tolist()) == list(range(729))
