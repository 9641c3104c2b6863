"""Orders: every index once an epoch, none like another, and the same for all time."""

import hashlib
import pickle

import grain
import numpy as np
import pytest

from grain_molmo.packing.shuffle import ShuffledEpochs, permutation


def fingerprint(numbers: list[int]) -> str:
    return hashlib.sha256(np.asarray(numbers, np.int64).tobytes()).hexdigest()[:16]


def test_every_size_up_to_2000_is_a_permutation():
    for size in range(1, 2001):
        order = permutation(size, seed=size)
        assert np.array_equal(np.sort(order), np.arange(size))  # pyright: ignore[reportArgumentType]


# Grain's own shuffle repeats an index at 65,537 and 262,145.
@pytest.mark.parametrize("size", [65_536, 65_537, 65_538, 262_145])
def test_sizes_at_which_the_way_to_shuffle_changes_are_permutations(size: int):
    order = permutation(size, seed=1)
    assert len(order) == size
    seen = np.zeros(size, bool)
    for position in range(size):
        seen[order[position]] = True
    assert seen.all()


def test_a_large_order_takes_no_memory():
    size = 3_000_000_000
    order = permutation(size, seed=1)
    found = {order[position] for position in range(0, size, size // 100)}
    assert len(found) == 100
    assert all(0 <= index < size for index in found)


@pytest.mark.parametrize(
    ("size", "first_thousand"),
    [
        (1, "af5570f5a1810b7a"),
        (2, "9d34149fbd1fe777"),
        (1000, "be32b5b1664f0896"),
        (65_536, "95c47382d49cd501"),
        (65_537, "ae327fa25df7c3fd"),
        (65_538, "ba4fe00e560787f6"),
        (262_145, "0c8b53f6ac551d5a"),
    ],
)
def test_orders_stay_what_they_are(size: int, first_thousand: str):
    order = permutation(size, seed=7)
    assert fingerprint([int(order[position]) for position in range(min(size, 1000))]) == first_thousand


def test_a_small_order_stays_what_it_is():
    assert list(permutation(10, seed=7)) == [4, 5, 9, 8, 1, 7, 6, 0, 2, 3]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_every_epoch_shows_every_example_once(size: int):
    draws = ShuffledEpochs("a", size, seed=0)
    for epoch in range(4):
        seen = [draws[epoch * size + place] for place in range(size)]
        assert {number for number, _ in seen} == {epoch}
        assert sorted(index for _, index in seen) == [*range(size)]


@pytest.mark.parametrize("size", [50, 70_000])
def test_orders_differ_by_epoch_name_and_seed_and_do_not_run_in_lockstep(size: int):
    base = [ShuffledEpochs("a", size, 0)[place][1] for place in range(50)]
    others = {
        "the same": [ShuffledEpochs("a", size, 0)[place][1] for place in range(50)],
        "epoch": [ShuffledEpochs("a", size, 0)[size + place][1] for place in range(50)],
        "name": [ShuffledEpochs("b", size, 0)[place][1] for place in range(50)],
        "seed": [ShuffledEpochs("a", size, 1)[place][1] for place in range(50)],
    }
    equal_places = {name: sum(x == y for x, y in zip(base, order, strict=True)) for name, order in others.items()}
    assert equal_places.pop("the same") == 50
    assert max(equal_places.values()) < 8  # about one place in `size` is equal by chance


def test_positions_may_be_read_in_any_order():
    draws = ShuffledEpochs("a", 13, seed=0)
    expected = [draws[number] for number in range(130)]
    again = ShuffledEpochs("a", 13, seed=0)
    for number in np.random.RandomState(0).permutation(130):
        assert again[int(number)] == expected[number]


def test_epochs_are_a_grain_dataset():
    draws = ShuffledEpochs("a", 13, seed=0)
    expected = [draws[number] for number in range(60)]
    copy = pickle.loads(pickle.dumps(draws))
    assert [copy[number] for number in range(60)] == expected
    assert [draws[1::2][number] for number in range(30)] == expected[1::2]
    mapped = iter(draws.map(lambda draw: draw[1]).to_iter_dataset(grain.ReadOptions(num_threads=4)))
    assert [next(mapped) for _ in range(60)] == [index for _, index in expected]


def test_the_largest_sizes_take_no_memory():
    order = permutation(2**40 + 1, seed=3)
    assert len(order) == 2**40 + 1
    places = [0, 1, 3, 2**33, 2**40]
    assert len({order[place] for place in places}) == len(places)
    assert all(0 <= order[place] <= 2**40 for place in places)
