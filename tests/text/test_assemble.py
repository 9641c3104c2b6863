import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grain_molmo.errors import ExampleError
from grain_molmo.special_tokens import IM_END, IM_PATCH, IM_START
from grain_molmo.text.assemble import SHARED_SUBSEGMENT, TokenArrays, assemble, truncate
from grain_molmo.text.chat import chat_strings
from grain_molmo.text.tokenizer import load_tokenizer
from grain_molmo.text.weights import PRETRAINING, SFT

BYTES = load_tokenizer("bytes")
EOS = BYTES.eos_id
WORD = st.text("abcé ", min_size=1, max_size=6)
VISUAL = np.array([BYTES.special_id(offset) for offset in (IM_START, IM_PATCH, IM_PATCH, IM_END)], np.int32)
NO_VISUAL = VISUAL[:0]


class NumberTokenizer:
    """Reads "1 2" as the ids 1 and 2, for examples worked out by hand."""

    bos_id = eos_id = 900
    special_base = 1000

    def encode(self, text):
        return [int(word) for word in text.split()]


@st.composite
def conversations(draw, max_turns=3):
    pairs = draw(st.lists(st.tuples(WORD, WORD), min_size=1, max_size=max_turns))
    return chat_strings([text for pair in pairs for text in pair])


TREES = st.lists(conversations(), min_size=2, max_size=5)
VISUALS = st.sampled_from([VISUAL, NO_VISUAL])


def branch_alone(arrays: TokenArrays, branch: int) -> TokenArrays:
    """What the model sees of one branch: the shared prefix and the branch's own tokens."""
    assert arrays.subsegment_ids is not None
    mine = np.isin(arrays.subsegment_ids, (SHARED_SUBSEGMENT, branch))
    fields = (arrays.input_tokens, arrays.target_tokens, arrays.loss_weights, arrays.position_ids)
    return TokenArrays(*(field[mine] for field in fields), None)


def test_every_known_answer_of_the_published_pipeline_is_exact(golden, qwen3_tokenizer_path):
    tokenizer = load_tokenizer(qwen3_tokenizer_path)
    for case in json.loads((golden / "text.json").read_text(encoding="utf-8")):
        weighting = {"sft": SFT, "pretrain": PRETRAINING}[case["stage"]].overridden(case["weight"])
        visual = np.full(case["n_visual_tokens"], tokenizer.special_id(IM_PATCH), np.int32)
        arrays = assemble(
            case["messages"], visual, tokenizer, weighting=weighting, max_length=case["max_sequence_length"]
        )
        assert arrays.input_tokens.tolist() == case["input_tokens"], case["name"]
        assert arrays.target_tokens.tolist() == case["target_tokens"], case["name"]
        assert arrays.position_ids.tolist() == case["position_ids"], case["name"]
        subsegments = None if arrays.subsegment_ids is None else arrays.subsegment_ids.tolist()
        assert subsegments == case.get("subsegment_ids"), case["name"]
        np.testing.assert_allclose(arrays.loss_weights, case["loss_masks"], atol=1e-6, err_msg=case["name"])


def test_the_worked_tree():
    """Molmo2 §6.2."""
    tree = [["1 2", "3 4 5"], ["6", "7"], ["8", "9 9 9 9", "10", "11"]]
    arrays = assemble(tree, np.array([501, 502, 503]), NumberTokenizer(), weighting=SFT)
    inputs = [900, 501, 502, 503, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 900, 10, 11]
    targets = [501, 502, 503, 1, 2, 3, 4, 5, 900, 7, 900, 9, 9, 9, 9, 900, 10, 11, 900]
    weights = [0] * 5 + [0.667] * 4 + [1.155] * 2 + [0.471] * 5 + [0] + [0.471] * 2
    assert arrays.input_tokens.tolist() == inputs
    assert arrays.target_tokens.tolist() == targets
    np.testing.assert_allclose(arrays.loss_weights, weights, atol=5e-4)
    assert arrays.position_ids.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 4, 5, 4, 5, 6, 7, 8, 9, 10, 11]
    assert arrays.subsegment_ids is not None
    assert arrays.subsegment_ids.tolist() == [10000] * 4 + [0] * 5 + [1] * 2 + [2] * 8


