"""The sample's rows, with the hub's columns and units (Molmo2 §1A.1, §0.4)."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from converters.clockface import read_time
from converters.sample.documents import make_document
from converters.sample.scenes import Scene, Shape, draw_scene, encode_picture, make_scene, png_bytes
from converters.sample.text import absent_label, caption, questions, transcripts
from grain_molmo.rng import stable_hash

Row = dict[str, Any]

URL_ROOT = "https://sample.grain-molmo.invalid"
WATCHES = ("fieldmaster", "harborclassic", "nightdiver", "paperdial", "roundabout", "skyline", "tidekeeper", "walnut")
NUM_WATCHFACES = 24
_FIRST_EVAL_SCENE = 500_000  # no training row gets there
_MASK_STEP = 8  # pixels of the picture to one of a mask

_TEXTS = pa.list_(pa.string())
_FLOATS = pa.list_(pa.float32())
# Tells the `datasets` library that `image` is a picture, as the hub's own files do.
_DOCS_FEATURES = {
    "image": {"_type": "Image"},
    "image_id": {"dtype": "string", "_type": "Value"},
    "questions": {
        "feature": {
            "question": {"dtype": "string", "_type": "Value"},
            "answer": {"dtype": "string", "_type": "Value"},
        },
        "_type": "Sequence",
    },
}
SCHEMAS: dict[str, pa.Schema] = {
    "pixmo-cap": pa.schema({"image_url": pa.string(), "caption": pa.string(), "transcripts": _TEXTS}),
    "pixmo-points": pa.schema(
        {
            "image_url": pa.string(),
            "image_sha256": pa.string(),
            "points": pa.list_(pa.struct({"x": pa.float64(), "y": pa.float64()})),
            "count": pa.int64(),
            "label": pa.string(),
            "collection_method": pa.string(),
        }
    ),
    "pixmo-points-eval": pa.schema(
        {
            "image_url": pa.string(),
            "image_sha256": pa.string(),
            "label": pa.string(),
            "points": pa.list_(pa.struct({"x": pa.float64(), "y": pa.float64()})),
            "masks": pa.list_(pa.list_(pa.list_(pa.bool_()))),
        }
    ),
    "pixmo-count": pa.schema(
        {
            "image_url": pa.string(),
            "image_sha256": pa.string(),
            "count": pa.int32(),
            "points": pa.struct({"x": _FLOATS, "y": _FLOATS}),
            "label": pa.string(),
        }
    ),
    "pixmo-docs": pa.schema(
        {
            "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
            "image_id": pa.string(),
            "questions": pa.struct({"question": _TEXTS, "answer": _TEXTS}),
        },
        metadata={"huggingface": json.dumps({"info": {"features": _DOCS_FEATURES}})},
    ),
    "pixmo-cap-qa": pa.schema(
        {"image_url": pa.string(), "question": pa.string(), "answer": pa.string(), "messages": _TEXTS}
    ),
    "pixmo-ask-model-anything": pa.schema(
        {"image_url": pa.string(), "image_sha256": pa.string(), "question": pa.string(), "answer": pa.string()}
    ),
    "pixmo-clocks": pa.schema(
        {
            "example_id": pa.string(),
            "watchface_id": pa.string(),
            "watchface_name": pa.string(),
            "watch_time": pa.string(),
            "time_format": pa.string(),
            "shows_seconds": pa.bool_(),
            "hour_visible": pa.int32(),
            "minute_visible": pa.int32(),
            "second_visible": pa.int32(),
            "text": pa.string(),
        }
    ),
}


@dataclass(frozen=True)
class Picture:
    """A picture in the cache: where it seems to come from, the hash of its bytes, and what it shows."""

    url: str
    sha256: str
    scene: Scene


class PicturePool:
    """Draws each picture once, when a row first needs it, and keeps its bytes in a URL cache (Molmo2 §0.1).

    The seed is part of the URLs, so samples of several seeds can share a folder.
    """

    def __init__(self, seed: int, folder: Path):
        self.seed = seed
        self.folder = folder
        self._pictures: dict[tuple[str, int], Picture] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def picture(self, kind: str, index: int) -> Picture:
        """Return picture `index` of a folder of scenes (see `make_scene`)."""
        if (kind, index) not in self._pictures:
            scene = make_scene(self.seed, kind, index)
            data = encode_picture(draw_scene(scene), scene.encoding)
            url = self.url(f"{kind}/{index:06d}.{scene.encoding.suffix}")
            self.store(url, data)
            self._pictures[kind, index] = Picture(url, hashlib.sha256(data).hexdigest(), scene)
        return self._pictures[kind, index]

    def url(self, path: str) -> str:
        """Return the URL of a path; the domain is one that can't exist."""
        return f"{URL_ROOT}/seed{self.seed}/{path}"

    def store(self, url: str, data: bytes) -> None:
        """Put bytes into the cache."""
        self._path(url).write_bytes(data)

    def cached(self, url: str) -> bytes:
        """Return bytes from the cache."""
        return self._path(url).read_bytes()

    def _path(self, url: str) -> Path:
        return self.folder / hashlib.sha256(url.encode()).hexdigest()


