"""Videos to patches: frames a second of one core, against decoding them from start to end.

Clips are drawn and encoded at the first run and kept in a cache folder; --media adds the videos of a folder. Of each, 2
frames a second are shown. A ten-minute clip is shown in 128 and 384 frames. Every frame is decoded, turned into RGB,
resized to 378 x 378 and cut into patches. Seconds are those of the processor.

The baseline, "sequential PyAV", decodes the file in one thread up to the last frame that is shown and resizes the
same frames by the same code. "Prepared" is from the JPEG frames that `--video-frames` stores at conversion; how far
those are from the frames themselves is given as the lowest PSNR. The peak memory is that of a fresh process that
renders the ten-minute clip once, less what it held before and less the patches themselves.
"""

import argparse
import contextlib
import io
import multiprocessing
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from converters.sample.clips import ClipFormat, can_encode
from grain_molmo.errors import MediaError
from grain_molmo.readable import ruled_table
from grain_molmo.tools.bench.clips import cached_clip
from grain_molmo.tools.bench.report import Report, positive, speed_ratio, time_in_turn
from grain_molmo.vision.crops import PATCHES_PER_CROP, VALUES_PER_PATCH, render_frame
from grain_molmo.vision.frames import FrameSampling, sample_times
from grain_molmo.vision.prepared import PreparedFrames, prepare_frames, psnr_db
from grain_molmo.vision.resize import use_one_opencv_thread
from grain_molmo.vision.video import VideoInfo, probe_video, render_frames
from grain_molmo.vision.video_index import moments
from grain_molmo.vision.video_pixels import RgbConverter
from grain_molmo.vision.video_stream import open_video

OURS, PREPARED, SEQUENTIAL = "ours", "prepared", "sequential PyAV"
_KINDS = (("h264", 360), ("h264", 720), ("h264", 1080), ("hevc", 480), ("vp9", 480), ("av1", 480))
_LONG_HEIGHT = 180
_B_FRAMES = 3  # as x264 has it by default


@dataclass(frozen=True)
class Clip:
    """A video to measure; the times that are shown of it, from its start and on its own clock."""

    name: str
    data: bytes
    info: VideoInfo
    times_s: np.ndarray
    asked_s: np.ndarray


