"""The mixture: exact shares, every example once an epoch, and one fixed order however it is read."""

import hashlib
import logging
import pickle
import sys
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor

import grain
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grain_molmo.errors import ConfigError
from grain_molmo.packing.mixture import BLOCK, Draw, MixedStream, allocate, log_mixture, normalize_weights
from grain_molmo.packing.shuffle import ShuffledEpochs

BRIEF = {"a": 60, "b": 25, "c": 5, "d": 5, "e": 5}
SIZES = {"a": 1000, "b": 70_000, "c": 3, "d": 40, "e": 1}
MIXTURES = {
    "brief": BRIEF,
    "one": {"a": 0.3},
    "thirds": {"a": 1, "b": 1, "c": 1},
    "two_to_one": {"a": 2, "b": 1},
    "120_alike": {f"set{number}": 1.0 for number in range(120)},
    "120_unlike": {f"set{number}": 1 / (number + 1) for number in range(120)},
    "one_large_119_tiny": {"large": 1.0, **{f"set{number}": 1e-6 for number in range(119)}},
    "tiny": {"a": 1.0, "b": 1e-6, "c": 1e-9, "none": 0.0},
}


def draws_of(weights: dict[str, float], count: int, seed: int = 0, size: int = 97) -> list[Draw]:
    stream = MixedStream(weights, {name: SIZES.get(name, size) for name in weights}, seed)
    return [stream[number] for number in range(count)]


@pytest.mark.parametrize("name", MIXTURES)
def test_shares_are_exact_after_every_block_and_overall(name: str):
    weights = normalize_weights(MIXTURES[name])
    count = 100_000 if name in ("brief", "120_unlike", "tiny") else 30_000
    counts = dict.fromkeys(weights, 0)
    for number, draw in enumerate(draws_of(MIXTURES[name], count), 1):
        counts[draw.dataset] += 1
        if number % BLOCK == 0:
            assert all(abs(counts[each] - weight * number) < 1.5 for each, weight in weights.items())
    assert all(abs(counts[each] / count - weight) < 0.001 for each, weight in weights.items())
    assert "none" not in counts


def test_a_weight_of_a_millionth_is_drawn_once_in_a_million():
    stream = MixedStream({"a": 1.0, "b": 1e-6}, {"a": 10, "b": 10}, seed=0)
    assert stream.drawn_before(10 * BLOCK) == {"a": 10 * BLOCK, "b": 0}
    assert stream.drawn_before(4_000_000) == {"a": 3_999_996, "b": 4}


@pytest.mark.parametrize("name", MIXTURES)
def test_a_dataset_s_draws_are_its_own_epochs_in_order(name: str):
    seen = defaultdict(list)
    for draw in draws_of(MIXTURES[name], 5000, seed=3):
        seen[draw.dataset].append((draw.epoch, draw.index))
    for dataset, draws in seen.items():
        own = ShuffledEpochs(dataset, SIZES.get(dataset, 97), seed=3)
        assert draws == [own[number] for number in range(len(draws))]


def test_every_example_comes_once_an_epoch():
    seen = Counter(draws_of({"a": 3, "d": 1}, 4000))
    assert set(seen.values()) == {1}
    for epoch in range(2):
        assert sum(draw.dataset == "a" and draw.epoch == epoch for draw in seen) == 1000


def test_another_dataset_changes_no_draw_of_the_others():
    def by_dataset(weights: dict[str, float]) -> dict[str, list[Draw]]:
        found = defaultdict(list)
        for draw in draws_of(weights, 20_000):
            found[draw.dataset].append(draw)
        return found

    before, after = by_dataset(BRIEF), by_dataset({**BRIEF, "b2": 40, "z": 1})
    for name in BRIEF:
        shorter = min(len(before[name]), len(after[name]))
        assert shorter > 500
        assert before[name][:shorter] == after[name][:shorter]


def test_the_stream_stays_what_it_is():
    draws = draws_of(BRIEF, 5000, seed=3)
    assert draws[:3] == [Draw("a", 0, 143), Draw("c", 0, 1), Draw("a", 0, 188)]
    numbers = np.array([("abcde".index(draw.dataset), draw.epoch, draw.index) for draw in draws], np.int64)
    assert hashlib.sha256(numbers.tobytes()).hexdigest()[:16] == "769b4f1e3c4a040e"


def test_another_seed_is_another_order_of_the_same_shares():
    one, other = draws_of(BRIEF, 2 * BLOCK, seed=0), draws_of(BRIEF, 2 * BLOCK, seed=1)
    assert one != other
    assert Counter(draw.dataset for draw in one) == Counter(draw.dataset for draw in other)
    assert [draw.dataset for draw in one] != [draw.dataset for draw in other]


