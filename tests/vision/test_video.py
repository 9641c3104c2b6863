"""Frames of a video: exactly those of decoding everything, from any file, and a clear error for any other (§4.1)."""

import io
import itertools
import json
import struct
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from vision_clips import HEIGHT, WIDTH, clip, draw, encode, frames_in_order, index_of, remux, shown_plainly, with_cover

from converters.sample.clips import can_encode
from grain_molmo.errors import MediaError
from grain_molmo.vision import video_decode, video_stream
from grain_molmo.vision.crops import unpatchify
from grain_molmo.vision.frames import FrameSampling, sample_times
from grain_molmo.vision.resize import resize_bilinear
from grain_molmo.vision.video import decode_frames, probe_video, render_frames
from grain_molmo.vision.video_index import PacketIndex
from grain_molmo.vision.video_stream import open_video

CODECS = [codec for codec in ("h264", "hevc", "vp9", "av1", "mpeg4") if can_encode(codec)]
TIMES = st.lists(st.floats(-1, 6), min_size=1, max_size=6)
OPEN_GROUPS = {"x264-params": "open-gop=1:keyint=8:min-keyint=4:scenecut=0:bframes=3:b-pyramid=normal"}
SLOW = "androidx__media/long_1080p_lowbitrate.mp4"

BROKEN = {
    "PHP-FFMpeg__PHP-FFMpeg/WrongFile.mp4": "not_a_video",
    "Zulko__moviepy/result.webm": "empty",
    "androidx__media/sample_audio_only.mp4": "no_video_stream",
    "androidx__media/sample_malformed_free_box.mp4": "not_a_video",
    "dmlc__decord/corrupted.mp4": "unreadable",
    "sbraz__pymediainfo/issue55.flv": "no_video_stream",
    "sbraz__pymediainfo/mpeg4.mp4": "no_video_stream",
    "streamio__streamio-ffmpeg/broken.mp4": "not_a_video",
    "streamio__streamio-ffmpeg/empty.flv": "not_a_video",
}


def shown(data, times_s, clip_start_s=0.0, is_sound=True):
    """The frame shown at each time; checks that each is yielded once, and if the file is sound, in order."""
    frames = [None] * len(times_s)
    order = []
    for places, frame_HW3 in decode_frames(data, times_s, clip_start_s):
        assert frame_HW3.dtype == np.uint8
        order.append(min(times_s[place] for place in places))
        for place in places:
            assert frames[place] is None
            frames[place] = frame_HW3
    assert all(frame is not None for frame in frames)
    assert order == sorted(order) or not is_sound
    return frames


def assert_same(found, expected):
    assert len(found) == len(expected)
    for place, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        assert np.array_equal(mine, theirs), f"frame {place} differs"


# ---- exactly what decoding everything shows ----


def test_every_real_video_shows_what_decoding_everything_shows(media):
    rng = np.random.default_rng(0)
    compared = 0
    for path in sorted((media / "videos").rglob("*.*")):
        name = f"{path.parent.name}/{path.name}"
        if name in BROKEN or name == SLOW:
            continue
        data = path.read_bytes()
        times_s = sorted(rng.uniform(0, min(probe_video(data).duration_s, 4), 4))
        try:
            assert_same(shown(data, times_s), shown_plainly(data, times_s))
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
        compared += 1
    assert compared >= 45


@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=40)
@given(times_s=TIMES, clip_start_s=st.floats(0, 4))
def test_any_times_of_any_codec_show_what_decoding_everything_shows(codec, times_s, clip_start_s):
    data = clip(codec, container="webm" if codec in ("vp9", "av1") else "mp4")
    times_s = sorted(times_s)
    assert_same(shown(data, times_s, clip_start_s), shown_plainly(data, times_s, clip_start_s))


