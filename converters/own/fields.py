"""A plain row to an example: what its columns say, in the fields that examples have."""

import datetime
import decimal
import json
import math
import re
import string
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from converters.own.chat import chat_messages
from converters.own.columns import Columns
from converters.own.media import is_base64
from converters.rows import Row
from grain_molmo.datasets.example_record import IMAGE, TEXT, VIDEO, to_annotation
from grain_molmo.datasets.labelled import FEATURES, LABEL, with_features
from grain_molmo.datasets.lessons import require_lesson, require_points_inside, with_lesson
from grain_molmo.datasets.spatial import relation_fields, require_shown
from grain_molmo.errors import ExampleError, RowError
from grain_molmo.store import MediaRef

NOTHING_TO_LEARN = "nothing_to_learn"
_TEXT_FIELDS = ("question", "answer", "explanation", "caption", "label", "style")
_PARSED_FIELDS = (
    *("messages", "message_list", "multi_turn_messages", "pairs", "questions", "answers", "options"),
    *("answer_idx", "points", "point_scale", "timestamps", "count", "object_names", "metadata"),
)
# Of media that nobody has opened yet: whether a row makes sense does not depend on it.
_PLACEHOLDER_SIZE = (1000, 1000)


def row_annotation(
    row: Row, columns: Columns, values: Sequence[tuple[str, Any]], shows: str, num_media: int
) -> dict[str, Any]:
    """The annotation of the row's example.

    Args:
        row: by column.
        columns: what the columns mean.
        values: (field, value) that all rows share and have no column for.
        shows: what `row_media` found.
        num_media: how many.

    Raises:
        RowError: `nothing_to_learn` if no column says anything, or why what they say makes no sense.
    """
    given = _given(row, columns, values)
    try:
        lesson = _lesson(given, shows, num_media)
        labelled = _labelled(row, columns)
        if lesson is None and labelled is None:
            what = "no caption, answer, points, conversation or features"
            raise RowError(NOTHING_TO_LEARN, f"{what} in {', '.join(row) or 'the row'}")
        used, fields = lesson or ((), {})
        features_used, features = labelled or ((), {})
        if "spatial_relation" in fields:
            require_shown(features, num_media > 0)
        extra = {name: given[name] for name in _BESIDES if name in given}
        used_columns = {columns.column(row, field) for field in (*used, *features_used, *_BESIDES, "metadata")}
        metadata = _metadata(row, columns, given.get("metadata"), used_columns)
        example = with_lesson({**fields, **features, **extra, "metadata": metadata}, shows)
        if lesson is not None:
            require_lesson(example, [_PLACEHOLDER_SIZE] * num_media)
            require_points_inside(example, shows, ())  # those in pixels wait for the picture: `fitting_annotation`
        return to_annotation(example, shows)
    except ExampleError as error:
        raise RowError(error.reason, error.detail) from error


def fitting_annotation(annotation: dict[str, Any], medium: MediaRef) -> dict[str, Any]:
    """The annotation as it is, if its points lie in the first picture. Raises RowError: `points_outside`."""
    try:
        require_points_inside(annotation["example"], annotation.get("shows", TEXT), [(medium.width, medium.height)])
    except ExampleError as error:
        raise RowError(error.reason, error.detail) from error
    return annotation


def has_lesson(row: Row, columns: Columns, values: Sequence[tuple[str, Any]]) -> bool:
    """Whether the row says anything to learn. Raises RowError or ExampleError if what it says makes no sense."""
    return _lesson(_given(row, columns, values), IMAGE, 0) is not None or _labelled(row, columns) is not None


def _given(row: Row, columns: Columns, values: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """What the row says, by field."""
    given = {field: _read(field, columns.value(row, field)) for field in columns.found if field not in _NOT_TEXT}
    given = {field: value for field, value in given.items() if value is not None} | dict(values)
    if isinstance(clips := given.get("clip_points"), str):
        given["clip_points"] = clips.strip().lower() in _YES
    return given


_YES = ("true", "yes", "1")
_POINTING = ("points", "point_scale", "clip_points", "timestamps", "label", "object_names", "question", "count")
_NOT_TEXT = ("image", "video", "sha256", "id", FEATURES)
_BESIDES = ("style", "subtitle")  # what any kind of lesson may have

Lesson = tuple[tuple[str, ...], dict[str, Any]]
"""The fields that were used, and what they say as fields of an example."""


def _lesson(given: Mapping[str, Any], shows: str, num_media: int) -> Lesson | None:
    """The first kind of lesson that the row has, or None."""
    if "messages" in given:
        images, videos = (0, num_media) if shows == VIDEO else (num_media, 0)
        return ("messages",), {"messages": chat_messages(given["messages"], images, videos)}
    for name in ("message_list", "multi_turn_messages"):
        if name in given:
            return (name,), {name: given[name]}
    if "pairs" in given:
        return ("pairs",), _pairs(given["pairs"])
    if "questions" in given:
        if _is_dicts(given["questions"]) or isinstance(given["questions"], Mapping):
            return ("questions",), _pairs(given["questions"])
        return ("questions", "answers"), {"questions": given["questions"], "answers": given.get("answers")}
    is_named = not given.keys().isdisjoint(("label", "object_names", "question"))
    if "points" in given and is_named:
        return _those(given, *_POINTING)
    if "question" in given and (answer := _answer(given)) is not None:
        used, fields = answer
        question = "\n".join(str(given[name]) for name in ("question", "input") if name in given)
        return ("question", "input", *used), {"question": question, **fields}
    if "spatial_relation" in given and "label" in given:
        relation = {**_those(given, "spatial_relation")[1], "label": _whole(given["label"])}
        return ("spatial_relation", "label", "caption"), relation_fields({**relation, "captions": given.get("caption")})
    if "count" in given and is_named:
        return _those(given, "count", "label", "object_names", "question")
    if "caption" in given:
        return ("caption",), _captions(given["caption"], shows)
    return None


def _labelled(row: Row, columns: Columns) -> Lesson | None:
    """The row's features as an array, and their label; None if it has no column of numbers for them.

    Raises ExampleError: `bad_features`, `not_finite`, `bad_label`.
    """
    features = columns.value(row, FEATURES)
    if not _is_numbers(features):
        return None
    return (FEATURES, LABEL), with_features({FEATURES: features, LABEL: _whole(columns.value(row, LABEL))})


def _is_numbers(value: Any) -> bool:
    while isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, np.ndarray) or (isinstance(value, int | float) and not isinstance(value, bool))


