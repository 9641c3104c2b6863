"""Films of moving shapes whose content is known at every moment: what is where, what is hidden, and what is said.

A `Film` is the truth, `draw` its picture at a time, `film_points` where its shapes are then. All are pure functions of
(seed, kind, index). Times are seconds after the first frame.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from converters.sample.clips import ClipFormat
from converters.sample.scenes import (
    BACKGROUNDS,
    COLORS,
    PATTERNS,
    Encoding,
    Scene,
    Shape,
    draw_background,
    draw_labels,
    draw_shapes,
)
from grain_molmo.rng import stable_hash

Cue = tuple[float, float, str]  # start and end in seconds, text

WALL_COLOR = (128, 130, 134)
FIRST_NAMES = (
    "Ada",
    "Ben",
    "Carla",
    "Dora",
    "Emil",
    "Fay",
    "Gus",
    "Hana",
    "Igor",
    "June",
    "Kim",
    "Leo",
    "Mira",
    "Nils",
)

# Kinds of file, by the fields of ClipFormat, that come equally often; `varies` stands for irregular frame times.
FORMATS: tuple[dict[str, Any], ...] = (
    {"fps": "12"},
    {"fps": "24000/1001", "gop": 1000},
    {"fps": "10", "codec": "hevc"},
    {"fps": "10", "codec": "vp9", "container": "webm"},
    {"fps": "10", "rotation": 90, "gop": 12},
    {"fps": "10", "varies": True, "b_frames": 0},
    {"fps": "12", "start_s": 1.5, "audio": True},
    {"fps": "15", "container": "mkv", "b_frames": 3, "audio": True},
    {"fps": "10", "codec": "mpeg4", "gop": 40},
    {"fps": "8", "codec": "av1"},
    {"fps": "60", "gop": 600},
    {"fps": "25/2", "rotation": 270},
)
TRACK_FORMATS: tuple[dict[str, Any], ...] = ({"fps": "6"}, {"fps": "10"}, {"fps": "24"}, {"fps": "30", "gop": 60})
SIZES = ((160, 120), (192, 144), (256, 144), (320, 180), (120, 214), (180, 320), (286, 180), (240, 240), (322, 242))
LARGE = (640, 360)


@dataclass(frozen=True)
class Actor:
    """A shape that swings around a middle point, within a lane of its own, and may come late or leave early.

    `reach` is half the way, in pixels; `period_s` the time there and back; `phase` a share of it.
    """

    kind: str
    color: str
    radius: float
    middle: tuple[float, float]
    reach: tuple[float, float]
    period_s: float
    phase: float
    appears_s: float
    leaves_s: float

    @property
    def label(self) -> str:
        """Color and kind, such as "red circle"."""
        return f"{self.color} {self.kind}"

    def is_there(self, time_s: float) -> bool:
        """Whether it is in the film at a time, be it behind the wall."""
        return self.appears_s <= time_s < self.leaves_s

    def shape(self, time_s: float) -> Shape:
        """Where it is at a time."""
        turn = 2 * math.pi * (time_s / self.period_s + self.phase)
        x = self.middle[0] + self.reach[0] * math.sin(turn)
        y = self.middle[1] + self.reach[1] * math.sin(2 * turn)
        return Shape(self.kind, self.color, round(x, 2), round(y, 2), self.radius)


@dataclass(frozen=True)
class Film:
    """What a film shows and tells.

    Attributes:
        backdrop: size and background; without shapes.
        actors: they never overlap; those of one label stand together, the first one is there all the time.
        wall: left and right edge, in whole pixels, of a gray wall that shapes pass behind.
        names: what the speaker calls the first actor of each label.
        cues: what is said when; in order, not overlapping.
        clip: the kind of file.
    """

    backdrop: Scene
    actors: tuple[Actor, ...]
    wall: tuple[int, int] | None
    names: dict[str, str]
    cues: tuple[Cue, ...]
    clip: ClipFormat

    @property
    def labels(self) -> dict[str, list[int]]:
        """Actors by label."""
        labels: dict[str, list[int]] = {}
        for i, actor in enumerate(self.actors):
            labels.setdefault(actor.label, []).append(i)
        return labels


@dataclass(frozen=True)
class FilmPoint:
    """Center of an actor, in pixels of the upright picture; `hidden` where the wall covers it."""

    actor: int
    x: float
    y: float
    hidden: bool


def film_points(film: Film, time_s: float) -> list[FilmPoint]:
    """Return the centers of all actors that are in the film at a time, hidden ones included, in the actors' order."""
    points = []
    for i, actor in enumerate(film.actors):
        if actor.is_there(time_s):
            shape = actor.shape(time_s)
            hidden = film.wall is not None and film.wall[0] <= shape.x < film.wall[1]
            points.append(FilmPoint(i, shape.x, shape.y, hidden))
    return points


