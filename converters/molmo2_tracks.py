"""What people followed in videos: Molmo2-VideoTrack.

Facts of the hub: Molmo2 datasets §1C. Three kinds of rows are understood: those that training uses
(`frame_trajectories`, in the configs track, ground and single_point_track), the raw annotations (`points` of each
object in every frame), and the simpler ones of a local file: `query` and flat `tracks` of {x, y, timestamp, object_id}
with x and y in 0-1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters import schema
from converters.molmo2_points import EDGE_S, flat_points, label_of_request, video_facts
from converters.molmo2_videos import ANYWHERE, VIDEO_ROWS_PER_SHARD, find_video, video_id, which_video
from converters.points import percent_points, pixel_points
from converters.rows import Row
from converters.schema import LISTS, NUMBER, TEXT
from converters.spec import Annotation, MediaSource, Place, SetSpec
from grain_molmo.datasets.molmo2_video import TRACK_STYLES, track_sampling
from grain_molmo.errors import RowError
from grain_molmo.store import MediaRef

TASKS = tuple(TRACK_STYLES)
_SIMPLE_FPS = 2  # of flat tracks that say nothing else
# [frame index, time in seconds, [[object index, x, y, is occluded], ...]]: x and y in pixels.
_Frame = list[Any]


def _parse_track(row: Row, place: Place) -> Annotation:
    shared = {"video_id": _clip_of(row) or video_id(row), "task": place.config}
    if isinstance(source := row.get("video_dataset"), str):
        shared["video_dataset"] = source
    if row.get("tracks") is not None:
        return shared | _parse_simple_track(row)
    size = [schema.integer(row, name if row.get(name) is not None else name[0]) for name in ("width", "height")]
    fps, sampling_fps = _rates(row)
    frames = _hub_frames(row) if row.get("frame_trajectories") is not None else _raw_frames(row, fps, sampling_fps)
    if len({frame[0] for frame in frames}) < len(frames):
        raise RowError("repeated_frame", "the same frame is listed twice")
    expression = schema.text(row, "expression" if row.get("expression") is not None else "exp").strip()
    shared |= {"expression": expression, "fps": fps, "sampling_fps": sampling_fps}
    return {**shared, "width": size[0], "height": size[1], "frames": sorted(frames, key=lambda frame: frame[0])}


def _rates(row: Row) -> tuple[int, int]:
    """(frames a second of the video, of the annotation): whole numbers, the first a multiple of the second."""
    rates = schema.number(row, "fps"), 1.0 if row.get("sampling_fps") is None else schema.number(row, "sampling_fps")
    fps, sampling_fps = (int(rate) if rate.is_integer() else 0 for rate in rates)
    if fps < 1 or sampling_fps < 1 or fps % sampling_fps:
        raise RowError("bad_fps", f"fps {rates[0]:g} is no whole multiple of sampling_fps {rates[1]:g}")
    return fps, sampling_fps


def _hub_frames(row: Row) -> list[_Frame]:
    places = _object_places(row)
    frames = []
    for frame, time, points in schema.entries(row, "frame_trajectories", "frame", "time", "points"):
        number = schema.integer({"frame": frame}, "frame")
        entries = []
        for key, point, occluded in schema.entries({"points": points or []}, "points", "id", "point", "occluded"):
            is_occluded = schema.flag({"occluded": occluded}, "occluded")
            x, y = [0.0, 0.0] if is_occluded and not point else _xy(point)
            entries.append([_place_of(places, key), x, y, is_occluded])
        frames.append([number, schema.number({"time": time}, "time"), entries])
    return frames


def _raw_frames(row: Row, fps: int, sampling_fps: int) -> list[_Frame]:
    """Frames of trajectories that hold a point, or an empty list, for every frame of the clip."""
    places = _object_places(row)
    frames: dict[int, list[Any]] = {}
    for key, points in schema.entries(row, "points", "object_id", "points"):
        if not isinstance(points, list):
            raise RowError("wrong_type", f"points of object {key!r} are {type(points).__name__}, expected a list")
        if row.get("n_frames") is not None and len(points) != schema.integer(row, "n_frames"):
            raise RowError("length_mismatch", f"object {key!r} has {len(points)} points, n_frames is {row['n_frames']}")
        for number in range(0, len(points), fps // sampling_fps):
            if points[number]:
                frames.setdefault(number, []).append([_place_of(places, key), *_xy(points[number]), False])
    return [[number, number / fps, entries] for number, entries in frames.items()]


def _object_places(row: Row) -> dict[str, int]:
    keys = row.get("mask_id")
    if not isinstance(keys, list) or not keys:
        raise RowError("missing_mask_id", "mask_id lists no object")
    return {str(key): place for place, key in enumerate(keys)}


def _place_of(places: Mapping[str, int], key: object) -> int:
    if str(key) not in places:
        raise RowError("unknown_object_id", f"object {key!r} is not in mask_id ({', '.join(places)})")
    return places[str(key)]


def _xy(point: Any) -> list[float]:
    xy = schema.numbers({"point": point}, "point")
    if len(xy) != 2:
        raise RowError("wrong_type", f"a point has {len(xy)} coordinates")
    return xy


def _parse_simple_track(row: Row) -> Annotation:
    """Flat tracks. Their size and frame numbers come from the video: until then x and y are in 0-1."""
    query = schema.text(row, "query").strip()
    fps = schema.integer(row, "sampling_fps") if row.get("sampling_fps") is not None else _SIMPLE_FPS
    if fps < 1:
        raise RowError("bad_fps", f"sampling_fps is {fps}")
    found = flat_points(row, "tracks")
    places = {key: place for place, key in enumerate(dict.fromkeys(key for _, _, key in found))}
    frames: dict[int, _Frame] = {}
    for time, point, key in found:
        number = round(time * fps)
        if abs(time * fps - number) > 0.01 * fps:
            raise RowError("timestamp_off_grid", f"{time} s is no multiple of 1/{fps} s; give sampling_fps")
        (inside,) = percent_points([point], query, scale=1.0)
        frames.setdefault(number, [number, number / fps, []])[2].append([places[key], *inside, False])
    shared = {"expression": label_of_request(query), "query": query, "fps": None, "sampling_fps": fps}
    return {**shared, "width": None, "height": None, "frames": [frames[number] for number in sorted(frames)]}


def _fit_track(piece: Annotation, medium: MediaRef) -> Annotation:
    """Times within the video, points within the size that they were annotated at."""
    duration_s, frames = video_facts(medium).duration_s, piece["frames"]
    outside = next((time for _, time, _ in frames if not -1e-6 <= time <= duration_s + EDGE_S), None)
    if outside is not None:
        raise RowError("timestamp_outside_video", f"{outside} s in a video of {duration_s:.2f} s")
    size = (piece["width"], piece["height"])
    if piece["fps"] is None:
        size = (medium.width, medium.height)
        frames = [[n, t, [[i, x * size[0] / 100, y * size[1] / 100, o] for i, x, y, o in at]] for n, t, at in frames]
    if min(size) < 1:
        raise RowError("bad_size", f"width {size[0]}, height {size[1]}")
    return {**piece, "width": size[0], "height": size[1], "frames": [_inside(frame, size) for frame in frames]}


def _inside(frame: _Frame, size: tuple[int, int]) -> _Frame:
    """A frame with its points in the video; where an occluded one is makes no difference."""
    number, time, entries = frame
    if len({place for place, *_ in entries}) < len(entries):
        raise RowError("repeated_object", f"an object is twice in frame {number}; does each have its own id?")
    kept = []
    for place, x, y, is_occluded in entries:
        if is_occluded:
            xy = [min(max(x, 0.0), float(size[0])), min(max(y, 0.0), float(size[1]))]
        else:
            (xy,) = pixel_points([[x, y]], size, f"frame {number}, a video")
        kept.append([place, *xy, is_occluded])
    return [number, time, kept]


def _clip_of(row: Row) -> str | None:
    """The name of the trimmed clip, which is what the annotation speaks of."""
    for name in ("clip", "video"):
        value = row.get(name)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return None


def _tracked_video(row: Row, place: Place) -> Sequence[MediaSource]:
    clip, source = _clip_of(row), row.get("video_dataset")
    if clip is None or isinstance(row.get("video_path"), str):
        return find_video(row, place, ANYWHERE)
    # Clips have names such as "0001": only those of the row's own source will do, or a flat folder.
    layouts = ["{id}"]
    if isinstance(source, str) and source.strip():
        home = f"**/{source.strip()}"
        layouts = [
            f"{home}/{inner}{{id}}" for inner in ("videos/*/", "videos/", "videos_all/", "", "*/", "*/*/")
        ] + layouts
    return find_video(row, place, layouts, name=clip)


def _sampling_rate(row: Row) -> str:
    """The store split of a track: by the rate of its annotation, so that mixtures open some without reading all."""
    rate = row.get("sampling_fps")
    if rate is None:
        rate = 1 if row.get("query") is None else _SIMPLE_FPS
    is_whole = isinstance(rate, int | float) and 1 <= rate <= 1000 and float(rate).is_integer()
    return f"{int(rate)}fps" if is_whole else "1fps"  # the row is rejected when it is read


def _track_requests(annotation: Annotation, medium: MediaRef) -> Sequence[Mapping[str, Any]]:
    fps, sampling_fps = annotation["fps"], annotation["sampling_fps"]
    return [track_sampling(fps, sampling_fps, asked) for asked in dict.fromkeys((None, sampling_fps))]


VIDEO_TRACK_SET = SetSpec(
    name="molmo2_videotrack",
    hub="allenai/molmo2-track-instruction",
    other_hubs=("allenai/Molmo2-VideoTrack",),
    aliases=("molmo2_video_track", "molmo2_track_instruction"),
    is_video=True,
    configs=TASKS,
    config_of_others="track",
    optional={
        **dict.fromkeys(("id", "video", "clip", "video_dataset", "video_path"), TEXT),
        **dict.fromkeys(("expression", "exp", "query"), TEXT),
        **dict.fromkeys(("fps", "sampling_fps", "width", "height", "w", "h", "n_frames"), NUMBER),
        **dict.fromkeys(("mask_id", "frame_trajectories", "points", "tracks"), LISTS),
    },
    either=(
        ("clip", "video", "video_id", "video_path"),
        ("expression", "exp", "query"),
        ("frame_trajectories", "points", "tracks"),
    ),
    placed_by=("clip", "video", "video_id", "video_path", "sampling_fps", "query"),
    identity=lambda row: _clip_of(row) or which_video(row),
    subset=_sampling_rate,
    rows_per_shard=VIDEO_ROWS_PER_SHARD // 4,
    parse=_parse_track,
    fit=_fit_track,
    media=_tracked_video,
    frame_requests=_track_requests,
    units={"frames": "[frame, seconds, [[object, x, y in pixels, is occluded], ...]]"},
)
