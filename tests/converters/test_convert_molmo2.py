"""Whole conversions of the Molmo2 sets: rows and media in, records and rejects out."""

import weakref
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clips import clip, put
from loopback import Web, all_files, convert, make_picture, records, rejects, write_rows

from converters import media
from converters.sets import SETS
from converters.to_arrayrecord import main
from grain_molmo.errors import ConfigError
from grain_molmo.store import MediaBytes, MediaStore, load_manifest
from grain_molmo.vision.prepared import PreparedFrames


@pytest.fixture
def videos(tmp_path: Path) -> str:
    for number in range(4):
        put(tmp_path / f"videos/v{number}.mp4", clip(number))
    put(tmp_path / "videos/long.mp4", clip(9, 70.0, 1))
    put(tmp_path / "videos/broken.mp4", b"<html>")
    return str(tmp_path / "videos")


def choice(video_id: str, number: int = 0) -> dict:
    row = {"video_id": video_id, "Question": f"Q{number}?", "Answer": "A", "NegativeAnswers": ["B"]}
    return {**row, "Category": "c"}


def test_questions_are_grouped_by_video_and_missing_or_broken_videos_are_rejected(videos: str, tmp_path: Path):
    rows = [choice(name, i) for i, name in enumerate(["v0", "v1", "gone", "v0", "broken", "v0"])]
    source = write_rows(tmp_path / "rows", rows, split="CapQA")
    summary = convert("molmo2_videocapqa", source, tmp_path, video_dir=videos)
    found = records(tmp_path, "molmo2_videocapqa")
    assert [record.id for record in found] == ["v0", "v1"]
    assert [entry["question"] for entry in found[0].annotation["questions"]] == ["Q0?", "Q3?", "Q5?"]
    assert [(one["row"], one["reason"]) for one in rejects(tmp_path, "molmo2_videocapqa")] == [
        (2, "missing_video"),
        (4, "not_a_video"),
    ]
    (ref,) = found[1].media
    assert (ref.kind, ref.width, ref.height) == ("video", 48, 32)
    assert MediaStore(tmp_path).read(ref.sha256) == clip(1)
    assert (summary.media, summary.media_new, summary.media_shared) == ("videos", 2, 0)
    assert "videos: 2 new" in summary.to_text()
    assert load_manifest(tmp_path, "molmo2_videocapqa")["train"].converter["video_frames"] is False


def test_a_video_of_several_sets_and_rows_is_stored_once(videos: str, tmp_path: Path, monkeypatch):
    read = Counter()
    real = media._read_video
    monkeypatch.setattr(media, "_read_video", lambda path: (read.update([path.name]), real(path))[1])
    captions = [{"video_id": "v0", "merged_caption": f"Caption {i}."} for i in range(5)]
    convert("molmo2_cap", write_rows(tmp_path / "cap", captions), tmp_path, video_dir=videos)
    assert read == {"v0.mp4": 1}
    asked = [{"video_id": name, "question": "Q?", "answer": "A."} for name in ("v0", "v1")]
    summary = convert("molmo2_askmodelanything", write_rows(tmp_path / "ask", asked), tmp_path, video_dir=videos)
    assert (summary.media_new, summary.media_shared, len(MediaStore(tmp_path))) == (1, 1, 2)


def test_the_hub_s_names_of_splits_become_the_store_s(videos: str, tmp_path: Path):
    row = {"video_id": "v0", "merged_caption": "Caption.", "annotation_score": 5.0}
    source = write_rows(tmp_path / "rows", [row])
    write_rows(tmp_path / "rows", [row, {**row, "annotation_score": 1.0}], split="val")
    assert convert("molmo2_cap", source, tmp_path, video_dir=videos).examples == {"train": 1, "validation": 1}
    assert load_manifest(tmp_path, "molmo2_cap")["validation"].rejected == {"low_score": 1}


def pointed(video_id: str, count: int, **changes: Any) -> dict:
    row = {"video_id": video_id, "question": "How many?", "label": "cats", "count": count, "annotator_unsure": False}
    times = {"two_fps_timestamps": [1.0], "points": [[{"x": float(i), "y": 1.0} for i in range(count)]]}
    return {**row, **times, "clip_start": None, "clip_end": None, "video_source": "youtube", **changes}


