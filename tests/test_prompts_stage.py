"""Prompts: what a model reads before it answers, packed like everything else, with nothing to learn."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import grain_molmo as gm
from grain_molmo.encode import Encoder
from grain_molmo.errors import ConfigError, ExampleError
from grain_molmo.packing.mixture import Draw
from grain_molmo.text.assemble import assemble, assemble_prompt
from grain_molmo.text.chat import chat_strings

BYTES = gm.load_tokenizer("bytes")
USER, CLOSE = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
BOS = "<|im_end|>"  # Qwen3 has no token of its own for it


class Examples(gm.Dataset):
    def __init__(self, *examples: Any):
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def get(self, item, rng):
        return self.examples[item]


def encoder_of(*examples, training=True, **stage):
    stage = gm.Stage(mixture={"one": 1}, kind="prompts", **{"seq_len": 4096, **stage})
    return Encoder({"one": Examples(*examples)}, stage, BYTES, seed=0, training=training)


def prompt_of(example, **settings):
    encoded = encoder_of(example, **settings)(Draw("one", 0, 0))
    return BYTES.decode(encoded.arrays.input_tokens.tolist())


def test_a_prompt_ends_with_the_users_last_turn_whether_the_example_has_the_answer_or_not():
    asked = [{"role": "user", "content": "2+2?"}]
    answered = [*asked, {"role": "assistant", "content": "4"}]
    wanted = f"{BOS}{USER}2+2?{CLOSE}"
    assert prompt_of({"messages": asked}) == wanted
    assert prompt_of({"messages": answered}) == wanted
    assert prompt_of({"messages": ["2+2?"]}) == wanted
    longer = prompt_of({"messages": [*answered, {"role": "user", "content": "Sure?"}]})
    assert longer == f"{BOS}{USER}2+2?{CLOSE}4<|im_end|><|im_end|>\n{USER}Sure?{CLOSE}"


def test_nothing_is_shifted_and_nothing_is_learned():
    arrays = encoder_of({"messages": ["2+2?", "4"]})(Draw("one", 0, 0)).arrays
    assert not arrays.loss_weights.any()
    assert not arrays.target_tokens.any()
    assert arrays.position_ids.tolist() == [*range(len(arrays))]
    assert arrays.subsegment_ids is None


def test_fields_are_asked_without_an_answer_of_their_own():
    picture = np.full((60, 60, 3), 90, np.uint8)
    for fields, asked in (
        ({"style": "pointing", "label": "dog"}, "pointing: dog"),
        ({"style": "long_caption"}, "long_caption 65:"),
        ({"style": "count", "label": "cats"}, "count 65: cats"),
        ({"style": "clocks", "question": "What time?"}, "clocks 65: What time?"),
        ({"style": "video_point", "label": "dog"}, "video_point 65: dog"),
    ):
        assert prompt_of({"image": picture, **fields}).endswith(f"{USER}{asked}{CLOSE}")


SIZED = {"label": "dog", "width": 9, "height": 9}
ASKED = [
    ({"style": "a_okvqa_mc", "question": "Which?", "options": ["red", "green"]}, {"answer_idx": 1}),
    ({"style": "video_multiple_choice", "question": "Which?", "unlabelled_options": ["a", "b"]}, {"answer_idx": 1}),
    ({"style": "multi_image_mc_exp", "question": "Why?"}, {"answer": "yes", "explanation": "so"}),
    ({"style": "multi_image_pointing", "labels": ["dog", "dog"]}, {"points": [[], [[5, 5]]], "point_scale": 100}),
    ({"style": "count", "label": "dogs"}, {"count": 3}),
    ({"style": "video_count_point", "label": "dogs"}, {"count": 0}),
    ({"style": "video_point_ground_start_end", **SIZED}, {"points": []}),
    ({"style": "video_point_track_per_frame", "sampling_fps": 1, **SIZED}, {"points": []}),
]


@pytest.mark.parametrize(("question", "answer"), ASKED, ids=[question["style"] for question, _ in ASKED])
@pytest.mark.parametrize("prompt_mode", ["none", "uber_model_v2"])
@pytest.mark.parametrize("training", [True, False])
def test_what_nobody_has_answered_can_be_asked_and_an_answer_changes_nothing(question, answer, prompt_mode, training):
    asked = prompt_of(question, prompt_mode=prompt_mode, training=training)
    assert asked == prompt_of({**question, **answer}, prompt_mode=prompt_mode, training=training)
    assert question.get("question", "") in asked
    assert question.get("label", "") in asked


def test_turns_before_the_prompt_keep_their_answers():
    turns = [{"question": "What?", "answer": "A cube."}, {"question": "Which colour?"}]
    prompt = prompt_of({"multi_turn_messages": turns}, style_mode="no_style")
    assert prompt == f"{BOS}{USER}What?{CLOSE}A cube.<|im_end|><|im_end|>\n{USER}Which colour?{CLOSE}"
    with pytest.raises(ExampleError, match="no_answer"):
        prompt_of({"multi_turn_messages": [turns[1], turns[0]]})


def test_what_is_no_single_prompt_or_does_not_fit_is_said():
    branches = [{"question": "a?", "answer": "b"}, {"question": "c?", "answer": "d"}]
    with pytest.raises(ExampleError, match=r"2 conversations.*EachMessage"):
        prompt_of({"message_list": branches})
    assert prompt_of({"message_list": branches[:1]}).endswith(f"a?{CLOSE}")
    with pytest.raises(ExampleError, match=r"a prompt of .* tokens, a row has 64"):
        prompt_of({"messages": ["x" * 100]}, seq_len=64)
    with pytest.raises(ExampleError, match="bad_roles"):
        prompt_of({"messages": []})
    with pytest.raises(ExampleError, match=r"no_prompt: .*nothing to ask; the message has \['label'\]"):
        prompt_of({"label": 3})
    with pytest.raises(ExampleError, match=r"text alone \(crops_per_row is 0\)"):
        prompt_of({"messages": ["?"], "image": np.zeros((9, 9, 3), np.uint8)}, crops_per_row=0)


def test_a_video_leaves_room_for_all_of_its_prompt():
    video = np.zeros((40, 32, 32, 3), np.uint8)
    example = {"video": video, "messages": ["What happens? " * 4], "metadata": {"video_fps": 2.0}}
    encoded = encoder_of(example, seq_len=1024, crops_per_row=64, max_frames=32)(Draw("one", 0, 0))
    assert len(encoded.arrays) <= 1024
    assert encoded.slots[0].n_crops < 32
    assert BYTES.decode(encoded.arrays.input_tokens.tolist()).endswith(f"What happens? {CLOSE}")


@pytest.mark.parametrize("turns", [1, 3])
def test_frames_leave_a_prompt_the_room_that_it_takes_to_the_token(turns):
    frames = np.zeros((8, 32, 32, 3), np.uint8)
    taken = set()
    for length in range(90):
        example = {"video": frames, "messages": ["x" * length, *["So?"] * (turns - 1)], "metadata": {"video_fps": 2.0}}
        taken.add(len(encoder_of(example, seq_len=512, crops_per_row=8, max_frames=8)(Draw("one", 0, 0)).arrays))
    assert 448 < max(taken) <= 512


def test_a_prompt_may_fill_a_row():
    length = len(encoder_of({"messages": ["What is it?"]})(Draw("one", 0, 0)).arrays)
    assert prompt_of({"messages": ["What is it?"]}, seq_len=length)


def test_each_visit_is_given_the_same_hint_of_length():
    encoder = encoder_of({"image": np.zeros((9, 9, 3), np.uint8), "style": "long_caption"})
    assert len({encoder(Draw("one", epoch, 0)).arrays.input_tokens.tobytes() for epoch in range(40)}) == 1


TEXT = st.text("ab ?", min_size=1, max_size=9)


@given(st.lists(TEXT, min_size=1, max_size=5), TEXT)
def test_a_prompt_is_what_comes_before_the_answer_in_training(turns, answer):
    if len(turns) % 2 == 0:
        turns = turns[1:]
    visual = np.array([BYTES.special_base + 2] * 3, np.int32)
    trained = assemble(chat_strings([*turns, answer]), visual, BYTES)
    prompt = assemble_prompt(chat_strings(turns), visual, BYTES)
    whole = np.append(trained.input_tokens, trained.target_tokens[-1])
    assert prompt.input_tokens.tolist() == whole[: len(prompt)].tolist()
    assert whole[len(prompt) :].tolist() == [*BYTES.encode(answer), BYTES.eos_id]


def test_batches_of_prompts_are_packed_and_say_what_a_reward_needs(open_loader):
    prompts = Examples(
        *({"messages": [f"{i}+{i}?"], "metadata": {"id": f"q{i}", "solutions": [2 * i]}} for i in range(40))
    )
    stage = gm.Stage(mixture={"sums": 1}, kind="prompts", seq_len=256, batch_size=2, crops_per_row=0)
    loader = open_loader(stage, batch_size=2, seq_len=256, datasets={"sums": prompts})
    batch = next(loader)
    assert not batch["loss_weights"].any()
    assert batch["images"].shape == (2, 0, 729, 588)
    for row, examples in enumerate(loader.batch_info.rows):
        assert len(examples) > 2
        for one in examples:
            text = BYTES.decode(batch["input_tokens"][row, slice(*one.tokens)].tolist())
            assert text == f"{BOS}{USER}{one.index}+{one.index}?{CLOSE}"
            assert one.metadata == {"id": one.id, "solutions": [2 * one.index]}


def test_a_stage_of_another_kind_or_with_room_for_half_a_picture_is_refused():
    with pytest.raises(ConfigError, match="kind='reward'; one of train, prompts, features"):
        gm.Stage(mixture={"a": 1}, kind="reward")
    with pytest.raises(ConfigError, match="crops_per_row is 1"):
        gm.Stage(mixture={"a": 1}, crops_per_row=1)
