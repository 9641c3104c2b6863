"""Frames of a video decoded at conversion: small pictures with the time that the video shows each of them.

They cost a fraction of decoding the video, and stand only for requests that the video itself would answer with the very
same frames.
"""

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
import simplejpeg

from grain_molmo.errors import MediaError
from grain_molmo.store.example_proto import decode_example, encode_example
from grain_molmo.vision.crops import CROP, render_frame
from grain_molmo.vision.resize import resize_bilinear
from grain_molmo.vision.video_decode import wanted_frames
from grain_molmo.vision.video_index import moments
from grain_molmo.vision.video_pixels import RgbConverter
from grain_molmo.vision.video_stream import open_video

MIN_PSNR_DB = 40.0
"""A stored frame is at least so close to the resized one."""

_AIM_DB = MIN_PSNR_DB + 0.3  # in case that another build of the JPEG library rounds otherwise
_QUALITIES = (85, 90, 93, 95, 97, 98, 99, 100)
_FOREVER = 2**63 - 1
_SHOWN = ("from", "until", "number")

Window = tuple[float, Sequence[float] | np.ndarray]
"""Where a clip begins in a video, seconds, and the times to show, seconds from there."""


def prepare_frames(data: bytes, windows: Sequence[Window]) -> bytes:
    """The frames of a video that the windows ask for, for `PreparedFrames`; each distinct frame once.

    A `tf.train.Example`: "frame" holds pictures of 378 x 378, JPEG without colour subsampling or, where that would be
    further off than `MIN_PSNR_DB`, PNG. From "from"[k] until "until"[k] the video shows frame "number"[k], in ascending
    ticks of "time_base"[0] / "time_base"[1] seconds. "span" is the video's begin and end in ticks.

    Raises:
        MediaError: the video cannot be decoded, as `decode_frames`.
    """
    frames: list[bytes] = []
    shown: list[tuple[int, int, int]] = []  # from, until, number of the frame
    with open_video(data) as video:
        index, convert = video.index, RgbConverter()
        asked = [index.shown_at(times_s, clip_start_s) for clip_start_s, times_s in windows]
        for all_ticks, frame in wanted_frames(video, np.unique(np.concatenate(asked)).tolist() if asked else []):
            for start, end in itertools.chain.from_iterable(map(index.shown_during, all_ticks)):
                shown.append((start, _FOREVER if end is None else end, len(frames)))
            frames.append(compress_frame(resize_bilinear(convert(frame), CROP, CROP)))
        time_base = [index.time_base.numerator, index.time_base.denominator]
        span = [index.begin, index.end]
    return encode_example(
        bytes_lists={"frame": frames},
        int64_lists={
            **{name: [entry[place] for entry in sorted(shown)] for place, name in enumerate(_SHOWN)},
            "time_base": time_base,
            "span": span,
        },
    )


def compress_frame(frame_HW3: np.ndarray) -> bytes:
    """[H, W, 3] uint8 RGB as the smallest JPEG tried that is close enough to it, else as PNG."""
    for quality in _QUALITIES:
        picture = simplejpeg.encode_jpeg(frame_HW3, quality, colorspace="RGB", colorsubsampling="444", fastdct=False)
        if psnr_db(simplejpeg.decode_jpeg(picture), frame_HW3) >= _AIM_DB:
            return picture
    _, picture = cv2.imencode(".png", cv2.cvtColor(frame_HW3, cv2.COLOR_RGB2BGR))
    return picture.tobytes()


def psnr_db(one: np.ndarray, other: np.ndarray) -> float:
    """The peak signal-to-noise ratio of two uint8 pictures, dB; infinite where they are equal."""
    return float(cv2.PSNR(one, other)) if (one != other).any() else float("inf")


class PreparedFrames:
    """The frames that `prepare_frames` stored.

    Args:
        data: what it returned.

    Raises:
        MediaError: with reason "unreadable", if the bytes are something else.
    """

    def __init__(self, data: bytes):
        try:
            fields = decode_example(data)
            self._frames: list[bytes] = fields["frame"]
            numerator, denominator = fields["time_base"]
            edges = ([ticks * numerator / denominator for ticks in fields[name]] for name in ("from", "until", "span"))
            self._from_s, self._until_s, (self._begin_s, self._end_s) = map(np.array, edges)
            self._number = np.array(fields["number"], np.int64)
            if not len(self._from_s) == len(self._until_s) == len(self._number):
                raise ValueError(f"{len(self._from_s)} times of {len(self._number)} frames")
            if not np.isin(self._number, np.arange(len(self._frames))).all():
                raise ValueError(f"more than the {len(self._frames)} frames that are there")
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            raise MediaError("unreadable", f"not prepared frames: {type(error).__name__}: {error}") from error

    def __len__(self) -> int:
        return len(self._frames)

    def check(self) -> None:
        """Decodes each of the frames. Raises MediaError with reason "unreadable" if one does not decode."""
        for frame in self._frames:
            _decode(frame)

    def covers(self, times_s: Sequence[float] | np.ndarray, clip_start_s: float = 0.0) -> bool:
        """Whether the very frame that the video shows at each of the times is here.

        Args:
            times_s: seconds from the start of the clip.
            clip_start_s: where the clip begins, seconds from the video's first frame.
        """
        return bool((self._places(times_s, clip_start_s) >= 0).all())

    def render(self, times_s: Sequence[float] | np.ndarray, out_FPD: np.ndarray, clip_start_s: float = 0.0) -> None:
        """Write the patches of the frames shown at the given times, as `render_frames` does.

        Args:
            times_s: [F] seconds from the start of the clip, which must be covered.
            out_FPD: [F, 729, 588] uint8, C-contiguous.
            clip_start_s: where the clip begins, seconds from the video's first frame.

        Raises:
            MediaError: with reason "unreadable", if a picture does not decode; "not_prepared" if a time is not covered.
        """
        places = self._places(times_s, clip_start_s).tolist()
        if -1 in places:
            raise MediaError("not_prepared", f"no frame for {times_s[places.index(-1)]} s of the clip")
        rendered: dict[int, int] = {}
        for number, place in enumerate(places):
            if place in rendered:
                out_FPD[number] = out_FPD[rendered[place]]
            else:
                render_frame(_decode(self._frames[place]), out_FPD[number])
                rendered[place] = number

    def _places(self, times_s: Sequence[float] | np.ndarray, clip_start_s: float) -> np.ndarray:
        """[F] the number of the frame shown at each time, -1 where it is not here."""
        asked_s = moments(times_s, clip_start_s, self._begin_s, self._end_s)
        if not len(self._number):
            return np.full(len(asked_s), -1)
        places = np.searchsorted(self._from_s, asked_s, side="right") - 1
        is_shown = (places >= 0) & (asked_s < self._until_s[places])
        return np.where(is_shown, self._number[places], -1)


def _decode(picture: bytes) -> np.ndarray:
    """[378, 378, 3] uint8 RGB."""
    if picture[:2] == b"\xff\xd8":
        try:
            frame_HW3 = simplejpeg.decode_jpeg(picture)
        except ValueError as error:
            raise MediaError("unreadable", f"a prepared frame: {error}") from error
    else:
        bgr_HW3 = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR) if picture else None
        if bgr_HW3 is None:
            raise MediaError("unreadable", "a prepared frame is neither JPEG nor PNG")
        frame_HW3 = cv2.cvtColor(bgr_HW3, cv2.COLOR_BGR2RGB)
    if frame_HW3.shape != (CROP, CROP, 3):
        raise MediaError("unreadable", f"a prepared frame is {frame_HW3.shape}")
    return frame_HW3
