"""The 14 tokens that Molmo2 adds to a language model's vocabulary (Molmo2 §1.1): strings in order of id.

A token's id is the tokenizer's `special_base` plus its offset here. Layout code speaks in offsets, so that it
needs no tokenizer.
"""

SPECIAL_TOKENS = (
    "<im_start>",
    "<im_end>",
    "<im_patch>",
    "<im_col>",
    "<low_res_im_start>",
    "<|image|>",
    "<im_low>",
    "<frame_start>",
    "<frame_end>",
    "<|video|>",
    "<|points|>",
    "<|token_index|>",
    "<|vit_index|>",
    "<|vit_loc|>",
)

IM_START, IM_END, IM_PATCH, IM_COL, LOW_RES_IM_START, IMAGE, IM_LOW, FRAME_START, FRAME_END = range(9)

VISUAL_OFFSETS = (IM_START, IM_END, IM_PATCH, IM_COL, LOW_RES_IM_START, IM_LOW, FRAME_START, FRAME_END)
"""Offsets of the tokens that make up images and frames; they are inputs, never targets with weight."""
