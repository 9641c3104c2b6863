"""A stored picture or video stands for its pixels and opens nothing before they are asked for."""

import io
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from vision_clips import clip, draw, shown_plainly

from grain_molmo.errors import ExampleError, MediaError, StoreError
from grain_molmo.store import MediaRef, MediaStore, Record, SplitWriter, VideoFacts, content_key
from grain_molmo.store.example_proto import decode_example, encode_example
from grain_molmo.vision.crops import unpatchify
from grain_molmo.vision.image import decode_image, probe_image
from grain_molmo.vision.lazy import LazyImage, LazyVideo, as_video
from grain_molmo.vision.prepared import prepare_frames, psnr_db
from grain_molmo.vision.resize import resize_bilinear
from grain_molmo.vision.video import probe_video
from grain_molmo.vision.videos import Video


def encoded_picture(**save: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)).save(out, "PNG", **save)
    return out.getvalue()


def stored(folder: Path, data: bytes, width: int, height: int) -> LazyImage:
    ref = MediaRef(content_key(data), "image", width, height, len(data))
    writer = SplitWriter(folder, "pictures", "train", num_shards=1)
    writer.write_shard(0, [(Record("0", {}, (ref,)), {ref.sha256: data})])
    writer.finish(source={}, converter={}, rejects=[])
    return LazyImage(ref, MediaStore(folder))


def test_an_image_is_an_array_of_its_decoded_pixels(tmp_path: Path):
    data = encoded_picture()
    image = stored(tmp_path, data, 6, 4)
    assert (image.shape, image.dtype) == ((4, 6, 3), np.uint8)
    assert image.encoded() == data
    for array in (np.asarray(image), np.array(image), image.decode()):
        assert array.dtype == np.uint8
        assert np.array_equal(array, decode_image(data))
    assert np.asarray(image, np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="without decoding"):
        np.asarray(image, copy=False)


