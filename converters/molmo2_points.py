"""What people pointed at in videos: Molmo2-VideoPoint.

Facts of the hub, clips and grouping: Molmo2 datasets §1B.4. The simpler rows of a local file are understood, too:
`query` and flat `points` of {x, y, timestamp, object_id} with x and y in 0-1.
"""

import math
import re
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from converters import schema
from converters.molmo2_videos import ANYWHERE, VIDEO_ROWS_PER_SHARD, find_video, video_id, which_video
from converters.points import percent_points, require_count, require_few
from converters.rows import Row
from converters.schema import BOOLEAN, INTEGER, LISTS, NUMBER, TEXT
from converters.spec import Annotation, MediaSource, Place, SetSpec
from grain_molmo.datasets.molmo2_video import POINT_BUCKETS
from grain_molmo.errors import RowError
from grain_molmo.store import MediaRef, VideoFacts

GRID_FPS = 2  # times of points are whole multiples of half a second: the videos were annotated at 2 frames a second
MAX_CLIP_S = 63.0  # at 2 frames a second and with the last one, these are 128 frames
EDGE_S = 0.5  # a frame at 2 frames a second may begin so long before the video ends, or where it has just ended
MAX_QUERIES = 16  # of one record: branches of one message tree

_TWO_FPS = tuple(f"youtube-cc/youtube-cc-{part}-2fps/{{id}}_2fps" for part in ("exist", "kw", "temporal"))
_POINT_LAYOUTS = {
    "youtube": _TWO_FPS,
    "MammalNet": ("MammalNet/trimmed_video-2fps/{id}_2fps",),
    "generated": ("generated_videos/{id}_2fps", "generated_videos/{dir}-2fps/{name}_2fps"),
}
_ANY_SOURCE = tuple(layout for layouts in _POINT_LAYOUTS.values() for layout in layouts)
# The original videos will do: a time is the same in both, and the frame nearly so.
_POINT_FALLBACKS = ("{id}_2fps", "**/{dir}-2fps/{name}_2fps", "**/{id}_2fps", *ANYWHERE)

_REQUEST = re.compile(
    r"(?:please )?(?:point (?:to|at|out)|track|follow|find|locate|mark|count) "
    r"(?:all (?:of )?)?(?:the |every |each |any |an? )?",
    re.IGNORECASE,
)


def label_of_request(query: str) -> str:
    """What a request is about.

    >>> label_of_request("Point to the person throwing the ball.")
    'person throwing the ball'
    """
    query = query.strip()
    return query[match.end() :].rstrip(" .?!") or query if (match := _REQUEST.match(query)) else query


def _is_simple(row: Row) -> bool:
    """Whether the row's points bring their times themselves."""
    return row.get("query") is not None and row.get("two_fps_timestamps") is None


def _parse_video_points(row: Row, place: Place) -> Annotation:
    if _is_simple(row):
        return _parse_simple(row)
    label, count = schema.text(row, "label").strip(), schema.integer(row, "count")
    given = {name: row.get(name) or [] for name in ("two_fps_timestamps", "points")}  # null where there is nothing
    times, points = schema.numbers(given, "two_fps_timestamps"), schema.point_lists(given, "points")
    if len(times) != len(points):
        raise RowError("length_mismatch", f"{len(times)} timestamps, but points of {len(points)} moments")
    off = next((time for time in times if abs(time * GRID_FPS - round(time * GRID_FPS)) > 1e-6), None)
    if off is not None:
        raise RowError("timestamp_off_grid", f"{off} s is no multiple of {1 / GRID_FPS} s")
    everything = [point for moment in points for point in moment]
    require_count(count, everything)
    require_few(everything, label)
    question, category = (row.get(name) for name in ("question", "category"))
    query = {
        "label": label,
        "question": question.strip() if isinstance(question, str) and question.strip() else None,
        "count": count,
        "moments": [[time, percent_points(here, label), None] for time, here in zip(times, points, strict=True)],
        "category": category if isinstance(category, str) else None,
        "unsure": schema.flag(row, "annotator_unsure"),
    }
    return {"video_id": video_id(row), "clip": _row_clip(row), "query": query}