def scene_at(film: Film, time_s: float) -> Scene:
    """Return the still picture of a time, with the shapes whose centers can be seen."""
    seen = [film.actors[point.actor].shape(time_s) for point in film_points(film, time_s) if not point.hidden]
    backdrop = film.backdrop
    return Scene(backdrop.width, backdrop.height, backdrop.background, backdrop.pattern, tuple(seen), Encoding(), 0)


def draw(film: Film, time_s: float) -> np.ndarray:
    """Return the frame at a time, [height, width, 3] uint8 RGB."""
    image = _background(film.backdrop).copy()
    draw_shapes(image, (actor.shape(time_s) for actor in film.actors if actor.is_there(time_s)))
    if film.wall is not None:
        image.paste(WALL_COLOR, (film.wall[0], 0, film.wall[1], image.height))
    return np.asarray(image)


@lru_cache(maxsize=4)
def _background(backdrop: Scene) -> Image.Image:
    return draw_background(backdrop)


# ---- making one ----


def make_film(seed: int, kind: str, index: int) -> Film:
    """Return film `index` of a kind.

    "films" have two to six shapes in all kinds of files, now and then a wall; "crowds" 8 to 60 shapes that stay where
    they are; "long" ones last more than a minute; "tracks" have rates that are whole numbers and, mostly, a wall.
    """
    if kind not in ("films", "crowds", "long", "tracks"):
        raise ValueError(f"unknown kind of film {kind!r}")
    rng = np.random.default_rng(stable_hash("film", seed, kind, index))
    clip = _make_clip(rng, seed, kind, index)
    background, pattern = str(rng.choice(list(BACKGROUNDS))), str(rng.choice(PATTERNS))
    backdrop = Scene(clip.width, clip.height, background, pattern, (), Encoding(), int(rng.integers(2**31)))
    sizes = _label_sizes(rng, kind)
    labels = draw_labels(rng, len(sizes), background, COLORS)
    looks = [label for label, size in zip(labels, sizes, strict=True) for _ in range(size)]
    wall = None
    if kind != "crowds" and rng.random() < (0.75 if kind == "tracks" else 0.3):
        left = clip.width * rng.uniform(0.35, 0.5)
        wall = (round(left), round(left + clip.width * rng.uniform(0.1, 0.18)))
    actors = _crowd(rng, looks, clip) if kind == "crowds" else _lanes(rng, looks, clip)
    names = dict(
        zip(dict.fromkeys(actor.label for actor in actors), rng.permutation(FIRST_NAMES).tolist(), strict=False)
    )
    return Film(backdrop, actors, wall, names, _cues(actors, names, clip.seconds, rng), clip)


def _make_clip(rng: np.random.Generator, seed: int, kind: str, index: int) -> ClipFormat:
    """The kind of file. An odd stride visits each format once in a run of twelve films."""
    formats = TRACK_FORMATS if kind == "tracks" else FORMATS
    wanted: dict[str, Any] = dict(formats[(stable_hash("clip", seed, kind) + 5 * index) % len(formats)])
    width, height = LARGE if index % 10 == 9 else SIZES[rng.integers(len(SIZES))]
    seconds = float(rng.uniform(2, 6) if rng.random() < 0.85 else rng.uniform(8, 20))
    if kind == "crowds":
        wanted, (width, height) = {"fps": "8"}, (320, 180) if index % 2 else (240, 320)
    elif kind == "long":
        wanted, (width, height), seconds = {"fps": "2", "gop": 400}, SIZES[index % 2], float(rng.uniform(66, 90))
    elif (width, height) == LARGE or wanted["fps"] == "60":
        seconds = min(seconds, 2.5)
    fps = Fraction(wanted.pop("fps"))
    count = round(seconds * fps)
    times = None
    if wanted.pop("varies", False):  # in steps of 1/100 s, as a screen recording drops frames
        steps = rng.choice([0.04, 0.1, 0.15, 0.5], p=[0.4, 0.4, 0.15, 0.05], size=count)
        times = tuple(round(float(time), 2) for time in [0, *np.cumsum(steps)] if time < seconds - 0.02)
    exact_s = round(seconds, 2) if times else float(count / fps)
    return ClipFormat(width=width, height=height, fps=fps, seconds=exact_s, frame_times=times, **wanted)


