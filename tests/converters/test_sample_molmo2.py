"""Sample rows of the Molmo2 sets: hub-shaped, and true of the videos and pictures beside them."""

import hashlib
import io
import re
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from molmo2_files import HUB_COLUMNS, decode, picture, read, video_path
from PIL import Image

from converters.sample import MOLMO2_NAMES, SampleSet, write_sample
from converters.sample.films import WALL_COLOR, draw
from converters.sample.scenes import OUTLINES, SHADES
from converters.sample.text import counted
from converters.sample.video_rows import POINT_CONFIGS
from converters.sample.videos import VideoPool

ROWS, SEED = 24, 3
TASKS = ("track", "ground", "single_point_track")
QA_SETS = {"molmo2-videocapqa": "CapQA", "molmo2-videosubtitleqa": "SubtitleQA", "molmo2-askmodelanything": "HumanQA"}


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> dict[str, SampleSet]:
    return write_sample(tmp_path_factory.mktemp("molmo2"), MOLMO2_NAMES, rows=ROWS, seed=SEED, problems=0.13)


def good_rows(written: SampleSet, split: str) -> list[dict]:
    bad = {bad.row for bad in written.bad_rows if bad.split == split}
    return [row for i, row in enumerate(read(written, split)) if i not in bad]


def problem_of(written: SampleSet, row: dict) -> str | None:
    """Why a row cannot be converted, found from the row and the files alone."""
    if "video_id" in row or "clip" in row:
        path = video_path(written, row)
        if path is None:
            return "missing_video"
        if decode(path) is None:
            return "truncated_video"
        return _wrong_in_video_row(row)
    if "images" in row and not all(image["bytes"].startswith(b"\x89PNG") for image in row["images"]):
        return "broken_picture"
    for url in row.get("image_urls", ()):
        if not (written.image_cache / hashlib.sha256(url.encode()).hexdigest()).exists():
            return "dead_url"
        if picture(written, url) is None:
            return "broken_picture"
    if "qa_pairs" in row and not all(answer.strip() for answer in row["qa_pairs"]["answer"]):
        return "empty_answer"
    points = [point for there in row.get("points", ()) for point in there]
    return None if all(0 <= p["x"] <= 100 and 0 <= p["y"] <= 100 for p in points) else "point_out_of_range"


def _wrong_in_video_row(row: dict) -> str | None:
    if "merged_caption" in row and not row["merged_caption"].strip():
        return "empty_caption"
    if not row.get("Answer", row.get("answer", "there")).strip():
        return "empty_answer"
    if any(2 * time_s != int(2 * time_s) for time_s in row.get("two_fps_timestamps", ())):
        return "time_off_grid"
    if "clip" in row:
        points = [point for frame in row["frame_trajectories"] for point in frame["points"]]
        if not {str(point["id"]) for point in points} <= set(row["mask_id"]):
            return "unknown_track_id"
        inside = all(0 <= p["point"][0] < row["width"] and 0 <= p["point"][1] < row["height"] for p in points)
    else:
        points = [point for there in row.get("points", ()) for point in there]
        inside = all(0 <= p["x"] <= 100 and 0 <= p["y"] <= 100 for p in points)
    return None if inside else "point_out_of_range"


# ---- the files ----


@pytest.mark.parametrize("name", MOLMO2_NAMES)
def test_columns_and_types_are_those_of_the_hub(sample, name):
    for split in sample[name].counts:
        if split != "LongCapQA":
            path = split if "/" in split else f"data/{split}"
            fields = pq.read_schema(sample[name].folder / f"{path}-00000-of-00001.parquet")
            types = {field.name: re.sub(r"<(item|element): ", "<", str(field.type)) for field in fields}
            assert {column: re.sub(r"<(item|element): ", "<", text) for column, text in types.items()} == HUB_COLUMNS[
                name
            ]


