"""The seven PixMo sets: what their rows are, and what one row or one picture's rows become.

Facts of the hub, units and grouping: Molmo2 datasets §0.4, §1A. Everything here is a pure function of rows.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters import schema
from converters.rows import Row
from converters.schema import BOOLEAN, IMAGE, INTEGER, POINTS, QUESTIONS, TEXT, TEXTS
from grain_molmo.errors import ConfigError, RowError
from grain_molmo.store import canonical_name
from grain_molmo.vision.image import ImageInfo

MAX_POINTS = 60  # of one label, and of one example
PERCENT_TOLERANCE = 0.5  # beyond 0-100: a click on the very edge, rounded; further out it is another unit
PIXEL_TOLERANCE = 1.0
# Rejections that say the numbers are in another unit than the set's, by reason, with what to look for.
UNIT_REASONS = {
    "points_out_of_range": "pixmo-points holds percent of the picture, 0-100: are these pixels, or 0-1?",
    "points_outside_image": "pixmo-count holds pixels of the picture as it was annotated: was it resized since?",
}


@dataclass(frozen=True)
class FromUrl:
    """A picture to fetch; the bytes must have the SHA-256 if one is given."""

    url: str
    sha256: str | None = None


@dataclass(frozen=True)
class FromFile:
    """A picture in a file."""

    path: Path


@dataclass(frozen=True)
class Embedded:
    """A picture whose encoded bytes are in the row."""

    data: bytes


@dataclass(frozen=True)
class Drawn:
    """A picture that is made from the row."""

    draw: Callable[[], bytes]


PictureSource = FromUrl | FromFile | Embedded | Drawn


@dataclass(frozen=True)
class Place:
    """Where a row stands.

    Attributes:
        config: the hub's config, or None.
        split: the source's split.
        folder: where relative picture paths start, or None if rows may not refer to files.
    """

    config: str | None
    split: str
    folder: Path | None


def _whole(pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return pieces


def _anywhere(piece: dict[str, Any], info: ImageInfo) -> dict[str, Any]:
    return piece


@dataclass(frozen=True, kw_only=True, eq=False)
class SetSpec:
    """What there is to know of a set before its rows are seen.

    Attributes:
        name: in the store.
        hub: dataset of the hub.
        aliases: other spellings that users know.
        configs: of the hub; each becomes a store split `SPLIT_CONFIG`.
        splits: of the hub.
        required, optional: columns that are read, and their kinds.
        identity: column that an example is named by.
        grouped: the rows of one picture make one example.
        subsets: (column, values): rows go to store splits `SPLIT_VALUE`.
        validation_fraction: share of the pictures to hold out where the hub gives only a train split, about 2,048.
        rows_per_shard: source rows of one shard; a row never makes more than one record.
        excluded_by: dataset of the hub whose pictures must not occur.
        parse: one row to its piece of an annotation. Raises RowError.
        fit: what of the piece depends on the picture's size. Raises RowError.
        combine: the pieces of an example to the annotations of its records.
        picture: the row's picture. Raises RowError.
    """

    name: str
    hub: str
    aliases: tuple[str, ...] = ()
    configs: tuple[str | None, ...] = (None,)
    splits: tuple[str, ...] = ("train",)
    required: Mapping[str, str]
    optional: Mapping[str, str] = field(default_factory=dict)
    identity: str = "image_url"
    grouped: bool = False
    subsets: tuple[str, tuple[str, ...]] | None = None
    validation_fraction: float | None = None
    rows_per_shard: int = 4096
    excluded_by: str | None = None
    parse: Callable[[Row, Place], dict[str, Any]]
    fit: Callable[[dict[str, Any], ImageInfo], dict[str, Any]] = _anywhere
    combine: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = _whole
    picture: Callable[[Row, Place], PictureSource]


def _fetched(row: Row, place: Place) -> PictureSource:
    return FromUrl(schema.text(row, "image_url"))


def _fetched_and_checked(row: Row, place: Place) -> PictureSource:
    return FromUrl(schema.text(row, "image_url"), schema.text(row, "image_sha256"))


def _embedded(row: Row, place: Place) -> PictureSource:
    image = row.get("image")
    data, path = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (image, image)
    if isinstance(data, bytes) and data:
        return Embedded(data)
    if isinstance(path, str) and path and place.folder is not None:
        return FromFile(place.folder / path)
    raise RowError("missing_image", "image holds neither encoded bytes nor the path of a file beside the rows")


def _drawn_clock(row: Row, place: Place) -> PictureSource:
    from converters.clockface import draw_clock

    return Drawn(lambda: draw_clock(row))


def _parse_cap(row: Row, place: Place) -> dict[str, Any]:
    transcripts = schema.texts(row, "transcripts") if row.get("transcripts") is not None else []
    return {"caption": schema.text(row, "caption"), "transcripts": transcripts}


def _parse_points(row: Row, place: Place) -> dict[str, Any]:
    method = schema.text(row, "collection_method")
    if method not in ("pointing", "counting"):
        raise RowError("unknown_collection_method", f"collection_method is {method!r}, expected pointing or counting")
    label, points = schema.text(row, "label"), schema.points(row, "points")
    _require_count(schema.integer(row, "count"), points)
    low, high = -PERCENT_TOLERANCE, 100 + PERCENT_TOLERANCE
    outside = next((point for point in points if not all(low <= value <= high for value in point)), None)
    if outside is not None:
        raise RowError("points_out_of_range", f"point {outside} of {label!r} is outside 0-100 percent")
    if len(points) > MAX_POINTS:
        raise RowError("more_than_60_points", f"{label!r} has {len(points)} points")
    return {"label": label, "points": [[min(max(value, 0.0), 100.0) for value in point] for point in points]}


def pack_labels(pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The labels of a picture in parts of at most 60 points, filled in order; each part makes an example."""
    parts: list[list[dict[str, Any]]] = []
    total = 0
    for piece in pieces:
        total += len(piece["points"])
        if not parts or total > MAX_POINTS:
            parts.append([])
            total = len(piece["points"])
        parts[-1].append(piece)
    return [{"labels": part} for part in parts]


