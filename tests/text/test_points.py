import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grain_molmo.errors import ConfigError, ExampleError
from grain_molmo.text.points import (
    ParsedPoint,
    image_points,
    multi_image_points,
    parse_points,
    per_mille,
    plain_count,
    plain_points,
    tracks,
    video_points,
)

INSIDE = st.floats(0, 1, allow_subnormal=False)
POINTS = st.lists(st.tuples(INSIDE, INSIDE), min_size=1, max_size=60)


def render(case):
    scale, label, mode = case["scale"], case["label"], case.get("mode")
    if case["kind"] == "image":
        return image_points(case["points"], scale, label, mode)
    if case["kind"] == "multi_image":
        return multi_image_points(case["images"], case["points"], scale, label, mode)
    if case["kind"] == "video":
        return video_points(case["timestamps"], case["points"], scale, label, mode)
    return tracks(case["frames"], scale, label)


def test_every_known_answer_of_the_published_pipeline_is_exact(golden):
    cases = json.loads((golden / "points.json").read_text(encoding="utf-8"))
    assert [render(case) for case in cases] == [case["text"] for case in cases]


def test_known_image_points():
    """Molmo2 §2.6."""
    points = [(50, 25.55), (12.34, 99.96), (12.34, 3)]
    tag = '<points coords="1 1 123 030 2 123 1000 3 500 256">dogs</points>'
    assert image_points(points, 100, "dogs", "pointing") == tag
    assert image_points(points, 100, "dogs") == tag
    assert image_points(points, 100, "dogs", "point_count") == f"Counting the {tag} shows a total of 3."
    assert image_points(points, 100, "dogs", "count_then_point") == f"There are 3 {tag}."
    assert image_points(points, 100, "dogs", "count") == "3"


def test_known_multi_image_and_video_points():
    """Molmo2 §2.6, §2.7."""
    images = multi_image_points([3, 1], [[(10, 20), (5, 6)], [(7, 8)]], 100, "cat", "point_then_count")
    assert images == (
        'Counting the <points coords="3 1 050 060 2 100 200;1 3 070 080">cat</points> shows a total of 3.'
    )
    video = video_points([0.0, 12.5], [[(1, 2), (3, 4)], [(5, 6)]], 100, "Red Car", "point_count")
    assert video == (
        'Counting the <points coords="0.0 1 010 020 2 030 040;12.5 3 050 060">Red Car</points> shows a total of 3.'
    )


def frame(time, **objects):
    points = {key: {"point": value[:2], "occluded": len(value) == 3} for key, value in objects.items()}
    return {"time": time, "points": points}


def test_known_tracks():
    """Molmo2 §2.8: numbers by first appearance, then listed by number; occluded points and empty frames left out."""
    frames = [
        frame(2.0, a=(60, 1), c=(0.1, 0.1), b=(12, 5)),
        frame(0.0, a=(100, 1), b=(4, 4), c=(0, 0, "occluded")),
        frame(1.5, a=(0, 0, "occluded")),
        frame(1.0, b=(8, 4)),
    ]
    assert tracks(frames, (128, 64), "the dog") == (
        '<tracks coords="0.0 1 031 062 2 781 016;1.0 1 062 062;2.0 1 094 078 2 469 016 3 001 002">the dog</tracks>'
    )


def test_nothing_to_show():
    assert image_points([], 100, "dogs", "pointing") == "There are none."
    assert video_points([1.0], [[]], 100, "dogs", "point_count") == "There are none."
    assert tracks([], 100, "dog") == "There are none."
    assert tracks([frame(0.0, a=(1, 1, "occluded"))], 100, "dog") == ""


def test_a_frame_without_points_leaves_no_trace():
    text = video_points([0.0, 0.5, 1.0], [[(1, 1)], [], [(2, 2)]], 100, "dog")
    assert text == '<points coords="0.0 1 010 010;1.0 2 020 020">dog</points>'


def test_points_are_sorted_after_rounding():
    """Molmo2 §12."""
    assert '"1 1 900 700 2 900 800"' in image_points([(0.90001, 0.8), (0.9, 0.7)], 1, "x")


