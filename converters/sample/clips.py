"""Video files of our own: any frames as H.264, HEVC, VP9, AV1 or MPEG-4 in MP4, WebM or Matroska.

One thread, and no dates or versions in the container, so the same input gives the same bytes with one build of the
encoders.
"""

import io
import itertools
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from grain_molmo.errors import ConfigError

ENCODERS = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1", "mpeg4": "mpeg4"}
# FFmpeg's name of each container and the audio that goes with it.
CONTAINERS = {"mp4": ("mp4", "aac"), "webm": ("webm", "libopus"), "mkv": ("matroska", "libopus")}
IN_WEBM = ("vp9", "av1")

TICKS_PER_SECOND = 10_000  # at least so fine are the times of frames
AUDIO_RATE = 48_000
TONE_HZ = 220


@dataclass(frozen=True, kw_only=True)
class ClipFormat:
    """What kind of file a clip becomes. Sizes are those of the upright picture.

    Attributes:
        width: even number of pixels.
        height: even number of pixels.
        fps: frames a second; the nominal rate where `frame_times` are given.
        seconds: from the begin of the first frame to the end of the last.
        codec: one of ENCODERS.
        container: one of CONTAINERS.
        gop: at most so many frames from one keyframe to the next.
        b_frames: frames between two others that refer to both; VP9 and AV1 decide themselves.
        rotation: degrees clockwise by which a viewer turns the stored frames, a multiple of 90; MP4 alone.
        start_s: time of the first frame on the file's clock.
        frame_times: begins of the frames in seconds after the first one's, for a variable rate; begins with 0.
            With B-frames MP4 keeps the times, but not how long the last frame lasts.
        audio: whether there is a soft tone, from the file's time 0 on.
    """

    width: int
    height: int
    fps: Fraction
    seconds: float
    codec: str = "h264"
    container: str = "mp4"
    gop: int = 250
    b_frames: int = 2
    rotation: int = 0
    start_s: float = 0.0
    frame_times: tuple[float, ...] | None = None
    audio: bool = False

    def __post_init__(self) -> None:
        times = self.frame_times
        checks = {
            f"codec {self.codec!r} is none of {', '.join(ENCODERS)}": self.codec in ENCODERS,
            f"container {self.container!r} is none of {', '.join(CONTAINERS)}": self.container in CONTAINERS,
            f"webm cannot hold {self.codec}": self.container != "webm" or self.codec in IN_WEBM,
            f"{self.width}x{self.height} must be positive even numbers": all(
                side > 0 and side % 2 == 0 for side in (self.width, self.height)
            ),
            f"fps {self.fps} and seconds {self.seconds} must be above 0": self.fps > 0 and self.seconds > 0,
            f"start_s {self.start_s} must not be negative": self.start_s >= 0,
            f"rotation {self.rotation} must be 0, or 90, 180 or 270 in mp4": (
                self.rotation == 0 or (self.container == "mp4" and self.rotation in (90, 180, 270))
            ),
            "frame_times must begin with 0, ascend and end before the clip": times is None
            or (times[:1] == (0.0,) and list(times) == sorted(set(times)) and times[-1] < self.seconds),
        }
        for message, holds in checks.items():
            if not holds:
                raise ConfigError(f"clip: {message}")

    @property
    def times(self) -> tuple[float, ...]:
        """Begins of all frames in seconds after the first one's."""
        if self.frame_times is not None:
            return self.frame_times
        return tuple(float(i / self.fps) for i in range(max(1, round(self.seconds * self.fps))))


def can_encode(codec: str) -> bool:
    """Return whether this machine's FFmpeg has our encoder for "h264", "hevc", "vp9", "av1" or "mpeg4"."""
    try:
        Codec(ENCODERS.get(codec, codec), "w")
    except UnknownCodecError:
        return False
    return codec in ENCODERS


def encode_clip(clip: ClipFormat, draw: Callable[[float], np.ndarray]) -> bytes:
    """Return the bytes of a video file.

    Args:
        clip: its format.
        draw: upright picture, [height, width, 3] uint8 RGB, that the clip shows so many seconds after its first frame.

    Raises:
        ConfigError: this FFmpeg has no encoder for the codec; see `can_encode`.
    """
    if not can_encode(clip.codec):
        raise ConfigError(f"this machine's FFmpeg has no {ENCODERS[clip.codec]}, so no {clip.codec} clip can be made")
    os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder prints its settings unless told to print errors alone
    out = io.BytesIO()
    name, audio_codec = CONTAINERS[clip.container]
    with av.open(out, "w", format=name, options={"fflags": "+bitexact"}) as file:
        video = _add_video(file, clip)
        packets = list(_video_packets(video, clip, draw))
        if clip.audio:
            tone = cast(AudioStream, file.add_stream(audio_codec, rate=AUDIO_RATE, options={"flags": "+bitexact"}))
            packets += _tone_packets(tone, clip.start_s + clip.seconds)
        # In order of time over both streams, as a muxer wants them.
        for packet in sorted(packets, key=lambda packet: (packet.dts or 0) * packet.time_base):
            file.mux(packet)
    data = out.getvalue()
    return _turned(data, clip.rotation) if clip.rotation else data


