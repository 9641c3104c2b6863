"""Clock faces drawn from the rows of pixmo-clocks, which carry a time and the id of a watch face but no picture.

The hub's rows look like this (Molmo2 §1A.1): `watch_time` "003_2020-06-28T08:15:30", `time_format` "Without AM/PM",
`hour_visible` 8 (12-hour without AM/PM, 0 at noon), `second_visible` -1 where seconds aren't shown, `text` "8:15:30".
The look is a function of the watch face's id, so one watch looks the same at every time.
"""

import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from grain_molmo.errors import RowError
from grain_molmo.rng import stable_hash

RGB = tuple[int, int, int]

HOURS_12, HOURS_AMPM, HOURS_24 = "12", "AM/PM", "24"
ROMAN = ("XII", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI")
SUPERSAMPLING = 2

# Lengths as shares of the dial's radius. The hour hand ends well before the minute hand, and both before the numerals.
HOUR_LENGTH, MINUTE_LENGTH, SECOND_LENGTH, NUMERALS_AT, TICKS_FROM = 0.46, 0.68, 0.74, 0.81, 0.92

# (dial, hands, seconds hand, numerals and ticks, case, background)
PALETTES: tuple[tuple[RGB, RGB, RGB, RGB, RGB, RGB], ...] = (
    ((252, 252, 250), (30, 32, 38), (206, 36, 42), (70, 74, 82), (150, 154, 160), (226, 231, 238)),
    ((24, 26, 32), (244, 244, 240), (240, 110, 40), (168, 174, 184), (74, 78, 88), (204, 208, 216)),
    ((20, 44, 92), (246, 232, 190), (240, 80, 70), (158, 186, 230), (186, 152, 82), (238, 232, 220)),
    ((246, 236, 212), (70, 42, 24), (40, 96, 170), (140, 104, 66), (120, 80, 44), (206, 190, 166)),
    ((18, 74, 60), (250, 250, 246), (250, 200, 60), (150, 206, 180), (196, 198, 200), (230, 238, 232)),
    ((250, 226, 230), (120, 24, 64), (30, 90, 140), (200, 110, 140), (214, 150, 130), (250, 244, 240)),
)

_TIME = re.compile(
    r"(?<![\d:.+-])(\d{1,2}):(\d{2})(?::(\d{2})(?:\.\d+)?)?(?!\d|:)\s*([ap]\.?\s?m\b)?", re.IGNORECASE
)  # not preceded by a sign, which would be a time zone; the first match, as a date holds no colon


@dataclass(frozen=True)
class Reading:
    """What a face shows. `second` is None where seconds aren't shown; the minute hand then steps by whole minutes."""

    hour: int  # 0-23
    minute: int
    second: int | None
    hours: str  # HOURS_12, HOURS_AMPM or HOURS_24
    shows_hour: bool
    shows_minute: bool

    @property
    def hour_angle(self) -> float:
        """Degrees clockwise from 12; the hand moves with the minutes."""
        return 30 * (self.hour % 12) + self.minute / 2 + (self.second or 0) / 120

    @property
    def minute_angle(self) -> float:
        """Degrees clockwise from 12; the hand moves with the seconds."""
        return 6 * self.minute + (self.second or 0) / 10

    @property
    def second_angle(self) -> float:
        """Degrees clockwise from 12."""
        return 6.0 * (self.second or 0)

    @property
    def digits(self) -> str:
        """The time as a digital face shows it, "8:15:30"; dashes stand for a part that is not shown."""
        hour = f"{self.hour:02d}" if self.hours == HOURS_24 else str(self.hour % 12 or 12)
        parts = [hour if self.shows_hour else "--", f"{self.minute:02d}" if self.shows_minute else "--"]
        return ":".join(parts if self.second is None else [*parts, f"{self.second:02d}"])

    @property
    def period(self) -> str:
        """ "AM" or "PM" where the face tells, else empty."""
        return ("PM" if self.hour >= 12 else "AM") if self.hours == HOURS_AMPM else ""


@dataclass(frozen=True)
class FaceStyle:
    """The look of a watch face and how it lies in the picture (pixels of the finished picture, degrees clockwise)."""

    digital: bool
    square: bool
    numerals: str  # "arabic", "roman", "quarters" or "none"
    dial: RGB
    hands: RGB
    seconds: RGB
    marks: RGB
    case: RGB
    background: RGB
    tapered: bool
    strap: bool
    format: str
    side: int
    center: tuple[float, float]
    radius: float
    tilt: float


def draw_clock(row: Mapping[str, Any]) -> bytes:
    """Return the PNG or JPEG bytes of an analog or digital face that shows the row's time, the same at every call.

    The row has the columns of pixmo-clocks. A negative `hour_visible`, `minute_visible` or `second_visible` means that
    this part is not shown; neither are seconds without `shows_seconds`. RowError("bad_time") if `watch_time` holds no
    time of day or contradicts a visible part.
    """
    reading = read_time(row)
    style = face_style(row)
    scaled = style.side * SUPERSAMPLING
    image = Image.new("RGB", (scaled, scaled), style.background)
    _draw_case(ImageDraw.Draw(image), style)
    if style.digital:
        _draw_digits(ImageDraw.Draw(image), style, reading)
    else:
        _draw_dial(ImageDraw.Draw(image), style, reading)
        _draw_hands(ImageDraw.Draw(image), style, reading)
    out = io.BytesIO()
    # Full chroma resolution: a thin colored seconds hand fades otherwise. PNG ignores both settings.
    image.reduce(SUPERSAMPLING).save(out, style.format, quality=90, subsampling=0)
    return out.getvalue()


# ---- the row's time ----


def read_time(row: Mapping[str, Any]) -> Reading:
    """Return what the row's face shows. RowError("bad_time") if its columns hold no time or contradict each other."""
    hour, minute, second = parse_watch_time(row.get("watch_time"))
    visible_hour = _visible(row, "hour_visible", hour)
    # Without AM/PM the hub counts from 0 to 11, so an hour of the morning may stand for one of the evening.
    hour_agrees = visible_hour in (None, hour) or (visible_hour <= 12 and visible_hour % 12 == hour % 12)
    _require(hour_agrees, row, "hour_visible", f"{hour:02d}")
    visible_minute = _visible(row, "minute_visible", minute)
    _require(visible_minute in (None, minute), row, "minute_visible", f"{minute:02d}")
    visible_second = _visible(row, "second_visible", second) if row.get("shows_seconds") else None
    _require(visible_second in (None, second), row, "second_visible", "nothing" if second is None else f"{second:02d}")
    return Reading(
        hour,
        minute,
        visible_second,
        parse_time_format(row.get("time_format")),
        shows_hour=visible_hour is not None,
        shows_minute=visible_minute is not None,
    )


def parse_watch_time(text: Any) -> tuple[int, int, int | None]:
    """Return (hour 0-23, minute, second or None) of "10:09", "10:09:36 PM" or "003_2020-06-28T08:15:30.83".

    RowError("bad_time") if the text holds no time of day.
    """
    match = _TIME.search(text) if isinstance(text, str) else None
    if match is None:
        raise RowError("bad_time", f"watch_time {text!r} holds no time such as '10:09:36'")
    hour, minute = int(match[1]), int(match[2])
    second = None if match[3] is None else int(match[3])
    if match[4]:
        if not 1 <= hour <= 12:
            raise RowError("bad_time", f"watch_time {text!r} has an hour outside 1-12 before AM/PM")
        hour = hour % 12 + (12 if match[4][0] in "pP" else 0)
    if hour > 23 or minute > 59 or (second or 0) > 59:
        raise RowError("bad_time", f"watch_time {text!r} is not a time of day")
    return hour, minute, second


def parse_time_format(text: Any) -> str:
    """Return HOURS_24, HOURS_AMPM or HOURS_12 (also for an unknown format) of "Without AM/PM", "%H:%M", "12 hour", …"""
    lowered = str(text or "").lower()
    if "24" in lowered or "%H" in str(text):
        return HOURS_24
    if "without" in lowered:
        return HOURS_12
    return HOURS_AMPM if "%p" in lowered or "am/pm" in lowered or re.search(r"\b[ap]m\b", lowered) else HOURS_12


def _visible(row: Mapping[str, Any], column: str, default: int | None) -> int | None:
    """The column's number, None if negative; the time's own part if the row doesn't say."""
    value = row.get(column)
    if value is None:
        return default
    return None if value < 0 else int(value)


def _require(agrees: bool, row: Mapping[str, Any], column: str, actual: str) -> None:
    if not agrees:
        detail = f"{column} {row[column]} contradicts watch_time {row['watch_time']!r}, which says {actual}"
        raise RowError("bad_time", detail)


# ---- the look ----


def face_style(row: Mapping[str, Any]) -> FaceStyle:
    """Return the look, a function of `watchface_id`; how it lies in the picture depends on `example_id` too."""
    face = np.random.default_rng(stable_hash("watch face", str(row.get("watchface_id"))))
    view = np.random.default_rng(stable_hash("view", str(row.get("watchface_id")), str(row.get("example_id"))))
    dial, hands, seconds, marks, case, background = PALETTES[face.integers(len(PALETTES))]
    # Only digits can tell 24 hours apart.
    digital = bool(face.random() < 0.3) or parse_time_format(row.get("time_format")) == HOURS_24
    side = int(face.choice([256, 320, 384, 448, 512]))
    radius = side * face.uniform(0.33, 0.4)
    shift_x, shift_y = view.uniform(-0.04, 0.04, size=2) * side
    return FaceStyle(
        digital=digital,
        square=bool(face.random() < 0.3),
        numerals=str(face.choice(["arabic", "roman", "quarters", "none"])),
        dial=dial,
        hands=hands,
        seconds=seconds,
        marks=marks,
        case=case,
        background=background,
        tapered=bool(face.random() < 0.5),
        strap=bool(face.random() < 0.6),
        format=str(face.choice(["PNG", "JPEG", "JPEG"])),
        side=side,
        center=(side / 2 + float(shift_x), side / 2 + float(shift_y)),
        radius=float(radius),
        tilt=0.0 if digital else float(view.uniform(-8, 8)),
    )


# ---- drawing, in pixels of the supersampled picture ----


def _at(style: FaceStyle, angle: float, distance: float, aside: float = 0.0) -> tuple[float, float]:
    """The place at an angle (degrees clockwise from the face's 12) and distance from the center, in dial radii.

    `aside` goes at a right angle to that direction, clockwise.
    """
    a = math.radians(angle + style.tilt)
    scale = style.radius * SUPERSAMPLING
    x = distance * math.sin(a) + aside * math.cos(a)
    y = -distance * math.cos(a) + aside * math.sin(a)
    return style.center[0] * SUPERSAMPLING + x * scale, style.center[1] * SUPERSAMPLING + y * scale


def _box(style: FaceStyle, half_w: float, half_h: float) -> list[tuple[float, float]]:
    """Corners of an upright (but tilted with the face) rectangle around the center, sides in dial radii."""
    corners = ((-half_w, half_h), (half_w, half_h), (half_w, -half_h), (-half_w, -half_h))
    return [_at(style, 0, y, x) for x, y in corners]


def _circle(draw: ImageDraw.ImageDraw, center: tuple[float, float], radius: float, fill: RGB) -> None:
    x, y = center
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill)