@pytest.mark.parametrize(
    ("point", "rounded"),
    [
        ((50, 101), (500, 1000)),
        ((50, -3), (500, 0)),
        ((101, 50), (1000, 500)),
        ((-1, 1e9), (0, 1000)),
        ((80.65, 0.05), (807, 0)),
    ],
)
def test_points_outside_move_to_the_edge_and_halves_go_to_even(point, rounded):
    assert per_mille([point], 100) == [rounded]


def test_the_scale_may_differ_by_side_and_arrays_are_fine():
    points = np.array([[320, 120]], np.float32)
    assert per_mille(points, (640, 480)) == [(500, 250)]


@pytest.mark.parametrize("point", [(float("nan"), 1), (1, float("inf")), (1,), (1, 2, 3), ("a", 1), (None, 1), 3])
def test_points_that_are_no_points_are_example_errors(point):
    with pytest.raises(ExampleError, match="bad_points"):
        image_points([point], 100, "x")


@pytest.mark.parametrize("scale", [0, (100, 0), -1, float("nan")])
def test_a_scale_must_be_above_zero(scale):
    with pytest.raises(ExampleError, match="bad_points"):
        image_points([(1, 1)], scale, "x")


def test_an_unknown_mode_is_refused():
    with pytest.raises(ConfigError, match="point_cuont"):
        image_points([(1, 1)], 100, "x", "point_cuont")


def test_separator_and_alt_text():
    assert multi_image_points([1, 2], [[(1, 1)], [(2, 2)]], 100, "x", separator="\t") == (
        '<points coords="1 1 010 010\t2 2 020 020">x</points>'
    )
    assert image_points([(1, 1)], 100, "it", alt="the dog") == '<points alt="the dog" coords="1 1 010 010">it</points>'


@given(points=POINTS, mode=st.sampled_from([None, "point_count", "count_point"]))
def test_points_parse_back_to_within_half_a_thousandth(points, mode):
    parsed = parse_points(image_points(points, 1, "a label", mode))
    assert [p.object_id for p in parsed] == list(range(1, len(points) + 1))
    assert [(p.x, p.y) for p in parsed] == sorted((p.x, p.y) for p in parsed)
    found = np.array([(p.x, p.y) for p in parsed])
    for point in points:
        assert np.abs(found - point).max(axis=1).min() <= 0.0005 + 1e-12


@given(st.lists(POINTS, min_size=1, max_size=4), st.sampled_from([";", "\t"]))
def test_video_points_keep_their_frames_through_parsing(points, separator):
    times = [0.5 * i for i in range(len(points))]
    parsed = parse_points(video_points(times, points, 1, "x", separator=separator))
    assert [p.frame for p in parsed] == [time for time, group in zip(times, points, strict=True) for _ in group]
    assert len({p.object_id for p in parsed}) == len(parsed)


def test_parsing_passes_over_what_a_model_got_wrong():
    text = 'see <points coords="1 1 500 250 1 600 600 2 1001 000 3 1000 000 4 12 5">x</points> and <points coords="">y'
    assert parse_points(text, (640, 480)) == [ParsedPoint(1.0, 1, 320.0, 120.0), ParsedPoint(1.0, 3, 640.0, 0.0)]
    assert parse_points("no tag") == []
    assert parse_points('<points coords=". 1 500 500">x</points>') == []


def test_tracks_parse_back():
    text = '<tracks coords="0.0 1 031 062 2 781 021;1.0 1 062 062">the dog</tracks>'
    assert [(p.frame, p.object_id) for p in parse_points(text)] == [(0.0, 1), (0.0, 2), (1.0, 1)]


def test_plain_points_are_pixels_in_the_order_given():
    assert plain_points([(245, 378)], (640, 480), (640, 480)) == "Point: x=245 y=378"
    assert plain_points([(50, 50), (25, 100)], 100, (640, 480)) == "Point: x=320 y=240\nPoint: x=160 y=479"
    assert plain_points([], 100, (640, 480)) == "There are none."
    assert plain_count(7) == "Count: 7"