def _parse_simple(row: Row) -> Annotation:
    query = schema.text(row, "query").strip()
    moments: dict[float, dict[str, list[float]]] = {}
    things: dict[str, int] = {}
    for position, (time, point, key) in enumerate(flat_points(row, "points")):
        # Times of any grid: what is shown last before them is what was pointed at. One thing has one place in it.
        thing = f"point {position}" if key is None else f"object {key}"
        moments.setdefault(_floor_to_grid(time), {}).setdefault(thing, point)
        things.setdefault(thing, len(things))
    require_few([point for here in moments.values() for point in here.values()], query)
    entry = {
        "label": label_of_request(query),
        "prompt": query,
        "count": len(things),
        "moments": [
            [time, percent_points(list(here.values()), query, scale=1.0), [things[thing] for thing in here]]
            for time, here in moments.items()
        ],
        "unsure": False,
    }
    return {"video_id": video_id(row), "clip": _row_clip(row), "query": entry}


def flat_points(row: Row, column: str) -> list[tuple[float, list[float], str | None]]:
    """(time in seconds, [x, y] in 0-1, object) of each point of a list of {x, y, timestamp}. Raises RowError."""
    found = []
    for x, y, time in schema.entries(row, column, "x", "y", "timestamp"):
        found.append(schema.numbers({column: [time, x, y]}, column))
    if any(time < 0 for time, _, _ in found):
        raise RowError("timestamp_outside_clip", f"{column} has a time below 0")
    keys = _object_ids(row[column], len(found))
    return [(time, [x, y], None if key is None else str(key)) for (time, x, y), key in zip(found, keys, strict=True)]


def _object_ids(points: Any, number: int) -> list[Any]:
    """The `object_id` of each of the points, of a list of structs or a struct of lists; None where there is none."""
    if isinstance(points, list):
        return [point.get("object_id") for point in points]
    keys = points.get("object_id") or [None] * number
    if not isinstance(keys, list) or len(keys) != number:
        raise RowError("length_mismatch", f"{number} points, object_id is {str(keys)[:80]}")
    return keys


def _row_clip(row: Row) -> list[float] | None:
    if row.get("clip_start") is None and row.get("clip_end") is None:
        return None
    return [schema.number(row, "clip_start"), schema.number(row, "clip_end")]


def _floor_to_grid(time_s: float) -> float:
    return math.floor(time_s * GRID_FPS + 1e-6) / GRID_FPS


def _fit_clip(piece: Annotation, medium: MediaRef) -> Annotation:
    """The part of the video to show, with times counted from where it begins (Molmo2 datasets §1B.4)."""
    duration_s = video_facts(medium).duration_s
    # Half a second more than a clip: a video that was re-encoded at 2 frames a second may have grown by that.
    clip = None if duration_s <= MAX_CLIP_S + EDGE_S else piece["clip"]
    if clip is None and duration_s > MAX_CLIP_S + EDGE_S:
        raise RowError("no_clip", f"the video lasts {duration_s:.1f} s, more than {MAX_CLIP_S:g} s, and has no clip")
    start_s, end_s = clip or (0.0, duration_s)
    if clip and (not 0 <= start_s < end_s or start_s >= duration_s or end_s > duration_s + EDGE_S):
        raise RowError("clip_outside_video", f"from {start_s} to {end_s} s in a video of {duration_s:.2f} s")
    if clip and end_s - start_s > MAX_CLIP_S:
        raise RowError("clip_too_long", f"from {start_s} to {end_s} s, more than {MAX_CLIP_S:g} s")
    moments: dict[float, list[tuple[list[float], int | None]]] = {}
    for time_s, points, objects in piece["query"]["moments"]:
        if not start_s - 1e-6 <= time_s <= end_s + EDGE_S:
            raise RowError("timestamp_outside_clip", f"{time_s} s is not between {start_s} and {end_s:.2f} s")
        if points:
            numbers = [None] * len(points) if objects is None else objects
            moments.setdefault(_floor_to_grid(time_s - start_s), []).extend(zip(points, numbers, strict=True))
    ordered = [(time_s, sorted(moments[time_s], key=itemgetter(0))) for time_s in sorted(moments)]
    query = {key: value for key, value in piece["query"].items() if key != "moments" and value is not None}
    query |= {"timestamps": [time_s for time_s, _ in ordered], "points": [[xy for xy, _ in at] for _, at in ordered]}
    if "prompt" in query:  # a simple row, which says what is the same thing at several times
        query["objects"] = [[number for _, number in at] for _, at in ordered]
    return {"video_id": piece["video_id"], "clip": clip, "query": query}


