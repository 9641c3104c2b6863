"""Evaluation: every example once, in order, with a mask that says which rows count."""

import json

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import grain_molmo as gm
from grain_molmo import loader as loader_module
from grain_molmo.datasets.registry import _REGISTRY
from grain_molmo.errors import ConfigError, StoreError
from grain_molmo.eval_plan import EachOnce
from grain_molmo.mesh import ProcessPart
from grain_molmo.packing.mixture import Draw


class Asked(gm.Dataset):
    """Example 3 cannot be encoded, the picture of example 5 cannot be decoded."""

    def __init__(self, size: int = 11, split: str = "test"):
        self.size, self.split = size, split

    def __len__(self) -> int:
        return self.size

    def get(self, item, rng):
        if item == 3:
            raise gm.ExampleError("torn", "half of it is missing")
        pixels = np.full((20, 30, 3), item, np.float32 if item == 5 else np.uint8)
        return {"image": pixels, "messages": [f"Number {item}?", f"{item}"], "metadata": {"id": f"{self.split}-{item}"}}


def eval_loader(*datasets, batch_size=4, **more):
    chosen = datasets[0] if len(datasets) == 1 else datasets
    settings = {"tokenizer": "bytes", "seq_len": 1024, "stage": "pretraining", "num_threads": 2, **more}
    return gm.make_eval_loader(chosen, batch_size=batch_size, **settings)


def ids_of(info) -> list[list[str]]:
    return [[one.id for one in row] for row in info.rows]


def test_every_example_comes_once_in_order_and_what_cannot_be_used_is_not_valid():
    with eval_loader(Asked()) as loader:
        assert len(loader) == 3
        batches = [(batch, loader.batch_info) for batch in loader]
        with pytest.raises(StopIteration):
            next(loader)
    valid = np.concatenate([batch["valid"] for batch, _ in batches])
    assert valid.dtype == bool
    assert valid.tolist() == [True] * 3 + [False, True, False] + [True] * 5 + [False]
    ids = [one for _, info in batches for row in ids_of(info) for one in row]
    assert ids == [*(f"test-{i}" for i in range(3)), "3", *(f"test-{i}" for i in range(4, 11))]
    blank = {one.id: one.blanked for _, info in batches for row in info.rows for one in row if one.blanked}
    assert blank == {"3": "torn", "test-5": "bad_array"}
    assert [len(batch["input_tokens"]) for batch, _ in batches] == [4, 4, 4]
    assert [info.num_examples for _, info in batches] == [4, 4, 3]
    assert not batches[-1][0]["input_tokens"][-1].any()


def test_it_asks_or_measures_the_loss_of_what_would_be_answered():
    asked, learned = (next(eval_loader(Asked(3), kind=kind)) for kind in ("prompts", "train"))
    assert not asked["loss_weights"].any()
    assert learned["loss_weights"][:3].any(axis=1).all()


def test_a_state_goes_on_with_the_next_batch_on_any_number_of_processes():
    whole = [
        (batch["input_tokens"], ids_of(loader.batch_info)) for loader in [eval_loader(Asked())] for batch in loader
    ]
    first = eval_loader(Asked())
    next(first)
    state = json.loads(json.dumps(first.get_state()))
    parts = []
    for index in range(2):
        half = eval_loader(Asked(), process_index=index, process_count=2)
        half.set_state(state)
        parts.append([(batch["input_tokens"], ids_of(half.batch_info)) for batch in half])
    for (tokens, ids), (top, top_ids), (bottom, bottom_ids) in zip(whole[1:], *parts, strict=True):
        np.testing.assert_array_equal(tokens, np.concatenate([top, bottom]))
        assert ids == top_ids + bottom_ids


