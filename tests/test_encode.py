import re

import numpy as np
import pytest
from PIL import Image

import grain_molmo as gm
from grain_molmo.encode import Encoder
from grain_molmo.errors import ConfigError, ExampleError, MediaError
from grain_molmo.packing.mixture import Draw
from grain_molmo.vision.crops import select_tiling
from grain_molmo.vision.pictures import picture_pixels

CAPTION = "A red cube stands on a gray floor, and a small blue ball lies in front of it. " * 3


class OneExample(gm.Dataset):
    def __init__(self, example):
        self.example = example

    def __len__(self):
        return 1000

    def get(self, item, rng):
        return self.example


def encode(example, *, seed=0, index=0, name="one", tokenizer="bytes", **stage):
    stage = gm.Stage(mixture={name: 1}, **{"seq_len": 8192, **stage})
    encoder = Encoder({name: OneExample(example)}, stage, gm.load_tokenizer(tokenizer), seed)
    return encoder(Draw(name, 0, index))


def decode(encoded):
    return gm.load_tokenizer("bytes").decode(encoded.arrays.input_tokens.tolist())


def gray(height, width):
    return np.full((height, width, 3), 90, np.uint8)


def test_a_caption_is_asked_for_by_its_style_and_about_its_length_after_the_picture():
    message = {"style": "long_caption", "text": CAPTION}
    hints = []
    for index in range(200):
        text = decode(encode({"image": gray(480, 640), "message_list": [message]}, index=index))
        layout = (
            r"<\|im_end\|><low_res_im_start>(<im_patch>){196}<im_end><im_start>((<im_patch>){23}<im_col>){23}<im_end>"
        )
        prompt = r"<\|im_start\|>user\nlong_caption(?: (-?\d+))?:<\|im_end\|>\n<\|im_start\|>assistant\n"
        match = re.fullmatch(layout + prompt + re.escape(CAPTION), text)
        assert match, text[-400:]
        hints.append(match[4])
    given = np.array([int(hint) for hint in hints if hint])
    assert 0.8 < len(given) / len(hints) < 0.98  # 0.9 of the prompts name a length (Molmo2 §2.2)
    # characters + Normal(0, 25), in units of 15
    assert abs(given.mean() - len(CAPTION) / 15) < 1
    assert 1 < given.std() < 2.5


def test_the_token_and_crop_counts_are_those_of_the_worked_examples():
    example = {"image": gray(600, 800), "messages": ["What?", "Gray."]}
    encoded = encode(example)
    assert encoded.n_crops == 7
    text = "<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\nGray."
    assert encoded.n_tokens == 1 + 982 + len(gm.load_tokenizer("bytes").encode(text))
    assert sum(len(slot.pooling()) for slot in encoded.slots) == select_tiling(600, 800, 8).n_pooled


def test_draws_depend_on_seed_dataset_and_index_and_on_nothing_else():
    example = {"message_list": [{"style": "long_caption", "text": CAPTION}] * 2}

    def prompts(**options):
        return [decode(encode(example, index=index, **options)) for index in range(30)]

    assert prompts() == prompts(batch_size=7, waiting=9, crops_per_row=99)
    assert prompts() != prompts(seed=1)
    assert prompts() != prompts(name="two")


@pytest.mark.parametrize(
    ("example", "stage", "reason"),
    [
        ({"image": gray(600, 800), "messages": ["What?", "Gray."]}, {"seq_len": 900}, "too_long"),
        ({"messages": ["What? " * 99, "Gray."]}, {"seq_len": 50}, "too_long"),
        ({"image": [gray(40, 40)] * 6, "messages": ["What?", "Gray."]}, {}, "too_many_images"),
        ({"image": [gray(900, 900)] * 5, "messages": ["What?", "Gray."]}, {}, "too_many_crops"),
        ({"image": np.zeros((0, 5, 3), np.uint8), "messages": ["What?", "Gray."]}, {}, "bad_image"),
        ({"image": "a/path.jpg", "messages": ["What?", "Gray."]}, {}, "bad_image"),
        ({"video": b"", "messages": ["What?", "Gray."]}, {}, "video"),
        ({"image": gray(40, 40), "messages": ["What?", "A <im_patch>."]}, {}, "control_token"),
        ({"image": gray(40, 40)}, {}, "no_answer"),
        ({"messages": "Is this a list?"}, {}, "bad_text"),
    ],
)
def test_an_example_that_cannot_be_used_says_why_and_which(example, stage, reason):
    with pytest.raises(ExampleError, match="one example 3 ") as raised:
        encode(example, index=3, **stage)
    assert raised.value.reason == reason


