"""From the bytes of a video to the frames shown at given instants, exactly as if all of it were decoded (Molmo2 §4.1).

The packets are read once to learn the true times. Then only what the wanted frames depend on is decoded, in one pass
and one thread: of each group of pictures the part up to the last wanted frame, without the frames that no other refers
to. Whatever turns out odd on the way, a key frame that is none or a frame that does not appear, makes the rest of it be
decoded without such savings.
"""

import io
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.codec.context import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from grain_molmo.errors import MediaError
from grain_molmo.vision.crops import render_frame
from grain_molmo.vision.video_index import PacketIndex
from grain_molmo.vision.video_pixels import RgbConverter, upright_size

MAX_FRAME_PIXELS = 2**26
"""Videos with larger frames are refused: twice 8K, 200 MB of RGB."""

_KEPT_BYTES = 16 * 2**20
"""The packets of videos up to this size stay in memory between the two passes; those of others are read again."""

_UNTIMED_FPS = 25
"""For streams that name neither times nor a rate."""

_SKIP_SAFELY = ("h264", "mpeg4", "mpeg2video", "mpeg1video")
"""Codecs in which a frame marked as no reference is one to nothing at all, and leaves no other trace."""

_TIMES_S = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class VideoInfo:
    """What the packets of a video say, and its first frame.

    Attributes:
        width: as shown upright, pixels.
        height: as shown upright, pixels.
        duration_s: from the beginning of the first frame to the end of the last, seconds.
        num_frames: frames that are shown.
        fps: frames per second, on average; 0.0 of a video without duration.
        codec: FFmpeg's name of it ("h264", "vp9").
    """

    width: int
    height: int
    duration_s: float
    num_frames: int
    fps: float
    codec: str


def probe_video(data: bytes) -> VideoInfo:
    """The size, duration and number of frames of a video. Reads all packets, decodes the first frame.

    Raises:
        MediaError: with reason "empty", "not_a_video", "no_video_stream", "no_frames", "too_large" or "unreadable".
    """
    with _opened(data) as source:
        index = source.index
        width, height = upright_size(_first_frame(source))
        fps = index.num_frames / index.duration_s if index.duration_s > 0 else 0.0
        codec = source.stream.codec_context.codec.canonical_name
        return VideoInfo(width, height, index.duration_s, index.num_frames, fps, codec)


def decode_frames(
    data: bytes, times_s: _TIMES_S, clip_start_s: float = 0.0
) -> Iterator[tuple[list[int], np.ndarray]]:
    """The frames shown at the given times, in order of presentation, each once; a few are in memory at a time.

    Args:
        data: the video file's bytes.
        times_s: [T] seconds from the start of the clip. Beyond the video's ends, the first or last frame is shown.
        clip_start_s: where the clip begins, seconds from the first frame.

    Yields:
        The indices of the times at which the frame is shown, and the frame: [H, W, 3] uint8 RGB, upright, at native
        size. Every index comes once.

    Raises:
        MediaError: as `probe_video`; "truncated" if the file ends before a frame that is shown, "unreadable" if one is
            damaged.
    """
    with _opened(data) as source:
        shown = source.index.shown_at(times_s, clip_start_s).tolist()
        wanted = {ticks: [place for place, other in enumerate(shown) if other == ticks] for ticks in sorted(set(shown))}
        convert = RgbConverter()
        for all_ticks, frame in _wanted_frames(source, list(wanted)):
            yield [place for ticks in all_ticks for place in wanted[ticks]], convert(frame)


def render_frames(data: bytes, times_s: _TIMES_S, out_FPD: np.ndarray, clip_start_s: float = 0.0) -> None:
    """Write the patches of the frames shown at the given times, each resized to 378 x 378 (Molmo2 §4.4).

    Args:
        data: the video file's bytes.
        times_s: [F] as for `decode_frames`.
        out_FPD: [F, 729, 588] uint8, C-contiguous.
        clip_start_s: where the clip begins, seconds from the first frame.

    Raises:
        MediaError: as `decode_frames`.
        ValueError: `out_FPD` has another shape or dtype.
    """
    if len(out_FPD) != len(times_s):
        raise ValueError(f"out has room for {len(out_FPD)} frames, not {len(times_s)}")
    for (first, *others), frame_HW3 in decode_frames(data, times_s, clip_start_s):
        render_frame(frame_HW3, out_FPD[first])
        for place in others:
            out_FPD[place] = out_FPD[first]


def packet_index(data: bytes) -> PacketIndex:
    """The times of all frames of a video. Raises MediaError as `probe_video`."""
    with _opened(data) as source:
        return source.index


class _Source:
    """An open video stream, its index, and its packets as often as they are asked for."""

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

    def decoder(self) -> CodecContext:
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
        except (av.FFmpegError, ValueError):
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
def _opened(data: bytes) -> Iterator[_Source]:
    """The video stream of a file; whatever FFmpeg raises meanwhile becomes a MediaError."""
    if not data:
        raise MediaError("empty", "there are no bytes")
    try:
        with _open_container(data) as container:
            yield _Source(data, container)
    except (av.FFmpegError, MemoryError, OverflowError) as error:
        raise MediaError("unreadable", f"{type(error).__name__}: {error}") from error


