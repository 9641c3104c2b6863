"""The batch of a step is one fixed thing: from any state, on any number of processes, alone, and in any phase."""

import itertools
import json
import operator
import random

import jax
import numpy as np
import pytest

import grain_molmo as gm
import grain_molmo.pipeline
from grain_molmo.encode import Encoder
from grain_molmo.errors import ConfigError, ExampleError, StoreError
from grain_molmo.known_states import KnownStates
from grain_molmo.quarantine import Fault, QuarantineFile

pytestmark = pytest.mark.xdist_group("loader")

MIXTURE = {"pixmo_cap": 3, "pixmo_count": 1}


def equal(batch, other):
    return batch.keys() == other.keys() and all(np.array_equal(batch[key], other[key]) for key in batch)


def stage_of(*phases: gm.Phase, **settings) -> gm.Stage:
    return gm.Stage(mixture=MIXTURE, phases=phases, **settings)


def test_stopped_on_four_processes_two_and_then_one_go_on_with_the_same_batches(open_loader):
    whole = open_loader(batch_size=4)
    expected = [next(whole) for _ in range(9)]

    def run(count, state, steps):
        parts = [open_loader(batch_size=4, process_index=index, process_count=count) for index in range(count)]
        if state is not None:
            for part in parts:
                part.set_state(json.loads(state))
        found = [[next(part) for part in parts] for _ in range(steps)]
        states = {json.dumps(part.get_state()) for part in parts}
        assert len(states) == 1  # the same on all
        return [{key: np.concatenate([part[key] for part in parts]) for key in parts[0]} for parts in found], *states

    one, state = run(4, None, 4)
    two, state = run(2, state, 3)
    three, _ = run(1, state, 2)
    assert all(map(equal, one + two + three, expected))


def test_a_batch_that_failed_on_its_way_comes_when_asked_for_again(open_loader, monkeypatch):
    expected = [next(loader) for loader in [open_loader()] for _ in range(6)]
    loader, render_rows, calls = open_loader(), grain_molmo.pipeline.render_rows, itertools.count()

    def render_unsteadily(*args):
        if next(calls) in (0, 3, 7):
            raise OSError("the disk is away")
        return render_rows(*args)

    monkeypatch.setattr(grain_molmo.pipeline, "render_rows", render_unsteadily)
    found, failures = [], 0
    while len(found) < 6:
        state = loader.get_state()
        try:
            found.append(next(loader))
        except OSError:
            failures += 1
            assert loader.get_state() == state
    assert failures > 1
    assert all(map(equal, found, expected))


def edited(state: dict, *keys: str, value: object = None) -> dict:
    """A copy of a state with something else in one place, or without it."""
    copied = json.loads(json.dumps(state))
    place = copied
    for key in keys[:-1]:
        place = place[key]
    if value is None:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return copied


def test_a_state_that_is_not_as_it_was_taken_is_refused_and_the_loader_stays_where_it_is(open_loader):
    loader = open_loader()
    expected = [next(loader) for _ in range(5)]
    loader.set_state(open_loader().get_state())
    assert equal(next(loader), expected[0])
    state = loader.get_state()
    for wrong in (
        edited(state, "plan", "step", value=0),
        edited(state, "plan", "position", value=state["plan"]["position"] + 1),
        edited(state, "plan", "waiting", value=state["plan"]["waiting"][:-1]),
        edited(state, "plan", "stream", "drawn"),
        edited(state, "fingerprint", value=[]),
        edited(state, "plan", value=[{}]),
        edited(state, "checksum"),
        edited(state, "checksum", value=1),
        {**state, "plan": {1: object()}},
    ):
        with pytest.raises(ConfigError, match="the loader state is"):
            loader.set_state(wrong)
    assert all(equal(next(loader), batch) for batch in expected[1:])


def test_a_state_is_gone_to_while_the_disk_is_away(open_loader, monkeypatch):
    first = open_loader()
    for _ in range(6):
        next(first)
    loader = open_loader()
    plan = loader._plan.plan_example

    def fail(draw):
        raise StoreError("the disk is away")

    monkeypatch.setattr(loader._plan, "plan_example", fail)
    loader.set_state(first.get_state())
    with pytest.raises(StoreError):
        next(loader)
    monkeypatch.setattr(loader._plan, "plan_example", plan)
    assert equal(next(loader), next(first))


