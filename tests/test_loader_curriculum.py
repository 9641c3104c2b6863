import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rl_loop import FILTER_EVERY, prompt_loader, prompts, train

import grain_molmo as gm
from grain_molmo.curriculum import Curriculum, example_ids
from grain_molmo.datasets.prompts import MathCodePrompts
from grain_molmo.errors import ConfigError
from grain_molmo.sequence_sample import prompt_sample

pytestmark = pytest.mark.xdist_group("loader")  # some use the converted sample
ALL = Curriculum(filter_threshold=0.5)
NAME = "rl_prompts"


@pytest.fixture
def open_prompts():
    """Makes loaders of prompts, closed behind the test."""
    loaders = []

    def make(count=60, **options):
        loaders.append(prompt_loader(count, **{"curriculum": ALL, **options}))
        return loaders[-1]

    yield make
    for loader in loaders:
        loader.close()


def ids_of(loader, steps):
    """Ids by step and row."""
    found = []
    for _ in range(steps):
        next(loader)
        found.append([[example.id for example in row] for row in loader.batch_info.rows])
    return found


def flat(ids):
    return [name for rows in ids for row in rows for name in row]


def scores(numbers, score=1.0):
    return {f"q{number}": score for number in numbers}


def same_batches(loader, other, steps):
    for _ in range(steps):
        batch, again = next(loader), next(other)
        assert all(np.array_equal(batch[key], again[key]) for key in batch)
        assert loader.batch_info.rows == other.batch_info.rows
    assert loader.get_state() == other.get_state()


def test_removed_examples_come_no_more_and_all_others_come_as_often_as_each_other(open_prompts):
    loader = open_prompts()
    ids_of(loader, 3)
    report = loader.filter(scores(range(0, 60, 2)))[NAME]
    assert (report.removed, report.active, report.unknown, report.not_numbers) == (30, 30, 0, 0)
    counts = np.unique_counts(flat(ids_of(loader, 30)))
    assert {*counts.values} == {f"q{n}" for n in range(1, 60, 2)}
    assert np.ptp(counts.counts) <= 2  # at the beginning some were drawn already, at the end some wait
    assert [loader.active_indices(NAME).size] == [30]


def test_a_filter_changes_nothing_before_its_step(open_prompts):
    plain, filtered = open_prompts(), open_prompts()
    filtered.filter(scores(range(30)), step=5)
    assert filtered.active_indices(NAME).size == 30  # what is declared counts
    assert ids_of(filtered, 5) == ids_of(plain, 5)
    assert not {f"q{n}" for n in range(30)} & {*flat(ids_of(filtered, 10))}


def test_a_filter_declared_ahead_is_the_one_made_then(open_prompts):
    ahead, then = open_prompts(), open_prompts()
    ahead.filter(scores(range(30)), step=4)
    for loader in (ahead, then):
        ids_of(loader, 4)
    then.filter(scores(range(30)))
    same_batches(ahead, then, 6)


@pytest.mark.parametrize("stop", [2, 4, 5, 9])
def test_a_run_stopped_before_or_after_a_filter_takes_effect_goes_on_the_same(stop, open_prompts):
    whole, stopped = open_prompts(), open_prompts()
    for loader in (whole, stopped):
        ids_of(loader, 2)
        loader.filter(scores(range(40)), step=4)
    ids_of(whole, stop - 2)
    ids_of(stopped, stop - 2)
    state = json.loads(json.dumps(stopped.get_state()))
    again = open_prompts()
    again.set_state(state)
    assert again.active_indices(NAME).tolist() == stopped.active_indices(NAME).tolist()
    same_batches(whole, again, 8)


steps_and_parts = st.lists(st.tuples(st.integers(0, 9), st.integers(2, 9)), min_size=1, max_size=3)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(filters=steps_and_parts, stops=st.sets(st.integers(1, 11), max_size=3))
def test_any_filters_and_any_stops_give_the_batches_of_a_run_that_never_stopped(filters, stops, open_prompts):
    """Each filter is made at a step and takes effect two later, unless others are made in between."""
    curriculum = Curriculum(filter_threshold=0.5, max_filter_percentage=0.5)

    def run(stops):
        loader, ids = open_prompts(30, curriculum=curriculum), []
        for step in range(12):
            if step in stops:
                state = json.loads(json.dumps(loader.get_state()))
                loader.close()
                loader = open_prompts(30, curriculum=curriculum)
                loader.set_state(state)
            for at, part in filters:
                if at == step:
                    loader.filter(scores(range(0, 30, part)), step=step + 2)
            ids += ids_of(loader, 1)
        state = loader.get_state()
        loader.close()
        return ids, state

    assert run(stops) == run(())


