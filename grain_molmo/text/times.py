"""Times as datasets write them, and as prompts, answers and frames say them (Molmo2 §2.4, §4.4)."""

import math
import re
from typing import Any

from grain_molmo.errors import ExampleError

_CLOCK = re.compile(r"(?:(?P<h>\d+):)?(?P<m>\d+):(?P<s>\d+(?:\.\d*)?)", re.ASCII)


def parse_time(value: Any) -> float:
    """Seconds from a number, a number's text, "MM:SS.frac" or "HH:MM:SS.frac".

    Raises:
        ExampleError: `bad_time` for anything else, and for what is not finite.

    >>> parse_time("01:02:03.5"), parse_time("2:30"), parse_time(" 7.25 ")
    (3723.5, 150.0, 7.25)
    """
    try:
        if isinstance(value, bool):
            raise ValueError("a truth value")
        seconds = _seconds(value)
        if not math.isfinite(seconds):
            raise ValueError("not finite")
    except (TypeError, ValueError, OverflowError) as error:
        raise ExampleError("bad_time", f"{value!r:.80} is no time: seconds, MM:SS or HH:MM:SS ({error})") from error
    return seconds


def _seconds(value: Any) -> float:
    clock = _CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
    if clock is None:
        return float(value)
    return 3600.0 * int(clock["h"] or 0) + 60.0 * int(clock["m"]) + float(clock["s"])


def parse_media_time(value: Any) -> float:
    """`parse_time` for a moment of a video: `bad_time` if it lies before the start."""
    seconds = parse_time(value)
    if seconds < 0 and time_string(seconds) != "0.0":
        raise ExampleError("bad_time", f"{value!r:.80} lies before the start")
    return max(seconds, 0.0)


def time_string(seconds: float) -> str:
    """Seconds with one decimal, half to even on the binary value; what rounds to zero has no sign.

    >>> time_string(0.25), time_string(63), time_string(-0.01)
    ('0.2', '63.0', '0.0')
    """
    return str(round(float(seconds), 1) + 0.0)


def clock_string(seconds: float) -> str:
    """Seconds as "HH:MM:SS.s". Minutes are split off before rounding, so 59.97 reads 00:00:60.0 (Molmo2 §2.4).

    >>> clock_string(3723.5)
    '01:02:03.5'
    """
    minutes, rest = divmod(float(seconds), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:02d}:{minutes:02d}:{rest:04.1f}"


def frame_time_text(time_s: float, first: bool) -> str:
    """What stands before a frame's tokens: its time between spaces, the first without the space in front (§4.4).

    >>> frame_time_text(0, first=True) + frame_time_text(0.5, first=False)
    '0.0  0.5 '
    """
    return f"{'' if first else ' '}{time_string(time_s)} "