def test_splits_and_configs_are_called_as_on_the_hub(sample):
    counts = {name: set(written.counts) for name, written in sample.items()}
    assert counts["molmo2-cap"] == {"train", "val"}
    assert counts["molmo2-videocapqa"] == {"CapQA", "LongCapQA"}
    assert counts["molmo2-videosubtitleqa"] == {"SubtitleQA"}
    assert counts["molmo2-askmodelanything"] == {"HumanQA"}
    assert counts["molmo2-videopoint"] == {"train", *(f"{config}/train" for config in POINT_CONFIGS)}
    assert counts["molmo2-videotrack"] == {f"{task}/train" for task in TASKS}
    assert counts["molmo2-multiimageqa"] == {"train", "validation"}
    assert {"doc/train", "doc/validation", "music/train"} < counts["molmo2-synmultiimageqa"]
    assert len(counts["molmo2-synmultiimageqa"]) == 16
    assert counts["molmo2-multiimagepoint"] == {"train"}
    for written in sample.values():
        assert {split: len(read(written, split)) for split in written.counts} == written.counts


@pytest.mark.parametrize("name", MOLMO2_NAMES)
def test_exactly_the_recorded_rows_are_bad_and_for_the_recorded_reason(sample, name):
    written = sample[name]
    found = [
        (split, i, reason)
        for split in written.counts
        for i, row in enumerate(read(written, split))
        if (reason := problem_of(written, row))
    ]
    recorded = [(bad.split, bad.row, bad.reason) for bad in written.bad_rows]
    assert sorted(found) == sorted(recorded)
    assert found


def test_bad_rows_say_which_video_or_url_is_missing(sample):
    for name, split in QA_SETS.items():
        rows = read(sample[name], split)
        for bad in sample[name].bad_rows:
            assert bad.url == (rows[bad.row]["video_id"] if bad.reason.endswith("video") else "")
    for bad in sample["molmo2-multiimageqa"].bad_rows:
        if bad.reason in ("dead_url", "broken_picture"):
            assert bad.url == read(sample["molmo2-multiimageqa"], "train")[bad.row]["image_urls"][-1]


def test_the_same_call_writes_the_same_bytes_and_a_longer_sample_begins_with_the_shorter(tmp_path):
    names = ["molmo2_videopoint", "molmo2-videotrack", "molmo2-multiimagepoint", "molmo2-synmultiimageqa"]
    first, second = (write_sample(tmp_path / folder, names, rows=4, seed=1, problems=0.2) for folder in "ab")
    contents = [
        {path.relative_to(tmp_path / folder): path.read_bytes() for path in (tmp_path / folder).rglob("*.*")}
        for folder in "ab"
    ]
    assert contents[0] == contents[1]
    assert [written.bad_rows for written in first.values()] == [written.bad_rows for written in second.values()]
    long = write_sample(tmp_path / "long", names, rows=8, seed=1, problems=0)
    short = write_sample(tmp_path / "short", names, rows=4, seed=1, problems=0)
    for name, written in short.items():
        assert written.bad_rows == ()
        for split, number in written.counts.items():
            assert read(long[name], split)[:number] == read(written, split)


def test_the_files_are_small_and_each_is_read_to_its_end(sample):
    broken = {bad.url for written in sample.values() for bad in written.bad_rows if bad.reason == "truncated_video"}
    assert len(broken) >= 4
    paths = sorted(path for path in sample["molmo2-cap"].video_dir.rglob("*") if path.is_file())
    assert all(path.stat().st_size < 400_000 for path in paths)
    for path in paths:
        assert (decode(path) is None) == any(video_id.rpartition("/")[2] in path.name for video_id in broken)


def test_the_sets_share_videos_and_one_is_longer_than_a_minute(sample):
    ids = {name: {row["video_id"] for row in good_rows(sample[name], split)} for name, split in QA_SETS.items()}
    captioned = {row["video_id"] for row in good_rows(sample["molmo2-cap"], "train")}
    shared = set.intersection(captioned, *ids.values())
    assert len(shared) >= 5
    rows = good_rows(sample["molmo2-videopoint"], "train")
    assert {row["video_id"].rpartition("/")[2] for row in rows} & shared
    assert any(row["video_duration"] > 64 for row in rows)
    assert {row["video_source"] for row in rows} == {"youtube", "MammalNet", "generated"}


