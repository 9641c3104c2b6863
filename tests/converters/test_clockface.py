"""Clock faces: times read from rows, and hands read back from pixels."""

import io
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from converters.clockface import (
    HOURS_12,
    HOURS_24,
    HOURS_AMPM,
    FaceStyle,
    draw_clock,
    face_style,
    parse_time_format,
    parse_watch_time,
    read_time,
)
from grain_molmo.errors import RowError


def clock_row(hour=10, minute=9, second=36, **changes):
    row = {
        "example_id": "face0/003_2020-06-28T10:09:36.000000_walnut",
        "watchface_id": "face0",
        "watchface_name": "walnut",
        "watch_time": f"003_2020-06-28T{hour:02d}:{minute:02d}:{second:02d}",
        "time_format": "Without AM/PM",
        "shows_seconds": True,
        "hour_visible": hour % 12,
        "minute_visible": minute,
        "second_visible": second,
        "text": "",
    }
    return row | changes


def is_analog(face: int) -> bool:
    return not face_style(clock_row(watchface_id=f"face{face}")).digital


ANALOG_FACES = [f"face{i}" for i in range(24) if is_analog(i)]
DIGITAL_FACES = [f"face{i}" for i in range(24) if not is_analog(i)]


def angles_of_color(picture: bytes, style: FaceStyle, color, distance: float) -> np.ndarray:
    """Angles (degrees clockwise from the face's 12) at which a ring of the dial has a color, at edges blended in."""
    pixels_HWC = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)
    angles = np.arange(0, 360, 0.5)
    turned = np.radians(angles + style.tilt)
    x = np.rint(style.center[0] + distance * style.radius * np.sin(turned) - 0.5).astype(int)
    y = np.rint(style.center[1] - distance * style.radius * np.cos(turned) - 0.5).astype(int)
    away, towards = pixels_HWC[y, x] - style.dial, np.subtract(color, style.dial)
    share = away @ towards / (towards @ towards)
    return angles[(share > 0.45) & (np.linalg.norm(away - share[:, None] * towards, axis=-1) < 40)]


def mean_angle(angles: np.ndarray) -> float:
    return math.degrees(np.angle(np.exp(1j * np.radians(angles)).mean())) % 360


def apart(first: float, second: float) -> float:
    return abs((first - second + 180) % 360 - 180)


