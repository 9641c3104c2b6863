"""Document 4, the PixMo family: every code block runs on generated rows, with this library's import paths.

`document_4.txt` holds the blocks, each under its headings, and `TESTS` says which test runs which.
"""

import ast
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any, List, Tuple, get_args, get_origin  # noqa: UP035  as the document spells them

import numpy as np
import pytest

import grain_molmo as gm
from grain_molmo.examples.train import main as train
from grain_molmo.stages import STAGES
from grain_molmo.testing import check_dataset
from grain_molmo.tools.cli import main as grain_molmo

pytestmark = pytest.mark.xdist_group("all_sets")  # they share the converted rows

SETS = {
    "PixMo-Cap (Dense Captions)": ("pixmo_cap", {}),
    "PixMo-Points (Pointing)": ("pixmo_points", {}),
    "PixMo-Count (Counting)": ("pixmo_count", {}),
    "PixMo-Docs (Document Understanding)": ("pixmo_docs", {}),
    "PixMo-CapQA (Caption-based QA)": ("pixmo_cap_qa", {"captions": True}),
    "PixMo-Clocks": ("pixmo_clocks", {}),
}
"""By the document's heading, a set's name and the arguments with which it has all of the document's fields."""

TESTS: dict[str, str] = {
    **{f"{heading} / Data Format": "test_examples_have_the_fields_of_the_document" for heading in SETS},
    "PixMo-Cap (Dense Captions) / Example": "test_a_caption_as_the_document_has_it_is_learned",
    "PixMo-Cap (Dense Captions) / Usage": "test_a_set_is_used_as_shown",
    "PixMo-Cap (Dense Captions) / Training": "test_training_on_captions_alone",
    "PixMo-Points (Pointing) / Example": "test_points_as_the_document_has_them_are_learned_in_its_words",
    "PixMo-Points (Pointing) / Usage": "test_a_set_is_used_as_shown",
    "PixMo-Count (Counting) / Example": "test_a_count_as_the_document_has_it_is_learned_in_its_words",
    "PixMo-Count (Counting) / Usage": "test_a_set_is_used_as_shown",
    "PixMo-Docs (Document Understanding) / Example": "test_questions_as_the_document_has_them_are_learned",
    "PixMo-Docs (Document Understanding) / Usage": "test_a_set_is_used_as_shown",
    "Downloading PixMo / All PixMo Datasets": "test_all_sets_are_converted",
    "Downloading PixMo / Individual Datasets": "test_single_sets_are_converted",
    "Using PixMo in Training / Caption Pretraining": "test_training_on_captions_alone",
    "Using PixMo in Training / Multitask with PixMo": "test_a_mixture_as_the_document_lists_it",
    "Evaluation Sets / PixMo-Points Eval": "test_document_4_eval.py",
    "Evaluation Sets / Dense Caption Eval": "test_document_4_eval.py",
    "Citation": "",  # nothing to run
}
"""The test, or the file of tests, that runs each block."""


