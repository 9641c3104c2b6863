import io
import itertools
import pickle

import numpy as np
import pytest
from PIL import Image

import grain_molmo as gm
from grain_molmo.datasets import written
from grain_molmo.datasets.base import Dataset
from grain_molmo.errors import ConfigError, ExampleError, NotConvertedError
from grain_molmo.store import MediaStore, load_manifest
from grain_molmo.testing.form import form_problems
from grain_molmo.vision.image import decode_image


def pixels(seed=0, size=(20, 30), channels=3):
    return np.random.RandomState(seed).randint(0, 256, (*size, channels), dtype=np.uint8)


def jpeg(seed=0):
    out = io.BytesIO()
    Image.fromarray(pixels(seed)).save(out, "JPEG")
    return out.getvalue()


def asked(seed=0, **fields):
    return {"image": pixels(seed), "question": f"What is {seed}?", "answer": f"It is {seed}.", **fields}


def test_what_was_written_comes_back(tmp_path):
    example = {
        "image": pixels(),
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
        "metadata": {
            "id": 7,
            "score": np.float32(0.5),
            "box": np.arange(4),
            "at": {(0, 1.5): "a"},
            3: ("x", None),
        },
    }
    summary = gm.write_dataset([example], tmp_path, "my-set")
    assert (summary.name, summary.examples, summary.media_new, summary.skipped) == ("my_set", 1, 1, {})
    dataset = gm.get_dataset("my-set", data_dir=tmp_path)
    assert isinstance(dataset, gm.WrittenDataset)
    found = dataset[0]
    assert np.array_equal(found.pop("image"), pixels())
    expected = {"id": 7, "score": 0.5, "box": [0, 1, 2, 3], "at": {(0, 1.5): "a"}, 3: ["x", None]}
    assert found == {
        "messages": example["messages"],
        "metadata": {"source": "my_set", "split": "train", **expected},
    }


