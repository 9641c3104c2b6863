from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import grain_molmo as gm
from converters.to_arrayrecord import main as convert
from grain_molmo.curriculum import Curriculum, choose_removals, example_ids
from grain_molmo.errors import ConfigError, ExampleError

NAN, INF = float("nan"), float("inf")


class Texts(gm.Dataset):
    """Text-only examples; those without an id in `given` have no metadata, or None for an example that fails."""

    def __init__(self, given):
        self.given = given

    def __len__(self):
        return len(self.given)

    def get(self, item, rng):
        if self.given[item] is None:
            raise ExampleError("bad", "cannot be had")
        return {"messages": ["Say A.", "A."], **self.given[item]}


def removals(ids, scores, *, active=None, threshold=0.5, share=1.0):
    active_indices = np.arange(len(ids)) if active is None else np.array(active, int)
    curriculum = Curriculum(filter_threshold=threshold, max_filter_percentage=share)
    return choose_removals(ids, active_indices, scores, curriculum)


def removed(*args, **kwargs):
    return removals(*args, **kwargs).indices.tolist()


def filter_of_the_document(ids, active_indices, eval_scores, filter_threshold, max_filter_percentage):
    """The rule as published: positions among the active ones, popped from the last to the first."""
    active_indices = list(active_indices)
    scores = {
        position: eval_scores[ids[index]]
        for position, index in enumerate(active_indices)
        if ids[index] in eval_scores and eval_scores[ids[index]] > filter_threshold
    }
    most = int(len(active_indices) * max_filter_percentage)
    chosen = sorted(scores, key=scores.__getitem__, reverse=True)[:most]
    for position in sorted(chosen, reverse=True):
        active_indices.pop(position)
    return active_indices


names = st.sampled_from("abcdefg")
shares = st.floats(0, 1)


@given(
    st.lists(names, max_size=30),
    st.data(),
    st.dictionaries(names, st.floats(-1, 2)),
    st.floats(-1, 2),
    shares,
)
def test_what_stays_active_is_what_the_published_rule_leaves(ids, data, scores, threshold, share):
    active = data.draw(st.lists(st.sampled_from(range(len(ids))), unique=True) if ids else st.just([]))
    chosen = removed(ids, scores, active=active, threshold=threshold, share=share)
    assert len(chosen) == len(set(chosen))
    left = [index for index in active if index not in chosen]
    assert left == filter_of_the_document(ids, active, scores, threshold, share)


def test_the_highest_scores_go_first_and_only_those_above_the_threshold():
    scores = {"a": 0.6, "b": 0.5, "c": 0.9, "d": 0.7, "e": 0.1}
    assert removed("abcde", scores) == [2, 3, 0]
    assert removed("abcde", scores, share=0.4) == [2, 3]
    assert removed("abcde", scores, share=0.19) == []  # less than one of five


def test_a_share_is_of_the_examples_still_active():
    scores = dict.fromkeys("abcdefghij", 1.0)
    assert removed("abcdefghij", scores, active=[9, 8, 7, 6], share=0.5) == [9, 8]


def test_ties_go_in_the_order_of_the_active_indices():
    assert removed("abc", {"a": 0.8, "b": 0.8, "c": 0.8}, active=[2, 0, 1], share=0.7) == [2, 0]


def test_all_examples_of_one_id_are_removed_together():
    assert removed(["a", "b", "a"], {"a": 0.8}) == [0, 2]


def test_an_example_that_was_removed_before_is_neither_removed_again_nor_unknown():
    found = removals("abc", {"a": 0.9, "b": 0.9}, active=[1, 2])
    assert found.indices.tolist() == [1]
    assert found.unknown == 0


def test_unknown_ids_are_ignored_and_named():
    found = removals("abc", {"a": 0.9, "z": 0.9, "y": NAN})
    assert found.indices.tolist() == [0]
    assert found.unknown_ids == ("z", "y")
    assert (found.unknown, found.not_numbers) == (2, 0)


