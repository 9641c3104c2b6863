"""Rows: every example in one of them, no budget exceeded, none waits for ever, and a pool that can be put back."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grain_molmo.packing.planner import RowPacker, Waiting

Row = list[int]


def examples_of(lengths: Iterable[tuple[int, int]]) -> list[Waiting[str]]:
    return [Waiting(number, *each, f"item {number}") for number, each in enumerate(lengths)]


def pack(packer: RowPacker[str], examples: Sequence[Waiting[str]]) -> list[Row]:
    """The rows as stream positions; checks that what comes out is what went in."""
    rows = []
    for waiting in examples:
        row = packer.add(waiting)
        if row is not None:
            assert all(one.item == f"item {one.position}" for one in row)
            rows.append([one.position for one in row])
    return rows


@st.composite
def streams(draw: st.DrawFn) -> tuple[int, int, int, list[tuple[int, int]]]:
    """Budgets, places, and the lengths of a stream that fits them; many lengths equal, some zero, some the budget."""
    max_tokens, max_crops = draw(st.integers(1, 60)), draw(st.integers(0, 12))
    tokens = st.integers(1, max_tokens) | st.sampled_from([1, max_tokens])
    crops = st.integers(0, max_crops) | st.sampled_from([0, max_crops])
    return max_tokens, max_crops, draw(st.integers(1, 12)), draw(st.lists(st.tuples(tokens, crops), max_size=80))


@given(streams())
@settings(max_examples=200)
def test_every_example_is_in_one_row_within_both_budgets(stream):
    max_tokens, max_crops, places, lengths = stream
    packer, examples = RowPacker[str](max_tokens, max_crops, places), examples_of(lengths)
    rows = pack(packer, examples)
    rows += [[one.position for one in row] for row in packer.drain()]
    assert sorted(position for row in rows for position in row) == [*range(len(lengths))]
    for row in rows:
        assert row == sorted(row)
        assert sum(lengths[position][0] for position in row) <= max_tokens
        assert sum(lengths[position][1] for position in row) <= max_crops
    assert packer.waiting == [None] * places
    assert packer.drain() == []


@given(streams())
@settings(max_examples=100)
def test_no_example_waits_for_more_rows_than_the_pool_has_places(stream):
    max_tokens, max_crops, places, lengths = stream
    packer, waited = RowPacker[str](max_tokens, max_crops, places), {}
    for waiting in examples_of(lengths):
        waited[waiting.position] = 0
        row = packer.add(waiting)
        if row is not None:
            for one in row:
                assert waited.pop(one.position) < places
            waited = {position: rows + 1 for position, rows in waited.items()}


@given(streams(), st.data())
@settings(max_examples=150)
def test_a_pool_put_back_goes_on_as_the_one_it_was_taken_from(stream, data: st.DataObject):
    max_tokens, max_crops, places, lengths = stream
    examples = examples_of(lengths)
    stop = data.draw(st.integers(0, len(examples)))
    packer = RowPacker[str](max_tokens, max_crops, places)
    pack(packer, examples[:stop])
    unwanted = data.draw(st.sets(st.integers(0, max(0, stop - 1))))
    packer.discard(lambda item: int(item.removeprefix("item ")) in unwanted)
    waiting = packer.waiting
    assert not unwanted & {one.position for one in waiting if one is not None}
    other = RowPacker[str](max_tokens, max_crops, places)
    other.restore(waiting)
    assert other.waiting == waiting
    assert pack(other, examples[stop:]) == pack(packer, examples[stop:])
    assert other.waiting == packer.waiting
    assert other.drain() == packer.drain()


def random_lengths(count: int) -> list[tuple[int, int]]:
    random = np.random.RandomState(5)
    return [(int(random.randint(10, 2000)), int(random.randint(0, 13))) for _ in range(count)]


def test_rows_stay_what_they_are():
    rows = pack(RowPacker(4096, 24, 48), examples_of(random_lengths(3000)))
    numbers = np.array([number for row in rows for number in (len(row), *row)], np.int64)
    assert hashlib.sha256(numbers.tobytes()).hexdigest()[:16] == "d9134bd79bb60f79"


def test_rows_are_as_full_as_the_scarcer_budget_allows():
    lengths = random_lengths(3000)
    rows = pack(RowPacker(4096, 24, 48), examples_of(lengths))
    packed = [lengths[position] for row in rows for position in row]
    fill = max(sum(tokens for tokens, _ in packed) / 4096, sum(crops for _, crops in packed) / 24) / len(rows)
    assert fill > 0.97


def test_a_pair_that_fills_a_row_exactly_is_found():
    # The oldest takes 50 of 100 tokens; 20 + 30 fill it, though 45 is the longest that fits.
    lengths = [(50, 1), (45, 1), (20, 1), (40, 2), (30, 1), (60, 9)]
    assert pack(RowPacker(100, 12, 6), examples_of(lengths))[0] == [0, 2, 4]


def test_an_example_that_takes_the_whole_row_is_a_row():
    packer = RowPacker[str](10, 3, 1)
    assert pack(packer, examples_of([(10, 3), (10, 0), (1, 3)])) == [[0], [1], [2]]


def test_text_alone_packs_with_no_crops_in_the_budget_or_with_many():
    for max_crops in (0, 24):
        rows = pack(RowPacker(10, max_crops, 4), examples_of([(5, 0)] * 8))
        assert [len(row) for row in rows] == [2, 2, 2]


def test_large_budgets_do_not_overflow():
    tokens, crops = 1 << 21, 1 << 14
    lengths = [(tokens, crops), (tokens // 2, crops // 2), (tokens // 2, crops // 2), (tokens // 4, crops // 4)]
    assert pack(RowPacker(tokens, crops, 2), examples_of(lengths))[:2] == [[0], [1, 2]]


@pytest.mark.parametrize(("tokens", "crops"), [(11, 0), (1, 4), (0, 0), (-1, 0), (1, -1)])
def test_an_example_that_fits_no_row_is_refused_and_takes_no_place(tokens: int, crops: int):
    packer = RowPacker[str](10, 3, 2)
    with pytest.raises(ValueError, match=f"{tokens} tokens and {crops} crops fits no row"):
        packer.add(Waiting(0, tokens, crops, "item 0"))
    assert packer.waiting == [None, None]
