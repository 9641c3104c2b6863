"""Captions, spoken descriptions and questions about a scene of shapes, each true because it is read off the scene."""

import itertools
from collections.abc import Iterator

import numpy as np

from converters.sample.scenes import OUTLINES, Scene, Shape

NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
NUMBERS += ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"]
MIN_CAPTION_WORDS, MAX_CAPTION_WORDS = 85, 190

PATTERN_WORDS = {
    "plain": "a plain, even surface",
    "gradient": "a smooth gradient that changes slowly from top to bottom",
    "striped": "diagonal stripes in two close tones",
    "checkered": "a checkerboard of two close tones",
    "mottled": "a soft, cloudy texture of two close tones",
}
SPEAKER_OPENINGS = ("Okay, so", "Alright, here", "So what I see is that", "Um, in this one", "Let me see,")


def number_word(n: int) -> str:
    """Return "two" for 2; figures above twenty."""
    return NUMBERS[n] if n < len(NUMBERS) else str(n)


def with_article(noun: str) -> str:
    """Return the noun with "a" or "an" before it."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    """Return the plural of a label or kind."""
    return noun + ("es" if noun.endswith("s") else "s")


def counted(label: str, n: int) -> str:
    """Return "one red circle", "two red circles"."""
    return f"{number_word(n)} {label if n == 1 else plural(label)}"


def listed(parts: list[str]) -> str:
    """Return "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def place(shape: Shape, scene: Scene) -> str:
    """Return where a shape's center lies, by thirds of the picture's width and height."""
    col = min(2, int(3 * shape.x / scene.width))
    row = min(2, int(3 * shape.y / scene.height))
    if (row, col) == (1, 1):
        return "near the center"
    if col == 1:
        return ("near the top", "", "near the bottom")[row]
    side = ("left", "", "right")[col]
    return (f"in the upper {side}", f"on the {side} side", f"in the lower {side}")[row]


def size_word(shape: Shape, scene: Scene) -> str:
    """Return "small", "medium-sized" or "large": the radius as a share of the picture's shorter side."""
    share = shape.radius / min(scene.width, scene.height)
    return "small" if share < 0.075 else "medium-sized" if share < 0.13 else "large"


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """Return a dense caption of 80 to 200 words: background, shapes with their sizes and places, relations."""
    groups = scene.groups()
    total = len(scene.shapes)
    sentences = [
        pick(
            rng,
            f"This picture shows {counted('flat shape', total)} on a {scene.background} background.",
            f"The image is a simple composition of {counted('shape', total)} over a {scene.background} background.",
            f"Against a {scene.background} background, {counted('geometric shape', total)} "
            f"{'is' if total == 1 else 'are'} spread out without touching each other.",
        ),
        pick(
            rng,
            f"The background is {PATTERN_WORDS[scene.pattern]}.",
            f"Behind the shapes there is {PATTERN_WORDS[scene.pattern]}, with nothing else drawn on it.",
        ),
    ]
    sentences += [_group_sentence(label, shapes, scene, rng) for label, shapes in groups.items()]
    length = sum(len(sentence.split()) for sentence in sentences)
    for extra in _extra_sentences(scene, rng):
        length += len(extra.split())
        if length > MAX_CAPTION_WORDS:
            break
        sentences.append(extra)
        if length >= MIN_CAPTION_WORDS and rng.random() < 0.4:
            break
    return " ".join(sentences)


def _group_sentence(label: str, shapes: list[Shape], scene: Scene, rng: np.random.Generator) -> str:
    if len(shapes) == 1:
        (shape,) = shapes
        described = f"{size_word(shape, scene)} {label}"
        where = place(shape, scene)
        return pick(
            rng,
            f"{with_article(described).capitalize()} sits {where} of the picture."
            if where.startswith(("in", "on"))
            else f"{with_article(described).capitalize()} sits {where}.",
            f"There is {with_article(described)} {where}.",
            f"{where.capitalize()}, you can see {with_article(described)} with crisp edges and a faint shadow.",
        )
    by_place: dict[str, list[Shape]] = {}
    for shape in shapes:
        by_place.setdefault(place(shape, scene), []).append(shape)
    places = [f"{_some(there, scene, rng)} {where}" for where, there in by_place.items()]
    opening = pick(rng, f"There are {counted(label, len(shapes))}", f"The picture has {counted(label, len(shapes))}")
    return f"{opening}: {listed(places)}."


def _some(shapes: list[Shape], scene: Scene, rng: np.random.Generator) -> str:
    """ "two"; "one", or "a large one"."""
    return number_word(len(shapes)) if len(shapes) > 1 else pick(rng, "one", f"a {size_word(shapes[0], scene)} one")