@pytest.mark.parametrize("score", [NAN, np.float32("nan"), None, "0.9", [0.9], np.array([0.9]), 1j, 10**400, {}])
def test_a_score_that_is_no_number_keeps_its_example_and_is_counted(score):
    found = removals("ab", {"a": score, "b": 0.9})
    assert found.indices.tolist() == [1]
    assert found.not_numbers == 1


@pytest.mark.parametrize(
    "score", [0.9, 1, True, np.float32(0.9), np.int8(1), np.bool_(True), np.array(0.9), jnp.array(0.9), Fraction(9, 10)]
)
def test_any_kind_of_scalar_is_a_score(score):
    assert removed("ab", {"a": score}) == [0]


def test_infinite_scores_are_above_or_below_everything():
    assert removed("abc", {"a": -INF, "b": 0.9, "c": INF}) == [2, 1]
    assert removed("ab", {"a": INF}, threshold=INF) == []
    assert removed("ab", {"a": -1e300, "b": -INF}, threshold=-INF) == [0]


def test_keys_that_are_no_strings_name_the_same_ids():
    assert removed(["7", "8"], {7: 0.9}) == [0]


def test_all_may_be_removed_and_an_empty_set_loses_none():
    found = removals("ab", {"a": 1.0, "b": 1.0})
    assert sorted(found.indices) == [0, 1]
    assert found.indices.dtype == np.int64
    empty = removals("ab", {"a": 1.0}, active=[]).indices
    assert (empty.shape, empty.dtype) == ((0,), np.int64)


@pytest.mark.parametrize("threshold", [NAN, None, "0.5"])
def test_a_threshold_that_is_no_number_is_refused(threshold):
    with pytest.raises(ConfigError, match="filter_threshold"):
        Curriculum(filter_threshold=threshold)


@pytest.mark.parametrize("share", [-0.1, 1.1, 10, NAN, None, "0.1"])
def test_a_share_outside_of_0_to_1_is_refused(share):
    with pytest.raises(ConfigError, match=r"from 0 to 1; 0.1 is 10 %"):
        Curriculum(filter_threshold=0.5, max_filter_percentage=share)


def test_ids_are_those_of_the_metadata_and_else_indices():
    examples = [{"metadata": {"id": "x"}}, {"metadata": {"id": 17}}, {"metadata": {}}, {}, {"metadata": "?"}, None]
    assert example_ids(Texts(examples)) == ["x", "17", "2", "3", "4", "5"]


def test_ids_are_those_of_examples_whatever_is_made_of_its_items():
    class Named(Texts):
        def __getitem__(self, item):
            return f"item {item}"

    assert example_ids(Named([{"metadata": {"id": "x"}}])) == ["x"]


def test_a_dataset_that_has_ids_is_not_run_through():
    dataset = Texts([None, None])
    dataset.ids = ["q1", 2]
    assert example_ids(dataset) == ["q1", "2"]
    dataset.ids = ["q1"]
    with pytest.raises(ConfigError, match="1 ids for 2 examples"):
        example_ids(dataset)


@pytest.mark.xdist_group("loader")
def test_ids_of_converted_datasets_are_those_of_their_examples(sample_dir, tmp_path):
    gm.write_dataset(Texts([{"metadata": {"id": "own"}}, {}]), tmp_path, "texts", progress=False)
    assert convert(["molmo2-cap", "--sample", "--rows", "3", "--data-dir", str(tmp_path)]) == 0
    opened = [gm.get_dataset(name, data_dir=sample_dir) for name in ("pixmo_cap", "pixmo_cap_qa", "pixmo_docs")]
    opened += [gm.get_dataset("pixmo_points", counting=way, data_dir=sample_dir) for way in ("both", True)]
    opened += [gm.get_dataset(name, data_dir=tmp_path) for name in ("texts", "molmo2_cap")]
    for dataset in opened:
        assert example_ids(dataset) == [example["metadata"]["id"] for example in dataset]
    assert example_ids(opened[-2]) == ["own", "000000001"]