def test_what_carries_a_state_may_change_its_numbers_types_and_the_order_of_its_keys(open_loader):
    first = open_loader()
    for _ in range(2):
        next(first)
    carried = jax.tree.map(lambda leaf: np.int64(leaf) if isinstance(leaf, int) else leaf, first.get_state())
    loader = open_loader()
    loader.set_state(dict(reversed(carried.items())))
    assert json.dumps(loader.get_state()) == json.dumps(first.get_state())
    assert equal(next(loader), next(first))


def test_numbers_of_numpy_in_a_stage_are_the_same_stage(open_loader):
    def loader(number):
        rule = gm.DatasetRule(loss={"weight": number(0.5)}, p_high_res=number(0.25))
        group = gm.Group(name="pictures", rate=number(0.75), datasets=("pixmo_cap", "pixmo_count"))
        return open_loader(gm.Stage(groups=(group,), rules={"pixmo_cap": rule}))

    state = loader(float).get_state()
    for number in (np.float64, np.float32):  # exact in both
        assert loader(number).get_state() == state


def test_a_state_is_the_callers_own(open_loader):
    loader = open_loader()
    next(loader)
    before = json.dumps(loader.get_state())
    loader.get_state()["plan"]["waiting"].clear()
    assert json.dumps(loader.get_state()) == before


def test_any_batch_can_be_had_again_or_before_its_time(open_loader):
    loader = open_loader()
    expected = [next(loader) for _ in range(10)]
    state = loader.get_state()
    for step in random.Random(0).sample(range(10), 6):
        assert equal(loader.batch_at(step), expected[step])
        assert loader.batch_info.step == step
    assert loader.get_state() == state  # it did not move
    later = loader.batch_at(13)
    for _ in range(3):
        next(loader)
    assert equal(next(loader), later)
    assert loader.stats()["batches"] == 14


def test_single_rows_of_a_batch_are_rebuilt_wherever_they_were_rendered(open_loader):
    loader = open_loader(batch_size=4)
    expected = [next(loader) for _ in range(4)]
    second = open_loader(batch_size=4, process_index=1, process_count=2)
    rows = second.batch_at(3, rows=[2, 0])
    assert all(np.array_equal(rows[key], expected[3][key][[2, 0]]) for key in rows)
    assert list(second.batch_info.row_numbers) == [2, 0]
    assert equal(second.batch_at(3), {key: value[2:] for key, value in expected[3].items()})


def test_what_was_planned_to_rebuild_a_batch_is_not_planned_again(open_loader, monkeypatch):
    loader, planned = open_loader(), []
    plan = loader._plan.plan_example
    monkeypatch.setattr(loader._plan, "plan_example", lambda draw: planned.append(draw) or plan(draw))
    loader.batch_at(30)
    once = len(planned)
    loader.batch_at(31)
    assert len(planned) - once < once / 10


@pytest.mark.parametrize(("step", "rows"), [(-1, None), (2.5, None), ("1", None), (0, [2]), (0, [-1]), (0, [0.5])])
def test_a_batch_that_cannot_be_is_refused(open_loader, step, rows):
    with pytest.raises(ConfigError, match="there is no such step or row"):
        open_loader().batch_at(step, rows)


def test_a_batch_is_planned_again_from_the_nearest_known_state(open_loader, monkeypatch):
    first = open_loader()
    for _ in range(6):
        next(first)
    state = first.get_state()
    loader, encoded = open_loader(), []
    loader.set_state(state)
    plan = loader._plan.plan_example
    monkeypatch.setattr(loader._plan, "plan_example", lambda draw: encoded.append(draw) or plan(draw))
    assert equal(loader.batch_at(7), (next(first), next(first))[1])
    assert len(encoded) < 48 + 2 * 20  # what waits, and two batches; not all of the eight


def test_known_states_stay_few_and_near():
    known = KnownStates({"step": 0})
    for step in range(1, 5000):
        known.add({"step": step})
    known.keep({"step": 777})
    assert known.before(0)["step"] == 0
    assert known.before(778)["step"] == 777
    assert all(step - known.before(step)["step"] < 32 for step in range(5000))
    assert len(known._by_step) <= 512


def test_a_phase_begins_at_its_step_in_a_run_that_is_resumed_on_the_way(open_loader):
    phases = (gm.Phase(step=3, mixture={"pixmo_docs": 1, "pixmo_count": 1}), gm.Phase(step=6, mixture={"pixmo_cap": 1}))
    loader = open_loader(stage_of(*phases))
    seen, states, batches = [], [], []
    for _ in range(9):
        states.append(loader.get_state())
        batches.append(next(loader))
        seen.append({example.dataset for row in loader.batch_info.rows for example in row})
    assert all("pixmo_docs" not in names for names in seen[:3])
    assert any("pixmo_docs" in names for names in seen[3:6])
    for step in (2, 3, 5, 6, 7):
        resumed = open_loader(stage_of(*phases))
        resumed.set_state(json.loads(json.dumps(states[step])))
        assert equal(next(resumed), batches[step])


