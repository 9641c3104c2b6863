"""What a model wrote, back as points, tracks and counts: the way from `text.points` in reverse.

Any text can be read. What is not well formed is passed over, since a model may have written it; nothing here raises
for what a text holds, or takes more than time in proportion to its length.
"""

import re
from collections.abc import Iterator, Sequence
from typing import cast

from grain_molmo.errors import ConfigError
from grain_molmo.text.points import ParsedPoint, parse_points

Size = tuple[float, float]
"""Width and height."""
Track = dict[float, tuple[float, float]]
"""x and y by time in seconds, or by the number of a picture."""

_PLAIN = re.compile(
    r"(?:\bimage:[ \t]*(?P<image>[0-9]{1,9})[ \t,]+)?(?:\btime:[ \t]*(?P<time>[0-9]{1,9}(?:\.[0-9]+)?)[ \t,]+)?"
    r"(?:\bobject:[ \t]*(?P<object>[0-9]{1,9})[ \t,]+)?"
    r"\bpoint:[ \t]*x[ \t]*=[ \t]*(?P<x>[0-9]+(?:\.[0-9]+)?)[ \t,]+y[ \t]*=[ \t]*(?P<y>[0-9]+(?:\.[0-9]+)?)",
    re.ASCII | re.IGNORECASE,
)


def read_points(text: str, image_size: Size | Sequence[Size], scale: Size | None = None) -> list[ParsedPoint]:
    """The points that a text gives as markup or, if it has none of that, as lines like "Point: x=245 y=378".

    Args:
        text: what the model wrote.
        image_size: (width, height) in pixels of the picture or video that it was shown; of several pictures, a list
            with the size of each.
        scale: the width and height that coordinates are wanted in, of every picture: that of a mask, or 100 for
            percent; default pixels.

    Returns:
        In the order of the text. `frame` is the number of the picture, from 1, or the time in seconds; `object_id`
        runs on across pictures. Points outside the picture are left out, those of a picture that there is not, and a
        second one of an object in the same frame.

    >>> read_points("Time: 1.5 Object: 2 Point: x=320 y=120", (640, 480), (100, 100))
    [ParsedPoint(frame=1.5, object_id=2, x=50.0, y=25.0)]
    """
    sizes = _sizes(image_size)
    marked = parse_points(text, 1000)
    found = {}
    for point in marked or _plain_points(text):
        size = _size_of(point.frame, sizes)
        if size is None:
            continue
        units = (1000, 1000) if marked else size
        if point.x <= units[0] and point.y <= units[1]:
            width, height = scale or size
            x, y = point.x * width / units[0], point.y * height / units[1]
            found.setdefault((point.frame, point.object_id), ParsedPoint(point.frame, point.object_id, x, y))
    return list(found.values())


def read_tracks(text: str, image_size: Size | Sequence[Size], scale: Size | None = None) -> dict[int, Track]:
    """Where each object is at which time: the points of `read_points` by `object_id`, then by `frame`, both ascending.

    Args:
        text: what the model wrote.
        image_size, scale: as of `read_points`.

    Returns:
        By object a dict from time in seconds (or number of a picture) to (x, y) in units of `scale`, else pixels.

    Raises:
        ConfigError: an `image_size` that is none.

    >>> read_tracks('<tracks coords="0.0 1 031 062;1.0 1 062 062 2 500 500">dogs</tracks>', (1000, 1000))
    {1: {0.0: (31.0, 62.0), 1.0: (62.0, 62.0)}, 2: {1.0: (500.0, 500.0)}}
    """
    tracks: dict[int, Track] = {}
    for point in sorted(read_points(text, image_size, scale), key=lambda point: (point.object_id, point.frame)):
        tracks.setdefault(point.object_id, {})[point.frame] = (point.x, point.y)
    return tracks


def _plain_points(text: str) -> Iterator[ParsedPoint]:
    """Points in pixels; those without an object are numbered as they come."""
    for number, match in enumerate(_PLAIN.finditer(text), start=1):
        frame = float(match["time"] or match["image"] or 1)
        yield ParsedPoint(frame, int(match["object"] or number), float(match["x"]), float(match["y"]))


