"""What is said of a row: text by branch, what is trained, pictures put together from the row's own patches."""

import numpy as np
import pytest

from grain_molmo.special_tokens import LOW_RES_IM_START, VISUAL_OFFSETS
from grain_molmo.text.assemble import SHARED_SUBSEGMENT
from grain_molmo.view.model import Span
from grain_molmo.view.row_view import describe_row, join_frames, pooled_view, visual_blocks
from grain_molmo.vision.crops import (
    PATCHES_PER_CROP,
    VALUES_PER_PATCH,
    Tiling,
    layout_tokens,
    pooling_indices,
    render_crops,
    unpatchify,
)
from grain_molmo.vision.resize import resize_bilinear

TALK = {"messages": ["What is it?", "A cup."]}


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def question(text, answer):
    return {"style": "user_qa", "question": text, "answer": answer}


def spans(branch, kind):
    return [span.text for span in branch.spans if span.kind == kind]


def test_a_conversation_is_one_branch_with_its_answers_and_their_ends_trained(pack, tokenizer):
    packed = pack({"image": noise(60, 80), "messages": ["What is it?", "A cup.", "Whose?", "Mine."]})

    (example,) = describe_row(packed.row, packed.infos, tokenizer).examples

    (branch,) = example.branches
    assert example.shared == ()
    assert [text.removesuffix("<|im_end|>") for text in spans(branch, "trained")] == ["A cup.", "Mine."]
    assert "What is it?" in branch.text
    assert "Whose?" in branch.text
    assert sum(span.n_tokens for span in branch.spans) == 1 + (example.info.tokens[1] - example.info.tokens[0])


def test_a_message_tree_has_a_shared_part_and_a_branch_for_each_annotation(pack, tokenizer):
    answers = {"Colour?": "Red.", "Shape?": "Round.", "Size?": "Small."}
    packed = pack({"image": noise(60, 80), "message_list": [question(*pair) for pair in answers.items()]})

    (example,) = describe_row(packed.row, packed.infos, tokenizer).examples

    assert len(example.branches) == 3
    assert [span.kind for span in example.shared] == ["prompt", "visual"]
    for branch in example.branches:
        asked = next(text for text in answers if text in branch.text)
        assert [text.removesuffix("<|im_end|>") for text in spans(branch, "trained")] == [answers[asked]]
        assert {SHARED_SUBSEGMENT} != set(packed.row["subsegment_ids"][slice(*branch.tokens)].tolist())


def test_examples_of_a_row_do_not_run_into_each_other(pack, tokenizer):
    packed = pack({"image": noise(60, 80), **TALK}, {"messages": ["Bonjour", "Salut — ça va ?"]})

    view = describe_row(packed.row, packed.infos, tokenizer)

    first, second = view.examples
    assert "Bonjour" not in "".join(branch.text for branch in first.branches)
    assert spans(second.branches[0], "trained")[0].startswith("Salut — ça va ?")
    assert second.pictures == ()
    assert second.visual == ()
    assert view.n_tokens == first.info.tokens[1] - first.info.tokens[0] + len(
        range(second.info.tokens[0], second.info.tokens[1])
    )
    assert (view.max_tokens, view.max_crops) == (4096, 24)


def test_trained_runs_are_where_the_row_has_loss_weight(pack, tokenizer):
    packed = pack({"image": noise(60, 80), **TALK}, TALK)

    view = describe_row(packed.row, packed.infos, tokenizer)

    marked = np.zeros(packed.stage.seq_len, bool)
    for example in view.examples:
        for start, stop in example.trained:
            marked[start:stop] = True
    assert (marked == (packed.row["loss_weights"] > 0)).all()


def test_runs_of_each_example_are_counted_from_the_beginning_of_the_row(pack, tokenizer):
    packed = pack(*({"image": noise(60, 80, seed=seed), **TALK} for seed in range(2)))
    packed.row["loss_weights"][...] *= 0.01  # light ones are trained as well

    examples = describe_row(packed.row, packed.infos, tokenizer).examples

    for what, there in (
        ("visual", np.isin(packed.row["input_tokens"] - tokenizer.special_base, VISUAL_OFFSETS)),
        ("trained", packed.row["loss_weights"] > 0),
    ):
        runs = np.concatenate([np.arange(*run) for example in examples for run in getattr(example, what)])
        assert np.array_equal(runs, np.flatnonzero(there))


@pytest.mark.parametrize("tiling", [Tiling(1, 1), Tiling(2, 3), Tiling(3, 2), Tiling(1, 4)])
def test_views_put_together_from_the_patches_are_the_picture_at_both_sizes(tiling):
    picture = noise(300, 400)
    crops_CPD = np.zeros((tiling.n_crops, PATCHES_PER_CROP, VALUES_PER_PATCH), np.uint8)
    render_crops(picture, tiling, crops_CPD)
    pooling = pooling_indices(tiling)

    whole = pooled_view(crops_CPD, pooling[:196], 14, 14)
    detail = pooled_view(crops_CPD, pooling[196:], *tiling.pooled_hw)

    assert np.array_equal(whole.pixels_HW3, unpatchify(crops_CPD)[0])
    assert np.array_equal(detail.pixels_HW3, resize_bilinear(picture, *tiling.canvas_hw))
    assert np.unique(detail.crops_YX).tolist() == list(range(1, tiling.n_crops))
    assert np.unique(detail.tokens_YX).size == tiling.n_pooled - 196