def video_facts(medium: MediaRef) -> VideoFacts:
    """What is known of a video. Raises RowError("not_a_video") for a picture."""
    if medium.video is None:
        raise RowError("not_a_video", f"media {medium.sha256} have no duration")
    return medium.video


def _queries_of_a_clip(pieces: list[Annotation]) -> list[Annotation]:
    """Queries about a whole video share an example; of a longer video each has its own, as published."""
    size = 1 if pieces[0]["clip"] else MAX_QUERIES
    shared = {key: pieces[0][key] for key in ("video_id", "clip")}
    queries = [piece["query"] for piece in pieces]
    return [{**shared, "queries": queries[start : start + size]} for start in range(0, len(queries), size)]


def _bucket(row: Row) -> str:
    """The store split of a query: by its number of points, so that mixtures open some without reading all."""
    count = row.get("count")
    if not isinstance(count, int | float):
        points = row.get("points")
        times = points.get("timestamp") if isinstance(points, dict) else points
        count = len(times) if isinstance(times, list) else 0
    name = next((name for name, (low, high) in POINT_BUCKETS.items() if low <= count <= high), "26_60")
    return f"{name}_unsure" if row.get("annotator_unsure") is True else name


def _clip_name(row: Row) -> str:
    clip = [row.get("clip_start"), row.get("clip_end")]
    if clip == [None, None]:
        return ""
    return "-".join(f"{end:.12g}" if isinstance(end, int | float) else "" for end in clip)


def _pointed_video(row: Row, place: Place) -> Sequence[MediaSource]:
    source = row.get("video_source")
    layouts = _POINT_LAYOUTS.get(source, _ANY_SOURCE) if isinstance(source, str) else _ANY_SOURCE
    return find_video(row, place, (*layouts, *_POINT_FALLBACKS))


VIDEO_POINT_SET = SetSpec(
    name="molmo2_videopoint",
    hub="allenai/Molmo2-VideoPoint",
    aliases=("molmo2_video_point",),
    is_video=True,
    optional={
        **dict.fromkeys(("video_id", "video_path", "video_source", "question", "query", "label", "category"), TEXT),
        **dict.fromkeys(("two_fps_timestamps", "points"), LISTS),
        **dict.fromkeys(("clip_start", "clip_end"), NUMBER),
        "count": INTEGER,
        "annotator_unsure": BOOLEAN,
    },
    either=(("video_id", "video_path"), ("points",), ("label", "query")),
    placed_by=("video_id", "video_path", "count|points", "annotator_unsure", "clip_start", "clip_end"),
    identity=which_video,
    within=_clip_name,
    subset=_bucket,
    grouped=True,
    rows_per_shard=VIDEO_ROWS_PER_SHARD,
    parse=_parse_video_points,
    fit=_fit_clip,
    combine=_queries_of_a_clip,
    media=_pointed_video,
    units={
        "queries": "timestamps in seconds; points x, y in percent of the frame, a list for each timestamp",
        "clip": "from, to in seconds",
    },
)