@pytest.mark.parametrize(
    ("encoder", "options"),
    [
        ("libx264", OPEN_GROUPS),
        ("libx265", {"x265-params": "open-gop=1:keyint=8:min-keyint=4:bframes=4:log-level=none:pools=none"}),
        ("libx265", {"x265-params": "temporal-layers=3:keyint=16:bframes=4:log-level=none:pools=none"}),
        ("libx264", {"x264-params": "intra-refresh=1:keyint=8:bframes=2"}),
        ("mpeg2video", {"g": "8", "bf": "2"}),
    ],
    ids=["open h264", "open hevc", "layers", "intra refresh", "mpeg2"],
)
@pytest.mark.parametrize("container", ["matroska", "mpegts"])
def test_groups_that_refer_to_each_other_are_decoded_together(encoder, options, container):
    data = encode(options, container, encoder)
    begin_s, ticks = index_of(data).begin_s, [at for at, _ in frames_in_order(data)]
    seconds = [index_of(data).seconds(at) - begin_s + 0.01 for at in ticks]
    expected = shown_plainly(data, seconds)
    for time_s, frame_HW3 in zip(seconds, expected, strict=True):
        assert_same(shown(data, [time_s]), [frame_HW3])


def test_open_groups_are_decoded_apart_where_no_frame_needs_the_group_before(monkeypatch):
    data = encode(OPEN_GROUPS, "matroska")
    index = index_of(data)
    times_s = [index.seconds(at) - index.begin_s + 0.01 for at in index.shown_pts_F.tolist()]
    expected = shown_plainly(data, times_s)
    monkeypatch.setattr(video_decode, "_sequential_frames", None)
    for time_s, frame_HW3 in zip(times_s, expected, strict=True):
        assert_same(shown(data, [time_s]), [frame_HW3])


@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_key_frames_that_are_none_are_found_out(codec):
    data = remux(clip(codec), "nut", all_keys=True)
    assert index_of(data).is_key_N.all()
    times_s = [1.75, 2.05, 3.35]
    assert_same(shown(data, times_s), shown_plainly(data, times_s))


@pytest.mark.parametrize(("layers", "skips"), [(1, True), (3, False)])
def test_of_hevc_in_temporal_layers_no_frame_is_skipped(layers, skips):
    options = {"x265-params": f"temporal-layers={layers}:keyint=16:bframes=4:log-level=none:pools=none"}
    with open_video(encode(options, "matroska", "libx265")) as video:
        assert video.can_skip() == skips


def test_frames_without_times_are_counted():
    data = remux(clip(), "h264")
    assert not index_of(data).is_timed
    info = probe_video(data)
    everything = [frame_HW3 for _, frame_HW3 in frames_in_order(clip())]
    assert info.num_frames == len(everything) == 40
    times_s = (np.arange(40) + 0.5) * info.duration_s / 40
    assert_same(shown(data, times_s), everything)


def test_the_packets_of_a_large_file_are_read_twice_instead_of_kept(monkeypatch):
    monkeypatch.setattr(video_stream, "_KEPT_BYTES", 0)
    times_s = [0.0, 1.9, 3.5]
    assert_same(shown(clip(), times_s), shown_plainly(clip(), times_s))


def test_only_what_is_needed_is_decoded():
    index = index_of(clip(seconds=10.0))
    needed = index.needed_for(index.shown_at([0.0, 5.05]).tolist())
    assert np.flatnonzero(needed.anew_N).tolist() == [0, 48]
    assert needed.packets_N.sum() < 8


# ---- which frame is shown when ----


def test_a_frame_is_shown_until_the_next_one_begins():
    data = clip(frame_times=(0.0, 0.1, 1.5, 1.6), seconds=2.0, gop=4)
    first, second, third, fourth = (frame_HW3 for _, frame_HW3 in frames_in_order(data))
    times_s = [0.0, 0.099, 0.1001, 1.49, 1.5001, 1.7, 2.0, 99.0, -5.0]
    expected = [first, first, second, second, third, fourth, fourth, fourth, first]
    found = [None] * len(times_s)
    for places, frame_HW3 in decode_frames(data, times_s):
        for place in places:
            found[place] = frame_HW3
    assert_same(found, expected)


def test_frames_whose_key_frame_is_cut_away_are_stood_for_by_the_next_one():
    is_key_N, is_hidden_N = np.arange(6) % 3 == 0, np.arange(6) == 0
    index = PacketIndex(Fraction(1, 10), np.arange(6), np.ones(6, np.int64), is_key_N, is_hidden_N)
    assert (index.num_frames, index.begin, index.end) == (5, 1, 6)
    assert index.shown_at([0.0, 0.11, 0.21, 0.31, 9.0]).tolist() == [3, 3, 3, 4, 5]
    assert index.shown_during(3) == [(1, 2), (2, 3), (3, 4)]


