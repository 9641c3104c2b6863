"""Cards as what the templates write down: places in percent, lines as SVG paths, weights as shades.

Everything but the pixels is computed here and in `drawn_rows`, so that templates only say what stands where.
"""

import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from grain_molmo.errors import GrainMolmoError
from grain_molmo.view.media import MediaSink, NotWrittenError
from grain_molmo.view.model import ExampleCard, Film, Grid, Mark, Picture, Span, Track

NUM_COLOURS = 8
SHADES = 5

PICTURE_SIDE, SMALL_SIDE, STILL_SIDE = 1024, 512, 384
"""Pixels of the longer side that a view asks for."""
_LARGE_BOX, _PAIR_BOX, _SMALL_BOX, _STILL_BOX = (640, 460), (255, 280), (165, 150), (220, 160)
_TINY, _MOST_ENLARGED = 160, 16
_NUM_LARGE = 2
_DOT, _SMALL_DOT, _RING, _MOST_RINGS = 5, 4, 3, 3
_MOST_PLACES_DRAWN = 240


@dataclass(frozen=True)
class Dot:
    """A point: centre in percent, radius in CSS pixels, what it is called."""

    x: str
    y: str
    radius: int
    colour: int
    number: int
    title: str


@dataclass(frozen=True)
class Box:
    """A box: corner and size in percent."""

    x: str
    y: str
    width: str
    height: str
    colour: int
    number: int
    title: str


@dataclass(frozen=True)
class Line:
    """A track, as the points of a polyline in a view of 1 by 1."""

    points: str
    colour: int
    title: str


@dataclass(frozen=True)
class Drawn:
    """A picture or still with what lies over it.

    Attributes:
        title: of the picture, or time of the still.
        url: "" if the picture cannot be shown.
        problem: why.
        width, height: to show it at, CSS pixels.
        enlarged: whether that is much more than it has.
        dots, boxes, lines: over it.
        crops, tokens: SVG paths of the borders in a view of 1 by 1, or "".
        outside: marks that do not lie in the picture.
        note: a still's subtitle.
        alt: the picture in words.
    """

    title: str
    url: str
    problem: str
    width: int
    height: int
    enlarged: bool
    dots: tuple[Dot, ...]
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    crops: str
    tokens: str
    outside: int
    note: str
    alt: str


@dataclass(frozen=True)
class Meaning:
    """What a colour stands for in the pictures of a card."""

    colour: int
    text: str


@dataclass(frozen=True)
class Shade:
    """What a shade of trained text stands for: loss weights from the lowest to the highest."""

    level: int
    lowest: float
    highest: float


def percent(share: float) -> str:
    """A share as CSS and SVG take it, to a hundred-thousandth of the whole.

    >>> percent(0.5), percent(1 / 3)
    ('50%', '33.333%')
    """
    return f"{100 * share:.3f}".rstrip("0").rstrip(".") + "%"


def shown_size(width: int, height: int, box: tuple[int, int]) -> tuple[int, int]:
    """(width, height) in CSS pixels to show a picture at: in the box, and tiny ones large enough to see."""
    scale = min(box[0] / max(1, width), box[1] / max(1, height))
    enough = max(1.0, min(_MOST_ENLARGED, _TINY / max(width, height, 1)))
    scale = min(scale, enough)
    return max(1, round(width * scale)), max(1, round(height * scale))


# ---- pictures ----


def draw_pictures(pictures: Sequence[Picture], media: MediaSink, owner: str) -> tuple[Drawn, ...]:
    """The pictures of a card, the first ones large."""
    return tuple(_draw_picture(picture, media, owner, _place(i, len(pictures))) for i, picture in enumerate(pictures))


def _place(index: int, count: int) -> tuple[tuple[int, int], int]:
    """The box that a picture is shown in, and the pixels of its longer side."""
    if index >= _NUM_LARGE:
        return _SMALL_BOX, SMALL_SIDE
    return (_LARGE_BOX if count == 1 else _PAIR_BOX), PICTURE_SIDE


