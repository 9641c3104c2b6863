"""`check_dataset` passes what is sound and finds each fault, in words that say where and what to do."""

import itertools
import pickle
import random
import threading

import faulty_sets as faulty
import numpy as np
import pytest
from PIL import Image

import grain_molmo as gm
from grain_molmo.errors import ConfigError, GrainMolmoError
from grain_molmo.testing import DatasetCheckError, check_dataset
from grain_molmo.testing.check import spread
from grain_molmo.testing.findings import ADVICE, CHECKS
from grain_molmo.vision.chosen import Frames
from grain_molmo.vision.videos import as_video

FAULTS = [
    (faulty.Empty, "length", r"the dataset: it has no examples; see that the split is not empty"),
    (faulty.NoNumber, "length", r"len\(dataset\) raised TypeError.*; let __len__ return the number of examples"),
    (faulty.Growing, "length", r"len\(dataset\) was 1\d before examples were asked for, and is \d+ now"),
    (faulty.FromOneEnd, "access", r"dataset\[-1\] is not dataset\[11\]: .*; leave __getitem__ and __iter__"),
    (faulty.FromOneEnd, "access", r"dataset\[-13\] raises no IndexError"),
    (faulty.Endless, "access", r"iteration gives more than 12 examples, len\(dataset\) is 12"),
    (faulty.Nothing, "format", r"example 3: get returned None; return a dict, see grain_molmo.Dataset"),
    (
        faulty.Raising,
        "get",
        r"example 0: get raised KeyError: 'b'; .*ExampleError.*\(also examples 1, 2, 3, 4, 5 and 6",
    ),
    (
        faulty.Floats,
        "format",
        r"\(id noise-0\), image: its pixels are float64; .*\(image \* 255\).*\.astype\(np.uint8\)",
    ),
    (faulty.ChannelsFirst, "format", r"image: its shape is \(3, 40, 60\); give \[H, W, 3\] RGB: image.transpose"),
    (faulty.Paths, "format", r"image\[0\]: it is a str, not pixels; open it in get: np.array\(Image.open"),
    (faulty.Images, "format", r"images: it is not shown; name pictures `image`, one or a list"),
    (faulty.PictureAndVideo, "format", r"there is a video, too; give pictures or a video, not both"),
    (faulty.VideoWithoutTimes, "format", r"video: an array of frames needs their timestamps or fps; .*video_fps"),
    (faulty.OwnRoles, "stage", r"\(bad_roles\): message 0 has role 'human'.*; let user and assistant alternate"),
    (faulty.NoAnswer, "stage", r"\(no_answer\): .*the message has \[.*'prompt'.*\]; give messages, message_list"),
    (faulty.EmptyAnswers, "stage", r"example 2 \(id noise-2\): .*empty_answer.*\(also examples 5\)"),
    (faulty.PointsOutside, "format", r"points\[1\]: \(600, 20\) is outside of 60 x 40; .*clip_points=True"),
    (faulty.UnlikeMetadata, "metadata", r"\(id 0\), metadata.taken.on: it is a date; keep metadata to text, numbers"),
    (faulty.ListOfMetadata, "metadata", r"example 0, metadata: it is a list; give a dict"),
    (faulty.SharedNumpy, "random", r"get uses np.random, which the process shares; draw from the `rng`"),
    (faulty.SeededNumpy, "random", r"get uses np.random, which the process shares"),
    (faulty.SharedPython, "random", r"get uses Python's random, which the process shares"),
    (faulty.RestoredNumpy, "repeat", r"messages\[1\]: it is 'Noise 0\..*' at first, and 'Noise 0\..*' at the second"),
    (faulty.FreshGenerator, "repeat", r"messages\[1\]: .*; draw what varies from `rng`"),
    (faulty.Counting, "repeat", r"example 0 \(id 0\), metadata.visit: it is 1 at first, and 2 at the second visit"),
    (faulty.CachedDraws, "repeat", r"get drew more or fewer numbers from `rng` at the second visit"),
    (
        faulty.LikeTheLast,
        "order",
        r"messages\[1\]: it is 'After \d+ noise.* in another order; keep nothing of one call",
    ),
    (faulty.CachedPixels, "changes", r"image: it is uint8 .*after a caller changed the example; .*write=False"),
    (faulty.SharedMetadata, "changes", r"metadata.tags: it is 1 entries at first, and 0 entries after a caller"),
    (faulty.OpenFile, "pickling", r"it does not pickle \(its attribute 'file', .*\): TypeError: .*__getstate__"),
    (faulty.OpenFile, "threads", r"messages\[1\]: .* when threads ask at once; guard with a lock"),
    (faulty.Locked, "pickling", r"it does not pickle \(its attribute 'lock', lock\)"),
    (faulty.ForgottenInPickles, "pickling", r"messages\[0\]: it is 'Which\?' at first, and 'What\?' in a pickled copy"),
    (faulty.Scratch, "threads", r"messages\[1\]: it is 'Noise \d+\.' at first, and 'Noise \d+\.' when threads ask"),
    (faulty.Rotated, "media", r"image: it says \[H, W\] = \[40, 60\], and decodes to \[60, 40\]; .*upright"),
    (faulty.Broken, "media", r"example 7 \(id noise-7\), image: it does not decode \(the disk is gone\)"),
    (faulty.TornVideo, "media", r"example 0 \(id noise-0\), video: it does not decode \(nothing after 1 s\)"),
    (faulty.SameIds, "ids", r"example 1 \(id noise-0\), metadata.id: example 0 has the same id; give each its own"),
    (faulty.SameIdsFarApart, "ids", r"example 1999 \(id noise-0\), metadata.id: example 0 has the same id"),
    (
        faulty.ForeignIds,
        "ids",
        r"the dataset: `ids` has 13 entries, len\(dataset\) is 12; let `ids` have the id of each",
    ),
    (faulty.OtherIds, "ids", r"\(id noise-0\), metadata.id: the dataset says that its id is '0'"),
    (faulty.FreshFingerprint, "fingerprint", r"fingerprint was '0.*' and is '0.*' after examples were asked for"),
    (faulty.NumberFingerprint, "fingerprint", r"fingerprint is 7; let `fingerprint` be text"),
    (faulty.RaggedFeatures, "stage", r"example 1 \(id row-1\): .*bad_features\): features of \[5\], others are \[4\]"),
    (faulty.LabelsInWords, "stage", r"\(bad_label\): label is 'left'.*; give the number of the class"),
]