def test_queries_are_grouped_by_video_and_clip_and_split_by_their_number_of_points(videos: str, tmp_path: Path):
    clipped = {"clip_start": 1.0, "clip_end": 30.0}
    rows = [
        pointed("v0", 2),
        pointed("v0", 6),
        pointed("v0", 5),
        pointed("v0", 1, annotator_unsure=True),
        pointed("long", 3, **clipped),
        pointed("long", 4, **clipped),
        pointed("long", 4),
        pointed("v1", 60),
        pointed("v1", 61),
        pointed("v1", 26),
    ]
    source = write_rows(tmp_path / "rows", rows)
    summary = convert("molmo2_videopoint", source, tmp_path, video_dir=videos)
    assert summary.examples == {"train_0_5": 3, "train_6_25": 1, "train_0_5_unsure": 1, "train_26_60": 1}
    assert summary.rejected == {"no_clip": 1, "more_than_60_points": 1}
    first, second, third = records(tmp_path, "molmo2_videopoint", "train_0_5")
    assert [query["count"] for query in first.annotation["queries"]] == [2, 5]
    assert [second.id, third.id] == ["0_5/long@1-30", "0_5/long@1-30+1"]
    assert second.annotation["clip"] == [1.0, 30.0]
    assert [query["count"] for query in third.annotation["queries"]] == [4]
    assert second.annotation["queries"][0]["timestamps"] == [0.0]


def test_simple_points_are_split_by_their_number_too(videos: str, tmp_path: Path):
    flat = [{"x": 0.01 * i, "y": 0.5, "timestamp": 0.5, "object_id": i} for i in range(7)]
    rows = [{"video_path": "v0.mp4", "query": "Point to the cats", "points": points} for points in (flat, flat[:1])]
    summary = convert("molmo2_videopoint", write_rows(tmp_path / "rows", rows), tmp_path, video_dir=videos)
    assert summary.examples == {"train_6_25": 1, "train_0_5": 1}


def tracked(clip: str, sampling_fps: int = 1, fps: int = 4) -> dict:
    trajectories = [{"frame": 0, "time": 0.0, "points": [{"id": 0, "point": [1.0, 2.0], "occluded": False}]}]
    row = {"id": "i", "clip": clip, "video": "source", "video_dataset": "mose", "fps": fps, "expression": "a dog"}
    return {
        **row,
        "sampling_fps": sampling_fps,
        "width": 48,
        "height": 32,
        "mask_id": ["0"],
        "frame_trajectories": trajectories,
    }


def test_tracks_are_split_by_task_and_rate(videos: str, tmp_path: Path):
    write_rows(tmp_path / "rows/track", [tracked("v0"), tracked("v0", 2), tracked("v1"), tracked("v1", 3)])
    write_rows(tmp_path / "rows/ground", [tracked("v0")])
    summary = convert("molmo2_videotrack", str(tmp_path / "rows"), tmp_path, video_dir=videos)
    assert summary.examples == {"train_track_1fps": 2, "train_track_2fps": 1, "train_ground_1fps": 1}
    assert summary.rejected == {"bad_fps": 1}
    (record,) = records(tmp_path, "molmo2_videotrack", "train_ground_1fps")
    assert record.annotation["task"] == "ground"


def test_raw_and_simple_tracks_are_of_the_first_task(videos: str, tmp_path: Path):
    raw = {"id": "r", "clip": "v0", "video": "s", "video_dataset": "mose", "exp": "a dog", "fps": 4, "w": 48, "h": 32}
    raw |= {"mask_id": ["0"], "points": [{"object_id": "0", "points": [[1.0, 2.0]] * 8}]}
    convert("molmo2_videotrack", write_rows(tmp_path / "raw", [raw]), tmp_path / "a", video_dir=videos)
    (record,) = records(tmp_path / "a", "molmo2_videotrack", "train_track_1fps")
    assert [frame[0] for frame in record.annotation["frames"]] == [0, 4]
    tracks = [{"x": 0.5, "y": 0.5, "timestamp": 0.5, "object_id": 0}]
    simple = {"video_path": "v0.mp4", "query": "Track the dog", "tracks": tracks}
    convert("molmo2_videotrack", write_rows(tmp_path / "simple", [simple], "json"), tmp_path / "b", video_dir=videos)
    (record,) = records(tmp_path / "b", "molmo2_videotrack", "train_track_2fps")
    assert record.annotation["frames"] == [[1, 0.5, [[0, 24.0, 16.0, False]]]]


