"""The attention rule, against the rule read aloud token by token, on trees of every shape and on real batches."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.experimental import pallas as pl

import grain_molmo as gm
from grain_molmo.attention import Keys, Queries, attention_blocks, attention_keys, attention_mask, may_attend
from grain_molmo.errors import ConfigError
from grain_molmo.special_tokens import FRAME_START, IM_END, IM_PATCH, IM_START, IMAGE, LOW_RES_IM_START, VISUAL_OFFSETS
from grain_molmo.text.assemble import SHARED_SUBSEGMENT

BASE = 300  # ids from here on are special
TEXT = 7
MODES = (None, "image_tokens", "within_image")
T = 48


def rule_read_aloud(ids, subsegments, mode):
    """Molmo2 §6.4 in its own terms: ids are -1 in padding, subsegments have 100,000 times the example's number."""
    frames = list(itertools.accumulate(int(i - BASE in (FRAME_START, LOW_RES_IM_START)) for i in ids))

    def both_ways(q, k):
        if mode is None or not all(ids[i] - BASE in VISUAL_OFFSETS for i in (q, k)):
            return False
        if subsegments[q] // 100_000 != subsegments[k] // 100_000:
            return False
        return mode == "image_tokens" or frames[k] <= frames[q]

    def allowed(q, k):
        return ids[k] != -1 and (k <= q or both_ways(q, k)) and subsegments[q] <= subsegments[k]

    return np.array([[allowed(q, k) for k in range(len(ids))] for q in range(len(ids))])


def packed(examples, length=T):
    """A row of examples, each a list of (id, subsegment), as the loader's arrays and as the spec's ids."""
    tokens = [(number, id, sub) for number, example in enumerate(examples, start=1) for id, sub in example][:length]
    arrays = {key: np.zeros((1, length), np.int32) for key in ("segment_ids", "input_tokens", "subsegment_ids")}
    ids, subsegments = np.full(length, -1), np.full(length, -1)
    for place, (number, id, sub) in enumerate(tokens):
        arrays["segment_ids"][0, place], arrays["input_tokens"][0, place] = number, id
        arrays["subsegment_ids"][0, place] = sub
        ids[place], subsegments[place] = id, sub + 100_000 * (number - 1)
    return arrays, ids, subsegments


def tree(prefix, branches):
    shared = [(id, SHARED_SUBSEGMENT if branches else 0) for id in prefix]
    return shared + [(TEXT, number) for number, length in enumerate(branches) for _ in range(length)]


visual_or_text = st.sampled_from(
    [TEXT, *(BASE + offset for offset in (IM_START, IM_END, IM_PATCH, LOW_RES_IM_START, FRAME_START, IMAGE))]
)
trees = st.builds(
    tree, st.lists(visual_or_text, min_size=1, max_size=12), st.lists(st.integers(1, 4), min_size=0, max_size=4)
)
rows = st.lists(trees, max_size=5).map(packed)


@given(rows, st.sampled_from(MODES))
def test_the_mask_is_the_rule_read_aloud(row, mode):
    arrays, ids, subsegments = row
    mask = attention_mask(arrays, mode, BASE)[0]
    np.testing.assert_array_equal(mask, rule_read_aloud(ids, subsegments, mode))


@given(rows, st.sampled_from(MODES))
def test_only_a_row_without_examples_has_queries_without_a_key(row, mode):
    arrays, ids, _ = row
    assert (np.asarray(attention_mask(arrays, mode, BASE)).any(axis=2) == (ids >= 0).any()).all()