def test_files_of_every_kind_show_their_films_upright(sample, tmp_path):
    pool = VideoPool(SEED, tmp_path)
    for index in range(11):  # video 11 is a long one
        film, row = pool.film("films", index), {"video_id": pool.video_id("films", index)}
        path = video_path(sample["molmo2-cap"], row)
        frames = decode(path)
        assert len(frames) == len(film.clip.times)
        for i in (0, len(frames) // 2, len(frames) - 1):
            error = np.mean((frames[i].astype(float) - draw(film, film.clip.times[i])) ** 2)
            assert 10 * np.log10(255**2 / error) > 25


# ---- captions and questions ----


def test_captions_tell_the_length_of_the_video_and_some_lack_parts_or_score_low(sample):
    rows = good_rows(sample["molmo2-cap"], "train")
    for row in rows:
        assert f"to {row['video_end']:.1f} seconds" in row["merged_caption"]
        assert row["video_frame_merged_caption"].endswith(" ".join(row["frame_captions"]))
        assert 1 <= len(row["clip_captions"]) <= 4
        assert len(row["frame_captions"]) <= 12
    assert {row["annotation_score"] for row in rows} == {2, 3, 4, 5}
    assert any(row["video_caption"] is None and row["video_transcript"] is None for row in rows)


def test_wrong_answers_are_wrong_and_up_to_three(sample):
    for name in ("molmo2-videocapqa", "molmo2-videosubtitleqa"):
        rows = good_rows(sample[name], QA_SETS[name])
        assert all(row["Answer"] not in row["NegativeAnswers"] for row in rows)
        assert {len(row["NegativeAnswers"]) for row in rows} <= {1, 2, 3}
        assert max(Counter(row["video_id"] for row in rows).values()) == 4
    assert all(len(row["qa_list"]) == 5 for row in good_rows(sample["molmo2-videocapqa"], "LongCapQA"))


def test_subtitles_lie_within_the_video_and_answer_the_questions_about_names(sample):
    captions = {row["video_id"]: row["video_end"] for row in good_rows(sample["molmo2-cap"], "train")}
    checked = 0
    for row in good_rows(sample["molmo2-videosubtitleqa"], "SubtitleQA"):
        assert row["subtitle"][-1]["end"] <= captions.get(row["video_id"], 100) + 0.01
        said = " ".join(cue["text"] for cue in row["subtitle"])
        if name := re.fullmatch(r"What is the name of the (.*)\?", row["Question"]):
            assert f"This is {row['Answer']}, the {name[1]}." in said
            checked += 1
    assert checked > 3


def test_counts_in_captions_equal_the_points_of_the_same_video(sample):
    captions: dict[str, str] = {}
    for row in good_rows(sample["molmo2-cap"], "train"):
        captions[row["video_id"]] = row["merged_caption"]
    compared = 0
    for row in good_rows(sample["molmo2-videopoint"], "train"):
        color, _, kind = row["label"].partition(" ")
        if color in SHADES and kind in OUTLINES and row["video_id"] in captions:
            assert counted(row["label"], row["count"]) in captions[row["video_id"]]
            compared += 1
    assert compared > 0


# ---- points and tracks ----


def is_color(frame_HW3: np.ndarray, x: float, y: float, color: tuple[int, int, int]) -> bool:
    """Whether a decoded pixel within two of the point is close to a color: chroma is stored at half the size."""
    left, top = max(0, int(x) - 2), max(0, int(y) - 2)
    near = frame_HW3[top : int(y) + 3, left : int(x) + 3].astype(float)
    return bool((np.linalg.norm(near - color, axis=-1) < 60).any())


def test_points_lie_on_shapes_of_their_color_in_the_frame_of_their_time(sample):
    written, checked, absent = sample["molmo2-videopoint"], 0, 0
    for row in good_rows(written, "train"):
        frames = decode(video_path(written, row))
        assert len(frames) == int(np.ceil(2 * row["video_duration"] - 1e-9))
        assert row["count"] == sum(map(len, row["points"]))
        absent += row["count"] == 0
        color = SHADES.get(row["label"].partition(" ")[0])
        for time_s, points in zip(row["two_fps_timestamps"], row["points"], strict=True):
            frame_HW3 = frames[int(2 * time_s)]
            height, width = frame_HW3.shape[:2]
            for point in points:
                x, y = point["x"] * width / 100, point["y"] * height / 100
                near = list(SHADES.values()) if color is None else [color]
                assert any(is_color(frame_HW3, x, y, one) for one in near)
                checked += 1
    assert checked > 50
    assert absent > 0


def test_point_rows_keep_the_published_rules_of_times_and_clips(sample):
    rows = good_rows(sample["molmo2-videopoint"], "train")
    for row in rows:
        times = row["two_fps_timestamps"]
        assert times == sorted(set(times))
        assert len(times) == len(row["points"]) == len(row["raw_frames"]) == len(row["raw_timestamps"])
        assert all(0 <= time_s - raw < 0.5 + 1e-9 for time_s, raw in zip(times, row["raw_timestamps"], strict=True))
        assert (row["clip_start"] is None) == (row["video_duration"] <= 63)
        if row["clip_start"] is not None:
            assert 0 <= row["clip_start"] < row["clip_end"] <= row["video_duration"] + 0.5
            assert all(row["clip_start"] <= time_s < row["clip_end"] for time_s in times)
    assert any(row["annotator_unsure"] for row in rows)
    assert max(row["count"] for row in rows) > 5


def test_each_category_has_a_config_of_its_own_rows(sample):
    written = sample["molmo2-videopoint"]
    by_category = [row for config in POINT_CONFIGS for row in read(written, f"{config}/train")]
    assert sorted(map(str, by_category)) == sorted(map(str, read(written, "train")))
    assert all(row["category"] == config for config in POINT_CONFIGS for row in read(written, f"{config}/train"))


@pytest.mark.parametrize("task", TASKS)
def test_tracks_follow_their_shapes_from_frame_to_frame(sample, task):
    written, seen = sample["molmo2-videotrack"], Counter()
    for row in good_rows(written, f"{task}/train"):
        frames = decode(video_path(written, row))
        assert frames[0].shape == (row["height"], row["width"], 3)
        assert len(frames) == row["end_frame"] - row["start_frame"] + 1
        assert row["fps"] % row["sampling_fps"] == 0
        words = row["expression"].removeprefix("one of the ").split(" ")
        for at in row["frame_trajectories"]:
            assert at["frame"] % (row["fps"] // row["sampling_fps"]) == 0
            assert at["time"] == at["frame"] / row["fps"]
            for point in at["points"]:
                color = WALL_COLOR if point["occluded"] else SHADES[words[0]]
                assert is_color(frames[at["frame"]], *point["point"], color)
                seen[point["occluded"]] += 1
        assert len(row["mask_id"]) == len({point["id"] for at in row["frame_trajectories"] for point in at["points"]})
    assert seen[False] > 20
    assert seen[True] > 0


# ---- several pictures ----


def test_points_of_several_pictures_lie_on_shapes_and_each_picture_has_its_count(sample):
    written, crowds = sample["molmo2-multiimagepoint"], 0
    for row in good_rows(written, "train"):
        assert row["image_sha256s"] == [hashlib.sha256(url.encode()).hexdigest() for url in row["image_urls"]]
        assert row["counts"] == [len(points) for points in row["points"]]
        assert 2 <= len(row["image_urls"]) <= 5
        assert sum(row["counts"]) > 0
        crowds += "counting" in row["collection_method"]
        for url, points in zip(row["image_urls"], row["points"], strict=True):
            image = picture(written, url)
            corner = np.array(image.getpixel((1, 1)), float)
            for point in points[:5]:
                pixel = image.getpixel((int(point["x"] * image.width / 100), int(point["y"] * image.height / 100)))
                assert np.linalg.norm(np.array(pixel) - corner) > 40  # on a shape, which stands out
    assert crowds > 0


def test_questions_about_several_pictures_are_of_many_sizes_and_name_existing_pictures(sample):
    ordinals = ("first", "second", "third", "fourth", "fifth", "sixth")
    sizes = set()
    for row in good_rows(sample["molmo2-multiimageqa"], "train"):
        sizes.add(len(row["image_urls"]))
        beyond = ordinals[len(row["image_urls"]) :]
        assert len(row["qa_pairs"]["question"]) == len(row["qa_pairs"]["answer"]) in (1, 2, 3)
        assert not any(f"the {word} picture" in question for word in beyond for question in row["qa_pairs"]["question"])
    assert sizes == {1, 2, 3, 4, 5, 6}


def test_drawn_figures_are_embedded_and_each_answer_is_explained(sample):
    written = sample["molmo2-synmultiimageqa"]
    for split in written.counts:
        for row in good_rows(written, split):
            assert row["metadata"]["num_images"] == len(row["images"]) == len(row["code"])
            assert all(Image.open(io.BytesIO(image["bytes"])).size[0] > 50 for image in row["images"])
            assert len({len(column) for column in row["qa_pairs"].values()}) == 1
            assert "" not in (text.strip() for column in row["qa_pairs"].values() for text in column)
