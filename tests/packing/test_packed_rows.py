"""The plan as an iterator: batches that any step can be resumed at, with the broken examples left out."""

import json
import random
from collections.abc import Sequence

import grain
import pytest

from grain_molmo.errors import ConfigError, ExampleError, FaultBudgetError, StoreError
from grain_molmo.packing.mixture import Draw
from grain_molmo.packing.rows import PackedRows, PlannedBatch, PlannedExample, PlanPhase
from grain_molmo.rng import stable_hash

SIZES = {"a": 300, "b": 40, "c": 1000}


def encode(draw: Draw) -> PlannedExample:
    """An example whose lengths depend on the draw alone."""
    number = stable_hash(draw.dataset, draw.epoch, draw.index)
    n_crops = number // 64 % 5
    return PlannedExample(draw, 1 + number % 50, n_crops, n_pooled=3 * n_crops, cost=n_crops)


def encode_most(draw: Draw) -> PlannedExample:
    """Every seventh example cannot be encoded."""
    if draw.index % 7 == 0:
        raise ExampleError("broken", f"number {draw.index}")
    return encode(draw)


def plan_of(encoder=encode, batch_size: int = 4, later: Sequence[PlanPhase] = ()) -> PackedRows:
    phases = [PlanPhase(0, {"a": 3, "b": 1}), *later]
    return PackedRows(phases, SIZES, 0, encoder, batch_size=batch_size, max_tokens=100, max_crops=9, waiting=12)


def take(iterator, count: int) -> list[PlannedBatch]:
    return [next(iterator) for _ in range(count)]


def draws_in(batches: list[PlannedBatch]) -> list[Draw]:
    return [example.draw for batch in batches for row in batch.rows for example in row]


def positions(state: dict) -> list[int]:
    """Of the examples that wait, in the stream."""
    return [state["position"] - waiting[1] for waiting in state["waiting"]]


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
    seen = draws_in(batches) + [plan.streams[0][position] for position in positions(state)]
    assert sorted(map(repr, seen)) == sorted(repr(plan.streams[0][position]) for position in range(state["position"]))


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
    fresh = iter(plan_of()).get_state()
    assert (fresh["step"], fresh["position"], fresh["waiting"]) == (0, 0, [])


def test_a_state_is_small_json_of_the_same_size_at_any_step():
    iterator = iter(plan_of())
    take(iterator, 200)
    state = iterator.get_state()
    assert json.loads(json.dumps(state)) == state
    assert len(json.dumps(state)) < 500
    assert state["step"] == 200


def test_resuming_encodes_nothing_so_that_nothing_can_be_missing():
    iterator = iter(plan_of())
    take(iterator, 100)
    state = iterator.get_state()
    assert len(state["waiting"]) > 5

    def refuse(draw: Draw) -> PlannedExample:
        raise AssertionError(f"{draw} is encoded")

    fresh = iter(plan_of(refuse))
    fresh.set_state(state)
    assert fresh.get_state() == state


def test_two_iterators_of_one_plan_do_not_disturb_each_other():
    plan = plan_of()
    one, other = iter(plan), iter(plan)
    first = take(one, 5)
    assert take(other, 10)[:5] == first


def test_batches_of_another_size_hold_the_same_rows():
    small = take(iter(plan_of(batch_size=2)), 20)
    for step, large in enumerate(take(iter(plan_of(batch_size=8)), 5)):
        same = [row for batch in small[4 * step : 4 * step + 4] for row in batch.rows]
        assert sorted(map(repr, large.rows)) == sorted(map(repr, same))


def test_examples_that_cannot_be_encoded_are_recorded_and_shift_no_other():
    plan = plan_of(encode_most)
    iterator = iter(plan)
    batches = take(iterator, 50)
    skipped = [skip for batch in batches for skip in batch.skipped]
    stream = [plan.streams[0][position] for position in range(iterator.get_state()["position"])]
    assert [skip.draw for skip in skipped] == [draw for draw in stream if draw.index % 7 == 0]
    assert {(skip.reason, skip.detail) for skip in skipped if skip.draw.index == 14} == {("broken", "number 14")}
    waiting = positions(iterator.get_state())
    kept = draws_in(batches) + [plan.streams[0][position] for position in waiting]
    assert sorted(map(repr, kept)) == sorted(repr(draw) for draw in stream if draw.index % 7)


def test_more_than_a_thousand_broken_examples_in_a_row_are_an_error():
    def encode_from(position: int):
        calls = iter(range(10**9))

        def encode_later(draw: Draw) -> PlannedExample:
            if 3 <= next(calls) < position:
                raise ExampleError("no_answer", f"{draw.dataset} {draw.index} says nothing")
            return encode(draw)

        return encode_later

    assert len(next(iter(plan_of(encode_from(3 + 1000)))).skipped) == 1000
    with pytest.raises(
        FaultBudgetError, match=r"1001 examples in a row .*; the last \(no_answer\): [ab] \d+ says nothing"
    ):
        next(iter(plan_of(encode_from(3 + 1001))))


def test_an_iterator_that_met_an_exception_goes_on_without_a_gap():
    expected = take(iter(plan_of(encode_most)), 12)
    calls, fails = iter(range(10**9)), random.Random(0).sample(range(300), 30)

    def encode_unsteadily(draw: Draw) -> PlannedExample:
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


PHASES = [PlanPhase(5, {"a": 1, "c": 2}), PlanPhase(6, {"b": 1}), PlanPhase(20, {"a": 3, "b": 1}, {"a": range(100)})]