def test_arrays_have_the_dtypes_of_the_batch():
    for arrays in (
        assemble([["1", "2"], ["3", "4"]], NO_VISUAL, NumberTokenizer()),
        assemble(["1", "2"], NO_VISUAL, BYTES),
    ):
        assert arrays.loss_weights.dtype == np.float32
        for ids in (arrays.input_tokens, arrays.target_tokens, arrays.position_ids):
            assert ids.dtype == np.int32
        assert arrays.subsegment_ids is None or arrays.subsegment_ids.dtype == np.int32


@given(TREES, VISUALS)
def test_a_branch_and_its_prefix_are_the_conversation_alone(tree, visual):
    arrays = assemble(tree, visual, BYTES)
    for i, conversation in enumerate(tree):
        seen, alone = branch_alone(arrays, i), assemble(conversation, visual, BYTES)
        np.testing.assert_array_equal(seen.input_tokens, alone.input_tokens)
        np.testing.assert_array_equal(seen.position_ids, alone.position_ids)
        np.testing.assert_array_equal(seen.loss_weights > 0, alone.loss_weights > 0)
        learned = alone.loss_weights > 0
        np.testing.assert_array_equal(seen.target_tokens[learned], alone.target_tokens[learned])


@given(TREES, VISUALS)
def test_tree_invariants(tree, visual):
    """Molmo2 §12."""
    arrays = assemble(tree, visual, BYTES)
    for i, conversation in enumerate(tree):
        seen = branch_alone(arrays, i)
        np.testing.assert_array_equal(seen.position_ids, np.arange(len(seen)))
        assert seen.target_tokens[-1] == EOS
        assert seen.loss_weights[-1] == 1
        answers = "<|im_end|>".join(conversation[1::2]) + "<|im_end|>"
        assert BYTES.decode(seen.target_tokens[seen.loss_weights > 0]) == answers
        text = [BYTES.bos_id, *(seen.input_tokens[1 + len(visual) :])]
        between = [turn + "<|im_end|>" * (j % 2) for j, turn in enumerate(conversation)]
        assert BYTES.decode(text) == "<|im_end|>" + "".join(between).removesuffix("<|im_end|>")


@given(TREES, VISUALS, st.integers(1, 200))
def test_truncation_drops_whole_branches_from_the_end(tree, visual, max_length):
    whole = assemble(tree, visual, BYTES)
    arrays = assemble(tree, visual, BYTES, max_length=max_length)
    assert arrays.subsegment_ids is not None
    kept = int(arrays.subsegment_ids[-1]) + 1
    np.testing.assert_array_equal(arrays.input_tokens, whole.input_tokens[: len(arrays)])
    if kept > 1:
        last = np.flatnonzero(arrays.subsegment_ids == kept - 1)
        first_loss = last[arrays.loss_weights[last] > 0][0]
        assert last[0] < max_length
        assert first_loss < max_length
    if kept < len(tree):
        assert whole.subsegment_ids is not None
        dropped = np.flatnonzero(whole.subsegment_ids == kept)
        assert dropped[whole.loss_weights[dropped] > 0][0] >= max_length - 1


def test_dropped_branches_do_not_count_in_the_weights():
    tree = [["1 2", "3"], ["4", "5"], ["6 6 6", "7"]]
    arrays = assemble(tree, NO_VISUAL, NumberTokenizer(), weighting=SFT, max_length=8)
    assert arrays.loss_weights.max() == pytest.approx(2 / np.sqrt(2))


def test_a_tree_of_one_branch_is_the_conversation_itself():
    conversation = chat_strings(["q", "a"])
    flat, tree = (
        assemble(conversation, VISUAL, BYTES, weighting=SFT),
        assemble([conversation], VISUAL, BYTES, weighting=SFT),
    )
    assert flat.subsegment_ids is tree.subsegment_ids is None
    for field in ("input_tokens", "target_tokens", "loss_weights", "position_ids"):
        np.testing.assert_array_equal(getattr(flat, field), getattr(tree, field))


def test_an_empty_answer_trains_the_end_token_alone():
    """Molmo2 §6.1: weight 2 under root length."""
    arrays = assemble(["1 2", ""], NO_VISUAL, NumberTokenizer(), weighting=SFT)
    assert arrays.target_tokens.tolist() == [1, 2, 900]
    assert arrays.loss_weights.tolist() == [0, 0, 2]