def blocks_of(text: str) -> dict[str, str]:
    """The code blocks of a document, by the headings above each below the document's own."""
    found: dict[str, str] = {}
    headings: list[str] = []
    for match in re.finditer(r"^(#+) ([^\n]*)$|^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if match[3] is None:
            headings = [*headings[: len(match[1]) - 1], match[2]]
            continue
        name = " / ".join(headings[1:])
        assert name not in found, name
        found[name] = match[3]
    return found


BLOCKS = blocks_of("# PixMo\n" + Path(__file__).with_name("document_4.txt").read_text())

TYPES = {"np": np, "str": str, "int": int, "List": List, "Tuple": Tuple}  # noqa: UP006


class Given(gm.Dataset):
    """One example, again and again."""

    def __init__(self, example: dict[str, Any]):
        self.example = example

    def __len__(self) -> int:
        return 3

    def get(self, item: int, rng: np.random.RandomState) -> dict[str, Any]:
        return {"image": np.full((480, 400, 3), 9, np.uint8), **self.example}


def learned(example: dict[str, Any], **settings: Any) -> tuple[str, Any]:
    """The text of a batch that holds an example, and what is said of the example beside it."""
    stage = replace(gm.Stage(mixture={"given": 1}, seq_len=2048, batch_size=1), **settings)
    tokenizer = gm.load_tokenizer("bytes")
    with gm.make_loader(stage, datasets={"given": Given(example)}, tokenizer=tokenizer, num_threads=1) as loader:
        ids = next(loader)["input_tokens"]
        info = loader.batch_info
    assert info is not None
    return tokenizer.decode(ids[ids < tokenizer.special_base].tolist()), info.rows[0][0]


def example_of(heading: str) -> dict[str, Any]:
    """The example that a block shows; in its JSON, neighbouring strings are one, as in Python."""
    return ast.literal_eval(BLOCKS[f"{heading} / Example"])


def arguments_of(name: str) -> list[list[str]]:
    """The words of each command of a block, behind its program."""
    commands = BLOCKS[name].replace("\\\n", " ").strip().splitlines()
    return [shlex.split(line)[2:] for line in commands]


def fits(value: Any, form: Any) -> bool:
    """Whether a value is as the document writes its type."""
    if isinstance(form, dict):
        return all(key in value and fits(value[key], inner) for key, inner in form.items())
    if get_origin(form) is list:
        return isinstance(value, list) and all(fits(one, get_args(form)[0]) for one in value)
    if get_origin(form) is tuple:
        return isinstance(value, tuple) and all(map(fits, value, get_args(form)))
    return isinstance(np.asarray(value) if form is np.ndarray else value, form)


def test_the_blocks_are_those_of_the_document(shared: Path):
    document = shared / "brief" / "4_pixmo_family.md"
    if not document.exists():
        pytest.skip(f"{document} is not there")
    assert blocks_of(document.read_text()) == BLOCKS


def test_every_block_is_named_with_a_test_that_is_there():
    assert set(TESTS) == set(BLOCKS)
    for test in filter(None, TESTS.values()):
        there = Path(__file__).with_name(test).exists() if test.endswith(".py") else callable(globals()[test])
        assert there, test


@pytest.mark.parametrize("heading", SETS)
def test_examples_have_the_fields_of_the_document(heading: str, all_sets: Path):
    name, arguments = SETS[heading]
    form = eval(BLOCKS[f"{heading} / Data Format"], dict(TYPES))
    dataset = gm.get_dataset(name, data_dir=all_sets, **arguments)
    complete = [example for example in dataset if example.get("caption", "") is not None]  # a caption may be lacking
    assert complete
    for example in complete:
        assert np.asarray(example["image"]).shape[2] == 3
        assert fits(example, form), {key: example.get(key) for key in form}
    check_dataset(dataset, num_examples=3, skip=["ids"])


def test_a_caption_belongs_to_the_picture_of_its_questions(all_sets: Path):
    captions = {
        example["image"].ref.sha256: example["caption"]
        for split in ("train", "validation")
        for example in gm.PixMoCap(split, data_dir=all_sets)
    }
    found = {
        example["image"].ref.sha256: example["caption"] for example in gm.PixMoCapQa(captions=True, data_dir=all_sets)
    }
    assert found == {sha256: captions.get(sha256) for sha256 in found}
    assert any(found.values())
    assert gm.PixMoCapQa(data_dir=all_sets)[0]["caption"] is None


@pytest.mark.parametrize("heading", [name.removesuffix(" / Usage") for name in TESTS if name.endswith(" / Usage")])
def test_a_set_is_used_as_shown(heading: str, all_sets: Path, monkeypatch, capsys):
    monkeypatch.setenv("GRAIN_MOLMO_DATA", str(all_sets))
    scope: dict[str, Any] = {}
    exec(BLOCKS[f"{heading} / Usage"].replace("olmo.data.pixmo_datasets", "grain_molmo"), scope)
    example = gm.get_dataset(SETS[heading][0])[0]
    first, second = capsys.readouterr().out.splitlines()
    shown = {
        "Caption": "caption",
        "Query": "query",
        "Points": "points",
        "Count": "count",
        "Questions": "questions",
        "Answers": "answers",
    }
    for line in (first, second):
        name, _, value = line.partition(": ")
        assert value == str(example["image"].shape if name == "Image shape" else example[shown[name]])


def test_a_caption_as_the_document_has_it_is_learned():
    example = example_of("PixMo-Cap (Dense Captions)")
    text, info = learned(example)
    assert example["caption"] in text
    assert (info.id, info.metadata) == ("img_12345", {"source": "cc_images", "id": "img_12345"})


def test_points_as_the_document_has_them_are_learned_in_its_words():
    example = example_of("PixMo-Points (Pointing)")
    plain, _ = learned(example, point_format="plain")
    assert "Point to the red car" in plain
    assert "Point: x=245 y=378" in plain
    assert '<points coords="1 1 612 788">red car</points>' in learned(example)[0]
    two, _ = learned({**example, "points": [[1, 2], [3, 4]], "object_names": ["car", "bus"]}, point_format="plain")
    assert "Point: x=1 y=2" in two
    assert "Point: x=3 y=4" in two


def test_a_count_as_the_document_has_it_is_learned_in_its_words():
    example = example_of("PixMo-Count (Counting)")
    text, _ = learned(example, point_format="plain")
    assert "Count the number of people in this image" in text
    assert "Count: 7" in text
    assert "Count: 7" not in learned(example)[0]


def test_questions_as_the_document_has_them_are_learned():
    example = example_of("PixMo-Docs (Document Understanding)")
    text, _ = learned(example)
    assert all(part in text for part in (*example["questions"], *example["answers"]))


def test_a_question_and_a_time_are_learned():
    """The forms that the document shows without an example."""
    assert "3:45 PM" in learned({"time": "3:45 PM", "query": "What time is shown on the clock?"})[0]
    text, _ = learned({"question": "What is blue?", "answer": "The sky.", "caption": "A blue sky."})
    assert "The sky." in text
    assert "A blue sky." not in text


def test_the_built_in_sets_answer_in_the_document_s_words(all_sets: Path):
    mixture = {"pixmo_points": 0.5, "pixmo_count": 0.5}
    stage = gm.Stage(mixture=mixture, seq_len=4096, batch_size=2, point_format="plain")
    tokenizer = gm.load_tokenizer("bytes")
    with gm.make_loader(stage, data_dir=all_sets, tokenizer=tokenizer, num_threads=1) as loader:
        ids = next(loader)["input_tokens"]
    text = tokenizer.decode(ids[ids < tokenizer.special_base].tolist())
    assert re.search(r"Point: x=\d+ y=\d+", text)
    assert re.search(r"Count: \d+", text)
    assert "<points" not in text


def test_all_sets_are_converted(all_sets: Path):
    """`all_sets` is what `grain-molmo convert all` makes."""
    assert arguments_of("Downloading PixMo / All PixMo Datasets") == [["all", "--n_proc", "12"]]
    for name, _ in SETS.values():
        assert len(gm.get_dataset(name, data_dir=all_sets)) > 0


def test_single_sets_are_converted(tmp_path: Path):
    names = [words[0] for words in arguments_of("Downloading PixMo / Individual Datasets")]
    assert names == ["pixmo_cap", "pixmo_points", "pixmo_count", "pixmo_docs"]
    for name in names:
        options = ["--sample", "--rows", "12", "--n-procs", "1", "--data-dir", str(tmp_path)]
        assert grain_molmo(["convert", name, *options]) == 0
        assert len(gm.get_dataset(name, data_dir=tmp_path)) > 0


@pytest.mark.parametrize(
    "block", ["PixMo-Cap (Dense Captions) / Training", "Using PixMo in Training / Caption Pretraining"]
)
def test_training_on_captions_alone(block: str, all_sets: Path, tmp_path: Path, capsys):
    words = " ".join(arguments_of(block)[0])
    found = re.search(r"--(?:task|data\.dataset)=(\w+)", words)
    assert found
    options = {"mixture": found[1], "data-dir": all_sets, "checkpoints": tmp_path, "steps": 1}
    small = {"batch-size": 2, "seq-len": 1024, "width": 16, "threads": 1, "mesh": "data=1"}
    assert train([f"--{key}={value}" for key, value in {**options, **small}.items()]) == 0
    assert '"token_fill"' in capsys.readouterr().out


def test_a_mixture_as_the_document_lists_it(all_sets: Path):
    scope: dict[str, Any] = {}
    exec(BLOCKS["Using PixMo in Training / Multitask with PixMo"], scope)
    stage = replace(STAGES["pretraining"], mixture=scope["datasets"], batch_size=4)
    with gm.make_loader(stage, data_dir=all_sets, tokenizer="bytes", num_threads=1) as loader:
        for _ in range(3):
            next(loader)
        counts = {name: each["examples"] for name, each in loader.stats()["datasets"].items()}
    assert sorted(counts) == sorted(entry["name"] for entry in scope["datasets"])
    assert max(counts.values()) == counts["pixmo_cap"]