def test_an_example_needs_all_of_its_pictures(web: Web, tmp_path: Path):
    good = [web.picture(i, (20 + i, 10)) for i in range(6)]
    pairs = {"question": ["Q?"], "answer": ["A."]}
    lists = [good[:2], [good[0], web.url("/gone"), good[1]], good[:1], good, [good[1], good[1]], []]
    rows = [{"image_urls": urls, "image_sha256s": ["x"] * len(urls), "qa_pairs": pairs} for urls in lists]
    summary = convert("molmo2_multiimageqa", write_rows(tmp_path / "rows", rows), tmp_path)
    assert summary.examples == {"train_2_5_images": 2, "train_1_image": 1, "train_6_images": 1}
    assert summary.rejected == {"http_404": 1, "empty_image_urls": 1}
    (reject,) = rejects(tmp_path, "molmo2_multiimageqa", "train_2_5_images")
    assert reject["detail"].startswith("picture 2 of 3: ")
    first, second = records(tmp_path, "molmo2_multiimageqa", "train_2_5_images")
    assert [ref.width for ref in first.media] == [20, 21]
    assert second.media[0] == second.media[1]
    assert len(records(tmp_path, "molmo2_multiimageqa", "train_6_images")[0].media) == 6


def test_embedded_pictures_of_documents_are_stored_in_order(tmp_path: Path):
    def row(name: str, *pictures: bytes) -> dict:
        pairs = {"question": ["Q?"], "answer": ["A."], "explanation": ["E."]}
        return {"id": name, "images": [{"bytes": data, "path": None} for data in pictures], "qa_pairs": pairs}

    rows = [row("a", make_picture(1), make_picture(2)), row("b", make_picture(1), b"<html>")]
    write_rows(tmp_path / "rows/doc", rows)
    summary = convert("molmo2_synmultiimageqa", str(tmp_path / "rows"), tmp_path)
    assert (summary.examples, summary.rejected) == ({"train_doc": 1}, {"not_an_image": 1})
    (record,) = records(tmp_path, "molmo2_synmultiimageqa", "train_doc")
    assert [MediaStore(tmp_path).read(ref.sha256) for ref in record.media] == [make_picture(1), make_picture(2)]


def test_points_in_several_pictures_are_percent(web: Web, tmp_path: Path):
    row = {"image_urls": [web.picture(1), web.picture(2)], "labels": ["Cat", "dog"], "counts": [1, 0]}
    row |= {"points": [[{"x": 10.0, "y": 99.0}], []], "collection_method": ["pointing", "pointing"]}
    bad = {**row, "points": [[{"x": 640.0, "y": 99.0}], []]}
    summary = convert("molmo2_multiimagepoint", write_rows(tmp_path / "rows", [row, bad, bad]), tmp_path)
    assert (summary.examples, summary.rejected) == ({"train": 1}, {"points_out_of_range": 2})
    assert "are these pixels" in summary.warnings[0]


def test_frames_are_stored_beside_the_video_and_cover_every_request(videos: str, tmp_path: Path):
    rows = [choice("v0", i) for i in range(20)]
    source = write_rows(tmp_path / "rows", rows, split="CapQA")
    summary = convert("molmo2_videocapqa", source, tmp_path, video_dir=videos, video_frames=True)
    assert (summary.media, summary.media_new, summary.media_shared) == ("videos and frames", 2, 2)
    first, second = records(tmp_path, "molmo2_videocapqa")
    assert first.media == second.media  # two parts of one video's questions share its frames
    video, frames = first.media
    assert (video.kind, frames.kind, frames.video) == ("video", "frames", video.video)
    assert PreparedFrames(MediaStore(tmp_path).read(frames.sha256)).covers([0.0, 0.5, 1.0, 1.5, 2.0])
    again = convert("molmo2_videocapqa", source, tmp_path / "again", video_dir=videos, video_frames=True)
    assert again.examples == {"train": 2}
    before, after = (all_files(folder) for folder in (tmp_path / "media", tmp_path / "again/media"))
    assert before == after
    # Frames are part of what a conversion is asked for.
    assert convert("molmo2_videocapqa", source, tmp_path, video_dir=videos, video_frames=True).already_there == [
        "train"
    ]
    assert convert("molmo2_videocapqa", source, tmp_path, video_dir=videos).already_there == []


def test_frames_of_tracks_are_made_at_the_rates_that_tracks_are_shown_at(videos: str, tmp_path: Path):
    write_rows(tmp_path / "rows/track", [tracked("v0", 2)])
    convert("molmo2_videotrack", str(tmp_path / "rows"), tmp_path, video_dir=videos, video_frames=True)
    (record,) = records(tmp_path, "molmo2_videotrack", "train_track_2fps")
    prepared = PreparedFrames(MediaStore(tmp_path).read(record.media[1].sha256))
    assert prepared.covers([i / 4 for i in range(8)])  # 4 divides the video's 4 frames a second


