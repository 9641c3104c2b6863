"""Encoded clips: what was drawn comes back, at the times asked for, whatever the kind of file."""

import io
import re
from fractions import Fraction

import av
import numpy as np
import pytest

from converters.sample.clips import ENCODERS, ClipFormat, can_encode, encode_clip
from grain_molmo.errors import ConfigError

WIDTH, HEIGHT = 96, 64
IRREGULAR = (0.0, 0.1, 0.15, 0.5, 1.25, 1.3, 1.6)
KINDS = [
    ("h264", "mp4"),
    ("h264", "mkv"),
    ("hevc", "mp4"),
    ("hevc", "mkv"),
    ("vp9", "webm"),
    ("vp9", "mp4"),
    ("av1", "mp4"),
    ("av1", "webm"),
    ("mpeg4", "mp4"),
    ("mpeg4", "mkv"),
]


def draw(time_s: float) -> np.ndarray:
    """Four different quarters, which all change with time; nothing looks the same when turned."""
    picture_HW3 = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture_HW3[: HEIGHT // 2, : WIDTH // 2] = (210, 40, 30 + 60 * time_s)
    picture_HW3[: HEIGHT // 2, WIDTH // 2 :] = (40, 200 - 40 * time_s, 60)
    picture_HW3[HEIGHT // 2 :, : WIDTH // 2] = (30 + 50 * time_s, 60, 200)
    picture_HW3[HEIGHT // 2 :, WIDTH // 2 :] = 60 + 60 * time_s
    return picture_HW3


def clip(codec: str = "h264", container: str = "mp4", fps: str = "10", **more) -> ClipFormat:
    if not can_encode(codec):
        pytest.skip(f"this machine's FFmpeg has no {ENCODERS[codec]}")
    sizes = {"width": WIDTH, "height": HEIGHT, "seconds": 2.0} | more
    return ClipFormat(codec=codec, container=container, fps=Fraction(fps), **sizes)


def decode(data: bytes) -> list[av.VideoFrame]:
    with av.open(io.BytesIO(data)) as file:
        return list(file.decode(video=0))


def assert_shows(data: bytes, wanted: ClipFormat) -> None:
    """Every frame there once, at its time (Matroska's are in milliseconds), upright and close to what was drawn."""
    frames = decode(data)
    assert len(frames) == len(wanted.times)
    for frame, time_s in zip(frames, wanted.times, strict=True):
        assert frame.pts is not None
        tolerance = 0.00051 if wanted.container in ("mkv", "webm") else 1e-6
        assert float(frame.pts * frame.time_base) == pytest.approx(wanted.start_s + time_s, abs=tolerance)
        upright_HW3 = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)  # both counter-clockwise
        assert upright_HW3.shape == (wanted.height, wanted.width, 3)
        error = np.mean((upright_HW3.astype(float) - draw(time_s)) ** 2)
        assert 10 * np.log10(255**2 / max(error, 1e-6)) > 32


def packets(data: bytes) -> list[av.Packet]:
    with av.open(io.BytesIO(data)) as file:
        return [packet for packet in file.demux(video=0) if packet.pts is not None]


@pytest.mark.parametrize(("codec", "container"), KINDS)
def test_decoding_gives_frames_and_times_back_for_each_codec_and_container(codec, container):
    for wanted in (clip(codec, container), clip(codec, container, fps="24000/1001", start_s=1.5, audio=True)):
        data = encode_clip(wanted, draw)
        assert_shows(data, wanted)
        assert encode_clip(wanted, draw) == data


@pytest.mark.parametrize("fps", ["24000/1001", "25/2", "60", "1", "30000/1001"])
def test_a_fixed_rate_is_kept_and_each_frame_lasts_as_long_as_it_should(fps):
    wanted = clip(fps=fps)
    data = encode_clip(wanted, draw)
    assert_shows(data, wanted)
    with av.open(io.BytesIO(data)) as file:
        assert file.streams.video[0].average_rate == Fraction(fps)
    assert {packet.duration * packet.time_base for packet in packets(data)} == {1 / Fraction(fps)}


@pytest.mark.parametrize("codec", ENCODERS)
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_frames_of_a_variable_rate_come_at_their_times(codec, container):
    wanted = clip(codec, container, frame_times=IRREGULAR)
    assert_shows(encode_clip(wanted, draw), wanted)


def test_the_last_frame_of_a_variable_rate_lasts_until_the_end():
    last = packets(encode_clip(clip(frame_times=IRREGULAR, b_frames=0), draw))[-1]
    assert (last.pts + last.duration) * last.time_base == 2


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_turned_clip_is_stored_lying_and_shown_upright(codec, rotation):
    wanted = clip(codec, rotation=rotation)
    data = encode_clip(wanted, draw)
    assert_shows(data, wanted)
    frame = decode(data)[0]
    assert frame.rotation % 360 == 360 - rotation  # which PyAV counts counter-clockwise
    assert (frame.width, frame.height) == ((WIDTH, HEIGHT) if rotation == 180 else (HEIGHT, WIDTH))


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg4"])
def test_groups_of_pictures_and_b_frames_are_as_long_as_asked(codec):
    long = packets(encode_clip(clip(codec, gop=250, fps="30"), draw))
    assert sum(packet.is_keyframe for packet in long) == 1
    assert [packet.pts for packet in long] != sorted(packet.pts for packet in long)  # B-frames come after later ones
    short = packets(encode_clip(clip(codec, gop=10, b_frames=0, fps="30"), draw))
    assert [i for i, packet in enumerate(short) if packet.is_keyframe] == [0, 10, 20, 30, 40, 50]
    assert [packet.pts for packet in short] == sorted(packet.pts for packet in short)


def test_sound_begins_at_zero_though_the_picture_comes_late():
    with av.open(io.BytesIO(encode_clip(clip(start_s=1.5, audio=True), draw))) as file:
        samples = [frame for frame in file.decode(audio=0) if frame.pts is not None and frame.pts >= 0]
    assert samples[0].pts == 0
    assert samples[-1].time == pytest.approx(3.5, abs=0.05)


def test_no_version_of_the_muxer_is_in_the_file():
    assert not any(
        re.search(rb"Lav[fc]\d", encode_clip(clip(codec, container), draw)) for codec, container in KINDS[:2]
    )


def test_impossible_formats_are_refused():
    for wrong in (
        {"width": 95},
        {"rotation": 45},
        {"container": "mkv", "rotation": 90},
        {"container": "webm"},
        {"container": "avi"},
        {"frame_times": (0.1, 0.2)},
        {"frame_times": (0.0, 0.2, 0.2)},
        {"frame_times": (0.0, 2.0)},
        {"start_s": -1.0},
        {"fps": "0"},
    ):
        with pytest.raises(ConfigError, match="clip:"):
            clip(**wrong)
    with pytest.raises(ConfigError, match="theora"):
        ClipFormat(width=WIDTH, height=HEIGHT, fps=Fraction(10), seconds=1, codec="theora")
    with pytest.raises(ConfigError, match="is not 64x96x3"):
        encode_clip(clip(), lambda _: np.zeros((WIDTH, HEIGHT, 3), np.uint8))


def test_encoders_that_are_missing_are_known_as_missing(monkeypatch):
    assert not can_encode("theora")
    assert not can_encode("libx264")  # an encoder, but no codec's name
    monkeypatch.setitem(ENCODERS, "h264", "an_encoder_of_nobody")
    assert not can_encode("h264")
    with pytest.raises(ConfigError, match="an_encoder_of_nobody"):
        encode_clip(ClipFormat(width=WIDTH, height=HEIGHT, fps=Fraction(10), seconds=1), draw)