def test_files_and_bytes_are_kept_as_they_are_and_pixels_without_loss(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    rgba = pixels(2, channels=4)
    images = [
        tmp_path / "a.jpg",
        str(tmp_path / "a.jpg"),
        jpeg(2),
        {"bytes": jpeg(3), "path": "elsewhere.jpg"},
        Image.fromarray(pixels(4)),
        pixels(5)[:, :, 0],
        rgba,
    ]
    gm.write_dataset([{"image": images, "caption": "Many."}], tmp_path / "data", "mine")
    found = gm.get_dataset("mine", data_dir=tmp_path / "data")[0]["image"]
    assert [image.encoded() for image in found[:4]] == [jpeg(1), jpeg(1), jpeg(2), jpeg(3)]
    assert np.array_equal(found[4], pixels(4))
    assert np.array_equal(found[5], np.repeat(pixels(5)[:, :, :1], 3, axis=2))
    assert np.array_equal(found[6], rgba[:, :, :3])
    assert len(MediaStore(tmp_path / "data")) == 6


def test_a_sequence_of_unknown_length_is_stored_as_one_of_known_length(tmp_path):
    examples = [asked(i % 7, metadata={"id": i}) for i in range(25)]
    gm.write_dataset(examples, tmp_path / "known", "mine", examples_per_shard=10)
    gm.write_dataset(iter(examples), tmp_path / "unknown", "mine", examples_per_shard=10)
    files = [
        {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
        for folder in (tmp_path / "known", tmp_path / "unknown")
    ]
    assert files[0] == files[1]
    assert [shard.records for shard in load_manifest(tmp_path / "known", "mine")["train"].shards] == [10, 10, 5]
    assert len(MediaStore(tmp_path / "known")) == 7


def test_examples_are_asked_for_one_by_one(tmp_path):
    alive, most = 0, 0

    class Counted:
        def __init__(self, data):
            nonlocal alive, most
            self.data = data
            alive += 1
            most = max(most, alive)

        def encoded(self):
            return self.data

        def __del__(self):
            nonlocal alive
            alive -= 1

    gm.write_dataset(({"image": Counted(jpeg(i)), "caption": "One."} for i in range(50)), tmp_path, "mine")
    assert most <= 3


def test_names_that_are_no_text_and_endless_values_are_named(tmp_path):
    endless: list = []
    endless.append(endless)
    bad = [asked(metadata={"x": endless}), {**asked(), 1: "x"}, {**asked(), (1, 2): "x"}, asked(note="ü \ud800")]
    summary = gm.write_dataset([*bad, asked()], tmp_path, "mine", on_error="skip")
    assert (summary.examples, summary.skipped) == (1, {"not_storable": 4})
    for index, name in enumerate(("metadata", "1", r"\(1, 2\)", "note")):
        with pytest.raises(ExampleError, match=name):
            gm.write_dataset(bad[index:], tmp_path, "other")


def test_a_bad_example_is_named_with_its_field_and_leaves_nothing(tmp_path):
    bad = {
        "bad_image": {"image": b"no picture", "caption": "a"},
        "bad_video": {"video": np.zeros((2, 4, 4, 3), np.uint8), "caption": "a"},
        "not_storable": asked(metadata={"score": {"inner": [1.0, float("nan")]}}),
        "no_answer": {"image": pixels(), "question": "Why?"},
        "bad_metadata": asked(metadata="text"),
        "bad_example": "text",
        "mixed_media": {"image": pixels(), "video": "a.mp4", "caption": "a"},
        "empty_answer": {"image": pixels(), "caption": " "},
    }
    for reason, example in bad.items():
        with pytest.raises(ExampleError, match="example 2") as caught:
            gm.write_dataset([asked(0), asked(1), example], tmp_path, "mine")
        assert caught.value.reason == reason, reason
        assert "score.inner[1]" in caught.value.detail or reason != "not_storable"
        assert [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    with pytest.raises(NotConvertedError):
        gm.WrittenDataset("mine", data_dir=tmp_path)


@pytest.mark.parametrize("known_length", [True, False])
def test_bad_examples_are_skipped_and_counted_if_one_says_so(tmp_path, known_length):
    examples = [{"text": f"Line {i}."} if i % 3 else {"text": ""} for i in range(9)]
    summary = gm.write_dataset(
        examples if known_length else iter(examples), tmp_path, "mine", on_error="skip", examples_per_shard=3
    )
    assert (summary.examples, summary.skipped) == (6, {"empty_answer": 3})
    assert [example["text"] for example in gm.get_dataset("mine", data_dir=tmp_path)] == [
        f"Line {i}." for i in range(9) if i % 3
    ]
    with pytest.raises(ConfigError, match="all 1 were left out, the first as example 0"):
        gm.write_dataset([{"text": ""}], tmp_path, "other", on_error="skip")


def test_a_split_is_replaced_only_if_one_says_so(tmp_path):
    gm.write_dataset([asked(1)], tmp_path, "mine")
    gm.write_dataset([asked(2)], tmp_path, "mine", "validation")
    with pytest.raises(ConfigError, match="overwrite=True"):
        gm.write_dataset([asked(3)], tmp_path, "mine")
    with pytest.raises(ExampleError):
        gm.write_dataset([asked(3), {}], tmp_path, "mine", overwrite=True)
    assert gm.get_dataset("mine", data_dir=tmp_path)[0]["answer"] == "It is 1."
    gm.write_dataset([asked(3)], tmp_path, "mine", overwrite=True)
    assert gm.get_dataset("mine", data_dir=tmp_path)[0]["answer"] == "It is 3."
    assert gm.get_dataset("mine", "validation", data_dir=tmp_path)[0]["answer"] == "It is 2."


@pytest.mark.parametrize("name", ["pixmo_cap", "pixmo-cap", "../outside", "media", ""])
def test_names_that_are_taken_or_are_none_are_refused(tmp_path, name):
    with pytest.raises(ConfigError):
        gm.write_dataset([asked()], tmp_path, name)


def test_nothing_to_write_is_an_error(tmp_path):
    for examples in ([], iter([])):
        with pytest.raises(ConfigError, match="no example"):
            gm.write_dataset(examples, tmp_path, "mine")
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_a_dataset_is_written_with_its_stored_media_and_needs_no_copy_in_its_own_store(tmp_path):
    gm.write_dataset([asked(i) for i in range(3)], tmp_path, "mine")
    summary = gm.write_dataset(gm.get_dataset("mine", data_dir=tmp_path), tmp_path, "again")
    assert (summary.examples, summary.media_new) == (3, 0)
    assert (
        gm.get_dataset("again", data_dir=tmp_path)[2]["image"].ref
        == gm.WrittenDataset("mine", "train", tmp_path)[2]["image"].ref
    )
    gm.write_dataset(gm.get_dataset("mine", data_dir=tmp_path), tmp_path / "other", "mine")
    assert np.array_equal(gm.get_dataset("mine", data_dir=tmp_path / "other")[1]["image"], pixels(1))


def test_a_length_that_says_too_little_is_an_error(tmp_path):
    class Short(Dataset):
        def __len__(self):
            return 2

        def __iter__(self):
            return iter([asked(i) for i in range(3)])

    with pytest.raises(ConfigError, match="there are more"):
        gm.write_dataset(Short(), tmp_path, "mine", examples_per_shard=2)


FORMS = {
    "caption": {"image": pixels(), "caption": "A dog."},
    "long caption": {"image": pixels(), "caption": "A dog. " * 50},
    "question": {"image": pixels(), "question": "What?", "answer": "A dog."},
    "query and time": {"image": pixels(), "query": "What time is it?", "time": "5:34"},
    "questions": {"image": pixels(), "questions": ["a?", "b?"], "answers": ["A", "B"]},
    "points": {"image": pixels(), "label": "dogs", "points": [(1, 2), (3, 4)]},
    "point dicts": {"image": pixels(), "label": "dogs", "points": [{"x": 10.5, "y": 20}], "point_scale": 100},
    "named points": {"image": pixels(), "query": "Point", "points": np.ones((2, 2)), "object_names": ["a", "b"]},
    "counted points": {"image": pixels(), "label": "dogs", "points": [(1, 2)], "count": 1},
    "count": {"image": pixels(), "object_name": "dogs", "count": np.int64(3), "query": "How many dogs?"},
    "choice": {"image": pixels(), "question": "Which?", "options": ["a", "b"], "answer_idx": 1, "answer": "b"},
    "tree": {"image": pixels(), "message_list": [{"style": "user_qa", "question": "a", "answer": "b"}] * 2},
    "strings": {"image": [pixels(), pixels(1)], "messages": ["Compare.", "One is red."]},
    "text": {"text": "Only words."},
    "text caption": {"caption": "Only words."},
}
ANSWERS = {
    "points": '<points coords="1 1 033 100 2 100 200">dogs</points>',
    "point dicts": '<points coords="1 1 105 200">dogs</points>',
    "counted points": 'Counting the <points coords="1 1 033 100">dogs</points> shows a total of 1.',
    "count": "3",
    "query and time": "5:34",
    "caption": "A dog.",
    "text": "Only words.",
}


@pytest.mark.parametrize("stage", ["pretraining", "sft"])
def test_every_form_trains(tmp_path, stage):
    gm.write_dataset([{**form, "metadata": {"id": name}} for name, form in FORMS.items()], tmp_path, "mine")
    loader = gm.make_loader(
        gm.Stage(mixture={"mine": 1.0}, prompt_mode="none" if stage == "pretraining" else "uber_model_v2"),
        data_dir=tmp_path,
        tokenizer="bytes",
        batch_size=1,
        num_threads=1,
    )
    try:
        next(loader)
        assert loader.stats()["skipped_examples"] == {}
    finally:
        loader.close()


def test_forms_say_what_they_say(tmp_path):
    from grain_molmo.text.format import format_example

    gm.write_dataset([{**form, "metadata": {"id": name}} for name, form in FORMS.items()], tmp_path, "mine")
    for example in gm.get_dataset("mine", data_dir=tmp_path):
        name = example["metadata"]["id"]
        turns = format_example(
            example, np.random.RandomState(0), style_mode="style", prompt_mode="none", image_sizes=[(30, 20)]
        )
        if name in ANSWERS:
            assert turns[-1] == ANSWERS[name]
        if name.endswith("caption"):
            style = {"caption": "short_caption:", "long caption": "long_caption:", "text caption": "user\n<|im_end|>"}
            assert style[name] in turns[0]


def test_written_sets_share_mixtures_with_registered_ones_and_stand_in_groups(tmp_path):
    gm.write_dataset((asked(i) for i in range(4)), tmp_path, "mine")
    gm.write_dataset(({"text": f"Text {i}."} for i in range(4)), tmp_path, "words")
    group = gm.Group(name="own", rate=1.0, datasets=("mine", "words", "nobody"))
    for stage in (gm.Stage(mixture={"mine": 0.5, "words": 0.5}), gm.Stage(groups=(group,))):
        loader = gm.make_loader(stage, data_dir=tmp_path, tokenizer="bytes", batch_size=1, num_threads=1)
        try:
            batch = next(loader)
            assert batch["loss_weights"].sum() > 0
            assert set(loader.stats()["datasets"]) == {"mine", "words"}
        finally:
            loader.close()
    with pytest.raises(ConfigError, match=r"unknown dataset 'word' .no examples .* nearest: words"):
        gm.get_dataset("word", data_dir=tmp_path)


def test_a_written_dataset_pickles_and_its_fingerprint_is_its_content(tmp_path):
    for folder, count in (("a", 2), ("b", 2), ("c", 3)):
        gm.write_dataset([asked(i) for i in range(count)], tmp_path / folder, "mine")
    a, b, c = (gm.get_dataset("mine", data_dir=tmp_path / folder) for folder in "abc")
    assert a.fingerprint == b.fingerprint != c.fingerprint
    again = pickle.loads(pickle.dumps(a))
    assert again[1]["answer"] == a[1]["answer"]
    assert np.array_equal(again[1]["image"], pixels(1))


def test_videos_are_kept_and_shown(tmp_path, media):
    path = next(path for path in sorted((media / "videos").rglob("*.mp4")) if path.stat().st_size < 300_000)
    examples = [
        {"video": path, "caption": "Something moves."},
        {"video": path.read_bytes(), "question": "a", "answer": "b"},
    ]
    gm.write_dataset(examples, tmp_path, "mine")
    first, second = gm.get_dataset("mine", data_dir=tmp_path)
    assert first["video"].encoded() == path.read_bytes()
    assert first["video"].ref == second["video"].ref
    assert first["style"] == "video_short_caption"
    gm.write_dataset([first], tmp_path / "again", "mine")
    assert gm.get_dataset("mine", data_dir=tmp_path / "again")[0]["video"].ref == first["video"].ref


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"metadata": {"clip_start_time": 1e6}}, "bad_clip"),
        ({"metadata": {"clip_start_time": 1.0, "clip_end_time": 0.5}}, "bad_clip"),
        ({"metadata": {"clip_start_time": "0"}}, "bad_clip"),
        ({"subtitle": 5}, "bad_subtitle"),
        ({"subtitle": {"0": "A"}}, "bad_subtitle"),
    ],
)
def test_a_part_that_the_video_lacks_and_a_subtitle_without_form_are_refused(tmp_path, media, fields, reason):
    video = next(path for path in sorted((media / "videos").rglob("*.mp4")) if path.stat().st_size < 300_000)
    with pytest.raises(ExampleError) as caught:
        gm.write_dataset([{"video": video, "caption": "It moves.", **fields}], tmp_path, "mine")
    assert caught.value.reason == reason