def test_a_long_answer_is_cut_at_the_row_and_keeps_its_loss():
    encoded = encode({"image": gray(40, 40), "messages": ["What?", "Gray. " * 500]}, seq_len=1000)
    assert encoded.n_tokens == 1000
    assert encoded.arrays.loss_weights[-1] == 1


def test_a_picture_may_be_an_array_of_any_channels_or_a_pil_image():
    color = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    alpha = np.dstack([color, np.full((2, 4), 7, np.uint8)])
    assert np.array_equal(picture_pixels(color), color)
    assert np.array_equal(picture_pixels(alpha), color)
    assert np.array_equal(picture_pixels(color[:, :, 0]), np.repeat(color[:, :, :1], 3, axis=2))
    assert np.array_equal(picture_pixels(Image.fromarray(alpha)), color)
    for bad in (color.astype(np.float32), np.zeros((2, 4, 2), np.uint8), np.zeros(5, np.uint8)):
        with pytest.raises(MediaError, match="bad_array"):
            picture_pixels(bad)


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        (None, "bad_example"),
        ([1], "bad_example"),
        ({"message_list": ["a"]}, "bad_text"),
        ({"style": 3, "text": "a"}, "bad_text"),
        ({"style": "count", "label": "cat", "count": "x"}, "bad_count"),
        ({"style": "pointing", "label": "cat", "points": [(1, 2)], "point_scale": "x"}, "bad_points"),
    ],
)
def test_what_is_no_example_is_skipped_with_its_place(example, reason):
    with pytest.raises(ExampleError, match="one example 3") as caught:
        encode(example, index=3)
    assert caught.value.reason == reason


def test_metadata_of_any_kind_travels_with_an_example():
    example = {"messages": ["Q?", "A."], "metadata": "my notes"}
    assert encode(example, index=3).id == "3"


def test_an_error_of_a_dataset_of_ones_own_says_which_example_it_was():
    class Broken(gm.Dataset):
        def get(self, item, rng):
            raise KeyError("question")

    encoder = Encoder({"mine": Broken()}, gm.Stage(mixture={"mine": 1}), gm.load_tokenizer("bytes"), 0)
    with pytest.raises(KeyError) as caught:
        encoder(Draw("mine", 2, 7))
    (note,) = caught.value.__notes__
    assert note.startswith("while encoding mine example 7, epoch 2; to have an example left out")


def test_lists_of_questions_and_answers_are_the_branches_of_a_tree():
    example = {"image": gray(40, 40), "questions": ["One?", "Two?"], "answers": ["Yes.", "No."]}
    encoded = encode(example, style_mode="no_style")
    tokenizer = gm.load_tokenizer("bytes")
    branches = [encoded.arrays.input_tokens[encoded.arrays.subsegment_ids == branch] for branch in (0, 1)]
    texts = {tokenizer.decode(branch.tolist()) for branch in branches}
    turn = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n{}"
    assert texts == {turn.format("One?", "Yes."), turn.format("Two?", "No.")}
    for bad in ({"answers": ["Yes."]}, {"answers": "Yes."}, {}):
        with pytest.raises(ExampleError, match="no_answer"):
            encode({"questions": ["One?", "Two?"], **bad})


def test_a_rule_for_a_set_outside_the_mixture_is_refused():
    with pytest.raises(ConfigError, match="pixmo_cap"):
        gm.Stage(mixture={"one": 1}, rules={"pixmo-cap": gm.DatasetRule(p_high_res=0.1)})
