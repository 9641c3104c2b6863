"""The tokens that stand for pictures and videos in the sequence, between BOS and the user's text."""

from collections.abc import Sequence

import numpy as np

from grain_molmo.text.assemble import plain_ids
from grain_molmo.text.tokenizer import Tokenizer
from grain_molmo.vision.crops import Tiling, layout_tokens


def picture_tokens(tilings: Sequence[Tiling], tokenizer: Tokenizer) -> np.ndarray:
    """[v] int32: the layout of each picture; of several, each after its number (Molmo2 §5)."""
    blocks = [np.empty(0, np.int32)]
    for number, tiling in enumerate(tilings, start=1):
        if len(tilings) > 1:
            blocks.append(text_tokens(f"Image {number}", tokenizer))
        blocks.append(layout_tokens(tiling) + np.int32(tokenizer.special_base))
    return np.concatenate(blocks)


def text_tokens(text: str, tokenizer: Tokenizer) -> np.ndarray:
    """[n] int32 ids of text among the visual tokens. Raises ExampleError if it spells out one of those."""
    return np.array(plain_ids(text, tokenizer) if text else [], np.int32)