def test_it_can_be_gone_through_again_and_any_batch_be_had():
    loader = eval_loader(Asked())
    start = loader.get_state()
    once = [batch["input_tokens"] for batch in loader]
    loader.set_state(start)
    for step, batch in enumerate(loader):
        np.testing.assert_array_equal(batch["input_tokens"], once[step])
    for step, batch in enumerate(loader):  # a loop after the end begins anew
        np.testing.assert_array_equal(batch["input_tokens"], once[step])
    assert next(iter(loader))["input_tokens"].tobytes() == once[0].tobytes()
    assert next(iter(loader))["input_tokens"].tobytes() == once[1].tobytes()  # one that was left goes on
    np.testing.assert_array_equal(loader.batch_at(1)["input_tokens"], once[1])
    with pytest.raises(ConfigError, match="from 0 to 2"):
        loader.batch_at(3)


def test_several_datasets_follow_each_other_in_the_order_given_which_a_state_belongs_to():
    both = eval_loader(Asked(3, "a"), Asked(3, "b"))
    ids = [one for _ in both for row in ids_of(both.batch_info) for one in row]
    assert ids == [f"{split}-{i}" for split in "ab" for i in range(3)]
    other = gm.make_eval_loader([Asked(4, "a"), Asked(2, "b")], batch_size=4, tokenizer="bytes", seq_len=1024)
    with pytest.raises(ConfigError, match="differ"):
        other.set_state(both.get_state())


class Worded(gm.Dataset):
    """Every other example cannot be encoded; it says which it was."""

    def __len__(self) -> int:
        return 24

    def get(self, item, rng):
        if item % 2:
            raise gm.ExampleError("torn", "half of it is missing", f"word-{item}")
        return {"messages": [f"Number {item}?", f"{item}"]}


def test_text_between_them_ends_a_row_of_examples_that_cannot_be_encoded():
    with eval_loader(Worded(), policy=gm.FaultPolicy(max_in_a_row=1)) as loader:
        assert sum(batch["valid"].sum() for batch in loader) == 12
        assert [one.id for row in loader.batch_info.rows for one in row] == ["20", "word-21", "22", "word-23"]
    with (
        eval_loader(Worded(), policy=gm.FaultPolicy(max_in_a_row=0)) as loader,
        pytest.raises(gm.errors.FaultBudgetError, match="1 examples in a row are blank"),
    ):
        next(loader)


def test_a_policy_may_stop_an_evaluation_and_lists_what_is_not_valid(tmp_path):
    with eval_loader(Asked(), policy=gm.FaultPolicy(action="raise")) as loader:
        for _ in range(2):  # the batch is not handed out
            with pytest.raises((gm.ExampleError, gm.errors.MediaError), match="half of it is missing"):
                next(loader)
    listed = tmp_path / "bad.jsonl"
    with eval_loader(Asked(), policy=gm.FaultPolicy(quarantine=listed)) as loader:
        assert len([*loader]) == 3
    (found,) = tmp_path.iterdir()
    assert [json.loads(line)["reason"] for line in found.read_text().splitlines() if "reason" in line] == [
        "torn",
        "bad_array",
    ]


class Large(gm.Dataset):
    def __len__(self) -> int:
        return 12

    def get(self, item, rng):
        return {"image": np.full((1200, 1200, 3), item, np.uint8), "messages": ["What?", "It."]}


def test_what_a_stage_does_for_a_set_holds_however_often_it_is_named_but_for_visits_of_high_resolution(monkeypatch):
    monkeypatch.setitem(_REGISTRY, "large_ones", lambda split: Large())
    rule = gm.DatasetRule(loss=0.25, p_high_res=0.5)
    stage = gm.Stage(
        mixture={"large_ones": 1},
        rules={"large_ones": rule},
        dataset_args={"large_ones": {}},
        max_crops=2,
        seq_len=8192,
    )
    with eval_loader("large_ones:a", "large_ones:b", stage=stage, seq_len=None, kind="train") as loader:
        infos = [one for _ in loader for row in loader.batch_info.rows for one in row]
    assert {one.dataset for one in infos} == {"large_ones", "large_ones.2"}
    assert {one.crops[1] - one.crops[0] for one in infos} == {2}
    assert len({one.loss_weight for one in infos}) == 1


