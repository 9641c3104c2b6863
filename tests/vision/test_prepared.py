"""Frames prepared at conversion stand for the very frames that the video would show, and only for those."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vision_clips import clip, shown_plainly

from grain_molmo.errors import MediaError
from grain_molmo.store.example_proto import decode_example, encode_example
from grain_molmo.vision.crops import unpatchify
from grain_molmo.vision.frames import FrameSampling, sample_times
from grain_molmo.vision.prepared import MIN_PSNR_DB, PreparedFrames, compress_frame, prepare_frames, psnr_db
from grain_molmo.vision.resize import resize_bilinear
from grain_molmo.vision.video import probe_video, render_frames

GRID = (0.0, np.arange(0, 4, 0.5))
TIMES = st.lists(st.floats(-1, 6), min_size=1, max_size=5)


def rendered(prepared, times_s, clip_start_s=0.0):
    out_FPD = np.zeros((len(times_s), 729, 588), np.uint8)
    prepared.render(times_s, out_FPD, clip_start_s)
    return out_FPD


def test_a_request_that_was_prepared_is_covered_and_looks_the_same():
    prepared = PreparedFrames(prepare_frames(clip(), [GRID]))
    assert len(prepared) == 8
    assert prepared.covers(GRID[1])
    frames = unpatchify(rendered(prepared, GRID[1]))
    for frame_HW3, original_HW3 in zip(frames, shown_plainly(clip(), GRID[1]), strict=True):
        assert psnr_db(frame_HW3, resize_bilinear(original_HW3, 378, 378)) >= MIN_PSNR_DB


def test_any_time_at_which_the_same_frame_is_shown_is_covered():
    prepared = PreparedFrames(prepare_frames(clip(), [GRID]))
    assert prepared.covers([0.0, 0.09, 0.55, 3.5])
    assert prepared.covers([0.05], clip_start_s=0.5)
    for other in ([0.1001], [0.0, 0.7], [3.99], [1.45]):
        assert not prepared.covers(other)


@settings(max_examples=30)
@given(TIMES, TIMES, st.floats(0, 4))
def test_what_is_covered_is_what_the_video_shows(prepared_s, asked_s, clip_start_s):
    data = clip()
    prepared = PreparedFrames(prepare_frames(data, [(0.0, prepared_s), (clip_start_s, asked_s[:1])]))
    assert prepared.covers(prepared_s)
    assert prepared.covers(asked_s[:1], clip_start_s)
    if prepared.covers(asked_s):
        out_FPD = np.zeros((len(asked_s), 729, 588), np.uint8)
        render_frames(data, asked_s, out_FPD)
        for mine, theirs in zip(rendered(prepared, asked_s), out_FPD, strict=True):
            assert psnr_db(mine, theirs) >= MIN_PSNR_DB


def test_every_distinct_frame_is_stored_once():
    windows = [GRID, (0.0, [0.0, 0.01, 0.52]), (1.0, [0.0, 0.5])]
    assert len(PreparedFrames(prepare_frames(clip(), windows))) == 8
    assert len(PreparedFrames(prepare_frames(clip(), []))) == 0
    assert not PreparedFrames(prepare_frames(clip(), [])).covers([0.0])


def test_the_same_video_gives_the_same_bytes():
    assert prepare_frames(clip(), [GRID]) == prepare_frames(clip(), [GRID])


@pytest.mark.parametrize("name", ["huggingface__datasets/test_video_66x50.mov", "dmlc__decord/video_90.mov"])
def test_real_videos_whose_times_or_turns_are_odd(media, name):
    """In the first one, a key frame that an edit list leaves stands for all frames before it."""
    data = (media / "videos" / name).read_bytes()
    times_s = sample_times(probe_video(data).duration_s, FrameSampling(max_frames=128, max_fps=20.0))
    prepared = PreparedFrames(prepare_frames(data, [(0.0, times_s)]))
    out_FPD = np.zeros((len(times_s), 729, 588), np.uint8)
    render_frames(data, times_s, out_FPD)
    assert prepared.covers(times_s)
    assert min(psnr_db(*pair) for pair in zip(rendered(prepared, times_s), out_FPD, strict=True)) >= MIN_PSNR_DB


# ---- compression ----


@pytest.mark.parametrize("contrast", [0, 3, 30, 128])
def test_any_picture_is_stored_close_enough(contrast):
    rng = np.random.default_rng(contrast)
    noise_HW3 = (128 + contrast * rng.uniform(-1, 1, (378, 378, 3))).clip(0, 255).astype(np.uint8)
    data = encode_example(
        bytes_lists={"frame": [compress_frame(noise_HW3)]},
        int64_lists={"from": [0], "until": [9], "number": [0], "time_base": [1, 1], "span": [0, 9]},
    )
    (frame_HW3,) = unpatchify(rendered(PreparedFrames(data), [1.0]))
    assert psnr_db(frame_HW3, noise_HW3) >= MIN_PSNR_DB


def test_what_no_jpeg_holds_is_stored_without_loss(monkeypatch):
    monkeypatch.setattr("grain_molmo.vision.prepared._QUALITIES", ())
    frame_HW3 = np.random.default_rng(0).integers(0, 256, (378, 378, 3), np.uint8)
    picture = compress_frame(frame_HW3)
    fields = {"from": [0], "until": [9], "number": [0], "time_base": [1, 1], "span": [0, 9]}
    prepared = PreparedFrames(encode_example(bytes_lists={"frame": [picture]}, int64_lists=fields))
    assert np.array_equal(unpatchify(rendered(prepared, [1.0]))[0], frame_HW3)


# ---- damage ----


def damaged(**changes):
    fields = decode_example(prepare_frames(clip(), [(0.0, [0.0, 1.0])])) | changes
    frames = fields.pop("frame")
    return encode_example(bytes_lists={"frame": frames}, int64_lists=fields)


@pytest.mark.parametrize(
    "data",
    [
        b"words",
        b"",
        damaged(time_base=[1, 0]),
        damaged(time_base=[1]),
        damaged(until=[5]),
        damaged(number=[0, 2]),
        damaged(span=[]),
    ],
)
def test_bytes_that_are_no_prepared_frames_are_refused(data):
    with pytest.raises(MediaError, match="unreadable"):
        PreparedFrames(data)


@pytest.mark.parametrize("picture", [b"", b"words", b"\xff\xd8words", compress_frame(np.zeros((8, 8, 3), np.uint8))])
def test_a_picture_that_does_not_decode_is_an_error(picture):
    with pytest.raises(MediaError, match="unreadable"):
        rendered(PreparedFrames(damaged(frame=[picture, picture])), [0.0])


def test_a_time_that_was_not_prepared_cannot_be_rendered():
    with pytest.raises(MediaError, match="not_prepared"):
        rendered(PreparedFrames(damaged()), [0.0, 0.5])