def _draw_picture(picture: Picture, media: MediaSink, owner: str, place: tuple[tuple[int, int], int]) -> Drawn:
    box, side = place
    url, problem = "", ""
    try:
        url = media.put(picture.key, picture.decode, side)
    except NotWrittenError:
        raise
    except Exception as error:  # broken media raise whatever their decoder does; the rest of the card stays
        problem = _in_words(error)
    alt = f"{picture.title} of {owner}: {_count_marks(picture.marks)}"
    return _drawn(picture.title, url, problem, (picture.width, picture.height), box, picture.marks, picture.grid, alt)


def draw_film(film: Film, media: MediaSink, owner: str) -> tuple[Drawn, ...]:
    """The stills of a film; if it does not decode, all of them say so."""
    urls, problem = _still_urls(film, media)
    lines = tuple(_line(track) for track in film.tracks)
    return tuple(
        _drawn(
            f"{still.time} s",
            url,
            problem,
            (film.width, film.height),
            _STILL_BOX,
            still.marks,
            film.grid,
            f"{film.title} of {owner} at {still.time} seconds: {_count_marks(still.marks)}",
            lines=lines,
            note=still.subtitle,
        )
        for still, url in zip(film.stills, urls, strict=True)
    )


def _still_urls(film: Film, media: MediaSink) -> tuple[list[str], str]:
    frames = functools.cache(film.decode)  # all stills at once, and only if one is wanted

    def still(number: int) -> np.ndarray:
        return frames()[number]

    try:
        return [
            media.put(f"{film.key}-{i}", functools.partial(still, i), STILL_SIDE) for i in range(len(film.stills))
        ], ""
    except NotWrittenError:
        raise
    except Exception as error:
        return [""] * len(film.stills), _in_words(error)


def _in_words(error: Exception) -> str:
    return str(error) if isinstance(error, GrainMolmoError) else f"{type(error).__name__}: {error}"


def _drawn(
    title: str,
    url: str,
    problem: str,
    size: tuple[int, int],
    box: tuple[int, int],
    marks: Sequence[Mark],
    grid: Grid | None,
    alt: str,
    *,
    lines: tuple[Line, ...] = (),
    note: str = "",
) -> Drawn:
    width, height = shown_size(*size, box)
    inside = [mark for mark in marks if _is_inside(mark)]
    grid = grid or Grid()
    return Drawn(
        title=title,
        url=url,
        problem=problem,
        width=width,
        height=height,
        enlarged=width >= 2 * size[0],
        dots=_dots(inside, _DOT if box is not _STILL_BOX else _SMALL_DOT),
        boxes=tuple(_box(mark) for mark in inside if mark.kind == "box"),
        lines=lines,
        crops=borders(grid.crops_x, grid.crops_y),
        tokens=borders(grid.tokens_x, grid.tokens_y),
        outside=len(marks) - len(inside),
        note=note,
        alt=alt,
    )


def _is_inside(mark: Mark) -> bool:
    """Whether its place is in the picture, or on its very edge; not, if it is no number."""
    return all(-0.01 <= place <= 1.01 for place in (mark.x, mark.y, mark.x + mark.width, mark.y + mark.height))


def _dots(marks: Iterable[Mark], smallest: int) -> tuple[Dot, ...]:
    """Points; where several lie at one place, the lower ones are rings around the last."""
    points = [mark for mark in marks if mark.kind == "point"]
    left = Counter((mark.x, mark.y) for mark in points)
    dots: list[Dot] = []
    for mark in points:
        left[mark.x, mark.y] -= 1
        radius = smallest + _RING * min(left[mark.x, mark.y], _MOST_RINGS)
        dots.append(Dot(percent(mark.x), percent(mark.y), radius, colour_of(mark.group), mark.number, _title(mark)))
    return tuple(dots)


def _box(mark: Mark) -> Box:
    corner = percent(mark.x), percent(mark.y)
    return Box(*corner, percent(mark.width), percent(mark.height), colour_of(mark.group), mark.number, _title(mark))


def _line(track: Track) -> Line:
    places = track.places[:: max(1, math.ceil(len(track.places) / _MOST_PLACES_DRAWN))]
    points = " ".join(f"{x:.4f},{y:.4f}" for _, x, y in places if math.isfinite(x) and math.isfinite(y))
    return Line(points, colour_of(track.group), _numbered(track.number, track.label))


