"""An open video stream: which stream of the file, its packets by time, and a decoder for them.

The file's bytes decide everything; nothing outside of them is ever opened, whatever they say.
"""

import io
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from grain_molmo.errors import MediaError
from grain_molmo.vision.video_index import PacketIndex

MAX_FRAME_PIXELS = 2**26
"""Videos with larger frames are refused: twice 8K, 200 MB of RGB."""

_KEPT_BYTES = 16 * 2**20
"""The packets of videos up to this size stay in memory between the two passes; those of others are read again."""

_UNTIMED_FPS = 25
"""For streams that name neither times nor a rate."""

_SKIP_SAFELY = ("h264", "mpeg4", "mpeg2video", "mpeg1video")
"""Codecs in which a frame marked as no reference is one to nothing at all, and leaves no other trace."""


class OpenVideo:
    """An open video stream; made by `open_video`.

    Attributes:
        index: the times of its frames.
    """

    def __init__(self, data: bytes, container: InputContainer):
        self._data = data
        self._container = container  # closed when it is collected, and its packets with it
        self.stream = _select_stream(container)
        self._kept: list[Packet] | None = [] if len(data) <= _KEPT_BYTES else None
        self.is_cut_short = False
        self.index = self._read_index()

    def packets(self) -> Iterator[Packet]:
        """The packets in order of decoding; ends where the file cannot be read on."""
        if self._kept is not None:
            yield from self._kept
            return
        with _open_container(self._data) as container:
            yield from self._read(container, _select_stream(container))

    def decoder(self) -> VideoCodecContext:
        """A decoder that has seen nothing yet. Only the newest one may be used."""
        context = self.stream.codec_context
        context.flush_buffers()
        context.skip_frame = "DEFAULT"
        return context

    def can_skip(self) -> bool:
        """Whether frames that are marked as no reference can be left out without a trace."""
        context = self.stream.codec_context
        if context.name == "hevc":  # there the mark speaks of one temporal layer only
            return _has_one_layer(context.extradata or b"")
        return context.name in _SKIP_SAFELY

    def _read(self, container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
        most = len(self._data) + 1024  # no demuxer makes more packets than there are bytes, unless it runs in circles
        try:
            for packet in itertools.islice(container.demux(stream), most):
                if packet.size:  # the last one is empty, and so are gaps in AVI
                    yield packet
        except (FFmpegError, ValueError):
            self.is_cut_short = True

    def _read_index(self) -> PacketIndex:
        rows = []
        for packet in self._read(self._container, self.stream):
            ticks = packet.dts if packet.pts is None else packet.pts
            rows.append((ticks, packet.duration or 0, packet.is_keyframe, packet.is_discard))
            if self._kept is not None:
                self._kept.append(packet)
        if all(is_hidden for *_, is_hidden in rows):
            raise MediaError("no_frames", f"the video stream has {len(rows)} packets, none of them shown")
        ticks, durations, keys, hidden = zip(*rows, strict=True)
        flags = np.array(keys, bool), np.array(hidden, bool)
        if None not in ticks and (time_base := self.stream.time_base):
            return PacketIndex(Fraction(time_base), np.array(ticks, np.int64), np.array(durations, np.int64), *flags)
        tick = 1 / Fraction(self.stream.average_rate or self.stream.base_rate or _UNTIMED_FPS)
        ones = np.ones(len(rows), np.int64)
        return PacketIndex(tick, np.arange(len(rows)), ones, *flags, is_timed=False)


@contextmanager
def open_video(data: bytes) -> Iterator[OpenVideo]:
    """The video stream of a file; whatever FFmpeg raises meanwhile becomes a MediaError, as `probe_video`'s."""
    if not data:
        raise MediaError("empty", "there are no bytes")
    try:
        with _open_container(data) as container:
            yield OpenVideo(data, container)
    except (FFmpegError, MemoryError, OverflowError) as error:
        raise MediaError("unreadable", f"{type(error).__name__}: {error}") from error


def _open_container(data: bytes) -> InputContainer:
    try:
        container = av.open(
            io.BytesIO(data),
            options={"protocol_whitelist": "none", "max_pixels": str(MAX_FRAME_PIXELS)},  # playlists reach nothing
            metadata_errors="replace",
            buffer_size=2**18,
        )
        return cast(InputContainer, container)
    except (FFmpegError, ValueError) as error:
        raise MediaError("not_a_video", f"{type(error).__name__}: {error}") from error


def _select_stream(container: InputContainer) -> VideoStream:
    """The video stream that FFmpeg ranks first, cover pictures apart; ready to decode in this thread."""
    videos = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not videos:
        kinds = ", ".join(stream.type for stream in container.streams) or "no stream at all"
        raise MediaError("no_video_stream", f"the file holds {kinds}")
    best = container.streams.best("video")
    chosen = best if best in videos else videos[0]
    assert isinstance(chosen, VideoStream)
    if chosen.codec_context is None:
        raise MediaError("unreadable", "FFmpeg has no decoder for the video stream")
    width, height = chosen.codec_context.width, chosen.codec_context.height
    if width * height > MAX_FRAME_PIXELS:
        raise MediaError("too_large", f"{width}x{height} is more than {MAX_FRAME_PIXELS} pixels")
    chosen.codec_context.thread_count = 1
    for stream in container.streams:
        if stream is not chosen:
            stream.discard = Discard.all
    return chosen


def _has_one_layer(extradata: bytes) -> bool:
    """Whether an HEVC stream's sequence parameters, as far as its header holds them, speak of one temporal layer."""
    layers = []
    at = extradata.find(b"\x42\x01")  # the header of a sequence parameter set
    while at >= 0:
        layers += extradata[at + 2 : at + 3]
        at = extradata.find(b"\x42\x01", at + 1)
    return bool(layers) and all(byte >> 1 & 7 == 0 for byte in layers)