@settings(max_examples=40)
@given(st.sampled_from(ANALOG_FACES), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_the_hands_read_back_from_the_pixels_tell_the_time(face, hour, minute, second):
    hour_angle, minute_angle, second_angle = (
        30 * (hour % 12) + minute / 2 + second / 120,
        6 * minute + second / 10,
        6.0 * second,
    )
    assume(
        min(apart(hour_angle, minute_angle), apart(second_angle, minute_angle), apart(second_angle, hour_angle)) > 18
    )
    row = clock_row(hour, minute, second, watchface_id=face)
    picture, style = draw_clock(row), face_style(row)
    # Only the minute hand reaches 0.58 of the radius in the color of the hands, only the seconds hand 0.72.
    assert apart(mean_angle(angles_of_color(picture, style, style.hands, 0.58)), minute_angle) < 2.5
    assert apart(mean_angle(angles_of_color(picture, style, style.seconds, 0.72)), second_angle) < 2.5
    inner = angles_of_color(picture, style, style.hands, 0.42)
    hour_hand = np.array([angle for angle in inner if apart(angle, minute_angle) > 9])
    assert apart(mean_angle(hour_hand), hour_angle) < 2.5


@pytest.mark.parametrize("face", ANALOG_FACES[:4])
def test_parts_that_are_not_visible_are_not_drawn(face):
    row = clock_row(3, 40, 10, watchface_id=face, shows_seconds=False, second_visible=-1)
    style = face_style(row)
    assert angles_of_color(draw_clock(row), style, style.seconds, 0.72).size == 0
    no_hour = row | {"hour_visible": -1}
    inner = angles_of_color(draw_clock(no_hour), style, style.hands, 0.3)
    assert all(apart(angle, 240) < 15 for angle in inner)
    no_minute = row | {"minute_visible": -1}
    assert angles_of_color(draw_clock(no_minute), style, style.hands, 0.58).size == 0


def test_the_minute_hand_stands_on_the_minute_where_seconds_are_not_shown():
    reading = read_time(clock_row(10, 9, 59, shows_seconds=False, second_visible=-1))
    assert (reading.minute_angle, reading.second) == (54.0, None)
    assert read_time(clock_row(10, 9, 30)).minute_angle == 57.0


@pytest.mark.parametrize("face", [*ANALOG_FACES[:2], *DIGITAL_FACES[:2]])
def test_only_faces_with_am_and_pm_tell_morning_from_evening(face):
    morning, evening = (clock_row(hour, 20, 0, watchface_id=face) for hour in (8, 20))
    assert draw_clock(morning) == draw_clock(evening)
    with_period = [clock_row(h, 20, 0, watchface_id=face, time_format="With AM/PM", hour_visible=h) for h in (8, 20)]
    assert draw_clock(with_period[0]) != draw_clock(with_period[1])


def test_twenty_four_hours_are_shown_in_digits():
    row = clock_row(22, 9, 5, time_format="%H:%M", hour_visible=22, watchface_id=ANALOG_FACES[0])
    assert face_style(row).digital
    assert read_time(row).digits == "22:09:05"
    assert read_time(clock_row(0, 9, 5)).digits == "12:09:05"
    assert read_time(clock_row(13, 9, 5, shows_seconds=False)).digits == "1:09"
    assert read_time(clock_row(13, 9, 5, minute_visible=-1, shows_seconds=False)).digits == "1:--"


def test_a_face_looks_the_same_at_every_call_and_other_faces_differ():
    pictures = {draw_clock(clock_row(watchface_id=f"face{i}")) for i in range(24)}
    assert pictures == {draw_clock(clock_row(watchface_id=f"face{i}")) for i in range(24)}
    assert len(pictures) == 24
    assert {Image.open(io.BytesIO(picture)).format for picture in pictures} == {"PNG", "JPEG"}


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("003_2020-06-28T08:15:30", (8, 15, 30)),  # as on the hub
        ("10:09:36", (10, 9, 36)),
        ("10:09", (10, 9, None)),
        ("22:09", (22, 9, None)),
        ("2020-06-28 08:15:30.833859", (8, 15, 30)),
        ("2020-06-28T08:15:30+05:30", (8, 15, 30)),
        ("2020-06-28T08:15Z", (8, 15, None)),
        ("3:02 PM", (15, 2, None)),
        ("12:00:01 a.m.", (0, 0, 1)),
    ],
)
def test_times_are_read_from_many_forms(text, time):
    assert parse_watch_time(text) == time


@pytest.mark.parametrize(
    "text", ["", "noon", "25:00", "10:60", "10:09:61", "2020-06-28", "13:00 PM", "+05:30", None, 36]
)
def test_what_is_no_time_of_day_is_refused(text):
    with pytest.raises(RowError, match="bad_time") as caught:
        parse_watch_time(text)
    assert caught.value.reason == "bad_time"


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("Without AM/PM", HOURS_12),
        ("With AM/PM", HOURS_AMPM),
        ("%I:%M %p", HOURS_AMPM),
        ("%I:%M", HOURS_12),
        ("%H:%M:%S", HOURS_24),
        ("24 hour", HOURS_24),
        ("12h", HOURS_12),
        ("something else", HOURS_12),
        (None, HOURS_12),
    ],
)
def test_time_formats_are_read_leniently(text, hours):
    assert parse_time_format(text) == hours


@pytest.mark.parametrize(
    "changes", [{"hour_visible": 3}, {"hour_visible": 22}, {"minute_visible": 10}, {"second_visible": 0}]
)
def test_a_time_that_contradicts_the_visible_parts_is_refused(changes):
    with pytest.raises(RowError, match=next(iter(changes))):
        draw_clock(clock_row() | changes)


@pytest.mark.parametrize(("hour", "visible"), [(0, 0), (0, 12), (12, 0), (12, 12), (14, 2), (14, 14), (23, 23)])
def test_visible_hours_may_count_to_twelve_or_to_twenty_four(hour, visible):
    assert read_time(clock_row(hour, hour_visible=visible)).hour == hour
