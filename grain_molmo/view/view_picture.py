"""Pictures of what visual tokens show: a picture's views with their grids and points, and the film strip of a video."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from grain_molmo.text.points import ParsedPoint
from grain_molmo.view.row_view import ExampleView, Frame, View
from grain_molmo.view.text_layout import Colour, draw_text

CARD, PROMPT, RULE = (255, 255, 255), (92, 102, 118), (222, 226, 232)
BRANCH_COLOURS: tuple[Colour, ...] = (
    *((230, 30, 60), (0, 130, 255), (255, 150, 0), (0, 165, 95)),
    *((190, 60, 220), (0, 175, 190), (150, 100, 40), (255, 90, 170)),
)
WHOLE, DETAIL = (168, 168), (392, 296)
"""Largest (width, height) of a picture's views, pixels."""
GAP = 16
SMALL = 14
_LINE, _MOST_RINGS = 23, 3


def branch_colour(branch: int) -> Colour:
    """The colour of what a branch points at."""
    return BRANCH_COLOURS[branch % len(BRANCH_COLOURS)]


def draw_view(view: View, points: Sequence[tuple[ParsedPoint, Colour]], max_size: tuple[int, int]) -> Image.Image:
    """A view scaled into `max_size` (width, height), with its grid of visual tokens, the seams of crops, and points."""
    height, width = view.pixels_HW3.shape[:2]
    scale = min(max_size[0] / width, max_size[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(np.ascontiguousarray(view.pixels_HW3)).resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(image, "RGBA")
    grid = view.grid
    tokens, crops = (grid.tokens_x, grid.tokens_y, 70), (grid.crops_x, grid.crops_y, 230)
    for upright, level, opacity in (tokens, crops):
        line = (255, 255, 255, opacity)
        for x in upright:
            draw.line((x * size[0], 0, x * size[0], size[1]), fill=line)
        for y in level:
            draw.line((0, y * size[1], size[0], y * size[1]), fill=line)
    _draw_points(draw, points, size)
    return image


def _draw_points(
    draw: ImageDraw.ImageDraw, points: Sequence[tuple[ParsedPoint, Colour]], size: tuple[int, int]
) -> None:
    """Dots with a white rim; where several branches point at the same place, rings around the last one's dot."""
    left_here = Counter((point.x, point.y) for point, _ in points)
    smallest = 6 if size[0] > WHOLE[0] else 4
    for point, colour in points:
        left_here[point.x, point.y] -= 1
        radius = smallest + 3 * min(left_here[point.x, point.y], _MOST_RINGS)
        x, y = point.x * size[0], point.y * size[1]
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=(255, 255, 255), width=2)


_FILM_COLUMNS, _FILM_ROWS, _STILL = 5, 3, 104


def draw_film(example: ExampleView) -> Image.Image:
    """Some of a video's frames with their times, and what the branches point at in them.

    Frames that a branch points into are shown before others; the rest are spread evenly.
    """
    points = [(point, branch_colour(i)) for i, branch in enumerate(example.branches) for point in branch.points]
    shown = _stills(example, [point for point, _ in points])
    step, line = _STILL + 12, _STILL + 24
    image = Image.new("RGB", (WHOLE[0] + GAP + DETAIL[0], line * -(-len(shown) // _FILM_COLUMNS) + _LINE), CARD)
    draw = ImageDraw.Draw(image)
    for place, number in enumerate(shown):
        frame, x, y = example.frames[number], place % _FILM_COLUMNS * step, place // _FILM_COLUMNS * line
        here = [(point, colour) for point, colour in points if _shows(frame, point)]
        still = draw_view(frame.view, here, (_STILL, _STILL))
        image.paste(still, (x, y))
        draw.rectangle((x, y, x + still.width - 1, y + still.height - 1), outline=RULE)
        draw_text(draw, (x, y + _STILL + 2), f"{frame.time} s", SMALL, PROMPT)
    info = example.info
    of = f" of the {info.frames_wanted} that the stage would show" if info.frames < info.frames_wanted else ""
    facts = f"{len(shown)} of {info.frames} frames{of}" + (f", {info.frames_from}" if info.frames_from else "")
    draw_text(draw, (0, image.height - _LINE), facts, SMALL, PROMPT)
    return image


def _stills(example: ExampleView, points: Sequence[ParsedPoint]) -> list[int]:
    """Numbers of the frames to show, ascending."""
    most = _FILM_COLUMNS * _FILM_ROWS
    frames = example.frames
    pointed_at = [i for i, frame in enumerate(frames) if any(_shows(frame, point) for point in points)]
    first = _some(pointed_at, most * 2 // 3)
    return sorted({*first, *_some(range(len(frames)), most - len(first))})


def _some(numbers: Sequence[int], most: int) -> list[int]:
    places = np.linspace(0, len(numbers) - 1, min(most, len(numbers))).round().astype(int)
    return [numbers[place] for place in places]


def _shows(frame: Frame, point: ParsedPoint) -> bool:
    """Whether the point is at the frame's time; both are said with one decimal."""
    try:
        return abs(float(frame.time) - point.frame) < 0.05
    except ValueError:  # an array of frames whose times are not said
        return False
