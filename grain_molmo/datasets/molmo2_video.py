"""The six sets of videos (Molmo2 datasets §1B.3, §1B.4, §1C.2).

Every example has `video` (a LazyVideo), `subtitle` if there is one, fields of its own, `message_list` (what the model
learns: one branch of a message tree per annotation) and `metadata`, which says the part of the video to show and how to
sample it. All times in an example count from where that part begins.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from grain_molmo.datasets.base import Dataset, Example, PathLike, StoreDataset, converted_splits, require
from grain_molmo.errors import ConfigError
from grain_molmo.store import Record, load_manifest, resolve_data_dir

CAPTION_STYLES = {
    "merged_caption": "video_merged_caption",
    "video_caption": "video_short_caption",
    "video_frame_merged_caption": "video_long_caption",
}
POINT_BUCKETS = {"0_5": (0, 5), "6_25": (6, 25), "26_60": (26, 60)}
"""Store splits of Molmo2-VideoPoint by number of points, `train_0_5`; queries that their annotator was not sure of are
in `train_0_5_unsure`."""
POINT_STYLES = ("video_point_count", "video_point")
MULTI_TURN_PROBABILITY = 0.2
TRACK_STYLES = {
    "track": "video_point_track_per_frame",
    "ground": "video_point_ground_start_end",
    "single_point_track": "video_single_point_track_per_frame",
}
MAX_TRACK_FPS = 10


class _Molmo2Video(StoreDataset):
    """What the sets have in common: one video an example, metadata from the record."""

    def _example(self, record: Record, message_list: list[dict[str, Any]], fields: Mapping[str, Any]) -> Example:
        annotation = record.annotation
        metadata = {**self.metadata(record), "video_id": annotation["video_id"]}
        if annotation.get("clip"):
            metadata["clip_start_time"], metadata["clip_end_time"] = annotation["clip"]
        example: Example = {"video": self.videos(record)[0], **fields}
        return {**example, "message_list": message_list, "metadata": metadata}


class Molmo2Cap(_Molmo2Video):
    """Dense captions of videos, up to three a video: of the whole, short, and with what single frames show.

    Args:
        split: "train" or "validation".
        data_dir: the store's folder.
    """

    NAME = "molmo2_cap"

    def __init__(self, split: str = "train", data_dir: PathLike | None = None):
        super().__init__(split, data_dir)

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item`: fields `caption` (the longest kind that there is) and `captions` by kind."""
        record = self.records[item]
        captions = record.annotation["captions"]
        kinds = [kind for kind in CAPTION_STYLES if kind in captions]
        messages = [{"style": CAPTION_STYLES[kind], "text": captions[kind]} for kind in kinds]
        return self._example(record, messages, {"caption": captions[kinds[-1]], "captions": captions})


