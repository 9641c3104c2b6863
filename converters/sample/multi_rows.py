"""The sample's rows about several pictures, with the hub's columns (Molmo2 datasets §1A.1, §1B.1)."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from converters.sample.figures import make_figure
from converters.sample.rows import Picture, PicturePool, Row
from converters.sample.scenes import png_bytes
from converters.sample.text import listed, number_word, plural, questions
from grain_molmo.rng import stable_hash

# The hub's configs of molmo2-synmultiimageqa.
FIGURE_CONFIGS = ("chart", "chemical", "circuit", "diagram", "doc", "graphic", "music", "table")
HELD_OUT = 100_000  # pictures of validation splits are counted from here

_TEXTS = pa.list_(pa.string())
_FIGURE_FEATURES = {
    "id": {"dtype": "string", "_type": "Value"},
    "images": {"feature": {"_type": "Image"}, "_type": "List"},
    "qa_pairs": {
        name: {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}
        for name in ("question", "explanation", "answer")
    },
    "metadata": {
        "num_images": {"dtype": "int64", "_type": "Value"},
        "overall_description": {"dtype": "string", "_type": "Value"},
    },
    "code": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
}
SCHEMAS: dict[str, pa.Schema] = {
    "molmo2-multiimageqa": pa.schema(
        {
            "image_urls": _TEXTS,
            "image_sha256s": _TEXTS,
            "qa_pairs": pa.struct({"question": _TEXTS, "answer": _TEXTS}),
        }
    ),
    "molmo2-synmultiimageqa": pa.schema(
        {
            "id": pa.string(),
            "images": pa.list_(pa.struct({"bytes": pa.binary(), "path": pa.string()})),
            "qa_pairs": pa.struct({"question": _TEXTS, "explanation": _TEXTS, "answer": _TEXTS}),
            "metadata": pa.struct({"num_images": pa.int64(), "overall_description": pa.string()}),
            "code": _TEXTS,
        },
        metadata={"huggingface": json.dumps({"info": {"features": _FIGURE_FEATURES}})},
    ),
    "molmo2-multiimagepoint": pa.schema(
        {
            "image_urls": _TEXTS,
            "image_sha256s": _TEXTS,
            "points": pa.list_(pa.list_(pa.struct({"x": pa.float32(), "y": pa.float32()}))),
            "counts": pa.list_(pa.int64()),
            "labels": _TEXTS,
            "collection_method": _TEXTS,
        }
    ),
}


def _rng(pool: PicturePool, name: str, *parts: str | int) -> np.random.Generator:
    return np.random.default_rng(stable_hash("sample", pool.seed, name, *parts))


def _ordinal(i: int) -> str:
    return ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")[i]


# ---- questions about photos of the web ----


def multi_qa_rows(pool: PicturePool, split: str, number: int) -> list[Row]:
    """Return rows of molmo2-multiimageqa: two to five pictures, at times one or six, and one to three questions."""
    rows = []
    for row in range(number):
        rng = _rng(pool, "multi-image-qa", split, row)
        size = {10: 1, 13: 6}.get(row % 16) or int(rng.integers(2, 6))
        first = row if split == "train" else HELD_OUT + 3 * row
        pictures = [pool.picture("scenes", first + i) for i in range(size)]
        asked = _across_questions(pictures, rng)[: int(rng.integers(1, 4))]
        rows.append(
            {
                "image_urls": [picture.url for picture in pictures],
                "image_sha256s": [picture.sha256 for picture in pictures],
                "qa_pairs": {"question": [q for q, _ in asked], "answer": [a for _, a in asked]},
            }
        )
    return rows


def _across_questions(pictures: list[Picture], rng: np.random.Generator) -> list[tuple[str, str]]:
    """Questions that name one of the pictures or compare them, in random order."""
    scenes = [picture.scene for picture in pictures]
    one = int(rng.integers(len(scenes)))
    question, answer = questions(scenes[one], rng)[0]
    pairs = [(f"About the {_ordinal(one)} picture: {question}", answer)]
    total = sum(len(scene.shapes) for scene in scenes)
    pairs.append(("How many shapes are there in all the pictures together?", f"There are {number_word(total)} shapes."))
    label = next(iter(scenes[one].groups()))
    showing = [_ordinal(i) for i, scene in enumerate(scenes) if label in scene.groups()]
    pairs.append((f"Which pictures show {plural(label)}?", f"The {listed(showing)}."))
    most = max(len(scene.shapes) for scene in scenes)
    fullest = [_ordinal(i) for i, scene in enumerate(scenes) if len(scene.shapes) == most]
    pairs.append(("Which picture has the most shapes?", f"The {listed(fullest)}, with {number_word(most)}."))
    return [pairs[i] for i in rng.permutation(len(pairs))]


# ---- points in photos of the web ----


def multi_point_rows(pool: PicturePool, split: str, number: int) -> list[Row]:
    """Return rows of molmo2-multiimagepoint: two to five pictures and one kind of shape, in percent of each picture.

    The hub's hashes are those of the URLs' text, not of the pictures' bytes. Labels of one row differ in their words.
    """
    rows = []
    for row in range(number):
        rng = _rng(pool, "multi-image-point", split, row)
        size, crowd = int(rng.integers(2, 6)), row % 8 == 5
        pictures = [pool.picture("scenes", row + i) for i in range(size - crowd)]
        pictures += [pool.picture("crowds", row // 8)] * crowd
        kinds = Counter(kind for p in pictures for kind in sorted({shape.kind for shape in p.scene.shapes}))
        kind = kinds.most_common(1)[0][0]
        points = [
            [
                {"x": 100 * shape.x / p.scene.width, "y": 100 * shape.y / p.scene.height}
                for shape in p.scene.shapes
                if shape.kind == kind
            ]
            for p in pictures
        ]
        rows.append(
            {
                "image_urls": [p.url for p in pictures],
                "image_sha256s": [hashlib.sha256(p.url.encode()).hexdigest() for p in pictures],
                "points": points,
                "counts": [len(there) for there in points],
                "labels": [(kind, plural(kind), f"every {kind}")[rng.integers(3)] for _ in pictures],
                "collection_method": ["counting" if "crowds/" in p.url else "pointing" for p in pictures],
            }
        )
    return rows


# ---- questions about drawn figures ----


def figure_rows(pool: PicturePool, split: str, number: int) -> list[Row]:
    """Return rows of molmo2-synmultiimageqa; `split` is "chart/train" and the like.

    Two to four figures, at times six, which is more than the published loader takes.
    """
    config, _, part = split.partition("/")
    rows = []
    for row in range(number):
        rng = _rng(pool, "multi-figures", config, part, row)
        size = 6 if row % 8 == 6 else int(rng.integers(2, 5))
        figures = [make_figure(pool.seed, config, part, 8 * row + i) for i in range(size)]
        asked = []
        for i in sorted(rng.permutation(size)[:3].tolist()):
            question, answer = figures[i][1][0]
            explanation = (
                f"The question is about the {_ordinal(i)} image, which shows the answer: {answer.rstrip('.')}."
            )
            asked.append((f"In the {_ordinal(i)} image: {question}", explanation, answer))
        asked.append(("How many images are there?", f"One counts {number_word(size)}.", number_word(size).capitalize()))
        name = f"{config}_{part}_{pool.seed}_{row:06d}"
        rows.append(
            {
                "id": name,
                "images": [
                    {"bytes": png_bytes(image), "path": f"{name}_{i}.png"} for i, (image, _) in enumerate(figures)
                ],
                "qa_pairs": dict(
                    zip(("question", "explanation", "answer"), map(list, zip(*asked, strict=True)), strict=True)
                ),
                "metadata": {"num_images": size, "overall_description": f"{size} drawn figures of the kind {config}."},
                "code": [f"make_figure({pool.seed}, {config!r}, {part!r}, {8 * row + i})" for i in range(size)],
            }
        )
    return rows


ROW_MAKERS: dict[str, Callable[[PicturePool, str, int], list[Row]]] = {
    "molmo2-multiimageqa": multi_qa_rows,
    "molmo2-synmultiimageqa": figure_rows,
    "molmo2-multiimagepoint": multi_point_rows,
}
