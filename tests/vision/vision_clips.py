"""Clips for the tests of video, and the plainest way to decode them."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition

from converters.sample.clips import ClipFormat, encode_clip
from grain_molmo.vision.video_index import PacketIndex
from grain_molmo.vision.video_pixels import RgbConverter
from grain_molmo.vision.video_stream import open_video

HEIGHT, WIDTH = 48, 64


def draw(time_s: float, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """[H, W, 3] uint8: noise that drifts and a disc that circles, so that no two frames are alike."""
    rng = np.random.default_rng(7)
    ground = cv2.resize(rng.integers(0, 256, (height // 4, width // 4, 3), np.uint8), (width, height))
    picture = np.roll(ground, round(20 * time_s), axis=1)
    centre = (round(width * (0.5 + 0.3 * np.cos(time_s))), round(height * (0.5 + 0.3 * np.sin(time_s))))
    return cv2.circle(picture, centre, height // 5, (250, round(97 * time_s) % 256, 30), -1)


@cache
def clip(codec: str = "h264", seconds: float = 4.0, **fields: Any) -> bytes:
    """A small clip, 10 frames a second and groups of 12 unless said otherwise; made once."""
    shape = {"width": WIDTH, "height": HEIGHT, "fps": Fraction(10), "gop": 12, "b_frames": 3} | fields
    clip_format = ClipFormat(codec=codec, seconds=seconds, **shape)
    return encode_clip(clip_format, lambda time_s: draw(time_s, clip_format.height, clip_format.width))


def encode(options: dict[str, str], container: str, codec: str = "libx264", frames: int = 40) -> bytes:
    """A clip with encoder options of one's own, 10 frames a second; made once."""
    return _encode(tuple(options.items()), container, codec, frames)


@cache
def _encode(options: tuple[tuple[str, str], ...], container: str, codec: str, frames: int) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream: Any = file.add_stream(codec, rate=10, options=dict(options))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(frames):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(draw(number / 10), format="rgb24")))
        file.mux(stream.encode(None))
    return out.getvalue()


def remux(data: bytes, container: str, *, all_keys: bool = False) -> bytes:
    """The same packets in another container, each marked as a key frame if asked."""
    out = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(out, "w", format=container) as file:
        _copy_video(source, file, file.add_stream_from_template(source.streams.video[0]), all_keys)
    return out.getvalue()


def with_cover(data: bytes, cover: bytes, *, video: bool = True) -> bytes:
    """An mp4 of a clip's packets, or of none, beside a cover picture (JPEG)."""
    out = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(out, "w", format="mp4") as file:
        picture: Any = file.add_stream("mjpeg", rate=1)
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        picture.disposition = Disposition.attached_pic
        stream = file.add_stream_from_template(source.streams.video[0]) if video else None
        packet = av.Packet(cover)
        packet.stream, packet.pts, packet.dts, packet.is_keyframe = picture, 0, 0, True
        file.mux(packet)
        if stream is not None:
            _copy_video(source, file, stream)
    return out.getvalue()


def _copy_video(source: Any, file: Any, stream: Any, all_keys: bool = False) -> None:
    for packet in source.demux(source.streams.video[0]):
        if packet.dts is not None:
            packet.stream, packet.is_keyframe = stream, all_keys or packet.is_keyframe
            file.mux(packet)


def frames_in_order(data: bytes) -> Iterator[tuple[int, np.ndarray]]:
    """All frames with their ticks, decoded from start to end; what the decoder refuses is left out."""
    convert = RgbConverter()
    with av.open(io.BytesIO(data)) as container:
        assert isinstance(container, InputContainer)
        stream: Any = container.streams.best("video")
        stream.codec_context.thread_count = 1  # in several, FFmpeg's VP8 gives other pixels each time
        for packet in container.demux(stream):
            with contextlib.suppress(FFmpegError):
                for frame in packet.decode():
                    yield frame.pts, convert(frame)


def shown_plainly(data: bytes, times_s: Sequence[float] | np.ndarray, clip_start_s: float = 0.0) -> list[np.ndarray]:
    """The frame shown at each time, from decoding everything: the first one at or after the tick that is due."""
    ticks = index_of(data).shown_at(times_s, clip_start_s).tolist()
    shown: dict[int, np.ndarray] = {}
    last = None
    for at, frame_HW3 in frames_in_order(data):
        shown |= {due: frame_HW3 for due in set(ticks) - set(shown) if due <= at}
        last = frame_HW3
        if len(shown) == len(set(ticks)):
            break
    assert last is not None
    return [shown.get(due, last) for due in ticks]


def index_of(data: bytes) -> PacketIndex:
    """When a video's packets are shown."""
    with open_video(data) as video:
        return video.index