def test_a_state_of_before_a_filter_knows_nothing_of_it(open_prompts):
    loader = open_prompts()
    ids_of(loader, 3)
    before = loader.get_state()
    expected = ids_of(loader, 4)
    loader.set_state(before)
    loader.filter(scores(range(30)))
    assert ids_of(loader, 4) != expected
    loader.set_state(before)
    assert loader.active_indices(NAME).size == 60
    assert ids_of(loader, 4) == expected


def test_any_batch_again_is_that_of_its_time(open_prompts):
    loader = open_prompts()
    kept = [next(loader) for _ in range(3)]
    loader.filter(scores(range(30)))
    kept += [next(loader) for _ in range(3)]
    for step, batch in enumerate(kept):
        again = loader.batch_at(step)
        assert all(np.array_equal(batch[key], again[key]) for key in batch)


def test_scores_of_unknown_ids_and_scores_that_are_none_change_no_batch(open_prompts, caplog):
    loader, plain = open_prompts(), open_prompts()
    ids_of(loader, 2), ids_of(plain, 2)
    report = loader.filter({"q900": 1.0, "elsewhere": 1.0, "q1": float("nan"), "q2": None, "q3": 0.5})[NAME]
    assert (report.removed, report.active, report.unknown, report.not_numbers) == (0, 60, 2, 2)
    assert "2 are of unknown ids and 2 are no numbers" in caplog.text
    same_batches(loader, plain, 5)


def test_a_filter_that_would_leave_nothing_is_refused_and_changes_nothing(open_prompts):
    loader, plain = open_prompts(), open_prompts()
    ids_of(loader, 2), ids_of(plain, 2)
    with pytest.raises(ConfigError, match=r"no example of rl_prompts would be left from step 2 on"):
        loader.filter(scores(range(60)))
    assert loader.active_indices(NAME).size == 60
    same_batches(loader, plain, 5)


def test_one_example_that_is_left_comes_again_and_again(open_prompts):
    loader = open_prompts()
    ids_of(loader, 2)
    loader.filter(scores(range(59)))
    assert {*flat(ids_of(loader, 5))} == {"q59"}


def test_each_call_takes_its_share_of_what_is_left(open_prompts):
    loader = open_prompts(curriculum=Curriculum(filter_threshold=0.5, max_filter_percentage=0.5))
    grown = {f"q{n}": 1.0 + n for n in range(60)}
    for left in (30, 15, 8, 4, 2, 1, 1):  # int(1 * 0.5) is none
        assert loader.filter(grown)[NAME].active == left
        assert loader.active_indices(NAME).size == left
    first = MathCodePrompts(dataset_builder=prompts).ids.index("q0")
    assert loader.active_indices(NAME).tolist() == [first]  # the highest went first


@pytest.mark.parametrize("step", [2, -1, 3.5, "4"])
def test_a_step_that_has_passed_or_is_none_is_refused(step, open_prompts):
    loader = open_prompts()
    ids_of(loader, 3)
    with pytest.raises(ConfigError, match="the next batch is 3"):
        loader.filter(scores([1]), step=step)


def test_a_loader_without_a_curriculum_or_of_another_set_says_so(open_prompts):
    with pytest.raises(ConfigError, match="give make_loader a curriculum"):
        open_prompts(curriculum=None).filter(scores([1]))
    with pytest.raises(ConfigError, match="'other' is no dataset of the stage; it has rl_prompts"):
        open_prompts(curriculum={"other": ALL})
    with pytest.raises(ConfigError, match=r"curriculum is 0\.5, not a Curriculum"):
        open_prompts(curriculum=0.5)
    with pytest.raises(ConfigError, match="no curriculum for other"):
        open_prompts().filter({"other": scores([1])})
    with pytest.raises(ConfigError, match="not both"):
        open_prompts().filter({NAME: scores([1]), "q2": 1.0})


