"""Which column of a plain source means what: known names, and what the user says."""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from converters.rows import Row

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "ppm", "pgm", "pbm")
VIDEO_SUFFIXES = ("mp4", "webm", "mov", "mkv", "avi", "m4v")

# The likeliest names first. Case, "-", " ", "." and "/" make no difference.
_NAMES: dict[str, tuple[str, ...]] = {
    "image": (
        *("image", "images", "img", "imgs", "picture", "pictures", "photo", *IMAGE_SUFFIXES),
        *("image_bytes", "image_encoded", "image_data", "image_base64"),
        *("file_name", "file_names", "filename", "image_file", "image_filename", "image_file_name"),
        *("image_path", "image_paths", "img_path", "image_url", "image_urls", "img_url", "url"),
    ),
    "video": (
        *("video", "videos", *VIDEO_SUFFIXES),
        *("video_bytes", "video_path", "video_paths", "video_file", "video_filename", "video_url", "video_urls"),
    ),
    "sha256": ("image_sha256", "sha256", "sha256hash"),
    "id": ("id", "__key__", "key", "uid", "uuid", "example_id", "sample_id", "question_id", "image_id", "video_id"),
    "metadata": ("metadata",),
    "messages": ("messages", "conversations", "conversation", "chat"),
    "message_list": ("message_list",),
    "multi_turn_messages": ("multi_turn_messages",),
    "pairs": ("qa_pairs", "qa", "texts"),
    "questions": ("questions",),
    "question": ("question", "query", "problem", "instruction", "prompt"),
    "input": ("input",),
    "answer": ("answer", "response", "solution", "output", "completion"),
    "answers": ("answers",),
    "options": ("options", "choices"),
    "answer_idx": ("answer_idx", "answer_index", "correct_idx"),
    "explanation": ("explanation",),
    "spatial_relation": ("spatial_relation",),
    "features": ("features",),
    "caption": ("caption", "captions", "txt", "text", "alt", "alt_text", "sentences"),
    "points": ("points",),
    "point_scale": ("point_scale",),
    "clip_points": ("clip_points",),
    "timestamps": ("timestamps",),
    "count": ("count",),
    "label": ("label",),
    "object_names": ("object_names",),
    "style": ("style",),
    "subtitle": ("subtitle", "subtitles"),
}

NOTHING = "nothing"
FIELDS = (*_NAMES, NOTHING)
"""What a column can mean; a column that means nothing stays with the metadata."""


@dataclass(frozen=True)
class Columns:
    """The columns of a row by what they mean.

    Attributes:
        by_field: candidates for each field, the likeliest first.
    """

    by_field: Mapping[str, tuple[str, ...]]

    @functools.cached_property
    def found(self) -> tuple[str, ...]:
        """The fields that have a column."""
        return tuple(field for field, names in self.by_field.items() if names)

    def values(self, row: Row, field: str) -> list[Any]:
        """What the row has in the field's columns, the likeliest first; without what is empty."""
        return [row[name] for name in self.by_field[field] if not is_empty(row.get(name))]

    def value(self, row: Row, field: str) -> Any:
        """The likeliest of `values`, or None."""
        column = self.column(row, field)
        return None if column is None else row[column]

    def column(self, row: Row, field: str) -> str | None:
        """The column that `value` is from."""
        return next((name for name in self.by_field[field] if not is_empty(row.get(name))), None)


@functools.lru_cache(maxsize=256)
def find_columns(names: tuple[str, ...], chosen: tuple[tuple[str, str], ...]) -> Columns:
    """The columns of these names by field.

    Args:
        names: of the columns.
        chosen: (field, column) of the user, who knows better; a column that is chosen has no other meaning.
    """
    by_name: dict[str, list[str]] = {}
    for name in names:
        by_name.setdefault(_plain(name), []).append(name)
    used = {column for _, column in chosen}
    by_field: dict[str, tuple[str, ...]] = {}
    for field, known in _NAMES.items():
        own = tuple(column for one, column in chosen if one == field and column in names)
        found = (name for alias in known for name in by_name.get(alias, ()) if name not in used)
        by_field[field] = own or tuple(found)
    return Columns(by_field)


def is_empty(value: Any) -> bool:
    """Whether a table means "nothing" by it: null, NaN, or an empty text, list or dict."""
    if isinstance(value, np.ndarray):
        return value.size == 0
    return value is None or value != value or (isinstance(value, str | bytes | Sequence | Mapping) and not value)


def _plain(name: str) -> str:
    return re.sub(r"[-\s./]+", "_", name.strip().lower())