EXAMPLES = (
    ("clips drawn here", ""),
    ("videos of your own, too, and clips kept for the next time", "--media VIDEOS --cache CLIPS"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's arguments."""
    parser.add_argument("--media", type=Path, metavar="DIR", help="also the videos of this folder")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where drawn clips are kept (a temporary folder's)")
    parser.add_argument("--seconds", type=positive, default=12, metavar="N", help="length of the drawn clips (12)")
    parser.add_argument("--long", type=positive, default=600, metavar="N", help="seconds of the long clip (600)")
    parser.add_argument(
        "--frames", type=positive, nargs="*", default=[128, 384], metavar="N", help="shown of the long clip (128 384)"
    )
    parser.add_argument(
        "--heights", type=positive, nargs="*", metavar="N", help="only drawn clips of these heights (all)"
    )
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="times that each is measured (5)")


def run(args: argparse.Namespace) -> Report:
    """The benchmark's report."""
    use_one_opencv_thread()
    cache = args.cache or Path(tempfile.gettempdir()) / "grain-molmo-bench-clips"
    clips = list(_clips(args, cache))
    found = {clip.name: measure(clip, args.rounds) for clip in clips}
    memory = None
    if args.frames:
        longest = next(clip for clip in clips if clip.name == _long_name(max(args.frames)))
        memory = {"clip": longest.name, **peak_memory(longest)}
    settings = {"media": str(args.media) if args.media else None, "seconds": args.seconds, "rounds": args.rounds}
    figures = {"clips": found, "memory": memory}
    return Report("video", settings, figures, _describe(figures))


def _clips(args: argparse.Namespace, cache: Path) -> Iterator[Clip]:
    for codec, height in _KINDS:
        if can_encode(codec) and (not args.heights or height in args.heights):
            data = cached_clip(_format(codec, height, args.seconds), cache)
            yield _clip(f"{codec} {height}p", data, FrameSampling(max_frames=10_000))
    if args.frames:
        data = cached_clip(_format("h264", _LONG_HEIGHT, args.long), cache)
        for count in args.frames:
            yield _clip(_long_name(count), data, FrameSampling(max_frames=count))
    for path in sorted(args.media.rglob("*")) if args.media else ():
        with contextlib.suppress(MediaError, FFmpegError, OSError):  # other files may lie there, and damaged ones
            clip = _clip(path.name, path.read_bytes(), FrameSampling(max_frames=384))
            for way in (render_frames, decode_sequentially):
                way(clip.data, clip.asked_s, _room(clip))
            yield clip


def _long_name(count: int) -> str:
    return f"long, {count} frames"


def _format(codec: str, height: int, seconds: float) -> ClipFormat:
    width = round(height * 16 / 9 / 2) * 2
    return ClipFormat(width=width, height=height, fps=Fraction(30), seconds=seconds, codec=codec, b_frames=_B_FRAMES)


def _clip(name: str, data: bytes, sampling: FrameSampling) -> Clip:
    info = probe_video(data)
    times_s = sample_times(info.duration_s, sampling)
    with open_video(data) as video:
        asked_s = moments(times_s, 0.0, video.index.begin_s, video.index.end_s)
    return Clip(name, data, info, times_s, asked_s)


def _room(clip: Clip) -> np.ndarray:
    return np.zeros((len(clip.times_s), PATCHES_PER_CROP, VALUES_PER_PATCH), np.uint8)


def measure(clip: Clip, rounds: int) -> dict[str, Any]:
    """Figures of one clip."""
    ours_FPD, sequential_FPD, prepared_FPD = _room(clip), _room(clip), _room(clip)
    prepared = prepare_frames(clip.data, [(0.0, clip.times_s)])
    seconds = time_in_turn(
        {
            OURS: partial(render_frames, clip.data, clip.times_s, ours_FPD),
            SEQUENTIAL: partial(decode_sequentially, clip.data, clip.asked_s, sequential_FPD),
            PREPARED: lambda: PreparedFrames(prepared).render(clip.times_s, prepared_FPD),
        },
        rounds,
        time.process_time,  # all of it is work of one core, which others may want meanwhile
    )
    return {
        "size": f"{clip.info.width}x{clip.info.height}",
        "codec": clip.info.codec,
        "frames": clip.info.num_frames,
        "shown": len(clip.times_s),
        "frames_per_s": {name: len(clip.times_s) / statistics.median(spent) for name, spent in seconds.items()},
        "ratio": speed_ratio(seconds[OURS], seconds[SEQUENTIAL]),
        "prepared_ratio": speed_ratio(seconds[PREPARED], seconds[SEQUENTIAL]),
        "same_frames": bool((ours_FPD == sequential_FPD).all()),
        "prepared_psnr_db": min(psnr_db(*pair) for pair in zip(prepared_FPD, ours_FPD, strict=True)),
        "video_bytes": len(clip.data),
        "prepared_bytes": len(prepared),
    }


def decode_sequentially(data: bytes, asked_s: np.ndarray, out_FPD: np.ndarray) -> None:
    """The plainest way to the same frames: decode on, and show a frame once the next one has come."""
    with av.open(io.BytesIO(data)) as container:
        stream = cast(InputContainer, container).streams.best("video")
        assert isinstance(stream, VideoStream)
        stream.codec_context.thread_count = 1
        convert, before, place = RgbConverter(), None, 0
        for frame in cast(InputContainer, container).decode(stream):
            first = place
            while before is not None and place < len(asked_s) and asked_s[place] < (frame.time or 0.0):
                place += 1
            _show(before, convert, out_FPD[first:place])
            if place == len(asked_s):
                return
            before = frame
        _show(before, convert, out_FPD[place:])


def _show(frame: VideoFrame | None, convert: RgbConverter, out_FPD: np.ndarray) -> None:
    if frame is not None and len(out_FPD):
        render_frame(convert(frame), out_FPD[0])
        out_FPD[1:] = out_FPD[0]


def peak_memory(clip: Clip) -> dict[str, float]:
    """Megabytes that rendering the clip takes in a fresh process beside the patches, and the patches' own."""
    spawn = multiprocessing.get_context("spawn")
    results = spawn.SimpleQueue()
    process = spawn.Process(target=_render_and_report, args=(clip.data, clip.times_s, results))
    process.start()
    beside = results.get()
    process.join()
    return {"patches_mb": _room(clip).nbytes / 1e6, "beside_mb": beside - _room(clip).nbytes / 1e6}


def _render_and_report(data: bytes, times_s: np.ndarray, results: Any) -> None:
    use_one_opencv_thread()
    before = _peak_mb()
    out_FPD = np.zeros((len(times_s), PATCHES_PER_CROP, VALUES_PER_PATCH), np.uint8)
    render_frames(data, times_s, out_FPD)
    results.put(_peak_mb() - before)


def _peak_mb() -> float:
    """The most memory that this process has held, MB. (`getrusage` would count what its parent held.)"""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1e3  # pyright: ignore[reportOptionalSubscript]


def _describe(figures: dict[str, Any]) -> list[str]:
    rows = [
        (
            name,
            found["size"],
            f"{found['frames']:,}",
            found["shown"],
            *(f"{found['frames_per_s'][contender]:.0f}" for contender in (SEQUENTIAL, OURS, PREPARED)),
            f"{found['ratio']:.2f}",
            f"{found['prepared_ratio']:.1f}",
            f"{found['prepared_psnr_db']:.1f}",
            f"{found['prepared_bytes'] / found['video_bytes']:.2f}",
        )
        for name, found in figures["clips"].items()
    ]
    header = ("clip", "size", "frames", "shown", f"{SEQUENTIAL}/s", "ours/s", "prepared/s", "ratio", "prepared ratio")
    paragraphs = [ruled_table((*header, "PSNR dB", "bytes"), rows)]
    different = [name for name, found in figures["clips"].items() if not found["same_frames"]]
    paragraphs.append(f"other frames than the baseline: {', '.join(different)}" if different else "Same frames in all.")
    if memory := figures["memory"]:
        paragraphs.append(
            f"Peak memory of {memory['clip']}: {memory['beside_mb']:.0f} MB beside the {memory['patches_mb']:.0f} MB "
            "of patches."
        )
    return paragraphs
