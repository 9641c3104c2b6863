"""Document 1, custom datasets: every code block of it runs as written there, but for import path and places of files.

`document_1.txt` holds the blocks, each under its heading; below, each has a test of its own, and its dataset is packed
into batches that go on bit for bit where they were stopped.
"""

import functools
import json
import re
import sys
import types
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import grain_molmo as gm
from converters.sample.clips import ClipFormat, encode_clip
from grain_molmo.datasets import registry
from grain_molmo.vision.crops import unpatchify

pytestmark = pytest.mark.xdist_group("loader")  # one of them uses the converted sample

TESTS: dict[str, str] = {
    "Dataset Interface": "test_the_interface_is_that_of_the_document",
    "Example Format": "test_an_example_of_the_form_goes_through",
    "Loading from JSON": "test_annotations_in_json",
    "Usage": "test_a_dataset_is_made_and_read_as_shown",
    "Loading from HF Hub": "test_a_table_in_the_hub_s_form",
    "Multiple Images per Example": "test_several_pictures_an_example",
    "Video Dataset": "test_frames_of_a_video",
    "With Data Augmentation": "test_augmentation_draws_from_its_rng",
    "Pointing/Grounding Dataset": "test_points_in_words",
    "Counting Dataset": "test_counts_in_words",
    "Add to get_dataset.py": "test_a_registry_by_name",
    "Use in Training": "test_a_mixture_with_a_set_of_the_library",
    "Efficient Loading": "test_a_cache_of_pictures",
    "Error Handling": "test_a_fallback_for_what_does_not_load",
    "Lazy Loading": "test_an_index_and_a_file_for_each_example",
    "Testing Your Dataset": "test_the_document_s_own_test_passes",
    "Multi-turn Conversations": "test_patterns_of_conversations",
    "Instruction Following": "test_patterns_of_conversations",
    "Chain-of-Thought": "test_patterns_of_conversations",
}
"""The test that runs the block under each heading."""

IMPORT_PATHS = {"olmo.data.dataset": "grain_molmo", "olmo.data.get_dataset": "grain_molmo"}