@pytest.mark.parametrize(("dataset", "check", "message"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_a_planted_fault_is_found_and_nothing_else(dataset, check, message):
    with pytest.raises(DatasetCheckError, match=message) as caught:
        check_dataset(dataset(), strict=check in ADVICE)
    assert check in {one.check for one in caught.value.findings}
    expected = {kind for made, kind, _ in FAULTS if made is dataset}
    assert {one.check for one in caught.value.findings} == expected


def test_what_is_sound_passes_and_the_report_says_what_was_seen():
    report = check_dataset(faulty.Sound())
    assert (report.length, report.checked, report.findings, report.left_out) == (12, 12, (), {})
    assert report.n_crops == (2, 2)
    text = "Sound(12 examples): no findings in 12 of 12 examples\n  an example takes 443 to 444 tokens and 2 to 2 crops"
    assert str(report) == text


@pytest.mark.parametrize("dataset", [faulty.CachedPixels, faulty.SharedMetadata])
def test_what_only_another_caller_could_spoil_is_advice(dataset, caplog):
    report = check_dataset(dataset())
    assert {one.check for one in report.findings} == {"changes"}
    assert "after a caller changed the example" in caplog.text


def test_every_family_of_checks_has_a_planted_fault():
    assert {check for _, check, _ in FAULTS} == set(CHECKS)


def test_a_failed_check_is_a_failed_assertion_of_this_library_s_family():
    with pytest.raises(DatasetCheckError) as caught:
        check_dataset(faulty.Floats())
    assert isinstance(caught.value, AssertionError)
    assert isinstance(caught.value, GrainMolmoError)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.report) == (str(caught.value), caught.value.report)


def test_all_faults_are_told_at_once_each_kind_in_a_line():
    class Poor(faulty.Floats):
        def changes(self, item, example, rng):
            return {**super().changes(item, example, rng), "metadata": [item]}

    with pytest.raises(DatasetCheckError) as caught:
        check_dataset(Poor())
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("Poor(12 examples): 25 findings in 12 of 12 examples")
    assert [line.split("]")[0].strip(" [") for line in lines[1:]] == ["format", "metadata", "pickling"]
    assert lines[1].endswith("(also examples 1, 2, 3, 4, 5 and 6 more)")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "CMYK", "I;16", "F", "L"])
