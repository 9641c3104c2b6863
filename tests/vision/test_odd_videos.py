"""Files whose containers say what is not so: a wrong duration, frames out of order, no frame at all."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from converters.sample.clips import ClipFormat, encode_clip
from grain_molmo.errors import MediaError
from grain_molmo.vision.video import decode_frames, probe_video

GRAYS = np.arange(20, 220, 20)


def gray(value):
    return np.full((32, 32, 3), value, np.uint8)


def levels(data, times_s):
    """The mean gray of the frame shown at each time."""
    found = np.zeros(len(times_s))
    for places, frame_HW3 in decode_frames(data, times_s):
        found[places] = frame_HW3.mean()
    return found


def with_durations(data, factor):
    """The MP4 file with other durations in the headers of the movie and its track's media."""
    changed = bytearray(data)
    for name in (b"mvhd", b"mdhd"):
        at = data.index(name) + 4 + 16  # version and flags, two dates, the time scale
        assert data[at - 16] == 0
        (duration,) = struct.unpack(">I", data[at : at + 4])
        changed[at : at + 4] = struct.pack(">I", int(duration * factor))
    return bytes(changed)


@pytest.mark.parametrize("factor", [0, 0.1, 10])
def test_a_wrong_duration_in_the_header_is_not_believed(factor):
    clip = ClipFormat(width=32, height=32, fps=Fraction(5), seconds=2.0, b_frames=0)
    sound = encode_clip(clip, lambda time_s: gray(GRAYS[round(time_s * 5)]))
    lying = with_durations(sound, factor)
    assert lying != sound
    assert probe_video(lying) == probe_video(sound)
    assert probe_video(lying).duration_s == pytest.approx(2.0)
    times_s = np.arange(10) / 5 + 0.05
    assert levels(lying, times_s) == pytest.approx(GRAYS, abs=3)


def written(order):
    """A Matroska file of ten JPEG frames; the n-th written one is shown as number `order[n]`."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("mjpeg", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
        packets = []
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(gray(GRAYS[number]), "rgb24")
            frame.pts = number
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for place, number in enumerate(order):
            packet = packets[number]
            packet.dts = place - 20  # Matroska keeps the other times alone
            container.mux(packet)
    return file.getvalue()


def test_frames_that_are_not_sorted_by_time_are_shown_at_their_times():
    order = [3, 1, 2, 0, 6, 5, 4, 9, 8, 7]
    shuffled = written(order)
    assert probe_video(shuffled).num_frames == 10
    times_s = np.arange(10) / 5 + 0.05
    assert levels(shuffled, times_s) == pytest.approx(GRAYS, abs=4)
    assert levels(written(range(10)), times_s) == pytest.approx(GRAYS, abs=4)


@pytest.mark.parametrize("container_format", ["avi", "asf"])
def test_a_video_stream_without_a_frame_is_said_to_have_none(container_format):
    file = io.BytesIO()
    with av.open(file, "w", format=container_format) as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.start_encoding()
    with pytest.raises(MediaError) as caught:
        probe_video(file.getvalue())
    assert caught.value.reason == "no_frames"
