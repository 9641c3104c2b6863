"""Drawn documents (charts, tables, diagrams, receipts and forms) with questions answered from the numbers drawn."""

import itertools
import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from converters.sample.charts import FAINT, INK, QA, SERIES, TOPICS, chart_document, choose, font, paper
from grain_molmo.rng import stable_hash

STEPS = ("Collect", "Sort", "Clean", "Weigh", "Label", "Pack", "Check", "Store", "Ship", "Report", "Review", "Repair")
TITLES = ("Process overview", "How we work", "From order to delivery", "Workflow")
GOODS = ("Tea", "Coffee", "Bread", "Butter", "Honey", "Apples", "Cheese", "Rice", "Soap", "Candles", "Notebook", "Pen")
FIRST_NAMES = ("Ada", "Ben", "Carla", "Dmitri", "Elif", "Farid", "Grete", "Hiro", "Ines", "Jonas")
LAST_NAMES = ("Abel", "Brook", "Castro", "Dahl", "Engel", "Flores", "Grant", "Hoshino", "Ivanova", "Jensen")
SHOPS = ("Corner Store", "Green Basket", "Harbor Market", "Old Mill Shop")
SERVICES = ("Newsletter", "Parking", "Locker", "Guided tour", "Discount card")


def make_document(seed: int, config: str, split: str, row: int) -> tuple[Image.Image, list[QA]]:
    """Return picture and (question, answer) pairs of one row of "charts", "tables", "diagrams" or "other"."""
    rng = np.random.default_rng(stable_hash("document", seed, config, split, row))
    make: dict[str, Callable[[np.random.Generator], tuple[Image.Image, list[QA]]]] = {
        "charts": chart_document,
        "tables": _table,
        "diagrams": _diagram,
        "other": _receipt if row % 2 == 0 else _form,
    }
    image, questions = make[config](rng)
    keep = rng.permutation(len(questions))[: int(rng.integers(3, 7))]
    return image, [questions[i] for i in sorted(keep)]


# ---- tables ----


def _table(rng: np.random.Generator) -> tuple[Image.Image, list[QA]]:
    title, unit, names = TOPICS[rng.integers(len(TOPICS))]
    names = choose(rng, names, int(rng.integers(3, 8)))
    years = tuple(str(2018 + y) for y in range(int(rng.integers(2, 6))))
    cells = rng.choice(np.arange(10, 1000), size=(len(names), len(years)), replace=False)
    col_w, row_h, left, top = int(rng.integers(88, 130)), int(rng.integers(34, 44)), 30, 80
    width, height = left * 2 + 140 + col_w * len(years), top + row_h * (len(names) + 1) + 30
    image = Image.new("RGB", (width, height), paper(rng))
    draw = ImageDraw.Draw(image)
    head = SERIES[rng.integers(len(SERIES))]
    draw.text((left, 40), f"{title} ({unit})", INK, font(22), anchor="lm")
    lines = [("", *years), *((name, *map(str, row)) for name, row in zip(names, cells, strict=True))]
    for r, line in enumerate(lines):
        y = top + r * row_h
        fill = head if r == 0 else (240, 242, 246) if r % 2 else (255, 255, 255)
        draw.rectangle((left, y, width - left, y + row_h), fill, FAINT)
        ink = (255, 255, 255) if r == 0 else INK
        draw.text((left + 12, y + row_h / 2), line[0], ink, font(17), anchor="lm")
        for c, text in enumerate(line[1:]):
            draw.text((left + 140 + (c + 1) * col_w - 14, y + row_h / 2), text, ink, font(17), anchor="rm")
    r, c = int(rng.integers(len(names))), int(rng.integers(len(years)))
    best = int(cells[:, c].argmax())
    questions = [
        ("What does the table show?", f"{title} ({unit})"),
        (f"What is the value for {names[r]} in {years[c]}?", str(cells[r, c])),
        (f"Which row has the largest value in {years[c]}?", names[best]),
        (f"What is the total for {years[c]}?", str(cells[:, c].sum())),
        (f"In which year did {names[r]} have its smallest value?", years[int(cells[r].argmin())]),
        ("How many rows does the table have, without the header?", str(len(names))),
        (f"Did {names[r]} grow from {years[0]} to {years[-1]}?", "Yes" if cells[r, -1] > cells[r, 0] else "No"),
    ]
    return image, questions


