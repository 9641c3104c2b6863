"""Document 5, datasets for probes: each of its code blocks runs as it stands there, on this library.

`torch.load` is `load_tensors`, which reads the files of `torch.save` without torch. Without the document the tests
skip; what they show is tested in words of our own, too, in `test_feature_dataset.py` and `test_spatial.py`.
"""

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from feature_files import features_ND, spatial_rows, write_spatial
from torch_writer import Tensor, save

import grain_molmo as gm
from converters.to_arrayrecord import main as convert
from grain_molmo.tensors import load_tensors

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tensors"))

TESTS = {
    "datasets/\n": "test_the_folder_is_laid_out_as_it_says",
    "from datasets import load_from_disk\n\n# Load spatial": "test_the_rows_of_a_folder_are_read",
    "datasets/features/\n": "test_every_file_of_features_is_a_dataset",
    "from datasets import load_from_disk\nimport torch": "test_folders_and_tensors_are_loaded",
    "from datasets import Dataset\n": "test_a_folder_that_is_created_is_a_dataset",
    "Dataset({": "test_rows_have_the_columns_of_the_format",
    "# Shape: (N, D)": "test_files_have_the_tensors_of_the_format",
}
"""By how each block begins, in their order, the test that runs it."""

LAYERS = ["dinov2/layer_10.pt", "dinov2/layer_15.pt", "dinov2/layer_23.pt", "clip/last_layer.pt"]
LAYERS += ["qwen/visual_features.pt"]


@pytest.fixture(scope="module")
def blocks(shared: Path) -> list[str]:
    document = shared / "brief" / "5_training_datasets.md"
    if not document.exists():
        pytest.skip(f"{document} is not there")
    return re.findall(r"^```\w*\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder that is laid out as the document says, as the one that is worked in."""
    (tmp_path / "datasets/features").mkdir(parents=True)
    write_spatial(tmp_path / "datasets/spatial_hf")
    for name in LAYERS:
        file = tmp_path / "datasets/features" / name
        file.parent.mkdir(exist_ok=True)
        metadata = {"model": file.parent.name, "image_path": [f"{i}.png" for i in range(12)]}
        features, labels = Tensor(features_ND(width=768)), Tensor(np.arange(12) % 2)
        save({"features": features, "labels": labels, "metadata": metadata}, file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(blocks: list[str], beginning: str, **filled_in: str) -> dict[str, Any]:
    """Runs the block that begins like this, with values in place of its "[...]"; what it defines."""
    (code,) = (block for block in blocks if block.startswith(beginning))
    for name, value in filled_in.items():
        code, replaced = re.subn(rf'("{name}": )\[\.\.\.\]', rf"\g<1>{value}", code)
        assert replaced == 1
    scope: dict[str, Any] = {}
    exec(compile(code, beginning, "exec"), scope)
    return scope


def test_every_block_is_named_with_a_test_that_is_there(blocks: list[str]):
    assert len(blocks) == len(TESTS)
    assert all(block.startswith(beginning) for block, beginning in zip(blocks, TESTS, strict=True))
    assert all(callable(globals()[name]) for name in TESTS.values())


def test_the_folder_is_laid_out_as_it_says(blocks: list[str], folder: Path):
    names = re.findall(r"── (\w+)/", blocks[0])
    assert names == ["spatial_hf", "features"]
    assert all((folder / "datasets" / name).is_dir() for name in names)
    assert len(gm.SpatialRelations("datasets/spatial_hf")) == 8
    assert gm.FeatureDataset("datasets/features/dinov2").feature_shape == (3, 768)


def test_the_rows_of_a_folder_are_read(blocks: list[str], folder: Path):
    last = run(blocks, [*TESTS][1])
    dataset = gm.SpatialRelations("datasets/spatial_hf")
    example = dataset[len(dataset) - 1]
    assert example["metadata"]["image_path"] == last["image_path"]
    assert example["image"].path == folder / "datasets/spatial_hf" / last["image_path"]
    assert (example["spatial_relation"], example["label"]) == (last["spatial_relation"], last["label"])
    np.testing.assert_array_equal(example["features"], np.float32(last["features"]))


def test_every_file_of_features_is_a_dataset(blocks: list[str], folder: Path):
    assert re.findall(r"(\w+\.pt)", blocks[2]) == [Path(name).name for name in LAYERS]
    for name in LAYERS:
        dataset = gm.FeatureDataset(Path("datasets/features") / name)
        assert (len(dataset), dataset.feature_shape) == (12, (768,))
        assert dataset.metadata == {"model": Path(name).parent.name}
        assert dataset[3]["metadata"]["image_path"] == "3.png"


def test_folders_and_tensors_are_loaded(blocks: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(load=load_tensors))  # pyright: ignore[reportArgumentType]
    loaded = run(blocks, [*TESTS][3])
    assert len(loaded["dataset"]) == 8
    np.testing.assert_array_equal(loaded["features"]["features"], features_ND(width=768))


def test_a_folder_that_is_created_is_a_dataset(blocks: list[str], folder: Path):
    rows = {name: repr(spatial_rows()[name][:4]) for name in ("image_path", "spatial_relation", "label")}
    run(blocks, [*TESTS][4], **rows)
    dataset = gm.SpatialRelations("datasets/spatial_hf")
    assert [(one["spatial_relation"], one["label"], one["answer"]) for one in dataset] == [
        ("left", 0, "No"),
        ("right", 1, "Yes"),
        ("top", 0, "No"),
        ("bottom", 1, "Yes"),
    ]
    assert convert(["my-spatial", "--source", "datasets/spatial_hf", "--data-dir", "data"]) == 0
    assert len(gm.get_dataset("my-spatial", data_dir="data")) == 4


def test_rows_have_the_columns_of_the_format(blocks: list[str], folder: Path):
    from datasets import load_from_disk

    named = re.findall(r"'(\w+)': ", blocks[5])
    assert sorted(named) == sorted(load_from_disk("datasets/spatial_hf").column_names)
    (relations,) = re.findall(r"one of: ([\w, ]+)\)", blocks[5])
    assert tuple(relations.split(", ")) == gm.datasets.spatial.RELATIONS
    (labels,) = re.findall(r"int \((\d) or (\d)\)", blocks[5])
    assert tuple(map(int, labels)) == gm.datasets.spatial.LABELS
    example = gm.SpatialRelations("datasets/spatial_hf")[1]
    assert {*named} - {*example} == {"image_path"}, "which is the picture"


def test_files_have_the_tensors_of_the_format(blocks: list[str], folder: Path):
    read = load_tensors("datasets/features/dinov2/layer_23.pt")
    assert re.findall(r"^ +'(\w+)': ", blocks[6], re.MULTILINE) == [*read]
    assert (read["features"].shape, read["labels"].shape, type(read["metadata"])) == ((12, 768), (12,), dict)
    stage = gm.Stage(kind="features", mixture={"dinov2": 1}, batch_size=4)
    loader = gm.make_loader(stage, datasets={"dinov2": gm.FeatureDataset("datasets/features/dinov2/layer_23.pt")})
    try:
        batch = next(loader)
    finally:
        loader.close()
    rows = [int(row[0].id) for row in loader.batch_info.rows]
    np.testing.assert_array_equal(batch["features"], read["features"][rows])
    np.testing.assert_array_equal(batch["labels"], read["labels"][rows])