def _add_video(file: OutputContainer, clip: ClipFormat) -> VideoStream:
    stream = cast(VideoStream, file.add_stream(ENCODERS[clip.codec], rate=clip.fps, options=_encoder_options(clip)))
    turned = clip.rotation in (90, 270)
    stream.width, stream.height = (clip.height, clip.width) if turned else (clip.width, clip.height)
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1
    # A fixed rate falls on whole ticks: 24000/1001 fps is 1001 ticks of 1/24000 s.
    rate = clip.fps.numerator if clip.frame_times is None else 1
    stream.codec_context.time_base = Fraction(1, rate * math.ceil(TICKS_PER_SECOND / rate))
    return stream


def _encoder_options(clip: ClipFormat) -> dict[str, str]:
    """Fast presets; keyframes and B-frames just where the format says, so a scene cut adds no keyframe."""
    common = {"g": str(clip.gop), "flags": "+bitexact"}
    own = {
        "h264": {"preset": "superfast", "crf": "20", "bf": str(clip.b_frames), "b_strategy": "0", "sc_threshold": "0"},
        "hevc": {
            "preset": "ultrafast",
            "crf": "20",
            "x265-params": f"log-level=none:pools=none:frame-threads=1:keyint={clip.gop}:min-keyint={clip.gop}:"
            f"scenecut=0:b-adapt=0:bframes={clip.b_frames}:info=0",
        },
        "vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "24", "b": "0", "lag-in-frames": "0"},
        "av1": {"preset": "8", "crf": "20", "svtav1-params": "lp=1"},
        "mpeg4": {"b": "4000000", "qmin": "2", "qmax": "6", "bf": str(clip.b_frames), "sc_threshold": "1000000000"},
    }
    return common | own[clip.codec]


def _video_packets(stream: VideoStream, clip: ClipFormat, draw: Callable[[float], np.ndarray]) -> Iterator[Packet]:
    """The encoded frames; each lasts until the next one begins, the last until the clip's end."""
    time_base = stream.codec_context.time_base
    end_s = clip.seconds if clip.frame_times else float(len(clip.times) / clip.fps)
    ticks = [round((clip.start_s + time_s) / time_base) for time_s in (*clip.times, end_s)]
    durations = {begin: end - begin for begin, end in itertools.pairwise(ticks)}

    def timed(packets: list[Packet]) -> Iterator[Packet]:
        for packet in packets:
            packet.duration = durations[packet.pts or 0]
            yield packet

    for begin, time_s in zip(durations, clip.times, strict=True):
        upright_HW3 = draw(time_s)
        if upright_HW3.shape != (clip.height, clip.width, 3):
            raise ConfigError(f"clip: frame {upright_HW3.shape} at {time_s} s is not {clip.height}x{clip.width}x3")
        # Stored = upright turned the other way round (numpy turns counter-clockwise).
        stored_HW3 = np.ascontiguousarray(np.rot90(upright_HW3, clip.rotation // 90))
        frame = av.VideoFrame.from_ndarray(stored_HW3, format="rgb24")
        frame.pts, frame.time_base = begin, time_base
        yield from timed(stream.encode(frame))
    yield from timed(stream.encode(None))


def _tone_packets(stream: AudioStream, seconds: float) -> Iterator[Packet]:
    """A soft sine, encoded."""
    phase_S = np.arange(round(seconds * AUDIO_RATE)) * (2 * math.pi * TONE_HZ / AUDIO_RATE)
    stream.codec_context.layout = "mono"
    frame = av.AudioFrame.from_ndarray((0.05 * np.sin(phase_S)).astype(np.float32)[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, 0, Fraction(1, AUDIO_RATE)
    yield from stream.encode(frame)
    yield from stream.encode(None)


# Where the matrix lies after the type of an ISO 14496-12 track header of version 0, as FFmpeg writes for short files.
_MATRIX_OFFSET = 44
_QUARTER_TURNS = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


def _turned(mp4: bytes, rotation: int) -> bytes:
    """Write a turn into the header of an MP4's first track, the video; PyAV itself can since version 18 alone."""
    at = mp4.index(b"tkhd", mp4.index(b"moov")) + _MATRIX_OFFSET
    a, b, c, d = (value << 16 for value in _QUARTER_TURNS[rotation])
    rows = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    matrix = b"".join(value.to_bytes(4, "big", signed=True) for value in rows)
    return mp4[:at] + matrix + mp4[at + len(matrix) :]