def _sizes(image_size: Size | Sequence[Size]) -> Size | list[Size]:
    try:
        if all(isinstance(size, Sequence) for size in image_size):
            return [_checked(cast("Size", size)) for size in image_size]
        return _checked(cast("Size", image_size))
    except (TypeError, ValueError) as error:
        wanted = "(width, height) above 0, or a list of these"
        raise ConfigError(f"image_size is {image_size!r:.80}; it must be {wanted}") from error


def _checked(size: Size) -> Size:
    width, height = (float(side) for side in size)
    if not (width > 0 and height > 0):
        raise ValueError("not above 0")
    return width, height


def _size_of(frame: float, sizes: Size | list[Size]) -> Size | None:
    """The size of what a point lies in; None if there is no picture of that number."""
    if isinstance(sizes, tuple):
        return sizes
    return sizes[int(frame) - 1] if frame in range(1, len(sizes) + 1) else None


_UNITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_TEENS = ("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS = {word: number for number, word in enumerate(_UNITS + _TEENS)}
_WORDS |= {word: 10 * number for number, word in enumerate(_TENS, start=2)}
_WORDS |= {f"{ten}-{unit}": _WORDS[ten] + _WORDS[unit] for ten in _TENS for unit in _UNITS[1:10]}

_DIGITS = r"(?<![\w.,:/-])(?:[0-9]{1,3}(?:,[0-9]{3}){1,3}|[0-9]{1,12})(?![\w:/%-]|[.,][0-9])"
_WORD = rf"\b(?:{'|'.join(sorted(_WORDS, key=len, reverse=True)).replace('-', '[- ]')})\b"
_NUMBER = rf"({_DIGITS}|{_WORD})"
_TAG = re.compile(r"<(points|tracks)\b[^<>]*>[^<]*(?:</\1>)?")
_SAID_OUTRIGHT = [
    re.compile(pattern, re.ASCII | re.IGNORECASE | re.MULTILINE)
    for pattern in (
        rf"\A\s*there (?:are|is|were) (?:(?:exactly|only) )?(?:{_NUMBER}|(none)\b)",
        rf"\btotal of {_NUMBER}",
        rf"^[ \t]*count:[ \t]*{_NUMBER}",
        rf"\A\W*{_NUMBER}\W*\Z",
    )
]
_ANY_NUMBER = re.compile(_NUMBER, re.ASCII | re.IGNORECASE)
_NOTHING = re.compile(r"\b(?:none|(?:there (?:are|is)|i (?:can )?see) no)\b(?! (?:more|fewer|less)\b)", re.IGNORECASE)


def read_count(text: str) -> int | None:
    """How many there are, as a text says; None if it does not say.

    The first that holds: "There are 3 ..." or "There are none." at the beginning; the last "... total of 3"; the last
    line with "Count: 3"; a number alone; as many as there are points; "none" or "there are no ..."; the only number
    that the text names. Numbers are digits, also "1,204", or words up to "ninety-nine". Tags are not read.

    >>> read_count("Counting the dogs shows a total of 3."), read_count("Count: 7"), read_count("I see twenty-one.")
    (3, 7, 21)
    """
    words = _TAG.sub(" ", text)
    for pattern in _SAID_OUTRIGHT:
        if numbers := [match[1] for match in pattern.finditer(words)]:
            return _number(numbers[-1])
    if n_points := len(parse_points(text)) or sum(1 for _ in _PLAIN.finditer(text)):
        return n_points
    if _NOTHING.search(words):
        return 0
    named = {_number(match[1]) for match in _ANY_NUMBER.finditer(words)}
    return named.pop() if len(named) == 1 else None


def _number(text: str | None) -> int:
    """0 for None, which stands for "none"."""
    if text is None:
        return 0
    digits = text.replace(",", "")
    return int(digits) if digits.isdecimal() else _WORDS[text.lower().replace(" ", "-")]
