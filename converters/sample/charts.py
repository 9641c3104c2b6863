"""Charts of one data series and the look that all drawn documents share."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from converters.sample.scenes import RGB

QA = tuple[str, str]

INK: RGB = (34, 38, 46)
FAINT: RGB = (206, 210, 216)
PAPERS: tuple[RGB, ...] = ((255, 255, 255), (252, 250, 244), (246, 248, 251))
SERIES: tuple[RGB, ...] = (
    (58, 110, 200),
    (232, 130, 38),
    (54, 156, 92),
    (200, 60, 70),
    (128, 84, 180),
    (40, 158, 170),
    (214, 170, 40),
)

# (title, what the numbers are, names)
TOPICS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Fruit sold at the market", "crates", ("Apples", "Pears", "Plums", "Cherries", "Grapes", "Figs", "Peaches")),
    ("Visitors to the museum", "visitors", ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")),
    ("Books lent by the library", "books", ("January", "February", "March", "April", "May", "June", "July")),
    ("Trees planted by district", "trees", ("North", "South", "East", "West", "Harbor", "Hill", "Center")),
    ("Rain per month", "mm", ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul")),
    ("Results of the season", "points", ("Foxes", "Herons", "Badgers", "Otters", "Wolves", "Hawks", "Bears")),
)


@lru_cache(maxsize=32)
def font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's built-in font, so that no font needs to be installed."""
    return ImageFont.load_default(size)


def paper(rng: np.random.Generator) -> RGB:
    """Return one of the page colors."""
    return PAPERS[rng.integers(len(PAPERS))]


def choose(rng: np.random.Generator, names: tuple[str, ...], number: int) -> tuple[str, ...]:
    """Return some of the names, in their order."""
    return tuple(names[i] for i in sorted(rng.choice(len(names), size=number, replace=False)))


