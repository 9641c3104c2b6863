"""From patches to the tokens that stand for them: what a model does with `token_pooling` (Molmo2 §3.5).

The k-th `<im_patch>` of a row takes the k-th row of `token_pooling` that names any patch; rows of -1 may lie anywhere.
"""

import jax
import jax.numpy as jnp


def pool_patches(patches_BCND: jax.Array, token_pooling_BPW: jax.Array, n_context: int = 1) -> jax.Array:
    """[B, P, D]: the mean of the patches that each row of `token_pooling` names; zeros where it names none.

    Args:
        patches_BCND: [B, C, 729, D] of any float dtype, which is the result's, too: features of the batch's `images`,
            a vector for each of the 729 patches of a crop.
        token_pooling_BPW: [B, P, 4 or 9] int32, the batch's.
        n_context: size of the mesh's axis "context" that both are sharded over. Block i of the pooling rows then takes
            from block i of the crops alone, so nothing is sent between devices.
    """
    B, C, N, D = patches_BCND.shape
    P, W = token_pooling_BPW.shape[1:]
    shard_patches = C // n_context * N
    patches_BSND = patches_BCND.reshape(B, C * N, D).reshape(B, n_context, shard_patches, D)
    first_patch_S = jnp.arange(n_context)[:, None, None] * shard_patches
    pooling_BSPW = token_pooling_BPW.reshape(B, n_context, P // n_context, W)
    valid_BSPW = pooling_BSPW >= 0
    index_BSPW = jnp.where(valid_BSPW, pooling_BSPW - first_patch_S, 0)
    take = jax.vmap(jax.vmap(lambda patches_ND, index_P: patches_ND[index_P]))
    # One patch of every window after another: all W at once would take W times the memory.
    total = jnp.zeros((B, n_context, P // n_context, D), patches_BCND.dtype)
    for w in range(W):
        total += jnp.where(valid_BSPW[..., w, None], take(patches_BSND, index_BSPW[..., w]), 0)
    count = jnp.maximum(valid_BSPW.sum(axis=-1, keepdims=True), 1)
    return (total / count.astype(total.dtype)).reshape(B, P, D)


def place_pooled(pooled_BPD: jax.Array, token_pooling_BPW: jax.Array, is_patch_BT: jax.Array) -> jax.Array:
    """[B, T, D]: at the k-th `<im_patch>` of a row the k-th pooled vector that is one, zeros at all other tokens.

    Args:
        pooled_BPD: [B, P, D] of any dtype, which is the result's, too: a vector for each row of `token_pooling`,
            through the connector or not.
        token_pooling_BPW: [B, P, 4 or 9] int32, the batch's; its rows of -1 are passed over.
        is_patch_BT: [B, T] bool, where `input_tokens` is `<im_patch>`.
    """
    valid_BP = (token_pooling_BPW >= 0).any(axis=-1)
    valid_first_BP = jnp.argsort(~valid_BP, axis=1, stable=True)
    k_BT = jnp.cumsum(is_patch_BT, axis=1) - 1
    has_one_BT = is_patch_BT & (k_BT < valid_BP.sum(axis=1, keepdims=True))
    source_BT = jnp.take_along_axis(valid_first_BP, jnp.where(has_one_BT, k_BT, 0), axis=1)
    return jnp.where(has_one_BT[..., None], jnp.take_along_axis(pooled_BPD, source_BT[..., None], axis=1), 0)