def test_times_count_from_the_first_frame_and_from_the_clip():
    early, late = clip(), clip(start_s=3.0)
    assert probe_video(late).duration_s == pytest.approx(probe_video(early).duration_s)
    assert_same(shown(late, [0.35, 1.0]), shown(early, [0.35, 1.0]))
    assert_same(shown(late, [0.25], clip_start_s=2.0), shown(early, [2.25]))


def test_the_times_of_all_frames_are_the_published_ones(media):
    """Both streams of the file are known; FFmpeg shows the larger one, stream 3."""
    path = media / "annotations" / "pytorch__torchcodec" / "nasa_13013.mp4.stream3.all_frames_info.json"
    known_s = [float(frame["pts_time"]) for frame in json.loads(path.read_text())]
    index = index_of((media / "videos" / "pytorch__torchcodec" / "nasa_13013.mp4").read_bytes())
    np.testing.assert_allclose([index.seconds(at) for at in index.shown_pts_F.tolist()], known_s, atol=1e-6)


def test_frames_agree_with_stored_pictures_of_them(media):
    data = (media / "videos" / "androidx__media" / "testvid_1022ms.mp4").read_bytes()
    ticks = index_of(data).shown_pts_F.tolist()
    for number in (0, 14, 15, 16, 29):
        (found,) = shown(data, [index_of(data).seconds(ticks[number]) + 0.001])
        with Image.open(media / "annotations" / "androidx__media" / f"testvid_1022ms_{number:03d}.png") as picture:
            known = np.asarray(picture.convert("RGB"), np.int16)
        assert np.abs(found - known).mean() < 3  # another decoder's colours


# ---- what a video is ----


def test_a_probe_knows_size_duration_frames_rate_and_codec():
    info = probe_video(clip())
    assert (info.width, info.height, info.num_frames, info.codec) == (WIDTH, HEIGHT, 40, "h264")
    assert info.duration_s == pytest.approx(4.0)
    assert info.fps == pytest.approx(10.0)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_video_is_shown_upright(rotation):
    data = clip(rotation=rotation)
    info = probe_video(data)
    assert (info.width, info.height) == (WIDTH, HEIGHT)
    (frame_HW3,) = shown(data, [1.0])
    assert frame_HW3.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(frame_HW3.astype(np.int16) - draw(1.0)).mean() < 20


def test_a_matrix_without_an_angle_turns_nothing():
    data = clip()
    at = data.index(b"tkhd", data.index(b"moov")) + 44
    data = data[:at] + bytes(36) + data[at + 36 :]
    assert (probe_video(data).width, probe_video(data).height) == (WIDTH, HEIGHT)
    assert_same(shown(data, [1.0]), shown(clip(), [1.0]))


def test_a_video_may_change_its_size_on_the_way():
    small, large = clip(seconds=2.0), clip(seconds=2.0, width=96, height=64, start_s=2.0)
    data = remux(small, "mpegts") + remux(large, "mpegts")
    sizes = {frame_HW3.shape for frame_HW3 in shown(data, np.arange(0, 4, 0.25))}
    assert sizes == {(HEIGHT, WIDTH, 3), (64, 96, 3)}


def test_a_cover_picture_is_no_video():
    cover = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), "red").save(cover, "JPEG")
    assert_same(shown(with_cover(clip(), cover.getvalue()), [0.5, 2.0]), shown_plainly(clip(), [0.5, 2.0]))
    with pytest.raises(MediaError, match="no_video_stream"):
        probe_video(with_cover(clip(), cover.getvalue(), video=False))


# ---- patches ----


def test_patches_are_those_of_the_resized_frames():
    times_s = np.array([0.0, 0.05, 2.0, 4.0])
    out_FPD = np.zeros((4, 729, 588), np.uint8)
    render_frames(clip(), times_s, out_FPD)
    expected = [resize_bilinear(frame_HW3, 378, 378) for frame_HW3 in shown(clip(), times_s)]
    assert_same(unpatchify(out_FPD), expected)


