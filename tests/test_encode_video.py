"""From an example with a video to tokens and frames: which are shown, how they are said, what a row has room for."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grain_molmo import Dataset, Stage, load_tokenizer
from grain_molmo.encode import Encoder
from grain_molmo.errors import ExampleError
from grain_molmo.packing.mixture import Draw
from grain_molmo.slots import FramesSlot
from grain_molmo.special_tokens import IM_END, IM_PATCH, IM_START

TOKENIZER = load_tokenizer("bytes")
QA = {"messages": ["What moves?", "A ball."]}
SIZES = {"seq_len": 16_384, "crops_per_row": 128, "max_frames": 128, "batch_size": 1}


class _One(Dataset):
    def __init__(self, example):
        self.example = example

    def __len__(self):
        return 1

    def get(self, item, rng):
        return self.example


def film(n_frames, fps, **fields):
    """An example of an array of frames; frame i is of the gray i."""
    frames = np.arange(n_frames, dtype=np.uint8)[:, None, None, None] * np.ones((1, 6, 8, 3), np.uint8)
    return {"video": frames, "metadata": {"video_fps": fps, **fields.pop("metadata", {})}, **QA, **fields}


def encode(example, **changes):
    stage = Stage(mixture={"one": 1}, **{**SIZES, **changes})
    return Encoder({"one": _One(example)}, stage, TOKENIZER, seed=0)(Draw("one", 0, 0))


def frames_of(encoded) -> FramesSlot:
    (slot,) = encoded.slots
    assert isinstance(slot, FramesSlot)
    return slot


def text_of(encoded) -> str:
    return TOKENIZER.decode(encoded.arrays.input_tokens)


def visual_offsets(encoded):
    return encoded.arrays.input_tokens - TOKENIZER.special_base


def test_a_video_is_shown_twice_a_second_and_at_its_last_moment():
    encoded = encode(film(30, 10))

    assert frames_of(encoded).times_s.tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3.0]
    assert encoded.n_crops == 7
    offsets = visual_offsets(encoded)
    assert (offsets == IM_PATCH).sum() == 7 * 81
    assert (offsets == IM_START).sum() == (offsets == IM_END).sum() == 7
    first, second = np.flatnonzero(offsets == IM_START)[:2]
    assert TOKENIZER.decode(encoded.arrays.input_tokens[1:first]) == "0.0 "
    assert TOKENIZER.decode(encoded.arrays.input_tokens[first + 83 : second]) == " 0.5 "


def test_a_clip_is_timed_from_its_own_start():
    encoded = encode(film(200, 10, metadata={"clip_start_time": 4.0, "clip_end_time": 6.0}))

    slot = frames_of(encoded)
    assert slot.times_s.tolist() == [0, 0.5, 1, 1.5, 2]
    out = np.zeros((5, 729, 588), np.uint8)
    slot.render(out)
    assert out[:, 0, 0].tolist() == [40, 45, 50, 55, 60]


def test_subtitles_follow_the_frames_and_precede_the_question():
    cues = {(0.2, 0.4): "hello", (60.0, 61.0): "much later"}
    text = text_of(encode(film(30, 10, subtitle=cues)))

    assert text.index("subtitle\n0.2 - 0.4 hello\n") < text.index("What moves?")
    assert "much later" not in text
    assert "subtitle\nJust so." in text_of(encode(film(30, 10, subtitle="Just so.")))


def test_every_token_of_a_frame_pools_nine_patches_of_that_frame():
    slot = frames_of(encode(film(30, 10)))

    pooling = slot.pooling()

    assert pooling.shape == (7 * 81, 9)
    assert pooling.dtype == np.int32
    assert (pooling // 729 == np.repeat(np.arange(7), 81)[:, None]).all()
    assert np.array_equal(replace(slot, first_crop=2).pooling(), pooling + 2 * 729)
    assert pooling[81 + 10].tolist() == [729 + (3 + y) * 27 + 3 + x for y in range(3) for x in range(3)]


@settings(max_examples=25)
@given(seq_len=st.integers(300, 6000), seconds=st.integers(1, 90), cues=st.integers(0, 20))
def test_as_many_frames_are_shown_as_a_row_has_room_for(seq_len, seconds, cues):
    subtitle = {(float(i), i + 0.5): "la" * i for i in range(cues)}
    example = film(seconds, 1, subtitle=subtitle)

    encoded = encode(example, seq_len=seq_len)

    slot = frames_of(encoded)
    assert encoded.n_tokens <= seq_len
    assert encoded.arrays.loss_weights.sum() == len("A ball.") + 1
    assert len(slot.times_s) <= slot.n_wanted
    if len(slot.times_s) < slot.n_wanted:  # so many that one more would be too many
        assert slot.times_s[0] == 0
        assert slot.times_s[-1] == (seconds if len(slot.times_s) > 1 else 0)
        assert np.allclose(np.diff(slot.times_s), slot.times_s[-1] / max(1, len(slot.times_s) - 1))
        spread = len(" 10.5 ") + 83 + (len("subtitle\n") + 20 * 60 if cues else 0)
        assert encoded.n_tokens + spread + 2 > seq_len - seq_len // 8


TREE = [{"messages": ["What moves?", "A ball.", "Where?", "Down."]}, {"messages": ["How many?", "One."]}]


@pytest.mark.parametrize("text", [{}, {"messages": ["What?", "A ball.", "Where?", "Down."]}, {"message_list": TREE}])
def test_a_row_that_holds_all_frames_exactly_shows_them_all(text):
    example = film(60, 1, **text)
    n_tokens = encode(example).n_tokens
    assert len(frames_of(encode(example, seq_len=n_tokens)).times_s) == 121
    assert len(frames_of(encode(example, seq_len=n_tokens - 1)).times_s) == 120


def test_a_long_answer_is_cut_before_frames_are_given_up_for_it():
    example = film(60, 1, messages=["What moves?", "A ball. " * 1000])

    encoded = encode(example, seq_len=16_384)

    assert len(frames_of(encoded).times_s) == frames_of(encoded).n_wanted == 121
    assert encoded.n_tokens == 16_384


def test_a_row_without_room_for_a_frame_is_said_to_be_too_short():
    with pytest.raises(ExampleError, match="no room for a frame") as caught:
        encode(film(3, 1), seq_len=90)
    assert caught.value.reason == "too_long"


def test_a_subtitle_longer_than_a_row_leaves_no_room():
    with pytest.raises(ExampleError, match="subtitle take") as caught:
        encode(film(3, 1, subtitle="word " * 1000), seq_len=4096)
    assert caught.value.reason == "too_long"


def test_metadata_of_any_kind_travel_with_a_video():
    example = {**film(3, 1), "metadata": "my notes", "timestamps": [0.0, 1.0, 2.0]}
    assert frames_of(encode(example)).times_s.tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3]


def test_shortening_changes_no_other_random_choice():
    choices = {"question": "Which?", "options": ["red", "green", "blue"], "answer_idx": 1}
    example = film(90, 1, message_list=[{"style": "video_multiple_choice", **choices}] * 3)
    del example["messages"]
    changes = {"prompt_mode": "uber_model_v2", "style_mode": "demo_or_style_v2"}

    whole, shortened = (text_of(encode(example, seq_len=n, **changes)) for n in (16_384, 4096))

    assert whole.count("<im_start>") > shortened.count("<im_start>")
    assert whole[whole.index("<|im_start|>user") :] == shortened[shortened.index("<|im_start|>user") :]


@pytest.mark.parametrize(
    ("example", "changes", "reason"),
    [
        (film(3, 1), {"max_frames": 0}, "video"),
        (film(3, 1, image=np.zeros((4, 4, 3), np.uint8)), {}, "mixed_media"),
        (film(3, 1, metadata={"clip_start_time": 9.0, "clip_end_time": 12.0}), {}, "bad_clip"),
        (film(3, 1, metadata={"clip_start_time": 2.0, "clip_end_time": 1.0}), {}, "bad_clip"),
        (film(3, 1, subtitle="say <im_patch>"), {}, "control_token"),
        ({**film(3, 1), "video": 7}, {}, "bad_video"),
        ({"image": [np.zeros((4, 4, 3), np.uint8)] * 6, **QA}, {}, "too_many_images"),
    ],
)
def test_media_that_cannot_be_shown_are_refused_with_a_reason(example, changes, reason):
    with pytest.raises(ExampleError) as caught:
        encode(example, **changes)
    assert caught.value.reason == reason
    assert "one example 0" in caught.value.detail
