"""Frames of a video that a dataset chose itself."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from vision_clips import clip

import grain_molmo as gm
from grain_molmo.encode import Encoder
from grain_molmo.errors import ConfigError, ExampleError
from grain_molmo.packing.mixture import Draw
from grain_molmo.testing import check_dataset
from grain_molmo.vision.chosen import shown_times
from grain_molmo.vision.frames import FrameSampling
from grain_molmo.vision.lazy import as_video

extract_frames = gm.Dataset.extract_frames


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a clip of four seconds, 40 frames."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip())
    return path


def test_frames_are_evenly_spaced_from_the_first_to_the_last(path: Path):
    frames = extract_frames(path, max_frames=5)
    assert isinstance(frames, gm.Frames)
    assert frames.timestamps.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert len(frames) == frames.num_frames == 5
    assert (frames.width, frames.height, frames.duration_s, frames.fps) == (64, 48, 4.0, 10.0)
    whole = as_video(path).decode(np.arange(40) / 10)
    assert np.array_equal(np.asarray(frames), whole[[0, 10, 20, 30, 39]])


@pytest.mark.parametrize(
    ("limits", "timestamps"),
    [
        ({"max_frames": 1}, [0.0]),
        ({"max_fps": 1}, [0.0, 1.0, 2.0, 3.0, 4.0]),
        ({"max_fps": 1, "max_frames": 3}, [0.0, 2.0, 4.0]),
    ],
)
def test_their_number_has_two_limits(path: Path, limits: dict, timestamps: list[float]):
    assert extract_frames(path, **limits).timestamps.tolist() == timestamps


def test_a_video_of_few_frames_is_not_shown_in_more():
    assert len(extract_frames(clip(seconds=0.4))) == 4
    assert len(extract_frames(clip(seconds=0.1))) == 1


def test_they_are_a_sequence_of_arrays_that_are_decoded_when_asked_for(path: Path):
    frames = extract_frames(path, max_frames=5)
    together = frames.decode()
    assert together.shape == (5, 48, 64, 3)
    assert together.dtype == np.uint8
    assert all(np.array_equal(one, other) for one, other in zip(frames, together, strict=True))
    assert np.array_equal(frames[-1], together[4])
    assert isinstance(frames[1:4:2], gm.Frames)
    assert np.array_equal(frames[1:4:2], together[1:4:2])
    assert len(frames[5:]) == 0
    with pytest.raises(IndexError):
        frames[5]
    path.unlink()
    with pytest.raises(Exception, match="No such file"):
        frames[0]


def test_they_pickle_without_their_pixels(path: Path):
    frames = extract_frames(path)
    data = pickle.dumps(frames)
    assert len(data) < 1000
    assert np.array_equal(pickle.loads(data), frames)


def test_bytes_and_frames_are_in_memory_and_files_are_not(path: Path):
    assert not extract_frames(path).in_memory
    assert extract_frames(path.read_bytes()).in_memory


def test_what_is_no_video_or_no_number_is_refused(tmp_path: Path, path: Path):
    with pytest.raises(ExampleError, match="bad_video"):
        extract_frames(tmp_path / "nothing.mp4")
    with pytest.raises(ConfigError, match="max_frames"):
        extract_frames(path, max_frames=0)
    with pytest.raises(ConfigError, match="max_fps"):
        extract_frames(path, max_fps=-1)


def test_where_there_is_less_room_fewer_are_shown_evenly_spaced(path: Path):
    frames = extract_frames(path, max_frames=9)

    def shown(most: int, start_s: float = 0.0, duration_s: float = 4.0) -> list[float]:
        return shown_times(frames, start_s, duration_s, FrameSampling(max_frames=most, max_fps=0.1)).tolist()

    assert shown(9) == shown(100) == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]
    assert shown(5) == [0, 1, 2, 3, 4]
    assert shown(2) == [0, 4]
    assert shown(1) == [0]
    assert shown(9, 1.0, 1.25) == [0, 0.5, 1.0]  # those in the clip, from its start
    with pytest.raises(ExampleError, match="bad_clip"):
        shown(9, 1.1, 0.2)


class Clips(gm.Dataset):
    def __init__(self, **example: object):
        self.example = example

    def __len__(self) -> int:
        return 1

    def get(self, item: int, rng: np.random.RandomState) -> dict:
        return {**self.example, "messages": ["What happens?", "A disc circles."], "metadata": {"id": "one"}}


def encoded(dataset: gm.Dataset, **stage: int):
    settings = {"seq_len": 4096, "crops_per_row": 32, "max_frames": 32, **stage}
    return Encoder({"clips": dataset}, gm.Stage(mixture={"clips": 1}, **settings), gm.load_tokenizer("bytes"), 0)(
        Draw("clips", 0, 0)
    )


def test_an_example_is_shown_in_just_these_frames_whatever_the_stage_s_rate(path: Path):
    frames = extract_frames(path, max_frames=12)
    for example in ({"image": frames}, {"video": frames}):
        (slot,) = encoded(Clips(**example)).slots
        assert np.array_equal(slot.times_s, frames.timestamps)
        out = np.empty((12, 729, 588), np.uint8)
        assert slot.render(out) == "original"
        again = np.empty_like(out)
        as_video(path).render(frames.timestamps, again)
        assert np.array_equal(out, again)
    assert encoded(Clips(image=frames), max_frames=6).slots[0].n_crops == 6


def test_a_row_without_room_shows_fewer_of_them(path: Path):
    slot = encoded(Clips(image=extract_frames(path, max_frames=16)), seq_len=1024).slots[0]
    assert 8 <= slot.n_crops < 16
    assert slot.n_wanted == 16
    chosen = extract_frames(path, max_frames=16).timestamps
    assert set(slot.times_s) < set(chosen)


def test_beside_a_video_or_in_a_stage_without_video_they_are_refused(path: Path):
    frames = extract_frames(path)
    with pytest.raises(ExampleError, match="mixed_media"):
        encoded(Clips(image=frames, video=path))
    with pytest.raises(ExampleError, match="takes pictures and text, not video"):
        encoded(Clips(image=frames), max_frames=0)


def test_a_dataset_of_them_passes_its_check_and_says_what_it_shows_to_a_scorer(path: Path):
    dataset = Clips(image=extract_frames(path, max_frames=3))
    assert check_dataset(dataset).n_crops == (3, 3)
    assert gm.EachMessage(dataset)[0]["metadata"]["image_size"] == [64, 48]
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(AssertionError, match=r"\[media\] example 0 .id one., video: it does not decode"):
        check_dataset(dataset)


def test_a_list_of_their_arrays_is_several_pictures(path: Path):
    example = encoded(Clips(image=list(extract_frames(path, max_frames=3))))
    assert len(example.slots) == 3
    with pytest.raises(ExampleError, match="too_many_images"):
        encoded(Clips(image=list(extract_frames(path, max_frames=6))))


def test_written_into_a_store_they_come_back_as_they_were_chosen(path: Path, tmp_path: Path):
    frames = extract_frames(path, max_frames=5)
    gm.write_dataset(Clips(image=frames), tmp_path / "store", "clips", progress=False)
    example = gm.get_dataset("clips", data_dir=tmp_path / "store")[0]
    assert isinstance(example["image"], gm.Frames)
    assert example["image"].timestamps.tolist() == frames.timestamps.tolist()
    assert np.array_equal(example["image"], frames)
    assert not example["image"].in_memory
    one, other = encoded(Clips(image=frames)), encoded(Clips(**example))
    assert np.array_equal(one.arrays.input_tokens, other.arrays.input_tokens)
