"""Turns of a conversation as the strings that Qwen3 models read (Molmo2 §1.4)."""

from collections.abc import Sequence

from grain_molmo.text.tokenizer import TURN_END, TURN_START


def chat_strings(turns: Sequence[str]) -> list[str]:
    """The turns with their markers: even positions are the user's, odd ones the assistant's, which stay verbatim.

    The assistant's end token is added when the strings become ids, so a later user turn starts by closing the
    assistant's: two end tokens in a row, as released weights expect (Molmo2 §11).

    >>> chat_strings(["Colour?", "Red."])
    ['<|im_start|>user\\nColour?<|im_end|>\\n<|im_start|>assistant\\n', 'Red.']
    """
    return [text if i % 2 else _user_turn(text, is_first=i == 0) for i, text in enumerate(turns)]


def _user_turn(text: str, is_first: bool) -> str:
    close_answer = "" if is_first else f"{TURN_END}\n"
    return f"{close_answer}{TURN_START}user\n{text}{TURN_END}\n{TURN_START}assistant\n"
