"""What packing must not be to a model: anything that it could see."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import grain_molmo as gm
from grain_molmo.examples.model import ModelConfig, init_params, predict, weighted_loss
from grain_molmo.special_tokens import IM_PATCH
from grain_molmo.text.assemble import SHARED_SUBSEGMENT

MODES = (None, "image_tokens", "within_image")
TOKENS = ("input_tokens", "target_tokens", "loss_weights", "position_ids", "segment_ids", "subsegment_ids")


class Talks(gm.Dataset):
    """Pictures with one to three questions each."""

    def __len__(self):
        return 12

    def get(self, item, rng):
        branches = [
            {"question": f"What {i}?", "answer": f"{item} {i}.", "style": "user_qa"} for i in range(1 + item % 3)
        ]
        return {"message_list": branches, "image": rng.randint(0, 256, (60 + item, 80, 3), np.uint8)}


@pytest.fixture(scope="module")
def packed():
    """A row of several examples, and where each lies."""
    gm.register_dataset("talks", lambda split: Talks())
    stage = gm.Stage(mixture={"talks": 1}, seq_len=1024, batch_size=1, max_crops=1, crops_per_row=6)
    with gm.make_loader(stage, tokenizer="bytes", num_threads=1) as loader:
        while True:
            batch = next(loader)
            row = loader.batch_info.rows[0]
            if len(row) > 1 and 1 in batch["subsegment_ids"]:
                return batch, row


def config_of(mode):
    tokenizer = gm.load_tokenizer("bytes")
    sizes = {"vocab_size": tokenizer.vocab_size, "special_base": tokenizer.special_base}
    return ModelConfig(**sizes, width=16, num_layers=2, num_heads=2, look_ahead=mode)


@pytest.fixture(scope="module", params=MODES)
def model(request):
    """Scores of a batch, by one of the ways in which pictures look ahead."""
    config = config_of(request.param)
    return jax.jit(partial(predict, init_params(config, jax.random.key(1)), config=config))


def alone(batch, example, keep):
    """A row that holds, of one example, the tokens to keep."""
    row = {key: np.zeros_like(array) for key, array in batch.items()}
    row["token_pooling"] -= 1
    places = np.arange(*example.tokens)[keep]
    for key in TOKENS:
        row[key][0, : len(places)] = batch[key][0, places]
    n_crops, n_pooled = (stop - start for start, stop in (example.crops, example.pooled))
    row["images"][0, :n_crops] = batch["images"][0, slice(*example.crops)]
    windows = batch["token_pooling"][0, slice(*example.pooled)]
    row["token_pooling"][0, :n_pooled] = np.where(windows >= 0, windows - 729 * example.crops[0], -1)
    return row, places


def test_an_example_and_each_of_its_branches_are_predicted_as_if_they_came_alone(model, packed):
    batch, examples = packed
    together_TV = np.asarray(model(batch))[0]
    for example in examples:
        subsegments = batch["subsegment_ids"][0, slice(*example.tokens)]
        for branch in set(subsegments) - {SHARED_SUBSEGMENT}:
            row, places = alone(batch, example, (subsegments == branch) | (subsegments == SHARED_SUBSEGMENT))
            np.testing.assert_allclose(np.asarray(model(row))[0, : len(places)], together_TV[places], atol=2e-5)


def test_the_picture_is_seen_by_its_own_example_alone(model, packed):
    batch, examples = packed
    first, second = examples[:2]
    images = batch["images"].copy()
    images[0, slice(*first.crops)] = 255 - images[0, slice(*first.crops)]
    before_TV, after_TV = (np.asarray(model({**batch, "images": each}))[0] for each in (batch["images"], images))
    assert not np.allclose(before_TV[first.tokens[1] - 1], after_TV[first.tokens[1] - 1], atol=1e-4)
    np.testing.assert_array_equal(before_TV[slice(*second.tokens)], after_TV[slice(*second.tokens)])


def test_windows_may_lie_anywhere_in_their_order(model, packed):
    """As in the layout of a mesh with an axis "context"."""
    batch, _ = packed
    pooling_PW = batch["token_pooling"][0]
    valid = (pooling_PW >= 0).any(axis=1)
    assert valid.sum() == (batch["input_tokens"] == gm.load_tokenizer("bytes").special_id(IM_PATCH)).sum() < len(valid)
    places = np.sort(np.random.default_rng(0).permutation(len(valid))[: valid.sum()])
    spread_PW = np.full_like(pooling_PW, -1)
    spread_PW[places] = pooling_PW[valid]
    np.testing.assert_allclose(model({**batch, "token_pooling": spread_PW[None]}), model(batch), atol=1e-5)


def test_a_batch_of_padding_has_a_loss_and_a_gradient_of_zero(packed):
    batch, _ = packed
    padding = {key: np.zeros_like(array) for key, array in batch.items()} | {
        "token_pooling": batch["token_pooling"] * 0 - 1
    }
    config = config_of("image_tokens")
    both = jax.jit(jax.value_and_grad(weighted_loss), static_argnames="config")
    loss, gradient = both(init_params(config, jax.random.key(1)), padding, config=config)
    assert loss == 0
    assert all(not jnp.any(array) for array in jax.tree.leaves(gradient))
