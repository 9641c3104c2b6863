"""The PixMo sets read back: what `get` yields for hand-made rows (Molmo2 datasets §1A.3)."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grain_molmo.datasets.pixmo import (
    PIXMO_DATASETS,
    PixMoAskModelAnything,
    PixMoCap,
    PixMoCapQa,
    PixMoClocks,
    PixMoCount,
    PixMoDocs,
    PixMoPoints,
    PixMoPointsEval,
)
from grain_molmo.errors import ConfigError, StoreError
from grain_molmo.masks import encode_mask
from grain_molmo.rng import example_rng
from grain_molmo.store import MediaRef, Record, SplitWriter, content_key
from grain_molmo.text.counting import NO_POINTING_PREFIXES

SIZE = (200, 100)  # width, height


def write_split(data_dir: Path, name: str, split: str, annotations: list[dict]) -> None:
    path = data_dir / "picture.png"
    Image.new("RGB", SIZE, (9, 8, 7)).save(path)
    data = path.read_bytes()
    ref = MediaRef(content_key(data), "image", *SIZE, len(data))
    records = [Record(f"{split}-{i}", annotation, (ref,)) for i, annotation in enumerate(annotations)]
    writer = SplitWriter(data_dir, name, split, num_shards=1)
    writer.write_shard(0, [(record, {ref.sha256: data}) for record in records])
    writer.finish(source={}, converter={}, rejects=[])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = tmp_path_factory.mktemp("store")
    url = {"url": "http://host/a.jpg"}
    write_split(
        data_dir,
        "pixmo_cap",
        "train",
        [
            {**url, "caption": "A dog.", "transcripts": ["so there", "is a", "dog"]},
            {**url, "caption": "A cat.", "transcripts": []},
        ],
    )
    mask = encode_mask(np.arange(12).reshape(3, 4) > 6)
    target = {**url, "label": "Dogs", "points": [[50.0, 100.0]], "masks": [mask]}
    write_split(data_dir, "pixmo_points_eval", "test", [target])
    labels = [{"label": "Dogs", "points": [[10.0, 20.0], [99.9, 100.0]]}, {"label": "unicorn", "points": []}]
    for split in ("train_pointing", "validation_pointing", "train_counting"):
        write_split(data_dir, "pixmo_points", split, [{**url, "labels": labels}])
    count = {**url, "label": "cars", "count": 2, "points": [[10.0, 20.0], [200.0, 0.0]], "original_sha256": None}
    write_split(data_dir, "pixmo_count", "train", [count, count])
    write_split(data_dir, "pixmo_count", "validation", [{**count, "count": 7, "points": None}])
    for doc_type in ("charts", "tables"):
        pairs = [["What?", "This"], ["Who?", "Them"]]
        doc = {"image_id": "i", "doc_type": doc_type, "questions": pairs}
        write_split(data_dir, "pixmo_docs", f"train_{doc_type}", [doc])
    dialogues = [{"turns": ["Hi", "Hello", "How many dogs are there?", "Two."]}, {"turns": ["What?", "This."]}]
    write_split(data_dir, "pixmo_cap_qa", "train", [{**url, "conversations": dialogues}])
    asked = [{"question": "How many cats are there?", "answer": "One."}, {"question": "Why?", "answer": "Because."}]
    write_split(data_dir, "pixmo_ask_model_anything", "train", [{**url, "questions": asked}])
    clock = {"example_id": "e", "time": "7:57 AM", "time_format": "With AM/PM", "hour": 7, "minute": 57, "second": -1}
    write_split(data_dir, "pixmo_clocks", "train", [clock])
    return data_dir


@pytest.fixture(autouse=True)
def _data_dir(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAIN_MOLMO_DATA", str(store))


def test_captions_as_the_guide_uses_them():
    dataset = PixMoCap(split="train")
    example = dataset[0]
    assert example["caption"] == "A dog."
    assert example["image"].shape == (100, 200, 3)
    assert np.asarray(example["image"])[0, 0].tolist() == [9, 8, 7]
    assert example["metadata"]["source"] == "pixmo_cap"
    assert example["metadata"]["id"] == "train-0"
    assert example["metadata"]["url"] == "http://host/a.jpg"


def test_points_as_the_guide_uses_them():
    dataset = PixMoPoints(split="train")
    example = dataset[0]
    assert "Dogs" in example["query"]
    assert example["points"] == [(20, 20), (200, 100)]  # pixels
    assert example["object_names"] == ["Dogs", "Dogs"]


def test_counts_as_the_guide_uses_them():
    example = PixMoCount(split="train")[0]
    assert (example["query"], example["count"], example["object_name"]) == (
        "How many cars are in the image?",
        2,
        "cars",
    )


def test_documents_as_the_guide_uses_them():
    example = PixMoDocs(split="train")[0]
    assert example["questions"] == ["What?", "Who?"]
    assert example["answers"] == ["This", "Them"]
    assert example["document_type"] == "charts"


def test_the_other_sets_carry_the_fields_of_the_guide():
    qa = PixMoCapQa(split="train")[0]
    assert (qa["question"], qa["answer"], qa["caption"]) == ("How many dogs are there?", "Two.", None)
    asked = PixMoAskModelAnything(split="train")[0]
    assert (asked["question"], asked["answer"]) == ("How many cats are there?", "One.")
    clock = PixMoClocks(split="train")[0]
    assert (clock["time"], clock["query"]) == ("7:57 AM", "What time is being shown?")


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("captions", [("long_caption", "A dog.")]),
        ("transcript", [("transcript", "so there")]),
        ("transcript1_and_caption", [("long_caption", "A dog."), ("transcript", "so there")]),
        ("transcripts", [("transcript", "so there"), ("transcript", "is a"), ("transcript", "dog")]),
    ],
)
def test_captions_and_transcripts_make_branches_by_mode(mode: str, expected: list):
    messages = PixMoCap(mode=mode)[0]["message_list"]
    assert [(message["style"], message["text"]) for message in messages] == expected


def test_one_transcript_is_drawn_at_each_visit_evenly_and_repeatably():
    dataset = PixMoCap(mode="transcript_and_caption")

    def drawn(epoch: int) -> str:
        caption, transcript = dataset.get(0, example_rng(1, "cap", epoch, 0))["message_list"]
        assert caption == {"style": "long_caption", "text": "A dog."}
        return transcript["text"]

    draws = [drawn(epoch) for epoch in range(300)]
    assert all(70 < draws.count(text) < 130 for text in ("so there", "is a", "dog"))
    assert draws == [drawn(epoch) for epoch in range(300)]
    assert len(dataset[1]["message_list"]) == 1  # no transcript to draw from


def test_even_examples_of_points_count_and_odd_ones_point():
    dataset = PixMoPoints(kind="basic")
    assert len(dataset) == 2
    for item, style in enumerate(("point_count", "pointing")):
        messages = dataset[item]["message_list"]
        assert [message["label"] for message in messages] == ["Dogs", "unicorn"]
        assert [message["style"] for message in messages] == [style, style]
        assert messages[0]["points"].tolist() == [[10.0, 20.0], [99.9, 100.0]]
        assert messages[1]["points"].shape == (0, 2)
        assert all(message["point_scale"] == 100 and message["clip_points"] for message in messages)


@pytest.mark.parametrize(("counting", "style"), [(True, "point_count"), (False, "pointing")])
def test_one_mode_alone_gives_one_example_a_record(counting: bool, style: str):
    for dataset in (PixMoPoints(kind="basic", counting=counting), PixMoCount(counting=counting)):
        assert len(dataset) == len(dataset.records)
        assert {message["style"] for message in dataset[0]["message_list"]} == {style}


def test_kinds_of_points_are_splits_of_the_store():
    assert PixMoPoints(kind="basic").records.splits == ("train_pointing",)
    assert PixMoPoints(kind="high_frequency").records.splits == ("train_counting",)
    assert len(PixMoPoints()) == 4
    assert len(PixMoPoints(split="validation")) == 2  # of the one kind that was converted
    with pytest.raises(ConfigError, match="validation_counting"):
        PixMoPoints(split="validation", kind="high_frequency")


def test_counted_points_are_pixels_of_the_picture():
    dataset = PixMoCount()
    assert len(dataset) == 4
    (message,) = dataset[2]["message_list"]
    assert message["style"] == "point_count"
    assert (message["width"], message["height"]) == SIZE
    assert message["points"].tolist() == [[10.0, 20.0], [200.0, 0.0]]
    assert "point_scale" not in message
    assert dataset[3]["message_list"][0]["style"] == "pointing"


def test_counts_for_evaluation_are_answered_by_the_number_alone():
    dataset = PixMoCount(split="validation")
    assert len(dataset) == 1
    assert dataset[0]["message_list"] == [{"style": "count", "label": "cars", "count": 7}]


def test_documents_are_asked_by_their_type():
    assert len(PixMoDocs()) == 2
    (tables,) = PixMoDocs(doc_type="tables")
    assert tables["message_list"] == [
        {"style": "pixmo_docs_tables", "question": "What?", "answer": "This"},
        {"style": "pixmo_docs_tables", "question": "Who?", "answer": "Them"},
    ]


def test_questions_that_ask_to_count_are_told_not_to_point():
    dialogue, other = PixMoCapQa()[0]["message_list"]
    greeting, hello, question, answer = dialogue["messages"]
    assert (greeting, hello, answer) == ("Hi", "Hello", "Two.")
    assert question.removesuffix(" How many dogs are there?") in NO_POINTING_PREFIXES
    assert other == {"style": "synthetic_qa", "messages": ["What?", "This."]}
    first, second = PixMoAskModelAnything()[0]["message_list"]
    assert first["question"].removesuffix(" How many cats are there?") in NO_POINTING_PREFIXES
    assert second == {"style": "user_qa", "question": "Why?", "answer": "Because."}


def test_the_instruction_not_to_point_can_be_left_out():
    (dialogue, _) = PixMoCapQa(style="user_qa", prefix_how_many=False)[0]["message_list"]
    assert dialogue == {"style": "user_qa", "messages": ["Hi", "Hello", "How many dogs are there?", "Two."]}
    asked = PixMoAskModelAnything(prefix_how_many=False)[0]["message_list"]
    assert asked[0]["question"] == "How many cats are there?"


def test_a_clock_is_asked_for_its_time():
    assert PixMoClocks()[0]["message_list"] == [
        {"style": "clocks", "question": "What time is being shown?", "answer": "7:57 AM"}
    ]


def test_points_for_evaluation_come_with_masks_and_in_their_pixels(store: Path):
    metadata = PixMoPointsEval(data_dir=store)[0]["metadata"]
    (mask_HW,) = metadata["masks"]
    assert np.array_equal(mask_HW, np.arange(12).reshape(3, 4) > 6)
    assert metadata["points"].tolist() == [[2.0, 3.0]]


def test_every_registered_name_opens_and_survives_pickling(store: Path):
    for name, factory in PIXMO_DATASETS.items():
        dataset_type = name.removeprefix("pixmo_docs_")
        if dataset_type in ("diagrams", "other"):
            with pytest.raises(ConfigError, match=dataset_type):
                factory(split="train", data_dir=store)
            continue
        dataset = factory(split="test" if "eval" in name else "train", data_dir=store)
        example = pickle.loads(pickle.dumps(dataset))[0]
        assert example["message_list"], name
        assert example["metadata"]["id"], name


def test_registered_names_choose_what_mixtures_mean_by_them():
    assert len(PIXMO_DATASETS["pixmo_cap_with_transcripts"](split="train")[0]["message_list"]) == 2
    assert PIXMO_DATASETS["pixmo_cap_qa_as_user_qa"](split="train")[0]["message_list"][0]["style"] == "user_qa"
    assert PIXMO_DATASETS["pixmo_points_high_freq_train"]().records.splits == ("train_counting",)
    assert len(PIXMO_DATASETS["pixmo_count_counting"]()) == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: PixMoCap(mode="caption"),
        lambda: PixMoPoints(kind="pointing"),
        lambda: PixMoPoints(counting="count"),  # type: ignore[arg-type]
        lambda: PixMoDocs(doc_type="invoice"),
        lambda: PixMoCapQa(style="qa"),
        lambda: PixMoCap(split="test"),
    ],
)
def test_unknown_choices_are_refused_with_those_there_are(make):
    with pytest.raises(ConfigError):
        make()


def test_a_set_that_was_not_converted_says_how_to_convert_it(tmp_path: Path):
    for make in (PixMoCap, PixMoPoints, PixMoDocs):
        with pytest.raises(StoreError, match="grain-molmo convert"):
            make(data_dir=tmp_path)
