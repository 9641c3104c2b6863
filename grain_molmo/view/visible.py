"""Text of any kind made visible: what a page would swallow, obey or choke on becomes characters that one can read."""

import re
from collections.abc import Iterator

# C0 controls but tab and line feed, DEL and C1, marks that turn the direction of text around them, line and paragraph
# separators (line feeds to a script), the byte order mark, halves of surrogate pairs, and what is no character at all.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
# What stands for one token in a conversation: <|im_end|>, <im_patch>.
_SPECIAL = re.compile(r"<\|[^|<>\s]{1,40}\|>|<(?:im|low_res_im|frame)_[a-z]{1,10}>|\n")


def visible(text: str) -> str:
    r"""The text with an escape for each character that cannot be seen or that has power over its surroundings.

    >>> print(visible("a\0b\u202ec"))
    a\x00b\u202ec
    """
    return _UNSEEN.sub(lambda match: _escape(ord(match[0])), text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def pieces(text: str) -> Iterator[tuple[str, str]]:
    """(kind, text) of the parts of a conversation: "text", "special" for a special token, "feed" for a line feed."""
    start = 0
    for match in _SPECIAL.finditer(text):
        if match.start() > start:
            yield "text", text[start : match.start()]
        yield ("feed" if match[0] == "\n" else "special"), match[0]
        start = match.end()
    if start < len(text):
        yield "text", text[start:]