def _draw_case(draw: ImageDraw.ImageDraw, style: FaceStyle) -> None:
    if style.strap:
        shade = tuple(int(channel * 0.6) for channel in style.case)
        draw.polygon(_box(style, 0.52, 3.0), shade)
    _circle(draw, _at(style, 90, 1.16), 0.08 * style.radius * SUPERSAMPLING, style.case)
    for size, color in ((1.13, style.case), (1.0, style.dial)):
        if style.square:
            draw.polygon(_box(style, size, size), color)
        else:
            _circle(draw, _at(style, 0, 0), size * style.radius * SUPERSAMPLING, color)


def _draw_dial(draw: ImageDraw.ImageDraw, style: FaceStyle, reading: Reading) -> None:
    unit = style.radius * SUPERSAMPLING
    for tick in range(60):
        inner = TICKS_FROM if tick % 5 == 0 else 0.955
        width = max(1, round((0.022 if tick % 5 == 0 else 0.009) * unit))
        draw.line((*_at(style, 6 * tick, inner), *_at(style, 6 * tick, 0.985)), style.marks, width)
    for hour in range(12):
        if style.numerals == "none" or (style.numerals == "quarters" and hour % 3):
            continue
        text = ROMAN[hour] if style.numerals == "roman" else str(hour or 12)
        draw.text(_at(style, 30 * hour, NUMERALS_AT), text, style.marks, _font(0.15 * unit), anchor="mm")
    if reading.period:
        draw.text(
            _at(style, _free_quarter(reading), 0.36), reading.period, style.marks, _font(0.17 * unit), anchor="mm"
        )