def test_patches_need_room_for_every_frame():
    with pytest.raises(ValueError, match="not 3"):
        render_frames(clip(), [0.0, 1.0, 2.0], np.zeros((2, 729, 588), np.uint8))


# ---- files that are damaged or something else ----


@pytest.mark.parametrize(("name", "reason"), BROKEN.items())
def test_a_broken_file_says_what_is_wrong(media, name, reason):
    data = (media / "videos" / name).read_bytes()
    with pytest.raises(MediaError) as raised:
        shown(data, sample_times(probe_video(data).duration_s, FrameSampling(max_frames=16)))
    assert raised.value.reason == reason


def test_what_of_a_damaged_file_is_sound_is_shown(media):
    data = (media / "videos" / "dmlc__decord" / "corrupted.mp4").read_bytes()
    assert len(shown(data, [0.0, 0.1])) == 2


REASONS = ("empty", "not_a_video", "no_video_stream", "no_frames", "too_large", "truncated", "unreadable")
CONTAINERS = {"matroska": "libx264", "mpegts": "libx264", "flv": "libx264", "avi": "mpeg4", "mpeg": "mpeg2video"}
"""Containers that can be read without their end, and an encoder for each."""


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(container=st.sampled_from(sorted(CONTAINERS)), share=st.floats(0, 1))
def test_a_file_cut_off_anywhere_gives_all_frames_or_an_error(container, share):
    data = encode({"g": "12", "bf": "2"}, container, CONTAINERS[container])
    ends_well(data[: round(share * len(data))])


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    codec=st.sampled_from(CODECS),
    hits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=20),
)
@example(codec="hevc", hits=[(0.6, 0)])  # some frames come out only when everything is decoded
def test_damaged_bytes_give_all_frames_or_an_error(codec, hits):
    data = bytearray(clip(codec, container="mkv"))
    for share, value in hits:
        data[int(share * len(data))] = value
    ends_well(bytes(data))


def ends_well(data):
    """As many frames as are asked for, or a MediaError with a known reason."""
    try:
        times_s = sample_times(probe_video(data).duration_s, FrameSampling(max_frames=8))
        assert len(shown(data, times_s.tolist(), is_sound=False)) == len(times_s)
    except MediaError as error:
        reason = error.reason
    else:
        reason = None
    assert reason in (None, *REASONS)


def test_a_file_that_ends_early_still_shows_what_is_there():
    whole = remux(clip(), "matroska")
    data = whole[: len(whole) * 6 // 10]
    assert 1 < probe_video(data).duration_s < 3
    assert_same(shown(data, [0.0, 0.7]), shown(whole, [0.0, 0.7]))


def test_frames_larger_than_any_video_are_refused(monkeypatch):
    monkeypatch.setattr(video_stream, "MAX_FRAME_PIXELS", WIDTH * HEIGHT - 1)
    with pytest.raises(MediaError, match="too_large"):
        probe_video(clip())


def test_a_playlist_opens_no_other_file(tmp_path):
    (tmp_path / "part.ts").write_bytes(remux(clip(), "mpegts"))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{tmp_path / 'part.ts'}\n#EXT-X-ENDLIST\n"
    for text in (playlist, f"ffconcat version 1.0\nfile {tmp_path / 'part.ts'}\n"):
        with pytest.raises(MediaError):
            probe_video(text.encode())


@pytest.mark.parametrize("data", [b"words", b"\0" * 5000, struct.pack(">I4s", 8, b"ftyp"), b"RIFF1234AVI "])
def test_other_bytes_are_no_video(data):
    with pytest.raises(MediaError):
        probe_video(data)


def test_frames_come_one_by_one():
    """A caller that stops early has not had the rest decoded, and nothing is left open."""
    frames = decode_frames(clip(), np.arange(0, 4, 0.1))
    assert [places for places, _ in itertools.islice(frames, 2)] == [[0], [1]]
    frames.close()


def test_several_threads_decode_side_by_side():
    data = [clip(codec, container="mkv") for codec in CODECS]
    times_s = [0.3, 1.9, 3.5]
    expected = [shown_plainly(each, times_s) for each in data]
    with ThreadPoolExecutor(4) as pool:
        for number, found in enumerate(pool.map(shown, data * 4, itertools.repeat(times_s))):
            assert_same(found, expected[number % len(data)])
