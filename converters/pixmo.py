"""The PixMo sets: what their rows are, and what one row or one picture's rows become.

Facts of the hub, units and grouping: Molmo2 datasets §0.4, §1A. Everything here is a pure function of rows.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from converters import schema
from converters.points import MAX_POINTS, PERCENT, percent_points, pixel_points, require_count, require_few
from converters.rows import Row
from converters.schema import BOOLEAN, IMAGE, INTEGER, LISTS, POINTS, QUESTIONS, TEXT, TEXTS
from converters.spec import Drawn, FromUrl, MediaSource, Place, SetSpec, column, embedded_picture
from grain_molmo.errors import RowError
from grain_molmo.masks import encode_mask
from grain_molmo.store import MediaRef


def _fetched(row: Row, place: Place) -> Sequence[MediaSource]:
    return (FromUrl(schema.text(row, "image_url")),)


def _fetched_and_checked(row: Row, place: Place) -> Sequence[MediaSource]:
    return (FromUrl(schema.text(row, "image_url"), schema.text(row, "image_sha256")),)


def _embedded(row: Row, place: Place) -> Sequence[MediaSource]:
    return (embedded_picture(row.get("image"), place),)


def _drawn_clock(row: Row, place: Place) -> Sequence[MediaSource]:
    from converters.clockface import draw_clock

    return (Drawn(lambda: draw_clock(row)),)


def _parse_cap(row: Row, place: Place) -> dict[str, Any]:
    transcripts = schema.texts(row, "transcripts") if row.get("transcripts") is not None else []
    return {"caption": schema.text(row, "caption"), "transcripts": transcripts}


def _parse_points(row: Row, place: Place) -> dict[str, Any]:
    method = schema.text(row, "collection_method")
    if method not in ("pointing", "counting"):
        raise RowError("unknown_collection_method", f"collection_method is {method!r}, expected pointing or counting")
    label, points = schema.text(row, "label"), schema.points(row, "points")
    require_count(schema.integer(row, "count"), points)
    inside = percent_points(points, label)
    require_few(points, label)
    return {"label": label, "points": inside}


def _method(row: Row) -> str:
    # A row with another method is rejected when it is read; until then it needs a place.
    return "counting" if row.get("collection_method") == "counting" else "pointing"


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
        require_count(count, points)
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


def _fit_count(piece: dict[str, Any], medium: MediaRef) -> dict[str, Any]:
    """Points inside the picture, in its pixels."""
    if piece["points"] is None:
        return piece
    return {**piece, "points": pixel_points(piece["points"], (medium.width, medium.height))}


def _parse_points_eval(row: Row, place: Place) -> dict[str, Any]:
    label, points = schema.text(row, "label"), schema.points(row, "points")
    inside = percent_points(points, label)
    masks = [encode_mask(mask) for mask in schema.masks(row, "masks")]
    if len(masks) != len(points):
        raise RowError("count_mismatch", f"{label!r} has {len(points)} points and {len(masks)} masks")
    return {"label": label, "points": inside, "masks": masks}


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
PIXMO_SETS = (
    SetSpec(
        name="pixmo_cap",
        hub="allenai/pixmo-cap",
        required={"image_url": TEXT, "caption": TEXT},
        optional={"transcripts": TEXTS},
        validation_fraction=0.00286,
        parse=_parse_cap,
        media=_fetched,
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
        placed_by=("image_url", "collection_method"),
        subset=_method,
        validation_fraction=0.0048,
        rows_per_shard=10_000,
        excluded_by="allenai/pixmo-points-eval",
        parse=_parse_points,
        combine=pack_labels,
        media=_fetched_and_checked,
        units={"labels": PERCENT},
    ),
    SetSpec(
        name="pixmo_count",
        hub="allenai/pixmo-count",
        splits=("train", "validation", "test"),
        required={"image_url": TEXT, "count": INTEGER, "label": TEXT},
        optional={"points": POINTS, "image_sha256": TEXT},
        parse=_parse_count,
        fit=_fit_count,
        media=_fetched,
        units={"points": "x, y in pixels of the picture"},
    ),
    SetSpec(
        name="pixmo_points_eval",
        hub="allenai/pixmo-points-eval",
        evaluates="pixmo_points",
        splits=("test",),
        required={"image_url": TEXT, "image_sha256": TEXT, "label": TEXT, "points": POINTS, "masks": LISTS},
        parse=_parse_points_eval,
        media=_fetched_and_checked,
        units={"points": PERCENT, "masks": "run lengths, pixels of the picture column by column"},
    ),
    SetSpec(
        name="pixmo_docs",
        hub="allenai/pixmo-docs",
        configs=("charts", "tables", "diagrams", "other"),
        splits=("train", "validation"),
        required={"image": IMAGE, "image_id": TEXT, "questions": QUESTIONS},
        placed_by=("image_id",),
        identity=column("image_id"),
        parse=_parse_docs,
        media=_embedded,
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
        media=_fetched,
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
        media=_fetched_and_checked,
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
        placed_by=("example_id",),
        identity=column("example_id"),
        parse=_parse_clock,
        media=_drawn_clock,
    ),
)