def test_pil_images_of_every_mode_pass(mode):
    class Modes(faulty.Sound):
        def get(self, item, rng):
            return {**super().get(item, rng), "image": Image.new(mode, (60, 40))}

    assert not check_dataset(Modes(), skip=["pickling"]).findings


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"images": [1], "question": "a?", "answer": "b"}, "images: nothing reads .*call it 'image'"),
        ({"qestion": "a?", "answer": "b"}, "qestion: nothing reads a field of this name; call it 'question'"),
        ({"image": [], "question": "a?", "answer": "b"}, "image: it is an empty list; leave it out"),
    ],
)
def test_a_field_that_is_misnamed_or_empty_is_found(fields, message):
    class Slip(gm.Dataset):
        def __len__(self):
            return 2

        def get(self, item, rng):
            return dict(fields)

    with pytest.raises(DatasetCheckError, match=message):
        check_dataset(Slip(), skip=["pickling"])


def test_a_dataset_that_leaves_all_out_is_of_no_use():
    class Lost(faulty.Sound):
        def get(self, item, rng):
            raise gm.ExampleError("bad_video", "nope.mp4: no such file")

    with pytest.raises(DatasetCheckError, match=r"leaves out all .* nope.mp4: no such file"):
        check_dataset(Lost(), skip=["pickling"])


def test_what_is_meant_can_be_skipped():
    assert check_dataset(faulty.SameIds(), skip=["ids"]).checked == 12
    with pytest.raises(ConfigError, match=r"skip=\['id'\]: the checks are length, access, get"):
        check_dataset(faulty.SameIds(), skip=["id"])


def test_examples_that_the_dataset_leaves_out_are_counted_and_are_no_fault():
    class Picky(faulty.Sound):
        def get(self, item, rng):
            if item % 4 == 0:
                raise gm.ExampleError("blurred", f"picture {item}")
            return super().get(item, rng)

    report = check_dataset(Picky(), skip=["pickling"])
    assert report.left_out == {"blurred": 3}
    assert "left out by get: 3 blurred" in str(report)


def test_the_process_s_random_states_are_as_they_were():
    np.random.seed(3)
    random.seed(3)
    expected = np.random.random_sample(), random.random()
    np.random.seed(3)
    random.seed(3)
    check_dataset(faulty.Sound())
    with pytest.raises(DatasetCheckError):
        check_dataset(faulty.SharedNumpy())
    assert (np.random.random_sample(), random.random()) == expected


def test_what_a_caller_changes_is_a_copy_so_the_dataset_stays_as_it_was():
    dataset = faulty.CachedPixels()
    assert check_dataset(dataset).findings
    assert (dataset[3]["image"] == 3).all()


def test_texts_in_an_array_of_objects_are_compared_by_what_they_say():
    class Objects(faulty.Changed):
        def changes(self, item, example, rng):
            return {"metadata": {"id": str(item), "names": np.array([f"name {item}", None], object)}}

    assert check_dataset(Objects(), skip=["pickling"])


def test_kept_pixels_that_nobody_can_write_to_are_no_fault():
    class ReadOnly(faulty.CachedPixels):
        def get(self, item, rng):
            example = super().get(item, rng)
            example["image"].setflags(write=False)
            return example

    assert check_dataset(ReadOnly(), skip=["pickling"], strict=True)


def test_files_that_pixels_lie_in_are_not_written_to(tmp_path):
    pixels = np.memmap(tmp_path / "pixels", np.uint8, "w+", shape=(12, 40, 60, 3))
    pixels[:] = 9

    class Mapped(faulty.Sound):
        def get(self, item, rng):
            return {"image": pixels[item], "messages": ["What?", f"Noise {item}."]}

    check_dataset(Mapped(), skip=["pickling"])
    assert (np.fromfile(tmp_path / "pixels", np.uint8) == 9).all()