def _open_container(data: bytes) -> InputContainer:
    try:
        return av.open(
            io.BytesIO(data),
            options={"protocol_whitelist": "none", "max_pixels": str(MAX_FRAME_PIXELS)},  # playlists reach nothing
            metadata_errors="replace",
            buffer_size=2**18,
        )
    except (av.FFmpegError, ValueError) as error:
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


def _first_frame(source: _Source) -> VideoFrame:
    """The first frame that decodes. Raises MediaError if none does."""
    decoder, problem = source.decoder(), "the decoder gave none"
    for packet in itertools.chain(source.packets(), [None]):
        try:
            for frame in decoder.decode(packet):
                return frame
        except av.FFmpegError as error:
            problem = f"{type(error).__name__}: {error}"
    raise MediaError("no_frames", f"no frame of {source.index.num_frames} can be decoded: {problem}")


Shown = tuple[list[int], VideoFrame]  # ticks, and the frame shown at them


def _wanted_frames(source: _Source, ticks: list[int]) -> Iterator[Shown]:
    """The frames shown at these ticks (ascending), each with all of the ticks that it stands for."""
    left = set(ticks)
    if source.index.is_timed:
        for found in _sparse_frames(source, ticks):
            left.discard(found[0][0])
            yield found
    if left:
        yield from _sequential_frames(source, sorted(left))


def _sparse_frames(source: _Source, ticks: list[int]) -> Iterator[Shown]:
    """As many of the wanted frames as come out when only what they depend on is decoded.

    It stops where something is not as the container promised.
    """
    left = set(ticks)
    try:
        for frame in _decode_needed(source, ticks):
            if frame.pts in left:
                left.remove(frame.pts)
                yield [frame.pts], frame
    except (av.FFmpegError, _NoKeyFrameError):
        return


class _NoKeyFrameError(Exception):
    """The container marks a packet as key frame that is none."""


def _decode_needed(source: _Source, ticks: list[int]) -> Iterator[VideoFrame]:
    """Frames in order of presentation, the wanted ones among them, as far as the container's key frames are true."""
    index, decoder, can_skip = source.index, source.decoder(), source.can_skip()
    needed_N, anew_N = index.needed_for(ticks)
    wanted = set(ticks)
    promised = None  # the time of the key frame that decoding began at, until it has come out
    for place, packet in enumerate(itertools.islice(source.packets(), int(np.flatnonzero(needed_N)[-1]) + 1)):
        if not needed_N[place]:
            continue
        if anew_N[place]:
            yield from decoder.decode(None)  # frames that were held back for their order
            decoder.flush_buffers()
            promised = None if index.is_hidden_N[place] else packet.pts
        if can_skip:
            decoder.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        for frame in decoder.decode(packet):
            if promised is not None and (frame.pts != promised or not _is_intra(frame)):
                raise _NoKeyFrameError
            promised = None
            yield frame
    yield from decoder.decode(None)


def _sequential_frames(source: _Source, ticks: list[int]) -> Iterator[Shown]:
    """The wanted frames, from decoding everything.

    A frame that does not come out is replaced by the next one, or the last. But if the data are damaged between the
    key frame before and there, that is an error, as is a frame that the damage may have spoilt.
    """
    left, last, problem = deque(ticks), None, None
    for found, at in _decode_all(source):
        if isinstance(found, av.FFmpegError):
            problem = found
            continue
        due = []
        while left and left[0] <= at:
            due.append(left.popleft())
        is_sound = problem is None or (found.key_frame and due == [at])
        if due and not is_sound:
            raise MediaError("unreadable", f"the frame at tick {due[0]} is damaged: {problem}")
        if due:
            yield due, found
        if not left:
            return
        last, problem = found, None if found.key_frame else problem
    if problem or source.is_cut_short:
        raise MediaError("truncated", f"{len(left)} of the frames asked for are beyond what can be decoded: {problem}")
    if last is None:
        raise MediaError("no_frames", f"none of {source.index.num_frames} frames can be decoded")
    yield list(left), last


def _decode_all(source: _Source) -> Iterator[tuple[VideoFrame | av.FFmpegError, int]]:
    """Every frame that the decoder gives, with the tick at which it is shown, and every error that it raises."""
    decoder, at = source.decoder(), -1
    for packet in itertools.chain(source.packets(), [None]):
        try:
            frames = decoder.decode(packet)
        except av.FFmpegError as error:
            yield error, at
            continue
        for frame in frames:
            ticks = frame.dts if frame.pts is None else frame.pts
            at = ticks if source.index.is_timed and ticks is not None else at + 1
            yield frame, at


def _is_intra(frame: VideoFrame) -> bool:
    return bool(frame.key_frame) or frame.pict_type == PictureType.I
