"""Names of the fields that examples have, and those that are slips of the pen."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

READ_FIELDS = frozenset(
    {
        *("image", "video", "timestamps", "subtitle", "subtitles", "features", "metadata"),
        *("messages", "message_list", "multi_turn_messages", "style", "prompt", "question", "questions", "query"),
        *("answer", "answers", "answer_idx", "options", "explanation", "caption", "captions", "text", "transcripts"),
        *("points", "point_scale", "clip_points", "label", "labels", "object_name", "object_names", "count", "time"),
        *("spatial_relation", "document_type", "boxes", "box_scale", "box_labels"),
    }
)
"""Names of fields that the loader reads or people know; a name close to one of them is a slip."""


def misnamed(example: Mapping[Any, Any], alike: float = 0.85) -> Iterator[tuple[str, str]]:
    """(name, what was meant) of the fields whose names nothing reads, but are close to one that is read.

    `alike` of 1 takes equal names alone; an example that is known to lack something may be asked with less.

    >>> list(misnamed({"captoin": "A dog."}))
    [('captoin', 'caption')]
    """
    for name in example:
        near = difflib.get_close_matches(name, READ_FIELDS - example.keys(), 1, alike) if isinstance(name, str) else ()
        if near and name not in READ_FIELDS:
            yield name, near[0]