def test_a_picture_on_its_side_is_stored_and_decoded_upright(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded_picture(exif=exif)
    info = probe_image(data)
    assert (info.width, info.height) == (4, 6)
    assert np.asarray(stored(tmp_path, data, info.width, info.height)).shape == (6, 4, 3)


def test_pixels_of_another_size_than_was_planned_for_are_an_error(tmp_path: Path):
    image = stored(tmp_path, encoded_picture(), 4, 6)
    with pytest.raises(MediaError, match=f"{image.ref.sha256} is .4, 6, 3., stored as .6, 4, 3.") as caught:
        image.decode()
    assert caught.value.reason == "other_size"


def test_bytes_that_are_no_picture_are_an_error_of_the_media(tmp_path: Path):
    with pytest.raises(MediaError) as caught:
        np.asarray(stored(tmp_path, b"no picture", 4, 6))
    assert caught.value.reason == "not_an_image"


def test_its_size_is_known_without_the_store(tmp_path: Path):
    ref = MediaRef(content_key(b"lost"), "image", 7, 5, 4)
    image = LazyImage(ref, MediaStore(tmp_path))
    assert image.shape == (5, 7, 3)
    assert repr(image) == f"LazyImage(7x5, {ref.sha256[:12]})"
    with pytest.raises(StoreError, match=f"lacks media {ref.sha256}"):
        image.decode()


def test_an_image_travels_between_processes_as_a_reference(tmp_path: Path):
    image = stored(tmp_path, encoded_picture(), 6, 4)
    packed = pickle.dumps(image)
    assert image.encoded() not in packed
    assert np.array_equal(np.asarray(pickle.loads(packed)), np.asarray(image))


# ---- videos ----


def stored_video(folder: Path, data: bytes, frames: bytes | None = None) -> LazyVideo:
    info = probe_video(data)
    facts = VideoFacts(info.duration_s, info.num_frames, info.fps)
    media = {"video": data} | ({} if frames is None else {"frames": frames})
    refs = tuple(
        MediaRef(content_key(content), kind, info.width, info.height, len(content), facts)
        for kind, content in media.items()
    )
    writer = SplitWriter(folder, "videos", "train", num_shards=1)
    contents = {ref.sha256: content for ref, content in zip(refs, media.values(), strict=True)}
    writer.write_shard(0, [(Record("0", {}, refs), contents)])
    writer.finish(source={}, converter={}, rejects=[])
    return LazyVideo(refs[0], MediaStore(folder), *refs[1:])


def patches(video: Video, times_s: Sequence[float], clip_start_s: float = 0.0) -> tuple[str, np.ndarray]:
    out_FPD = np.zeros((len(times_s), 729, 588), np.uint8)
    return video.render(times_s, out_FPD, clip_start_s), out_FPD


def test_a_video_knows_its_facts_without_being_opened(tmp_path: Path):
    facts = VideoFacts(12.5, 250, 20.0)
    video = LazyVideo(MediaRef("0" * 64, "video", 640, 360, 9, facts), MediaStore(tmp_path))
    assert (video.width, video.height, video.duration_s, video.num_frames, video.fps) == (640, 360, 12.5, 250, 20.0)
    assert "640x360" in repr(video)
    with pytest.raises(StoreError, match="convert again"):
        video.encoded()
    with pytest.raises(ValueError, match="kind image"):
        LazyVideo(MediaRef("0" * 64, "image", 640, 360, 9), MediaStore(tmp_path))


def test_a_video_decodes_the_frames_that_are_asked_for(tmp_path: Path):
    video = stored_video(tmp_path, clip())
    assert np.array_equal(video.decode([0.5, 1.25]), shown_plainly(clip(), [0.5, 1.25]))
    assert np.array_equal(video.decode([0.5], clip_start_s=1.0), shown_plainly(clip(), [1.5]))
    assert video.decode().shape == (9, 48, 64, 3)  # 0, 0.5, ... 3.5 and the last instant
    assert pickle.loads(pickle.dumps(video)).encoded() == clip()


def test_prepared_frames_are_used_where_they_are_the_very_frames(tmp_path: Path):
    grid_s = np.arange(0, 4, 0.5)
    video = stored_video(tmp_path, clip(), prepare_frames(clip(), [(0.0, grid_s)]))
    came_from, prepared_FPD = patches(video, grid_s[::2].tolist())
    assert came_from == "prepared"
    _, original_FPD = patches(stored_video(tmp_path / "other", clip()), grid_s[::2].tolist())
    assert 40 <= psnr_db(prepared_FPD, original_FPD) < 60
    assert patches(video, [0.0, 0.5], 0.5)[0] == "prepared"
    came_from, off_grid_FPD = patches(video, [0.25])
    assert came_from == "original"
    assert np.array_equal(off_grid_FPD, patches(as_video(clip()), [0.25])[1])


@pytest.mark.parametrize("damage", ["words", "a picture", "missing"])
def test_prepared_frames_that_are_damaged_or_missing_are_reported_and_not_used(tmp_path: Path, caplog, damage: str):
    fields = decode_example(prepare_frames(clip(), [(0.0, [0.0, 0.5])]))
    pictures = [fields.pop("frame")[0], b"words"]
    frames = {"words": b"words", "a picture": encode_example(bytes_lists={"frame": pictures}, int64_lists=fields)}
    video = stored_video(tmp_path, clip(), frames.get(damage, b""))
    if damage == "missing":
        assert video.frames_ref is not None
        video.frames_ref = replace(video.frames_ref, sha256="0" * 64)
    came_from, shown_FPD = patches(video, [0.0, 0.5])
    assert came_from == "original"
    assert np.array_equal(shown_FPD, patches(as_video(clip()), [0.0, 0.5])[1])
    assert "prepared frames cannot be used" in caplog.text


def test_a_path_and_bytes_are_videos(tmp_path: Path):
    (tmp_path / "clip.mp4").write_bytes(clip())
    for value in (clip(), tmp_path / "clip.mp4", str(tmp_path / "clip.mp4")):
        video = as_video(value)
        assert (video.width, video.height, video.num_frames) == (64, 48, 40)
        assert (video.duration_s, video.fps) == (pytest.approx(4.0), pytest.approx(10.0))
        assert np.array_equal(video.decode([1.0]), shown_plainly(clip(), [1.0]))
        assert video.decode().shape == (9, 48, 64, 3)


def test_a_file_that_is_gone_when_it_is_rendered_is_an_error_of_the_media(tmp_path: Path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip())
    video = as_video(path)
    path.unlink()
    with pytest.raises(MediaError, match="unreadable"):
        patches(video, [0.0])


def test_a_video_object_stays_what_it_is(tmp_path: Path):
    video = stored_video(tmp_path, clip())
    assert as_video(video) is video


def test_frames_in_memory_are_shown_by_their_times():
    frames = np.stack([draw(second) for second in range(4)])
    video = as_video(frames, timestamps=[3.0, 4.0, 4.5, 7.0], fps=2.0)
    assert (video.width, video.height, video.num_frames, video.duration_s) == (64, 48, 4, 4.5)
    asked_s, shown = [0.0, 0.9, 1.2, 1.6, 4.2, 99.0], [0, 0, 1, 2, 3, 3]
    assert np.array_equal(video.decode(asked_s), frames[shown])
    assert np.array_equal(video.decode([0.2], clip_start_s=1.0), frames[[1]])
    came_from, out_FPD = patches(video, asked_s)
    assert came_from == "original"
    assert np.array_equal(unpatchify(out_FPD)[4], resize_bilinear(frames[3], 378, 378))


def test_frames_at_a_rate_last_equally_long():
    video = as_video(np.stack([draw(second) for second in range(6)]), fps=3.0)
    assert (video.duration_s, video.fps) == (2.0, 3.0)
    assert len(video.decode()) == 5
    assert as_video(np.zeros((1, 4, 4, 3), np.uint8), timestamps=[5.0]).duration_s == 0.0


@pytest.mark.parametrize(
    ("value", "clock"),
    [
        (None, {}),
        (7, {}),
        ("no/such/file.mp4", {}),
        (b"words", {}),
        (np.zeros((2, 4, 4, 3), np.uint8), {}),
        ("a name\0", {}),
        (np.zeros((2, 4, 4, 3), np.uint8), {"fps": 0}),
        (np.zeros((2, 4, 4, 3), np.uint8), {"fps": "two"}),
        (np.zeros((2, 4, 4, 3), np.uint8), {"timestamps": ["a", "b"]}),
        (np.zeros((2, 4, 4, 3), np.uint8), {"timestamps": [0.0]}),
        (np.zeros((2, 4, 4, 3), np.uint8), {"timestamps": [1.0, 0.5]}),
        (np.zeros((2, 4, 4, 3), np.float32), {"fps": 1}),
        (np.zeros((4, 4, 3), np.uint8), {"fps": 1}),
        (np.zeros((0, 4, 4, 3), np.uint8), {"fps": 1}),
    ],
)
def test_anything_else_is_no_video(value: Any, clock: dict[str, Any]):
    with pytest.raises(ExampleError, match="bad_video"):
        as_video(value, **clock)
