"""Rows of the sample that the converter must refuse, and why."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from converters.sample.rows import PicturePool, Row
from converters.sample.videos import VideoPool
from grain_molmo.rng import stable_hash

# In the order in which a set's bad rows take them.
PROBLEMS: dict[str, tuple[str, ...]] = {
    "pixmo-cap": ("empty_caption", "dead_url"),
    "pixmo-points": ("point_out_of_range", "wrong_sha256", "dead_url"),
    "pixmo-points-eval": ("point_out_of_range", "wrong_sha256", "dead_url"),
    "pixmo-count": ("point_out_of_range", "dead_url"),
    "pixmo-docs": ("not_an_image",),
    "pixmo-cap-qa": ("dead_url",),
    "pixmo-ask-model-anything": ("wrong_sha256", "dead_url"),
    "pixmo-clocks": ("bad_time",),
    "molmo2-cap": ("missing_video", "truncated_video", "empty_caption"),
    "molmo2-videocapqa": ("missing_video", "empty_answer", "truncated_video"),
    "molmo2-videosubtitleqa": ("missing_video", "empty_answer", "truncated_video"),
    "molmo2-askmodelanything": ("missing_video", "empty_answer", "truncated_video"),
    "molmo2-videopoint": ("point_out_of_range", "missing_video", "time_off_grid", "truncated_video"),
    "molmo2-videotrack": ("unknown_track_id", "missing_video", "point_out_of_range", "truncated_video"),
    "molmo2-multiimageqa": ("dead_url", "broken_picture", "empty_answer"),
    "molmo2-synmultiimageqa": ("broken_picture", "empty_answer"),
    "molmo2-multiimagepoint": ("dead_url", "point_out_of_range", "broken_picture"),
}
NEEDS_POINTS = ("point_out_of_range", "time_off_grid", "unknown_track_id")
NOT_AN_IMAGE = b"<!DOCTYPE html><title>404 Not Found</title>"


@dataclass(frozen=True)
class BadRow:
    """A row that the converter must refuse; `split` as in `SampleSet.counts`, `row` counts from 0 in its file.

    `url` is what the row asks for in vain, where that is the problem: a URL or, of a video, its id or clip.
    """

    split: str
    row: int
    reason: str  # one of PROBLEMS
    url: str = ""


@dataclass(frozen=True)
class Pools:
    """Where the pictures and videos of one sample come from."""

    pictures: PicturePool
    videos: VideoPool


def spoil(table: list[Row], name: str, split: str, pools: Pools, number: int) -> list[BadRow]:
    """Spoil `number` rows of a table (at most half of it) in place and return which, in the table's order."""
    rng = np.random.default_rng(stable_hash("problems", pools.pictures.seed, name, split, len(table)))
    reasons = PROBLEMS[name]
    free = [int(i) for i in rng.permutation(len(table))]
    bad_rows = []
    for i in range(min(number, len(table) // 2)):
        reason = reasons[i % len(reasons)]
        suited = (row for row in free if reason not in NEEDS_POINTS or _has_points(table[row]))
        row = next(suited, None)
        if row is None:  # a short table may hold nothing but labels of absent objects
            continue
        free.remove(row)
        unique = f"{name}-{row:06d}"
        problem = _video_problem if "video_id" in table[row] or "clip" in table[row] else _picture_problem
        table[row] |= problem(table[row], reason, unique, pools)
        bad_rows.append(BadRow(split, row, reason, _asked_for(table[row], reason)))
    return sorted(bad_rows, key=lambda bad: bad.row)


def _has_points(row: Row) -> bool:
    return bool(row.get("frame_trajectories") or row.get("count") or row.get("masks") or sum(row.get("counts", ())))


def _asked_for(row: Row, reason: str) -> str:
    if "image_url" in row:
        return row["image_url"]
    if reason in ("missing_video", "truncated_video"):
        return row.get("clip") or row["video_id"]
    if reason in ("dead_url", "broken_picture"):
        return row["image_urls"][-1] if "image_urls" in row else ""
    return ""


# ---- pictures ----


def _picture_problem(row: Row, reason: str, unique: str, pools: Pools) -> dict[str, Any]:
    """The columns to change. A bad URL is the row's own, so that rows that share its picture stay good."""
    pool = pools.pictures
    match reason:
        case "dead_url" if "image_urls" in row:
            return _last_url(row, pool.url(f"gone/{unique}.jpg"))
        case "dead_url":
            return {"image_url": pool.url(f"gone/{unique}.jpg")}
        case "broken_picture" if "image_urls" in row:
            url = pool.url(f"broken/{unique}.jpg")
            pool.store(url, NOT_AN_IMAGE)
            return _last_url(row, url)
        case "broken_picture":
            return {"images": [*row["images"][:-1], {"bytes": NOT_AN_IMAGE, "path": row["images"][-1]["path"]}]}
        case "wrong_sha256":
            url = pool.url(f"changed/{unique}.jpg")
            pool.store(url, pool.cached(row["image_url"]))
            return {
                "image_url": url,
                "image_sha256": hashlib.sha256(b"the picture before it was changed").hexdigest(),
            }
        case "empty_caption":
            return {"caption": " "}
        case "empty_answer":
            return {"qa_pairs": row["qa_pairs"] | {"answer": [" ", *row["qa_pairs"]["answer"][1:]]}}
        case "point_out_of_range":
            return {"points": _one_outside(row["points"])}
        case "not_an_image":
            return {"image": {"bytes": NOT_AN_IMAGE, "path": row["image"]["path"]}}
        case "bad_time":
            return {"minute_visible": (row["minute_visible"] + 30) % 60}
        case _:
            raise ValueError(reason)


def _last_url(row: Row, url: str) -> dict[str, Any]:
    """Another URL for the last picture; the hash stays that of the URL's text where it was so."""
    last_hash = row["image_sha256s"][-1]
    if last_hash == hashlib.sha256(row["image_urls"][-1].encode()).hexdigest():
        last_hash = hashlib.sha256(url.encode()).hexdigest()
    return {"image_urls": [*row["image_urls"][:-1], url], "image_sha256s": [*row["image_sha256s"][:-1], last_hash]}


def _one_outside(points: Any) -> Any:
    """Move the first point beyond the right border: pixmo-count has columns of pixels, the others percents."""
    if isinstance(points, dict):
        return {"x": [9999.0, *points["x"][1:]], "y": points["y"]}
    if isinstance(points[0], list):  # by picture or time, which may have none
        at = next(i for i, there in enumerate(points) if there)
        return [*points[:at], _one_outside(points[at]), *points[at + 1 :]]
    return [{"x": 131.5, "y": points[0]["y"]}, *points[1:]]


# ---- videos ----


def _video_problem(row: Row, reason: str, unique: str, pools: Pools) -> dict[str, Any]:
    """The columns to change. A bad video is the row's own, so that rows that share the good one stay good."""
    other_id = f"{stable_hash('no video', pools.videos.seed, unique):016x}"[:11]
    match reason:
        case "missing_video":
            return _other_video(row, other_id)
        case "truncated_video":
            changed = _other_video(row, other_id)
            pools.videos.break_copy(_stem(row), _stem(row | changed))
            return changed
        case "empty_caption":
            return dict.fromkeys(("video_caption", "merged_caption", "video_frame_merged_caption"), " ")
        case "empty_answer":
            return {"Answer" if "Answer" in row else "answer": " "}
        case "time_off_grid":
            times = row["two_fps_timestamps"]
            return {"two_fps_timestamps": [times[0] + 0.2, *times[1:]]}
        case "point_out_of_range" if "frame_trajectories" in row:
            return {"frame_trajectories": _first_point(row, point=[row["width"] + 9999.0, 1.0])}
        case "point_out_of_range":
            return {"points": _one_outside(row["points"])}
        case "unknown_track_id":
            return {"mask_id": [f"{i}_of_another_row" for i in row["mask_id"]]}
        case _:
            raise ValueError(reason)


def _other_video(row: Row, other_id: str) -> dict[str, Any]:
    if "clip" in row:
        clip = f"{row['video_dataset'].lower()}_{other_id}"
        return {"video": clip, "clip": clip}
    folder, slash, _ = row["video_id"].rpartition("/")
    return {"video_id": f"{folder}{slash}{other_id}"}


def _stem(row: Row) -> str:
    """Name of the row's video file, without its ending."""
    if "clip" in row:
        return row["clip"]
    name = row["video_id"].rpartition("/")[2]
    return f"{name}_2fps" if "two_fps_timestamps" in row else name


def _first_point(row: Row, **changed: Any) -> list[dict[str, Any]]:
    first, *others = row["frame_trajectories"]
    return [first | {"points": [first["points"][0] | changed, *first["points"][1:]]}, *others]
