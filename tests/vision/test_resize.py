"""The resize against the rule written out (Molmo2 §3.2)."""

import threading

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grain_molmo.vision.resize import resize_bilinear, resize_in_turn


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture in which everything that a resize can get wrong shows."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def before_rounding(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Half-pixel bilinear without antialiasing, in float64, but for coordinates: those are float32, as published."""
    y0, y1, wy = _sampled(image.shape[0], height)
    x0, x1, wx = _sampled(image.shape[1], width)
    values, wy, wx = image.astype(np.float64), wy[:, None, None], wx[None, :, None]
    top = values[y0][:, x0] * (1 - wx) + values[y0][:, x1] * wx
    bottom = values[y1][:, x0] * (1 - wx) + values[y1][:, x1] * wx
    return top * (1 - wy) + bottom * wy


def _sampled(size: int, new_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scale = np.float64(np.float32(size) / np.float32(new_size))
    place = np.maximum((np.arange(new_size) + 0.5) * scale - 0.5, 0).astype(np.float32).astype(np.float64)
    low = np.minimum(place.astype(int), size - 1)
    return low, np.minimum(low + 1, size - 1), place - low


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 90), st.integers(1, 90))
@example(28, 28, 378, 378)
@settings(max_examples=60)
def test_small_pictures_are_the_rule_rounded_to_nearest(height, width, new_height, new_width):
    image = noise(height, width)
    resized = resize_bilinear(image, new_height, new_width)
    assert resized.dtype == np.uint8
    assert np.abs(resized - before_rounding(image, new_height, new_width)).max() < 0.5 + 1e-3


def test_halves_are_rounded_to_even():
    pairs = np.array([[0, 1], [1, 2], [2, 3], [254, 255]], np.uint8)
    image = np.repeat(np.repeat(pairs[:, :, None], 3, axis=2), 2, axis=0)  # each 2x2 square averages to a half
    assert resize_bilinear(image, 4, 1)[:, 0, 0].tolist() == [0, 2, 2, 254]


@pytest.mark.parametrize(
    ("size", "new_size"),
    [
        ((1300, 1820), (644, 910)),
        ((1288, 1820), (644, 910)),  # exactly half: OpenCV would average and round half up
        ((756, 378), (378, 378)),
        ((427, 640), (644, 644)),
        ((300, 2000), (378, 2240)),
        ((2100, 2100), (378, 378)),  # above the sizes left to IPP
    ],
)
@pytest.mark.parametrize("uses_ipp", [True, False])
def test_large_pictures_agree_with_the_rule_with_and_without_ipp(size, new_size, uses_ipp):
    image = noise(*size)
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(uses_ipp)
    try:
        resized = resize_bilinear(image, *new_size)
        assert cv2.ipp.useIPP() == (uses_ipp and before), "the thread's own setting must stay as it was"
    finally:
        cv2.ipp.setUseIPP(before)
    known = np.rint(before_rounding(image, *new_size))
    assert np.abs(resized - known).max() <= 1
    # The bound for pictures is 0.002; neighbours in noise differ several times as much as in a sharp photo.
    assert (resized != known).mean() < 0.004


def test_a_picture_of_the_right_size_stays_as_it_is():
    image = noise(37, 53)
    assert np.array_equal(resize_bilinear(image, 37, 53), image)


def test_a_strided_picture_is_resized_like_its_copy():
    image = noise(400, 500)[::-1, ::2]
    assert np.array_equal(resize_bilinear(image, 378, 378), resize_bilinear(image.copy(), 378, 378))


def test_results_do_not_share_memory_that_is_used_again():
    first = resize_bilinear(noise(50, 50, seed=1), 378, 378)
    kept = first.copy()
    resize_bilinear(noise(50, 50, seed=2), 378, 378)
    assert np.array_equal(first, kept)


def test_several_sizes_in_turn_are_those_one_by_one():
    image = noise(90, 120)
    sizes = [(378, 378), (90, 120), (378, 644)]
    in_turn = [resized.astype(np.uint8) for resized in resize_in_turn(image, sizes)]
    for resized, size in zip(in_turn, sizes, strict=True):
        assert np.array_equal(resized, resize_bilinear(image, *size))


def test_threads_do_not_disturb_each_other():
    images = [noise(200 + 40 * i, 300, seed=i) for i in range(4)]
    expected = [resize_bilinear(image, 644, 378) for image in images]
    wrong = []

    def resize_again(image: np.ndarray, known: np.ndarray) -> None:
        wrong.extend(None for _ in range(20) if not np.array_equal(resize_bilinear(image, 644, 378), known))

    threads = [threading.Thread(target=resize_again, args=pair) for pair in zip(images, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