def _whole(value: Any) -> Any:
    """A number where a table has it as text."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?\d{1,10}", value) else value


def _those(given: Mapping[str, Any], *names: str) -> Lesson:
    found = {name: given[name] for name in names if name in given}
    return tuple(found), found


def _answer(given: Mapping[str, Any]) -> Lesson | None:
    """The answer of a question: one of its options, words, or several people's words."""
    if "options" in given and ("answer_idx" in given or "answer" in given):
        options = [str(option) for option in given["options"]] if isinstance(given["options"], list) else []
        index = given.get("answer_idx", _option_index(given.get("answer"), options))
        return ("options", "answer_idx", "answer"), {"options": options, "answer_idx": index}
    if "answer" in given:
        return _those(given, "answer", "explanation")
    if "answers" in given:
        return ("answers",), {"answers": _answer_texts(given["answers"])}
    return None


def _answer_texts(answers: Any) -> Any:
    """The texts of a list of answers, each perhaps a dict with `answer` or `text`; or of a dict of lists of them."""
    if isinstance(answers, Mapping):
        answers = next((answers[key] for key in ("text", "answer") if isinstance(answers.get(key), list)), answers)
    if not isinstance(answers, list):
        return [answers]
    return [one.get("answer", one.get("text")) if isinstance(one, Mapping) else one for one in answers]


def _option_index(answer: Any, options: Sequence[str]) -> int | None:
    """Which option an answer means: a number counts from 0, a letter from A, else its words."""
    text = str(answer).strip()
    if text in options:
        return options.index(text)
    if text.isdecimal() and int(text) < len(options):
        return int(text)
    letter = text.strip("().: ").upper()
    return string.ascii_uppercase.index(letter) if len(letter) == 1 and letter in string.ascii_uppercase else None


def _pairs(pairs: Any) -> dict[str, Any]:
    """Questions and answers from a list of {question, answer} or {user, assistant}, or of lists of both."""
    for asks, answers in (("question", "answer"), ("user", "assistant")):
        if isinstance(pairs, Mapping) and isinstance(pairs.get(asks), list):
            return {"questions": pairs[asks], "answers": pairs.get(answers)}
        if _is_dicts(pairs) and asks in pairs[0]:
            return {"questions": [one.get(asks) for one in pairs], "answers": [one.get(answers) for one in pairs]}
    raise RowError("bad_pairs", f"questions and answers are a list of {{question, answer}}, not {pairs!r:.80}")


def _is_dicts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _captions(caption: Any, shows: str) -> dict[str, Any]:
    """One caption, or a branch for each of several."""
    if isinstance(caption, list):
        texts = [one.get("raw", one.get("caption")) if isinstance(one, Mapping) else one for one in caption]
        if not all(isinstance(text, str) for text in texts):
            raise RowError("bad_text", f"captions must be texts, not {caption!r:.80}")
        return {"message_list": [with_lesson({"caption": text}, shows) for text in texts]}
    return {"caption" if shows != TEXT else "text": caption}


def _read(field: str, value: Any) -> Any:
    """The value as the field has it: numbers as words where words are wanted, JSON parsed where cells hold text."""
    if field in _TEXT_FIELDS and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if field in _PARSED_FIELDS and isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value.tolist() if isinstance(value, np.ndarray) else value


def _metadata(row: Row, columns: Columns, given: Any, used: Set[str | None]) -> dict[str, Any]:
    """Whatever else the row says, as far as JSON can hold it: the bytes of media and what is learned are left out."""
    identity, shown = columns.value(row, "id"), columns.by_field["image"]
    named = {"id": identity} if isinstance(identity, str | int) else {}
    rest = {name: value for name, value in row.items() if name not in used and not name.startswith("__")}
    rest = {name: value for name, value in rest.items() if name not in shown or not is_base64(value)}
    inner = given if isinstance(given, Mapping) else {}
    found = {str(name): _json_value(value) for name, value in {**named, **rest, **inner}.items()}
    return {name: value for name, value in found.items() if value is not None}


def _json_value(value: Any) -> Any:
    """The value in JSON's types; None for what it has none for: bytes, NaN."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        items = [_json_value(item) for item in value]
        return items if any(item is not None for item in items) else None
    if isinstance(value, Mapping):
        inner = {str(name): _json_value(item) for name, item in value.items()}
        return {name: item for name, item in inner.items() if item is not None} or None
    if isinstance(value, datetime.date | datetime.time | datetime.timedelta | decimal.Decimal):
        return str(value)
    return None
