"""The tokens that stand for a video's frames (Molmo2 §4.4)."""

import numpy as np
import pytest

from grain_molmo.special_tokens import IM_END, IM_PATCH, IM_START
from grain_molmo.text.tokenizer import load_tokenizer
from grain_molmo.vision.frames import FrameSampling, sample_times
from grain_molmo.visual_tokens import frame_tokens

BYTES = load_tokenizer("bytes")


def test_each_frame_stands_between_markers_after_its_time():
    frame = [BYTES.special_id(offset) for offset in (IM_START, *[IM_PATCH] * 81, IM_END)]
    expected = [*b"0.0 ", *frame, *b" 0.5 ", *frame, *b" 12.3 ", *frame]
    tokens = frame_tokens([0.0, 0.5, 12.3456], BYTES)
    assert tokens.dtype == np.int32
    assert tokens.tolist() == expected


def test_no_frames_are_no_tokens():
    assert frame_tokens([], BYTES).shape == (0,)


@pytest.mark.parametrize(
    ("max_frames", "duration_s", "count"),
    [(128, 63.5, 11_371), (128, 3600, 11_606), (384, 191.5, 34_339), (384, 3600, 34_823)],
)
def test_the_published_numbers_of_tokens(qwen3_tokenizer_path, max_frames, duration_s, count):
    times_s = sample_times(duration_s, FrameSampling(max_frames=max_frames))
    assert len(frame_tokens(times_s, load_tokenizer(qwen3_tokenizer_path))) == count
