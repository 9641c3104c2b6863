"""Drawn figures of the kinds that the hub's molmo2-synmultiimageqa has, with questions answered from what is drawn."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from converters.sample.charts import INK, QA, SERIES, font, paper
from converters.sample.documents import make_document
from converters.sample.scenes import draw_scene, make_scene
from converters.sample.text import questions
from grain_molmo.rng import stable_hash

ATOMS = {"C": "carbon", "O": "oxygen", "N": "nitrogen", "S": "sulfur"}
DOCUMENTS = {"chart": "charts", "diagram": "diagrams", "doc": "other", "table": "tables"}


def make_figure(seed: int, config: str, split: str, index: int) -> tuple[Image.Image, list[QA]]:
    """Return picture and (question, answer) pairs of figure `index` of one of the hub's eight configs."""
    if config in DOCUMENTS:
        return make_document(seed, DOCUMENTS[config], f"figures/{split}", index)
    rng = np.random.default_rng(stable_hash("figure", seed, config, split, index))
    if config == "graphic":
        scene = make_scene(seed, "scenes", stable_hash("graphic", split, index) % 10**9)
        return draw_scene(scene), questions(scene, rng)
    make: dict[str, Callable[[np.random.Generator], tuple[Image.Image, list[QA]]]] = {
        "chemical": _molecule,
        "circuit": _circuit,
        "music": _staff,
    }
    return make[config](rng)


def _molecule(rng: np.random.Generator) -> tuple[Image.Image, list[QA]]:
    """A chain of atoms, linked by single or double bonds."""
    atoms = [list(ATOMS)[i] for i in rng.choice(len(ATOMS), size=rng.integers(3, 9), p=[0.55, 0.15, 0.15, 0.15])]
    doubles = [bool(double) for double in rng.random(len(atoms) - 1) < 0.3]
    image = Image.new("RGB", (60 + 70 * len(atoms), 200), paper(rng))
    draw = ImageDraw.Draw(image)
    centers = [(65 + 70 * i, 80 + 50 * (i % 2)) for i in range(len(atoms))]
    for i, double in enumerate(doubles):
        for shift in (-4, 4) if double else (0,):
            (x0, y0), (x1, y1) = centers[i], centers[i + 1]
            draw.line((x0, y0 + shift, x1, y1 + shift), INK, 3)
    for atom, (x, y) in zip(atoms, centers, strict=True):
        draw.ellipse((x - 19, y - 19, x + 19, y + 19), SERIES[list(ATOMS).index(atom)])
        draw.text((x, y), atom, (255, 255, 255), font(22), anchor="mm")
    counts = [(f"How many {name} atoms are drawn?", str(atoms.count(atom))) for atom, name in ATOMS.items()]
    pairs = [
        ("How many atoms does the molecule have?", str(len(atoms))),
        ("How many double bonds are there?", str(sum(doubles))),
        *counts,
    ]
    return image, [pairs[i] for i in rng.permutation(len(pairs))]


def _circuit(rng: np.random.Generator) -> tuple[Image.Image, list[QA]]:
    """A battery and resistors in series."""
    ohms = [int(value) * 10 for value in rng.choice(np.arange(1, 100), size=rng.integers(2, 6), replace=False)]
    volts = int(rng.choice([3, 5, 9, 12, 24]))
    width = 100 + 110 * len(ohms)
    image = Image.new("RGB", (width, 260), paper(rng))
    draw = ImageDraw.Draw(image)
    draw.rectangle((40, 70, width - 40, 200), outline=INK, width=3)
    for i, value in enumerate(ohms):
        x = 80 + 110 * i
        draw.rectangle((x, 55, x + 70, 85), (255, 255, 255), INK, 3)
        draw.text((x + 35, 35), f"R{i + 1} = {value} Ω", INK, font(17), anchor="mm")
    middle = width / 2
    draw.rectangle((middle - 7, 170, middle + 7, 230), image.getpixel((2, 2)))
    draw.line((middle - 8, 170, middle - 8, 230), INK, 3)
    draw.line((middle + 8, 185, middle + 8, 215), INK, 7)
    draw.text((middle, 246), f"{volts} V", INK, font(17), anchor="mm")
    pairs = [
        ("How many resistors are in the circuit?", str(len(ohms))),
        ("What is the total resistance of the series?", f"{sum(ohms)} Ω"),
        ("What is the voltage of the battery?", f"{volts} V"),
        ("Which resistor is the largest?", f"R{ohms.index(max(ohms)) + 1}"),
    ]
    return image, [pairs[i] for i in rng.permutation(len(pairs))]


def _staff(rng: np.random.Generator) -> tuple[Image.Image, list[QA]]:
    """Notes on a staff of five lines; step 0 is the lowest line, each step half a space higher."""
    steps = [int(step) for step in rng.integers(0, 9, size=rng.integers(4, 11))]
    filled = [bool(fill) for fill in rng.random(len(steps)) < 0.6]
    width = 90 + 55 * len(steps)
    image = Image.new("RGB", (width, 200), paper(rng))
    draw = ImageDraw.Draw(image)
    for line in range(5):
        draw.line((20, 140 - 20 * line, width - 20, 140 - 20 * line), INK, 2)
    for i, (step, fill) in enumerate(zip(steps, filled, strict=True)):
        x, y = 70 + 55 * i, 140 - 10 * step
        draw.ellipse((x - 12, y - 9, x + 12, y + 9), INK if fill else None, INK, 3)
        draw.line((x + 11, y, x + 11, y - 45) if step < 4 else (x - 11, y, x - 11, y + 45), INK, 3)
    on_lines = sum(step % 2 == 0 for step in steps)
    pairs = [
        ("How many notes are on the staff?", str(len(steps))),
        ("How many notes have a filled head?", str(sum(filled))),
        ("How many notes stand on a line?", str(on_lines)),
        ("Is the last note higher than the first?", "Yes" if steps[-1] > steps[0] else "No"),
    ]
    return image, [pairs[i] for i in rng.permutation(len(pairs))]
