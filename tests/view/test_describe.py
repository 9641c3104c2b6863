"""Examples as a view shows them: what the stage makes of them, and what is wrong with those that it cannot use."""

import numpy as np
import pytest

import grain_molmo as gm
from grain_molmo.view.describe import choose_stills, describe_example
from grain_molmo.vision.crops import render_crops, select_tiling, unpatchify

pytestmark = pytest.mark.xdist_group("all_sets")


class Given(gm.Dataset):
    def __init__(self, *examples):
        self.examples = examples

    def __len__(self):
        return len(self.examples)

    def get(self, item, rng):
        example = self.examples[item]
        if isinstance(example, Exception):
            raise example
        return example


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def describe(example, **settings):
    return describe_example(Given(example), 0, **settings)


def text_of(spans, kind):
    return "".join(span.text for span in spans if span.kind == kind)


def test_a_branch_for_each_message_with_the_weight_that_the_stage_gives_it():
    messages = [{"style": "user_qa", "question": f"{i}?", "answer": f"No {i}."} for i in range(4)]
    card = describe({"image": noise(60, 80), "message_list": messages}, stage="pretraining")

    learned = [text_of(one.spans, "trained").removesuffix("<|im_end|>") for one in card.conversations]
    assert sorted(learned) == [message["answer"] for message in messages]
    weights = {span.weight for one in card.conversations for span in one.spans if span.kind == "trained"}
    arrays = next(span for span in card.conversations[0].spans if span.kind == "trained")
    assert len(weights) == 1  # answers of one length
    total = arrays.n_tokens * 4 * arrays.weight
    assert card.facts["loss weight"] == f"{total:,.4g}"
    assert [span.kind for span in card.shared] == ["prompt", "visual"]


def test_crops_meet_where_the_model_has_its_seams():
    picture = noise(700, 1000)
    card = describe({"image": picture, "messages": ["What?", "Noise."]}, stage="pretraining")
    tiling = select_tiling(700, 1000, 8)
    crops = np.zeros((tiling.n_crops, 729, 588), np.uint8)
    render_crops(picture, tiling, crops)
    width = tiling.canvas_hw[1]

    grid = card.pictures[0].grid

    assert len(grid.crops_x) == tiling.cols - 1
    assert len(grid.crops_y) == tiling.rows - 1
    # Either side of a seam shows the same pixels in the overlap of the two crops.
    seam = round(grid.crops_x[0] * width)
    left, right = unpatchify(crops)[1:3]
    assert seam == 14 * 23
    assert np.array_equal(left[:, seam - 14 : seam], right[:, seam - 14 - 266 : seam - 266])
    assert len(grid.tokens_x) == tiling.pooled_hw[1] - 1
    assert round(grid.tokens_x[0] * width) == 28
    assert card.pictures[0].decode().shape == (700, 1000, 3)


def test_stills_are_those_pointed_at_and_some_between():
    assert choose_stills([0, 1, 2, 3, 4, 5, 6, 7], [6.0], 3) == [0, 6, 7]
    assert choose_stills([0, 1], [], 12) == [0, 1]
    assert len(choose_stills(range(100), range(100), 12)) == 12
    assert len(choose_stills(range(56), range(6), 12)) == 12
    assert set(range(6)) < set(choose_stills(range(56), range(6), 12))
    assert choose_stills(range(10), [], 1) == [0]