@given(rows, st.sampled_from(MODES), st.sampled_from([4, 8, 16]), st.sampled_from([4, 8, 24]))
def test_a_block_that_is_skipped_is_empty_and_one_without_a_mask_is_full(row, mode, q_size, k_size):
    arrays, _, _ = row
    by_block = np.asarray(attention_mask(arrays, mode, BASE)).reshape(1, T // q_size, q_size, T // k_size, k_size)
    blocks = attention_blocks(*attention_keys(arrays, mode, BASE), q_size, k_size)
    assert not by_block.any(axis=(2, 4))[~np.asarray(blocks.some)].any()
    assert by_block.all(axis=(2, 4))[np.asarray(blocks.every)].all()


def test_the_example_of_the_rule():
    """Molmo2 §6.4: a tree of two image tokens and two branches, packed with another example and a padding token."""
    image = BASE + IM_PATCH
    first = tree([TEXT, image, image], [2, 2])
    second = [(id, 0) for id in (TEXT, image, TEXT, TEXT)]
    arrays, _, _ = packed([first, second], 12)
    expected = """100000000000 111000000000 111000000000 111100000000 111110000000 111001000000
                  111001100000 000000010000 000000011000 000000011100 000000011110 111111111110"""
    found = np.asarray(attention_mask(arrays, "image_tokens", BASE)[0], int)
    assert ["".join(map(str, row)) for row in found] == expected.split()


def test_within_image_shows_a_picture_what_comes_before_it_and_itself():
    one = [BASE + LOW_RES_IM_START, BASE + IM_PATCH]
    arrays, _, _ = packed([[(id, 0) for id in one + one]], 4)
    assert attention_mask(arrays, "within_image", BASE)[0].astype(int).tolist() == [
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [1, 1, 1, 1],
        [1, 1, 1, 1],
    ]


def test_blocks_of_other_examples_and_of_the_future_are_skipped():
    arrays, _, _ = packed([tree([TEXT] * 16, []), tree([TEXT] * 8, [8])], 32)
    blocks = attention_blocks(*attention_keys(arrays), 8, 8)
    assert blocks.some[0].astype(int).tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert blocks.every[0].astype(int).tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]


@pytest.mark.parametrize("mode", MODES)
def test_a_pallas_kernel_decides_block_by_block(mode):
    arrays, _, _ = packed([tree([TEXT, BASE + IM_PATCH, BASE + IM_PATCH], [5, 3]), tree([TEXT] * 4, [2, 6, 1])], 32)
    queries, keys = attention_keys(arrays, mode, BASE)

    def kernel(*refs):
        q, k = Queries(*(ref[...].T for ref in refs[:3])), Keys(*(ref[...] for ref in refs[3:6]))
        refs[6][...] = may_attend(q, k)

    mask = pl.pallas_call(
        kernel,
        grid=(4, 2),
        in_specs=[pl.BlockSpec((1, 8), lambda i, j: (0, i))] * 3 + [pl.BlockSpec((1, 16), lambda i, j: (0, j))] * 3,
        out_specs=pl.BlockSpec((8, 16), lambda i, j: (i, j)),
        out_shape=jax.ShapeDtypeStruct((32, 32), bool),
        interpret=True,
    )(*queries, *keys)
    np.testing.assert_array_equal(mask, attention_mask(arrays, mode, BASE)[0])


def test_attention_by_blocks_is_attention_by_the_mask():
    arrays, _, _ = packed([tree([TEXT] * 6, [7, 9]), tree([TEXT, BASE + IM_PATCH], [3]), tree([TEXT] * 5, [])])
    q_TD, k_TD, v_TD = (jax.random.normal(key, (T, 16)) for key in jax.random.split(jax.random.key(0), 3))
    mask_TT = attention_mask(arrays, "image_tokens", BASE)[0]
    dense_TD = jax.nn.softmax(jnp.where(mask_TT, q_TD @ k_TD.T / 4, -1e30)) @ v_TD
    np.testing.assert_allclose(_by_blocks(arrays, q_TD, k_TD, v_TD, 8), dense_TD, atol=1e-5)


