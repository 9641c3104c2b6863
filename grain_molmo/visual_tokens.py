"""The tokens that stand for pictures and videos in the sequence, between BOS and the user's text."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from grain_molmo.special_tokens import IM_END, IM_PATCH, IM_START
from grain_molmo.text.assemble import plain_ids
from grain_molmo.text.times import frame_time_text
from grain_molmo.text.tokenizer import Tokenizer
from grain_molmo.vision.crops import FRAME_POOLED, Tiling, layout_tokens


def picture_tokens(tilings: Sequence[Tiling], tokenizer: Tokenizer) -> np.ndarray:
    """[v] int32: the layout of each picture; of several, each after its number (Molmo2 §5)."""
    blocks = [np.empty(0, np.int32)]
    for number, tiling in enumerate(tilings, start=1):
        if len(tilings) > 1:
            blocks.append(text_tokens(f"Image {number}", tokenizer))
        blocks.append(layout_tokens(tiling) + np.int32(tokenizer.special_base))
    return np.concatenate(blocks)


def frame_tokens(times_s: Sequence[float] | np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """[v] int32: per frame its time, `<im_start>`, 81 `<im_patch>`, `<im_end>`; layout (C) of Molmo2 §4.4.

    Args:
        times_s: [F] when each frame is shown, seconds from the start of the video or clip.
        tokenizer: for the times' text.
    """
    frame = np.array([IM_START, *[IM_PATCH] * FRAME_POOLED, IM_END], np.int32) + np.int32(tokenizer.special_base)
    blocks = [np.empty(0, np.int32)]
    for number, time_s in enumerate(times_s):
        blocks += [_time_ids(frame_time_text(float(time_s), number == 0), tokenizer), frame]
    return np.concatenate(blocks)


def text_tokens(text: str, tokenizer: Tokenizer) -> np.ndarray:
    """[n] int32 ids of text among the visual tokens. Raises ExampleError if it spells out one of those."""
    return np.array(plain_ids(text, tokenizer) if text else [], np.int32)


@lru_cache(maxsize=1 << 15)  # 40 minutes of tenths of a second
def _time_ids(text: str, tokenizer: Tokenizer) -> np.ndarray:
    return np.array(tokenizer.encode(text), np.int32)
