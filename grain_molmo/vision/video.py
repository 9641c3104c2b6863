"""From the bytes of a video to the frames shown at given instants (Molmo2 §4.1)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from grain_molmo.vision.crops import render_frame
from grain_molmo.vision.video_decode import first_frame, wanted_frames
from grain_molmo.vision.video_pixels import RgbConverter, upright_size
from grain_molmo.vision.video_stream import open_video

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
    with open_video(data) as video:
        index = video.index
        width, height = upright_size(first_frame(video))
        fps = index.num_frames / index.duration_s if index.duration_s > 0 else 0.0
        codec = video.stream.codec_context.codec.canonical_name
        return VideoInfo(width, height, index.duration_s, index.num_frames, fps, codec)


def decode_frames(data: bytes, times_s: _TIMES_S, clip_start_s: float = 0.0) -> Iterator[tuple[list[int], np.ndarray]]:
    """The frames shown at the given times, each once; a few are in memory at a time.

    They come in order of presentation. Of a damaged file, some that had to be decoded again may come late.

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
    with open_video(data) as video:
        shown = video.index.shown_at(times_s, clip_start_s).tolist()
        places: dict[int, list[int]] = {}
        for place, ticks in enumerate(shown):
            places.setdefault(ticks, []).append(place)
        convert = RgbConverter()
        for all_ticks, frame in wanted_frames(video, sorted(places)):
            yield [place for ticks in all_ticks for place in places[ticks]], convert(frame)


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