def _label_sizes(rng: np.random.Generator, kind: str) -> list[int]:
    """How many shapes each label gets."""
    if kind == "crowds":
        return [int(rng.integers(8, 46)), *(int(n) for n in rng.integers(1, 8, size=2))]
    sizes = [int(n) for n in rng.choice([1, 1, 1, 2, 3], size=rng.integers(2, 5))]
    while sum(sizes) > 6:
        sizes.pop()
    return sizes


def _lanes(rng: np.random.Generator, looks: list[tuple[str, str]], clip: ClipFormat) -> tuple[Actor, ...]:
    """Shapes that cross the picture, one above the other."""
    lane = clip.height / len(looks)
    rows = rng.permutation(len(looks))
    actors = []
    for i, (kind, color) in enumerate(looks):
        radius = min(lane * rng.uniform(0.3, 0.4), clip.width / 8)
        reach_x = (clip.width / 2 - radius - 2) * rng.uniform(0.5, 1)
        reach_y = max(0.0, lane / 2 - radius - 1) * rng.uniform(0, 0.9)
        appears, leaves = (0.0, clip.seconds) if i == 0 else _presence(rng, clip.seconds)
        actors.append(
            Actor(
                kind,
                color,
                round(float(radius), 2),
                (clip.width / 2, round((rows[i] + 0.5) * lane, 2)),
                (round(float(reach_x), 2), round(float(reach_y), 2)),
                round(float(rng.uniform(3, 9)), 2),
                round(float(rng.random()), 3),
                appears,
                leaves,
            )
        )
    return tuple(actors)


def _presence(rng: np.random.Generator, seconds: float) -> tuple[float, float]:
    """When an actor comes and leaves, in tenths of a second: half of them are there all the time."""
    appears, leaves = 0.0, seconds
    if rng.random() < 0.35:
        appears = round(float(rng.uniform(0.15, 0.45)) * seconds, 1)
    if rng.random() < 0.25:
        leaves = round(float(rng.uniform(0.65, 0.85)) * seconds, 1)
    return appears, leaves


def _crowd(rng: np.random.Generator, looks: list[tuple[str, str]], clip: ClipFormat) -> tuple[Actor, ...]:
    """Shapes that tremble, each in a grid cell of its own."""
    cells = math.ceil(len(looks) * 1.2)
    cols = max(1, round(math.sqrt(cells * clip.width / clip.height)))
    rows = math.ceil(cells / cols)
    cell_w, cell_h = clip.width / cols, clip.height / rows
    actors = []
    for (kind, color), cell in zip(looks, rng.choice(rows * cols, size=len(looks), replace=False), strict=True):
        radius = round(min(cell_w, cell_h) * float(rng.uniform(0.33, 0.4)), 2)
        middle = (round((cell % cols + 0.5) * cell_w, 2), round((cell // cols + 0.5) * cell_h, 2))
        actors.append(
            Actor(kind, color, radius, middle, (1.0, 1.0), 2.0, round(float(rng.random()), 3), 0.0, clip.seconds)
        )
    return tuple(actors)


def _cues(
    actors: tuple[Actor, ...], names: dict[str, str], seconds: float, rng: np.random.Generator
) -> tuple[Cue, ...]:
    """What a speaker says: a greeting, a name for each label when its first shape comes, a word at the end."""
    first: dict[str, float] = {}
    for actor in sorted(actors, key=lambda actor: actor.appears_s):
        first.setdefault(actor.label, actor.appears_s)
    said = [(0.0, "Hello and welcome.")] if rng.random() < 0.5 else []
    said += [(time_s, f"This is {names[label]}, the {label}.") for label, time_s in first.items()]
    said.append((0.75 * seconds, "That is all for today."))
    length = min(2.0, seconds / (len(said) + 1))
    cues: list[Cue] = []
    for i, (wished_s, text) in enumerate(said):
        begin = max(wished_s, cues[-1][1] if cues else 0.0)
        begin = min(begin, seconds - length * (len(said) - i))  # leave time for those that follow
        cues.append((round(begin, 3), round(begin + length, 3), text))
    return tuple(cues)
