import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.pixmo import pack_labels, parse_dialogue
from converters.points import MAX_POINTS
from converters.sets import SETS, find_set
from converters.spec import Embedded, FromFile, FromUrl, Place
from grain_molmo.errors import ConfigError, RowError
from grain_molmo.store import MediaRef

TRAIN = Place(None, "train", None)


def medium(width: int, height: int) -> MediaRef:
    return MediaRef("0" * 64, "image", width, height, 1)


URL = {"image_url": "http://host/a.jpg", "image_sha256": "ab" * 32}
POINTS = {**URL, "label": "dogs", "collection_method": "pointing", "count": 2, "points": [{"x": 1, "y": 2.5}] * 2}
COUNT = {**URL, "label": "cars", "count": 2, "points": {"x": [0.0, 40.0], "y": [5.0, 30.0]}}
QUESTIONS = {"question": ["What?", "Who?"], "answer": ["A bar chart", "Nobody"]}
DOCS = {"image": {"bytes": b"png", "path": None}, "image_id": "c1", "questions": QUESTIONS}
CLOCK = {"example_id": "e/1", "text": "5:34:22", "time_format": "Without AM/PM"}
CLOCK |= {"hour_visible": 5, "minute_visible": 34, "second_visible": 22}
GOOD = {
    "pixmo_cap": {**URL, "caption": "A dog.", "transcripts": ["so there is a dog"]},
    "pixmo_points": POINTS,
    "pixmo_count": COUNT,
    "pixmo_docs": DOCS,
    "pixmo_cap_qa": {**URL, "question": "[USER] What? [ASSISTANT]", "answer": "A dog."},
    "pixmo_ask_model_anything": {**URL, "question": " What? ", "answer": "A dog."},
    "pixmo_clocks": CLOCK,
}


def parse(name: str, row: dict, place: Place = TRAIN) -> dict:
    return SETS[name].parse(row, place)


def reason(name: str, changes: dict, place: Place = TRAIN) -> str:
    with pytest.raises(RowError) as caught:
        SETS[name].parse({**GOOD[name], **changes}, place)
    return caught.value.reason


def test_a_caption_keeps_its_transcripts():
    assert parse("pixmo_cap", GOOD["pixmo_cap"]) == {"caption": "A dog.", "transcripts": ["so there is a dog"]}
    assert parse("pixmo_cap", {**GOOD["pixmo_cap"], "transcripts": None})["transcripts"] == []


def test_points_are_percent_and_a_click_over_the_edge_is_moved_onto_it():
    row = {**POINTS, "points": [{"x": -0.3, "y": 100.4}, {"x": 0, "y": 100}]}
    assert parse("pixmo_points", row)["points"] == [[0.0, 100.0], [0.0, 100.0]]


def test_a_label_that_nothing_fits_has_no_points():
    assert parse("pixmo_points", {**POINTS, "count": 0, "points": []}) == {"label": "dogs", "points": []}


@pytest.mark.parametrize("point", [{"x": 100.6, "y": 1.0}, {"x": 1.0, "y": -0.6}, {"x": 640.0, "y": 480.0}])
def test_points_beyond_the_percent_range_are_rejected(point: dict):
    assert reason("pixmo_points", {"points": [point], "count": 1}) == "points_out_of_range"


def test_labels_of_more_than_60_points_are_rejected():
    assert len(parse("pixmo_points", {**POINTS, "points": POINTS["points"][:1] * 60, "count": 60})["points"]) == 60
    assert reason("pixmo_points", {"points": POINTS["points"][:1] * 61, "count": 61}) == "more_than_60_points"


def test_points_of_counting_are_pixels_that_must_lie_in_the_picture():
    spec = SETS["pixmo_count"]
    piece = parse("pixmo_count", COUNT)
    assert spec.fit(piece, medium(40, 30))["points"] == [[0.0, 5.0], [40.0, 30.0]]
    assert spec.fit(piece, medium(39, 29))["points"] == [[0.0, 5.0], [39.0, 29.0]]  # within a pixel
    with pytest.raises(RowError) as caught:
        spec.fit(piece, medium(30, 40))
    assert caught.value.reason == "points_outside_image"


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("points", [None, {"x": None, "y": None}, {"x": [], "y": []}, []])
def test_evaluation_rows_of_counting_have_no_points(split: str, points: object):
    piece = parse("pixmo_count", {**COUNT, "points": points}, Place(None, split, None))
    assert (piece["count"], piece["points"]) == (2, None)
    assert SETS["pixmo_count"].fit(piece, medium(1, 1)) == piece