@pytest.mark.parametrize("count", [2, 4])
def test_processes_that_filter_alike_have_the_parts_of_one_batch(count, open_prompts):
    def run(**process):
        loader = open_prompts(batch_size=4, **process)
        found = [next(loader)["input_tokens"] for _ in range(2)]
        loader.filter(scores(range(45)), step=4)
        found += [next(loader)["input_tokens"] for _ in range(6)]
        return np.stack(found), loader.get_state()

    whole, state = run()
    parts = [run(process_index=index, process_count=count) for index in range(count)]
    assert np.array_equal(np.concatenate([part for part, _ in parts], axis=1), whole)
    assert all(own == state for _, own in parts)


def test_a_set_that_comes_again_comes_without_what_was_removed_meanwhile(open_prompts):
    def words(name):
        lines = [{"qid": f"{name}{n}", "prompt": f"{n} + 1 = ?", "solutions": ["1"]} for n in range(20)]
        return MathCodePrompts(dataset_builder=lambda: lines)

    def make():
        datasets = {"first": words("f"), "second": words("s")}
        return gm.make_loader(stage, tokenizer="bytes", num_threads=1, curriculum=ALL, datasets=datasets)

    phases = (gm.Phase(step=2, mixture={"second": 1}), gm.Phase(step=5, mixture={"first": 1, "second": 1}))
    few = {"seq_len": 96, "batch_size": 2, "crops_per_row": 0, "waiting": 2}
    stage = gm.Stage(mixture={"first": 1}, phases=phases, kind="prompts", **few)
    with make() as loader:
        next(loader)
        loader.filter({f"f{n}": 1.0 for n in range(15)}, step=3)
        states, found = [], []
        for _ in range(12):
            states.append(json.loads(json.dumps(loader.get_state())))
            found += ids_of(loader, 1)
        assert {name for name in flat(found[3:]) if name.startswith("f")} == {f"f{n}" for n in range(15, 20)}
    for done, state in enumerate(states):
        with make() as again:
            again.set_state(state)
            assert ids_of(again, 12 - done) == found[done:]


MIXED = {"seq_len": 1536, "batch_size": 2, "crops_per_row": 6, "max_crops": 2, "waiting": 8}


@pytest.fixture
def open_mixture(open_loader):
    """Makes loaders of prompts in words and prompts about pictures, half and half."""

    def make(**options):
        lines = [{"qid": f"q{n}", "prompt": f"{n} + 1 = ?", "solutions": [str(n + 1)]} for n in range(20)]
        datasets = {NAME: MathCodePrompts(dataset_builder=lambda: lines)}
        stage = gm.Stage(mixture={NAME: 0.5, "pixmo_count": 0.5}, kind="prompts", **MIXED)
        sizes = {key: MIXED[key] for key in ("seq_len", "batch_size")}
        return open_loader(stage, **{"curriculum": ALL, "datasets": datasets, **sizes, **options})

    return make


def test_a_filtered_set_keeps_its_part_of_a_mixture_with_pictures(open_mixture):
    loader = open_mixture()
    next(loader)
    before = loader.get_state()
    reports = loader.filter(scores(range(19)))
    assert {name: (one.removed, one.unknown) for name, one in reports.items()} == {
        NAME: (19, 0),
        "pixmo_count": (0, 0),
    }
    shown = [example for _ in range(20) for _ in [next(loader)] for row in loader.batch_info.rows for example in row]
    words = [example for example in shown if example.dataset == NAME]
    assert {example.id for example in words} == {"q19"}
    assert len(words) == pytest.approx(len(shown) / 2, abs=8)  # as many as may wait
    # The other set's order is that without the filter.
    loader.set_state(before)
    plain = [example for _ in range(20) for _ in [next(loader)] for row in loader.batch_info.rows for example in row]
    order = [sorted((each.epoch, each.index) for each in of if each.dataset != NAME)[:20] for of in (shown, plain)]
    assert order[0] == order[1]