def blocks_of(text: str) -> dict[str, str]:
    """The code blocks of a document by the heading above each."""
    found: dict[str, str] = {}
    heading = ""
    for match in re.finditer(r"^#+ ([^\n]*)$|^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if match[1] is not None:
            heading = match[1]
        else:
            assert heading not in found, heading
            found[heading] = match[2]
    return found


BLOCKS = blocks_of(Path(__file__).with_name("document_1.txt").read_text())


def run_block(heading: str, *, files: dict[str, Any] | None = None, **names: Any) -> dict[str, Any]:
    """Runs a block: what it defines. `files` are put in place of those that the document names."""
    code = BLOCKS[heading]
    for theirs, ours in {**IMPORT_PATHS, **(files or {})}.items():
        code = code.replace(theirs, str(ours))
    taken_for_granted = {"Any": Any, "Dict": dict, "np": np, "json": json, "Path": Path, "Image": Image}
    bases = {"Dataset": gm.Dataset, "DatasetBase": gm.DatasetBase}
    scope = {**taken_for_granted, **bases, "__name__": "__main__", **names}
    exec(compile(code, heading, "exec"), scope)
    return scope


def value_of(heading: str, **names: Any) -> Any:
    """What a block comes to that is one expression."""
    return eval(BLOCKS[heading], {"np": np, **names})


def dataset_with(get: Any, data: list[Any]) -> gm.Dataset:
    """A dataset of the document's that shows its `get` alone."""

    class Shown(gm.DatasetBase):
        def load(self) -> list[Any]:
            return data

    Shown.get = get
    return Shown()


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures, and annotations of them in every form of the document."""
    rng = np.random.RandomState(5)
    (tmp_path / "images").mkdir()
    rows = []
    for number in range(12):
        pixels = np.kron(rng.randint(0, 256, (6, 8, 3)), np.ones((10 + number, 10, 1))).astype(np.uint8)
        path = tmp_path / "images" / f"{number}.png"
        Image.fromarray(pixels).save(path)
        row = {"image_filename": path.name, "image_path": str(path), "id": f"row-{number}"}
        said = {"question": f"What is in picture {number}?", "answer": f"Block {number} of colours."}
        rows.append({**row, **said, "object": "square", "point": [number, 7], "count": number})
    for split, part in (("train", rows[:9]), ("validation", rows[9:])):
        (tmp_path / f"{split}.json").write_text(json.dumps(part))
    return tmp_path


@pytest.fixture
def rows(folder: Path) -> list[dict[str, Any]]:
    """The annotations of the training split."""
    return json.loads((folder / "train.json").read_text())


SMALL = {"seq_len": 1536, "batch_size": 2, "crops_per_row": 16, "max_crops": 2}


class Trained:
    """What a dataset comes to in training: some batches, and the same again from where a run was stopped."""

    def __init__(self, dataset: gm.Dataset, steps: int = 4, **settings: Any):
        stage = gm.Stage(mixture={"own": 1}, **{**SMALL, **settings})
        own = {"own": dataset}
        with gm.make_loader(stage, datasets=own, tokenizer="bytes", num_threads=1) as loader:
            self.batches = []
            for step in range(steps):
                self.batches.append((next(loader), loader.batch_info))
                if step == 1:
                    state = json.dumps(loader.get_state())
        with gm.make_loader(stage, datasets=own, tokenizer="bytes", num_threads=2) as again:
            again.set_state(json.loads(state))
            for batch, _ in self.batches[2:]:
                same = next(again)
                assert all(np.array_equal(batch[key], same[key]) for key in batch)

    def examples(self) -> Iterator[tuple[Any, str, np.ndarray]]:
        """What is said of each example, its text, and its crops [C, 378, 378, 3]."""
        tokenizer = gm.load_tokenizer("bytes")
        for batch, info in self.batches:
            for row, infos in enumerate(info.rows):
                for one in infos:
                    ids = batch["input_tokens"][row, slice(*one.tokens)]
                    text = tokenizer.decode(ids[ids < tokenizer.special_base].tolist())
                    yield one, text, unpatchify(batch["images"][row, slice(*one.crops)])

    def is_packed(self) -> bool:
        """Whether some row has more than one example, and all learn something."""
        learned = all((batch["loss_weights"].sum(axis=1) > 0).all() for batch, _ in self.batches)
        return learned and any(len(row) > 1 for _, info in self.batches for row in info.rows)

    def holds(self, dataset: gm.Dataset) -> bool:
        """Whether every example that came has the dataset's last answer, which is in no other."""
        answers = [content(dataset[i]["messages"][-1]) for i in range(len(dataset))]
        return all(answers[one.index] in text for one, text, _ in self.examples())


def content(message: str | dict[str, str]) -> str:
    return message if isinstance(message, str) else message["content"]


def test_every_block_of_the_document_has_its_test(shared: Path):
    document = shared / "brief" / "1_custom_datasets.md"
    if not document.exists():
        pytest.skip(f"{document} is not there")
    assert blocks_of(document.read_text()) == BLOCKS


def test_every_block_is_named_with_a_test_that_is_there():
    assert list(TESTS) == list(BLOCKS)
    assert all(callable(globals()[name]) for name in TESTS.values())


def test_the_interface_is_that_of_the_document():
    theirs = run_block("Dataset Interface")["Dataset"]
    assert theirs is not gm.Dataset  # the block spells the interface out
    for name in ("__len__", "get"):
        assert callable(getattr(gm.Dataset, name))
        with pytest.raises(NotImplementedError):
            getattr(gm.Dataset(), name)(*(() if name == "__len__" else (0, np.random.RandomState(0))))
    assert vars(theirs)["get"].__code__.co_varnames[:3] == gm.Dataset.get.__code__.co_varnames[:3]


def test_an_example_of_the_form_goes_through():
    form = value_of("Example Format")
    assert (form["image"], form["metadata"]) == (np.ndarray, {"id": str, "source": str})
    picture = np.full((40, 60, 3), 9, np.uint8)
    example = {**form, "image": picture, "metadata": {"id": "one", "source": "mine"}}
    trained = Trained(dataset_with(lambda self, item, rng: example, [None] * 4))
    assert trained.is_packed()
    assert {(one.id, "Answer or response" in text) for one, text, _ in trained.examples()} == {("one", True)}


def my_simple_dataset(folder: Path) -> Any:
    return run_block("Loading from JSON", files={"/path/to/data": folder})["MySimpleDataset"]


def test_annotations_in_json(folder: Path):
    dataset = my_simple_dataset(folder)()
    assert (len(dataset), dataset.split) == (9, "train")
    trained = Trained(dataset)
    assert trained.is_packed()
    assert trained.holds(dataset)
    assert {one.id for one, _, _ in trained.examples()} <= {f"row-{number}" for number in range(9)}
    assert len(my_simple_dataset(folder)(split="validation")) == 3


def test_a_dataset_is_made_and_read_as_shown(folder: Path, capsys: pytest.CaptureFixture[str]):
    run_block("Usage", files={"/path/to/data": folder}, MySimpleDataset=my_simple_dataset(folder))
    assert capsys.readouterr().out == (
        "Question: What is in picture 0?\nAnswer: Block 0 of colours.\nImage shape: (60, 80, 3)\n"
    )


def test_a_table_in_the_hub_s_form(folder: Path, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
    told = ("question", "answer", "id")
    table = [{**{key: row[key] for key in told}, "image": Image.open(row["image_path"])} for row in rows]
    for split, part in (("train", table), ("validation", table[:2])):
        datasets.Dataset.from_list(part).to_parquet(folder / "hub" / "data" / f"{split}-00000-of-00001.parquet")
    my_hf_dataset = run_block("Loading from HF Hub", files={"organization/dataset-name": folder / "hub"})["MyHfDataset"]
    my_hf_dataset.download()
    assert (len(my_hf_dataset()), len(my_hf_dataset(split="validation"))) == (9, 2)
    trained = Trained(my_hf_dataset())
    assert trained.is_packed()
    assert trained.holds(my_hf_dataset())


def test_several_pictures_an_example(rows: list[dict[str, Any]]):
    paths = [row["image_path"] for row in rows]
    data = [{"image_paths": paths[i : i + 2 + i % 2], "comparison": f"The {i}th pair."} for i in range(6)]
    dataset = dataset_with(run_block("Multiple Images per Example")["get"], data)
    trained = Trained(dataset, max_crops=1, seq_len=4096)
    assert trained.is_packed()
    assert trained.holds(dataset)
    for one, _, crops in trained.examples():
        assert len(crops) == 2 * len(data[one.index]["image_paths"])  # the whole and one part of each


def test_frames_of_a_video(tmp_path: Path):
    clip = ClipFormat(codec="h264", seconds=4.0, width=64, height=48, fps=Fraction(10), gop=12, b_frames=3)
    data = []
    for shade in (40, 120, 200):
        path = tmp_path / f"{shade}.mp4"
        path.write_bytes(encode_clip(clip, lambda time_s, shade=shade: np.full((48, 64, 3), shade + 5 * time_s, "u1")))
        data.append({"video_path": str(path), "caption": f"Shade {shade} becomes lighter."})
    dataset = dataset_with(run_block("Video Dataset")["get"], data)
    example = dataset[0]
    assert len(example["image"]) == 16
    assert all(frame.shape == (48, 64, 3) and frame.dtype == np.uint8 for frame in example["image"])
    trained = Trained(dataset, max_frames=16, seq_len=4096, crops_per_row=48)
    assert trained.is_packed()
    assert trained.holds(dataset)
    for one, _, crops in trained.examples():
        assert one.frames == len(crops) == 16
        shades = crops.reshape(16, -1).mean(axis=1)
        assert abs(shades[0] - (40, 120, 200)[one.index]) < 4
        assert 10 < shades[-1] - shades[0] < 25


def test_augmentation_draws_from_its_rng(rows: list[dict[str, Any]]):
    dataset = dataset_with(run_block("With Data Augmentation")["get"], rows)
    trained = Trained(dataset, steps=6)
    assert trained.is_packed()
    assert trained.holds(dataset)
    by_visit = {(one.index, one.epoch): crops for one, _, crops in trained.examples()}
    both = [index for index, epoch in by_visit if epoch == 0 and (index, 1) in by_visit]
    assert both
    assert any(not np.array_equal(by_visit[index, 0], by_visit[index, 1]) for index in both)


def test_points_in_words(rows: list[dict[str, Any]]):
    dataset = dataset_with(run_block("Pointing/Grounding Dataset")["get"], rows)
    trained = Trained(dataset)
    assert trained.is_packed()
    for one, text, _ in trained.examples():
        assert "Where is the square?" in text
        assert f"Point: x={one.index} y=7" in text


def test_counts_in_words(rows: list[dict[str, Any]]):
    dataset = dataset_with(run_block("Counting Dataset")["get"], rows)
    trained = Trained(dataset)
    assert trained.is_packed()
    for one, text, _ in trained.examples():
        assert "Count the square" in text
        assert f"Count: {one.index}" in text


def my_module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `my_dataset` a module that can be imported."""
    module: Any = types.ModuleType("my_dataset")
    module.MySimpleDataset = my_simple_dataset(folder)
    monkeypatch.setitem(sys.modules, "my_dataset", module)


def test_a_registry_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch):
    my_module(folder, monkeypatch)
    theirs = run_block("Add to get_dataset.py")
    for name, made in theirs["DATASET_REGISTRY"].items():
        gm.register_dataset(name, made)
    for get_dataset in (theirs["get_dataset"], gm.get_dataset):
        dataset = get_dataset("my_dataset", split="validation", data_dir=str(folder))
        assert (type(dataset), len(dataset)) == (sys.modules["my_dataset"].MySimpleDataset, 3)
        with pytest.raises(ValueError, match=r"[Uu]nknown dataset"):
            get_dataset("nobody")


def test_a_mixture_with_a_set_of_the_library(folder: Path, sample_dir: Path):
    gm.register_dataset("my_dataset", my_simple_dataset(folder))
    theirs = run_block("Use in Training")
    assert len(theirs["dataset"]) == 9
    stage = gm.Stage(mixture=theirs["datasets"], seq_len=4096, batch_size=2)
    settings: dict[str, Any] = {"data_dir": sample_dir, "tokenizer": "bytes", "num_threads": 1}
    with gm.make_loader(stage, **settings) as loader, gm.make_loader(stage, **settings) as again:
        assert loader.weights == {"my_dataset": 0.5, "pixmo_cap": 0.5}
        for _ in range(3):
            next(loader)
        assert set(loader.stats()["datasets"]) == {"my_dataset", "pixmo_cap"}
        again.set_state(json.loads(json.dumps(loader.get_state())))
        batch, same = next(loader), next(again)
        assert all(np.array_equal(batch[key], same[key]) for key in batch)


def test_a_cache_of_pictures(rows: list[dict[str, Any]]):
    efficient = run_block("Efficient Loading", functools=functools)["EfficientDataset"]

    class Finished(efficient):
        def load(self) -> list[Any]:
            return rows

        def get(self, idx: int, rng: np.random.RandomState) -> dict[str, Any]:
            assert super().get(idx, rng) is None  # the block leaves the rest to its reader
            image = self._load_image(rows[idx]["image_path"])
            return {"image": image, "messages": [rows[idx]["question"], rows[idx]["answer"]]}

    dataset = Finished()
    trained = Trained(dataset)
    assert trained.is_packed()
    assert trained.holds(dataset)
    cache = efficient._load_image.cache_info()
    assert cache.misses <= len(rows) + 2  # two threads may both miss
    assert cache.hits > cache.misses
    for row in rows:  # nobody wrote into what the cache keeps
        assert np.array_equal(dataset._load_image(row["image_path"]), np.array(Image.open(row["image_path"])))


def test_a_fallback_for_what_does_not_load(rows: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]):
    data = [{**row, "messages": [row["question"], row["answer"]]} for row in rows]
    data[3]["image_path"] = "/nowhere.png"
    dataset = dataset_with(run_block("Error Handling")["get"], data)
    trained = Trained(dataset)
    assert trained.is_packed()
    assert trained.holds(dataset)
    assert "Error loading example 3: " in capsys.readouterr().out
    assert dataset[3]["messages"] == data[0]["messages"]


def test_an_index_and_a_file_for_each_example(
    folder: Path, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(folder)
    for row in rows:
        (folder / f"{row['id']}.json").write_text(json.dumps(row))
    (folder / "index_train.json").write_text(json.dumps([{"path": f"{row['id']}.json"} for row in rows]))
    lazy = run_block("Lazy Loading")["LazyDataset"]

    class Finished(lazy):
        def get(self, idx: int, rng: np.random.RandomState) -> dict[str, Any]:
            assert super().get(idx, rng) is None  # it has read the item; what comes of it is the reader's
            row = json.loads(Path(self.index[idx]["path"]).read_text())
            return {"image": np.array(Image.open(row["image_path"])), "messages": [row["question"], row["answer"]]}

    dataset = Finished("train")
    assert len(dataset) == 9
    trained = Trained(dataset)
    assert trained.is_packed()
    assert trained.holds(dataset)


def test_the_document_s_own_test_passes(folder: Path, capsys: pytest.CaptureFixture[str]):
    run_block("Testing Your Dataset", MySimpleDataset=my_simple_dataset(folder))
    assert capsys.readouterr().out == "✓ Dataset tests passed\n"
    (folder / "images" / "4.png").unlink()
    with pytest.raises(FileNotFoundError):
        run_block("Testing Your Dataset", MySimpleDataset=my_simple_dataset(folder))
    assert "Failed to load example 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("heading", "turns"), [("Multi-turn Conversations", 4), ("Instruction Following", 2), ("Chain-of-Thought", 2)]
)
def test_patterns_of_conversations(heading: str, turns: int):
    example = value_of(heading, image=np.full((50, 40, 3), 77, np.uint8))
    assert len(example["messages"]) == turns
    dataset = dataset_with(lambda self, item, rng: example, [None] * 3)
    trained = Trained(dataset, steps=3)
    assert trained.is_packed()
    for _, text, _ in trained.examples():
        assert all(content(message) in text for message in example["messages"])


def test_plain_strings_are_as_good_as_roles(rows: list[dict[str, Any]]):
    def get(self: Any, idx: int, rng: np.random.RandomState, *, roles: bool) -> dict[str, Any]:
        said = [rows[idx]["question"], rows[idx]["answer"]]
        names = ("user", "assistant")
        return {"messages": [{"role": n, "content": s} for n, s in zip(names, said, strict=True)] if roles else said}

    one, other = (
        Trained(dataset_with(functools.partialmethod(get, roles=roles), rows), steps=3, seq_len=256, waiting=4)
        for roles in (True, False)
    )
    for (batch, _), (same, _) in zip(one.batches, other.batches, strict=True):
        assert np.array_equal(batch["input_tokens"], same["input_tokens"])