def _free_quarter(reading: Reading) -> int:
    """The first of 6, 3, 9 and 12 o'clock, in degrees, that no hand covers: three hands can't cover all four."""
    hands = (reading.hour_angle, reading.minute_angle, reading.second_angle)
    return next(q for q in (180, 90, 270, 0) if all(abs((hand - q + 180) % 360 - 180) > 40 for hand in hands))


def _draw_hands(draw: ImageDraw.ImageDraw, style: FaceStyle, reading: Reading) -> None:
    if reading.shows_hour:
        _draw_hand(draw, style, reading.hour_angle, HOUR_LENGTH, 0.042)
    if reading.shows_minute:
        _draw_hand(draw, style, reading.minute_angle, MINUTE_LENGTH, 0.028)
    unit = style.radius * SUPERSAMPLING
    _circle(draw, _at(style, 0, 0), 0.06 * unit, style.hands)
    if reading.second is not None:
        ends = (*_at(style, reading.second_angle, -0.14), *_at(style, reading.second_angle, SECOND_LENGTH))
        draw.line(ends, style.seconds, max(2, round(0.024 * unit)))
        _circle(draw, _at(style, 0, 0), 0.035 * unit, style.seconds)


def _draw_hand(draw: ImageDraw.ImageDraw, style: FaceStyle, angle: float, length: float, half_width: float) -> None:
    tip = half_width * (0.45 if style.tapered else 1.0)
    corners = ((-0.1, -half_width), (length, -tip), (length + tip, 0.0), (length, tip), (-0.1, half_width))
    draw.polygon([_at(style, angle, distance, aside) for distance, aside in corners], style.hands)


def _draw_digits(draw: ImageDraw.ImageDraw, style: FaceStyle, reading: Reading) -> None:
    """The time as large as the dial's width allows, AM or PM below it."""
    unit = style.radius * SUPERSAMPLING
    size = 0.6 * unit
    widest = 1.62 * unit
    size *= min(1.0, widest / _font(size).getlength(reading.digits))
    draw.text(_at(style, 0, 0.05), reading.digits, style.hands, _font(size), anchor="mm")
    if reading.period:
        draw.text(_at(style, 180, 0.42), reading.period, style.seconds, _font(0.24 * unit), anchor="mm")


@lru_cache(maxsize=64)
def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(round(size))
