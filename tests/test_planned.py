"""Planning examples that come with their pixels: by their lengths alone, so that none waits for its row."""

import gc
import json
import logging
import threading
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import grain_molmo as gm
from grain_molmo.encode import Encoder, Lengths
from grain_molmo.errors import StoreError
from grain_molmo.packing.mixture import Draw
from grain_molmo.planned import ExamplePlanner

SMALL = {"seq_len": 1024, "batch_size": 2, "crops_per_row": 8, "max_crops": 2}


class Painted(gm.Dataset):
    """Paints a picture for each example, and knows which of them are still alive."""

    def __init__(self, wrap=lambda pixels: {"image": pixels}):
        self.wrap = wrap
        self.alive: weakref.WeakSet = weakref.WeakSet()
        self.most_alive = 0
        self.painted = 0
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return 64

    def get(self, item: int, rng: np.random.RandomState) -> dict:
        pixels = Canvas(rng.randint(0, 256, (60 + item, 70, 3), np.uint8))
        with self.lock:
            self.painted += 1
            self.alive.add(pixels)
            self.most_alive = max(self.most_alive, len(self.alive))
        return {**self.wrap(pixels), "messages": ["What is it?", f"Picture {item}."], "metadata": {"id": str(item)}}


class Canvas(np.ndarray):
    """An array to which there are weak references."""

    def __new__(cls, pixels: np.ndarray) -> "Canvas":
        return pixels.view(cls)

    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType]
    __eq__ = object.__eq__  # pyright: ignore[reportAssignmentType]


def planner_of(dataset: gm.Dataset, **stage: int) -> ExamplePlanner:
    stage_of_it = gm.Stage(mixture={"own": 1}, **{**SMALL, **stage})
    return ExamplePlanner(Encoder({"own": dataset}, stage_of_it, gm.load_tokenizer("bytes"), 0))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda pixels: {"image": pixels},
        lambda pixels: {"image": [pixels, pixels]},
        lambda pixels: {"image": Image.fromarray(np.asarray(pixels))},
        lambda pixels: {"video": np.stack([pixels, pixels]), "timestamps": [0.0, 1.0]},
    ],
)
def test_no_pixels_wait_for_their_row_and_the_example_is_made_again_for_it(wrap):
    dataset = Painted(wrap)
    planner = planner_of(dataset, max_frames=4)
    planned = planner(Draw("own", 0, 3))
    gc.collect()
    assert planned.encoded is None
    assert not dataset.alive
    encoded = planner.encode(planned)
    assert encoded.lengths == (planned.n_tokens, planned.n_crops, planned.n_pooled, planned.cost)
    assert dataset.painted == 2


def test_what_knows_only_where_its_media_are_is_made_once(tmp_path: Path):
    gm.write_dataset(
        [{"image": np.zeros((9, 9, 3), "u1"), "caption": "Black."}, {"text": "A word."}],
        tmp_path,
        "own",
        progress=False,
    )
    planner = planner_of(gm.get_dataset("own", data_dir=tmp_path))
    for item in range(2):
        planned = planner(Draw("own", 0, item))
        assert planner.encode(planned) is planned.encoded


def test_with_its_lengths_known_it_is_made_once():
    known = planner_of(Painted())(Draw("own", 0, 3))
    dataset = Painted()
    lengths = Lengths(known.n_tokens, known.n_crops, known.n_pooled, known.cost)
    planner = replace(planner_of(dataset), known_lengths=lambda draw: lengths)
    assert planner.encode(planner(Draw("own", 0, 3))).n_crops == known.n_crops
    assert dataset.painted == 1


def test_however_many_examples_wait_the_pixels_alive_are_those_of_the_batch_in_hand():
    dataset = Painted()
    stage = gm.Stage(mixture={"own": 1}, waiting=48, **SMALL)
    with gm.make_loader(stage, datasets={"own": dataset}, tokenizer="bytes", num_threads=2) as loader:
        in_batches = []
        for _ in range(6):
            next(loader)
            in_batches.append(loader.batch_info.num_examples)
    # One batch is rendered at a time; beside it, one example is being planned, and one may not be forgotten yet.
    assert dataset.most_alive <= max(in_batches) + 2 < 48
    assert dataset.painted >= 48 + sum(in_batches)


def test_that_it_is_made_twice_and_how_it_would_be_faster_is_said_once_a_dataset(caplog: pytest.LogCaptureFixture):
    planner = planner_of(Painted())
    with caplog.at_level(logging.INFO):
        for item in range(3):
            planner(Draw("own", 0, item))
    (told,) = caplog.messages
    assert "dataset 'own' gives pictures or videos themselves" in told
    assert "made once to plan and once to be rendered" in told
    assert "grain_molmo.write_dataset" in told
    assert "grain-molmo index" in told


class Fickle(Painted):
    """Gives another picture each time, whatever the random state."""

    def get(self, item: int, rng: np.random.RandomState) -> dict:
        return {**super().get(item, rng), "messages": ["q", "a" * self.painted]}


def test_a_get_that_is_no_function_of_item_and_rng_is_told_what_it_must_be():
    planner = planner_of(Fickle())
    planned = planner(Draw("own", 2, 5))
    with pytest.raises(StoreError) as e:
        planner.encode(planned)
    for part in ("own example 5, epoch 2", "a function of (item, rng)", "grain_molmo.testing.check_dataset"):
        assert part in str(e.value)


class Cropped(Painted):
    """Cut to a size that its random state says: other lengths in every epoch, the same at every run."""

    def get(self, item: int, rng: np.random.RandomState) -> dict:
        example = super().get(item, rng)
        return {**example, "image": example["image"][: 20 + rng.randint(40)], "messages": ["q", "a" * rng.randint(99)]}


def test_random_sizes_and_texts_are_the_same_when_planned_when_rendered_and_after_a_resume():
    stage = gm.Stage(mixture={"own": 1}, **SMALL)
    settings = {"tokenizer": "bytes", "num_threads": 2, "seed": 3}
    with (
        gm.make_loader(stage, datasets={"own": Cropped()}, **settings) as loader,
        gm.make_loader(stage, datasets={"own": Cropped()}, **settings) as again,
    ):
        for _ in range(3):
            next(loader)
        again.set_state(json.loads(json.dumps(loader.get_state())))
        for _ in range(3):
            batch, same = next(loader), next(again)
            assert all(np.array_equal(batch[key], same[key]) for key in batch)
        assert not loader.stats()["skipped_media"]
