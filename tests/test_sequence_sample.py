from types import SimpleNamespace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grain_molmo.errors import ConfigError
from grain_molmo.mesh import batch_sharding
from grain_molmo.sequence_sample import SequenceSample, prompt_sample


def sample_of(seqlens, first=0, **more):
    ids = [f"q{first + number}" for number in range(len(seqlens))]
    tokens = np.arange(100 * first, 100 * first + sum(seqlens), dtype=np.int32)
    rewards = np.arange(len(seqlens), dtype=np.float32)
    data = {"packed_prompts": tokens, "rewards": rewards}
    return SequenceSample.from_default(ids, seqlens, data, [{"number": first + n} for n in range(len(seqlens))])


def same(one, other):
    return (one.ids, one.seqlens, one.metadata) == (other.ids, other.seqlens, other.metadata) and all(
        np.array_equal(one.data[key], other.data[key]) and one.data[key].dtype == other.data[key].dtype
        for key in one.data.keys() | other.data.keys()
    )


def test_a_sample_unpacks_into_its_sequences():
    first, second = sample_of([2, 3]).unpack()
    assert (first.ids, first.seqlens, first.metadata) == (("q0",), (2,), ({"number": 0},))
    assert second.data["packed_prompts"].tolist() == [2, 3, 4]
    assert second.data["rewards"].tolist() == [1.0]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8))
def test_what_is_unpacked_gathers_again(seqlens):
    sample = sample_of(seqlens)
    parts = sample.unpack()
    assert [len(part) for part in parts] == [1] * len(sample)
    assert same(SequenceSample.gather(parts), sample)


def test_gathered_samples_lie_one_behind_the_other():
    gathered = SequenceSample.gather([sample_of([2]), sample_of([1, 3], first=1)])
    assert gathered.ids == ("q0", "q1", "q2")
    assert gathered.data["packed_prompts"].tolist() == [0, 1, 100, 101, 102, 103]
    assert gathered.offsets_N1.tolist() == [0, 2, 3, 6]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"ids": ["a"], "seqlens": [1, 2], "data": {}}, "1 ids, 2 seqlens"),
        ({"ids": ["a"], "seqlens": [1], "data": {}, "metadata": []}, "0 metadata"),
        ({"ids": ["a"], "seqlens": [0], "data": {}}, "at least one token"),
        ({"ids": ["a", "b"], "seqlens": [2, 2], "data": {"x": [1, 2, 3]}}, r"x has shape \(3,\).* 4 tokens or 2 ids"),
        ({"ids": ["a"], "seqlens": [2], "data": {"x": 1}}, r"x has shape \(\)"),
    ],
)
def test_what_does_not_fit_together_is_refused(arguments, problem):
    with pytest.raises(ConfigError, match=problem):
        SequenceSample.from_default(**arguments)


def test_only_samples_of_the_same_data_gather():
    with pytest.raises(ConfigError, match="no samples"):
        SequenceSample.gather([])
    other = SequenceSample.from_default(["a"], [1], {"tokens": [1]})
    with pytest.raises(ConfigError, match=r"\['packed_prompts', 'rewards'\] and with \['tokens'\]"):
        SequenceSample.gather([sample_of([1]), other])


def info_of(rows, row_numbers):
    return SimpleNamespace(row_numbers=row_numbers, rows=rows)


def prompt(name, start, stop, blanked=None):
    return SimpleNamespace(
        id=name, dataset="set", tokens=(start, stop), blanked=blanked, metadata={"solutions": [name]}
    )


def test_the_prompts_of_a_batch_are_told_by_row():
    tokens = np.arange(20, dtype=np.int32).reshape(2, 10)
    rows = [[prompt("a", 0, 3), prompt("b", 3, 5, blanked="truncated"), prompt("c", 5, 6)], [prompt("d", 0, 2)]]
    sample = prompt_sample({"input_tokens": tokens}, info_of(rows, [4, 5]))
    assert sample.ids == ("a", "c", "d")
    assert sample.seqlens == (3, 1, 2)
    assert sample.data["packed_prompts"].tolist() == [0, 1, 2, 5, 10, 11]
    assert sample.data["packed_prompts"].dtype == np.int32
    assert sample.metadata[1] == {"solutions": ["c"], "dataset": "set", "row": 4, "tokens": (5, 6)}


def test_a_batch_without_prompts_is_an_empty_sample():
    sample = prompt_sample({"input_tokens": np.zeros((1, 4), np.int32)}, info_of([[]], [0]))
    assert len(sample) == 0
    assert sample.data["packed_prompts"].shape == (0,)
    assert sample.unpack() == []


def test_prompts_are_found_on_a_mesh_that_cuts_rows():
    devices = np.array(jax.devices("cpu")[:8])
    mesh = jax.sharding.Mesh(np.random.default_rng(0).permutation(devices).reshape(2, 2, 2), ("data", "context", "tp"))
    tokens = np.arange(40, dtype=np.int32).reshape(4, 10)
    rows = [[prompt(f"p{row}", 2, 8)] for row in range(4)]
    expected = prompt_sample({"input_tokens": tokens}, info_of(rows, range(4)))
    found = prompt_sample({"input_tokens": jax.device_put(tokens, batch_sharding(mesh))}, info_of(rows, range(4)))
    assert same(found, expected)
