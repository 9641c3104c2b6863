"""Coloured words on lines: wrapping, cutting with an ellipsis, and drawing with Pillow's own font."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import ImageDraw, ImageFont

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

ELLIPSIS = "…"
UNPRINTABLE = "·"
_IN_PILLOWS_FONT = {ELLIPSIS, UNPRINTABLE}
_FALLBACKS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf")
_WORDS = re.compile(r"<\|[^|<>\s]+\|>|\n| +|[^\s<]+|<|\s")
_LONGEST = 4000  # characters laid out of one text; far more than fits
_SPECIAL = re.compile(r"<\|[^|]+\|>|\\n")


@dataclass(frozen=True)
class Word:
    """A piece of text at x pixels from the start of its line."""

    x: float
    text: str
    colour: Colour


Line = list[Word]


@dataclass(frozen=True)
class Piece:
    """Text to lay out: its colour, and that of control tokens and line feeds in it."""

    text: str
    colour: Colour
    special: Colour


@functools.cache
def font_for(text_is_latin: bool, size: int) -> Font:
    """Pillow's font, or for text that it lacks glyphs for a wider one of the system, if there is one."""
    if not text_is_latin:
        for name in _FALLBACKS:
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    return ImageFont.load_default(size)


def _font(text: str, size: int) -> Font:
    return font_for(text.isascii() or text in _IN_PILLOWS_FONT, size)


def drawable(text: str) -> str:
    """The text with a dot for each character that cannot be drawn; some of them stop Pillow."""
    return text if text.isprintable() else "".join(char if char.isprintable() else UNPRINTABLE for char in text)


def width_of(text: str, size: int) -> float:
    """Pixels that the text takes on one line."""
    return _font(text, size).getlength(drawable(text))


def lay_out(pieces: Sequence[Piece], width: float, size: int) -> list[Line]:
    """Wraps coloured text into lines.

    Args:
        pieces: one follows the other on the same line. A line feed shows as "\\n".
        width: of a line, pixels. A word that is longer is broken.
        size: of the font, pixels.
    """
    lines: list[Line] = [[]]
    x = 0.0
    for piece in pieces:
        for word in _words(piece.text, width, size):
            colour = piece.special if _SPECIAL.fullmatch(word) else piece.colour
            advance = width_of(word, size)
            if x + advance > width and lines[-1]:
                lines.append([])
                x = 0.0
            if x == 0 and not word.strip():
                continue
            lines[-1].append(Word(x, word, colour))
            x += advance
    return lines if lines[-1] else lines[:-1]


def _words(text: str, width: float, size: int):
    """Words, spaces and control tokens, with what cannot be drawn replaced and overlong words broken."""
    for word in _WORDS.findall(text[:_LONGEST]):
        shown = "\\n" if word == "\n" else drawable(word)
        while len(shown) > 1 and width_of(shown, size) > width:
            fitting = max(1, int(len(shown) * width / width_of(shown, size)) - 1)
            yield shown[:fitting]
            shown = shown[fitting:]
        yield shown


def cut(lines: list[Line], number: int, width: float, size: int) -> list[Line]:
    """The first lines; the last of them ends in an ellipsis if there were more."""
    if len(lines) <= number:
        return lines
    kept = [*lines[: number - 1], list(lines[number - 1])]
    room = width - width_of(ELLIPSIS, size)
    last = kept[-1]
    while len(last) > 1 and last[-1].x + width_of(last[-1].text, size) > room:
        last.pop()
    end = last[-1]
    last.append(Word(min(room, end.x + width_of(end.text, size)), ELLIPSIS, end.colour))
    return kept


def share_lines(needed: Sequence[int], available: int) -> list[int]:
    """How many lines each text gets: as many as it needs, the largest ones cut evenly; each gets one at least.

    >>> share_lines([2, 9, 5], 10)
    [2, 4, 4]
    """
    given = [0] * len(needed)
    by_need = sorted(range(len(needed)), key=lambda i: needed[i])
    for position, i in enumerate(by_need):
        given[i] = max(1, min(needed[i], available // (len(needed) - position)))
        available -= given[i]
    return given


def draw_text(draw: ImageDraw.ImageDraw, xy: tuple[float, float], text: str, size: int, fill: Colour) -> None:
    """Draws one line of text with its top left corner at `xy`."""
    draw.text(xy, drawable(text), font=_font(text, size), fill=fill)


def draw_lines(
    draw: ImageDraw.ImageDraw, xy: tuple[float, float], lines: Sequence[Line], size: int, line_height: int
) -> None:
    """Draws laid-out lines below each other."""
    left, top = xy
    for number, line in enumerate(lines):
        for word in line:
            draw_text(draw, (left + word.x, top + number * line_height), word.text, size, word.colour)
