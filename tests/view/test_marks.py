"""What is drawn on pictures: places, names, numbers and colours of what answers and fields say."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from grain_molmo.text.points import image_points, multi_image_points, plain_points, plain_tracks, tracks
from grain_molmo.view.marks import held_marks, held_points, pointed_at, tracks_of

PERCENT = st.floats(0, 100)
TRACK = [
    {"time": 0.0, "points": {"a": {"point": (10, 20)}, "b": {"point": (90, 80)}}},
    {"time": 0.5, "points": {"a": {"point": (30, 40)}, "b": {"point": (50, 50), "occluded": True}}},
    {"time": 1.0, "points": {"a": {"point": (50, 60)}, "b": {"point": (70, 60)}}},
]


def places(marks):
    return [(mark.x, mark.y) for mark in marks]


@given(points=st.lists(st.tuples(PERCENT, PERCENT), max_size=8))
def test_points_of_an_answer_lie_within_half_a_thousandth_of_where_they_were(points):
    pointed = pointed_at(f"Yes: {image_points(points, 100, 'dogs', 'pointing')}", 3, [(640, 480)])

    found, given = (np.array(sorted(pairs)).reshape(-1, 2) for pairs in (places(one.mark for one in pointed), points))
    assert len(found) == len(given)
    assert np.allclose(np.sort(found, axis=0), np.sort(given, axis=0) / 100, atol=0.000501)
    assert {(one.mark.label, one.mark.group, one.frame) for one in pointed} <= {("dogs", 3, 1.0)}


@given(points=st.lists(st.tuples(PERCENT, PERCENT), max_size=8))
def test_plain_points_lie_within_a_pixel_of_where_they_were(points):
    pointed = pointed_at(plain_points(points, 100, (640, 480)), 0, [(640, 480)])

    assert len(pointed) == len(points)
    for one, (x, y) in zip(pointed, points, strict=True):
        assert abs(one.mark.x - x / 100) <= 1.001 / 640
        assert abs(one.mark.y - y / 100) <= 1.001 / 480


def test_points_of_several_pictures_know_their_picture_and_run_on_in_number():
    pointed = pointed_at(multi_image_points([2, 3], [[(10, 10)], [(20, 20), (30, 30)]], 100, "cups"), 0, [(9, 9)] * 3)

    assert [(one.frame, one.mark.number) for one in pointed] == [(2, 1), (3, 2), (3, 3)]


@pytest.mark.parametrize("answer", [tracks(TRACK, 100, "cups"), plain_tracks(TRACK, 100, (1000, 1000))])
def test_a_track_is_the_places_of_one_thing_in_order_of_time_without_those_where_it_is_hidden(answer):
    first, second = tracks_of(pointed_at(answer, 1, [(1000, 1000)]))

    assert first.places == ((0.0, 0.1, 0.2), (0.5, 0.3, 0.4), (1.0, 0.5, 0.6))
    assert second.places == ((0.0, 0.9, 0.8), (1.0, 0.7, 0.6))
    assert (first.number, second.number, first.group) == (1, 2, 1)


def test_points_that_follow_nothing_are_no_track():
    assert tracks_of(pointed_at(image_points([(1, 2), (3, 4)], 100, "cups"), 0, [])) == ()


def test_boxes_are_shares_of_the_picture_or_of_their_scale():
    in_pixels = held_marks({"boxes": [[64, 48, 320, 240]], "box_labels": ["cup"]}, (640, 480), 2)
    in_percent = held_marks({"boxes": np.array([[10, 10, 50, 50]]), "box_scale": 100}, (640, 480), 2)

    for (box,) in (in_pixels, in_percent):
        assert (box.kind, box.x, box.y, box.width, box.height) == ("box", 0.1, 0.1, 0.4, 0.4)
        assert (box.number, box.group) == (1, 2)
    assert [box.label for box in (*in_pixels, *in_percent)] == ["cup", ""]


def test_a_mask_is_shown_by_the_box_around_it_and_an_empty_one_is_not():
    mask = np.zeros((20, 40), bool)
    mask[5:10, 8:16] = True

    (box,) = held_marks({"metadata": {"masks": [mask, np.zeros((20, 40), bool)]}}, (400, 200), 0)

    assert (box.x, box.y, box.width, box.height) == (0.2, 0.25, 0.2, 0.25)


def test_points_that_no_answer_says_are_taken_from_the_field_with_their_names():
    fields = {"points": [{"x": 64, "y": 48}, (320, 240)], "object_names": ["a", "b"]}

    marks = held_points(fields, (640, 480))

    assert places(marks) == [(0.1, 0.1), (0.5, 0.5)]
    assert [mark.label for mark in marks] == ["a", "b"]


@pytest.mark.parametrize(
    "points", [None, "none", [], [1, 2], [(1, 2, 3)], [("a", "b")], [(1, float("nan"))], [[(1, 2)]]]
)
def test_what_is_no_list_of_pairs_marks_nothing(points):
    assert held_points({"points": points}, (640, 480)) == ()


def test_a_track_goes_in_order_of_time_however_the_answer_tells_it_and_one_place_is_none():
    text = '<tracks coords="2.0 1 300 300;0.0 1 100 100 2 900 900;1.0 1 200 200">dogs</tracks>'

    (track,) = tracks_of(pointed_at(text, 0, [(640, 480)]))

    assert (track.number, track.label) == (1, "dogs")
    assert [time for time, _, _ in track.places] == [0.0, 1.0, 2.0]


def test_plain_points_of_several_pictures_are_in_pixels_of_their_own_picture():
    text = "Image: 1 Point: x=50 y=50\nImage: 2 Point: x=50 y=50"

    pointed = pointed_at(text, 0, [(100, 200), (1000, 500)])

    assert [(one.frame, one.mark.x, one.mark.y) for one in pointed] == [(1, 0.5, 0.25), (2, 0.05, 0.1)]


@pytest.mark.parametrize("sizes", [[], [(0, 0)], [(0, 0), (10, 10)]])
def test_plain_points_in_pixels_of_a_picture_of_no_known_size_mark_nothing(sizes):
    assert pointed_at("Point: x=50 y=50", 0, sizes) == []


@pytest.mark.parametrize(
    ("scale", "place"),
    [
        (100, (0.5, 0.25)),
        ((200, 50), (0.25, 0.5)),
        (0.5, (100, 50)),
        ((100, 0), (0.078125, 25 / 480)),
        ("x", (50 / 640, 25 / 480)),
    ],
)
def test_points_of_a_field_are_shares_of_their_scale_where_it_is_one(scale, place):
    (mark,) = held_points({"points": [(50, 25)], "point_scale": scale, "label": "cup"}, (640, 480))

    assert (mark.x, mark.y) == pytest.approx(place)
    assert (mark.label, mark.number) == ("cup", 1)


def test_names_and_labels_that_are_too_few_leave_the_others_without():
    points = held_points({"points": [(1, 1), (2, 2)], "object_names": ["a"], "label": "thing"}, (640, 480))
    boxes = held_marks({"boxes": [(0, 0, 1, 1), (1, 1, 2, 2)], "box_labels": ["a"]}, (640, 480), 0)

    assert [mark.label for mark in points] == ["a", "thing"]
    assert [mark.label for mark in boxes] == ["a", ""]
    assert [mark.number for mark in boxes] == [1, 2]


def test_boxes_told_by_their_sides_are_those_told_in_order():
    sides = {"left": 64, "top": 120, "right": 320, "bottom": 480}

    named, ordered = (held_marks({"boxes": [box]}, (640, 480), 0) for box in (sides, list(sides.values())))

    assert named == ordered
    assert (named[0].x, named[0].y, named[0].width, named[0].height) == (0.1, 0.25, 0.4, 0.75)


@pytest.mark.parametrize(
    "mask", [np.ones((2, 3, 4), bool), [[1], [1, 1]], "mask", np.ones(4, bool), np.ones((0, 4), bool)]
)
def test_what_is_no_mask_is_left_out_and_the_others_keep_their_numbers(mask):
    there = np.ones((2, 2), bool)

    (found,) = held_marks({"metadata": {"masks": [mask, there]}}, (640, 480), 5)

    assert (found.number, found.group) == (2, 5)
