"""The sample's rows about videos, with the columns of the hub's Molmo2 sets (Molmo2 datasets §1B.1, §1B.4, §1C.1)."""

import bisect
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from converters.sample.film_text import (
    FilmQuestion,
    clip_bounds,
    clip_caption,
    film_questions,
    frame_captions,
    frame_merged_caption,
    merged_caption,
    point_target,
    points_on_grid,
    short_caption,
    subtitle_questions,
    transcript,
)
from converters.sample.films import Film, film_points
from converters.sample.rows import Row
from converters.sample.text import plural
from converters.sample.videos import VideoPool
from grain_molmo.rng import stable_hash

POINT_CONFIGS = (
    "action_or_event",
    "animal",
    "anomaly",
    "comparative reference",
    "indirect reference",
    "object",
    "referring expression",
    "spatial reference",
)
TRACK_TASKS = ("track", "ground", "single_point_track")
MAX_POINT_SECONDS = 63  # longer videos are pointed at in a clip (Molmo2 datasets §1B.4)
HELD_OUT = 100_000  # films of validation splits are counted from here

_TEXTS = pa.list_(pa.string())
_QUESTION = {"Question": pa.string(), "Answer": pa.string(), "NegativeAnswers": _TEXTS, "Category": pa.string()}
_POINT = pa.struct({"x": pa.float64(), "y": pa.float64()})
_TRACK_POINT = pa.struct({"id": pa.int64(), "point": pa.list_(pa.float64()), "occluded": pa.bool_()})
SCHEMAS: dict[str, pa.Schema] = {
    "molmo2-cap": pa.schema(
        {
            "video_id": pa.string(),
            "video_start": pa.float64(),
            "video_end": pa.float64(),
            "video_caption": pa.string(),
            "merged_caption": pa.string(),
            "video_frame_merged_caption": pa.string(),
            "video_transcript": pa.string(),
            "clip_captions": _TEXTS,
            "frame_captions": _TEXTS,
            "annotation_score": pa.int64(),
        }
    ),
    "molmo2-videocapqa": pa.schema({"video_id": pa.string(), **_QUESTION}),
    "molmo2-videosubtitleqa": pa.schema(
        {
            "video_id": pa.string(),
            **_QUESTION,
            "AlignmentType": pa.string(),
            "subtitle": pa.list_(pa.struct({"start": pa.float64(), "end": pa.float64(), "text": pa.string()})),
        }
    ),
    "molmo2-askmodelanything": pa.schema({"video_id": pa.string(), "question": pa.string(), "answer": pa.string()}),
    "molmo2-videopoint": pa.schema(
        {
            "video_id": pa.string(),
            "question": pa.string(),
            "label": pa.string(),
            "count": pa.int64(),
            "two_fps_timestamps": pa.list_(pa.float64()),
            "points": pa.list_(pa.list_(_POINT)),
            "raw_frames": pa.list_(pa.int64()),
            "raw_timestamps": pa.list_(pa.float64()),
            "annotator_unsure": pa.bool_(),
            "category": pa.string(),
            "video_duration": pa.float64(),
            "video_source": pa.string(),
            "clip_start": pa.float64(),
            "clip_end": pa.float64(),
        }
    ),
    "molmo2-videotrack": pa.schema(
        {
            "id": pa.string(),
            "video": pa.string(),
            "clip": pa.string(),
            "video_dataset": pa.string(),
            "fps": pa.int64(),
            "sampling_fps": pa.int64(),
            "start_frame": pa.int64(),
            "end_frame": pa.int64(),
            "expression": pa.string(),
            "width": pa.int64(),
            "height": pa.int64(),
            "mask_id": _TEXTS,
            "frame_trajectories": pa.list_(
                pa.struct({"frame": pa.int64(), "time": pa.float64(), "points": pa.list_(_TRACK_POINT)})
            ),
        }
    ),
}
LONG_QA_SCHEMA = pa.schema({"video_id": pa.string(), "qa_list": pa.list_(pa.struct(_QUESTION))})


def _rng(pool: VideoPool, name: str, *parts: str | int) -> np.random.Generator:
    return np.random.default_rng(stable_hash("sample", pool.seed, name, *parts))


