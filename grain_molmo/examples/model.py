"""A tiny vision-language model in plain JAX, which reads a batch of the loader as a large one would (Molmo2 §6).

Patches become features, features of a window are averaged into one, which is added to the embedding of the token that
stands for it; a transformer with the attention rule of packed rows predicts the next token; the loss is weighted.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from grain_molmo.attention import LookAhead, attention_mask
from grain_molmo.pooling import place_pooled, pool_patches
from grain_molmo.render import Batch
from grain_molmo.special_tokens import IM_PATCH
from grain_molmo.vision.crops import PATCHES_PER_CROP, VALUES_PER_PATCH

Params = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes of the model.

    Attributes:
        vocab_size, special_base: the tokenizer's.
        width, num_layers, num_heads: of the transformer.
        look_ahead: how tokens of pictures see each other, see `attention_mask`.
        n_context: size of the mesh's axis "context".
    """

    vocab_size: int
    special_base: int
    width: int = 64
    num_layers: int = 2
    num_heads: int = 4
    look_ahead: LookAhead = "image_tokens"
    n_context: int = 1


def init_params(config: ModelConfig, key: jax.Array) -> Params:
    """Random weights, float32."""
    keys = iter(jax.random.split(key, 5 + 4 * config.num_layers))
    D = config.width

    def matrix(n_in: int, n_out: int) -> jax.Array:
        return jax.random.normal(next(keys), (n_in, n_out)) * n_in**-0.5

    def layer() -> Params:
        return {
            "norms": jnp.ones((2, D)),
            "qkv": matrix(D, 3 * D),
            "out": matrix(D, D),
            "up": matrix(D, 4 * D),
            "down": matrix(4 * D, D),
        }

    return {
        "embedding": jax.random.normal(next(keys), (config.vocab_size, D)) * 0.02,
        "patch": matrix(VALUES_PER_PATCH, D),
        "patch_position": jax.random.normal(next(keys), (PATCHES_PER_CROP, D)) * 0.02,
        "connector": matrix(D, D),
        "layers": [layer() for _ in range(config.num_layers)],
        "norm": jnp.ones(D),
        "head": matrix(D, config.vocab_size),
    }


def weighted_loss(params: Params, batch: Batch, config: ModelConfig) -> jax.Array:
    """The mean cross-entropy of the global batch, weighted by `loss_weights`; padding has none."""
    log_probs_BTV = jax.nn.log_softmax(predict(params, batch, config))
    loss_BT = -jnp.take_along_axis(log_probs_BTV, batch["target_tokens"][..., None], axis=-1)[..., 0]
    weights_BT = batch["loss_weights"]
    return (loss_BT * weights_BT).sum() / jnp.maximum(weights_BT.sum(), 1e-6)


def predict(params: Params, batch: Batch, config: ModelConfig) -> jax.Array:
    """[B, T, V] float32: a score for each token that may come next."""
    return scores_of_tokens(params, batch, visual_features(params, batch, config), config)


def scores_of_tokens(params: Params, batch: Batch, visual_BTD: jax.Array, config: ModelConfig) -> jax.Array:
    """What `predict` gives, for pictures whose features are known already."""
    mask_BTT = attention_mask(batch, config.look_ahead, config.special_base)
    x_BTD = params["embedding"][batch["input_tokens"]] + visual_BTD
    for layer in params["layers"]:
        normed_BTD = _normed(x_BTD, layer["norms"][0])
        x_BTD += _attention(layer, normed_BTD, batch["position_ids"], mask_BTT, config.num_heads)
        x_BTD += jax.nn.gelu(_normed(x_BTD, layer["norms"][1]) @ layer["up"]) @ layer["down"]
    return _normed(x_BTD, params["norm"]) @ params["head"]


def visual_features(params: Params, batch: Batch, config: ModelConfig) -> jax.Array:
    """[B, T, D], zeros but at `<im_patch>`."""
    pixels = batch["images"].astype(jnp.float32) / 127.5 - 1
    patches_BCND = jax.nn.gelu(pixels @ params["patch"] + params["patch_position"])
    pooled_BPD = pool_patches(patches_BCND, batch["token_pooling"], config.n_context) @ params["connector"]
    is_patch_BT = batch["input_tokens"] == config.special_base + IM_PATCH
    return place_pooled(pooled_BPD, batch["token_pooling"], is_patch_BT)


def _attention(
    layer: Params, x_BTD: jax.Array, positions_BT: jax.Array, mask_BTT: jax.Array, num_heads: int
) -> jax.Array:
    heads = (*x_BTD.shape[:2], num_heads, -1)
    q_BTHK, k_BTHK, v_BTHK = (part.reshape(heads) for part in jnp.split(x_BTD @ layer["qkv"], 3, axis=-1))
    q_BTHK, k_BTHK = _rotated(q_BTHK, positions_BT), _rotated(k_BTHK, positions_BT)
    scores_BHTT = jnp.einsum("bqhk,bshk->bhqs", q_BTHK, k_BTHK) * q_BTHK.shape[-1] ** -0.5
    # A finite number: in a row of padding alone there is nothing to attend to, and minus infinity would be no number.
    shares_BHTT = jax.nn.softmax(jnp.where(mask_BTT[:, None], scores_BHTT, -1e30))
    return jnp.einsum("bhqs,bshk->bqhk", shares_BHTT, v_BTHK).reshape(x_BTD.shape) @ layer["out"]


def _rotated(x_BTHK: jax.Array, positions_BT: jax.Array) -> jax.Array:
    """Rotary positions: `position_ids`, not places in the row, so that packing is nothing the model could see."""
    half = x_BTHK.shape[-1] // 2
    angles = positions_BT[..., None, None] * 10_000.0 ** (-jnp.arange(half) / half)
    a, b = x_BTHK[..., :half], x_BTHK[..., half:]
    return jnp.concatenate([a * jnp.cos(angles) - b * jnp.sin(angles), a * jnp.sin(angles) + b * jnp.cos(angles)], -1)


def _normed(x_BTD: jax.Array, scale_D: jax.Array) -> jax.Array:
    return x_BTD * jax.lax.rsqrt(jnp.square(x_BTD).mean(axis=-1, keepdims=True) + 1e-6) * scale_D