# ---- diagrams ----


def _diagram(rng: np.random.Generator) -> tuple[Image.Image, list[QA]]:
    """A flow of boxes in levels of one to three, every box linked to one or more of the next level."""
    levels: list[list[str]] = []
    names = [STEPS[i] for i in rng.permutation(len(STEPS))]
    for size in [1, *(int(n) for n in rng.choice([1, 2, 3], size=rng.integers(2, 5)))]:
        levels.append([names.pop() for _ in range(min(size, len(names)))])
    levels = [level for level in levels if level]
    edges = [
        (name, following)
        for level, next_level in itertools.pairwise(levels)
        for i, name in enumerate(level)
        for j, following in enumerate(next_level)
        if j % len(level) == i or i % len(next_level) == j
    ]
    return _draw_diagram(rng, levels, edges), _diagram_questions(levels, edges)


def _draw_diagram(rng: np.random.Generator, levels: list[list[str]], edges: list[QA]) -> Image.Image:
    box_w, box_h, gap = 130, 50, int(rng.integers(44, 76))
    width, height = 660, 110 + len(levels) * (box_h + gap)
    image = Image.new("RGB", (width, height), paper(rng))
    draw = ImageDraw.Draw(image)
    draw.text((width / 2, 36), str(rng.choice(TITLES)), INK, font(24), anchor="mm")
    centers = {
        name: (width * (i + 1) / (len(level) + 1), 100 + d * (box_h + gap))
        for d, level in enumerate(levels)
        for i, name in enumerate(level)
    }
    for start, end in edges:
        (x0, y0), (x1, y1) = centers[start], centers[end]
        _draw_arrow(draw, (x0, y0 + box_h / 2), (x1, y1 - box_h / 2))
    color = SERIES[rng.integers(len(SERIES))]
    for name, (x, y) in centers.items():
        box = (x - box_w / 2, y - box_h / 2, x + box_w / 2, y + box_h / 2)
        draw.rounded_rectangle(box, 10, color, INK, 2)
        draw.text((x, y), name, (255, 255, 255), font(19), anchor="mm")
    return image


def _draw_arrow(draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float]) -> None:
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    corners = [(end[0] - 13 * math.cos(angle + a), end[1] - 13 * math.sin(angle + a)) for a in (-0.45, 0.45)]
    draw.line((*start, *end), INK, 2)
    draw.polygon([end, *corners], INK)


def _diagram_questions(levels: list[list[str]], edges: list[QA]) -> list[QA]:
    names = [name for level in levels for name in level]
    start = levels[0][0]
    last = levels[-1][0]
    return [
        ("How many boxes are in the diagram?", str(len(names))),
        ("How many arrows are in the diagram?", str(len(edges))),
        ("Which step comes first?", start),
        (f"Which steps follow directly after {start}?", ", ".join(end for begin, end in edges if begin == start)),
        (f"Which steps lead directly to {last}?", ", ".join(begin for begin, end in edges if end == last)),
        (f"Does an arrow point from {last} to {start}?", "No"),
    ]


# ---- receipts and forms ----


def _date(rng: np.random.Generator) -> str:
    return f"{rng.integers(2019, 2025)}-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}"


