"""Packed rows as a view shows them: read from the row's own arrays, whatever the mesh."""

import jax
import numpy as np
import pytest

import grain_molmo as gm
from grain_molmo.attention import attention_mask
from grain_molmo.view.describe_row import attention_map, describe_packed_row

pytestmark = pytest.mark.xdist_group("loader")


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def tree(n_branches, seed=0):
    messages = [{"style": "user_qa", "question": f"{i}?", "answer": f"No {i}."} for i in range(n_branches)]
    return {"image": noise(50, 60, seed), "message_list": messages}


def test_a_row_says_where_each_example_and_branch_lies(pack, tokenizer):
    packed = pack(tree(3), {"messages": ["Hi.", "Ho."]})

    card = describe_packed_row(packed.row, packed.infos, packed.stage, tokenizer, step=7, number=2)

    first, second = (example.place for example in card.examples)
    assert (card.step, card.row) == (7, 2)
    assert first.tokens[0] == 0
    assert second.tokens[0] == first.tokens[1]
    assert len(first.branches) == 3
    assert first.branches[-1][1] == first.tokens[1]
    assert card.n_tokens == second.tokens[1] == int((packed.row["segment_ids"] > 0).sum())
    assert card.n_crops == 2
    assert card.n_pooled == int((packed.row["token_pooling"] >= 0).any(axis=1).sum())
    trained = np.concatenate([np.arange(*run) for example in card.examples for run in example.place.trained])
    assert np.array_equal(trained, np.flatnonzero(packed.row["loss_weights"]))


@pytest.mark.parametrize("mode", [None, "image_tokens", "within_image"])
def test_the_map_of_attention_is_right_wherever_it_says_none_or_all(pack, tokenizer, mode):
    packed = pack(tree(2), tree(3, seed=1), {"messages": ["Hi.", "Ho."]}, seq_len=3001)
    size, base = 24, tokenizer.special_base
    mask = np.array(attention_mask({key: value[None] for key, value in packed.row.items()}, mode, base)[0])
    mask[packed.row["segment_ids"] == 0] = False  # what padding gets is never read
    padded = np.zeros((126 * size, 126 * size), bool)
    padded[:3001, :3001] = mask
    blocks = padded.reshape(126, size, 126, size)

    shown = attention_map(packed.row, mode, base)

    assert shown.shape == (126, 126)
    assert not blocks.any(axis=(1, 3))[shown == 0].any()
    no_padding = (padded.any(axis=1)).reshape(126, size).all(axis=1)
    assert blocks.all(axis=(1, 3))[(shown == 2) & no_padding[:, None]].all()
    assert (blocks.any(axis=(1, 3)) == (shown > 0)).mean() > 0.95
    assert {0, 1, 2} == set(np.unique(shown).tolist())


def test_the_loader_stays_where_it_is_while_a_row_is_shown(open_loader):
    loader = open_loader()
    next(loader)
    state, info = loader.get_state(), loader.batch_info

    shown = loader.show_row(1)

    assert loader.batch_info is info
    assert loader.get_state() == state
    assert [example.id for example in shown.card.examples] == [one.id for one in info.rows[1]]
    assert shown.card.step == 0
    assert loader.show_row(0, step=3).card.step == 3
    assert "tokens" in repr(shown)


def test_a_row_shows_the_same_on_a_mesh_that_cuts_it_into_context_shards(open_loader):
    mesh = jax.make_mesh((2, 4), ("data", "context"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    whole, cut = open_loader().show_row(0).card, open_loader(mesh=mesh).show_row(0).card

    assert [example.place for example in whole.examples] == [example.place for example in cut.examples]
    for ours, theirs in zip(whole.examples, cut.examples, strict=True):
        assert len(ours.pictures) == len(theirs.pictures)
        for one, other in zip(ours.pictures, theirs.pictures, strict=True):
            assert np.array_equal(one.decode(), other.decode())
            assert one.grid == other.grid


@pytest.mark.parametrize("place", [{"row": 2}, {"row": -1}, {"step": -1}, {"row": 0.5}, {"step": "x"}])
def test_a_row_that_there_is_not_is_refused(open_loader, place):
    with pytest.raises(gm.errors.ConfigError, match="there is no such step or row"):
        open_loader().show_row(**place)


def test_a_blanked_example_says_what_was_wrong_with_its_media(pack, tokenizer):
    packed = pack({"image": np.zeros((50, 60, 3), np.uint8), "messages": ["A?", "B"]})
    infos = [gm.render.ExampleInfo(**{**vars(packed.infos[0]), "blanked": "truncated", "detail": "half a file"})]

    (example,) = describe_packed_row(packed.row, infos, packed.stage, tokenizer).examples

    assert example.problem == "truncated: half a file"


def test_an_example_that_an_evaluation_cannot_ask_is_shown_with_its_reason(sample_dir):
    names = {"stage": "pretraining", "data_dir": sample_dir, "tokenizer": "bytes"}
    with gm.make_eval_loader("pixmo_points:train", batch_size=1, **names) as loader:
        cards = [loader.show_row(step=step).card for step in range(8)]

    lost = [example for card in cards for example in card.examples if example.problem]
    assert lost
    assert all("EachMessage" in example.problem and not example.conversations for example in lost)


def test_a_prompt_is_shown_with_nothing_learned(sample_dir):
    questions = gm.EachMessage(gm.PixMoPoints(data_dir=sample_dir))
    names = {"stage": "pretraining", "data_dir": sample_dir, "tokenizer": "bytes"}
    with gm.make_eval_loader(questions, batch_size=1, **names) as loader:
        (example,) = loader.show_row().card.examples

    (conversation,) = example.conversations
    assert {span.kind for span in conversation.spans} == {"prompt", "visual"}
    assert conversation.spans[-1].text.endswith("assistant\n")
    assert len(example.pictures) == 2


def test_points_in_pixels_of_a_picture_that_the_row_does_not_hold_are_not_drawn_elsewhere(pack, tokenizer):
    example = {"image": noise(50, 1000), "messages": ["Where?", "Point: x=300 y=20"]}
    packed = pack(example)

    (card,) = describe_packed_row(packed.row, packed.infos, packed.stage, tokenizer).examples

    assert "x=300" in card.conversations[0].spans[-1].text
    assert not any(picture.marks for picture in card.pictures)


def test_what_a_row_says_of_an_example_is_said_once(pack, tokenizer):
    packed = pack(tree(2))

    (card,) = describe_packed_row(packed.row, packed.infos, packed.stage, tokenizer).examples

    assert not {"tokens", "crops", "pooled"} & set(card.facts)
    assert card.place.tokens[1] > card.place.pooled[1] > 0
