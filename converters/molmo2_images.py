"""Sets of several pictures an example: Molmo2-MultiImageQA, -SynMultiImageQA, -MultiImagePoint.

Facts of the hub: Molmo2 datasets §1A, §1B.1. The hub's `image_sha256s` hash the URLs, not the pictures, so they check
nothing. An example needs all of its pictures.
"""

import contextlib
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from converters import schema
from converters.points import PERCENT, percent_points, require_count
from converters.rows import Row
from converters.schema import LISTS, QUESTIONS, TEXT, TEXTS
from converters.spec import Annotation, FromCache, FromFile, FromUrl, MediaSource, Place, SetSpec, embedded_picture
from grain_molmo.datasets.molmo2 import FEW_IMAGES, MANY_IMAGES, MAX_IMAGES, MULTI_IMAGE_TYPES, ONE_IMAGE
from grain_molmo.errors import RowError

_SHA256_HEX = 64


def _urls(row: Row, place: Place) -> Sequence[MediaSource]:
    return [FromUrl(url) for url in schema.every_text(row, "image_urls")]


def _identity(row: Row) -> str | None:
    for name in ("image_urls", "images"):
        value = row.get(name)
        if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            return "\n".join(value)
    return None


def _parse_questions(row: Row, place: Place) -> Annotation:
    return {"urls": schema.every_text(row, "image_urls"), "questions": schema.questions(row, "qa_pairs")}


def _how_many(row: Row) -> str:
    """The store split of a row: by its number of pictures, so that a mixture opens some without reading all."""
    urls = row.get("image_urls")
    number = len(urls) if isinstance(urls, list) else 0
    return MANY_IMAGES if number > MAX_IMAGES else FEW_IMAGES if number > 1 else ONE_IMAGE


def _parse_documents(row: Row, place: Place) -> Annotation:
    images = row.get("images")
    if not isinstance(images, list) or not images:
        raise RowError("missing_images", "the row has no picture")
    if len(images) > MAX_IMAGES:
        raise RowError("more_than_5_images", f"{len(images)} pictures")
    pairs = schema.questions(row, "qa_pairs")
    explanations = [text for _, text in schema.entries(row, "qa_pairs", "question", "explanation")]
    if not all(isinstance(text, str | None) for text in explanations):
        raise RowError("wrong_type", "qa_pairs has an explanation that is no text")
    questions = [
        {"question": question.strip(), "answer": answer.strip(), "explanation": (text or "").strip() or None}
        for (question, answer), text in zip(pairs, explanations, strict=True)
    ]
    name = row.get("id")
    return {"id": name if isinstance(name, str) else None, "doc_type": place.config, "questions": questions}


def _embedded(row: Row, place: Place) -> Sequence[MediaSource]:
    return [embedded_picture(image, place) for image in row["images"]]


def _parse_points(row: Row, place: Place) -> Annotation:
    labels, points = schema.every_text(row, "labels"), schema.point_lists(row, "points")
    number = len(_listed(row))
    if not len(labels) == len(points) == number:
        raise RowError("length_mismatch", f"{number} pictures, {len(labels)} labels, points of {len(points)}")
    if row.get("counts") is not None:
        counts = schema.numbers(row, "counts")
        if len(counts) != number:
            raise RowError("length_mismatch", f"{number} pictures, {len(counts)} counts")
        for count, here in zip(counts, points, strict=True):
            require_count(int(count), here)
    # Where the public rows say nothing, a label is the same as another but for case and space.
    normalized = [label.strip().lower() for label in labels]
    if row.get("normalized_labels") is not None:
        normalized = schema.every_text(row, "normalized_labels")
        if len(normalized) != number:
            raise RowError("length_mismatch", f"{number} pictures, {len(normalized)} normalized_labels")
    inside = [percent_points(here, label) for here, label in zip(points, labels, strict=True)]
    urls: dict[str, Any] = {"urls": schema.every_text(row, "image_urls")} if row.get("image_urls") is not None else {}
    return {**urls, "labels": labels, "normalized_labels": normalized, "points": inside}


def _listed(row: Row) -> list[Any]:
    value = row.get("image_urls" if row.get("image_urls") is not None else "images")
    return value if isinstance(value, list) else []


def _urls_or_files(row: Row, place: Place) -> Sequence[MediaSource]:
    if row.get("image_urls") is not None:
        return _urls(row, place)
    return [_file_or_cached(path, place) for path in schema.every_text(row, "images")]


def _file_or_cached(path: str, place: Place) -> MediaSource:
    """A file beside local rows; else the picture of that name in the image cache, whatever machine the path is of."""
    with contextlib.suppress(OSError, ValueError):  # a name that no file can have
        if place.folder is not None and (place.folder / path).is_file():
            return FromFile(place.folder / path)
    name = PurePosixPath(path).name
    if len(name) == _SHA256_HEX:
        return FromCache(name)
    raise RowError("missing_image", f"{path} is no file beside the rows and no name in an image cache")


MULTI_IMAGE_SETS = (
    SetSpec(
        name="molmo2_multiimageqa",
        hub="allenai/Molmo2-MultiImageQA",
        aliases=("molmo2_multi_image_qa", "pixmo_multi_image_qa"),
        splits=("train", "validation"),
        required={"image_urls": TEXTS, "qa_pairs": QUESTIONS},
        placed_by=("image_urls",),
        identity=_identity,
        subset=_how_many,
        parse=_parse_questions,
        media=_urls,
    ),
    SetSpec(
        name="molmo2_synmultiimageqa",
        hub="allenai/Molmo2-SynMultiImageQA",
        aliases=("molmo2_syn_multi_image_qa", "molmo2_syn_multiimageqa"),
        configs=MULTI_IMAGE_TYPES,
        required={"images": LISTS, "qa_pairs": QUESTIONS},
        optional={"id": TEXT},
        placed_by=("id",),
        identity=lambda row: row.get("id"),
        parse=_parse_documents,
        media=_embedded,
    ),
    SetSpec(
        name="molmo2_multiimagepoint",
        hub="allenai/Molmo2-MultiImagePoint",
        other_hubs=("allenai/molmo2-pixmo-multi-points",),
        aliases=("molmo2_multi_image_point", "pixmo_multi_points"),
        required={"points": LISTS, "labels": TEXTS},
        optional={"image_urls": TEXTS, "images": TEXTS, "normalized_labels": TEXTS, "counts": LISTS},
        either=(("image_urls", "images"),),
        placed_by=("image_urls", "images"),
        identity=_identity,
        parse=_parse_points,
        media=_urls_or_files,
        units={"points": f"{PERCENT}, a list for each picture"},
    ),
)
