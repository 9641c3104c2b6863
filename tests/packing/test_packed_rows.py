"""The plan as an iterator: batches that any step can be resumed at, with the broken examples left out."""

import json
import random
from dataclasses import dataclass

import grain
import pytest

from grain_molmo.errors import ExampleError, StoreError
from grain_molmo.packing.mixture import Draw, MixedStream
from grain_molmo.packing.rows import PackedRows, PlannedBatch
from grain_molmo.rng import stable_hash

SIZES = {"a": 300, "b": 40}


@dataclass(frozen=True)
class Fake:
    """An encoded example whose lengths depend on the draw alone."""

    draw: Draw
    n_tokens: int
    n_crops: int


def encode(draw: Draw) -> Fake:
    number = stable_hash(draw.dataset, draw.epoch, draw.index)
    return Fake(draw, 1 + number % 50, number // 64 % 5)


def encode_most(draw: Draw) -> Fake:
    """Every seventh example cannot be encoded."""
    if draw.index % 7 == 0:
        raise ExampleError("broken", f"number {draw.index}")
    return encode(draw)


def plan_of(encoder=encode, batch_size: int = 4) -> PackedRows:
    stream = MixedStream({"a": 3, "b": 1}, SIZES, seed=0)
    return PackedRows(stream, encoder, batch_size=batch_size, max_tokens=100, max_crops=9, waiting=12)


def take(iterator, count: int) -> list[PlannedBatch]:
    return [next(iterator) for _ in range(count)]


def draws_in(batches: list[PlannedBatch]) -> list[Draw]:
    return [example.draw for batch in batches for row in batch.rows for example in row]


def test_batches_hold_the_stream_once_within_the_budgets():
    plan = plan_of()
    iterator = iter(plan)
    batches = take(iterator, 50)
    assert [batch.step for batch in batches] == [*range(50)]
    for batch in batches:
        assert len(batch.rows) == 4
        assert batch.skipped == []
        for row in batch.rows:
            assert sum(example.n_tokens for example in row) <= 100
            assert sum(example.n_crops for example in row) <= 9
    state = iterator.get_state()
    seen = draws_in(batches) + [plan.stream[position] for position in state["waiting"] if position >= 0]
    assert sorted(map(repr, seen)) == sorted(repr(plan.stream[position]) for position in range(state["position"]))


def test_a_fresh_iterator_goes_on_at_any_step_as_if_nothing_had_happened():
    iterator, states, batches = iter(plan_of(encode_most)), [], []
    for _ in range(60):
        states.append(json.dumps(iterator.get_state()))
        batches.append(next(iterator))
    for step in random.Random(0).sample(range(60), 20):
        fresh = iter(plan_of(encode_most))
        fresh.set_state(json.loads(states[step]))
        assert json.dumps(fresh.get_state()) == states[step]
        assert take(fresh, 5 if step < 55 else 60 - step) == batches[step : step + 5]


def test_an_iterator_can_be_set_back_while_it_runs():
    iterator = iter(plan_of())
    take(iterator, 3)
    state = iterator.get_state()
    expected = take(iterator, 4)
    for _ in range(2):
        iterator.set_state(state)
        assert take(iterator, 4) == expected
    assert iter(plan_of()).get_state() == {"step": 0, "position": 0, "waiting": [-1] * 12}


def test_a_state_is_small_json_of_the_same_size_at_any_step():
    iterator = iter(plan_of())
    take(iterator, 200)
    state = iterator.get_state()
    assert json.loads(json.dumps(state)) == state
    assert len(json.dumps(state)) < 200
    assert state["step"] == 200


def test_resuming_encodes_what_waits_and_nothing_else():
    iterator = iter(plan_of())
    take(iterator, 100)
    state, encoded = iterator.get_state(), []
    fresh = iter(plan_of(lambda draw: encoded.append(draw) or encode(draw)))
    fresh.set_state(state)
    assert len(encoded) == sum(position >= 0 for position in state["waiting"])


def test_two_iterators_of_one_plan_do_not_disturb_each_other():
    plan = plan_of()
    one, other = iter(plan), iter(plan)
    first = take(one, 5)
    assert take(other, 10)[:5] == first


def test_batches_of_another_size_hold_the_same_rows():
    small = [row for batch in take(iter(plan_of(batch_size=2)), 20) for row in batch.rows]
    large = [row for batch in take(iter(plan_of(batch_size=8)), 5) for row in batch.rows]
    assert small == large


def test_examples_that_cannot_be_encoded_are_recorded_and_shift_no_other():
    plan = plan_of(encode_most)
    iterator = iter(plan)
    batches = take(iterator, 50)
    skipped = [skip for batch in batches for skip in batch.skipped]
    stream = [plan.stream[position] for position in range(iterator.get_state()["position"])]
    assert [skip.draw for skip in skipped] == [draw for draw in stream if draw.index % 7 == 0]
    assert {(skip.reason, skip.detail) for skip in skipped if skip.draw.index == 14} == {("broken", "number 14")}
    waiting = [position for position in iterator.get_state()["waiting"] if position >= 0]
    kept = draws_in(batches) + [plan.stream[position] for position in waiting]
    assert sorted(map(repr, kept)) == sorted(repr(draw) for draw in stream if draw.index % 7)


def test_a_thousand_broken_examples_in_a_row_are_an_error_and_999_are_not():
    def encode_from(position: int):
        calls = iter(range(10**9))

        def encode_later(draw: Draw) -> Fake:
            if 3 <= next(calls) < position:
                raise ExampleError("no_answer", f"{draw.dataset} {draw.index} says nothing")
            return encode(draw)

        return encode_later

    assert len(next(iter(plan_of(encode_from(3 + 999)))).skipped) == 999
    with pytest.raises(ExampleError, match=r"1000 examples in a row cannot be used; the last: [ab] \d+ says nothing"):
        next(iter(plan_of(encode_from(3 + 1000))))


def test_an_iterator_that_met_an_exception_goes_on_without_a_gap():
    expected = take(iter(plan_of(encode_most)), 12)
    calls, fails = iter(range(10**9)), random.Random(0).sample(range(300), 30)

    def encode_unsteadily(draw: Draw) -> Fake:
        if next(calls) in fails:
            raise StoreError("the disk is away")
        return encode_most(draw)

    iterator, found, state = iter(plan_of(encode_unsteadily)), [], None
    failures = 0
    while len(found) < 12:
        state = iterator.get_state()
        try:
            found.append(next(iterator))
        except StoreError:
            failures += 1
            assert iterator.get_state() == state  # still that of the last batch handed out
    assert failures > 5
    assert found == expected


def test_a_plan_is_a_grain_dataset_with_threads_and_checkpoints():
    expected = take(iter(plan_of()), 30)
    steps = plan_of().map(lambda batch: (batch.step, batch.rows))
    iterator = iter(grain.experimental.ThreadPrefetchIterDataset(steps, prefetch_buffer_size=3))
    assert take(iterator, 10) == [(batch.step, batch.rows) for batch in expected[:10]]
    state = iterator.get_state()
    take(iterator, 7)
    iterator.set_state(state)
    assert take(iterator, 20) == [(batch.step, batch.rows) for batch in expected[10:30]]
    iterator.close()