def test_both_examples_of_a_record_go_with_its_id(open_mixture):
    loader = open_mixture()
    names = {example.id for _ in range(6) for _ in [next(loader)] for row in loader.batch_info.rows for example in row}
    pictured = sorted(name for name in names if not name.startswith("q"))[0]
    report = loader.filter({"pixmo-count": {pictured: 1.0, "q1": 1.0}})
    assert (report["pixmo_count"].removed, report["pixmo_count"].unknown) == (2, 1)  # to count, and to point
    assert [*report] == ["pixmo_count"]
    assert loader.active_indices(NAME).size == 20
    later = [example.id for _ in range(10) for _ in [next(loader)] for row in loader.batch_info.rows for example in row]
    assert pictured not in later
    assert "q1" in later


def test_a_curriculum_of_one_set_leaves_the_others_alone(open_mixture, sample_dir):
    loader = open_mixture(curriculum={NAME: ALL})
    pictures = example_ids(gm.get_dataset("pixmo_count", data_dir=sample_dir))
    assert [*loader.filter({**scores(range(3)), **dict.fromkeys(pictures, 1.0)})] == [NAME]
    assert len(loader.active_indices("pixmo_count")) == len(pictures)


def test_a_stage_that_trains_may_have_a_curriculum_too(open_loader):
    stage = gm.Stage(mixture={"pixmo_cap": 1}, **{**MIXED, "seq_len": 6144})
    loader = open_loader(stage, curriculum=ALL, batch_size=2)
    next(loader)
    removed = {example.id for row in loader.batch_info.rows for example in row}
    loader.filter(dict.fromkeys(removed, 1.0))
    for batch in itertools.islice(loader, 6):
        assert not removed & {example.id for row in loader.batch_info.rows for example in row}
        assert batch["loss_weights"].any()


def test_pictures_and_words_come_as_samples_of_prompts(open_mixture):
    loader, tokenizer = open_mixture(), gm.load_tokenizer("bytes")
    for batch in itertools.islice(loader, 4):
        sample = prompt_sample(batch, loader.batch_info)
        assert len(sample) == sum(map(len, loader.batch_info.rows))
        for one in sample.unpack():
            (metadata,), tokens = one.metadata, one.data["packed_prompts"]
            row = metadata["row"] - loader.batch_info.row_numbers[0]
            assert np.array_equal(tokens, batch["input_tokens"][row, slice(*metadata["tokens"])])
            if metadata["dataset"] == NAME:
                assert f"{one.ids[0][1:]} + 1 = ?" in tokenizer.decode(tokens.tolist())
                assert metadata["solutions"] == [str(int(one.ids[0][1:]) + 1)]
            else:
                assert (tokens >= tokenizer.special_base).any()
                assert metadata["source"] == "pixmo_count"


STEPS = 44


@pytest.fixture(scope="module")
def trained():
    """Ids and numbers of active prompts of a run that nobody stopped."""
    with prompt_loader() as loader:
        return [[step, ids, active] for step, (ids, active) in enumerate(train(loader, STEPS, {}))]


def test_a_curriculum_lets_a_model_come_to_what_it_cannot_do(trained):
    active = [left for _, _, left in trained]
    assert active[: FILTER_EVERY - 1] == [60] * (FILTER_EVERY - 1)
    assert active == sorted(active, reverse=True)
    share = [before - after <= before // 4 for before, after in itertools.pairwise(active)]
    assert all(share)
    hard = {name for _, ids, _ in trained[-4:] for name in ids}
    assert 15 < active[-1] < 30
    assert len(hard) <= active[-4]


def test_a_run_that_is_killed_goes_on_with_the_same_prompts(trained, tmp_path):
    root = Path(__file__).parents[1]
    command = [sys.executable, str(root / "tests" / "rl_loop.py"), str(tmp_path), str(STEPS)]
    environment = {**os.environ, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
    found = {}
    for lines in (FILTER_EVERY + 1, 3 * FILTER_EVERY, STEPS):
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            told = [*itertools.islice(process.stdout, lines)]
            process.send_signal(signal.SIGKILL)
            told += process.stdout.read().splitlines(keepends=True)
        for step, *batch in (json.loads(line) for line in told if line.endswith("\n")):
            assert found.setdefault(step, batch) == batch
    # Some steps may have been done, and kept, that it was killed before it could tell of.
    assert all(trained[step] == [step, *batch] for step, batch in found.items())
    assert max(found) == STEPS - 1