def test_the_grids_of_several_pictures_are_read_from_their_tokens():
    tilings = [Tiling(1, 1), Tiling(2, 3), Tiling(4, 1)]
    text = np.array([-300, -7, 10_000])
    offsets = np.concatenate([part for tiling in tilings for part in (text, layout_tokens(tiling))])

    blocks = visual_blocks(offsets)

    expected = [part for tiling in tilings for part in (("global", 14, 14), ("detail", *tiling.pooled_hw))]
    assert [(block.kind, block.rows, block.cols) for block in blocks] == expected
    assert [block.start for block in blocks[::2]] == np.flatnonzero(offsets == LOW_RES_IM_START).tolist()


def test_a_picture_in_a_batch_with_room_for_frames_shows_the_same():
    picture = noise(300, 400)
    tiling = Tiling(2, 2)
    crops_CPD = np.zeros((tiling.n_crops, PATCHES_PER_CROP, VALUES_PER_PATCH), np.uint8)
    render_crops(picture, tiling, crops_CPD)
    narrow = pooling_indices(tiling)[196:]
    wide = np.pad(narrow, [(0, 0), (0, 5)], constant_values=-1)

    views = [pooled_view(crops_CPD, pooling, *tiling.pooled_hw) for pooling in (narrow, wide)]

    assert np.array_equal(views[0].pixels_HW3, views[1].pixels_HW3)


def test_each_picture_of_a_row_shows_its_own_pixels(pack, tokenizer):
    greys = [np.full((500, 500, 3), value, np.uint8) for value in (40, 120, 200)]
    packed = pack({"image": greys[0], **TALK}, {"image": greys[1:], **TALK})

    first, second = describe_row(packed.row, packed.infos, tokenizer).examples

    shown = [[view.pixels_HW3 for view in views] for views in (*first.pictures, *second.pictures)]
    assert [[set(np.unique(pixels)) for pixels in views] for views in shown] == [[{40}] * 2, [{120}] * 2, [{200}] * 2]


def film(n_frames, **fields):
    """Frames of one second each; frame i is of the gray 10 i."""
    frames = 10 * np.arange(n_frames, dtype=np.uint8)[:, None, None, None] * np.ones((1, 6, 8, 3), np.uint8)
    return {"video": frames, "metadata": {"video_fps": 1}, **TALK, **fields}


def test_each_frame_of_a_row_has_its_own_time_and_pixels(pack, tokenizer):
    packed = pack({"image": noise(60, 80), **TALK}, film(3, subtitle="Listen."), film(2), seq_len=8192, max_frames=8)

    picture, first, second = describe_row(packed.row, packed.infos, tokenizer).examples

    assert (len(picture.pictures), picture.frames, first.pictures) == (1, (), ())
    assert [frame.time for frame in first.frames] == ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5", "3.0"]
    assert [frame.time for frame in second.frames] == ["0.0", "0.5", "1.0", "1.5", "2.0"]
    for example, grays in ((first, [0, 0, 10, 10, 20, 20, 20]), (second, [0, 0, 10, 10, 10])):
        assert [set(np.unique(frame.view.pixels_HW3)) for frame in example.frames] == [{gray} for gray in grays]
        assert {frame.view.pixels_HW3.shape for frame in example.frames} == {(378, 378, 3)}
    assert ["Listen." in example.branches[0].text for example in (picture, first, second)] == [False, True, False]


def test_points_are_read_from_the_text_with_the_number_of_their_picture(pack, tokenizer):
    message = {"style": "pointing", "label": "cup", "points": [[25, 75], [50, 10]], "point_scale": 100}
    packed = pack({"image": noise(60, 80), "message_list": [message]})

    (example,) = describe_row(packed.row, packed.infos, tokenizer).examples

    points = example.branches[0].points
    assert [(point.frame, point.x, point.y) for point in points] == [(1, 0.25, 0.75), (1, 0.5, 0.1)]


def test_visual_tokens_told_as_one_say_how_much_text_stands_between_them():
    spans = [
        Span("prompt", "<bos>0.0", 4),
        Span("visual", "", 81),
        Span("prompt", "0.5", 3),
        Span("visual", "", 81),
        Span("trained", "Yes", 3, 0.5),
    ]

    assert join_frames(spans) == [spans[0], Span("visual", "0.5", 165, n_between=3), spans[-1]]
    assert join_frames(spans[:2]) == spans[:2]
    assert join_frames([]) == []
