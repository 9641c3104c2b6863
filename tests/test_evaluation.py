"""Scores of points and counts: known answers, and what must hold of any."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grain_molmo.errors import ConfigError
from grain_molmo.evaluation import PointScore, mean_scores, score_answer, score_count, score_in_masks, score_near
from grain_molmo.text.points import image_points

XY = st.tuples(st.integers(0, 19), st.integers(0, 9))
MANY = st.lists(XY, max_size=6)


def disc(x, y, radius=1, size_hw=(10, 20)):
    """The mask of what is around a point."""
    rows, columns = np.indices(size_hw)
    return np.hypot(columns - x, rows - y) <= radius


def test_points_on_their_objects_are_right_in_any_order():
    wanted = [(3, 3), (15, 5)]
    masks = [disc(*point) for point in wanted]
    assert score_in_masks([(15, 5), (3, 3)], wanted, masks) == PointScore(2, 1.0, 1.0)
    assert score_in_masks([(15, 5)], wanted, masks) == PointScore(1, 1.0, 0.5)
    one_too_many = score_in_masks([(15, 5), (3, 3), (9, 9)], wanted, masks)
    assert (one_too_many.precision, one_too_many.recall) == (2 / 3, 1.0)
    assert one_too_many.f1 == pytest.approx(0.8)


def test_two_points_on_one_object_are_one_hit():
    wanted = [(3, 3), (15, 5)]
    assert score_in_masks([(3, 3), (3, 4)], wanted, [disc(*point) for point in wanted]) == PointScore(1, 0.5, 0.5)


def test_a_point_is_held_against_the_object_that_it_is_assigned_to():
    """The second object's mask covers everything, but the point is nearest to the first's."""
    wanted = [(3, 3), (15, 5)]
    assert score_in_masks([(5, 3)], wanted, [disc(3, 3), disc(15, 5, radius=50)]).hits == 0


def test_a_point_is_in_the_pixel_that_its_rounded_coordinates_name():
    mask = np.zeros((10, 20), bool)
    mask[4, 7] = True
    expected = {(7.4, 4.4): 1, (6.6, 3.6): 1, (7.6, 4): 0, (7, 4.6): 0}
    assert {point: score_in_masks([point], [(7, 4)], [mask]).hits for point in expected} == expected
    assert score_in_masks([(20, 10)], [(19, 9)], [disc(19, 9, 5)]).hits == 0  # the far edge is no pixel


@pytest.mark.parametrize(
    "score",
    [
        lambda points, wanted: score_near(points, wanted, 1),
        lambda points, wanted: score_in_masks(points, wanted, [disc(*point) for point in wanted]),
    ],
)
def test_where_nothing_is_wanted_nothing_is_right_and_where_nothing_is_pointed_at_nothing_was_found(score):
    assert score([], []) == PointScore(0, 1.0, 1.0)
    assert score([(1, 1)], []) == PointScore(0, 0.0, 0.0)
    assert score([], [(1, 1)]) == PointScore(0, 0.0, 0.0)
    assert [score([], []).f1, score([(1, 1)], []).f1, score([], [(1, 1)]).f1] == [1, 0, 0]


def test_as_many_points_are_paired_as_can_be():
    """The least sum of distances would pair what is at the origin, and leave the others too far from each other."""
    assert score_near([(0, 0), (-0.125, 0.992)], [(0, 0), (1, 0)], 1).hits == 2


@given(MANY, MANY, st.floats(0, 5))
def test_points_against_points_is_fair_to_both_sides(points, wanted, distance):
    score, other = score_near(points, wanted, distance), score_near(wanted, points, distance)
    assert score.hits == other.hits
    assert 0 <= score.hits <= min(len(points), len(wanted))
    assert 0 <= score.f1 <= 1
    assert score_near(points, wanted, distance + 1).hits >= score.hits
    assert score_near(wanted, wanted, distance) == PointScore(len(wanted), 1.0, 1.0)


@given(MANY, MANY)
def test_masks_of_everything_make_every_pair_a_hit(points, wanted):
    score = score_in_masks(points, wanted, [np.ones((10, 20), bool)] * len(wanted))
    assert score.hits == min(len(points), len(wanted))


@pytest.mark.parametrize("points", [[(1, 2, 3)], [1, 2], [("a", "b")], [[(1, 2)]], [(1, 2), (1,)]])
def test_what_are_no_points_are_the_callers_fault(points):
    with pytest.raises(ConfigError, match="pairs of x and y"):
        score_near(points, [(1, 1)], 1)
    with pytest.raises(ConfigError, match="pairs of x and y"):
        score_in_masks([(1, 1)], points, [disc(1, 1)])


@pytest.mark.parametrize(
    "score",
    [lambda points: score_in_masks([(1, 1)], points, [disc(1, 1)]), lambda points: score_near([(1, 1)], points, 1)],
)
def test_points_that_are_nowhere_are_the_callers_fault(score):
    with pytest.raises(ConfigError, match="pairs of finite numbers"):
        score([(math.nan, 1)])


def test_each_point_needs_its_mask():
    with pytest.raises(ConfigError, match="2 points are wanted, there are 1 masks"):
        score_in_masks([(1, 1)], [(1, 1), (2, 2)], [disc(1, 1)])


@pytest.mark.parametrize(
    ("found", "correct", "close", "valid"), [(3, 1, 1, 1), (4, 0, 1, 1), (2, 0, 1, 1), (5, 0, 0, 1), (None, 0, 0, 0)]
)
def test_a_count_is_right_close_or_none(found, correct, close, valid):
    assert score_count(found, 3) == {"count_correct": correct, "count_close": close, "count_valid": valid}


def message(style, points, **fields):
    return {"message": {"style": style, "label": "dog", "points": points, **fields}, "image_size": [640, 480]}


def test_a_right_answer_scores_in_full_whatever_units_its_points_are_known_in():
    text = image_points([(25, 50), (75, 50)], 100, "dog", "point_count")
    full = {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    counted = {"count_correct": 1.0, "count_close": 1.0, "count_valid": 1.0}
    percent, in_pixels = [(25, 50), (75, 50)], [(160, 240), (480, 240)]
    assert score_answer(text, message("pointing", percent, point_scale=100)) == full
    assert score_answer(text, message("pointing", np.array(in_pixels))) == full
    assert score_answer(text, message("pointing", percent, width=100, height=100)) == full
    assert score_answer(text, message("point_count", percent, point_scale=100)) == full | counted
    assert score_answer("Point: x=160 y=240\nPoint: x=480 y=240", message("pointing", in_pixels)) == full


def test_points_near_enough_are_right_and_others_wrong():
    wanted = message("pointing", [(160, 240)])
    assert score_answer("Point: x=192 y=240", wanted)["f1"] == 1  # 5 % of 640
    assert score_answer("Point: x=193 y=240", wanted)["f1"] == 0
    assert score_answer("I cannot see one.", wanted)["f1"] == 0


def test_masks_decide_where_there_are_some_in_their_own_pixels():
    masks = [disc(5, 5), disc(15, 5)]
    metadata = {**message("pointing", [(160, 240)]), "masks": masks, "points": [(5, 5), (15, 5)]}
    text = image_points([(25, 50), (10, 10)], 100, "dog")
    assert score_answer(text, metadata) == {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert score_answer("Point: x=160 y=240", metadata)["precision"] == 1
    assert (
        score_answer(text, {"masks": masks, "points": [(5, 5), (15, 5)]})["f1"] == 0.5
    )  # the picture's size not known
    assert score_answer("There are none.", {"masks": [], "points": np.zeros((0, 2))})["f1"] == 1


def test_a_count_is_scored_where_one_was_asked_for():
    assert score_answer("7", {"message": {"style": "count", "label": "dog", "count": 7}})["count_correct"] == 1
    assert score_answer("7", {"message": {"style": "video_count", "label": "dog", "count": 8}})["count_close"] == 1
    frames = [[(1, 2), (3, 4)], [(5, 6)], []]
    assert score_answer("3", message("video_point_count", frames))["count_correct"] == 1
    single = message("video_point_count", [[(1, 2)], [(5, 6)]])  # a frame each, which must not be taken for a pair
    assert score_answer("2", single) == {"count_correct": 1, "count_close": 1, "count_valid": 1}
    several = {**message("multi_image_point_then_count", [[(1, 2)]]), "image_size": [[640, 480], [9, 9]]}
    assert "f1" not in score_answer("1", several)


def test_points_outside_the_picture_are_wanted_at_its_edge():
    assert score_answer("Point: x=639 y=240", message("pointing", [(900, 240)]))["f1"] == 1


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"id": "a"},
        {"message": None},
        {"message": {"style": "long_caption", "text": "A dog."}},
        {"message": {"style": "pointing", "label": "dog", "points": [(1, 2)]}},
        {"message": {"style": "video_multiple_choice_count_without_pointing", "question": "How many?"}},
    ],
)
def test_what_nobody_knows_the_answer_to_has_no_score(metadata):
    assert score_answer("A dog.", metadata) == {}


def test_means_are_over_the_examples_that_have_the_score():
    assert mean_scores([{"f1": 1.0}, {}, {"f1": 0.0, "count_correct": 1.0}]) == {
        "f1": 0.5,
        "count_correct": 1.0,
        "scored": 2,
    }
    assert mean_scores([]) == {"scored": 0}
