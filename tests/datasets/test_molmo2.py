"""The nine Molmo2 sets read back: what `get` yields for hand-made records (Molmo2 datasets §1A.3, §1B, §1C.2)."""

import io
import pickle
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

import grain_molmo as gm
from grain_molmo.datasets.molmo2 import MULTI_IMAGE_DATASETS, MULTI_IMAGE_TYPES
from grain_molmo.datasets.molmo2_video import VIDEO_DATASETS, track_sampling
from grain_molmo.errors import ConfigError, StoreError
from grain_molmo.rng import example_rng
from grain_molmo.store import MediaRef, Record, SplitWriter, VideoFacts, content_key
from grain_molmo.text.counting import NO_POINTING_PREFIXES
from grain_molmo.vision.lazy import LazyImage, LazyVideo

VIDEO = MediaRef(content_key(b"video"), "video", 200, 100, 5, VideoFacts(20.0, 200, 10.0))
FRAMES = MediaRef(content_key(b"frames"), "frames", 200, 100, 6, VIDEO.video)


def picture(number: int) -> tuple[MediaRef, bytes]:
    out = io.BytesIO()
    Image.new("RGB", (40 + number, 30), (number, 8, 7)).save(out, "PNG")
    data = out.getvalue()
    return MediaRef(content_key(data), "image", 40 + number, 30, len(data)), data


def write_split(data_dir: Path, name: str, split: str, annotations: list[dict], media: tuple[MediaRef, ...]) -> None:
    data = {VIDEO.sha256: b"video", FRAMES.sha256: b"frames"}
    data |= {ref.sha256: content for ref, content in map(picture, range(6))}
    writer = SplitWriter(data_dir, name, split, num_shards=1)
    records = [Record(f"{split}-{i}", annotation, media) for i, annotation in enumerate(annotations)]
    writer.write_shard(0, [(record, data) for record in records])
    writer.finish(source={}, converter={}, rejects=[])


def pictures(number: int) -> tuple[MediaRef, ...]:
    return tuple(picture(i)[0] for i in range(number))