def _kind(video: int) -> tuple[str, int]:
    """Kind and index of the film behind video 0, 1, 2, ... of the sets on YouTube videos; each sixteenth is long."""
    return ("long", video // 16) if video % 16 == 11 else ("films", video)


# ---- captions and questions: the same videos in each set ----


def cap_rows(pool: VideoPool, split: str, number: int) -> list[Row]:
    """Return rows of molmo2-cap, two about each video; every ninth has a score too low for training (below 3).

    Every fifth lacks `video_caption` and `video_transcript`, as on the hub.
    """
    rows = []
    for row in range(number):
        kind, index = _kind(row // 2) if split == "train" else ("films", HELD_OUT + row // 2)
        film, rng = pool.film(kind, index), _rng(pool, "molmo2-cap", split, row)
        is_full = row % 5 != 4
        rows.append(
            {
                "video_id": pool.captioned(kind, index),
                "video_start": 0.0,
                "video_end": film.clip.seconds,
                "video_caption": short_caption(film, rng) if is_full else None,
                "merged_caption": merged_caption(film, rng),
                "video_frame_merged_caption": frame_merged_caption(film, rng),
                "video_transcript": transcript(film) if is_full else None,
                "clip_captions": [clip_caption(film, *bounds) for bounds in clip_bounds(film)],
                "frame_captions": frame_captions(film),
                "annotation_score": 2 if row % 9 == 8 else int(rng.integers(3, 6)),
            }
        )
    return rows


def _asked(question: FilmQuestion, rng: np.random.Generator) -> Row:
    """A question in the hub's columns, with up to three wrong answers."""
    chosen = sorted(rng.permutation(len(question.wrong))[:3].tolist())
    return {
        "Question": question.question,
        "Answer": question.answer,
        "NegativeAnswers": [question.wrong[i] for i in chosen],
        "Category": question.category,
    }


def cap_qa_rows(pool: VideoPool, split: str, number: int) -> list[Row]:
    """Return rows of molmo2-videocapqa: four a video in CapQA, one video a row in LongCapQA."""
    if split == "LongCapQA":
        return [_long_qa_row(pool, row) for row in range(number)]
    rows = []
    for row in range(number):
        kind, index = _kind(row // 4)
        question = film_questions(pool.film(kind, index), _rng(pool, "video-cap-qa", row // 4))[row % 4]
        asked = _asked(question, _rng(pool, "video-cap-qa wrong", row))
        rows.append({"video_id": pool.youtube(kind, index), **asked})
    return rows


def _long_qa_row(pool: VideoPool, row: int) -> Row:
    rng = _rng(pool, "long-cap-qa", row)
    questions = film_questions(pool.film("long", row % 2), rng)[:5]
    return {"video_id": pool.youtube("long", row % 2), "qa_list": [_asked(question, rng) for question in questions]}


def subtitle_qa_rows(pool: VideoPool, split: str, number: int) -> list[Row]:
    """Return rows of molmo2-videosubtitleqa, four a video, each with all that is said in the video."""
    rows = []
    for row in range(number):
        kind, index = _kind(row // 4)
        film = pool.film(kind, index)
        question = subtitle_questions(film, _rng(pool, "subtitle-qa", row // 4))[row % 4]
        subtitle = [{"start": start, "end": end, "text": text} for start, end, text in film.cues]
        asked = _asked(question, _rng(pool, "subtitle-qa wrong", row))
        more = {"AlignmentType": "visual_and_speech", "subtitle": subtitle}
        rows.append({"video_id": pool.youtube(kind, index), **asked, **more})
    return rows


def ask_model_anything_rows(pool: VideoPool, split: str, number: int) -> list[Row]:
    """Return rows of molmo2-askmodelanything, three a video."""
    rows = []
    for row in range(number):
        kind, index = _kind(row // 3)
        question = film_questions(pool.film(kind, index), _rng(pool, "video-ama", row // 3))[row % 3]
        answer = {"question": question.question, "answer": f"{question.answer}."}
        rows.append({"video_id": pool.youtube(kind, index), **answer})
    return rows


# ---- points ----


def point_rows(pool: VideoPool, split: str, number: int) -> list[Row]:
    """Return rows of molmo2-videopoint, three a video, of each category in turn; every tenth annotator was unsure."""
    return [_point_row(pool, row) for row in range(number)]


def _point_row(pool: VideoPool, row: int) -> Row:
    rng = _rng(pool, "video-point", row)
    kind, index, source = _pointed_video(row // 3)
    film, category = pool.film(kind, index), POINT_CONFIGS[row % len(POINT_CONFIGS)]
    seconds, window = film.clip.seconds, None
    if seconds > MAX_POINT_SECONDS:
        start = float(rng.integers(0, int(2 * (seconds - 60)) + 1)) / 2
        window = (start, start + 60.0)
    target = point_target(film, category, rng)
    label, by_time = target.label, points_on_grid(film, target.actors, *(window or (0.0, seconds)))
    if by_time is None:  # one of them never comes out from behind the wall, or not within the clip
        label, by_time = "gray cloud", {}
    times = sorted(by_time)
    frames = [bisect.bisect_right(film.clip.times, time_s + 1e-9) - 1 for time_s in times]
    width, height = film.clip.width, film.clip.height
    return {
        "video_id": pool.two_fps(kind, index, source),
        "question": f"How many {plural(label)} are in the video?"
        if category == "object"
        else f"How many can you count of these: {label}?",
        "label": label,
        "count": sum(map(len, by_time.values())),
        "two_fps_timestamps": times,
        "points": [[{"x": 100 * x / width, "y": 100 * y / height} for x, y in by_time[time_s]] for time_s in times],
        "raw_frames": frames,
        "raw_timestamps": [film.clip.times[frame] for frame in frames],
        "annotator_unsure": row % 10 == 9,
        "category": category,
        "video_duration": seconds,
        "video_source": source,
        "clip_start": window and window[0],
        "clip_end": window and window[1],
    }


def _pointed_video(video: int) -> tuple[str, int, str]:
    """Kind and index of the film behind a video, and the source that it is said to come from."""
    in_eight = video % 8
    if in_eight == 1:
        return "crowds", video // 8, "youtube"
    if in_eight == 3:
        return "long", video // 8, "youtube"
    return "films", video, {5: "MammalNet", 6: "generated"}.get(in_eight, "youtube")


# ---- tracks ----


def track_rows(pool: VideoPool, split: str, number: int) -> list[Row]:
    """Return rows of a task of molmo2-videotrack, two a video; the tasks share the videos."""
    return [_track_row(pool, split.partition("/")[0], row) for row in range(number)]


def _track_row(pool: VideoPool, task: str, row: int) -> Row:
    rng = _rng(pool, "track", task, row)
    film, (source, clip) = pool.film("tracks", row // 2), pool.track(row // 2)
    label = list(film.labels)[rng.integers(len(film.labels))]
    actors = film.labels[label]
    expression = label if len(actors) == 1 else plural(label)
    if task == "single_point_track":
        actors, expression = actors[:1], label if len(actors) == 1 else f"one of the {plural(label)}"
    elif row % 12 == 11:
        actors, expression = [], "gray cloud"
    fps, sampling_fps = int(film.clip.fps), int(rng.integers(1, 3))
    return {
        "id": f"{clip}_{task}_{row}",
        "video": clip,
        "clip": clip,
        "video_dataset": source,
        "fps": fps,
        "sampling_fps": sampling_fps,
        "start_frame": 0,
        "end_frame": len(film.clip.times) - 1,
        "expression": expression,
        "width": film.clip.width,
        "height": film.clip.height,
        "mask_id": [str(i) for i in range(len(actors))],
        "frame_trajectories": _trajectories(film, actors, fps, fps // sampling_fps),
    }


def _trajectories(film: Film, actors: list[int], fps: int, step: int) -> list[dict[str, Any]]:
    """Every `step`th frame in which one of the actors is there, with their places; ids count from 0."""
    ids = {actor: i for i, actor in enumerate(actors)}
    frames = []
    for frame in range(0, len(film.clip.times), step):
        points = [
            {"id": ids[point.actor], "point": [point.x, point.y], "occluded": point.hidden}
            for point in film_points(film, frame / fps)
            if point.actor in ids
        ]
        if points:
            frames.append({"frame": frame, "time": frame / fps, "points": points})
    return frames


ROW_MAKERS: dict[str, Callable[[VideoPool, str, int], list[Row]]] = {
    "molmo2-cap": cap_rows,
    "molmo2-videocapqa": cap_qa_rows,
    "molmo2-videosubtitleqa": subtitle_qa_rows,
    "molmo2-askmodelanything": ask_model_anything_rows,
    "molmo2-videopoint": point_rows,
    "molmo2-videotrack": track_rows,
}
