"""The tokens that stand for the frames of a video, each after the time at which it is shown (Molmo2 §4.4)."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from grain_molmo.special_tokens import IM_END, IM_PATCH, IM_START
from grain_molmo.text.tokenizer import Tokenizer
from grain_molmo.vision.crops import FRAME_POOLED


def frame_tokens(times_s: Sequence[float] | np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """[v] int32: per frame its time, `<im_start>`, 81 `<im_patch>`, `<im_end>`; layout (C) of Molmo2 §4.4.

    Args:
        times_s: [F] when each frame is shown, seconds from the start of the video or clip.
        tokenizer: for the times' text.
    """
    frame = np.array([IM_START, *[IM_PATCH] * FRAME_POOLED, IM_END], np.int32) + np.int32(tokenizer.special_base)
    blocks = [np.empty(0, np.int32)]
    for number, time_s in enumerate(times_s):
        blocks += [_time_ids(_time_text(float(time_s), number == 0), tokenizer), frame]
    return np.concatenate(blocks)


def _time_text(time_s: float, is_first: bool) -> str:
    """The time before a frame: one decimal, set off from what precedes it."""
    return f"{time_s:.1f} " if is_first else f" {time_s:.1f} "


@lru_cache(maxsize=1 << 15)  # 40 minutes of tenths of a second
def _time_ids(text: str, tokenizer: Tokenizer) -> np.ndarray:
    return np.array(tokenizer.encode(text), np.int32)