def _parse_count(row: Row, place: Place) -> dict[str, Any]:
    count = schema.integer(row, "count")
    if count < 0:
        raise RowError("count_mismatch", f"count is {count}")
    points = None
    # The hub's validation and test rows have no points (or empty lists in their place).
    if place.split == "train" or _holds_points(row.get("points")):
        points = schema.points(row, "points")
        _require_count(count, points)
    # The bytes are not required to match (Molmo2 datasets §0.5), so what the row says of them is kept.
    sha256 = row.get("image_sha256")
    return {
        "label": schema.text(row, "label"),
        "count": count,
        "points": points,
        "original_sha256": sha256 if isinstance(sha256, str) else None,
    }


def _holds_points(value: Any) -> bool:
    return any(value.values()) if isinstance(value, dict) else bool(value)


def _fit_count(piece: dict[str, Any], info: ImageInfo) -> dict[str, Any]:
    """Points inside the picture, in its pixels."""
    size = (info.width, info.height)
    if piece["points"] is None:
        return piece
    for point in piece["points"]:
        if not all(-PIXEL_TOLERANCE <= value <= top + PIXEL_TOLERANCE for value, top in zip(point, size, strict=True)):
            raise RowError("points_outside_image", f"point {point} in a picture of {size[0]}x{size[1]} pixels")
    inside = [[min(max(value, 0.0), float(top)) for value, top in zip(p, size, strict=True)] for p in piece["points"]]
    return {**piece, "points": inside}


def _require_count(count: int, points: Sequence[object]) -> None:
    if count != len(points):
        raise RowError("count_mismatch", f"count is {count}, but there are {len(points)} points")


def _parse_docs(row: Row, place: Place) -> dict[str, Any]:
    pairs = schema.questions(row, "questions")
    return {"image_id": schema.text(row, "image_id"), "doc_type": place.config, "questions": pairs}


def parse_dialogue(question: str) -> list[str]:
    """Turns of a dialogue prefix tagged [USER] and [ASSISTANT], the user's first and last.

    >>> parse_dialogue("[USER] Hi [ASSISTANT] Hello! [USER] What is it? [ASSISTANT]")
    ['Hi', 'Hello!', 'What is it?']

    A text without tags is one user turn. Raises RowError("bad_dialogue").
    """
    before, *tagged = re.split(r"\[(USER|ASSISTANT)\]", question)
    if not tagged:
        return [before.strip()]
    roles, turns = tagged[::2], [turn.strip() for turn in tagged[1::2]]
    if roles[-1] == "ASSISTANT" and not turns[-1]:  # where the answer belongs
        roles, turns = roles[:-1], turns[:-1]
    alternate = all(role == ("USER", "ASSISTANT")[i % 2] for i, role in enumerate(roles))
    if before.strip() or not alternate or len(turns) % 2 == 0 or not all(turns):
        raise RowError("bad_dialogue", f"turns do not alternate between user and assistant: {question[:120]!r}")
    return turns


