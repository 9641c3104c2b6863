"""Which instants of a video are shown (Molmo2 §4.2, §4.3)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grain_molmo.errors import ConfigError, ExampleError
from grain_molmo.vision.frames import FrameSampling, clip_window, sample_times

SFT = FrameSampling(max_frames=128)
LONG = FrameSampling(max_frames=384)
DURATIONS = st.floats(0, 1e5)
SAMPLINGS = st.builds(
    FrameSampling,
    max_frames=st.integers(1, 400),
    max_fps=st.none() | st.floats(0.1, 60),
    mode=st.sampled_from(["uniform_last_frame", "uniform"]),
) | st.builds(
    FrameSampling,
    max_frames=st.integers(1, 400),
    mode=st.just("fps"),
    candidate_fps=st.lists(st.floats(0.1, 60), min_size=1, max_size=4, unique=True).map(lambda fps: tuple(sorted(fps))),
)


def times(duration_s, sampling=SFT):
    return sample_times(duration_s, sampling).tolist()


# ---- the grid that ends with the last instant ----


@pytest.mark.parametrize(
    ("duration_s", "expected"),
    [
        (0, [0]),
        (0.04, [0, 0.04]),
        (0.5, [0, 0.5]),
        (2.01, [0, 0.5, 1.0, 1.5, 2.0, 2.01]),
    ],
)
def test_a_short_video_is_shown_twice_a_second_and_at_its_last_instant(duration_s, expected):
    assert times(duration_s) == expected


def test_the_grid_holds_up_to_the_break_even():
    assert times(63.5) == [number / 2 for number in range(128)]
    assert len(times(63.499)) == 128
    assert times(191.5, LONG) == [number / 2 for number in range(384)]


@pytest.mark.parametrize(("duration_s", "gap_s"), [(63.500001, 63.500001 / 127), (64, 64 / 127), (3600, 3600 / 127)])
def test_a_longer_video_is_spread_evenly_with_both_ends(duration_s, gap_s):
    found = sample_times(duration_s, SFT)
    assert len(found) == 128
    assert found[0] == 0
    assert found[-1] == duration_s
    np.testing.assert_allclose(np.diff(found), gap_s)


@pytest.mark.parametrize(
    ("max_frames", "max_fps", "duration_s", "expected"),
    [
        (4, None, 2, [0, 2 / 3, 4 / 3, 2]),
        (4, 1, 0.1, [0, 0.1]),
        (4, 1, 2.001, [0, 1, 2, 2.001]),
        (4, 1, 3, [0, 1, 2, 3]),
        (4, 1, 3.001, [0, 3.001 / 3, 2 * 3.001 / 3, 3.001]),
        (5, 2, 1.5, [0, 0.5, 1, 1.5]),
    ],
)
def test_the_published_tests_of_the_sampler(max_frames, max_fps, duration_s, expected):
    """Molmo2 §12."""
    assert times(duration_s, FrameSampling(max_frames=max_frames, max_fps=max_fps)) == pytest.approx(expected)


def test_without_the_last_frame_the_end_is_left_out():
    uniform = FrameSampling(max_frames=4, mode="uniform")
    assert times(1.2, uniform) == [0, 0.5, 1.0]
    assert times(8, uniform) == [0, 2, 4, 6]


# ---- a rate of its own ----


@pytest.mark.parametrize(
    ("candidates", "duration_s", "fps", "count"),
    [
        ((1, 2, 3, 6), 5, 6, 30),
        ((1, 2, 3, 6), 30, 3, 90),
        ((1, 2, 3, 6), 100, 1, 100),
        ((1, 2, 5, 10), 200, 1, 128),
    ],
)
def test_tracks_are_shown_at_the_highest_rate_that_reaches_the_end(candidates, duration_s, fps, count):
    found = times(duration_s, FrameSampling(max_frames=128, mode="fps", candidate_fps=candidates))
    assert found == [number / fps for number in range(count)]


def test_the_climb_ends_at_the_first_rate_that_fails():
    sampling = FrameSampling(max_frames=10, mode="fps", candidate_fps=(1.0, 4.0, 5.0))
    assert times(9, sampling) == list(range(9))


# ---- of any video ----


@given(DURATIONS, SAMPLINGS)
def test_times_ascend_from_the_start_and_stay_in_the_video(duration_s, sampling):
    found = sample_times(duration_s, sampling)
    assert found.dtype == np.float64
    assert 1 <= len(found) <= max(sampling.max_frames, 2)
    assert found[0] == 0
    assert (np.diff(found) >= 0).all()
    assert found[-1] <= duration_s


@given(DURATIONS, st.integers(2, 400), st.floats(0.1, 60))
def test_the_last_instant_is_always_shown_and_no_rate_exceeded(duration_s, max_frames, max_fps):
    found = sample_times(duration_s, FrameSampling(max_frames=max_frames, max_fps=max_fps))
    assert len(found) <= max_frames
    assert found[-1] == duration_s
    if len(found) > 2:
        assert np.diff(found)[:-1].min() >= 1 / max_fps * (1 - 1e-9)


@pytest.mark.parametrize("duration_s", [-1.0, float("nan"), float("inf")])
def test_a_duration_that_is_none_cannot_be_sampled(duration_s):
    with pytest.raises(ExampleError, match="bad_duration"):
        sample_times(duration_s, SFT)


# ---- overrides and configuration ----


def test_an_example_overrides_what_the_sampler_has():
    overrides = {"frame_sample_mode": "fps", "candidate_sampling_fps": [6, 1, 3], "min_fps": 4, "max_fps": 6}
    assert SFT.overridden(overrides) == FrameSampling(
        max_frames=128, max_fps=6.0, mode="fps", candidate_fps=(1.0, 3.0, 6.0)
    )
    assert SFT.overridden(None) is SFT
    assert SFT.overridden({"min_fps": 1}) == SFT


@pytest.mark.parametrize(
    "overrides",
    [
        {"frame_sample_mode": "sideways"},
        {"frame_sample_mode": "fps"},
        {"candidate_sampling_fps": ["fast"]},
        {"max_fps": -1},
        {"max_fps": "two"},
        {"max_fps": 10**400},
        [1],
        np.ones(2),
    ],
)
def test_overrides_that_make_no_sense_are_the_examples_fault(overrides):
    with pytest.raises(ExampleError, match="bad_sampling"):
        SFT.overridden(overrides)


@pytest.mark.parametrize(
    "fields", [{"max_frames": 0}, {"max_fps": 0.0}, {"mode": "all"}, {"candidate_fps": (2.0, 1.0)}, {"mode": "fps"}]
)
def test_a_sampling_that_makes_no_sense_cannot_be_configured(fields):
    with pytest.raises(ConfigError):
        FrameSampling(**{"max_frames": 8} | fields)


# ---- clips ----


@pytest.mark.parametrize(
    ("start_s", "end_s", "window"),
    [(None, None, (0, 10)), (None, 4, (0, 10)), (2, None, (2, 8)), (2, 5, (2, 3)), (2, 50, (2, 8)), (0, 10, (0, 10))],
)
def test_a_clip_ends_with_the_video_at_the_latest(start_s, end_s, window):
    assert clip_window(10, start_s, end_s) == window


@pytest.mark.parametrize(
    ("start_s", "end_s"), [(10, None), (12, 15), (5, 5), (5, 4), (-1, 4), (float("nan"), 4), (1, float("nan"))]
)
def test_a_clip_that_shows_nothing_is_an_error(start_s, end_s):
    with pytest.raises(ExampleError, match="bad_clip"):
        clip_window(10, start_s, end_s)


@pytest.mark.parametrize(("start_s", "end_s"), [("1.0", 4), (1, "00:04"), ([1], 4)])
def test_a_clip_that_is_not_in_seconds_is_an_error(start_s, end_s):
    with pytest.raises(ExampleError, match="must be seconds"):
        clip_window(10, start_s, end_s)
