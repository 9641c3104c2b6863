import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grain_molmo.errors import ExampleError
from grain_molmo.text.times import clock_string, frame_time_text, parse_media_time, parse_time, time_string


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (3, 3.0),
        (2.5, 2.5),
        ("2.5", 2.5),
        (" 7 ", 7.0),
        ("1:30", 90.0),
        ("01:30.25", 90.25),
        ("01:02:03", 3723.0),
        ("01:02:03.5", 3723.5),
        ("00:00:60.0", 60.0),
        (-1, -1.0),
    ],
)
def test_times_are_read_in_every_form(written, seconds):
    """Molmo2 §2.4."""
    assert parse_time(written) == seconds


@pytest.mark.parametrize(
    "written",
    [
        *(
            "noon",
            "",
            "1:2:3:4",
            "1:-2",
            ":30",
            "1:",
            "1:30x",
            "nan",
            float("nan"),
            math.inf,
            "inf",
            None,
            True,
            [1],
            {},
        ),
        *(10**400, "9" * 400, "9" * 400 + ":00", "9" * 9000 + ":00"),
    ],
)
def test_what_is_no_time_is_an_example_error(written):
    with pytest.raises(ExampleError, match="bad_time"):
        parse_time(written)


def test_a_moment_of_a_video_is_not_before_its_start():
    assert parse_media_time(-1e-9) == 0.0
    with pytest.raises(ExampleError, match="bad_time"):
        parse_media_time(-0.5)


def test_times_have_one_decimal():
    """Molmo2 §2.4."""
    assert [time_string(t) for t in (0.25, 0.35, 2.25, 63, 2.0)] == ["0.2", "0.3", "2.2", "63.0", "2.0"]
    assert time_string(-0.0) == time_string(-0.04) == "0.0"


def test_the_clock_splits_off_minutes_before_it_rounds():
    """Molmo2 §2.4."""
    times = (0, 59.97, 61.25, 3723.5, 360000)
    assert [clock_string(t) for t in times] == ["00:00:00.0", "00:00:60.0", "00:01:01.2", "01:02:03.5", "100:00:00.0"]


def test_frames_say_their_time_between_spaces():
    """Molmo2 §4.4."""
    texts = [frame_time_text(t, first=i == 0) for i, t in enumerate((0.0, 0.5, 0.25, 1000.0))]
    assert texts == ["0.0 ", " 0.5 ", " 0.2 ", " 1000.0 "]


@given(st.floats(0, 1e6))
def test_what_is_said_reads_back_to_a_tenth_of_a_second(seconds):
    assert abs(parse_time(time_string(seconds)) - seconds) <= 0.05 + 1e-9
    assert abs(parse_time(clock_string(seconds)) - seconds) <= 0.05 + 1e-9