def _parse_cap_qa(row: Row, place: Place) -> dict[str, Any]:
    turns = parse_dialogue(schema.text(row, "question"))
    return {"turns": [*turns, schema.text(row, "answer").strip()]}


def _parse_ask(row: Row, place: Place) -> dict[str, Any]:
    return {"question": schema.text(row, "question").strip(), "answer": schema.text(row, "answer").strip()}


def _parse_clock(row: Row, place: Place) -> dict[str, Any]:
    return {
        "example_id": schema.text(row, "example_id"),
        "time": schema.text(row, "text").strip(),
        "time_format": schema.text(row, "time_format"),
        "hour": schema.integer(row, "hour_visible"),
        "minute": schema.integer(row, "minute_visible"),
        "second": schema.integer(row, "second_visible"),
    }


def _under(key: str) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    """All pieces of a picture in one annotation."""
    return lambda pieces: [{key: pieces}]


# Fractions: 2,048 of 717,042 (cap), about 428,000 (points), 190,000 (cap-qa) and 71,000 (ask) pictures.
_ALL = (
    SetSpec(
        name="pixmo_cap",
        hub="allenai/pixmo-cap",
        required={"image_url": TEXT, "caption": TEXT},
        optional={"transcripts": TEXTS},
        validation_fraction=0.00286,
        parse=_parse_cap,
        picture=_fetched,
    ),
    SetSpec(
        name="pixmo_points",
        hub="allenai/pixmo-points",
        required={
            "image_url": TEXT,
            "image_sha256": TEXT,
            "points": POINTS,
            "count": INTEGER,
            "label": TEXT,
            "collection_method": TEXT,
        },
        grouped=True,
        subsets=("collection_method", ("pointing", "counting")),
        validation_fraction=0.0048,
        rows_per_shard=10_000,
        excluded_by="allenai/pixmo-points-eval",
        parse=_parse_points,
        combine=pack_labels,
        picture=_fetched_and_checked,
    ),
    SetSpec(
        name="pixmo_count",
        hub="allenai/pixmo-count",
        splits=("train", "validation", "test"),
        required={"image_url": TEXT, "count": INTEGER, "label": TEXT},
        optional={"points": POINTS, "image_sha256": TEXT},
        parse=_parse_count,
        fit=_fit_count,
        picture=_fetched,
    ),
    SetSpec(
        name="pixmo_docs",
        hub="allenai/pixmo-docs",
        configs=("charts", "tables", "diagrams", "other"),
        splits=("train", "validation"),
        required={"image": IMAGE, "image_id": TEXT, "questions": QUESTIONS},
        identity="image_id",
        parse=_parse_docs,
        picture=_embedded,
    ),
    SetSpec(
        name="pixmo_cap_qa",
        hub="allenai/pixmo-cap-qa",
        aliases=("pixmo_capqa",),
        required={"image_url": TEXT, "question": TEXT, "answer": TEXT},
        grouped=True,
        validation_fraction=0.0108,
        parse=_parse_cap_qa,
        combine=_under("conversations"),
        picture=_fetched,
    ),
    SetSpec(
        name="pixmo_ask_model_anything",
        hub="allenai/pixmo-ask-model-anything",
        aliases=("pixmo_askmodelanything",),
        required={"image_url": TEXT, "image_sha256": TEXT, "question": TEXT, "answer": TEXT},
        grouped=True,
        validation_fraction=0.0288,
        parse=_parse_ask,
        combine=_under("questions"),
        picture=_fetched_and_checked,
    ),
    SetSpec(
        name="pixmo_clocks",
        hub="allenai/pixmo-clocks",
        splits=("train", "validation"),
        required={
            "example_id": TEXT,
            "watchface_id": TEXT,
            "watchface_name": TEXT,
            "watch_time": TEXT,
            "time_format": TEXT,
            "shows_seconds": BOOLEAN,
            "hour_visible": INTEGER,
            "minute_visible": INTEGER,
            "second_visible": INTEGER,
            "text": TEXT,
        },
        identity="example_id",
        parse=_parse_clock,
        picture=_drawn_clock,
    ),
)

SETS: dict[str, SetSpec] = {spec.name: spec for spec in _ALL}


def find_set(name: str) -> SetSpec:
    """The set of a name or alias, '-' and '_' alike. Raises ConfigError listing the names there are."""
    canonical = canonical_name(name)
    for spec in _ALL:
        if canonical in (spec.name, *spec.aliases):
            return spec
    known = ", ".join(spec.name.replace("_", "-") for spec in _ALL)
    raise ConfigError(f"{name!r} cannot be converted; known sets: {known}")
