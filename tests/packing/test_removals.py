"""Examples removed while a run goes on: what is drawn without them, and that any step can be resumed and rebuilt."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grain_molmo.errors import ConfigError
from grain_molmo.known_states import KnownStates
from grain_molmo.packing.active import ActiveDraws, Removal, pack_mask, unpack_mask
from grain_molmo.packing.mixture import Draw
from grain_molmo.packing.rows import PackedRows, PlannedBatch, PlannedExample, PlanPhase
from grain_molmo.packing.shuffle import ShuffledEpochs
from grain_molmo.rng import stable_hash

SIZES = {"a": 60, "b": 25}
PHASES = (PlanPhase(0, {"a": 3, "b": 1}), PlanPhase(7, {"a": 1, "b": 1}))


def encode(draw: Draw) -> PlannedExample:
    number = stable_hash(*draw)
    return PlannedExample(draw, 1 + number % 50, n_crops=0, n_pooled=0, cost=1)


def plan_of(phases=PHASES) -> PackedRows:
    return PackedRows(phases, SIZES, 5, encode, batch_size=3, max_tokens=100, max_crops=4, waiting=8)


def draws_of(batch: PlannedBatch) -> list[Draw]:
    return [example.draw for row in batch.rows for example in row]


def mask(size: int, indices) -> np.ndarray:
    removed_N = np.zeros(size, bool)
    removed_N[list(indices)] = True
    return removed_N


def run(plan: PackedRows, declared: dict[int, list[Removal]], steps: int, state=None) -> tuple[list, list[dict]]:
    """Batches, and the state after each; before batch s, what `declared[s]` says is declared."""
    iterator, batches, states = iter(plan), [], []
    if state is not None:
        iterator.set_state(state)
    for _ in range(steps):
        for removal in declared.get(iterator.get_state()["step"], ()):
            iterator.set_state(plan.remove_from(iterator.get_state(), removal))
        batches.append(draws_of(next(iterator)))
        states.append(json.loads(json.dumps(iterator.get_state())))
    return batches, states


@st.composite
def declarations(draw):
    """By the step at which they are declared, removals that take effect then or later."""
    declared: dict[int, list[Removal]] = {}
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, 12))
        name = draw(st.sampled_from(sorted(SIZES)))
        some = draw(st.sets(st.integers(0, SIZES[name] - 1), max_size=SIZES[name] // 4))
        removal = Removal(at + draw(st.integers(0, 4)), {name: mask(SIZES[name], some)})
        declared.setdefault(at, []).append(removal)
    return declared


@given(st.integers(1, 40), st.data())
def test_a_dataset_draws_what_it_would_have_drawn_but_the_removed_ones(size, data):
    removed_N = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    removed_N[data.draw(st.integers(0, size - 1))] = False
    first, slot = data.draw(st.integers(0, 3 * size)), data.draw(st.integers(0, 1000))
    epochs = ShuffledEpochs("a", size, seed=3)
    active = ActiveDraws(epochs, removed_N, slot, first)
    wanted = [draw for draw in range(first, first + 8 * size) if not removed_N[epochs[draw][1]]]
    # In any order: rows are encoded side by side.
    assert [active.number(slot + i) for i in reversed(range(len(wanted)))] == wanted[::-1]


@given(declarations(), st.integers(0, 15))
def test_what_is_removed_comes_no_more_and_any_step_resumes_to_the_same_batches(declared, stop):
    plan = plan_of()
    batches, states = run(plan, declared, 18)
    for removal in (each for each_step in declared.values() for each in each_step):
        for name, removed_N in removal.examples.items():
            later = [draw for batch in batches[removal.step :] for draw in batch if draw.dataset == name]
            assert not any(removed_N[draw.index] for draw in later)
    later = {at: removals for at, removals in declared.items() if at > stop}
    assert run(plan_of(), later, 17 - stop, states[stop])[0] == batches[stop + 1 :]


@given(declarations(), st.integers(0, 17))
def test_any_batch_of_the_run_is_planned_again_from_the_first_state_and_the_last_ones_removals(declared, step):
    plan = plan_of()
    batches, states = run(plan, declared, 18)
    known = KnownStates(iter(plan).get_state()).before(step, states[-1].get("removals", []))
    assert known["step"] == 0
    assert run(plan, {}, step + 1, known)[0][step] == batches[step]


@given(declarations())
def test_states_of_another_history_are_passed_over(declared):
    plan = plan_of()
    _, states = run(plan, declared, 18)
    _, others = run(plan, {}, 18)
    known = KnownStates(iter(plan).get_state())
    for state in others:
        known.keep(state)
    removals = states[-1].get("removals", [])
    effective = min((removal[0] for removal in removals), default=99)
    assert known.before(17, removals)["step"] == min(17, effective)


def test_each_epoch_visits_what_is_left_once_and_the_weights_of_the_mixture_stay():
    plan = plan_of(PHASES[:1])
    gone = set(range(0, 60, 2))
    batches, _ = run(plan, {2: [Removal(2, {"a": mask(60, gone)})]}, 80)
    draws = [draw for batch in batches for draw in batch]
    assert len(draws) == len(set(draws))
    for epoch in (1, 2, 3):
        visited = {draw.index for draw in draws if draw.dataset == "a" and draw.epoch == epoch}
        assert visited == set(range(60)) - gone
    shares = [draw.dataset == "a" for batch in batches[3:] for draw in batch]
    assert np.mean(shares) == pytest.approx(0.75, abs=0.05)


def test_a_dataset_keeps_an_example_that_is_left_after_excluded_ones():
    plan = plan_of((PlanPhase(0, {"a": 1, "b": 1}, {"b": frozenset(range(20))}),))
    state = iter(plan).get_state()
    with pytest.raises(ConfigError, match="no example of b would be left from step 4"):
        plan.remove_from(state, Removal(4, {"b": mask(25, range(20, 25))}))
    state = plan.remove_from(state, Removal(4, {"b": mask(25, range(21, 25))}))
    with pytest.raises(ConfigError, match="no example of b"):  # with what was declared before
        plan.remove_from(state, Removal(9, {"b": mask(25, [20])}))


def test_a_dataset_may_lose_all_once_its_phase_is_over():
    plan = plan_of((PlanPhase(0, {"a": 1, "b": 1}), PlanPhase(7, {"a": 1})))
    removal = {"b": mask(25, range(25))}
    with pytest.raises(ConfigError, match="no example of b"):
        plan.remove_from(iter(plan).get_state(), Removal(6, removal))
    assert plan.remove_from(iter(plan).get_state(), Removal(7, removal))["removals"]


@given(st.lists(st.booleans(), min_size=1, max_size=300))
def test_masks_come_back_as_they_were_packed(bits):
    assert unpack_mask(pack_mask(np.array(bits)), len(bits)).tolist() == bits


def test_a_state_takes_a_few_bits_an_example():
    removed_N = np.random.RandomState(0).random_sample(1_000_000) < 0.1
    assert len(pack_mask(removed_N)) < 1_000_000 / 8