@pytest.mark.parametrize("text", ["a<|image|>b", "<|image|>ab", "ab<|image|>"])
def test_visual_tokens_take_the_place_of_the_placeholder(text):
    turns = chat_strings([text, "yes", "sure?", "no"])
    arrays = assemble(turns, VISUAL, BYTES)
    media = BYTES.decode(VISUAL)
    expected = "<|im_end|>" + turns[0].replace("<|image|>", media) + "yes<|im_end|>" + "".join(turns[2:])
    assert BYTES.decode(arrays.input_tokens) == expected
    assert BYTES.decode(arrays.target_tokens[arrays.loss_weights > 0]) == "yes<|im_end|>no<|im_end|>"


def test_a_placeholder_in_a_later_turn_is_honoured():
    turns = chat_strings(["hello", "hi", "and <|image|> this?", "a dog"])
    arrays = assemble(turns, VISUAL, BYTES)
    expected = "<|im_end|>" + turns[0] + "hi<|im_end|>" + turns[2].replace("<|image|>", BYTES.decode(VISUAL)) + "a dog"
    assert BYTES.decode(arrays.input_tokens) == expected
    assert BYTES.decode(arrays.target_tokens[arrays.loss_weights > 0]) == "hi<|im_end|>a dog<|im_end|>"


def test_text_before_the_placeholder_is_shared_by_the_branches_of_a_tree():
    tree = [["see <|image|> a", "b"], ["c", "d"]]
    arrays = assemble(tree, VISUAL, BYTES)
    assert BYTES.decode(arrays.input_tokens) == "<|im_end|>see " + BYTES.decode(VISUAL) + " ab" + "cd"
    assert arrays.position_ids.tolist() == [*range(12), 9, 10]
    assert arrays.subsegment_ids is not None
    assert arrays.subsegment_ids.tolist() == [10000] * 9 + [0] * 3 + [1] * 2


@pytest.mark.parametrize(
    ("messages", "visual"),
    [
        (["q", "a caption with <im_patch> in it"], VISUAL),
        (["q <im_start>", "a"], VISUAL),
        (["q", "a <|image|>"], VISUAL),
        (["q <|image|>", "a"], NO_VISUAL),
        (["<|image|> q <|image|>", "a"], VISUAL),
        (["<|image|> q", "a", "<|image|> again", "b"], VISUAL),
        ([["q", "a"], ["q", "<|vit_loc|>"]], NO_VISUAL),
    ],
)
def test_special_tokens_spelled_out_in_text_are_refused(messages, visual):
    with pytest.raises(ExampleError, match="control_token"):
        assemble(messages, visual, BYTES)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "no_answer"),
        ([[]], "no_answer"),
        (["q"], "no_answer"),
        (["q", "a", "q"], "no_answer"),
        ([["q", "a"], ["q", ""]], "no_answer"),
        (["", "a"], "visual_loss"),
        (["q <|image|>", "a"], "visual_loss"),
        ([["q", "a"], ["", "a"]], "visual_loss"),
        ([["q", "a"], ["q", "a", "q <|image|> q", "a"]], "visual_loss"),
        (["q", 3], "bad_text"),
        (["q \ud800", "a"], "bad_text"),
        (["q", None], "bad_text"),
    ],
)
def test_what_cannot_become_a_sequence_names_its_reason(messages, reason):
    with pytest.raises(ExampleError) as caught:
        assemble(messages, VISUAL, BYTES)
    assert caught.value.reason == reason


def test_truncating_cuts_every_array_alike():
    arrays = assemble([["12345", "67890"], ["a", "b"]], VISUAL, BYTES)
    cut = truncate(arrays, 12, BYTES)
    assert len(cut) == 12
    for field in ("input_tokens", "target_tokens", "loss_weights", "position_ids", "subsegment_ids"):
        np.testing.assert_array_equal(getattr(cut, field), getattr(arrays, field)[:12])
    assert truncate(arrays, len(arrays), BYTES) is arrays


@pytest.mark.parametrize("length", [4, 1, 7])
def test_truncating_must_leave_the_picture_and_something_to_learn(length):
    arrays = assemble(["12345", "67890"], VISUAL, BYTES)
    with pytest.raises(ExampleError, match="too_long"):
        truncate(arrays, length, BYTES)


def test_an_example_without_any_weight_may_be_truncated():
    arrays = assemble(["12345", "67890"], VISUAL, BYTES, weighting=PRETRAINING.overridden(0.0))
    assert len(truncate(arrays, 7, BYTES)) == 7