def _by_blocks(arrays, q_TD, k_TD, v_TD, size):
    """A softmax that sees one block of queries and keys at a time, skips the empty and masks the mixed ones."""
    queries, keys = attention_keys(arrays, "image_tokens", BASE)
    blocks = attention_blocks(queries, keys, size, size)
    out, n_masked = [], 0
    for i in range(T // size):
        mine = slice(i * size, (i + 1) * size)
        total, weight, top = jnp.zeros((size, 16)), jnp.zeros((size, 1)), jnp.full((size, 1), -1e30)
        for j in np.flatnonzero(blocks.some[0, i]):
            theirs = slice(j * size, (j + 1) * size)
            scores = q_TD[mine] @ k_TD[theirs].T / 4
            if not blocks.every[0, i, j]:
                n_masked += 1
                block_queries = Queries(*(each[0, mine, None] for each in queries))
                block_keys = Keys(*(each[0, None, theirs] for each in keys))
                scores = jnp.where(may_attend(block_queries, block_keys), scores, -jnp.inf)
            new_top = jnp.maximum(top, scores.max(axis=1, keepdims=True))
            shares = jnp.exp(scores - new_top)
            total = total * jnp.exp(top - new_top) + shares @ v_TD[theirs]
            weight = weight * jnp.exp(top - new_top) + shares.sum(axis=1, keepdims=True)
            top = new_top
        out.append(total / weight)
    assert n_masked < blocks.some.sum() < blocks.some.size
    return jnp.concatenate(out)


class Trees(gm.Dataset):
    """Conversations, and trees of up to three about one picture or two."""

    def __len__(self):
        return 30

    def get(self, item, rng):
        branches = [{"question": "What?", "answer": f"Number {i}.", "style": "user_qa"} for i in range(1 + item % 3)]
        pictures = [np.zeros((60, 80, 3), np.uint8)] * (item % 4 > 0) + [np.zeros((90, 40, 3), np.uint8)] * (
            item % 4 > 2
        )
        return {"message_list": branches, **({"image": pictures} if pictures else {})}


def test_in_packed_batches_of_the_loader_the_mask_is_the_rule_read_aloud():
    gm.register_dataset("attention-trees", lambda split: Trees())
    stage = gm.Stage(mixture={"attention_trees": 1}, seq_len=1024, batch_size=2, max_crops=1, crops_per_row=6)
    tokenizer = gm.load_tokenizer("bytes")
    masks = {mode: jax.jit(partial(attention_mask, mode=mode, special_base=tokenizer.special_base)) for mode in MODES}
    with gm.make_loader(stage, tokenizer=tokenizer, num_threads=1) as loader:
        batch = next(loader)
    segments = batch["segment_ids"]
    assert segments.max() > 1
    assert {0, 1, SHARED_SUBSEGMENT} <= set(np.unique(batch["subsegment_ids"]))
    for row in range(2):
        ids = np.where(segments[row] > 0, batch["input_tokens"][row], -1)
        published = np.where(segments[row] > 0, batch["subsegment_ids"][row] + 100_000 * (segments[row] - 1), -1)
        for mode in MODES:
            by_words = _rule_in_arrays(ids - tokenizer.special_base, published, ids != -1, mode)
            np.testing.assert_array_equal(masks[mode](batch)[row], by_words)


def _rule_in_arrays(offsets, subsegments, valid, mode):
    """`rule_read_aloud` for rows too long for loops."""
    q, k = np.indices((len(offsets),) * 2)
    sees = k <= q
    if mode is not None:
        visual = np.isin(offsets, VISUAL_OFFSETS) & valid
        both_ways = visual[q] & visual[k] & (subsegments[q] // 100_000 == subsegments[k] // 100_000)
        if mode == "within_image":
            frames = np.isin(offsets, (FRAME_START, LOW_RES_IM_START)).cumsum()
            both_ways &= frames[k] <= frames[q]
        sees |= both_ways
    return valid[k] & sees & (subsegments[q] <= subsegments[k])


def test_rows_may_be_sharded_by_explicit_axes():
    arrays, _, _ = packed([tree([TEXT, BASE + IM_PATCH], [3])])
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    sharded = {key: jax.device_put(array, rows) for key, array in arrays.items()}
    mask = jax.jit(partial(attention_mask, mode="within_image", special_base=BASE))(sharded)
    np.testing.assert_array_equal(mask, attention_mask(arrays, "within_image", BASE))
    assert mask.sharding.spec[0] == "data"


@pytest.mark.parametrize("sizes", [(7, 8), (8, 7), (0, 8), (8, 96)])
def test_blocks_that_do_not_divide_the_row_are_refused(sizes):
    arrays, _, _ = packed([])
    with pytest.raises(
        ConfigError, match=f"{T} tokens do not divide into blocks of {max(sizes, key=lambda n: n != 8)}"
    ):
        attention_blocks(*attention_keys(arrays), *sizes)


def test_a_mode_that_does_not_exist_or_lacks_the_tokenizer_is_refused():
    arrays, _, _ = packed([])
    with pytest.raises(ConfigError, match="one of None"):
        attention_mask(arrays, "images", BASE)  # pyright: ignore
    with pytest.raises(ConfigError, match="special_base"):
        attention_mask(arrays, "image_tokens")
