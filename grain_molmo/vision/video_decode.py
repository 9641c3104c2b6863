"""The wanted frames of a video, exactly as if all of it were decoded, from decoding as little as they need.

In one pass and one thread, of each group of pictures the part up to the last wanted frame is decoded, without the
frames that no other refers to. Whatever turns out odd on the way, a key frame that is none or a frame that does not
come out, makes the rest of it be decoded without such savings.
"""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
from av.error import FFmpegError
from av.video.frame import PictureType, VideoFrame

from grain_molmo.errors import MediaError
from grain_molmo.vision.video_stream import OpenVideo

Shown = tuple[list[int], VideoFrame]  # ticks, and the frame shown at them


def first_frame(video: OpenVideo) -> VideoFrame:
    """The first frame that decodes. Raises MediaError if none does."""
    problem: FFmpegError | None = None
    for found, _ in _decode_all(video):
        if isinstance(found, VideoFrame):
            return found
        problem = found
    raise MediaError("no_frames", f"none of {video.index.num_frames} frames can be decoded: {problem}")


def wanted_frames(video: OpenVideo, ticks: Sequence[int]) -> Iterator[Shown]:
    """The frames shown at these ticks (ascending), each with all of the ticks that it stands for.

    In order of presentation, but for those that only come out when everything is decoded.
    """
    left = set(ticks)
    if video.index.is_timed:
        for found in _sparse_frames(video, ticks):
            left.discard(found[0][0])
            yield found
    if left:
        yield from _sequential_frames(video, sorted(left))


def _sparse_frames(video: OpenVideo, ticks: Sequence[int]) -> Iterator[Shown]:
    """As many of the wanted frames as come out when only what they depend on is decoded.

    It stops where something is not as the container promised.
    """
    left = set(ticks)
    try:
        for frame in _decode_needed(video, ticks):
            if frame.pts in left:
                left.remove(frame.pts)
                yield [frame.pts], frame
    except (FFmpegError, _NoKeyFrameError):
        return


class _NoKeyFrameError(Exception):
    """The container marks a packet as key frame that is none."""


def _decode_needed(video: OpenVideo, ticks: Sequence[int]) -> Iterator[VideoFrame]:
    """Frames in order of presentation, the wanted ones among them, as far as the container's key frames are true."""
    decoder, can_skip = video.decoder(), video.can_skip()
    needed = video.index.needed_for(ticks)
    wanted = set(ticks)
    promised = None  # the time of the key frame that decoding began at, until it has come out
    skipping = False
    num_packets = int(np.flatnonzero(needed.packets_N).max(initial=-1)) + 1
    for place, packet in enumerate(itertools.islice(video.packets(), num_packets)):
        if not needed.packets_N[place]:
            continue
        if needed.anew_N[place]:
            if place:
                yield from decoder.decode(None)  # frames that were held back for their order
                decoder.flush_buffers()
            promised = packet.pts if needed.shows_key_N[place] else None
        if can_skip and skipping != (packet.pts not in wanted):
            skipping = not skipping
            decoder.skip_frame = "NONREF" if skipping else "DEFAULT"
        for frame in decoder.decode(packet):
            if promised is not None and (frame.pts != promised or not _is_intra(frame)):
                raise _NoKeyFrameError
            promised = None
            yield frame
    yield from decoder.decode(None)


def _sequential_frames(video: OpenVideo, ticks: Sequence[int]) -> Iterator[Shown]:
    """The wanted frames, from decoding everything.

    A frame that does not come out is replaced by the next one, or the last. But if the data are damaged between the
    key frame before and there, that is an error, as is a frame that the damage may have spoilt.
    """
    left, last, problem = deque(ticks), None, None
    for found, at in _decode_all(video):
        if isinstance(found, FFmpegError):
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
    if problem or video.is_cut_short:
        raise MediaError("truncated", f"{len(left)} of the frames asked for are beyond what can be decoded: {problem}")
    if last is None:
        raise MediaError("no_frames", f"none of {video.index.num_frames} frames can be decoded")
    yield list(left), last


def _decode_all(video: OpenVideo) -> Iterator[tuple[VideoFrame | FFmpegError, int]]:
    """Every frame that the decoder gives, with the tick at which it is shown, and every error that it raises."""
    decoder, at = video.decoder(), -1
    for packet in itertools.chain(video.packets(), [None]):
        try:
            frames = decoder.decode(packet)
        except FFmpegError as error:
            yield error, at
            continue
        for frame in frames:
            ticks = frame.dts if frame.pts is None else frame.pts
            at = ticks if video.index.is_timed and ticks is not None else at + 1
            yield frame, at


def _is_intra(frame: VideoFrame) -> bool:
    return bool(frame.key_frame) or frame.pict_type == PictureType.I