def test_the_hash_of_a_counted_picture_is_kept_but_not_required():
    row = COUNT
    assert parse("pixmo_count", row)["original_sha256"] == "ab" * 32
    assert SETS["pixmo_count"].media(row, TRAIN) == (FromUrl("http://host/a.jpg"),)


@pytest.mark.parametrize("name", ["pixmo_points", "pixmo_ask_model_anything"])
def test_the_sets_that_are_checked_require_the_hash(name: str):
    assert SETS[name].media(GOOD[name], TRAIN) == (FromUrl("http://host/a.jpg", "ab" * 32),)
    with pytest.raises(RowError, match="image_sha256"):
        SETS[name].media({**GOOD[name], "image_sha256": None}, TRAIN)


def test_documents_know_their_type_from_the_config():
    pairs = [["What?", "A bar chart"], ["Who?", "Nobody"]]
    place = Place("charts", "train", None)
    assert parse("pixmo_docs", DOCS, place) == {"image_id": "c1", "doc_type": "charts", "questions": pairs}
    as_list = [{"question": question, "answer": answer} for question, answer in pairs]
    assert parse("pixmo_docs", {**DOCS, "questions": as_list}, place)["questions"] == pairs


def test_embedded_pictures_are_bytes_or_files_beside_local_rows(tmp_path):
    def picture(row: dict, place: Place) -> object:
        (source,) = SETS["pixmo_docs"].media(row, place)
        return source

    local = Place("charts", "train", tmp_path)
    assert picture(DOCS, TRAIN) == Embedded(b"png")
    assert picture({"image": b"png"}, TRAIN) == Embedded(b"png")
    assert picture({"image": {"bytes": None, "path": "a.png"}}, local) == FromFile(tmp_path / "a.png")
    assert picture({"image": "a.png"}, local) == FromFile(tmp_path / "a.png")
    for row in ({"image": {"bytes": None, "path": "/etc/hostname"}}, {"image": None}, {}):
        with pytest.raises(RowError) as caught:
            picture(row, TRAIN)  # rows of the hub may not name files of this machine
        assert caught.value.reason == "missing_image"


@pytest.mark.parametrize(
    ("question", "turns"),
    [
        ("[USER] What?", ["What?"]),
        ("[USER] What? [ASSISTANT]", ["What?"]),
        ("  [USER] What? [ASSISTANT] A dog. [USER] Sure? ", ["What?", "A dog.", "Sure?"]),
        ("What is [this]?", ["What is [this]?"]),
    ],
)
def test_dialogues_are_taken_apart_by_their_tags(question: str, turns: list[str]):
    assert parse_dialogue(question) == turns


@pytest.mark.parametrize(
    "question",
    ["[ASSISTANT] Hi [USER] What?", "[USER] a [USER] b", "[USER] a [ASSISTANT] b", "Hi [USER] a", "[USER] [ASSISTANT]"],
)
def test_dialogues_whose_turns_do_not_alternate_are_rejected(question: str):
    assert reason("pixmo_cap_qa", {"question": question}) == "bad_dialogue"


