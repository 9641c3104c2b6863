"""Captions, questions and labels about a film of shapes, each true because it is read off the film."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from converters.sample.films import FIRST_NAMES, Film, film_points, scene_at
from converters.sample.scenes import BACKGROUNDS, OUTLINES
from converters.sample.text import PATTERN_WORDS, counted, listed, number_word, pick, place, plural, with_article

MAX_CLIPS, MAX_FRAMES = 4, 12
LATE_S = 0.05  # a shape that comes later than this was not there at the beginning


@dataclass(frozen=True)
class FilmQuestion:
    """A question with its only right answer and wrong ones."""

    question: str
    answer: str
    wrong: tuple[str, ...]
    category: str


def _seconds(time_s: float) -> str:
    return f"{time_s:.1f} seconds"


# ---- captions ----


def clip_bounds(film: Film) -> list[tuple[float, float]]:
    """Return begins and ends, in seconds, of up to four equal parts of a film that last a second or more."""
    parts = max(1, min(MAX_CLIPS, int(film.clip.seconds)))
    edges = np.linspace(0, film.clip.seconds, parts + 1).round(3).tolist()
    return list(itertools.pairwise(edges))


def short_caption(film: Film, rng: np.random.Generator) -> str:
    """Return one or two sentences about the whole film."""
    shapes = listed([counted(label, len(actors)) for label, actors in film.labels.items()])
    opening = pick(rng, f"The video shows {shapes}", f"In this video you can see {shapes}")
    wall = " A gray wall stands in the middle and hides whatever passes behind it." if film.wall else ""
    return f"{opening} on a {film.backdrop.background} background.{wall}"


def clip_caption(film: Film, start_s: float, end_s: float) -> str:
    """Return what comes, stays and goes in a part of a film."""
    there = [actor for actor in film.actors if actor.appears_s < end_s and actor.leaves_s > start_s]
    groups: dict[str, int] = {}
    for actor in there:
        groups[actor.label] = groups.get(actor.label, 0) + 1
    sentences = [f"There {'is' if len(there) == 1 else 'are'} {listed([counted(*group) for group in groups.items()])}."]
    for actor in there:
        if start_s < actor.appears_s:
            sentences.append(f"After {_seconds(actor.appears_s)} {with_article(actor.label)} appears.")
        if actor.leaves_s < end_s:
            sentences.append(f"After {_seconds(actor.leaves_s)} {with_article(actor.label)} disappears.")
    return " ".join(sentences)


def frame_caption(film: Film, time_s: float) -> str:
    """Return what can be seen at a moment, and where."""
    scene = scene_at(film, time_s)
    if not scene.shapes:
        return f"At {_seconds(time_s)} no shape can be seen."
    return f"At {_seconds(time_s)}: {listed([f'{with_article(s.label)} {place(s, scene)}' for s in scene.shapes])}."


def merged_caption(film: Film, rng: np.random.Generator) -> str:
    """Return the film's course, part by part."""
    behind = f"Behind everything there is {PATTERN_WORDS[film.backdrop.pattern]}."
    parts = [
        f"From {start:.1f} to {end:.1f} seconds: {clip_caption(film, start, end)}" for start, end in clip_bounds(film)
    ]
    return " ".join([short_caption(film, rng), behind, *parts, _sizes_sentence(film)])


def frame_merged_caption(film: Film, rng: np.random.Generator) -> str:
    """Return the film's course with what can be seen at several moments."""
    return " ".join([merged_caption(film, rng), *frame_captions(film)])


def frame_captions(film: Film) -> list[str]:
    """Return captions of evenly spread moments, about one a second, twelve at most."""
    number = max(1, min(MAX_FRAMES, int(film.clip.seconds)))
    return [frame_caption(film, film.clip.seconds * i / number) for i in range(number)]


def transcript(film: Film) -> str:
    """Return everything that is said."""
    return " ".join(text for _, _, text in film.cues)


def _sizes_sentence(film: Film) -> str:
    largest = max(film.actors, key=lambda actor: actor.radius)
    return f"The largest shape of all is {with_article(largest.label)}."


# ---- questions ----


