"""Masks as run lengths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from grain_molmo.masks import decode_mask, encode_mask


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_a_mask_comes_back(mask_HW):
    encoded = encode_mask(mask_HW)
    assert np.array_equal(decode_mask(encoded), mask_HW)
    assert all(count > 0 for count in encoded["counts"][1:])


@given(st.integers(1, 5), st.integers(1, 5))
def test_a_mask_that_begins_with_one_has_an_empty_first_run(height, width):
    assert encode_mask(np.ones((height, width), dtype=bool))["counts"] == [0, height * width]


def test_runs_that_do_not_fill_the_mask_are_refused():
    with pytest.raises(ValueError, match="reshape"):
        decode_mask({"size": [2, 2], "counts": [1, 2]})