def test_real_pictures_come_back_byte_for_byte(tmp_path, media):
    paths = [p for p in sorted((media / "images").rglob("*")) if p.suffix in (".jpg", ".png", ".webp")]
    paths = [p for p in paths if "65536" not in p.name]
    summary = gm.write_dataset(
        ({"image": path, "caption": path.name} for path in paths), tmp_path, "mine", on_error="skip"
    )
    assert summary.examples + sum(summary.skipped.values()) == len(paths)
    assert summary.examples > 50
    by_name = {path.name: path for path in paths}
    for example in itertools.islice(gm.get_dataset("mine", data_dir=tmp_path), 0, None, 5):
        assert example["image"].encoded() in {p.read_bytes() for p in paths if p.name == example["caption"]}
        assert example["caption"] in by_name


def test_the_store_shows_the_set_in_its_report(tmp_path):
    from grain_molmo.tools.store_report import report_store

    gm.write_dataset([asked()], tmp_path, "mine")
    (report,) = report_store(tmp_path).sets
    assert report.name == "mine"
    assert written.written_names(tmp_path) == ["mine"]
    assert decode_image(jpeg()).shape == (20, 30, 3)


OUTSIDE = {
    "pairs": ({"points": [(1, 2), (2, 25)], "label": "dot"}, r"points\[1\] \(2, 25\) is outside of 30 x 20"),
    "dicts": ({"points": [{"x": 31, "y": 5}], "label": "dot"}, r"points\[0\] \(31, 5\)"),
    "percent": ({"points": [(1, 130)], "label": "dot", "point_scale": 100}, r"outside of 100 x 100"),
    "names": ({"points": [(1, 2), (40, 2)], "object_names": ["a", "b"]}, r"points\[1\] \(40, 2\)"),
    "branches": (
        {"message_list": [{"style": "pointing", "label": "a", "points": [(2, 1), (-3, 2)]}]},
        r"message_list\[0\].points\[1\] \(-3, 2\)",
    ),
    "turns": (
        {"message_list": [{"multi_turn_messages": [{"style": "pointing", "label": "a", "points": [(2, 21)]}]}]},
        r"message_list\[0\].multi_turn_messages\[0\].points\[0\] \(2, 21\)",
    ),
    "pictures": (
        {"image": [pixels(), pixels(1)], "labels": ["a", "a"], "points": [[], [(1, 101)]], "point_scale": 100},
        r"points\[1\]\[0\] \(1, 101\)",
    ),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_points_outside_of_the_picture_are_refused_as_check_dataset_refuses_them(tmp_path, case):
    fields, message = OUTSIDE[case]
    example = {"image": pixels(), **fields}
    with pytest.raises(ExampleError, match=rf"{message}.*; .*point_scale.*clip_points=True") as caught:
        gm.write_dataset([example], tmp_path, "mine")
    assert caught.value.reason == "points_outside"
    assert [problem.check for problem in form_problems(example)] == ["format"]
    summary = gm.write_dataset([example, asked()], tmp_path, "mine", on_error="skip")
    assert (summary.examples, summary.skipped) == (1, {"points_outside": 1})


@pytest.mark.parametrize(
    "fields",
    [
        {"points": [(30, 20), (0, 0)], "label": "dot"},
        {"points": [(99, 99)], "label": "dot", "point_scale": 100},
        {"points": [(500, 40)], "label": "dot", "clip_points": True},
        {"points": [(500, 40), (1, 2)], "object_names": ["a", "b"], "clip_points": True},
        {"points": [(500, 40)], "question": "Where?", "answer": "There."},
    ],
    ids=["corners", "percent", "said", "said of several", "a remark"],
)
def test_what_was_written_is_not_faulty_when_it_is_read(tmp_path, fields):
    gm.write_dataset([{"image": pixels(), **fields}], tmp_path, "mine")
    assert list(form_problems(gm.get_dataset("mine", data_dir=tmp_path)[0])) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"captoin": "A dog."}, "nothing reads a field 'captoin'; call it 'caption'"),
        ({"captoin": "A dog."}, "it needs a caption, question and answer"),
        ({"question": "Why?", "anwser": "So."}, "call it 'answer'"),
        ({"points": [(1, 2)]}, "need a label"),
        ({"points": [(1, 2)], "labl": "dog"}, "call it 'label'"),
        ({1: "A dog."}, "it has image, 1"),
    ],
)
def test_a_field_of_a_wrong_name_is_told_the_right_one(tmp_path, fields, message):
    with pytest.raises(ExampleError, match=message):
        gm.write_dataset([{"image": pixels(), **fields}], tmp_path, "mine")