def _extra_sentences(scene: Scene, rng: np.random.Generator) -> Iterator[str]:
    """Sentences about the whole picture, the most telling first."""
    groups = scene.groups()
    largest = max(scene.shapes, key=lambda shape: shape.radius)
    yield pick(
        rng,
        f"The biggest of them all is {with_article(largest.label)}, which lies {place(largest, scene)}.",
        f"Nothing is larger than the {largest.label} {place(largest, scene)}.",
    )
    for first, second, relation in _relations(scene):
        yield pick(
            rng, f"The {first} is {relation} the {second}.", f"Seen from the {second}, the {first} is {relation} it."
        )
    yield f"In total the picture holds {listed([counted(label, len(shapes)) for label, shapes in groups.items()])}."
    yield _frame_sentence(scene)
    yield pick(
        rng,
        "Every shape is filled with a single color and casts a thin shadow towards the lower right.",
        "All shapes are filled evenly and are complete, so none of them is cut off by the border.",
    )
    yield "There are no people, animals, letters or numbers anywhere in the picture, only shapes and their background."
    yield "The style is clean and flat, as in a paper cutout or a simple children's puzzle."


def _frame_sentence(scene: Scene) -> str:
    if scene.width == scene.height:
        return "The frame is a square."
    wide = scene.width > scene.height
    return f"The frame is {'wider than it is tall' if wide else 'taller than it is wide'}."


def _relations(scene: Scene) -> list[tuple[str, str, str]]:
    """(label, label, relation) of neighboring labels that stand for one shape each and lie clearly apart."""
    single = [shapes[0] for shapes in scene.groups().values() if len(shapes) == 1]
    found = []
    for first, second in itertools.pairwise(single):
        dx, dy = (first.x - second.x) / scene.width, (first.y - second.y) / scene.height
        if abs(dx) > max(0.15, abs(dy)):
            found.append((first.label, second.label, "to the left of" if dx < 0 else "to the right of"))
        elif abs(dy) > 0.15:
            found.append((first.label, second.label, "above" if dy < 0 else "below"))
    return found


def transcripts(scene: Scene, rng: np.random.Generator) -> list[str]:
    """Return one to three informal descriptions, as people would speak them."""
    return [_transcript(scene, rng) for _ in range(rng.integers(1, 4))]


def _transcript(scene: Scene, rng: np.random.Generator) -> str:
    groups = list(scene.groups().items())
    order = rng.permutation(len(groups))
    parts = [f"{pick(rng, *SPEAKER_OPENINGS)} there's a {scene.background} background, {PATTERN_WORDS[scene.pattern]}."]
    for i in order:
        label, shapes = groups[i]
        link = pick(rng, "Then", "And", "I also see that", "And, uh,")
        verb = "there is" if len(shapes) == 1 else "there are"
        places = list(dict.fromkeys(place(shape, scene) for shape in shapes))
        parts.append(f"{link} {verb} {counted(label, len(shapes))}, {listed(places)}.")
    parts.append(
        pick(rng, "That's pretty much it.", f"So {number_word(len(scene.shapes))} shapes all in all.", "Yeah.")
    )
    return " ".join(parts)


def questions(scene: Scene, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Return different (question, answer) pairs about a scene, in random order."""
    groups = scene.groups()
    pairs = [
        ("What does the background look like?", f"It is {scene.background}: {PATTERN_WORDS[scene.pattern]}."),
        ("How many shapes are there in total?", f"There are {number_word(len(scene.shapes))} shapes."),
        (
            "Please list everything you see.",
            f"The picture shows {listed([counted(label, len(shapes)) for label, shapes in groups.items()])}.",
        ),
    ]
    absent = absent_label(scene, rng)
    pairs.append((f"Is there {with_article(absent)}?", f"No, there is no {absent} in this picture."))
    for label, shapes in groups.items():
        there = "There is" if len(shapes) == 1 else "There are"
        pairs.append((f"How many {plural(label)} are in the picture?", f"{there} {counted(label, len(shapes))}."))
        if len(shapes) == 1:
            pairs.append((f"Where is the {label}?", f"The {label} is {place(shapes[0], scene)}."))
        if sum(shape.kind == shapes[0].kind for shape in scene.shapes) == 1:
            pairs.append((f"What color is the {shapes[0].kind}?", f"The {shapes[0].kind} is {shapes[0].color}."))
    for first, second, relation in _relations(scene):
        pairs.append((f"Where is the {first} compared with the {second}?", f"It is {relation} the {second}."))
    ordered = sorted(scene.shapes, key=lambda shape: shape.radius)
    if ordered[-1].radius > 1.15 * ordered[-2].radius:
        pairs.append(
            (
                "Which shape is the largest?",
                f"The largest shape is {with_article(ordered[-1].label)}, {place(ordered[-1], scene)}.",
            )
        )
    return [pairs[i] for i in rng.permutation(len(pairs))]


def absent_label(scene: Scene, rng: np.random.Generator) -> str:
    """Return a label that is not in the scene, though its color or kind may be."""
    present = scene.groups()
    colors = sorted({shape.color for shape in scene.shapes} | {"green", "red"})
    labels = [f"{color} {kind}" for color in colors for kind in OUTLINES]
    return str(rng.choice([label for label in labels if label not in present]))


def pick(rng: np.random.Generator, *choices: str) -> str:
    """Return one of the texts."""
    return choices[rng.integers(len(choices))]
