"""The picture of a row: widths to scale, points where they belong, text that never breaks it."""

import cv2
import numpy as np
import pytest

from grain_molmo.text.points import ParsedPoint
from grain_molmo.view import row_picture as picture
from grain_molmo.view.row_picture import INNER, draw_row, draw_token_bar, draw_view, token_segments
from grain_molmo.view.row_view import View, describe_row
from grain_molmo.view.text_layout import ELLIPSIS, Piece, cut, lay_out, share_lines, width_of
from grain_molmo.view.view_picture import branch_colour, draw_film

BLACK, GREY, RED = (0, 0, 0), (128, 128, 128), (255, 0, 0)


def grey(height, width):
    return np.full((height, width, 3), 128, np.uint8)


def pointing(label, *points):
    return {"style": "pointing", "label": label, "points": [list(point) for point in points], "point_scale": 100}


def colours_along(image, y):
    return [tuple(colour) for colour in np.asarray(image)[y].tolist()]


def test_the_bar_gives_each_part_a_width_in_proportion_to_its_tokens(pack, tokenizer):
    tree = {"image": grey(300, 500), "message_list": [pointing("cup", (20, 30)), pointing("hat", (60, 70))]}
    packed = pack({"image": grey(60, 80), "messages": ["What?", "A cup. " * 60]}, tree)
    view = describe_row(packed.row, packed.infos, tokenizer)

    along = colours_along(draw_token_bar(view), picture.BAR_HEIGHT - 3)

    drawn_over = np.full(view.max_tokens, -1)
    segments = token_segments(view)
    for number, segment in enumerate(segments):
        drawn_over[segment.start : segment.stop] = number
    for number, segment in enumerate(segments[:-1]):
        expected = (drawn_over == number).sum() * INNER / view.max_tokens
        assert along.count(picture.segment_colour(segment)) == pytest.approx(expected, abs=5)
    assert segments[-1].kind == "padding"
    assert segments[-1].stop == view.max_tokens


def test_the_strip_below_the_bar_marks_what_is_trained(pack, tokenizer):
    packed = pack({"messages": ["What?", "A cup. " * 300]})
    view = describe_row(packed.row, packed.infos, tokenizer)

    along = colours_along(draw_token_bar(view), picture.BAR_HEIGHT + 8)

    share = (packed.row["loss_weights"] > 0).mean()
    assert along.count(picture.TRAINED) == pytest.approx(share * INNER, abs=3)


def test_a_point_is_drawn_at_its_place_and_nowhere_else():
    view = View(grey(28 * 10, 28 * 20), np.zeros((20, 40), int), np.zeros((20, 40), int))

    image = draw_view(view, [(ParsedPoint(1, 1, 0.25, 0.8), RED)], (400, 400))

    assert image.size == (400, 200)
    ys, xs = np.nonzero((np.asarray(image) == RED).all(axis=2))
    assert (xs.mean(), ys.mean()) == pytest.approx((100, 160), abs=1)
    assert np.ptp(xs) < 12


def test_points_of_two_branches_at_one_place_are_both_visible():
    view = View(grey(280, 280), np.zeros((20, 20), int), np.zeros((20, 20), int))
    there = ParsedPoint(1, 1, 0.5, 0.5)

    pixels = np.asarray(draw_view(view, [(there, RED), (there, BLACK)], (300, 300)))

    assert (pixels == RED).all(axis=2).sum() > 10
    assert (pixels == BLACK).all(axis=2).sum() > 10


def test_the_grid_of_visual_tokens_is_finer_than_the_seams_of_crops():
    tokens_YX = np.repeat(np.arange(20), 2)[None].repeat(40, axis=0)
    crops_YX = np.repeat([1, 2], 20)[None].repeat(40, axis=0)

    pixels = np.asarray(draw_view(View(grey(560, 560), tokens_YX, crops_YX), [], (560, 560)))

    line = pixels[5, :, 0].astype(int)
    brighter = np.flatnonzero(line > 128)
    assert len(brighter) == 19
    assert line[280] > line[28] > 128


def test_points_of_a_row_appear_in_the_picture_in_their_branch_s_colour(pack, tokenizer):
    packed = pack({"image": grey(400, 400), "message_list": [pointing("cup", (20, 30), (70, 80)), pointing("hat")]})
    view = describe_row(packed.row, packed.infos, tokenizer)
    (example,) = view.examples
    branch = next(number for number, branch in enumerate(example.branches) if branch.points)

    image = picture._draw_pictures(example, 0)

    colour = picture.branch_colour(branch)
    there = (np.asarray(image) == colour).all(axis=2)
    left, top = picture.WHOLE[0] + picture.GAP, 0
    side = picture.DETAIL[1]
    for x, y in ((0.2, 0.3), (0.7, 0.8)):
        assert there[top + round(y * side), left + round(x * side)]
        assert there[round(y * 168), round(x * 168)]