NO_LESSON = {"image": pixels()}


@pytest.mark.parametrize("examples", [[], [NO_LESSON], iter([NO_LESSON])], ids=["none", "bad", "iter"])
def test_a_write_that_fails_leaves_no_folder_of_the_dataset(tmp_path, examples):
    with pytest.raises((ExampleError, ConfigError)):
        gm.write_dataset(examples, tmp_path / "some" / "where", "mine")
    assert not (tmp_path / "some" / "where" / "mine").exists()


def test_a_write_that_fails_leaves_what_others_made(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ExampleError):
        gm.write_dataset([NO_LESSON], tmp_path / "empty", "mine")
    gm.write_dataset([asked()], tmp_path / "data", "mine")
    before = sorted(tmp_path.rglob("*.*"))
    with pytest.raises(ExampleError):
        gm.write_dataset([NO_LESSON], tmp_path / "data", "mine", "held_out")
    with pytest.raises(ExampleError):
        gm.write_dataset([NO_LESSON], tmp_path / "data", "other")
    assert (tmp_path / "empty").is_dir()
    assert [path for path in sorted(tmp_path.rglob("*.*")) if path.suffix != ".lock"] == [
        path for path in before if path.suffix != ".lock"
    ]
    assert not (tmp_path / "data" / "other").exists()
    assert len(gm.get_dataset("mine", data_dir=tmp_path / "data")) == 1