def _rng(pool: PicturePool, name: str, *parts: str | int) -> np.random.Generator:
    return np.random.default_rng(stable_hash("sample", pool.seed, name, *parts))


# ---- captions and dialogues: the same pictures in each set, some of them in several rows ----


def cap_rows(pool: PicturePool, split: str, number: int) -> list[Row]:
    """Return rows of pixmo-cap; every eighth row captions the picture of the row before it once more."""
    rows = []
    for row in range(number):
        picture = pool.picture("scenes", row - (row + 1) // 8)
        rng = _rng(pool, "cap", split, row)
        texts = {"caption": caption(picture.scene, rng), "transcripts": transcripts(picture.scene, rng)}
        rows.append({"image_url": picture.url, **texts})
    return rows


def cap_qa_rows(pool: PicturePool, split: str, number: int) -> list[Row]:
    """Return rows of pixmo-cap-qa, two a picture; `question` is the dialogue, with role tags, up to its last answer."""
    rows = []
    for row in range(number):
        picture = pool.picture("scenes", row // 2)
        pairs = questions(picture.scene, _rng(pool, "cap-qa", split, row // 2))
        turns = int(_rng(pool, "cap-qa turns", split, row).integers(1, 4))
        messages = list(itertools.chain(*pairs[row % 2 * 3 :][:turns]))
        tags = itertools.cycle(("[USER]", "[ASSISTANT]"))
        prefix = [f"{tag} {message}" for tag, message in zip(tags, messages[:-1], strict=False)]
        question = " ".join([*prefix, "[ASSISTANT]"])
        rows.append(
            {"image_url": picture.url, "question": question, "answer": messages[-1], "messages": messages},
        )
    return rows


def ask_model_anything_rows(pool: PicturePool, split: str, number: int) -> list[Row]:
    """Return rows of pixmo-ask-model-anything, three a picture."""
    rows = []
    for row in range(number):
        picture = pool.picture("scenes", row // 3)
        question, answer = questions(picture.scene, _rng(pool, "ama", split, row // 3))[row % 3]
        source = {"image_url": picture.url, "image_sha256": picture.sha256}
        rows.append({**source, "question": question, "answer": answer})
    return rows


# ---- points and counts ----


def points_rows(pool: PicturePool, split: str, number: int) -> list[Row]:
    """Return rows of pixmo-points, one per picture and label; every fourth picture is a crowd."""
    return list(itertools.islice(_all_points_rows(pool, split), number))


def _all_points_rows(pool: PicturePool, split: str) -> Iterator[Row]:
    for image in itertools.count():
        crowd = image % 4 == 1
        picture = pool.picture("crowds", image // 4) if crowd else pool.picture("scenes", image - (image + 2) // 4)
        for label, shapes in _pointable(picture.scene, _rng(pool, "points", split, image)):
            yield {
                "image_url": picture.url,
                "image_sha256": picture.sha256,
                "points": [_percent(shape, picture.scene) for shape in shapes],
                "count": len(shapes),
                "label": label,
                "collection_method": "counting" if crowd else "pointing",
            }


def points_eval_rows(pool: PicturePool, split: str, number: int) -> list[Row]:
    """Return rows of pixmo-points-eval, one a picture: points, and around each a small mask."""
    rows = []
    for row in range(number):
        picture = pool.picture("scenes", _FIRST_EVAL_SCENE + row)
        scene = picture.scene
        label, shapes = next(iter(scene.groups().items()))
        y_H1, x_1W = np.ogrid[: scene.height : _MASK_STEP, : scene.width : _MASK_STEP]
        masks = [abs(x_1W - shape.x) + abs(y_H1 - shape.y) <= 2 * _MASK_STEP for shape in shapes]
        rows.append(
            {
                "image_url": picture.url,
                "image_sha256": picture.sha256,
                "label": label,
                "points": [_percent(shape, scene) for shape in shapes],
                "masks": [mask.tolist() for mask in masks],
            }
        )
    return rows


def _pointable(scene: Scene, rng: np.random.Generator) -> Iterator[tuple[str, list[Shape]]]:
    """Labels and what they refer to: every color and kind, a kind of several colors, and at times something absent."""
    yield from scene.groups().items()
    for kind in dict.fromkeys(shape.kind for shape in scene.shapes):
        same_kind = [shape for shape in scene.shapes if shape.kind == kind]
        if len({shape.color for shape in same_kind}) > 1:
            yield kind, same_kind
    if rng.random() < 0.4:
        yield absent_label(scene, rng), []


def _percent(shape: Shape, scene: Scene) -> dict[str, float]:
    return {"x": 100 * shape.x / scene.width, "y": 100 * shape.y / scene.height}


def count_rows(pool: PicturePool, split: str, number: int) -> list[Row]:
    """Return rows of pixmo-count: points (pixels) in "train" alone, where some pictures have a row for two labels."""
    rows = []
    for row in range(number):
        if split == "train":
            picture, label_index = pool.picture("counts", row - (row + 1) // 8), int(row % 8 == 7)
        else:  # "evals" 0, 2, … are for validation, 1, 3, … for test
            picture, label_index = pool.picture("evals", 2 * row + (split == "test")), 0
        label, shapes = list(picture.scene.groups().items())[label_index]
        points = {"x": [shape.x for shape in shapes], "y": [shape.y for shape in shapes]}
        rows.append(
            {
                "image_url": picture.url,
                "image_sha256": picture.sha256,
                "count": len(shapes),
                "points": points if split == "train" else None,
                "label": label,
            }
        )
    return rows


# ---- documents and clocks ----


def docs_rows(pool: PicturePool, split: str, number: int) -> list[Row]:
    """Return rows of pixmo-docs; `split` is "charts/train" and the like."""
    config, _, part = split.partition("/")
    rows = []
    for row in range(number):
        image, pairs = make_document(pool.seed, config, part, row)
        image_id = f"{config}_{part}_{pool.seed}_{row:06d}"
        asked, answers = zip(*pairs, strict=True)
        rows.append(
            {
                "image": {"bytes": png_bytes(image), "path": f"{image_id}.png"},
                "image_id": image_id,
                "questions": {"question": list(asked), "answer": list(answers)},
            }
        )
    return rows


def clocks_rows(pool: PicturePool, split: str, number: int) -> list[Row]:
    """Return rows of pixmo-clocks, which hold no picture; their values look as the hub's do."""
    return [_clock_row(_rng(pool, "clocks", split, row), pool.seed) for row in range(number)]


def _clock_row(rng: np.random.Generator, seed: int) -> Row:
    face = int(rng.integers(NUM_WATCHFACES))
    watchface_id = f"{stable_hash('watch', seed, face):016x}"[:10]
    name = WATCHES[face % len(WATCHES)]
    hour, minute, second = (int(rng.integers(limit)) for limit in (24, 60, 60))
    date = f"{rng.integers(2018, 2025)}-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}"
    watch_time = f"{rng.integers(1, 8):03d}_{date}T{hour:02d}:{minute:02d}:{second:02d}"
    with_period, shows_seconds = bool(rng.random() < 0.3), bool(rng.random() < 0.6)
    row: Row = {
        "example_id": f"{watchface_id}/{watch_time}.{rng.integers(10**6):06d}_{name}",
        "watchface_id": watchface_id,
        "watchface_name": name,
        "watch_time": watch_time,
        "time_format": "With AM/PM" if with_period else "Without AM/PM",
        "shows_seconds": shows_seconds,
        "hour_visible": hour if with_period else hour % 12,
        "minute_visible": minute,
        "second_visible": second if shows_seconds else -1,
    }
    reading = read_time(row)
    return {**row, "text": f"{reading.digits} {reading.period}".strip()}


ROW_MAKERS: dict[str, Callable[[PicturePool, str, int], list[Row]]] = {
    "pixmo-cap": cap_rows,
    "pixmo-points": points_rows,
    "pixmo-points-eval": points_eval_rows,
    "pixmo-count": count_rows,
    "pixmo-docs": docs_rows,
    "pixmo-cap-qa": cap_qa_rows,
    "pixmo-ask-model-anything": ask_model_anything_rows,
    "pixmo-clocks": clocks_rows,
}