def test_the_whole_picture_is_1600_wide_and_grows_by_a_card_for_each_example(pack, tokenizer):
    example = {"image": grey(60, 80), "messages": ["What?", "A cup."]}
    one, two = (pack(*[example] * number) for number in (1, 2))

    images = [draw_row(describe_row(packed.row, packed.infos, tokenizer)) for packed in (one, two)]

    assert [image.width for image in images] == [1600, 1600]
    assert images[1].height > images[0].height + 150


@pytest.mark.parametrize(
    "text",
    [
        "漢字とかな交じり文。" * 40,
        "مرحبا بالعالم " * 20,
        "e\u0301\u202e\x00\x07\x1b[31m\ttabs\r\n\n\nlines 🙂🏳️‍🌈",
        "x" * 3000,
        '<points coords="1 1 999999">cup</points> <points coords=\'',
        " ",
    ],
)
def test_no_text_breaks_the_picture(pack, tokenizer, text):
    packed = pack({"image": grey(60, 80), "messages": [f"Read it: {text}", f"It says {text}."]})

    assert picture.row_picture(packed.row, packed.infos, tokenizer, title=text).width == 1600


def test_an_example_of_many_branches_and_a_row_of_many_examples_stay_of_a_size(pack, tokenizer):
    tree = {"image": grey(60, 80), "message_list": [pointing(f"thing {n}", (n, n)) for n in range(40)]}
    talk = {"messages": ["What?", "A cup."]}
    packed = pack(tree, *[talk] * 30, seq_len=16_384)

    image = draw_row(describe_row(packed.row, packed.infos, tokenizer))

    assert image.height < 16 * 520


def test_text_wraps_within_the_width_and_keeps_every_word():
    pieces = [Piece("one two three " * 30, BLACK, GREY), Piece("four<|im_end|>\n" * 5, RED, GREY)]

    lines = lay_out(pieces, 200, 17)

    assert all(word.x + width_of(word.text, 17) <= 201 for line in lines for word in line if word.text.strip())
    words = [word for line in lines for word in line if word.text.strip()]
    assert [word.text for word in words] == ["one", "two", "three"] * 30 + ["four", "<|im_end|>", "\\n"] * 5
    assert {word.colour for word in words if word.text == "four"} == {RED}
    assert {word.colour for word in words if word.text in ("<|im_end|>", "\\n")} == {GREY}


def test_a_cut_text_ends_in_an_ellipsis_within_the_width():
    lines = lay_out([Piece("word " * 200, BLACK, GREY)], 200, 17)

    kept = cut(lines, 3, 200, 17)

    assert len(kept) == 3
    assert kept[:2] == lines[:2]
    assert kept[2][-1].text == ELLIPSIS
    assert kept[2][-1].x + width_of(ELLIPSIS, 17) <= 200
    assert cut(lines, len(lines), 200, 17) == lines


def test_short_texts_leave_their_lines_to_long_ones():
    assert share_lines([1, 20, 3], 12) == [1, 8, 3]
    assert share_lines([5, 5, 5, 5], 2) == [1, 1, 1, 1]
    assert share_lines([], 12) == []


def test_a_film_strip_shows_the_frames_that_are_pointed_at(pack, tokenizer):
    frames = np.zeros((40, 60, 60, 3), np.uint8)
    where = {"points": [[[50, 50]], [[20, 20]]], "timestamps": [11.0, 17.5], "point_scale": 100}
    message = {"style": "video_point", "label": "dot", **where}
    example = {"video": frames, "metadata": {"video_fps": 1}, "message_list": [message]}
    packed = pack(example, seq_len=16_384, crops_per_row=128, max_frames=128)
    (view,) = describe_row(packed.row, packed.infos, tokenizer).examples
    assert len(view.frames) == 81
    assert [point.frame for point in view.branches[0].points] == [11.0, 17.5]

    strip = np.asarray(draw_film(view))

    is_dot = (strip == branch_colour(0)).all(axis=2).astype(np.uint8)
    assert cv2.connectedComponents(is_dot)[0] - 1 == 2