def _title(mark: Mark) -> str:
    return f"{_numbered(mark.number, mark.label)} ({percent(mark.x)}, {percent(mark.y)})".strip()


def _numbered(number: int, label: str) -> str:
    return f"{number} {label}".strip() if number else label


def colour_of(group: int) -> int:
    """Which of the colours stands for an annotation, or an example of a row."""
    return group % NUM_COLOURS


def _count_marks(marks: Sequence[Mark]) -> str:
    counts = Counter(mark.kind for mark in marks)
    words = [f"{count} {kind if count == 1 else plural}" for kind, plural in _PLURALS if (count := counts[kind])]
    return ", ".join(words) or "no marks"


_PLURALS = (("point", "points"), ("box", "boxes"))


def borders(lines_x: Iterable[float], lines_y: Iterable[float]) -> str:
    """Upright and level lines through the whole picture as an SVG path in a view of 1 by 1."""
    return "".join([f"M{x:.5g} 0V1" for x in lines_x] + [f"M0 {y:.5g}H1" for y in lines_y])


def told_apart(film: Film) -> Film:
    """The film with a colour for each track by its number, where all that is marked belongs to one annotation."""
    marks = [mark for still in film.stills for mark in still.marks]
    if len(film.tracks) < 2 or len({thing.group for thing in (*film.tracks, *marks)}) > 1:
        return film
    tracks = tuple(replace(track, group=max(0, track.number - 1)) for track in film.tracks)
    stills = tuple(
        replace(still, marks=tuple(replace(mark, group=max(0, mark.number - 1)) for mark in still.marks))
        for still in film.stills
    )
    return replace(film, tracks=tracks, stills=stills)


def meanings(card: ExampleCard) -> tuple[Meaning, ...]:
    """What each colour over the pictures stands for: its labels, and how many marks have it."""
    marks = [mark for picture in card.pictures for mark in picture.marks]
    tracks = card.film.tracks if card.film else ()
    if card.film and not tracks:
        marks += [mark for still in card.film.stills for mark in still.marks]
    found: dict[int, list[Mark | Track]] = {}
    for mark in (*marks, *tracks):
        found.setdefault(mark.group, []).append(mark)
    return tuple(Meaning(colour_of(group), _meaning(things)) for group, things in sorted(found.items()))


def _meaning(things: Sequence[Mark | Track]) -> str:
    counts = Counter(thing.kind if isinstance(thing, Mark) else "track" for thing in things)
    if len(things) == 1 and isinstance(things[0], Track) and things[0].number:
        return f"track {things[0].number}" + (f": {things[0].label}" if things[0].label else "")
    words = ", ".join(
        f"{count} {kind if count == 1 else plural}"
        for kind, plural in (*_PLURALS, ("track", "tracks"))
        if (count := counts[kind])
    )
    labels = list(dict.fromkeys(thing.label for thing in things if thing.label))
    more = f" and {len(labels) - 4} more" if len(labels) > 4 else ""
    return f"{words}: {', '.join(labels[:4])}{more}" if labels else words


# ---- conversations ----


def shades(card: ExampleCard) -> tuple[Shade, ...]:
    """Shades of the loss weights of a card, lightest first; few different weights have a shade each."""
    spans = itertools.chain(card.shared, *(conversation.spans for conversation in card.conversations))
    weights = sorted({span.weight for span in spans if span.weight > 0})
    if not weights:
        return ()
    if len(weights) <= SHADES:
        first = (SHADES - len(weights)) // 2 + 1
        return tuple(Shade(level, weight, weight) for level, weight in enumerate(weights, start=first))
    by_level = itertools.groupby(weights, key=lambda weight: math.ceil(SHADES * weight / weights[-1]))
    return tuple(Shade(level, group[0], group[-1]) for level, found in by_level for group in [list(found)])


def shade_of(span: Span, found: Sequence[Shade]) -> int:
    """The level of a span's shade; 0 is none."""
    return next((shade.level for shade in found if shade.lowest <= span.weight <= shade.highest), 0)