def test_what_a_lock_guards_is_no_fault():
    class Guarded(faulty.Scratch):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()

        def changes(self, item, example, rng):
            with self.lock:
                return super().changes(item, example, rng)

    assert check_dataset(Guarded(), skip=["pickling"])


@pytest.mark.parametrize(
    "example",
    [
        {"image": Image.new("RGB", (60, 40)), "caption": "Black."},
        {"image": [np.zeros((40, 60), np.uint8), np.zeros((40, 60, 4), np.uint8)], "messages": ["What?", "Noise."]},
        {"video": np.zeros((4, 40, 60, 3), np.uint8), "messages": ["What?", "Noise."], "metadata": {"video_fps": 2}},
        {
            "image": Frames(as_video(np.zeros((4, 40, 60, 3), np.uint8), fps=2), [0.0, 1.5]),
            "messages": ["What?", "Noise."],
        },
        {"question": "What?", "answer": "Text alone.", "metadata": {"id": 3, "masks": [np.zeros((3, 4), bool)]}},
        {"image": np.zeros((40, 60, 3), np.uint8), "points": [(60, 40)], "object_names": ["noise"], "query": "Where?"},
        {"image": np.zeros((40, 60, 3), np.uint8), "message_list": [{"style": "long_caption", "text": "Black."}] * 2},
        {
            "image": np.zeros((40, 60, 3), np.uint8),
            "style": "pointing",
            "label": "edge",
            "points": [[-1, 200]],
            "point_scale": 100,
            "clip_points": True,
        },
    ],
    ids=["pil", "gray and rgba", "frames", "chosen frames", "text", "points", "tree", "clipped"],
)
def test_every_form_of_example_passes(example):
    class One(gm.Dataset):
        def __len__(self):
            return 1

        def get(self, item, rng):
            return {
                key: value.copy() if isinstance(value, np.ndarray | Image.Image) else value
                for key, value in example.items()
            }

    assert check_dataset(One(), skip=["pickling", "changes"]).n_tokens


def test_features_pass_without_tokens():
    report = check_dataset(faulty.Features())
    assert (report.n_tokens, report.n_crops) == ((1, 1), (0, 0))
    with pytest.raises(DatasetCheckError, match=r"no_answer"):
        check_dataset(faulty.Features(), stage="pretraining")
    with pytest.raises(DatasetCheckError, match=r"no use for a stage of kind 'features'.*; give features"):
        check_dataset(faulty.Sound(), stage=gm.Stage(mixture={"noise": 1}, kind="features"))


def test_a_stage_may_be_named_and_what_does_not_fit_it_is_found():
    check_dataset(faulty.ManyPictures())
    with pytest.raises(DatasetCheckError, match=r"\(too_many_images\): 6 pictures, the stage takes 5; show fewer"):
        check_dataset(faulty.ManyPictures(), stage="pretraining")
    with pytest.raises(ConfigError, match=r"stage='pretrain': must be one of pretraining, sft"):
        check_dataset(faulty.Sound(), stage="pretrain")


def test_prompts_may_end_with_the_user():
    class Asking(faulty.Changed):
        def changes(self, item, example, rng):
            return {"messages": [{"role": "user", "content": "What?"}]}

    assert check_dataset(Asking(), skip=["pickling"]).n_tokens
    with pytest.raises(DatasetCheckError, match="bad_roles"):
        check_dataset(Asking(), stage="pretraining", skip=["pickling"])


def test_what_is_no_dataset_or_no_number_is_refused():
    with pytest.raises(ConfigError, match=r"takes a grain_molmo.Dataset, not list; inherit from it"):
        check_dataset([{}])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match=r"num_examples=0"):
        check_dataset(faulty.Sound(), num_examples=0)


def test_of_a_large_set_the_ends_and_others_are_looked_at():
    for length, most in itertools.product((1, 2, 3, 50), (1, 2, 3, 7)):
        indices = spread(length, most, seed=0)
        assert indices == sorted(set(indices))
        assert len(indices) == min(length, most)
        assert indices[0] == 0
        assert most == 1 or indices[-1] == length - 1
    assert spread(1000, 9, seed=1) != spread(1000, 9, seed=2)
    assert check_dataset(faulty.Sound(), num_examples=4).checked == 4
