"""Which token of a packed row may attend to which (Molmo2 §6.4), as a dense mask and as a rule for blockwise kernels.

The whole rule is three comparisons of three numbers a token, so that a kernel which holds a block of queries and a
block of keys can decide on its own, and a mask of [T, T] need never exist:

    may_attend(q, k) = (q.branch <= k.branch) & ((k.order <= q.order) | (k.picture <= q.picture))

`branch` numbers the branches of all the row's message trees in order, the prefix that a tree's branches share last: a
later example's numbers are higher than all of an earlier one's. `order` is the place in the row, and `picture` lets
tokens of pictures look ahead; where they may not, it never holds.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from grain_molmo.errors import ConfigError
from grain_molmo.special_tokens import FRAME_START, LOW_RES_IM_START, VISUAL_OFFSETS
from grain_molmo.text.assemble import SHARED_SUBSEGMENT

LookAhead = Literal["image_tokens", "within_image"] | None

_BRANCHES = SHARED_SUBSEGMENT + 1  # numbers that an example's branches take
_NEVER = jnp.iinfo(jnp.int32).max
_ALWAYS = _NEVER - 1


class Queries(NamedTuple):
    """What a token asks with.

    Attributes:
        branch: [B, T] int32 (or a block of it), number of the token's branch among those of the row; -1 of padding.
        order: [B, T] int32, its place in the row.
        picture: [B, T] int32, number of the picture that it may look ahead in; -1 of a token that may not.
    """

    branch: jax.Array
    order: jax.Array
    picture: jax.Array


class Keys(NamedTuple):
    """What a token is found by.

    Attributes:
        branch: [B, T] int32 (or a block of it), number of the token's branch; a shared prefix comes last of its
            example's.
        order: [B, T] int32, its place in the row.
        picture: [B, T] int32, number of the picture that it belongs to; of other tokens one that is above all.
    """

    branch: jax.Array
    order: jax.Array
    picture: jax.Array


class Blocks(NamedTuple):
    """What is known of a block of queries beside a block of keys.

    Attributes:
        some: [B, blocks of queries, blocks of keys] bool. False only if no query of the block may
            attend to any key of it: the kernel skips it.
        every: [B, blocks of queries, blocks of keys] bool. True only if every query may attend
            to every key: the kernel needs no mask.
    """

    some: jax.Array
    every: jax.Array


def attention_keys(
    batch: Mapping[str, Any], mode: LookAhead = None, special_base: int | None = None
) -> tuple[Queries, Keys]:
    """The numbers that `may_attend` compares, of a batch of the loader; can be called under `jax.jit`.

    Args:
        batch: `segment_ids` and `subsegment_ids`, [B, T] int32, examples in order of their segment ids; with a mode
            also `input_tokens`.
        mode: None, each token sees what came before it; "image_tokens", the tokens of pictures and frames also see all
            of those of their example; "within_image", also those that come later in their picture (frames are told
            apart by `<frame_start>`, so in the loader's layout all frames of a video are one picture).
        special_base: the tokenizer's, with a mode.

    Returns:
        Queries and keys, [B, T] int32 each.

    Raises:
        ConfigError: an unknown mode, or one without `special_base`.
    """
    segments_BT, subsegments_BT = jnp.asarray(batch["segment_ids"]), jnp.asarray(batch["subsegment_ids"])
    valid_BT = segments_BT > 0
    order_BT = jnp.broadcast_to(jnp.arange(segments_BT.shape[1], dtype=jnp.int32), segments_BT.shape)
    # Padding asks for everything that is valid, so that no query of a row with an example is left without a key.
    branch_BT = jnp.where(valid_BT, segments_BT * _BRANCHES + subsegments_BT, -1)
    is_visual_BT, picture_BT = _pictures(batch, segments_BT, mode, special_base)
    return (
        Queries(branch_BT, jnp.where(valid_BT, order_BT, _ALWAYS), jnp.where(is_visual_BT, picture_BT, -1)),
        Keys(branch_BT, jnp.where(valid_BT, order_BT, _NEVER), jnp.where(is_visual_BT, picture_BT, _NEVER)),
    )


def _pictures(
    batch: Mapping[str, Any], segments_BT: jax.Array, mode: LookAhead, special_base: int | None
) -> tuple[jax.Array, jax.Array]:
    """Which tokens look ahead, and the number of what they see up to; it grows from example to example."""
    if mode is None:
        return jnp.zeros_like(segments_BT, bool), segments_BT
    if mode not in ("image_tokens", "within_image"):
        raise ConfigError(f"mode is {mode!r}; one of None, 'image_tokens', 'within_image'")
    if special_base is None:
        raise ConfigError(f"mode={mode!r} needs special_base, the tokenizer's, to know the tokens of pictures")
    offsets_BT = jnp.asarray(batch["input_tokens"]) - special_base
    is_visual_BT = jnp.isin(offsets_BT, jnp.array(VISUAL_OFFSETS)) & (segments_BT > 0)
    if mode == "image_tokens":
        return is_visual_BT, segments_BT
    begins_BT = (offsets_BT == FRAME_START) | (offsets_BT == LOW_RES_IM_START)
    return is_visual_BT, segments_BT + jnp.cumsum(begins_BT, axis=1, dtype=jnp.int32)


def may_attend(queries: Queries, keys: Keys) -> jax.Array:
    """Whether each query may attend to each key, [...] bool, elementwise.

    Args:
        queries: of `attention_keys`, or a block of them.
        keys: the same, of shapes that broadcast with those of the queries, such as [B, T, 1] and [B, 1, T].
    """
    return (queries.branch <= keys.branch) & ((keys.order <= queries.order) | (keys.picture <= queries.picture))


def attention_mask(batch: Mapping[str, Any], mode: LookAhead = None, special_base: int | None = None) -> jax.Array:
    """[B, T, T] bool, query by key: the rule written out.

    Padding may attend to every token of the row's examples, and no token to padding; a row without an example has no
    key at all, so mask scores with a finite number.

    Args:
        batch, mode, special_base: as of `attention_keys`.

    Raises:
        ConfigError: an unknown mode, or one without `special_base`.
    """
    return _every_pair(*attention_keys(batch, mode, special_base))


def attention_blocks(queries: Queries, keys: Keys, queries_per_block: int, keys_per_block: int) -> Blocks:
    """Which blocks a kernel may skip and which need no mask, from the least and greatest numbers of each block.

    Both are safe, not exact: a block that is called mixed may turn out to be empty or full.

    Args:
        queries, keys: of `attention_keys`, [B, T] int32 each.
        queries_per_block, keys_per_block: tokens, each a divisor of T.

    Raises:
        ConfigError: T does not divide into blocks.
    """
    q_least, q_most = (Queries(*bounds) for bounds in _bounds(queries, queries_per_block))
    k_least, k_most = (Keys(*bounds) for bounds in _bounds(keys, keys_per_block))
    return Blocks(
        some=_every_pair(q_most._replace(branch=q_least.branch), k_least._replace(branch=k_most.branch)),
        every=_every_pair(q_least._replace(branch=q_most.branch), k_most._replace(branch=k_least.branch)),
    )


def _every_pair(queries: Queries, keys: Keys) -> jax.Array:
    return may_attend(Queries(*(each[:, :, None] for each in queries)), Keys(*(each[:, None, :] for each in keys)))


def _bounds(vectors: Queries | Keys, size: int) -> tuple[list[jax.Array], list[jax.Array]]:
    """The least and the greatest number of each block, [B, blocks]."""
    T = vectors.order.shape[1]
    if size < 1 or T % size:
        raise ConfigError(f"{T} tokens do not divide into blocks of {size}; pad the row, or take another size")
    blocks = [each_BT.reshape(each_BT.shape[0], -1, size) for each_BT in vectors]
    return [each.min(axis=2) for each in blocks], [each.max(axis=2) for each in blocks]