def test_a_dataset_that_comes_again_goes_on_where_it_was():
    iterator = iter(plan_of(later=PHASES))
    batches = take(iterator, 400)
    numbers = [(name, number) for _, _, name, number, *_ in iterator.get_state()["waiting"]]
    waiting = [plan_of(later=PHASES).draw("abc"[name], number) for name, number in numbers]
    skipped = [skip.draw for batch in batches for skip in batch.skipped]
    for dataset, size in SIZES.items():
        drawn = [draw for draw in draws_in(batches) + waiting + skipped if draw.dataset == dataset]
        full_epochs = len(drawn) // size
        # Each epoch holds each example once, whatever changed meanwhile; of the last one there is a part.
        assert len({(draw.epoch, draw.index) for draw in drawn}) == len(drawn)
        assert {draw.epoch for draw in drawn} == {*range(full_epochs + (len(drawn) % size > 0))}


def test_a_phase_changes_nothing_before_it_and_no_draw_after_it():
    plain, phased = take(iter(plan_of()), 40), take(iter(plan_of(later=PHASES)), 40)
    assert phased[:5] == plain[:5]
    assert phased[5] != plain[5]
    lengths = {}
    for draw in draws_in(plain) + draws_in(phased):
        lengths.setdefault(draw, encode(draw))
    for dataset in ("a", "b"):  # the same examples in the same order of epochs, only at other times
        order = [draw for draw in draws_in(plain) if draw.dataset == dataset]
        other = [draw for draw in draws_in(phased) if draw.dataset == dataset]
        shared = {*order} & {*other}
        assert len(shared) > 30


def test_weights_change_at_their_step_exactly():
    batches = take(iter(plan_of(later=[PlanPhase(10, {"c": 1})])), 30)
    names = [{draw.dataset for draw in draws_in([batch])} for batch in batches]
    assert all("c" not in found for found in names[:10])
    assert all("c" in found for found in names[10:])
    assert names[-1] == {"c"}  # what waited from before was placed within twelve rows


def test_a_plan_of_phases_is_resumed_at_any_step():
    iterator, states, batches = iter(plan_of(encode_most, later=PHASES)), [], []
    for _ in range(40):
        states.append(json.dumps(iterator.get_state()))
        batches.append(next(iterator))
    for step in range(30):
        fresh = iter(plan_of(encode_most, later=PHASES))
        fresh.set_state(json.loads(states[step]))
        assert json.dumps(fresh.get_state()) == states[step]
        assert take(fresh, 8) == batches[step : step + 8]


def test_a_phase_may_be_declared_when_a_run_is_resumed():
    iterator = iter(plan_of())
    take(iterator, 5)
    state = iterator.get_state()
    resumed = iter(plan_of(later=PHASES))
    resumed.set_state(state)
    assert take(resumed, 20) == take(iter(plan_of(later=PHASES)), 25)[5:]


def test_excluded_examples_are_left_out_and_the_others_come_in_the_same_order():
    excluded = {"a": {*range(0, 300, 3)}, "b": {7}}
    phases = [PlanPhase(0, {"a": 3, "b": 1}, excluded)]
    plan = PackedRows(phases, SIZES, 0, encode, batch_size=4, max_tokens=100, max_crops=9, waiting=12)
    iterator = iter(plan)
    batches = take(iterator, 60)
    stream = [plan.streams[0][position] for position in range(iterator.get_state()["position"])]
    left_out = [skip.draw for batch in batches for skip in batch.skipped]
    assert left_out == [draw for draw in stream if draw.index in excluded[draw.dataset]]
    assert {skip.reason for batch in batches for skip in batch.skipped} == {"excluded"}
    assert not {*left_out} & {*draws_in(batches)}


def test_what_is_left_out_as_asked_is_no_run_of_bad_luck():
    phases = [PlanPhase(0, {"a": 3, "b": 1}, {"a": {*range(290)}})]
    settings = {"batch_size": 4, "max_tokens": 100, "max_crops": 9, "waiting": 12}
    iterator = iter(PackedRows(phases, SIZES, 0, encode, **settings, max_skipped_in_a_row=0))
    assert len(take(iterator, 20)[-1].skipped) > 0


def test_a_phase_that_leaves_out_all_it_draws_is_refused():
    everything = {"a": range(300), "b": range(40)}
    plan_of(later=[PlanPhase(3, {"a": 1, "c": 1}, everything)])  # there is another
    for weights in ({"a": 3, "b": 1}, {"b": 1}, {"a": 1, "c": 0}):
        with pytest.raises(ConfigError, match="all examples of the phase from step 3 are excluded"):
            plan_of(later=[PlanPhase(3, weights, everything)])


def test_phases_that_do_not_follow_each_other_are_refused():
    for steps in ([1], [0, 5, 5], [0, 9, 3], []):
        with pytest.raises(ConfigError, match="phases begin at steps"):
            PackedRows(
                [PlanPhase(step, {"a": 1}) for step in steps],
                SIZES, 0, encode, batch_size=4, max_tokens=100, max_crops=9, waiting=12,
            )  # fmt: skip


def test_a_state_far_into_a_run_is_restored_without_walking_there():
    plan = plan_of()
    far = {"step": 10**9, "position": 10**12, "waiting": []}
    block = 10**12 // 1024
    drawn = {"a": block * 768, "b": block * 256}
    iterator = iter(plan)
    iterator.set_state({**far, "stream": {"start": 0, "before": {}, "block": block, "drawn": drawn}})
    batch = next(iterator)
    assert batch.step == 10**9
    assert min(draw.epoch for draw in draws_in([batch])) > 10**9
