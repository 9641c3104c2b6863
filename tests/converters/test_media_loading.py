"""Media are loaded in order, few bytes at a time, each video once."""

import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from clips import SIZE, clip, put
from loopback import make_picture

from converters import media
from converters.fetch import ImageCache, ImageFetcher
from converters.media import MediaLoader, num_bytes, ordered_map
from converters.spec import Embedded, FromCache, FromFile, FromVideo
from grain_molmo.errors import RowError, StoreError
from grain_molmo.store import MediaBytes, content_key
from grain_molmo.vision.frames import FrameSampling, sample_times
from grain_molmo.vision.prepared import PreparedFrames


@pytest.fixture
def loader(tmp_path: Path) -> Iterator[MediaLoader]:
    with ImageFetcher(cache=ImageCache(tmp_path / "cache")) as fetcher:
        yield MediaLoader(fetcher)


def refusal(loader: MediaLoader, *sources: media.MediaSource) -> RowError:
    with pytest.raises(RowError) as caught:
        loader.load(sources)
    return caught.value


@pytest.mark.parametrize(("prices", "limit"), [([1] * 200, 16), ([5, 1, 30, 2, 9, 9, 40, 1, 1, 1] * 10, 20)])
def test_results_keep_their_order_and_cost_little_together(prices: list[int], limit: int):
    lock = threading.Lock()
    held, most = 0, 0

    def begin(i: int) -> int:
        nonlocal held, most
        with lock:
            held += prices[i]
            # One that is dearer than the limit is alone.
            most = max(most, held if held != prices[i] else 0)
        return i

    results = []
    with ThreadPoolExecutor(8) as pool:
        for i in ordered_map(pool, begin, range(len(prices)), lambda i: prices[i], limit):
            results.append(i)
            with lock:
                held -= prices[i]
    assert results == list(range(len(prices)))
    # Taken means asked for the next: the price of the one being taken is given back a moment before it counts as such.
    assert most <= limit + max(price for price in prices if price <= limit)


def test_bytes_in_flight_are_bounded_by_the_size_of_the_files(tmp_path: Path):
    paths = [put(tmp_path / f"{i}.mp4", bytes(1000)) for i in range(20)]
    assert num_bytes([FromVideo(paths[0])], with_frames=False) == 1000
    assert num_bytes([FromVideo(paths[0])], with_frames=True) > 1000
    assert num_bytes([FromVideo(tmp_path / "gone.mp4")], with_frames=False) == 0
    assert num_bytes([Embedded(b"")] * 3, with_frames=False) == 3 << 20
    alive: list[weakref.ref] = []

    class Held:
        def __init__(self) -> None:
            alive.append(weakref.ref(self))

    most = 0
    with ThreadPoolExecutor(4) as pool:
        for result in ordered_map(
            pool, lambda path: Held(), paths, lambda path: num_bytes([FromVideo(path)], with_frames=False), 3500
        ):
            del result
            gc.collect()
            most = max(most, sum(ref() is not None for ref in alive))
    assert len(alive) == 20
    assert most <= 3


def test_a_video_is_known_by_its_facts(loader: MediaLoader, tmp_path: Path):
    (medium,) = loader.load([FromVideo(put(tmp_path / "a.mp4"))])
    assert (medium.ref.kind, medium.ref.width, medium.ref.height) == ("video", *SIZE)
    assert medium.ref.video is not None
    assert (medium.ref.video.duration_s, medium.ref.video.num_frames, medium.ref.video.fps) == (2.0, 8, 4.0)
    assert medium.read() == clip()
    assert medium.ref.sha256 == content_key(clip())


def test_a_video_is_read_and_probed_once_however_many_rows_speak_of_it(
    loader: MediaLoader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    probed = []
    real = media.probe_video
    monkeypatch.setattr(media, "probe_video", lambda data: (probed.append(len(data)), real(data))[1])
    path = put(tmp_path / "a.mp4")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: loader.load([FromVideo(path)])[0], range(50)))
    assert len(probed) == 1
    assert len({one.ref for one in found}) == 1
    assert all(one.read() == clip() for one in found)  # from the file again, for all but the first
    put(path, clip(1))
    assert loader.load([FromVideo(path)])[0].ref.sha256 == content_key(clip(1))


