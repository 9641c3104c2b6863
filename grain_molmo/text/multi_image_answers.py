"""Pointing and counting in several pictures (Molmo2 §2.6).

Which label is asked about, and in which pictures, is drawn from the example's random state; the published code draws it
from one that cannot be repeated (Molmo2 §11).
"""

import numpy as np

from grain_molmo.errors import ExampleError
from grain_molmo.text.fields import Message, list_of, point_groups, style_of
from grain_molmo.text.points import NOTHING, multi_image_points, plain_answer, plain_points
from grain_molmo.text.scene import Scene, Task
from grain_molmo.text.templates_pointing import (
    MULTI_IMAGE_COUNT_THEN_POINT,
    MULTI_IMAGE_COUNTING,
    MULTI_IMAGE_POINT_THEN_COUNT,
    MULTI_IMAGE_POINTING,
    POINTING,
)

TEMPLATES = {
    "multi_image_pointing": MULTI_IMAGE_POINTING,
    "multi_image_counting": MULTI_IMAGE_COUNTING,
    "multi_image_point_then_count": MULTI_IMAGE_POINT_THEN_COUNT,
    "multi_image_count_then_point": MULTI_IMAGE_COUNT_THEN_POINT,
}
_MODES = {
    "multi_image_pointing": "point",
    "multi_image_counting": "count",
    "multi_image_point_then_count": "point_then_count",
    "multi_image_count_then_point": "count_then_point",
}

ALL_IMAGES = "all images"
ALL_IMAGES_PROBABILITY = 0.5
SINGLE_IMAGE_TEMPLATE_PROBABILITY = 0.5


def multi_image_task(message: Message, scene: Scene, rng: np.random.RandomState) -> Task:
    """A message of a style in `TEMPLATES`: for each picture its `labels`, `normalized_labels` and `points`.

    Draws, in this order: one of the normalised labels, in alphabetical order; for several pictures whether all are
    meant, and if not how many and which; for "multi_image_pointing" in all pictures whether the prompt is one that
    could be about a single picture.
    """
    style = style_of(message)
    points, labels, normalized = _columns(message if scene.answered else _without_points(message))
    distinct = sorted(set(normalized))
    chosen = distinct[rng.randint(0, len(distinct))]
    label = labels[normalized.index(chosen)]
    selected, phrase = _select_images(len(points), rng)
    templates = TEMPLATES[style]
    words = {"selected_label": label, "selected_images": phrase}
    if phrase == ALL_IMAGES and style == "multi_image_pointing" and rng.uniform() < SINGLE_IMAGE_TEMPLATE_PROBABILITY:
        templates, words = POINTING, {"label": label}
    shown = [i for i in selected if normalized[i] == chosen and points[i]]
    answer = _answer(message, points, shown, label, scene) if scene.answered else ""
    return Task(answer=answer, subject=f"{label} in {phrase}", templates=templates, words=words)


def _without_points(message: Message) -> Message:
    """The message with no point in any picture: a prompt says nothing of them."""
    return {**message, "points": [[] for _ in list_of(message, "labels", "no_label")]}


def _columns(message: Message) -> tuple[list[list], list[str], list[str]]:
    points = point_groups(message)
    labels = list_of(message, "labels", "no_label")
    if not labels or not all(isinstance(label, str) for label in labels):
        raise ExampleError("no_label", "labels must hold a text for each picture")
    if "normalized_labels" in message:
        normalized = list_of(message, "normalized_labels", "no_label")
    else:
        normalized = [label.strip().lower() for label in labels]
    if not len(points) == len(labels) == len(normalized):
        counts = f"{len(labels)} labels, {len(normalized)} normalized_labels, points of {len(points)} pictures"
        raise ExampleError("bad_points", counts)
    if not all(isinstance(label, str) for label in normalized):
        raise ExampleError("no_label", "normalized_labels must hold a text for each picture")
    return points, labels, normalized


def _select_images(n_images: int, rng: np.random.RandomState) -> tuple[list[int], str]:
    """Indices of the pictures that the question is about, and the words for them."""
    if n_images == 1 or rng.uniform() < ALL_IMAGES_PROBABILITY:
        return list(range(n_images)), ALL_IMAGES
    n_selected = rng.randint(1, n_images + 1)
    selected = rng.permutation(n_images)[:n_selected].tolist()
    return selected, ", ".join(f"image_{i + 1}" for i in selected)


def _answer(message: Message, points: list[list], shown: list[int], label: str, scene: Scene) -> str:
    mode = _MODES[style_of(message)]
    if "point_scale" not in message:
        raise ExampleError("no_scale", "points in several pictures need point_scale")
    scale = message["point_scale"]
    if not scene.is_plain:
        return multi_image_points([i + 1 for i in shown], [points[i] for i in shown], scale, label, mode)
    lines = [
        plain_points(points[i], scale, scene.pixel_size(image=i), prefix=f"Image: {i + 1} ")
        for i in shown
        if mode != "count"
    ]
    return plain_answer("\n".join(lines) or NOTHING, sum(len(points[i]) for i in shown), mode)