def test_blocks_are_shuffled_so_that_no_stride_sees_one_dataset_alone():
    draws = [draw.dataset for draw in draws_of({"a": 1, "b": 1}, 4 * BLOCK)]
    for stride in (2, 4, 8):
        for offset in range(stride):
            share = draws[offset::stride].count("a") / len(draws[offset::stride])
            assert 0.4 < share < 0.6


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=30))
@settings(max_examples=30)
def test_reading_anywhere_equals_reading_in_order(positions: list[int]):
    stream = MixedStream(BRIEF, SIZES, seed=3)
    assert [stream[position] for position in positions] == [_IN_ORDER[position] for position in positions]


_IN_ORDER = draws_of(BRIEF, 20_001, seed=3)


def test_threads_read_the_same_stream():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that threads meet within the few lines that fill in blocks
    try:
        for _ in range(5):
            stream = MixedStream(BRIEF, SIZES, seed=3)
            starts = range(0, 19_900, 1_111)
            with ThreadPoolExecutor(8) as pool:
                found = list(pool.map(lambda start, stream=stream: [stream[start + i] for i in range(5)], starts))
            assert found == [_IN_ORDER[start : start + 5] for start in starts]
    finally:
        sys.setswitchinterval(interval)


def test_the_stream_is_a_grain_dataset():
    stream = MixedStream(BRIEF, SIZES, seed=3)
    copy = pickle.loads(pickle.dumps(stream))
    assert [copy[number] for number in range(100)] == _IN_ORDER[:100]
    sliced = stream[7::3]
    assert [sliced[number] for number in range(100)] == _IN_ORDER[7:307:3]
    iterator = iter(stream.map(lambda draw: draw.index).to_iter_dataset(grain.ReadOptions(num_threads=4)))
    assert [next(iterator) for _ in range(2000)] == [draw.index for draw in _IN_ORDER[:2000]]
    state = iterator.get_state()
    following = [next(iterator) for _ in range(10)]
    iterator.set_state(state)
    assert [next(iterator) for _ in range(10)] == following == [draw.index for draw in _IN_ORDER[2000:2010]]


def test_there_is_nothing_before_the_first_draw():
    with pytest.raises(IndexError, match="draw -1"):
        MixedStream(BRIEF, SIZES, seed=3)[-1]


@pytest.mark.parametrize("weight", [-1, -1e-300, float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_none_is_refused_by_name(weight: float):
    with pytest.raises(ConfigError, match=f"weight of 'b' is {weight}"):
        MixedStream({"a": 1, "b": weight}, SIZES, seed=0)


@pytest.mark.parametrize("weights", [{}, {"a": 0}, {"a": 0.0, "b": 0}])
def test_a_mixture_of_nothing_is_refused(weights: dict[str, float]):
    with pytest.raises(ConfigError, match="no dataset has a positive weight"):
        normalize_weights(weights)


def test_a_dataset_without_examples_is_refused_by_name_unless_it_is_left_out():
    with pytest.raises(ConfigError, match="'b' has no examples"):
        MixedStream({"a": 1, "b": 1}, {"a": 1, "b": 0}, seed=0)
    assert MixedStream({"a": 1, "b": 0}, {"a": 1, "b": 0}, seed=0)[5] == Draw("a", 5, 0)


def test_weights_are_shares_in_alphabetical_order():
    assert normalize_weights({"c": 0, "b": 3, "a": 1}) == {"a": 0.25, "b": 0.75}
    assert [*normalize_weights({"c": 1, "b": 3, "a": 1})] == ["a", "b", "c"]


@st.composite
def targets(draw: st.DrawFn) -> tuple[list[float], int]:
    """Targets that sum to a whole number of slots; some negative, as for a dataset that is ahead."""
    values = draw(st.lists(st.floats(-3, 50), min_size=1, max_size=40))
    slots = max(0, round(sum(values)) + draw(st.integers(0, 3)))
    values[0] += slots - sum(values)
    return values, slots


@given(targets())
@example(([10.0, -1.0, -1.0, -1.0], 7))
@example(([0.5] * 7 + [0.5], 4))
@settings(max_examples=300)
def test_allocated_numbers_are_whole_sum_up_and_lie_near_their_targets(case: tuple[list[float], int]):
    targets, slots = np.array(case[0]), case[1]
    counts = allocate(targets, slots)
    assert counts.dtype == np.int64
    assert counts.sum() == slots
    assert counts.min() >= 0
    if targets.min() >= 0:
        assert np.abs(counts - targets).max() < 1 + 1e-9
    # No one gets more than one above its target, or than nothing; the shortfall of the negative is shared by the rest.
    assert (counts <= np.maximum(targets, 0) + 1 + 1e-9).all()


def test_the_mixture_is_logged_with_the_largest_share_first(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="grain_molmo"):
        log_mixture(normalize_weights({"a": 1, "b": 3}), {"a": 5, "b": 12_345})
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "mixture of 2 datasets from step 0:"
    assert lines[1].split() == ["75.00", "%", "b", "12,345", "examples"]