class _VideoQa(_Molmo2Video):
    """Questions about a video, each a branch.

    Args:
        split: "train"; the hub has no other.
        data_dir: the store's folder.
    """

    def __init__(self, split: str = "train", data_dir: PathLike | None = None):
        super().__init__(split, data_dir)

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item`: fields `question` and `answer` (of the first), `questions`, `answers` and `subtitles`."""
        record = self.records[item]
        entries, subtitle = record.annotation["questions"], record.annotation.get("subtitle")
        if isinstance(subtitle, list):
            subtitle = [(start_s, end_s, text) for start_s, end_s, text in subtitle]
        fields = {
            "question": entries[0]["question"],
            "answer": entries[0]["answer"],
            "questions": [entry["question"] for entry in entries],
            "answers": [entry["answer"] for entry in entries],
            "subtitles": subtitle,
            **({"subtitle": subtitle} if subtitle else {}),
        }
        return self._example(record, [_choice_or_open(entry, rng) for entry in entries], fields)


def _choice_or_open(entry: Mapping[str, Any], rng: np.random.RandomState) -> dict[str, Any]:
    """Multiple choice if there are wrong answers: the right one stands among them in a place of each visit's own."""
    question, answer = entry["question"], entry["answer"]
    if not entry.get("negatives"):
        return {"style": "user_qa", "question": question, "answer": answer}
    options = list(entry["negatives"])
    place = int(rng.randint(len(options) + 1))
    options.insert(place, answer)
    message = {"style": "video_multiple_choice", "question": question, "options": options, "answer_idx": place}
    return {**message, "category": entry["category"]} if entry.get("category") else message


class Molmo2VideoCapQa(_VideoQa):
    """Generated questions from captions of videos, each with wrong answers to choose from. See `_VideoQa`."""

    NAME = "molmo2_videocapqa"


class Molmo2VideoSubtitleQa(_VideoQa):
    """Generated questions from captions and subtitles, with wrong answers and with the subtitles. See `_VideoQa`."""

    NAME = "molmo2_videosubtitleqa"


class Molmo2AskModelAnything(_VideoQa):
    """Questions that people asked about videos, with corrected answers. See `_VideoQa`."""

    NAME = "molmo2_askmodelanything"


class Molmo2VideoPoint(_Molmo2Video):
    """What people pointed at in videos, in clips of at most 63 seconds.

    Queries about a whole video share an example, which one time in five is a conversation instead of a tree.

    Args:
        split: "train".
        min_points, max_points: only queries with so many points: 0 to 5, 6 to 25, 26 to 60, or neighbours of these.
        oversample: queries with 6 to 25 points twice an epoch, those with more four times.
        unsure: also those that their annotator was not sure of. The published training leaves them out by its card
            (its code does not).
        data_dir: the store's folder.

    Raises:
        ConfigError: no whole group of queries has so many points.
        StoreError: the set was not converted into the folder.
    """

    NAME = "molmo2_videopoint"

    def __init__(
        self,
        split: str = "train",
        min_points: int = 0,
        max_points: int = 60,
        oversample: bool = False,
        unsure: bool = False,
        data_dir: PathLike | None = None,
    ):
        buckets = [name for name, (low, high) in POINT_BUCKETS.items() if min_points <= low and high <= max_points]
        ends = [POINT_BUCKETS[name] for name in buckets]
        if not ends or (ends[0][0], ends[-1][1]) != (min_points, max_points):
            known = ", ".join(f"{low} to {high}" for low, high in POINT_BUCKETS.values())
            raise ConfigError(f"min_points={min_points}, max_points={max_points}: must be made of whole parts {known}")
        visits = {"6_25": 2, "26_60": 4} if oversample else {}
        names = [name for name in buckets for _ in range(visits.get(name, 1))]
        names = [name for bucket in names for name in ((bucket, f"{bucket}_unsure") if unsure else (bucket,))]
        super().__init__(split, data_dir, store_splits=converted_splits(self.NAME, split, data_dir, names))

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item`: fields `query` (of the first) and `points`, dicts of x, y in 0-1, timestamp and object_id."""
        record = self.records[item]
        queries = record.annotation["queries"]
        messages = [_point_message(query, rng) for query in queries]
        # Queries about a clip of a longer video stand alone, so these are about a whole video (Molmo2 §2.7).
        if len(messages) > 1 and rng.uniform() < MULTI_TURN_PROBABILITY:
            messages = [{"multi_turn_messages": messages}]
        first = queries[0]
        fields = {"query": first.get("prompt") or first.get("question") or first["label"], "points": _flat(first)}
        return self._example(record, messages, fields)


def _point_message(query: Mapping[str, Any], rng: np.random.RandomState) -> dict[str, Any]:
    message = {key: query[key] for key in ("label", "timestamps", "points", "count")}
    if query.get("prompt"):  # a request in somebody's own words
        return {"style": "video_point", **message, "prompt": query["prompt"]}
    style = POINT_STYLES[rng.randint(len(POINT_STYLES))]
    # The questions ask how many; where no number is answered, a template asks to point.
    question = {"question": query["question"]} if style == "video_point_count" and query.get("question") else {}
    return {"style": style, **message, **question}


def _flat(query: Mapping[str, Any]) -> list[dict[str, float]]:
    """The points one by one. Published rows do not say which of them are one thing, so each has an id of its own."""
    moments = zip(query["timestamps"], query["points"], strict=True)
    points = [(time_s, x, y) for time_s, points in moments for x, y in points]
    given = [number for numbers in query.get("objects", ()) for number in numbers]
    return [
        {"x": x / 100, "y": y / 100, "timestamp": time_s, "object_id": number}
        for number, (time_s, x, y) in zip(given or range(len(points)), points, strict=True)
    ]


class Molmo2VideoTrack(_Molmo2Video):
    """Where things are in a video, frame by frame.

    Args:
        split: "train".
        task: "track" (in every frame), "ground" (where first and last), "single_point_track" (from a point that is
            given), or None for all that were converted.
        sampling_fps: only annotations of this rate, frames a second; None takes all.
        data_dir: the store's folder.
    """

    NAME = "molmo2_videotrack"

    def __init__(
        self,
        split: str = "train",
        task: str | None = None,
        sampling_fps: int | None = None,
        data_dir: PathLike | None = None,
    ):
        require("task", task, (None, *TRACK_STYLES))
        tasks = [task] if task else list(TRACK_STYLES)
        rates = [sampling_fps] if sampling_fps else _rates(self.NAME, split, data_dir)
        names = [f"{one}_{rate}fps" for one in tasks for rate in rates]
        super().__init__(split, data_dir, store_splits=converted_splits(self.NAME, split, data_dir, names))
        self.task, self.sampling_fps = task, sampling_fps

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item`: fields `query` and `tracks`, dicts of x, y in 0-1, timestamp and object_id.

        `tracks` leaves out where a thing is hidden.
        """
        record = self.records[item]
        facts = record.annotation
        frames = [
            {
                "frame": number,
                "time": time_s,
                "points": {place: {"point": [x, y], "occluded": hidden} for place, x, y, hidden in entries},
            }
            for number, time_s, entries in facts["frames"]
        ]
        message = {
            "style": TRACK_STYLES[facts["task"]],
            "label": facts["expression"],
            "sampling_fps": facts["sampling_fps"],
            "width": facts["width"],
            "height": facts["height"],
            "points": frames or None,
        }
        tracks = [
            {"x": x / facts["width"], "y": y / facts["height"], "timestamp": time_s, "object_id": place}
            for _, time_s, entries in facts["frames"]
            for place, x, y, hidden in entries
            if not hidden
        ]
        fields = {"query": facts.get("query") or facts["expression"], "tracks": tracks}
        example = self._example(record, [message], fields)
        example["metadata"]["sampler_overrides"] = track_sampling(
            facts["fps"], facts["sampling_fps"], self.sampling_fps
        )
        return example


