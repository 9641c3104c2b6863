"""Subtitles: from SubRip and WebVTT files to cues, and from cues to the text behind a video's frames (Molmo2 §4.5)."""

import codecs
import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from grain_molmo.errors import ExampleError, MediaError
from grain_molmo.text.times import parse_time, time_string

Cue = tuple[float, float, str]
"""Start and end in seconds, and the words that are shown between them."""

HEADER = "subtitle\n"
FRAME_REACH_S = 1.0
"""A cue is kept if it is shown within this time of a frame."""

_ARROW = "-->"
_TIMING = re.compile(r"\s*(\S+?)\s*-->\s*(\S+)(?:\s.*)?")
_TIME = re.compile(r"(?:\d+:){0,2}\d+(?:[.,]\d{3})?", re.ASCII)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<[\d:.]+>|\{\\[^{}]*\}")
"""<i>, <v Speaker>, the times of karaoke, {\\an8}."""


def parse_subtitle_file(data: bytes) -> list[Cue]:
    r"""The cues of a SubRip or WebVTT file by start time; they may overlap.

    Files are read for what they say rather than for their form: sequence numbers, headers, hours and milliseconds may
    be missing, either decimal mark is fine, and text may be UTF-8, UTF-16 or Windows-1252. Tags, styles, positions and
    comments are left out, entities resolved, lines of a cue joined by a space. A cue is passed over if its times
    cannot be read (a fraction must have three digits), if it ends before it starts, or if it has no words.

    Raises:
        MediaError: `empty` without any text; `bad_subtitles` without a readable cue, unless it is a WebVTT file, which
            may have none.

    >>> parse_subtitle_file(b"1\n00:00:01,500 --> 00:00:04,000\n<i>Fish &amp; chips</i>\nfor two\n")
    [(1.5, 4.0, 'Fish & chips for two')]
    """
    text = _decode(data)
    if not text.strip():
        raise MediaError("empty", "the subtitle file holds no text")
    cues = sorted(_cues(re.split(r"\r\n|\r|\n", text)), key=lambda cue: cue[:2])
    if not cues and not text.startswith("WEBVTT"):
        raise MediaError("bad_subtitles", "the file has no readable cue; SubRip (.srt) and WebVTT (.vtt) are read")
    return cues


def subtitle_text(
    subtitle: str | Mapping[tuple[float, float], str] | Sequence[Any] | None, frame_times: Sequence[float]
) -> str:
    r"""What the model reads of a video's subtitle, or "" if there is none.

    A text is taken whole. Cues near a frame become a line each, in the order given; the header stays even if none is.

    Args:
        subtitle: text, or cues: `{(start_s, end_s): text}`, or a sequence of (start_s, end_s, text) or of dicts with
            `start`, `end` and `text`. Times are relative to the clip.
        frame_times: seconds from the clip's start, of the frames that are shown.

    Raises:
        ExampleError: `bad_subtitle`, `bad_time`.

    >>> subtitle_text({(0, 1.5): "Hello.", (9, 12): "Bye."}, [0.0, 0.5, 1.0])
    'subtitle\n0.0 - 1.5 Hello.\n'
    """
    if isinstance(subtitle, str):
        return HEADER + subtitle if subtitle.strip() else ""
    cues = subtitle_cues(subtitle)
    if not cues:
        return ""
    times = np.asarray(frame_times, dtype=float)
    shown = (cue for cue in cues if _near_a_frame(cue, times))
    return HEADER + "".join(f"{time_string(start)} - {time_string(end)} {text}\n" for start, end, text in shown)


def subtitle_cues(subtitle: Mapping[Any, str] | Sequence[Any] | None) -> list[Cue]:
    """The cues of an example's subtitle, in any of the forms that `subtitle_text` takes but a text.

    Raises ExampleError: `bad_subtitle`, `bad_time`.
    """
    return list(_as_cues(subtitle))


def shift_cues(cues: Iterable[Cue], clip_start_s: float, clip_end_s: float) -> list[Cue]:
    """The cues that a clip shows, cut to it, in seconds from its start.

    >>> shift_cues([(0, 11, "a"), (12, 13, "b"), (20, 21, "c")], 10, 15)
    [(0.0, 1.0, 'a'), (2.0, 3.0, 'b')]
    """
    return [
        (float(max(start - clip_start_s, 0)), float(min(end, clip_end_s) - clip_start_s), text)
        for start, end, text in cues
        if start < clip_end_s and end > clip_start_s
    ]


def _decode(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    if b"\0" in data[:2]:  # UTF-16 of a digit, a W or a line feed, without its mark
        return data.decode("utf-16-be" if data[:1] == b"\0" else "utf-16-le", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _cues(lines: Sequence[str]) -> Iterator[Cue]:
    i = 0
    while i < len(lines):
        timing, i = lines[i], i + 1
        if _ARROW not in timing:
            continue
        first = i
        while i < len(lines) and lines[i].strip() and _ARROW not in lines[i]:
            i += 1
        last = i
        if i < len(lines) and _ARROW in lines[i] and lines[i - 1].strip().isdecimal():
            last -= 1  # the next cue follows without an empty line, its number in front
        times, text = _parse_timing(timing), _words(" ".join(lines[first:last]))
        if times and text:
            yield *times, text


def _parse_timing(line: str) -> tuple[float, float] | None:
    match = _TIMING.fullmatch(line)
    if not match or not all(_TIME.fullmatch(time) for time in match.groups()):
        return None
    try:
        start, end = (parse_time(time.replace(",", ".")) for time in match.groups())
    except ExampleError:  # more digits than a number can have
        return None
    return (start, end) if start <= end else None


def _words(text: str) -> str:
    return " ".join(html.unescape(_TAG.sub("", text)).split())


def _as_cues(subtitle: Mapping[Any, str] | Sequence[Any] | None) -> Iterator[Cue]:
    if subtitle is None:
        return
    if isinstance(subtitle, Mapping):
        entries: Iterable[Any] = ((key, text) for key, text in subtitle.items())
    elif isinstance(subtitle, Sequence):
        entries = (_bounds_and_text(entry) for entry in subtitle)
    else:
        raise ExampleError("bad_subtitle", f"subtitle must be text or cues, not {type(subtitle).__name__}")
    for bounds, text in entries:
        if not isinstance(bounds, Sequence) or isinstance(bounds, str) or len(bounds) != 2 or not isinstance(text, str):
            raise ExampleError("bad_subtitle", f"a cue must be start, end and text, not {bounds!r:.80}: {text!r:.80}")
        start, end = map(parse_time, bounds)
        if start <= end:
            yield start, end, text


def _bounds_and_text(entry: Any) -> tuple[Any, Any]:
    if isinstance(entry, Mapping):
        return (entry.get("start"), entry.get("end")), entry.get("text")
    if isinstance(entry, Sequence) and not isinstance(entry, str) and len(entry) == 3:
        return entry[:2], entry[2]
    raise ExampleError("bad_subtitle", f"a cue must be (start, end, text) or a dict of these, not {entry!r:.80}")


def _near_a_frame(cue: Cue, frame_times_F: np.ndarray) -> bool:
    start, end, _ = cue
    return bool(np.any((frame_times_F + FRAME_REACH_S >= start) & (frame_times_F - FRAME_REACH_S <= end)))