@dataclass(frozen=True)
class Chart:
    """One data series. `axis_max` is the value at the top of the plot, a multiple of `axis_step`."""

    kind: str  # "bar", "line" or "pie"
    title: str
    unit: str
    labels: tuple[str, ...]
    values: tuple[int, ...]
    colors: tuple[RGB, ...]
    axis_step: int
    axis_max: int
    width: int
    height: int
    paper: RGB

    @property
    def plot_box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the plot area in pixels; value 0 lies on the bottom edge."""
        return 70, 70, self.width - 30, self.height - 70

    def y(self, value: float) -> float:
        """Pixel row of a value."""
        _, top, _, bottom = self.plot_box
        return bottom - (bottom - top) * value / self.axis_max


def make_chart(rng: np.random.Generator) -> Chart:
    """Draw the content of a chart: different values, so that highest and lowest are unique."""
    title, unit, names = TOPICS[rng.integers(len(TOPICS))]
    labels = choose(rng, names, int(rng.integers(3, 8)))
    scale = int(rng.choice([1, 5, 20]))
    values = tuple(int(v) * scale for v in rng.choice(np.arange(3, 60), size=len(labels), replace=False))
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500) if max(values) / s <= 7)
    colors = tuple(SERIES[i] for i in rng.permutation(len(SERIES)))
    return Chart(
        kind=str(rng.choice(["bar", "bar", "line", "pie"])),
        title=title,
        unit=unit,
        labels=labels,
        values=values,
        colors=colors if rng.random() < 0.5 else colors[:1] * len(colors),
        axis_step=step,
        axis_max=(max(values) // step + 1) * step,
        width=int(rng.integers(560, 900)),
        height=int(rng.integers(420, 640)),
        paper=paper(rng),
    )


def draw_chart(chart: Chart) -> Image.Image:
    """Return the picture of a chart; every value is also written next to its mark."""
    image = Image.new("RGB", (chart.width, chart.height), chart.paper)
    draw = ImageDraw.Draw(image)
    draw.text((chart.width / 2, 34), f"{chart.title} ({chart.unit})", INK, font(24), anchor="mm")
    if chart.kind == "pie":
        _draw_pie(image, chart)
        return image
    left, _, right, bottom = chart.plot_box
    for value in range(0, chart.axis_max + 1, chart.axis_step):
        draw.line((left, chart.y(value), right, chart.y(value)), FAINT)
        draw.text((left - 8, chart.y(value)), str(value), INK, font(14), anchor="rm")
    marks, values = [], []
    slot = (right - left) / len(chart.values)
    for i, (label, value) in enumerate(zip(chart.labels, chart.values, strict=True)):
        x, y = left + (i + 0.5) * slot, chart.y(value)
        marks.append((x, y))
        if chart.kind == "bar":
            draw.rectangle((x - slot * 0.32, y, x + slot * 0.32, bottom - 1), chart.colors[i])
        neighbors = chart.values[max(0, i - 1) : i] + chart.values[i + 1 : i + 2]
        below = chart.kind == "line" and value < min(neighbors)  # where the line would run through the number
        values.append(((x, y + (18 if below else -13)), str(value)))
        draw.text((x, bottom + 16), label, INK, font(15), anchor="mm")
    if chart.kind == "line":
        draw.line(marks, chart.colors[0], width=3, joint="curve")
        for x, y in marks:
            draw.ellipse((x - 5, y - 5, x + 5, y + 5), chart.colors[0])
    draw.line((left, bottom, right, bottom), INK, width=2)
    for place, text in values:  # last, on a halo, so that no line runs through a number
        draw.text(place, text, INK, font(15), anchor="mm", stroke_width=2, stroke_fill=chart.paper)
    return image


def _draw_pie(image: Image.Image, chart: Chart) -> None:
    """Slices clockwise from the top; a key on the right gives each name and value."""
    ratio = 2
    radius = (chart.height - 110) // 2
    side = 2 * radius * ratio
    disc = Image.new("RGB", (side, side), chart.paper)
    draw = ImageDraw.Draw(disc)
    colors = SERIES if len(set(chart.colors)) == 1 else chart.colors
    start = -90.0
    for value, color in zip(chart.values, colors, strict=False):
        end = start + 360 * value / sum(chart.values)
        draw.pieslice((0, 0, side - 1, side - 1), start, end, color, chart.paper, 2 * ratio)
        start = end
    image.paste(disc.reduce(ratio), (40, 70))
    draw = ImageDraw.Draw(image)
    x = 40 + 2 * radius + 36
    for i, (label, value) in enumerate(zip(chart.labels, chart.values, strict=True)):
        y = 100 + i * 34
        draw.rectangle((x, y - 9, x + 18, y + 9), colors[i])
        draw.text((x + 28, y), f"{label}: {value}", INK, font(16), anchor="lm")


def chart_questions(chart: Chart) -> list[QA]:
    """Return questions about a chart, answered from its values."""
    highest, lowest = (f(zip(chart.values, chart.labels, strict=True)) for f in (max, min))
    first, second = chart.labels[:2]
    pairs = [(f"What is the value for {label}?", str(v)) for label, v in zip(chart.labels, chart.values, strict=True)]
    return [
        ("What is the title of the chart?", f"{chart.title} ({chart.unit})"),
        ("What kind of chart is this?", f"{chart.kind} chart"),
        *pairs[:3],
        ("Which one has the highest value?", highest[1]),
        ("Which one has the lowest value?", lowest[1]),
        ("What is the sum of all values?", str(sum(chart.values))),
        ("What is the difference between the highest and the lowest value?", str(highest[0] - lowest[0])),
        (f"Is {first} higher than {second}?", "Yes" if chart.values[0] > chart.values[1] else "No"),
        ("How many values does the chart show?", str(len(chart.values))),
    ]


def chart_document(rng: np.random.Generator) -> tuple[Image.Image, list[QA]]:
    """Return the picture of a chart and its questions."""
    chart = make_chart(rng)
    if chart.kind == "pie":  # a key needs its width beside the pie
        chart = replace(chart, width=max(chart.width, chart.height + 180))
    return draw_chart(chart), chart_questions(chart)