def test_what_changes_later_may_be_decided_later(open_loader):
    plain = open_loader(stage_of())
    for _ in range(4):
        next(plain)
    state = plain.get_state()
    changed = stage_of(gm.Phase(step=4, mixture={"pixmo_docs": 1}))
    loader = open_loader(changed)
    loader.set_state(state)
    from_the_start = open_loader(changed)
    assert equal([next(from_the_start) for _ in range(7)][-1], [next(loader) for _ in range(3)][-1])
    with pytest.raises(ConfigError, match=r"another loader: mixture, data differ"):
        open_loader(stage_of(gm.Phase(step=3, mixture={"pixmo_docs": 1}))).set_state(state)


def test_examples_excluded_of_a_dataset_to_come_are_no_part_of_what_has_begun(open_loader, tmp_path):
    before = open_loader(gm.Stage(mixture={"pixmo_count": 1}))
    next(before)
    path = tmp_path / "faults.jsonl"
    dataset = open_loader()._reader.datasets["pixmo_cap"]
    QuarantineFile(path, {"pixmo_cap": dataset}).add([Fault("pixmo_cap", 3, 0, "", 0, "render", "truncated", "")])
    phases = (gm.Phase(step=1, mixture={"pixmo_cap": 1}),)
    loader = open_loader(gm.Stage(mixture={"pixmo_count": 1}, phases=phases), exclude=path)
    loader.set_state(before.get_state())
    assert loader._plan.phases[1].excluded == {"pixmo_cap": {3}}


def test_phases_that_cannot_be_are_refused_in_words(open_loader):
    with pytest.raises(ConfigError, match=r"phases begin at steps \[5, 5\]"):
        stage_of(gm.Phase(step=5, mixture=MIXTURE), gm.Phase(step=5, mixture=MIXTURE))
    with pytest.raises(ConfigError, match=r"phases begin at steps \[0\]"):
        stage_of(gm.Phase(step=0, mixture=MIXTURE))
    with pytest.raises(ConfigError, match="a phase begins at step -1"):
        gm.Phase(step=-1)
    with pytest.raises(ConfigError, match="the phase from step 3 changes nothing"):
        gm.Phase(step=3)
    with pytest.raises(ConfigError, match="a mixture or groups, not both"):
        gm.Phase(step=1, mixture=MIXTURE, groups=(gm.Group(name="a", rate=1, datasets=("pixmo_cap",)),))
    with pytest.raises(ConfigError, match="unknown dataset 'no_such_set'"):
        open_loader(stage_of(gm.Phase(step=4, mixture={"no_such_set": 1})))


def test_a_record_damaged_since_a_state_was_taken_stops_nothing_and_moves_nothing(open_loader, monkeypatch):
    first = open_loader()
    for _ in range(3):
        next(first)
    state = json.loads(json.dumps(first.get_state()))
    loader = open_loader()
    names = sorted(state["plan"]["stream"]["drawn"])
    lost = {loader._plan.draw(names[name], number) for _, _, name, number, *_ in state["plan"]["waiting"]}
    encode = Encoder.__call__

    def encode_what_is_whole(self, draw):
        if self is damaged._reader and draw in lost:
            raise ExampleError("damaged_record", "its bytes do not read")
        return encode(self, draw)

    damaged = open_loader()
    monkeypatch.setattr(Encoder, "__call__", encode_what_is_whole)
    damaged.set_state(state)
    num_blank = 0
    for _ in range(4):
        whole, found = next(first), next(damaged)
        for row, (ours, theirs) in enumerate(zip(first.batch_info.rows, damaged.batch_info.rows, strict=True)):
            for one, other in zip(ours, theirs, strict=True):
                place = operator.attrgetter("dataset", "index", "tokens", "crops")
                assert place(one) == place(other)
                tokens = slice(*one.tokens)
                if other.blanked:
                    num_blank += 1
                    assert (found["loss_weights"][row, tokens] == 0).all()
                else:
                    assert np.array_equal(whole["input_tokens"][row, tokens], found["input_tokens"][row, tokens])
    assert num_blank > 10