def _receipt(rng: np.random.Generator) -> tuple[Image.Image, list[QA]]:
    goods = choose(rng, GOODS, int(rng.integers(3, 8)))
    prices = [int(p) for p in rng.choice(np.arange(45, 1500), size=len(goods), replace=False)]  # in cents
    amounts = [int(n) for n in rng.integers(1, 5, size=len(goods))]
    shop, date, number = str(rng.choice(SHOPS)), _date(rng), str(rng.integers(10000, 99999))
    total = sum(price * n for price, n in zip(prices, amounts, strict=True))
    width, height = 400, 230 + 32 * len(goods)
    image = Image.new("RGB", (width, height), paper(rng))
    draw = ImageDraw.Draw(image)
    draw.text((width / 2, 34), shop.upper(), INK, font(26), anchor="mm")
    draw.text((width / 2, 66), f"{date}    No. {number}", INK, font(15), anchor="mm")
    draw.line((20, 88, width - 20, 88), INK, 2)
    for i, (item, price, n) in enumerate(zip(goods, prices, amounts, strict=True)):
        draw.text((24, 114 + 32 * i), f"{n} x {item} at {price / 100:.2f}", INK, font(17), anchor="lm")
        draw.text((width - 24, 114 + 32 * i), f"{price * n / 100:.2f}", INK, font(17), anchor="rm")
    bottom = 114 + 32 * len(goods)
    draw.line((20, bottom, width - 20, bottom), INK, 2)
    draw.text((24, bottom + 32), "TOTAL", INK, font(22), anchor="lm")
    draw.text((width - 24, bottom + 32), f"{total / 100:.2f}", INK, font(22), anchor="rm")
    draw.text((width / 2, bottom + 80), "Thank you!", INK, font(16), anchor="mm")
    i = int(rng.integers(len(goods)))
    return image, [
        ("What is the total on the receipt?", f"{total / 100:.2f}"),
        ("What is the name of the shop?", shop),
        ("When was the receipt issued?", date),
        ("What is the number of the receipt?", number),
        (f"What is the price of one {goods[i].lower()}?", f"{prices[i] / 100:.2f}"),
        (f"How many of {goods[i].lower()} were bought?", str(amounts[i])),
        ("How many different items are listed?", str(len(goods))),
    ]


def _form(rng: np.random.Generator) -> tuple[Image.Image, list[QA]]:
    name = f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"
    fields = [("Name", name), ("Date", _date(rng)), ("Member number", str(rng.integers(100000, 999999)))]
    fields.append(("Persons", str(rng.integers(1, 9))))
    ticked = [bool(t) for t in rng.random(len(SERVICES)) < 0.5]
    width, height = 600, 220 + 54 * len(fields) + 38 * len(SERVICES)
    image = Image.new("RGB", (width, height), paper(rng))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width, 70), SERIES[rng.integers(len(SERIES))])
    draw.text((30, 36), "Registration form", (255, 255, 255), font(28), anchor="lm")
    y = 110
    for field, value in fields:
        draw.text((30, y), field, INK, font(17), anchor="lm")
        draw.rectangle((200, y - 19, width - 30, y + 19), (255, 255, 255), INK)
        draw.text((212, y), value, (20, 60, 160), font(19), anchor="lm")
        y += 54
    draw.text((30, y + 4), "Please tick what you would like:", INK, font(17), anchor="lm")
    for service, tick in zip(SERVICES, ticked, strict=True):
        y += 38
        draw.rectangle((34, y - 11, 56, y + 11), (255, 255, 255), INK, 2)
        if tick:
            draw.line((38, y, 44, y + 7, 54, y - 10), (20, 60, 160), 4)
        draw.text((70, y), service, INK, font(17), anchor="lm")
    chosen = [service for service, tick in zip(SERVICES, ticked, strict=True) if tick]
    return image, [
        *((f"What is written in the field {field!r}?", value) for field, value in fields),
        ("Which boxes are ticked?", ", ".join(chosen) or "None"),
        ("How many boxes are ticked?", str(len(chosen))),
        (f"Is the box {SERVICES[0]!r} ticked?", "Yes" if ticked[0] else "No"),
    ]
