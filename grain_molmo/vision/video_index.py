"""The packets of a video by time: what is shown when, and which packets must be decoded for it. Decodes nothing.

Times come from the packets, never from the container's header, which is wrong in too many files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

_INSIDE_S = 1e-6
"""A request is moved so far inside the video: at the very end, the last frame is still shown."""


def moments(times_s: Sequence[float] | np.ndarray, clip_start_s: float, begin_s: float, end_s: float) -> np.ndarray:
    """Seconds on the clock of a video that lasts from `begin_s` to `end_s`, of times that count from a clip's start.

    A time beyond an end is moved to that end (Molmo2 §4.1).
    """
    asked_s = np.asarray(times_s, np.float64) + clip_start_s + begin_s
    asked_s = np.minimum(np.maximum(asked_s, begin_s + _INSIDE_S), end_s - _INSIDE_S)
    return np.maximum(asked_s, begin_s)  # of a video that lasts no time at all, the end lies before the beginning


@dataclass(frozen=True, eq=False)
class Needed:
    """What must be decoded, by packet.

    Attributes:
        packets_N: bool, what goes to the decoder.
        anew_N: bool, the key frames before which packets are left out, so that the decoder begins afresh.
        shows_key_N: bool, those of `anew_N` that are themselves the first frame to come out.
    """

    packets_N: np.ndarray
    anew_N: np.ndarray
    shows_key_N: np.ndarray


@dataclass(frozen=True, eq=False)
class PacketIndex:
    """A video stream's N packets in order of decoding, one frame each.

    Attributes:
        time_base: seconds per tick.
        pts_N: int64, when each frame is shown, ticks.
        duration_N: int64, ticks; 0 where the container does not say.
        is_key_N: whether decoding can begin there.
        is_hidden_N: frames that an edit list cuts away: decoded, but never shown.
        is_timed: False if the container holds no times, and frames are counted instead.
    """

    time_base: Fraction
    pts_N: np.ndarray
    duration_N: np.ndarray
    is_key_N: np.ndarray
    is_hidden_N: np.ndarray
    is_timed: bool = True

    @cached_property
    def shown_pts_F(self) -> np.ndarray:
        """The distinct times at which a frame is shown, ascending, ticks."""
        return np.unique(self.pts_N[~self.is_hidden_N])

    @property
    def num_frames(self) -> int:
        """Frames that are shown."""
        return int(np.count_nonzero(~self.is_hidden_N))

    @property
    def begin(self) -> int:
        """When the first frame is shown, ticks."""
        return int(self.shown_pts_F[0])

    @cached_property
    def end(self) -> int:
        """When the last frame ends, ticks."""
        return int((self.pts_N + self.duration_N)[~self.is_hidden_N].max())

    @property
    def begin_s(self) -> float:
        """When the first frame is shown, seconds."""
        return self.seconds(self.begin)

    @property
    def end_s(self) -> float:
        """When the last frame ends, seconds."""
        return self.seconds(self.end)

    @property
    def duration_s(self) -> float:
        """From the beginning of the first frame to the end of the last, seconds."""
        return self.end_s - self.begin_s

    def seconds(self, ticks: int) -> float:
        """The time of a tick, rounded once."""
        return ticks * self.time_base.numerator / self.time_base.denominator

    def shown_at(self, times_s: Sequence[float] | np.ndarray, clip_start_s: float = 0.0) -> np.ndarray:
        """Ticks at which the frame displayed at each time begins, int64 (Molmo2 §4.1).

        A time counts from the first frame's and from the clip's start; one beyond an end shows the frame there. Where
        an edit list hides the first key frame, the first that it does not hide stands for the frames that depend on it,
        as published.
        """
        asked_s = moments(times_s, clip_start_s, self.begin_s, self.end_s)
        starts_s = np.array([self.seconds(ticks) for ticks in self.shown_pts_F.tolist()])
        return self._answers_F[np.searchsorted(starts_s, asked_s, side="right") - 1]

    def shown_during(self, ticks: int) -> list[tuple[int, int | None]]:
        """When `shown_at` answers these ticks: the first tick of it, and the first after it or None at the video's end.

        Nearly always once; a key frame that stands for others is shown several times.
        """
        untils = [*self.shown_pts_F[1:].tolist(), None]
        return [(int(self.shown_pts_F[place]), untils[place]) for place in np.flatnonzero(self._answers_F == ticks)]

    @cached_property
    def _answers_F(self) -> np.ndarray:
        """For each of `shown_pts_F` the ticks of the frame that is shown instead: its own, but see `shown_at`."""
        first_key = int(np.argmax(self.is_key_N & ~self.is_hidden_N))  # 0 if there is none
        is_lost_F = np.isin(self.shown_pts_F, self.pts_N[:first_key])
        return np.where(is_lost_F, np.maximum(self.shown_pts_F, self.pts_N[first_key]), self.shown_pts_F)

    def needed_for(self, wanted_pts: Sequence[int]) -> "Needed":
        """The packets to decode so that the frames of these ticks come out.

        Of each group that begins with a key frame, those up to the last wanted one. Frames that follow a key frame but
        are shown before it may refer to the group before: if one is wanted, that group is needed too, else they are
        left out where decoding begins anew.
        """
        places = np.arange(len(self.pts_N))
        key_of_N = np.maximum.accumulate(np.where(self.is_key_N, places, 0))
        is_leading_N = self.pts_N < self.pts_N[key_of_N]
        is_wanted_N = np.isin(self.pts_N, wanted_pts) & ~self.is_hidden_N
        needed_N = np.zeros(len(places), bool)
        for place in np.flatnonzero(is_wanted_N).tolist():
            start = key_of_N[place]
            if is_leading_N[place] and start:
                start = key_of_N[start - 1]
            needed_N[start : place + 1] = True
        anew_N = needed_N & self.is_key_N & ~np.concatenate([[False], needed_N[:-1]])
        shows_key_N = anew_N & ~self.is_hidden_N
        for start in np.flatnonzero(anew_N).tolist():
            leading_N = is_leading_N & (key_of_N == start)
            if (leading_N & is_wanted_N).any():
                shows_key_N[start] = False
            else:
                needed_N &= ~leading_N
        return Needed(needed_N, anew_N, shows_key_N)
