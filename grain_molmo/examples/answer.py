"""Answers of the model to a batch of prompts: the likeliest token, again and again."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from grain_molmo.examples.model import ModelConfig, Params, scores_of_tokens, visual_features
from grain_molmo.render import Batch

_GROWING = ("input_tokens", "position_ids", "segment_ids", "subsegment_ids")


def make_answer(config: ModelConfig, max_new_tokens: int, mesh: jax.sharding.Mesh) -> Callable[[Params, Batch], Any]:
    """A jitted function of weights and a batch with one prompt a row, to what stands in the rows afterwards.

    It gives [B, T + max_new_tokens] int32 on every process, answers right behind their prompts. All of a row is
    computed again for each token, which is simple, and slow for a large model: that would keep what it knows of tokens.
    """
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def answer(params: Params, batch: Batch) -> jax.Array:
        pictures = {key: batch[key] for key in ("images", "token_pooling")}
        rows = {key: jnp.pad(batch[key], ((0, 0), (0, max_new_tokens))) for key in _GROWING}
        length_B = (batch["segment_ids"] > 0).sum(axis=1)
        visual_BTD = visual_features(params, {**pictures, **rows}, config)

        def add_token(i: int, rows: Batch) -> Batch:
            last_B = jnp.maximum(length_B + i - 1, 0)  # a row of padding has no last token
            scores_BTV = scores_of_tokens(params, rows, visual_BTD, config)
            scores_BV = jnp.take_along_axis(scores_BTV, last_B[:, None, None], axis=1)[:, 0]
            place = jnp.arange(len(length_B)), length_B + i
            return {
                "input_tokens": rows["input_tokens"].at[place].set(scores_BV.argmax(axis=1).astype(jnp.int32)),
                "position_ids": rows["position_ids"].at[place].set(length_B.astype(jnp.int32) + i),
                "segment_ids": rows["segment_ids"].at[place].set(1),
                "subsegment_ids": rows["subsegment_ids"],
            }

        return jax.lax.fori_loop(0, max_new_tokens, add_token, rows)["input_tokens"]

    return jax.jit(answer, out_shardings=everywhere)
