"""What `Loader.filter` removes as part of states: other histories, other later phases, other data."""

import json

import numpy as np
import pytest
from rl_loop import prompt_loader

import grain_molmo as gm
from grain_molmo.curriculum import Curriculum
from grain_molmo.datasets.prompts import MathCodePrompts
from grain_molmo.errors import ConfigError

ALL = Curriculum(filter_threshold=0.5)
BOTH = {"first": 1, "second": 1}


def words(name, count=20):
    lines = [{"qid": f"{name}{n}", "prompt": f"{n} + 1 = ?", "solutions": ["1"]} for n in range(count)]
    return MathCodePrompts(dataset_builder=lambda: lines)


def scores(name, numbers):
    return {f"{name}{number}": 1.0 for number in numbers}


def loader_of(mixture, *phases, **sizes):
    names = {name for each in (mixture, *(phase.mixture for phase in phases)) for name in each}
    few = {"seq_len": 96, "batch_size": 2, "crops_per_row": 0, "waiting": 2}
    stage = gm.Stage(mixture=mixture, phases=phases, kind="prompts", **few)
    datasets = {name: words(name[0], sizes.get(name, 20)) for name in names}
    return gm.make_loader(stage, tokenizer="bytes", num_threads=1, curriculum=ALL, datasets=datasets)


def ids_of(loader, steps):
    """Ids by step."""
    return [[one.id for row in loader.batch_info.rows for one in row] for _ in range(steps) for _ in [next(loader)]]


@pytest.mark.parametrize("step", [0, 3, 8, 12])
def test_any_batch_of_a_run_is_had_after_another_with_a_filter_declared_ahead_was_given_up(step):
    with prompt_loader(60, curriculum=ALL) as loader:
        start = loader.get_state()
        loader.filter(scores("q", range(5)), step=2)
        ids_of(loader, 3)
        loader.set_state(start)
        ids_of(loader, 2)
        before = loader.get_state()
        loader.filter(scores("q", range(30)), step=10)
        ids_of(loader, 4)
        loader.set_state(before)
        loader.batch_at(step)
        again = [one.id for row in loader.batch_info.rows for one in row]
    with prompt_loader(60) as plain:
        assert ids_of(plain, step + 1)[step] == again


def test_filters_need_no_order_of_their_steps():
    with prompt_loader(60, curriculum=ALL) as loader, prompt_loader(60, curriculum=ALL) as other:
        for step, numbers in ((6, range(10)), (3, range(10, 20)), (3, range(20, 30)), (0, [40])):
            loader.filter(scores("q", numbers), step=step)
        other.filter(scores("q", [40]))
        found = ids_of(other, 3)
        other.filter(scores("q", range(10, 30)))
        found += ids_of(other, 3)
        other.filter(scores("q", range(10)))
        assert ids_of(loader, 9) == found + ids_of(other, 3)
        assert loader.active_indices("rl_prompts").tolist() == other.active_indices("rl_prompts").tolist()


def test_what_is_declared_makes_one_state_in_whatever_order():
    with prompt_loader(60, curriculum=ALL) as loader, prompt_loader(60, curriculum=ALL) as other:
        for each, order in ((loader, (3, 6)), (other, (6, 3))):
            for step in order:
                each.filter(scores("q", [step]), step=step)
        assert loader.get_state() == other.get_state()


def test_a_set_that_comes_later_comes_without_what_was_removed_before():
    with loader_of({"first": 1}, gm.Phase(step=3, mixture={"second": 1})) as loader:
        loader.filter(scores("s", range(15)))
        found = {name for step in ids_of(loader, 12)[4:] for name in step}
        assert found == {f"s{number}" for number in range(15, 20)}


def test_a_filter_that_removes_nothing_leaves_the_state_as_it_is():
    with prompt_loader(60, curriculum=ALL) as loader:
        ids_of(loader, 1)
        before = loader.get_state()
        loader.filter({"q1": 0.1})
        assert loader.get_state() == before


def test_a_state_that_leaves_nothing_of_a_later_phase_is_refused():
    over = gm.Phase(step=4, mixture={"second": 1})
    with loader_of(BOTH, over) as loader:
        loader.filter(scores("f", range(20)), step=4)
        ids_of(loader, 6)
        state = json.loads(json.dumps(loader.get_state()))
    with loader_of(BOTH, over, gm.Phase(step=9, mixture=BOTH)) as again:
        with pytest.raises(ConfigError, match="no example of first would be left from step 9 on"):
            again.set_state(state)
        assert again.get_state()["plan"]["step"] == 0
        assert ids_of(again, 1)


def test_a_phase_that_is_over_may_have_drawn_what_is_all_removed_since():
    over = gm.Phase(step=4, mixture={"second": 1})
    with loader_of(BOTH, over) as loader, loader_of(BOTH, over) as again:
        loader.filter(scores("f", range(20)), step=4)
        ids_of(loader, 6)
        again.set_state(loader.get_state())
        assert ids_of(again, 3) == ids_of(loader, 3)


@pytest.mark.parametrize("later", [{"second": 1}, {"first": 1}])
def test_a_set_of_which_examples_are_removed_belongs_to_the_state_before_it_is_drawn(later):
    with loader_of({"first": 1}, gm.Phase(step=5, mixture={"second": 1})) as loader:
        ids_of(loader, 1)
        plain = loader.get_state()
        loader.filter(scores("s", range(10)))
        state = loader.get_state()
    with loader_of({"first": 1}, gm.Phase(step=5, mixture=later), second=60) as other:
        other.set_state(plain)
        with pytest.raises(ConfigError, match="another loader: data differ"):
            other.set_state(state)


@pytest.mark.parametrize("no_scores", [None, ["q1"], "q1"])
def test_what_is_no_dict_of_scores_is_refused(no_scores):
    with prompt_loader(60, curriculum=ALL) as loader, pytest.raises(ConfigError, match="not a dict of scores"):
        loader.filter(no_scores)


def test_a_curriculum_s_names_are_those_of_sets_with_either_dash():
    with prompt_loader(60, curriculum={"rl-prompts": ALL}) as loader:
        assert loader.filter({"rl-prompts": {"q1": 1.0}})["rl_prompts"].removed == 1
        assert loader.active_indices("rl-prompts").size == 59


def test_scores_are_scalars_of_any_type():
    given = {"q0": np.float32(1), "q1": np.int64(1), "q2": np.array(1.0), "q3": np.bool_(True), "q4": np.array([1.0])}
    with prompt_loader(60, curriculum=ALL) as loader:
        (report,) = loader.filter(given).values()
    assert (report.removed, report.not_numbers) == (4, 1)
