"""What a row of each Molmo2 set becomes, and why it is refused (Molmo2 datasets §1A, §1B, §1C)."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.molmo2_points import label_of_request
from converters.sets import SETS, find_set
from converters.spec import Embedded, FromCache, FromFile, FromUrl, MediaSource, Place
from grain_molmo.errors import RowError
from grain_molmo.store import MediaRef, VideoFacts

HUB = Place(None, "train", None)
KEY = "ab" * 32


def video(duration_s: float = 20.0, size: tuple[int, int] = (200, 100)) -> MediaRef:
    return MediaRef(KEY, "video", *size, 1000, VideoFacts(duration_s, int(duration_s * 10), 10.0))


CAP = {
    "video_id": "v",
    "merged_caption": "Merged.",
    "video_caption": " Short. ",
    "video_frame_merged_caption": "Long.",
    "annotation_score": 4,
}
CHOICE = {"video_id": "v", "Question": "What?", "Answer": "Cat", "NegativeAnswers": ["Dog", "Cow"], "Category": "x"}
SUBTITLED = {**CHOICE, "subtitle": [{"start": 0.0, "end": 1.5, "text": "Hi"}, {"start": 1.0, "end": 3.0, "text": "Yo"}]}
ASKED = {"video_id": "v", "question": " Why? ", "answer": " Because. "}
POINTED = {
    "video_id": "v",
    "question": "How many cats are there?",
    "label": "Cats",
    "count": 3,
    "two_fps_timestamps": [4.5, 1.0],
    "points": [[{"x": 90.0, "y": 1.0}, {"x": 10.0, "y": 2.0}], [{"x": 50.0, "y": 100.3}]],
    "annotator_unsure": False,
    "category": "animal",
    "video_duration": 20.0,
    "video_source": "youtube",
    "clip_start": None,
    "clip_end": None,
}
SIMPLE_POINTS = {
    "video_path": "v.mp4",
    "query": "Point to the person throwing the ball",
    "points": [
        {"x": 0.5, "y": 0.3, "timestamp": 1.2, "object_id": 0},
        {"x": 0.52, "y": 0.31, "timestamp": 1.4, "object_id": 0},
        {"x": 0.1, "y": 1.0, "timestamp": 2.0, "object_id": 1},
    ],
}
TRACKED = {
    "id": "t1",
    "video": "source",
    "clip": "clip",
    "video_dataset": "mose",
    "fps": 6,
    "sampling_fps": 2,
    "expression": " the dog ",
    "width": 200,
    "height": 100,
    "mask_id": ["7", "9"],
    "frame_trajectories": [
        {"frame": 3, "time": 0.5, "points": [{"id": 9, "point": [200.5, 50.0], "occluded": False}]},
        {"frame": 0, "time": 0.0, "points": [{"id": "7", "point": None, "occluded": True}]},
    ],
}
RAW_TRACK = {
    "id": "r1",
    "video": "source",
    "clip": "clip",
    "exp": "the dog",
    "fps": 3,
    "w": 200,
    "h": 100,
    "n_frames": 5,
    "mask_id": ["0", "1"],
    "points": [
        {"object_id": "0", "points": [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]},
        {"object_id": "1", "points": [[], [1, 1], [1, 1], [11, 12], []]},
    ],
}
SIMPLE_TRACK = {
    "video_path": "v.mp4",
    "query": "Track the red car.",
    "tracks": [
        {"x": 0.3, "y": 0.4, "timestamp": 0.0, "object_id": 5},
        {"x": 0.35, "y": 0.45, "timestamp": 0.5, "object_id": 5},
        {"x": 1.0, "y": 0.0, "timestamp": 0.5, "object_id": 2},
    ],
}
URLS = {"image_urls": ["http://host/a", "http://host/b"], "image_sha256s": [KEY, KEY]}
MULTI_QA = {**URLS, "qa_pairs": {"question": ["How?", "Who?"], "answer": ["So.", "She."]}}
MULTI_DOCS = {
    "id": "d1",
    "images": [{"bytes": b"png", "path": None}, {"bytes": b"jpg", "path": None}],
    "qa_pairs": {"question": ["How?"], "answer": ["12"], "explanation": ["Since."]},
}
MULTI_POINTS = {
    **URLS,
    "points": [[{"x": 1.0, "y": 2.0}], []],
    "counts": [1, 0],
    "labels": [" Red Cat", "dog"],
    "collection_method": ["pointing", "counting"],
}
GOOD = [
    ("molmo2_cap", CAP),
    ("molmo2_videocapqa", CHOICE),
    ("molmo2_videosubtitleqa", SUBTITLED),
    ("molmo2_askmodelanything", ASKED),
    ("molmo2_videopoint", POINTED),
    ("molmo2_videopoint", SIMPLE_POINTS),
    ("molmo2_videotrack", TRACKED),
    ("molmo2_videotrack", RAW_TRACK),
    ("molmo2_videotrack", SIMPLE_TRACK),
    ("molmo2_multiimageqa", MULTI_QA),
    ("molmo2_synmultiimageqa", MULTI_DOCS),
    ("molmo2_multiimagepoint", MULTI_POINTS),
]


def convert(name: str, *rows: dict, place: Place = HUB, medium: MediaRef | None = None) -> list[dict]:
    spec = SETS[name]
    pieces = [spec.fit(spec.parse(row, place), medium or video()) for row in rows]
    annotations = spec.combine(pieces)
    assert json.loads(json.dumps(annotations, allow_nan=False)) == annotations
    return annotations


def reason(name: str, row: dict, place: Place = HUB, medium: MediaRef | None = None) -> str:
    with pytest.raises(RowError) as caught:
        convert(name, row, place=place, medium=medium)
    return caught.value.reason


# ---- captions and questions ----


def test_captions_keep_their_kinds():
    (annotation,) = convert("molmo2_cap", CAP)
    kinds = ["merged_caption", "video_caption", "video_frame_merged_caption"]
    assert annotation["captions"] == dict(zip(kinds, ["Merged.", "Short.", "Long."], strict=True))
    (few,) = convert("molmo2_cap", {**CAP, "merged_caption": None, "video_caption": " "})
    assert few["captions"] == {"video_frame_merged_caption": "Long."}


def test_a_simple_caption_is_a_long_one():
    (annotation,) = convert("molmo2_cap", {"video_path": "v.mp4", "caption": "Words."})
    assert annotation == {"video_id": "v.mp4", "captions": {"video_frame_merged_caption": "Words."}, "score": None}


def test_all_questions_about_a_video_are_one_record_up_to_sixteen():
    rows = [{**CHOICE, "Question": f"Q{i}?"} for i in range(20)]
    first, second = convert("molmo2_videocapqa", *rows)
    assert [entry["question"] for entry in first["questions"] + second["questions"]] == [f"Q{i}?" for i in range(20)]
    assert len(first["questions"]) == 16
    assert first["questions"][0] == {"question": "Q0?", "answer": "Cat", "negatives": ["Dog", "Cow"], "category": "x"}
    assert "subtitle" not in first


def test_wrong_answers_are_distinct_and_not_the_right_one():
    (annotation,) = convert("molmo2_videocapqa", {**CHOICE, "NegativeAnswers": ["Dog", " Cat", "Dog ", "", "Cow"]})
    assert annotation["questions"][0]["negatives"] == ["Dog", "Cow"]


def test_simple_questions_have_no_wrong_answers_and_may_have_subtitles_as_text():
    row = {"video_path": "v.mp4", "question": "What?", "answer": "This.", "subtitles": "Hello there."}
    (annotation,) = convert("molmo2_videocapqa", row)
    assert annotation == {
        "video_id": "v.mp4",
        "subtitle": "Hello there.",
        "questions": [{"question": "What?", "answer": "This."}],
    }


def test_subtitles_are_the_first_row_s_and_shared_by_all():
    (annotation,) = convert("molmo2_videosubtitleqa", SUBTITLED, {**SUBTITLED, "subtitle": "other"})
    assert annotation["subtitle"] == [[0.0, 1.5, "Hi"], [1.0, 3.0, "Yo"]]
    assert len(annotation["questions"]) == 2


def test_subtitles_may_be_files_beside_local_rows(tmp_path: Path):
    (tmp_path / "a.srt").write_text("1\n00:00:01,000 --> 00:00:02,500\nHello\n")
    (tmp_path / "b.VTT").write_text("WEBVTT\n\n00:01.000 --> 00:02.500\nHello\n")
    (tmp_path / "c.srt").write_bytes(b"\x00\x01\x02 no subtitles")
    local = Place(None, "train", tmp_path)
    row = {key: value for key, value in SUBTITLED.items() if key != "subtitle"}
    for path in ("a.srt", "b.VTT"):
        (annotation,) = convert("molmo2_videosubtitleqa", {**row, "subtitles": path}, place=local)
        assert annotation["subtitle"] == [[1.0, 2.5, "Hello"]]
    assert reason("molmo2_videosubtitleqa", {**row, "subtitles": "c.srt"}, local) == "bad_subtitles"
    assert reason("molmo2_videosubtitleqa", {**row, "subtitles": "d.srt"}, local) == "missing_subtitle"
    assert reason("molmo2_videosubtitleqa", {**row, "subtitles": str(tmp_path / "a.srt")}) == "missing_subtitle"


# ---- points ----


def test_points_are_ordered_by_time_and_place_and_keep_to_the_picture():
    (annotation,) = convert("molmo2_videopoint", POINTED)
    assert annotation["clip"] is None
    assert annotation["queries"] == [
        {
            "label": "Cats",
            "question": "How many cats are there?",
            "count": 3,
            "category": "animal",
            "unsure": False,
            "timestamps": [1.0, 4.5],
            "points": [[[50.0, 100.0]], [[10.0, 2.0], [90.0, 1.0]]],
        }
    ]


def test_nothing_to_point_at_is_kept():
    for nothing in ([], None):
        row = {**POINTED, "count": 0, "points": nothing, "two_fps_timestamps": nothing}
        (annotation,) = convert("molmo2_videopoint", row)
        assert (annotation["queries"][0]["points"], annotation["queries"][0]["count"]) == ([], 0)


CLIPPED = {**POINTED, "clip_start": 10.2, "clip_end": 70.0, "two_fps_timestamps": [12.0, 11.5], "video_duration": 200.0}


def test_times_count_from_the_clip_of_a_long_video_and_stay_on_the_grid():
    (annotation,) = convert("molmo2_videopoint", CLIPPED, medium=video(200))
    assert annotation["clip"] == [10.2, 70.0]
    assert annotation["queries"][0]["timestamps"] == [1.0, 1.5]  # 1.3 and 1.8


def test_clips_that_differ_late_in_a_long_video_are_not_one():
    within = SETS["molmo2_videopoint"].within
    assert within is not None
    assert within({"clip_start": 12345.5, "clip_end": 12400.0}) == "12345.5-12400"
    assert within({"clip_start": 12345.0, "clip_end": 12400.0}) == "12345-12400"
    assert within({"clip_start": None, "clip_end": None}) == ""


@pytest.mark.parametrize("duration_s", [12.0, 63.0, 63.5])
def test_a_video_of_63_seconds_is_shown_whole_whatever_its_clip(duration_s: float):
    (annotation,) = convert("molmo2_videopoint", CLIPPED, medium=video(duration_s))
    assert (annotation["clip"], annotation["queries"][0]["timestamps"]) == (None, [11.5, 12.0])


def test_queries_about_a_whole_video_share_a_record_and_those_about_clips_do_not():
    assert [len(one["queries"]) for one in convert("molmo2_videopoint", *[POINTED] * 20)] == [16, 4]
    assert [len(one["queries"]) for one in convert("molmo2_videopoint", *[CLIPPED] * 3, medium=video(200))] == [1] * 3


@pytest.mark.parametrize(
    ("changes", "duration_s", "expected"),
    [
        ({"clip_start": None, "clip_end": None}, 200, "no_clip"),
        ({}, 63.6, "clip_outside_video"),
        ({"clip_end": 73.3}, 200, "clip_too_long"),
        ({"clip_start": -1.0, "clip_end": 30.0}, 200, "clip_outside_video"),
        ({"clip_start": 30.0, "clip_end": 30.0}, 200, "clip_outside_video"),
        ({"clip_start": 300.0, "clip_end": 310.0}, 200, "clip_outside_video"),
        ({"clip_start": 11.6}, 200, "timestamp_outside_clip"),
        ({"clip_end": 11.0}, 200, "timestamp_outside_clip"),
        ({"clip_end": None}, 200, "missing_clip_end"),
    ],
)
def test_clips_that_cannot_be_shown_are_refused(changes: dict, duration_s: float, expected: str):
    assert reason("molmo2_videopoint", {**CLIPPED, **changes}, medium=video(duration_s)) == expected


def test_simple_points_are_percent_on_the_grid_one_of_each_object_at_a_time():
    (annotation,) = convert("molmo2_videopoint", SIMPLE_POINTS)
    (query,) = annotation["queries"]
    assert query["prompt"] == "Point to the person throwing the ball"
    assert query["label"] == "person throwing the ball"
    assert query["timestamps"] == [1.0, 2.0]
    assert query["points"] == [[[50.0, 30.0]], [[10.0, 100.0]]]
    assert query["count"] == 2


def test_simple_points_say_what_is_the_same_thing_at_several_times():
    def points(*keys: object) -> list[dict]:
        return [
            {"x": 0.5, "y": 0.3 - 0.1 * (i % 2), "timestamp": i // 2, "object_id": key} for i, key in enumerate(keys)
        ]

    def query(*keys: object) -> dict:
        return convert("molmo2_videopoint", {**SIMPLE_POINTS, "points": points(*keys)})[0]["queries"][0]

    assert query(7, 3, 3, 7)["objects"] == [[1, 0], [0, 1]]  # in the order of the points, which is by place
    assert query(7, 3, 3, 7)["count"] == 2
    assert query(None, None, 3, None)["objects"] == [[1, 0], [3, 2]]
    assert query(None, None, 3, None)["count"] == 4
    assert query()["objects"] == []
    assert "objects" not in convert("molmo2_videopoint", POINTED)[0]["queries"][0]


@pytest.mark.parametrize(
    ("name", "row", "column"),
    [
        ("molmo2_videopoint", SIMPLE_POINTS, "points"),
        ("molmo2_videotrack", SIMPLE_TRACK, "tracks"),
    ],
)
def test_simple_points_and_tracks_may_be_lists_of_one_length(name: str, row: dict, column: str):
    fields = {key: [point[key] for point in row[column]] for key in ("x", "y", "timestamp", "object_id")}
    spec = SETS[name]
    assert convert(name, {**row, column: fields}) == convert(name, row)
    assert spec.subset is not None
    assert spec.subset({**row, column: fields}) == spec.subset(row)
    uneven = {**fields, "object_id": [0]}
    assert reason(name, {**row, column: uneven}) == "length_mismatch"
    del fields["object_id"]
    nameless = [{key: value for key, value in point.items() if key != "object_id"} for point in row[column][1:2]]
    assert convert(name, {**row, column: {key: values[1:2] for key, values in fields.items()}}) == convert(
        name, {**row, column: nameless}
    )


@pytest.mark.parametrize(
    ("query", "label"),
    [
        ("Track the red car.", "red car"),
        ("please point at all of the dogs", "dogs"),
        ("red car", "red car"),
        ("Pointer dogs", "Pointer dogs"),
        ("Point to", "Point to"),
    ],
)
def test_a_request_has_a_label(query: str, label: str):
    assert label_of_request(query) == label


# ---- tracks ----


def test_tracks_name_their_objects_by_place_and_are_ordered_by_frame():
    (annotation,) = convert("molmo2_videotrack", TRACKED, place=Place("ground", "train", None))
    assert annotation == {
        "video_id": "clip",
        "task": "ground",
        "video_dataset": "mose",
        "expression": "the dog",
        "fps": 6,
        "sampling_fps": 2,
        "width": 200,
        "height": 100,
        "frames": [[0, 0.0, [[0, 0.0, 0.0, True]]], [3, 0.5, [[1, 200.0, 50.0, False]]]],
    }


def test_a_thing_that_is_never_there_has_no_frames():
    (annotation,) = convert("molmo2_videotrack", {**TRACKED, "frame_trajectories": []})
    assert annotation["frames"] == []


def test_raw_tracks_keep_the_frames_of_the_sampling_grid():
    (annotation,) = convert("molmo2_videotrack", RAW_TRACK, place=Place("track", "train", None))
    assert (annotation["task"], annotation["sampling_fps"], annotation["fps"]) == ("track", 1, 3)
    assert annotation["frames"] == [
        [0, 0.0, [[0, 1.0, 2.0, False]]],
        [3, 1.0, [[0, 7.0, 8.0, False], [1, 11.0, 12.0, False]]],
    ]


def test_simple_tracks_are_pixels_of_the_video_at_two_frames_a_second():
    (annotation,) = convert("molmo2_videotrack", SIMPLE_TRACK, medium=video(20, (200, 100)))
    assert (annotation["expression"], annotation["query"]) == ("red car", "Track the red car.")
    assert (annotation["fps"], annotation["sampling_fps"]) == (None, 2)
    assert (annotation["width"], annotation["height"]) == (200, 100)
    assert annotation["frames"] == [
        [0, 0.0, [[0, 60.0, 40.0, False]]],
        [1, 0.5, [[0, 70.0, 45.0, False], [1, 200.0, 0.0, False]]],
    ]


def trajectory(**changes: object) -> list[dict]:
    point = {"id": "7", "point": [1.0, 2.0], "occluded": False}
    frame = {"frame": 3, "time": 0.5, "points": [{**point, **{k: v for k, v in changes.items() if k in point}}]}
    return [{**frame, **{k: v for k, v in changes.items() if k in frame}}]


# ---- several pictures ----


def test_hashes_of_urls_check_no_picture():
    for name in ("molmo2_multiimageqa", "molmo2_multiimagepoint"):
        sources = SETS[name].media(URLS, HUB)
        assert list(sources) == [FromUrl("http://host/a"), FromUrl("http://host/b")]


@pytest.mark.parametrize("form", ["lists", "structs"])
def test_questions_about_pictures_come_as_lists_or_as_structs(form: str):
    row = dict(MULTI_QA)
    if form == "structs":
        row["qa_pairs"] = [{"question": "How?", "answer": "So."}, {"question": "Who?", "answer": "She."}]
    (annotation,) = convert("molmo2_multiimageqa", row)
    assert annotation == {"urls": URLS["image_urls"], "questions": [["How?", "So."], ["Who?", "She."]]}


def test_documents_keep_explanations_and_their_type():
    place = Place("doc", "train", None)
    (annotation,) = convert("molmo2_synmultiimageqa", MULTI_DOCS, place=place)
    assert annotation["doc_type"] == "doc"
    assert annotation["questions"] == [{"question": "How?", "answer": "12", "explanation": "Since."}]
    assert SETS["molmo2_synmultiimageqa"].media(MULTI_DOCS, place) == [Embedded(b"png"), Embedded(b"jpg")]


def test_labels_are_normalized_where_the_row_does_not_say_how():
    (annotation,) = convert("molmo2_multiimagepoint", MULTI_POINTS)
    assert annotation["labels"] == [" Red Cat", "dog"]
    assert annotation["normalized_labels"] == ["red cat", "dog"]
    assert annotation["points"] == [[[1.0, 2.0]], []]
    (given,) = convert("molmo2_multiimagepoint", {**MULTI_POINTS, "normalized_labels": ["animal", "animal"]})
    assert given["normalized_labels"] == ["animal", "animal"]


def test_points_in_pictures_without_urls_are_looked_for_beside_the_rows_and_in_the_cache(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"")
    row = {key: value for key, value in MULTI_POINTS.items() if key not in URLS}
    row["images"] = ["a.png", f"/elsewhere/torch_datasets/pixmo_images/{KEY}"]
    local = Place(None, "train", tmp_path)
    sources: list[MediaSource] = [FromFile(tmp_path / "a.png"), FromCache(KEY)]
    assert SETS["molmo2_multiimagepoint"].media(row, local) == sources
    assert "urls" not in convert("molmo2_multiimagepoint", row, place=local)[0]
    with pytest.raises(RowError, match="missing_image"):
        SETS["molmo2_multiimagepoint"].media(row, HUB)
    with pytest.raises(RowError, match="missing_image"):  # a name that no file can have
        SETS["molmo2_multiimagepoint"].media({**row, "images": ["x" * 5000]}, local)


# ---- refusals ----


@pytest.mark.parametrize(
    ("name", "good", "changes", "expected"),
    [
        ("molmo2_cap", CAP, {"annotation_score": 2.9}, "low_score"),
        ("molmo2_cap", {"video_id": "v"}, {"video_caption": " "}, "empty_caption"),
        ("molmo2_cap", CAP, {"merged_caption": ["a"]}, "wrong_type"),
        ("molmo2_cap", CAP, {"video_id": None}, "missing_video_path"),
        ("molmo2_videocapqa", CHOICE, {"NegativeAnswers": []}, "no_negative_answers"),
        ("molmo2_videocapqa", CHOICE, {"NegativeAnswers": None}, "no_negative_answers"),
        ("molmo2_videocapqa", CHOICE, {"NegativeAnswers": ["Cat", " Cat "]}, "no_negative_answers"),
        ("molmo2_videocapqa", CHOICE, {"Answer": " "}, "empty_answer"),
        ("molmo2_videocapqa", CHOICE, {"Question": None}, "missing_question"),
        ("molmo2_videosubtitleqa", SUBTITLED, {"subtitle": []}, "missing_subtitle"),
        ("molmo2_videosubtitleqa", SUBTITLED, {"subtitle": [{"start": 2, "end": 1, "text": "x"}]}, "bad_subtitles"),
        ("molmo2_videosubtitleqa", SUBTITLED, {"subtitle": [{"start": 2, "end": 3}]}, "wrong_type"),
        ("molmo2_askmodelanything", ASKED, {"answer": " "}, "empty_answer"),
        ("molmo2_videopoint", POINTED, {"count": 2}, "count_mismatch"),
        ("molmo2_videopoint", POINTED, {"two_fps_timestamps": [1.0]}, "length_mismatch"),
        ("molmo2_videopoint", POINTED, {"two_fps_timestamps": [1.0, 1.2]}, "timestamp_off_grid"),
        ("molmo2_videopoint", POINTED, {"two_fps_timestamps": [1.0, 25.0]}, "timestamp_outside_clip"),
        ("molmo2_videopoint", POINTED, {"points": [[{"x": 101, "y": 1}] * 3, []]}, "points_out_of_range"),
        (
            "molmo2_videopoint",
            POINTED,
            {"points": [[{"x": 1, "y": 1}] * 61, []], "count": 61},
            "more_than_60_points",
        ),
        (
            "molmo2_videopoint",
            SIMPLE_POINTS,
            {"points": [{"x": 50, "y": 0.1, "timestamp": 1}]},
            "points_out_of_range",
        ),
        (
            "molmo2_videopoint",
            SIMPLE_POINTS,
            {"points": [{"x": 0.5, "y": 0.1, "timestamp": -1}]},
            "timestamp_outside_clip",
        ),
        ("molmo2_videopoint", SIMPLE_POINTS, {"points": None}, "missing_points"),
        ("molmo2_videotrack", TRACKED, {"fps": 5}, "bad_fps"),
        ("molmo2_videotrack", TRACKED, {"fps": 29.97}, "bad_fps"),
        ("molmo2_videotrack", TRACKED, {"sampling_fps": 0}, "bad_fps"),
        ("molmo2_videotrack", TRACKED, {"mask_id": []}, "missing_mask_id"),
        ("molmo2_videotrack", TRACKED, {"mask_id": ["7"]}, "unknown_object_id"),
        ("molmo2_videotrack", TRACKED, {"frame_trajectories": trajectory(point=[250, 1])}, "points_outside_image"),
        ("molmo2_videotrack", TRACKED, {"frame_trajectories": trajectory(point=[1])}, "wrong_type"),
        ("molmo2_videotrack", TRACKED, {"frame_trajectories": trajectory(point=None)}, "missing_point"),
        ("molmo2_videotrack", TRACKED, {"frame_trajectories": trajectory(time=21.0)}, "timestamp_outside_video"),
        ("molmo2_videotrack", TRACKED, {"frame_trajectories": trajectory() * 2}, "repeated_frame"),
        (
            "molmo2_videotrack",
            TRACKED,
            {"frame_trajectories": [{**trajectory()[0], "points": trajectory()[0]["points"] * 2}]},
            "repeated_object",
        ),
        ("molmo2_videotrack", TRACKED, {"expression": " "}, "empty_expression"),
        ("molmo2_videotrack", TRACKED, {"width": 0}, "bad_size"),
        ("molmo2_videotrack", TRACKED, {"width": 10**400}, "wrong_type"),
        ("molmo2_videotrack", RAW_TRACK, {"n_frames": 4}, "length_mismatch"),
        ("molmo2_videotrack", RAW_TRACK, {"mask_id": ["0"]}, "unknown_object_id"),
        (
            "molmo2_videotrack",
            SIMPLE_TRACK,
            {"tracks": [{"x": 0.1, "y": 0.1, "timestamp": 0.3}]},
            "timestamp_off_grid",
        ),
        (
            "molmo2_videotrack",
            SIMPLE_TRACK,
            {"tracks": [{"x": 0.1, "y": 0.1, "timestamp": 0.5}, {"x": 0.2, "y": 0.1, "timestamp": 0.5}]},
            "repeated_object",
        ),
        (
            "molmo2_videotrack",
            SIMPLE_TRACK,
            {"tracks": [{"x": 10, "y": 0.1, "timestamp": 0.5}]},
            "points_out_of_range",
        ),
        ("molmo2_multiimageqa", MULTI_QA, {"qa_pairs": {"question": [], "answer": []}}, "empty_qa_pairs"),
        ("molmo2_multiimageqa", MULTI_QA, {"image_urls": ["http://host/a", " "]}, "empty_image_urls"),
        ("molmo2_multiimageqa", MULTI_QA, {"image_urls": []}, "empty_image_urls"),
        (
            "molmo2_synmultiimageqa",
            MULTI_DOCS,
            {"qa_pairs": {**MULTI_DOCS["qa_pairs"], "explanation": ["Since.", "As."]}},
            "wrong_type",
        ),
        ("molmo2_synmultiimageqa", MULTI_DOCS, {"images": [{"bytes": b"a"}] * 6}, "more_than_5_images"),
        ("molmo2_synmultiimageqa", MULTI_DOCS, {"images": []}, "missing_images"),
        ("molmo2_multiimagepoint", MULTI_POINTS, {"labels": ["a"]}, "length_mismatch"),
        ("molmo2_multiimagepoint", MULTI_POINTS, {"labels": ["a", "b", ""]}, "empty_labels"),
        ("molmo2_multiimagepoint", MULTI_POINTS, {"image_urls": ["http://host/a", ""]}, "empty_image_urls"),
        ("molmo2_multiimagepoint", MULTI_POINTS, {"counts": [1, 1]}, "count_mismatch"),
        ("molmo2_multiimagepoint", MULTI_POINTS, {"normalized_labels": ["a"]}, "length_mismatch"),
        ("molmo2_multiimagepoint", MULTI_POINTS, {"points": [[{"x": 300, "y": 2}], []]}, "points_out_of_range"),
    ],
)
def test_a_row_that_says_something_else_has_a_stable_reason(name: str, good: dict, changes: dict, expected: str):
    assert reason(name, {**good, **changes}, Place("track", "train", None)) == expected


@pytest.mark.parametrize(("name", "good"), GOOD)
@settings(max_examples=40)
@given(data=st.data())
def test_no_value_of_a_column_makes_anything_but_a_row_error(name: str, good: dict, data: st.DataObject):
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    names = st.sampled_from(["x", "y", "timestamp", "start", "id", "points", "point", "bytes"])
    values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner))
    column = data.draw(st.sampled_from(sorted(good)))
    row = {**good, column: data.draw(values)}
    spec = SETS[name]
    for place_of in (spec.identity, spec.within, spec.subset):
        if place_of is not None:
            place_of(row)
    try:
        annotations, media = convert(name, row), spec.media(row, HUB)
    except RowError:
        return
    # What is not refused can be stored, comes back as it was, and shows something.
    assert json.loads(json.dumps(annotations, allow_nan=False)) == annotations
    assert media


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("molmo2-videocapqa", "molmo2_videocapqa"),
        ("Molmo2-VideoCapQA", "molmo2_videocapqa"),
        ("molmo2_video_cap_qa", "molmo2_videocapqa"),
        ("molmo2-human-qa", "molmo2_askmodelanything"),
        ("Molmo2-MultiImagePoint", "molmo2_multiimagepoint"),
        ("molmo2_video_track", "molmo2_videotrack"),
    ],
)
def test_sets_are_found_by_every_spelling(spelling: str, name: str):
    assert find_set(spelling).name == name
