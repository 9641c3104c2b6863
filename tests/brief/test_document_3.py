"""Document 3, datasets of prompts: each of its code blocks runs as it stands there, on this library.

What it imports from elsewhere is given by this library or by NumPy; where it says "..." for one's own code, there is
some. Without the document the tests skip; what they show is tested in words of our own, too, in `test_math_code.py`,
`test_sequence_sample.py` and `test_loader_curriculum.py`.
"""

import json
import logging
import re
import typing
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import grain_molmo as gm
from grain_molmo.curriculum import choose_removals
from grain_molmo.datasets import registry

TESTS = {
    "class MyCustomDataset(torch.utils.data.Dataset):": "test_a_dataset_loads_and_shuffles_its_own_lines",
    "def __len__(self):": "test_its_length_is_that_of_its_samples",
    "def __getitem__(self, idx):": "test_an_item_is_a_sample_of_one_sequence",
    "def filter(self, eval_scores: Dict[str, float]):": "test_its_filter_leaves_what_the_loader_s_leaves",
    '{"qid": "sample_1",': "test_lines_of_mathematics_and_code_are_prompts",
    '{"qid": "sample_2",': "test_lines_of_mathematics_and_code_are_prompts",
    "# in realhf/impl/dataset/my_custom_dataset.py": "test_a_registered_dataset_is_configured_by_name_and_arguments",
    "# in your experiment config file": "test_a_registered_dataset_is_configured_by_name_and_arguments",
}
"""By how each block begins, in their order, the test that runs it."""

FILLED_IN = {
    "# Your custom data processing logic": """
        self.data_samples = data
        self.ids = [sample["id"] for sample in data]
        self.active_indices = list(range(len(data)))
        self.custom_param = custom_param
    """,
    "# Process data": 'processed_data = {"input_ids": self._util.tokenizer.encode(sample["prompt"])}',
}
"""What stands for "..." below these comments."""

torch = SimpleNamespace(utils=SimpleNamespace(data=SimpleNamespace(Dataset=gm.Dataset)), tensor=np.array, long=np.int64)
"""What the blocks use of it."""


@pytest.fixture(scope="module")
def blocks(shared) -> list[str]:
    document = shared / "brief" / "3_areal_dataset_customization.md"
    if not document.exists():
        pytest.skip(f"{document} is not there")
    return re.findall(r"^```\w+\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def block(blocks) -> Callable[[str], str]:
    """The block that begins like this, with one's own code filled in."""

    def find(beginning: str) -> str:
        (code,) = (each for each in blocks if each.startswith(beginning))
        for comment, own in FILLED_IN.items():
            code = re.sub(
                rf"^( *){comment}\n *\.\.\.$", lambda found, own=own: indented(own, found[1]), code, flags=re.M
            )
        return code

    return find


def indented(code: str, by: str) -> str:
    return "\n".join(by + line.strip() for line in code.strip().splitlines())


@pytest.fixture
def run_block(block) -> Callable[..., dict[str, Any]]:
    """Runs the block that begins like this: what it defines."""

    def run(beginning: str, **names: Any) -> dict[str, Any]:
        annotations = {name: getattr(typing, name) for name in ("Callable", "Dict", "List", "Optional")}
        scope = {"data_api": gm, "torch": torch, "logger": logging.getLogger("document"), **annotations, **names}
        exec(compile(block(beginning), beginning, "exec"), scope)
        return scope

    return run


@pytest.fixture
def dataset_class(run_block) -> type:
    """The class of the document, with all of its methods and what this library asks for beside."""
    first, *methods = [*TESTS][:4]
    made = run_block(first)["MyCustomDataset"]
    for beginning, name in zip(methods, ("__len__", "__getitem__", "filter"), strict=True):
        setattr(made, name, run_block(beginning)[name])

    def get(self, item: int, rng: np.random.RandomState) -> dict[str, Any]:
        sample = self.data_samples[item]
        return {"messages": [{"role": "user", "content": sample["prompt"]}], "metadata": {"id": sample["id"]}}

    made.get = get
    return made


UTIL = {"seed": 1, "tokenizer": "bytes"}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"id": f"p{n}", "prompt": f"Say {n}."}) + "\n" for n in range(30)))
    return file


@pytest.fixture
def dataset(dataset_class, path):
    return dataset_class(gm.DatasetUtility(**UTIL), dataset_path=str(path))


def test_every_block_is_named_with_a_test_that_is_there(blocks):
    assert len(blocks) == len(TESTS)
    assert all(each.startswith(beginning) for each, beginning in zip(blocks, TESTS, strict=True))
    assert all(callable(globals()[name]) for name in TESTS.values())


def test_a_dataset_loads_and_shuffles_its_own_lines(dataset, dataset_class, path):
    assert sorted(dataset.ids) == sorted(f"p{n}" for n in range(30))
    assert dataset.ids != [f"p{n}" for n in range(30)]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    built = dataset_class(gm.DatasetUtility(**UTIL), dataset_builder=lambda: lines, custom_param=2.0)
    assert built.data_samples == dataset.data_samples
    assert (dataset.custom_param, built.custom_param, dataset.max_length) == (1.0, 2.0, None)