def test_questions_people_asked_are_stripped():
    row = GOOD["pixmo_ask_model_anything"]
    assert parse("pixmo_ask_model_anything", row) == {"question": "What?", "answer": "A dog."}


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("pixmo_cap", {"caption": " \n"}, "empty_caption"),
        ("pixmo_cap", {"caption": None}, "missing_caption"),
        ("pixmo_cap", {"caption": 5}, "wrong_type"),
        ("pixmo_cap", {"transcripts": "one"}, "wrong_type"),
        ("pixmo_cap", {"transcripts": [1]}, "wrong_type"),
        ("pixmo_points", {"label": ""}, "empty_label"),
        ("pixmo_points", {"count": 3}, "count_mismatch"),
        ("pixmo_points", {"count": True}, "wrong_type"),
        ("pixmo_points", {"count": "2"}, "wrong_type"),
        ("pixmo_points", {"points": None}, "missing_points"),
        ("pixmo_points", {"points": [[1, 2], [3, 4]]}, "wrong_type"),
        ("pixmo_points", {"points": [{"x": 1, "y": None}] * 2}, "wrong_type"),
        ("pixmo_points", {"points": [{"x": 1, "y": math.nan}] * 2}, "wrong_type"),
        ("pixmo_points", {"points": {"x": [1, 2], "y": [1]}}, "wrong_type"),
        ("pixmo_points", {"collection_method": "guessing"}, "unknown_collection_method"),
        ("pixmo_count", {"count": 3}, "count_mismatch"),
        ("pixmo_count", {"count": -1}, "count_mismatch"),
        ("pixmo_count", {"points": None}, "missing_points"),
        ("pixmo_docs", {"questions": {"question": ["a"], "answer": []}}, "wrong_type"),
        ("pixmo_docs", {"questions": {"question": [], "answer": []}}, "empty_questions"),
        ("pixmo_docs", {"questions": {"question": ["a"], "answer": [" "]}}, "empty_questions"),
        ("pixmo_docs", {"questions": {"question": ["a"], "answer": [None]}}, "wrong_type"),
        ("pixmo_cap_qa", {"answer": ""}, "empty_answer"),
        ("pixmo_ask_model_anything", {"question": None}, "missing_question"),
        ("pixmo_clocks", {"text": ""}, "empty_text"),
        ("pixmo_clocks", {"hour_visible": "5"}, "wrong_type"),
    ],
)
def test_a_row_that_says_something_else_has_a_stable_reason(name: str, changes: dict, expected: str):
    assert reason(name, changes) == expected


@pytest.mark.parametrize("name", GOOD)
@settings(max_examples=30)
@given(data=st.data())
def test_no_value_of_a_column_makes_anything_but_a_row_error(name: str, data: st.DataObject):
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("xy"), inner))
    column = data.draw(st.sampled_from(sorted(GOOD[name])))
    row = {**GOOD[name], column: data.draw(values)}
    spec = SETS[name]
    try:
        piece = spec.parse(row, TRAIN)
        spec.media(row, TRAIN)
        annotations = spec.combine([spec.fit(piece, medium(40, 30))])
    except RowError:
        return
    # What is not refused can be stored, and comes back as it was.
    assert json.loads(json.dumps(annotations, allow_nan=False)) == annotations


@given(st.lists(st.integers(0, MAX_POINTS)))
def test_labels_are_packed_in_order_into_parts_of_at_most_60_points(counts: list[int]):
    pieces = [{"label": str(i), "points": [[0.0, 0.0]] * n} for i, n in enumerate(counts)]
    parts = pack_labels(pieces)
    assert [piece for part in parts for piece in part["labels"]] == pieces
    totals = [sum(len(piece["points"]) for piece in part["labels"]) for part in parts]
    assert all(total <= MAX_POINTS for total in totals)
    # Greedy: the first label of a part did not fit into the one before.
    firsts = [len(part["labels"][0]["points"]) for part in parts]
    assert all(before + first > MAX_POINTS for before, first in zip(totals, firsts[1:], strict=False))


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("pixmo-cap", "pixmo_cap"),
        ("pixmo-capqa", "pixmo_cap_qa"),
        ("pixmo_cap-qa", "pixmo_cap_qa"),
        ("pixmo-askmodelanything", "pixmo_ask_model_anything"),
        ("pixmo_ask_model_anything", "pixmo_ask_model_anything"),
    ],
)
def test_sets_are_found_by_every_spelling(spelling: str, name: str):
    assert find_set(spelling).name == name


def test_an_unknown_set_is_answered_with_the_known_ones():
    with pytest.raises(ConfigError, match="pixmo-clocks"):
        find_set("pixmo-dogs")