def test_a_video_shows_frames_at_times_that_the_stage_chose_with_what_is_said_then():
    frames = np.stack([np.full((20, 30, 3), 25 * i, np.uint8) for i in range(8)])
    example = {
        "video": frames,
        "metadata": {"video_fps": 2},
        "subtitle": {(0, 1.2): "One.", (1.0, 3.0): "Two."},
        "messages": ["What?", 'There: <points coords="1.0 1 250 500">cups</points>'],
    }
    film = describe(example).film

    assert [still.time for still in film.stills] == ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5", "3.0", "3.5", "4.0"]
    assert [still.subtitle for still in film.stills[:4]] == ["One.", "One.", "One. Two.", "Two."]
    assert [len(still.marks) for still in film.stills] == [0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert (film.stills[2].marks[0].x, film.stills[2].marks[0].y) == (0.25, 0.5)
    assert film.decode()[:, 0, 0, 0].tolist() == [0, 25, 50, 75, 100, 125, 150, 175, 175]
    assert describe(example, max_stills=3).film.num_frames == 9


@pytest.mark.parametrize(
    ("example", "problem"),
    [
        (ValueError("boom"), "ValueError: boom"),
        (gm.ExampleError("no_answer", "nothing"), "no_answer"),
        (17, "int, not a dict"),
        ({"image": noise(9, 9)}, ""),
        ({"image": noise(9, 9), "messages": ["What?"]}, "bad_roles"),
        ({"image": "a.jpg", "messages": ["What?", "That."]}, "bad_image"),
        ({"video": "nowhere.mp4", "messages": ["What?", "That."]}, "bad_video"),
        ({"image": noise(9, 9), "messages": [{"role": "user"}]}, ""),
    ],
)
def test_an_example_that_cannot_be_learned_from_says_why_and_shows_the_rest(example, problem):
    card = describe(example)

    assert problem in card.problem
    assert card.problem
    assert not any(span.weight for one in card.conversations for span in one.spans)
    assert len(card.pictures) == (isinstance(example, dict) and isinstance(example.get("image"), np.ndarray))
    assert repr(gm.Dataset.show(Given(example))).count("problem") == 1


def test_a_clip_shows_its_own_frames_from_its_own_start_with_what_is_said_until_just_before_an_end():
    example = {
        "video": np.stack([np.full((20, 30, 3), 25 * i, np.uint8) for i in range(10)]),
        "metadata": {"video_fps": 2, "clip_start_time": 1.0, "clip_end_time": 3.0},
        "subtitle": {(0, 1.0): "One.", (1.0, 9.0): "Two."},
        "messages": ["What?", "That."],
    }
    film = describe(example).film

    assert [still.time for still in film.stills] == ["0.0", "0.5", "1.0", "1.5", "2.0"]
    assert film.decode()[:, 0, 0, 0].tolist() == [50, 75, 100, 125, 150]
    assert film.duration_s == 2.0
    assert [still.subtitle for still in film.stills] == ["One.", "One.", "Two.", "Two.", "Two."]


def test_points_of_a_field_are_drawn_only_where_no_answer_points():
    field = {"image": noise(50, 100), "points": [[50, 10]], "label": "cup"}
    said = ["Where?", '<points coords="1 1 100 200">cups</points>']

    alone = describe({**field, "messages": ["What?", "A cup."]}).pictures[0].marks
    answered = describe({**field, "messages": said}).pictures[0].marks

    assert [(mark.x, mark.y, mark.label) for mark in alone] == [(0.5, 0.2, "cup")]
    assert [(mark.x, mark.y, mark.label) for mark in answered] == [(0.1, 0.2, "cups")]


def test_marks_lie_on_the_picture_that_they_are_of_and_boxes_on_the_first_alone():
    example = {
        "image": [noise(50, 100), noise(60, 30), noise(300, 1000)],
        "boxes": [[10, 10, 20, 20]],
        "messages": ["Where?", '<points coords="2 1 100 200;3 2 300 400">cups</points>'],
    }
    first, second, third = describe(example).pictures

    assert [(mark.kind, mark.group) for mark in first.marks] == [("box", 1)]
    assert [(mark.kind, mark.x, mark.group) for mark in second.marks] == [("point", 0.1, 0)]
    assert [(mark.kind, mark.x, mark.number) for mark in third.marks] == [("point", 0.3, 2)]
    assert third.grid.crops_x
    assert not second.grid.crops_x
    assert len({picture.key for picture in (first, second, third)}) == 3
    assert describe(example, name="other").pictures[0].key != first.key


def test_fields_and_conversation_are_of_one_draw():
    class Drawn(Given):
        def get(self, item, rng):
            return {"messages": ["What?", str(rng.randint(10**9))]}

    card = describe_example(Drawn(1), 0, name="drawn", seed=5)

    (answer,) = [span.text for span in card.conversations[0].spans if span.kind == "trained"]
    assert answer == f"{card.fields['messages'][1]}<|im_end|>"


class Mute:
    """What does not even say what it is."""

    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__


class MuteError(Exception):
    def __str__(self):
        raise RuntimeError("no")


def nested(levels):
    value: dict = {}
    for _ in range(levels):
        value = {"in": value}
    return value


ITSELF: dict = {}
ITSELF["me"] = ITSELF


@pytest.mark.parametrize(
    "junk",
    [
        *({"metadata": {"url": Mute(), "split": Mute()}}, {"own": Mute()}),
        *({"own": nested(5000)}, {"own": ITSELF}, {"own": {Mute(): 1}}, {"own": 10**9000}, {"own": {1, "two", b"3"}}),
        *({5: 6, None: 7, (1, 2): 3}, {"own": float("nan")}, {"own": b"\0\xff" * 10**5}),
        *({"boxes": [[1, 1, 2, 2]], "box_labels": [Mute()]}, {"boxes": [[0, 0, "a", 5]]}, {"boxes": 5}),
        *({"points": [[1, 2]], "object_names": [Mute()]}, {"points": "abc", "point_scale": "x"}),
        *({"metadata": {"masks": [[[1], [1, 2]], None, "x"]}}, {"metadata": [1]}, {"metadata": "x"}),
    ],
    ids=lambda junk: "-".join(map(str, junk)),
)
def test_junk_beside_an_example_hides_neither_its_picture_nor_its_conversation(junk):
    shown = Given({"image": noise(20, 30), "messages": ["What?", "That."], **junk}).show()

    assert shown.card.problem == ""
    assert len(shown.card.pictures) == len(shown.card.conversations) == 1
    assert "That." in shown.html()
    assert "That." in repr(shown)


@pytest.mark.parametrize(
    "example",
    [MuteError(), {"metadata": {"id": Mute()}}, {"message_list": [1, None, {"x": Mute()}]}, {"image": iter([1])}],
)
def test_an_example_that_nobody_can_describe_says_so_on_its_card(example):
    shown = Given(example).show()

    assert shown.card.problem
    assert "Not learned from:" in shown.html()


def test_a_video_that_the_stage_does_not_take_is_shown_all_the_same():
    card = describe(
        {"video": noise(9, 9)[None], "metadata": {"video_fps": 1}, "messages": ["A?", "B"]}, stage="pretraining"
    )

    assert "takes pictures and text" in card.problem
    assert card.film is not None


def test_every_set_of_the_library_has_something_to_show(all_sets):
    for name in gm.dataset_names():
        try:
            dataset = gm.get_dataset(name, data_dir=all_sets)
        except (gm.errors.GrainMolmoError, TypeError):  # no train split, not part of the sample, or not of a store
            continue
        card = describe_example(dataset, 0, name=name)
        assert card.problem == "" or name == "dense_caption_eval", name  # which asks for what nobody wrote
        assert card.conversations, name
        assert card.pictures or card.film, name


def test_points_lie_on_what_the_sample_drew(all_sets):
    dataset = gm.PixMoPoints(data_dir=all_sets)
    seen = 0
    for item in range(0, len(dataset), 2):
        card = describe_example(dataset, item, name="pixmo_points")
        picture = card.pictures[0].decode()
        for mark in card.pictures[0].marks:
            height, width = picture.shape[:2]
            pixel = picture[min(height - 1, int(mark.y * height)), min(width - 1, int(mark.x * width))]
            seen += 1
            assert near_colour(mark.label, pixel), (item, mark, pixel)
    assert seen > 10


def test_stored_pictures_have_one_key_if_and_only_if_they_are_the_same(all_sets):
    dataset = gm.PixMoPoints(data_dir=all_sets)
    pictures = [describe_example(dataset, item).pictures[0] for item in range(min(12, len(dataset)))]

    pixels = {picture.key: picture.decode().tobytes() for picture in pictures}
    assert all(pixels[picture.key] == picture.decode().tobytes() for picture in pictures)
    assert len(pixels) == len(set(pixels.values())) > 1


def near_colour(label, pixel):
    """Whether a pixel is of the colour that a label of the sample begins with."""
    from converters.sample import scenes

    for name, colour in scenes.COLORS.items():
        if label.startswith(name):
            return np.abs(np.asarray(colour, int) - pixel.astype(int)).max() < 40
    return True


def test_fields_are_shown_without_media_and_with_large_arrays_as_their_shape():
    card = describe(
        {"image": noise(9, 9), "messages": ["A?", "B"], "metadata": {"id": "x", "grid": np.zeros((30, 30))}}
    )

    assert set(card.fields) == {"messages", "metadata"}
    assert card.fields["metadata"] == {"id": "x", "grid": "float64 [30, 30]"}
    assert card.id == "x"


def test_features_are_shown_by_their_shape_and_label():
    card = describe({"features": np.zeros(768, np.float32), "label": 3, "metadata": {"id": "f"}})

    assert card.fields == {"features": "float32 [768]", "label": 3, "metadata": {"id": "f"}}
    assert card.problem == ""


@pytest.mark.parametrize(
    ("points", "fact"), [([(10, 5), (500, 5), (-3, 5)], "2, moved to the edge"), ([(10, 5), (80, 60)], None)]
)
def test_points_that_were_moved_to_the_edge_are_counted(points, fact):
    card = describe({"image": noise(60, 80), "points": points, "label": "dot"})
    assert card.facts.get("points outside") == fact
    assert len(card.pictures[0].marks) == len(points)
