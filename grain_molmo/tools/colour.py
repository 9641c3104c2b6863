"""Colours on a terminal, and only there; what they say is said in words, too.

NO_COLOR, FORCE_COLOR and TERM=dumb are respected (no-color.org, force-color.org).
"""

import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from termcolor import colored

_STYLES: Mapping[str, Mapping[str, Any]] = {
    "heading": {"attrs": ["bold"]},
    "good": {"color": "green"},
    "bad": {"color": "red", "attrs": ["bold"]},
    "warning": {"color": "yellow"},
    "hint": {"color": "cyan"},
    "quiet": {"attrs": ["dark"]},
}


def paint(text: str, style: str, stream: TextIO | None = None) -> str:
    """The text in a style, as the stream shows it.

    Args:
        text: padded already, for what is added takes no room on a terminal.
        style: "heading", "good", "bad", "warning", "hint" or "quiet".
        stream: where it is written; default standard output.
    """
    return colored(text, force_color=True, **_STYLES[style]) if text and _takes_colour(stream or sys.stdout) else text


def _takes_colour(stream: TextIO | None) -> bool:
    if os.environ.get("NO_COLOR") or stream is None:  # Python's own way of saying that it was started without one
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (os.environ.get("TERM") != "dumb" and stream.isatty())
