"""The order of rows that gives every host about the same work."""

import random

from hypothesis import given
from hypothesis import strategies as st

from grain_molmo.packing.balance import balanced_order

COSTS = st.lists(st.integers(0, 2000), min_size=1, max_size=130)


def parts_of(costs: list[int], order: list[int], count: int) -> list[int]:
    """Cost of each of so many contiguous parts."""
    size = len(order) // count
    return [sum(costs[row] for row in order[start : start + size]) for start in range(0, len(order), size)]


@given(COSTS)
def test_every_row_comes_once(costs: list[int]):
    assert sorted(balanced_order(costs)) == [*range(len(costs))]


@given(COSTS.filter(lambda costs: len(costs) % 2 == 0))
def test_two_halves_differ_by_no_more_than_the_most_expensive_row(costs: list[int]):
    one, other = parts_of(costs, balanced_order(costs), 2)
    assert abs(one - other) <= max(costs)


def test_hosts_get_nearly_equal_work_however_many_they_are():
    rng = random.Random(0)
    # Like long context: most rows hold a long video, some hold text and pictures.
    costs = [rng.choice((0, 24, 200, 1536)) + rng.randrange(40) for _ in range(1024)]
    order = balanced_order(costs)
    for count in (2, 4, 8, 16, 32, 64, 128):
        parts = parts_of(costs, order, count)
        assert max(parts) - min(parts) <= max(costs)  # one long video: nothing can do better for some counts
    unbalanced = parts_of(costs, [*range(1024)], 64)
    assert max(unbalanced) - min(unbalanced) > 4 * max(costs)


def test_numbers_that_are_no_power_of_two_are_dealt_out_too():
    rng = random.Random(1)
    costs = [rng.randrange(500) for _ in range(96)]
    for count in (3, 6, 12):
        parts = parts_of(costs, balanced_order(costs), count)
        assert max(parts) < 1.25 * sum(parts) / count


def test_orders_stay_what_they_are():
    assert balanced_order([9, 1, 8, 2]) == [0, 1, 2, 3]
    assert balanced_order([9, 8, 2, 1]) == [0, 3, 1, 2]
    assert balanced_order([5, 5, 5, 5, 5, 5]) == [0, 2, 4, 1, 3, 5]
    assert balanced_order([]) == []