def track_sampling(fps: int | None, sampling_fps: int, asked_fps: int | None = None) -> dict[str, Any]:
    """How to sample the video of a track, so that frames fall onto those of the annotation (Molmo2 §4.2).

    >>> track_sampling(6, 2)["candidate_sampling_fps"], track_sampling(30, 2, 2)["candidate_sampling_fps"]
    ([1, 2, 3, 6], [2, 6, 10])

    Args:
        fps: of the video, or None if it is not a whole number; then only the annotation's own rate will do.
        sampling_fps: of the annotation.
        asked_fps: the dataset's `sampling_fps`.
    """
    step = asked_fps or 1
    candidates = [rate for rate in range(step, MAX_TRACK_FPS + 1, step) if fps is not None and fps % rate == 0]
    return {
        "frame_sample_mode": "fps",
        "candidate_sampling_fps": candidates or [sampling_fps],
        "min_fps": asked_fps or sampling_fps,
    }


def _rates(dataset: str, split: str, data_dir: PathLike | None) -> Sequence[int]:
    """Rates of annotation that were converted, ascending; 1 if there are none, for the error to name."""
    converted = load_manifest(resolve_data_dir(data_dir), dataset)
    last = [name.rpartition("_")[2] for name in converted if name.startswith(f"{split}_")]
    return sorted({int(rate.removesuffix("fps")) for rate in last if rate.removesuffix("fps").isdecimal()}) or [1]


_track = functools.partial(Molmo2VideoTrack, task="track")
_single = functools.partial(Molmo2VideoTrack, task="single_point_track")
_points = {
    f"{prefix}_{name}": functools.partial(Molmo2VideoPoint, min_points=low, max_points=high)
    for prefix in ("molmo2_video_point_minmax", "vixmo_points_minmax")
    for name, (low, high) in POINT_BUCKETS.items()
}
_oversampled = functools.partial(Molmo2VideoPoint, oversample=True)

VIDEO_DATASETS: dict[str, Callable[..., Dataset]] = {
    "molmo2_cap": Molmo2Cap,
    "molmo2_captions": Molmo2Cap,
    "vixmo3_top_level_captions_min_3": Molmo2Cap,
    "molmo2_videocapqa": Molmo2VideoCapQa,
    "molmo2_video_cap_qa": Molmo2VideoCapQa,
    "molmo2_syn_captions_qa": Molmo2VideoCapQa,
    "vixmo_syn_video_capqa_v2": Molmo2VideoCapQa,  # as the mixtures call it
    "molmo2_videosubtitleqa": Molmo2VideoSubtitleQa,
    "molmo2_video_subtitle_qa": Molmo2VideoSubtitleQa,
    "molmo2_syn_captions_subtitle_qa": Molmo2VideoSubtitleQa,
    "vixmo_syn_video_capqa_with_sub_v2": Molmo2VideoSubtitleQa,  # as the mixtures call it
    "molmo2_askmodelanything": Molmo2AskModelAnything,
    "molmo2_ask_model_anything": Molmo2AskModelAnything,
    "molmo2_human_qa": Molmo2AskModelAnything,
    "vixmo_human_qa": Molmo2AskModelAnything,  # as the mixtures call it
    "molmo2_videopoint": Molmo2VideoPoint,
    "molmo2_video_point": Molmo2VideoPoint,
    **_points,
    "vixmo_points_oversample": _oversampled,
    "vixmo_points_oversample_no_clip": _oversampled,  # the published one has the same clips
    "molmo2_videotrack": Molmo2VideoTrack,  # all three tasks
    "molmo2_video_track": _track,
    "molmo2_video_track_1fps": functools.partial(_track, sampling_fps=1),
    "molmo2_video_track_2fps": functools.partial(_track, sampling_fps=2),
    "molmo2_video_track_ground": functools.partial(Molmo2VideoTrack, task="ground"),
    "molmo2_video_single_point_track": _single,
    "molmo2_video_single_point_track_1fps": functools.partial(_single, sampling_fps=1),
    "molmo2_video_single_point_track_2fps": functools.partial(_single, sampling_fps=2),
}
"""The sets by the names that mixtures call them."""