QUERY = {
    "label": "Cats",
    "question": "How many cats are there?",
    "count": 3,
    "unsure": False,
    "timestamps": [1.0, 4.5],
    "points": [[[50.0, 100.0]], [[10.0, 2.0], [90.0, 1.0]]],
}
TRACK = {
    "video_id": "clip",
    "task": "track",
    "expression": "the dog",
    "fps": 6,
    "sampling_fps": 2,
    "width": 400,
    "height": 200,
    "frames": [[0, 0.0, [[0, 0.0, 0.0, True]]], [3, 0.5, [[1, 200.0, 50.0, False]]]],
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")

    def write(name: str, split: str, *annotations: dict, media: tuple[MediaRef, ...] = (VIDEO,)) -> None:
        write_split(folder, name, split, list(annotations), media)

    captions = {"video_frame_merged_caption": "Long.", "video_caption": "Short.", "merged_caption": "Merged."}
    one = {"video_caption": "Short."}
    for split in ("train", "validation"):
        write("molmo2_cap", split, *({"video_id": "v", "captions": some, "score": 4.0} for some in (captions, one)))
    choices = [
        {"question": f"Q{i}?", "answer": "right", "negatives": ["a", "b", "c"], "category": "x"} for i in range(3)
    ]
    free = {"question": "Why?", "answer": "Because."}
    write("molmo2_videocapqa", "train", {"video_id": "v", "questions": [*choices, free]}, media=(VIDEO, FRAMES))
    cues = [[0.0, 1.5, "Hi"], [0.0, 1.5, "Yo"]]
    write("molmo2_videosubtitleqa", "train", {"video_id": "v", "subtitle": cues, "questions": choices})
    write("molmo2_askmodelanything", "train", {"video_id": "v", "questions": [free, free]})
    whole = {"video_id": "v", "clip": None, "queries": [QUERY, {**QUERY, "label": "Dogs"}]}
    clipped = {"video_id": "v", "clip": [2.0, 9.5], "queries": [QUERY]}
    asked = {key: value for key, value in QUERY.items() if key != "question"} | {"prompt": "Point to the cats"}
    asked["objects"] = [[0], [1, 0]]
    write("molmo2_videopoint", "train_0_5", whole, clipped, {"video_id": "v", "clip": None, "queries": [asked]})
    for split in ("train_6_25", "train_26_60", "train_0_5_unsure"):
        write("molmo2_videopoint", split, clipped)
    write("molmo2_videotrack", "train_track_1fps", {**TRACK, "sampling_fps": 1})
    write("molmo2_videotrack", "train_track_2fps", TRACK, {**TRACK, "frames": []})
    write("molmo2_videotrack", "train_ground_1fps", {**TRACK, "task": "ground", "sampling_fps": 1})
    simple = {**TRACK, "fps": None, "query": "Track the dog"}
    write("molmo2_videotrack", "train_single_point_track_2fps", {**simple, "task": "single_point_track"})
    qa = {"urls": ["u"], "questions": [["How many cats are there?", "Two."], ["Why?", "So."]]}
    for split, number in (("train_1_image", 1), ("train_2_5_images", 3), ("train_6_images", 6)):
        write("molmo2_multiimageqa", split, qa, media=pictures(number))
    pairs = [{"question": "Q?", "answer": "12", "explanation": "Since."}]
    pairs += [{"question": "R?", "answer": "13", "explanation": None}]
    for kind in ("chart", "doc"):
        document = {"id": "d", "doc_type": kind, "questions": pairs}
        write("molmo2_synmultiimageqa", f"train_{kind}", document, media=pictures(2))
    points = {"urls": ["u"] * 2, "labels": ["Cat", "cats"], "normalized_labels": ["cat", "cat"]}
    write("molmo2_multiimagepoint", "train", {**points, "points": [[[1.0, 2.0]], []]}, media=pictures(2))
    return folder


@pytest.fixture(autouse=True)
def _data_dir(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAIN_MOLMO_DATA", str(store))


def visits(dataset: gm.Dataset, item: int = 0, number: int = 200) -> list[dict]:
    return [dataset.get(item, example_rng(0, "test", epoch, item)) for epoch in range(number)]


def test_captions_of_a_video_are_branches_from_the_whole_to_the_detail():
    full, short = gm.Molmo2Cap()
    assert [(one["style"], one["text"]) for one in full["message_list"]] == [
        ("video_merged_caption", "Merged."),
        ("video_short_caption", "Short."),
        ("video_long_caption", "Long."),
    ]
    assert (full["caption"], short["caption"]) == ("Long.", "Short.")
    assert [one["style"] for one in short["message_list"]] == ["video_short_caption"]
    video = full["video"]
    assert isinstance(video, LazyVideo)
    assert (video.width, video.height, video.duration_s, video.num_frames, video.fps) == (200, 100, 20.0, 200, 10.0)
    assert full["metadata"] == {"id": "train-0", "source": "molmo2_cap", "split": "train", "video_id": "v"}
    assert len(gm.Molmo2Cap(split="validation")) == 2


def test_the_right_answer_stands_in_every_place_and_where_depends_on_the_visit_alone():
    dataset = gm.Molmo2VideoCapQa()
    places = Counter(example["message_list"][0]["answer_idx"] for example in visits(dataset))
    assert set(places) == {0, 1, 2, 3}
    assert max(places.values()) < 80  # of 200, 50 expected
    for example in visits(dataset, number=20):
        *choices, free = example["message_list"]
        for message in choices:
            assert message["style"] == "video_multiple_choice"
            assert sorted(message["options"]) == ["a", "b", "c", "right"]
            assert message["options"][message["answer_idx"]] == "right"
        assert free == {"style": "user_qa", "question": "Why?", "answer": "Because."}
        assert "subtitle" not in example
    assert gm.Molmo2VideoCapQa()[0]["message_list"] == dataset[0]["message_list"]


def test_prepared_frames_travel_with_the_video():
    assert gm.Molmo2VideoCapQa()[0]["video"].frames_ref == FRAMES
    assert gm.Molmo2Cap()[0]["video"].frames_ref is None


def test_subtitles_are_cues_with_times_and_two_at_one_time_stay_two():
    example = gm.Molmo2VideoSubtitleQa()[0]
    assert example["subtitle"] == example["subtitles"] == [(0.0, 1.5, "Hi"), (0.0, 1.5, "Yo")]
    assert len(example["message_list"]) == 3
    assert (example["question"], example["answer"]) == ("Q0?", "right")
    assert example["questions"][0] == "Q0?"
    assert len(example["questions"]) == len(example["answers"]) == 3


def test_people_s_questions_are_asked_as_they_are():
    example = gm.Molmo2AskModelAnything()[0]
    assert example["message_list"] == [{"style": "user_qa", "question": "Why?", "answer": "Because."}] * 2
    assert example["subtitles"] is None


def test_points_are_asked_for_in_two_styles_and_one_time_in_five_as_a_conversation():
    dataset = gm.Molmo2VideoPoint()
    seen = visits(dataset, number=400)
    conversations = [example for example in seen if "multi_turn_messages" in example["message_list"][0]]
    assert 50 < len(conversations) < 115  # 80 expected
    messages = [
        message
        for example in seen
        for message in example["message_list"][0].get("multi_turn_messages", example["message_list"])
    ]
    assert len(messages) == 800
    styles = Counter(message["style"] for message in messages)
    assert min(styles["video_point"], styles["video_point_count"]) > 330
    # Where no number is asked for, the question how many is left out, and comes back at the next visit.
    assert all(("question" in message) == (message["style"] == "video_point_count") for message in messages)
    assert messages[0]["timestamps"] == [1.0, 4.5]
    assert messages[0]["points"] == QUERY["points"]
    assert not any("multi_turn_messages" in one["message_list"][0] for one in visits(dataset, 1))


def test_a_clip_of_a_longer_video_is_named_in_the_metadata():
    whole, clipped, asked = [gm.Molmo2VideoPoint(max_points=5)[i] for i in range(3)]
    assert "clip_start_time" not in whole["metadata"]
    assert (clipped["metadata"]["clip_start_time"], clipped["metadata"]["clip_end_time"]) == (2.0, 9.5)
    assert clipped["query"] == "How many cats are there?"
    assert clipped["points"][0] == {"x": 0.5, "y": 1.0, "timestamp": 1.0, "object_id": 0}
    (message,) = asked["message_list"]
    assert (message["style"], message["prompt"], asked["query"]) == ("video_point", *["Point to the cats"] * 2)
    assert [[point["object_id"] for point in one["points"]] for one in (whole, asked)] == [[0, 1, 2], [0, 1, 0]]


def test_queries_are_chosen_by_their_number_of_points_and_certainty():
    point = gm.Molmo2VideoPoint
    assert point().records.splits == ("train_0_5", "train_6_25", "train_26_60")
    assert point(min_points=6, max_points=25).records.splits == ("train_6_25",)
    assert point(max_points=25).records.splits == ("train_0_5", "train_6_25")
    assert point(max_points=5, unsure=True).records.splits == ("train_0_5", "train_0_5_unsure")
    assert len(point(oversample=True)) == 3 + 2 + 4
    assert len(list(point(oversample=True))) == 9
    for low, high in ((1, 5), (0, 30), (6, 5), (61, 90)):
        with pytest.raises(ConfigError, match="whole parts 0 to 5, 6 to 25, 26 to 60"):
            point(min_points=low, max_points=high)


def test_tracks_bring_their_frames_and_how_to_sample_the_video():
    example, empty = gm.Molmo2VideoTrack(task="track", sampling_fps=2)
    (message,) = example["message_list"]
    assert message == {
        "style": "video_point_track_per_frame",
        "label": "the dog",
        "sampling_fps": 2,
        "width": 400,
        "height": 200,
        "points": [
            {"frame": 0, "time": 0.0, "points": {0: {"point": [0.0, 0.0], "occluded": True}}},
            {"frame": 3, "time": 0.5, "points": {1: {"point": [200.0, 50.0], "occluded": False}}},
        ],
    }
    assert example["tracks"] == [{"x": 0.5, "y": 0.25, "timestamp": 0.5, "object_id": 1}]
    assert example["metadata"]["sampler_overrides"] == {
        "frame_sample_mode": "fps",
        "candidate_sampling_fps": [2, 6],
        "min_fps": 2,
    }
    assert empty["message_list"][0]["points"] is None


@pytest.mark.parametrize(
    ("arguments", "candidates"),
    [
        ((6, 2), [1, 2, 3, 6]),
        ((6, 2, 2), [2, 6]),
        ((30, 1), [1, 2, 3, 5, 6, 10]),
        ((24, 1, 1), [1, 2, 3, 4, 6, 8]),
        ((29, 1), [1]),
        ((None, 2), [2]),
        ((30, 15, 15), [15]),
    ],
)
def test_rates_to_sample_at_divide_the_video_s_and_are_at_most_ten(arguments: tuple, candidates: list[int]):
    assert track_sampling(*arguments)["candidate_sampling_fps"] == candidates


def test_tasks_and_rates_of_tracks_are_chosen_by_store_split():
    track = gm.Molmo2VideoTrack
    assert track(task="track").records.splits == ("train_track_1fps", "train_track_2fps")
    styles = [example["message_list"][0]["style"] for example in track()]
    assert Counter(styles) == {
        "video_point_track_per_frame": 3,
        "video_point_ground_start_end": 1,
        "video_single_point_track_per_frame": 1,
    }
    assert track(task="single_point_track")[0]["query"] == "Track the dog"
    with pytest.raises(ConfigError, match="no split 'train_ground_2fps'"):
        track(task="ground", sampling_fps=2)


def test_questions_about_several_pictures_may_be_told_not_to_point():
    example = gm.Molmo2MultiImageQa()[0]
    assert [image.shape for image in example["image"]] == [(30, 40 + i, 3) for i in range(3)]
    assert all(isinstance(image, LazyImage) for image in example["image"])
    counting, other = example["message_list"]
    prefix = counting["question"].removesuffix(" How many cats are there?")
    assert prefix in NO_POINTING_PREFIXES
    assert other == {"style": "correction_qa", "question": "Why?", "answer": "So."}
    assert example["questions"] == ["How many cats are there?", "Why?"]
    plain = gm.Molmo2MultiImageQa(prefix_how_many=False)[0]
    assert plain["message_list"][0]["question"] == "How many cats are there?"


def test_sets_of_pictures_are_chosen_by_their_size_without_reading_them():
    qa = gm.Molmo2MultiImageQa
    assert [len(example["image"]) for example in qa()] == [3]
    assert [len(example["image"]) for example in qa(max_images=None)] == [3, 6]
    assert [len(example["image"]) for example in qa(multi_only=False)] == [1, 3]
    with pytest.raises(ConfigError, match="max_images=4"):
        qa(max_images=4)


def test_documents_are_answered_with_or_without_the_reasoning():
    short = gm.Molmo2SynMultiImageQa(doc_type="doc")[0]
    assert [(one["style"], one.get("explanation")) for one in short["message_list"]] == [("cosyn_doc", None)] * 2
    explained = gm.Molmo2SynMultiImageQa(doc_type="doc", explanations=True)[0]["message_list"]
    assert [(one["style"], one.get("explanation")) for one in explained] == [
        ("cosyn_doc_exp", "Since."),
        ("cosyn_doc", None),
    ]
    assert [example["document_type"] for example in gm.Molmo2SynMultiImageQa()] == ["chart", "doc"]


def test_points_in_several_pictures_are_asked_for_in_two_styles():
    seen = visits(gm.Molmo2MultiImagePoint(), number=100)
    styles = Counter(example["message_list"][0]["style"] for example in seen)
    assert min(styles["multi_image_pointing"], styles["multi_image_point_then_count"]) > 30
    (message,) = seen[0]["message_list"]
    assert message["points"] == [[[1.0, 2.0]], []]
    assert (message["labels"], message["normalized_labels"]) == (["Cat", "cats"], ["cat", "cat"])
    assert (message["point_scale"], message["clip_points"]) == (100, True)


CLASSES = [gm.Molmo2Cap, gm.Molmo2VideoCapQa, gm.Molmo2VideoSubtitleQa, gm.Molmo2AskModelAnything, gm.Molmo2VideoPoint]
CLASSES += [gm.Molmo2VideoTrack, gm.Molmo2MultiImageQa, gm.Molmo2SynMultiImageQa, gm.Molmo2MultiImagePoint]


@pytest.mark.parametrize("made", CLASSES)
def test_examples_depend_on_the_random_state_alone_and_survive_pickling(made: type):
    dataset = made()
    copy = pickle.loads(pickle.dumps(dataset))
    for item in range(len(dataset)):
        first, again, copied = (one.get(item, example_rng(7, "n", 3, item)) for one in (dataset, dataset, copy))
        assert str(first) == str(again) == str(copied)
        assert ("video" in first) != ("image" in first)
        assert first["message_list"]
        assert first["metadata"]["source"] == made.NAME


@pytest.mark.parametrize("name", [*VIDEO_DATASETS, *MULTI_IMAGE_DATASETS])
def test_every_registered_name_opens(name: str):
    kind = name.removeprefix("cosyn_multidoc_").removesuffix("_exp")
    if name == "molmo2_video_single_point_track_1fps" or (kind in MULTI_IMAGE_TYPES and kind not in ("chart", "doc")):
        with pytest.raises(ConfigError, match="has no split"):
            gm.get_dataset(name)
    else:
        assert len(gm.get_dataset(name)) > 0


def test_names_of_the_published_mixtures_are_known():
    published = {
        *("molmo2_captions", "vixmo3_top_level_captions_min_3", "molmo2_syn_captions_qa", "vixmo_syn_video_capqa_v2"),
        *("molmo2_syn_captions_subtitle_qa", "vixmo_syn_video_capqa_with_sub_v2", "molmo2_human_qa", "vixmo_human_qa"),
        *("vixmo_points_oversample", "molmo2_video_point_minmax_0_5", "vixmo_points_minmax_6_25"),
        *("vixmo_points_minmax_26_60", "molmo2_video_track", "molmo2_video_track_2fps", "molmo2_video_track_ground"),
        *("molmo2_video_single_point_track", "pixmo_multi_image_qa", "pixmo_multi_image_qa_multi_only_max5"),
        *("correction_qa_multi_only_max5", "cosyn_multidoc_doc_exp", "cosyn_multidoc_chart", "pixmo_multi_points"),
        *("molmo2_cap", "molmo2_videocapqa", "molmo2_videosubtitleqa", "molmo2_askmodelanything"),
        *("molmo2_videopoint", "molmo2_videotrack", "molmo2_multiimageqa", "molmo2_synmultiimageqa"),
        "molmo2_multiimagepoint",
    }
    assert published <= set(gm.dataset_names())


def test_a_set_that_was_not_converted_says_how_to(tmp_path: Path):
    for name in ("molmo2-cap", "molmo2-videotrack", "molmo2-videopoint", "molmo2-multiimageqa"):
        with pytest.raises(StoreError, match=f"grain-molmo convert {name}"):
            gm.get_dataset(name, data_dir=tmp_path)