def test_a_file_that_changes_under_a_conversion_stops_it(loader: MediaLoader, tmp_path: Path):
    path = put(tmp_path / "a.mp4")
    loader.load([FromVideo(path)])
    (again,) = loader.load([FromVideo(path)])
    put(path, clip(1))
    with pytest.raises(StoreError, match="was changed while"):
        again.read()


def test_a_refused_video_is_not_probed_again_nor_kept_in_memory(loader: MediaLoader, tmp_path: Path):
    path = put(tmp_path / "a.mp4", b"<html>" * 1000)
    assert [refusal(loader, FromVideo(path)).reason for _ in range(3)] == ["not_a_video"] * 3
    (outcome,) = loader._known.values()
    assert isinstance(outcome, tuple)
    assert refusal(loader, FromVideo(tmp_path / "gone.mp4")).reason == "missing_video"


def test_a_list_with_one_broken_picture_is_refused_and_the_picture_named(loader: MediaLoader, tmp_path: Path):
    good = Embedded(make_picture())
    assert len(loader.load([good, good])) == 2
    error = refusal(loader, good, Embedded(b"<html>"), good)
    assert (error.reason, error.detail.startswith("picture 2 of 3: ")) == ("not_an_image", True)
    error = refusal(loader, good, FromFile(tmp_path / "gone.png"))
    assert (error.reason, error.detail.startswith("picture 2 of 2: ")) == ("missing_image", True)


def test_the_cache_gives_pictures_by_name_and_nothing_else_of_the_machine(loader: MediaLoader, tmp_path: Path):
    (tmp_path / "cache" / ("ab" * 32)).write_bytes(make_picture())
    (tmp_path / "secret").write_bytes(make_picture(1))
    assert loader.load([FromCache("ab" * 32)])[0].read() == make_picture()
    for key in ("cd" * 32, "../secret", str(tmp_path / "secret")):
        assert refusal(loader, FromCache(key)).reason == "not_in_cache"


def test_bytes_are_not_asked_for_to_see_whether_they_are_there(loader: MediaLoader, tmp_path: Path):
    path = put(tmp_path / "a.mp4")
    (medium,) = loader.load([FromVideo(path)])
    held = MediaBytes([medium, medium])
    path.unlink()
    again = MediaBytes(loader.load([Embedded(make_picture())]))
    assert (list(held), len(again)) == ([medium.ref.sha256], 1)
    assert medium.ref.sha256 in held
    assert medium.ref.sha256 not in again


def test_prepared_frames_cover_what_the_stages_ask_for_and_are_made_once(loader: MediaLoader, tmp_path: Path):
    (video,) = loader.load([FromVideo(put(tmp_path / "a.mp4"))])
    overrides = {"frame_sample_mode": "fps", "candidate_sampling_fps": [1, 2]}
    frames = loader.frames(video, [{}, overrides], None)
    assert loader.frames(video, [{}, overrides], None).ref == frames.ref
    assert (frames.ref.kind, frames.ref.width, frames.ref.height) == ("frames", *SIZE)
    assert frames.ref.video == video.ref.video
    assert frames.ref.sha256 == content_key(frames.read())
    prepared = PreparedFrames(frames.read())
    for max_frames in (128, 384):
        for one in ({}, overrides):
            assert prepared.covers(sample_times(2.0, FrameSampling(max_frames=max_frames).overridden(one)))
    assert not prepared.covers(np.array([0.3]))  # between two frames that were asked for
    clipped = loader.frames(video, [{}], [0.75, 1.6])
    assert clipped.ref.sha256 != frames.ref.sha256
    assert PreparedFrames(clipped.read()).covers(sample_times(0.85, FrameSampling(max_frames=128)), 0.75)
    with pytest.raises(RowError, match="bad_clip"):
        loader.frames(video, [{}], [5.0, 6.0])