def film_questions(film: Film, rng: np.random.Generator) -> list[FilmQuestion]:
    """Return at least five questions that pictures alone answer, in random order."""
    labels = film.labels
    background = film.backdrop.background
    found = [
        FilmQuestion(
            "What color is the background?",
            background.capitalize(),
            tuple(name.capitalize() for name in BACKGROUNDS if name != background),
            "scene",
        ),
        _number_question("How many different shapes appear in the whole video?", len(film.actors)),
        FilmQuestion(
            "Is there a wall that shapes pass behind?",
            "Yes" if film.wall else "No",
            ("No" if film.wall else "Yes",),
            "object existence",
        ),
    ]
    for label, actors in labels.items():
        found.append(_number_question(f"How many {plural(label)} appear in the video?", len(actors)))
    late = [actor for actor in film.actors if actor.appears_s > LATE_S]
    found.append(_number_question("How many shapes appear only after the video has started?", len(late)))
    for actor in late:
        if len(labels[actor.label]) == 1:
            wrong = tuple(_seconds(actor.appears_s + 0.2 * film.clip.seconds * step) for step in (1, 2, 3))
            question = f"After how many seconds does the {actor.label} appear?"
            found.append(FilmQuestion(question, _seconds(actor.appears_s), wrong, "temporal"))
    radii = sorted(actor.radius for actor in film.actors)
    if len(radii) == 1 or radii[-1] > 1.1 * radii[-2]:
        largest = max(film.actors, key=lambda actor: actor.radius).label
        found.append(
            FilmQuestion("Which shape is the largest?", f"The {largest}", _others(film, largest), "comparison")
        )
    return [found[i] for i in rng.permutation(len(found))]


def subtitle_questions(film: Film, rng: np.random.Generator) -> list[FilmQuestion]:
    """Return questions that take picture and speech together, in random order."""
    found = []
    for label, name in film.names.items():
        others = tuple(other for other in FIRST_NAMES if other != name)
        found.append(FilmQuestion(f"What is the name of the {label}?", name, others, "naming"))
        found.append(FilmQuestion(f"Which shape is called {name}?", f"The {label}", _others(film, label), "reference"))
    first = min(film.names, key=lambda label: _mention(film, label))
    found.append(
        FilmQuestion("Which shape does the speaker name first?", f"The {first}", _others(film, first), "order")
    )
    return [found[i] for i in rng.permutation(len(found))]


def _mention(film: Film, label: str) -> float:
    return next(start for start, _, text in film.cues if f"the {label}." in text)


def _number_question(question: str, number: int) -> FilmQuestion:
    wrong = tuple(number_word(other).capitalize() for other in range(max(0, number - 2), number + 4) if other != number)
    return FilmQuestion(question, number_word(number).capitalize(), wrong, "counting")


def _others(film: Film, label: str) -> tuple[str, ...]:
    """Other labels: first those of the film, then some that are not in it."""
    color = label.partition(" ")[0]
    known = [*film.labels, *(f"{color} {kind}" for kind in OUTLINES)]
    return tuple(f"The {other}" for other in dict.fromkeys(known) if other != label)


# ---- what to point at ----


@dataclass(frozen=True)
class Target:
    """A label that the hub's categories of VideoPoint may have, and the actors it stands for."""

    label: str
    actors: tuple[int, ...]


def point_target(film: Film, category: str, rng: np.random.Generator) -> Target:
    """Return something to point at, in words that fit a category; at times there is nothing of the kind."""

    def those(label: str, holds: Callable[[int], bool]) -> Target:
        return Target(label, tuple(i for i in range(len(film.actors)) if holds(i)))

    actors, half = film.actors, film.backdrop.height / 2
    # The first label is the one that crowds have most of.
    label = list(film.labels)[0 if rng.random() < 0.5 else rng.integers(len(film.labels))]
    kind = label.rpartition(" ")[2]
    largest = max(actor.radius for actor in actors)
    choices = {
        "action_or_event": those("shapes that appear late", lambda i: actors[i].appears_s > LATE_S),
        "animal": those(kind, lambda i: actors[i].kind == kind),
        "anomaly": those("shapes that vanish", lambda i: actors[i].leaves_s < film.clip.seconds),
        "comparative reference": those("the largest shape", lambda i: actors[i].radius == largest),
        "indirect reference": those(f"shapes that look like {film.names[label]}", lambda i: actors[i].label == label),
        "object": those(label, lambda i: actors[i].label == label),
        "referring expression": those(
            f"every {kind} on the {film.backdrop.background} background", lambda i: actors[i].kind == kind
        ),
        "spatial reference": those("shapes in the upper half", lambda i: actors[i].middle[1] < half),
    }
    if category == "object" and rng.random() < 0.15:
        return those("gray cloud", lambda i: False)
    return choices[category]


def points_on_grid(
    film: Film, actors: tuple[int, ...], start_s: float, end_s: float, step_s: float = 0.5
) -> dict[float, list[tuple[float, float]]] | None:
    """Return the centers (pixels) of actors by time, each where it first can be seen on a grid of times in a window.

    None if one of them never can.
    """
    points: dict[float, list[tuple[float, float]]] = {}
    waiting = set(actors)
    for i in range(round(start_s / step_s), int(np.ceil(end_s / step_s - 1e-9))):
        for point in film_points(film, i * step_s):
            if point.actor in waiting and not point.hidden:
                points.setdefault(i * step_s, []).append((point.x, point.y))
                waiting.remove(point.actor)
    return None if waiting else points
