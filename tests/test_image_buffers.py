"""Memory of batches is used again, and only when nobody can see it any more."""

import gc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from grain_molmo.encode import EncodedExample
from grain_molmo.packing.mixture import Draw
from grain_molmo.render import ImageBuffers, render_rows
from grain_molmo.slots import PictureSlot
from grain_molmo.stages import PRETRAINING_STAGE
from grain_molmo.text.assemble import TokenArrays
from grain_molmo.vision.crops import select_tiling

STAGE = replace(PRETRAINING_STAGE, seq_len=1200, crops_per_row=6)


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_comes_back_when_the_array_is_gone():
    buffers = ImageBuffers()
    first = buffers.take((2, 3, 4))
    place = address(first)
    del first
    gc.collect()
    assert address(buffers.take((4, 6))) == place


@pytest.mark.parametrize(
    "hold",
    [lambda array: array[1:], lambda array: array.reshape(-1)[5:9], lambda array: array.data, lambda array: array.T],
    ids=["slice", "reshaped slice", "memoryview", "transpose"],
)
def test_memory_stays_while_any_view_of_it_lives(hold):
    buffers = ImageBuffers()
    first = buffers.take((2, 12))
    first[...] = 7
    held = hold(first)
    del first
    gc.collect()
    buffers.take((2, 12))[...] = 0
    assert (np.asarray(held) == 7).all()


def test_another_shape_gets_memory_of_its_own_size():
    buffers = ImageBuffers()
    buffers.take((2, 3))
    gc.collect()
    assert buffers.take((5, 7)).shape == (5, 7)


def picture_example(picture):
    tokens = np.arange(4, dtype=np.int32)
    arrays = TokenArrays(tokens, tokens, np.ones(4, np.float32), tokens, None)
    tiling = select_tiling(*picture.shape[:2], 1)
    slots = (PictureSlot(picture, tiling, 0),)
    return EncodedExample(Draw("test", 0, 0), "0", arrays, slots)


def test_a_batch_in_used_memory_equals_one_in_fresh_memory():
    buffers = ImageBuffers()
    bright, dark = (picture_example(np.full((40, 40, 3), value, np.uint8)) for value in (255, 9))
    broken = picture_example(np.zeros((40, 40, 3), np.float32))
    with ThreadPoolExecutor(1) as pool:
        used, _ = render_rows([[bright, bright, bright], [bright]], STAGE, pool, buffers)
        place = address(used["images"])
        del used
        gc.collect()
        again, _ = render_rows([[dark, broken], []], STAGE, pool, buffers)
        fresh, _ = render_rows([[dark, broken], []], STAGE, pool)
    assert address(again["images"]) == place
    assert (again["images"] == fresh["images"]).all()
    assert not again["images"][0, 2:].any()
    assert not again["images"][1].any()
