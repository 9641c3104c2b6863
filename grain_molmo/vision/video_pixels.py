"""From a decoded frame to upright RGB pixels, with the values that the published pipeline computes."""

from fractions import Fraction

import cv2
import numpy as np
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

_SAME_EITHER_WAY = ("yuv420p", "yuvj420p")
"""Formats that FFmpeg turns into RGB by table if the height is even: there both of its ways agree."""


def upright_size(frame: VideoFrame) -> tuple[int, int]:
    """Width and height of a frame as shown, pixels."""
    return (frame.height, frame.width) if _quarter_turns(frame) % 2 else (frame.width, frame.height)


class RgbConverter:
    """Converts frame after frame: `convert(frame)` is [H, W, 3] uint8 RGB, upright, its lines perhaps padded.

    FFmpeg has two ways that weigh the half-resolution colours of some formats differently. The published pipeline takes
    the one or the other by the frame's width, so this does.
    """

    def __init__(self) -> None:
        self._scaler = VideoReformatter()
        self._graphs: dict[tuple[int, int, str], tuple[Graph, FilterContext, FilterContext]] = {}

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """The frame's pixels."""
        by_scaler = frame.width % 32 == 0 and not _rotation(frame)
        if by_scaler or (frame.format.name in _SAME_EITHER_WAY and frame.height % 2 == 0):
            rgb = self._scaler.reformat(frame, format="rgb24", interpolation=Interpolation.BICUBIC, threads=1)
        else:
            rgb = self._by_filter(frame)
        line = rgb.planes[0].line_size
        lines_HL = np.frombuffer(memoryview(rgb.planes[0]), np.uint8).reshape(rgb.height, line)
        return _turned(lines_HL[:, : 3 * rgb.width].reshape(rgb.height, rgb.width, 3), _quarter_turns(frame))

    def _by_filter(self, frame: VideoFrame) -> VideoFrame:
        key = (frame.width, frame.height, frame.format.name)
        if key not in self._graphs:
            self._graphs = {key: _scale_graph(frame)}  # the newest alone: a stream rarely changes its size
        graph, entry, exit_ = self._graphs[key]
        del graph
        entry.push(frame)
        rgb = exit_.pull()
        assert isinstance(rgb, VideoFrame)
        return rgb


def _scale_graph(frame: VideoFrame) -> tuple[Graph, FilterContext, FilterContext]:
    """A filter graph that turns frames like this one into RGB, and its two ends."""
    graph = Graph()
    graph.threads = 1
    entry = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
    )
    steps = graph.add("scale", f"{frame.width}:{frame.height}"), graph.add("format", "rgb24"), graph.add("buffersink")
    graph.link_nodes(entry, *steps).configure()
    return graph, entry, steps[-1]


def _quarter_turns(frame: VideoFrame) -> int:
    """By how many quarter turns, counterclockwise, a frame is shown: 0 to 3. Reflections are ignored, as published."""
    return round(_rotation(frame) / 90) % 4


def _rotation(frame: VideoFrame) -> int:
    """Degrees counterclockwise; 0 where the matrix has no angle, as one of zeros, which FFmpeg reports as NaN."""
    return frame.rotation if abs(frame.rotation) <= 360 else 0


def _turned(pixels_HW3: np.ndarray, quarter_turns: int) -> np.ndarray:
    match quarter_turns:
        case 1:
            return cv2.rotate(pixels_HW3, cv2.ROTATE_90_COUNTERCLOCKWISE)
        case 2:
            return cv2.rotate(pixels_HW3, cv2.ROTATE_180)
        case 3:
            return cv2.rotate(pixels_HW3, cv2.ROTATE_90_CLOCKWISE)
    return pixels_HW3
