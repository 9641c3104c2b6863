import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_random import ScriptedRandom

from grain_molmo.errors import ExampleError
from grain_molmo.text.format import format_example
from grain_molmo.text.points import parse_points

POINTS = {"label": "Red Car", "timestamps": [0.0, 12.5], "points": [[[3, 4], [1, 2]], [[5, 6]]]}
TAG = '<points coords="0.0 1 010 020 2 030 040;12.5 3 050 060">Red Car</points>'


def answer_of(message, style="video_point", **arguments):
    example = {"style": style, **message}
    return format_example(example, ScriptedRandom(), style_mode="no_style", prompt_mode="none", **arguments)[1]


@pytest.mark.parametrize(
    ("style", "answer"),
    [
        ("video_point", TAG),
        ("video_point_count", f"Counting the {TAG} shows a total of 3."),
        ("video_count", "3"),
        ("video_count_point", f"There are 3 {TAG}."),
        ("video_eval_point_count", f"Counting the {TAG} shows a total of 3."),
    ],
)
def test_points_of_a_video_by_style(style, answer):
    """Molmo2 §2.7."""
    assert answer_of(POINTS, style) == answer
    assert answer_of({**POINTS, "count": 3}, style) == answer


@pytest.mark.parametrize("style", ["video_point", "video_point_count", "video_count", "video_count_point"])
@pytest.mark.parametrize(
    "nothing", [{"count": 0, "points": None, "timestamps": None}, {"points": [], "timestamps": []}]
)
def test_nothing_to_point_at(style, nothing):
    assert answer_of({**POINTS, **nothing}, style) == "There are none."


def test_what_nobody_could_answer_is_explained_or_regretted():
    message = {"label": "Red Car", "unanswerable": True, "count": 0}
    assert "Red Car" in answer_of(message)
    assert answer_of({**message, "explanation": "It is too dark."}) == "It is too dark."
    assert answer_of({**POINTS, "unanswerable": False}) == TAG


def test_a_count_may_come_without_points():
    assert answer_of({"label": "Red Car", "count": np.int64(7)}, "video_count") == "7"


def test_frames_keep_their_order_and_empty_ones_leave_no_trace():
    message = {**POINTS, "timestamps": ["0:03", 2, 1.25], "points": [[[9, 9]], None, [[1, 1]]]}
    assert answer_of(message) == '<points coords="3.0 1 090 090;1.2 2 010 010">Red Car</points>'


def test_points_outside_move_to_the_edge():
    assert "000 1000" in answer_of({**POINTS, "timestamps": [1], "points": [[[-5, 101]]]})


def test_a_question_stands_in_for_a_label():
    message = {"question": "Where?", "timestamps": [1], "points": [[[1, 1]]]}
    assert answer_of(message) == '<points coords="1.0 1 010 010">Where?</points>'


@pytest.mark.parametrize(
    ("style", "answer"),
    [
        ("video_point", "Time: 0.0 Point: x=12 y=8\nTime: 0.0 Point: x=4 y=4\nTime: 12.5 Point: x=20 y=12"),
        ("video_count", "Count: 3"),
    ],
)
def test_plain_points_say_their_time(style, answer):
    assert answer_of(POINTS, style, point_format="plain", image_sizes=[(400, 200)]) == answer
    assert answer_of({**POINTS, "width": 400, "height": 200}, style, point_format="plain") == answer


def test_plain_counts_stand_where_the_style_has_them():
    one = {**POINTS, "timestamps": [1], "points": [[[50, 50]]]}
    arguments = {"point_format": "plain", "image_sizes": [(4, 4)]}
    assert answer_of(one, "video_point_count", **arguments) == "Time: 1.0 Point: x=2 y=2\nCount: 1"
    assert answer_of(one, "video_count_point", **arguments) == "Count: 1\nTime: 1.0 Point: x=2 y=2"
    assert answer_of({**one, "count": 0}, "video_point_count", **arguments) == "There are none.\nCount: 0"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"points": None}, "no_points"),
        ({"points": 3}, "bad_points"),
        ({"points": [[[1, 2]], 3]}, "bad_points"),
        ({"points": [[[1, 2]], [[1]]]}, "bad_points"),
        ({"points": [[[1, float("nan")]], []]}, "bad_points"),
        ({"points": [[[1, 2]]]}, "bad_points"),
        ({"timestamps": None}, "bad_time"),
        ({"timestamps": [0, "noon"]}, "bad_time"),
        ({"timestamps": [0, float("nan")]}, "bad_time"),
        ({"timestamps": [-1, 0]}, "bad_time"),
        ({"count": 2.5}, "bad_count"),
        ({"count": -1}, "bad_count"),
        ({"label": None}, "no_label"),
        ({"label": 3}, "bad_text"),
    ],
)
def test_malformed_points_name_their_reason(change, reason):
    with pytest.raises(ExampleError) as caught:
        answer_of({**POINTS, **change})
    assert caught.value.reason == reason


def test_plain_points_need_a_size():
    with pytest.raises(ExampleError, match="no_scale"):
        answer_of(POINTS, point_format="plain")


PERCENT = st.floats(0, 100, allow_subnormal=False)
FRAMES = st.lists(st.lists(st.tuples(PERCENT, PERCENT), min_size=1, max_size=9), min_size=1, max_size=5)


@given(FRAMES, st.sampled_from(["video_point", "video_point_count", "video_count_point"]))
def test_points_read_back_at_their_times(frames, style):
    times = [0.5 * i for i in range(len(frames))]
    parsed = parse_points(answer_of({"label": "x", "timestamps": times, "points": frames}, style), 100)
    assert [point.object_id for point in parsed] == list(range(1, sum(map(len, frames)) + 1))
    for time, frame in zip(times, frames, strict=True):
        found = np.array([(p.x, p.y) for p in parsed if p.frame == time])
        assert len(found) == len(frame)
        assert all(np.abs(found - point).max(axis=1).min() <= 0.05 + 1e-9 for point in frame)