def test_a_stage_s_arguments_make_the_sets_that_it_names_and_no_others(monkeypatch):
    monkeypatch.setitem(_REGISTRY, "sized_ones", lambda split, size=2: Asked(size, split))
    stage = gm.Stage(mixture=[{"name": "sized_ones", "weight": 1, "args": {"size": 5}}])
    assert len(eval_loader("sized_ones", stage=stage)) == 2
    assert len(eval_loader(Asked(3), stage=stage)) == 1


class Other(Asked):
    """The same under another name."""


def test_a_state_belongs_to_the_order_in_which_sets_follow_each_other():
    one, other = eval_loader(Asked(2), Other(2)), eval_loader(Other(2), Asked(2))
    one.set_state(one.get_state())
    with pytest.raises(ConfigError, match="mixture differ"):
        other.set_state(one.get_state())


def test_context_shards_of_a_row_in_several_processes_are_refused(monkeypatch):
    mesh = jax.make_mesh((4, 2), ("data", "context"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    monkeypatch.setattr(loader_module, "_own_part", lambda *_: ProcessPart((0, 1), shards=(1,)))
    with pytest.raises(ConfigError, match="all context shards of a row in one process"):
        eval_loader(Asked(), mesh=mesh)


def test_names_say_their_split(sample_dir):
    settings = {"data_dir": sample_dir, "tokenizer": "bytes", "kind": "train", "seq_len": 6144}
    named = gm.make_eval_loader("pixmo-count:train", batch_size=2, **settings)
    assert len(named) == len(gm.get_dataset("pixmo_count", "train", data_dir=sample_dir)) / 2
    with pytest.raises((ConfigError, StoreError), match="nothing"):
        gm.make_eval_loader("pixmo_count", split="nothing", batch_size=2, **settings)


def test_on_a_mesh_every_array_is_global_and_the_mask_lies_with_the_rows():
    mesh = jax.make_mesh((4, 2), ("data", "context"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    local = [batch["input_tokens"] for batch in eval_loader(Asked())]
    loader = eval_loader(Asked(), mesh=mesh)
    for wanted, batch in zip(local, loader, strict=True):
        np.testing.assert_array_equal(np.asarray(batch["input_tokens"]), wanted)
        assert batch["valid"].sharding.spec == jax.sharding.PartitionSpec(("data",))


def test_evaluation_has_one_form_for_every_seed():
    question = {
        "style": "video_multiple_choice",
        "question": "Which?",
        "options": ["one", "two", "three"],
        "answer_idx": 1,
    }
    texts = set()
    for seed in range(8):
        loader = eval_loader(OneQuestion(question), seed=seed, batch_size=1, stage="sft", seq_len=1024)
        texts.add(next(loader)["input_tokens"].tobytes())
    assert len(texts) == 1


class OneQuestion(gm.Dataset):
    def __init__(self, question):
        self.question = question

    def __len__(self):
        return 1

    def get(self, item, rng):
        return self.question


def test_what_is_nothing_to_evaluate_is_refused():
    with pytest.raises(ConfigError, match="nothing to evaluate"):
        eval_loader(Asked(0))
    for nothing in ([], [["pixmo_cap"]], [3]):
        with pytest.raises(ConfigError, match="nothing to evaluate"):
            gm.make_eval_loader(nothing, batch_size=2, tokenizer="bytes")
    with pytest.raises(ConfigError, match="does not divide"):
        eval_loader(Asked(), process_index=0, process_count=3)
    with pytest.raises(ConfigError, match="whole number"):
        eval_loader(Asked(), seed=0.5)
    with pytest.raises(ConfigError, match="no dataset that this loader filters"):
        eval_loader(Asked()).active_indices("Asked")


@given(st.lists(st.integers(0, 20), min_size=1, max_size=4).filter(any), st.integers(1, 9))
def test_a_plan_has_every_example_once_whatever_the_sizes(sizes, batch_size):
    named = {f"set{i}": size for i, size in enumerate(sizes)}
    batches = [*EachOnce(named, batch_size)]
    draws = [example.draw for batch in batches for row in batch.rows for example in row]
    assert draws == [Draw(name, 0, index) for name, size in named.items() for index in range(size)]
    assert all(len(batch.rows) == batch_size for batch in batches)