def test_its_length_is_that_of_its_samples(dataset):
    assert len(dataset) == 30


def test_an_item_is_a_sample_of_one_sequence(dataset):
    sample = dataset[4]
    text = dataset.data_samples[4]["prompt"]
    assert isinstance(sample, gm.SequenceSample)
    assert (sample.ids, sample.seqlens) == ((dataset.ids[4],), (len(text),))
    assert sample.data["packed_prompts"].tolist() == [*text.encode()]
    assert len(gm.SequenceSample.gather([dataset[n] for n in range(3)])) == 3


def test_its_filter_leaves_what_the_loader_s_leaves(dataset, caplog):
    dataset.filter_threshold, dataset.max_filter_percentage = 0.5, 0.2
    curriculum = gm.Curriculum(filter_threshold=0.5, max_filter_percentage=0.2)
    stage = gm.Stage(mixture={"mine": 1}, kind="prompts", seq_len=128, batch_size=2, crops_per_row=0)
    settings = {"tokenizer": "bytes", "num_threads": 1, "curriculum": curriculum, "datasets": {"mine": dataset}}
    rng = np.random.RandomState(3)
    with gm.make_loader(stage, **settings) as loader, caplog.at_level(logging.INFO):
        for left in (24, 20, 16):
            scores = dict(zip(dataset.ids, rng.rand(30).round(2).tolist(), strict=True)) | {"unknown": 1.0}
            active = np.array(dataset.active_indices)
            chosen = choose_removals(dataset.ids, active, scores, curriculum).indices
            loader.filter(scores)
            dataset.filter(scores)
            assert dataset.active_indices == loader.active_indices("mine").tolist()
            assert dataset.active_indices == [index for index in active if index not in chosen]
            assert len(dataset.active_indices) == left
            assert f"{left} samples remain" in caplog.text
        shown = {
            example.index
            for _ in range(12)
            for _ in [next(loader)]
            for row in loader.batch_info.rows
            for example in row
        }
        assert shown == {*dataset.active_indices}


def test_lines_of_mathematics_and_code_are_prompts(block, tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(block(beginning) for beginning in [*TESTS][4:6]))
    dataset = gm.get_dataset("math_code", dataset_path=path)
    found = {example["metadata"]["id"]: example for example in dataset}
    math, code = found["sample_1"], found["sample_2"]
    assert math["messages"] == [{"role": "user", "content": "Solve this math problem: 2+2="}]
    assert (math["metadata"]["task"], math["metadata"]["solutions"]) == ("math", ["\\boxed{4}"])
    assert code["metadata"]["task"] == "code"
    assert json.loads(code["metadata"]["input_output"])["outputs"] == ["17\n"]
    stage = gm.Stage(
        mixture=[{"name": "math-code", "weight": 1, "args": {"dataset_path": str(path)}}],
        kind="prompts", seq_len=64, batch_size=1, crops_per_row=0,
    )  # fmt: skip
    with gm.make_loader(stage, tokenizer="bytes", num_threads=1) as loader:
        sample = gm.prompt_sample(next(loader), loader.batch_info)
    assert {*sample.ids} <= {*found}
    for qid, metadata in zip(sample.ids, sample.metadata, strict=True):
        assert metadata.items() >= found[qid]["metadata"].items()


def test_a_registered_dataset_is_configured_by_name_and_arguments(dataset_class, run_block, path, monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    util = gm.DatasetUtility(**UTIL)

    def made(split: str, **args: Any) -> gm.Dataset:  # what a stage tells each dataset, and what this one wants first
        return dataset_class(util, **args)

    register, configure = [*TESTS][6:]
    run_block(register, MyCustomDataset=made)

    def abstraction(name: str, args: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "weight": 1, "args": args}

    experiment = SimpleNamespace(dataset_path=str(path), max_length=64, custom_param=2.5)
    mixture = run_block(configure, DatasetAbstraction=abstraction)["datasets"].fget(experiment)
    stage = gm.Stage(mixture=mixture, kind="prompts", seq_len=64, batch_size=2, crops_per_row=0)
    with gm.make_loader(stage, tokenizer="bytes", num_threads=1) as loader:
        samples = [gm.prompt_sample(next(loader), loader.batch_info) for _ in range(3)]
        state = json.loads(json.dumps(loader.get_state()))
        following = gm.prompt_sample(next(loader), loader.batch_info)
    assert all(name.startswith("p") for sample in samples for name in sample.ids)
    with gm.make_loader(stage, tokenizer="bytes", num_threads=1) as again:
        again.set_state(state)
        assert gm.prompt_sample(next(again), again.batch_info).ids == following.ids
    made_again = gm.get_dataset("my-custom", dataset_path=str(path), custom_param=2.5)
    assert (made_again.custom_param, len(made_again)) == (2.5, 30)
