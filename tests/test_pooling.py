"""Patches to pooled vectors to the tokens that stand for them, against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from grain_molmo.pooling import place_pooled, pool_patches

C, N, D, W, P, T = 4, 5, 3, 4, 6, 11


@st.composite
def rows(draw):
    """Pooling rows, some of -1 wherever they fall, and as many patch tokens as there are valid ones."""
    window = st.lists(st.integers(0, C * N - 1), min_size=1, max_size=W)
    windows = draw(st.lists(st.one_of(st.just([]), window), min_size=P, max_size=P))
    pooling_PW = np.full((P, W), -1, np.int32)
    for row, window in enumerate(windows):
        places = draw(st.permutations(range(W)))[: len(window)]
        pooling_PW[row, places] = window
    n_valid = sum(map(bool, windows))
    is_patch_T = np.isin(np.arange(T), draw(st.permutations(range(T)))[:n_valid])
    return pooling_PW, is_patch_T


def pooled_and_placed(patches_BCND, pooling_BPW, is_patch_BT):
    pooled_BPD = pool_patches(patches_BCND, pooling_BPW)
    return place_pooled(pooled_BPD, pooling_BPW, is_patch_BT)


in_one_go = jax.jit(pooled_and_placed)


@given(st.lists(rows(), min_size=2, max_size=2), st.integers(0, 2**31))
def test_each_patch_token_takes_the_mean_of_its_window(batch, seed):
    pooling_BPW, is_patch_BT = (np.stack(each) for each in zip(*batch, strict=True))
    patches_BCND = np.random.default_rng(seed).normal(size=(2, C, N, D)).astype(np.float32)
    expected = np.zeros((2, T, D), np.float32)
    for row in range(2):
        windows = [window[window >= 0] for window in pooling_BPW[row] if (window >= 0).any()]
        for token, window in zip(np.flatnonzero(is_patch_BT[row]), windows, strict=True):
            expected[row, token] = patches_BCND[row].reshape(-1, D)[window].mean(axis=0)
    np.testing.assert_allclose(in_one_go(patches_BCND, pooling_BPW, is_patch_BT), expected, rtol=1e-5, atol=1e-6)


def test_a_token_without_a_pooled_vector_gets_zeros():
    pooling_BPW = np.array([[[-1, -1], [0, -1]]])
    placed = place_pooled(np.ones((1, 2, D)), pooling_BPW, np.array([[True, True, False]]))
    assert placed[0, :, 0].tolist() == [1, 0, 0]


def test_a_patch_that_is_no_number_spoils_its_own_window_alone():
    patches_BCND = jnp.ones((1, C, N, D)).at[0, 0, 0].set(jnp.nan)
    pooled = pool_patches(patches_BCND, jnp.array([[[0, 1], [2, -1], [-1, -1]]]))
    assert jnp.isnan(pooled[0, :, 0]).tolist() == [True, False, False]


def test_context_shards_pool_from_their_own_crops():
    patches_BCND = jax.random.normal(jax.random.key(0), (1, C, N, D))
    second = 2 * N  # first patch of the second shard's crops, counted from the row's first
    pooling_BPW = jnp.array([[[0, 9, -1], [-1, -1, -1], [3, 4, 5], [second, second + 9, -1], [second + 4, -1, -1]]])
    pooling_BPW = jnp.concatenate([pooling_BPW, jnp.full((1, 1, 3), -1)], axis=1)
    apart = pool_patches(patches_BCND, pooling_BPW, n_context=2)
    np.testing.assert_array_equal(apart, pool_patches(patches_BCND, pooling_BPW))


def test_what_is_learned_at_a_patch_token_reaches_its_patches_alone():
    pooling_BPW = jnp.array([[[-1, -1], [1, 7]]])
    is_patch_BT = jnp.array([[False, True]])
    gradient_BCND = jax.grad(lambda patches: pooled_and_placed(patches, pooling_BPW, is_patch_BT).sum())(
        jnp.ones((1, C, N, D))
    )
    gradient = gradient_BCND.reshape(C * N, D)
    assert gradient[:, 0].tolist() == [0.5 if patch in (1, 7) else 0 for patch in range(C * N)]


def test_half_precision_stays_half_precision():
    placed = pooled_and_placed(
        jnp.ones((1, C, N, D), jnp.bfloat16), jnp.array([[[0, 1, -1]]]), jnp.array([[True, False]])
    )
    assert placed.dtype == jnp.bfloat16


def test_rows_may_be_sharded_by_explicit_axes():
    """What `jax.make_mesh` makes unless told otherwise: shardings are part of types, and an unclear one is an error."""
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    arrays = (np.ones((1, C, N, D)), np.array([[[0, 1, -1]]]), np.array([[True, False]]))
    placed = in_one_go(*(jax.device_put(array, rows) for array in arrays))
    assert placed[..., 0].tolist() == [[1, 0]]
    assert placed.sharding.spec[0] == "data"