def test_few_videos_wait_in_memory_to_be_written(videos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = []
    for number in range(12):
        put(tmp_path / f"videos/w{number}.mp4", clip(number % 4) + bytes(number))  # a box of its own behind the last
        rows.append(choice(f"w{number}"))
    alive: list[weakref.ref] = []
    most = 0

    class Counted(MediaBytes):
        def __init__(self, held: Any) -> None:
            nonlocal most
            super().__init__(held)
            alive.append(weakref.ref(self))
            most = max(most, sum(ref() is not None for ref in alive))

    monkeypatch.setattr("converters.units.MediaBytes", Counted)
    monkeypatch.setattr("converters.jobs._BYTES_IN_FLIGHT", int(2.5 * len(clip())))
    source = write_rows(tmp_path / "rows", rows, split="CapQA")
    summary = convert("molmo2_videocapqa", source, tmp_path, video_dir=str(tmp_path / "videos"), workers=8)
    assert summary.media_new == 12
    assert len(alive) == 12
    assert most <= 3  # two, and the one being written


class Stopped(Exception):
    pass


@pytest.mark.parametrize("frames", [False, True])
def test_after_a_stop_the_same_command_ends_in_the_same_bytes(videos: str, tmp_path: Path, frames: bool):
    rows = [choice(name, i) for i, name in enumerate(["v0", "v1", "broken", "v2", "v0", "v3"])]
    source = write_rows(tmp_path / "rows", rows, split="CapQA")
    spec = replace(SETS["molmo2_videocapqa"], rows_per_shard=2)
    options = {"video_dir": videos, "video_frames": frames}
    convert(spec, source, tmp_path / "at once", **options)

    def stopping(row: dict, place: Any) -> dict:
        if row["Question"] == "Q5?":
            raise Stopped
        return spec.parse(row, place)

    with pytest.raises(Stopped):
        convert(replace(spec, parse=stopping), source, tmp_path / "stopped", **options)
    assert not (tmp_path / "stopped/molmo2_videocapqa/manifest.json").exists()
    summary = convert(spec, source, tmp_path / "stopped", **options)
    assert (summary.examples, summary.rejected) == ({"train": 4}, {"not_a_video": 1})
    assert all_files(tmp_path / "stopped") == all_files(tmp_path / "at once")


def test_ids_without_a_folder_to_look_in_are_refused_before_anything_is_read(tmp_path: Path):
    source = write_rows(tmp_path / "rows", [choice("v0")], split="CapQA")
    with pytest.raises(ConfigError, match="--video-dir"):
        convert("molmo2_videocapqa", source, tmp_path)
    with pytest.raises(ConfigError, match="one of the columns Question, question must be there"):
        convert("molmo2_videocapqa", write_rows(tmp_path / "other", [{"video_id": "v0"}]), tmp_path)


def test_the_program_converts_videos_beside_local_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MOLMO_DATA_DIR", raising=False)
    put(tmp_path / "rows/videos/a.mp4")
    row = {"video_path": "videos/a.mp4", "question": "What?", "answer": "This.", "subtitles": "Hello."}
    write_rows(tmp_path / "rows", [row], "json")
    arguments = ["molmo2-videocapqa", "--source", str(tmp_path / "rows"), "--data-dir", str(tmp_path)]
    assert main([*arguments, "--video-frames", "--split", "train"]) == 0
    (record,) = records(tmp_path, "molmo2_videocapqa")
    assert [ref.kind for ref in record.media] == ["video", "frames"]


def test_the_program_looks_for_videos_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put(tmp_path / "molmo/video_datasets/youtube-cc/youtube-cc-kw/v0/v0.mp4")
    source = write_rows(tmp_path / "Molmo2-AskModelAnything", [{"video_id": "v0", "question": "Q?", "answer": "A."}])
    arguments = ["molmo2-askmodelanything", "--source", source]
    assert main([*arguments, "--video-dir", str(tmp_path / "molmo"), "--data-dir", str(tmp_path / "a")]) == 0
    monkeypatch.setenv("MOLMO_DATA_DIR", str(tmp_path / "molmo"))
    assert main([*arguments, "--data-dir", str(tmp_path / "b")]) == 0
    several = ["molmo2-human-qa", "molmo2-cap", "--source", str(tmp_path), "--data-dir", str(tmp_path / "c")]
    assert main(several) == 1  # there is no folder of captions, but the other set is converted
    assert len(records(tmp_path / "c", "molmo2_askmodelanything")) == 1
