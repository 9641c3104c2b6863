"""What templates write down: sizes, places, colours, words and shades."""

from dataclasses import replace

import numpy as np
import pytest
from made_cards import example, film, picture, row, talk

from grain_molmo.view.drawn import (
    draw_film,
    draw_pictures,
    meanings,
    shade_of,
    shades,
    shown_size,
    told_apart,
)
from grain_molmo.view.drawn_rows import runs, segments
from grain_molmo.view.media import NotWrittenError
from grain_molmo.view.model import Grid, Mark, Span, Still, Track


class Kept:
    """Keeps what it is asked to put somewhere."""

    def __init__(self):
        self.asked = {}

    def put(self, key, pixels_HW3, most):
        self.asked[key] = (pixels_HW3(), most)
        return f"media/{key}"


class Full:
    def put(self, key, pixels_HW3, most):
        raise NotWrittenError("the disk is full")


def drawn(**settings):
    (found,) = draw_pictures([picture(**settings)], Kept(), "x")
    return found


def texts(card):
    return [meaning.text for meaning in meanings(card)]


def test_one_picture_is_shown_largest_two_are_large_and_the_others_small():
    sink = Kept()
    pictures = [picture(4000, 3000, key=str(i)) for i in range(4)]

    (alone,) = draw_pictures(pictures[:1], Kept(), "x")
    widths = [one.width for one in draw_pictures(pictures, sink, "x")]

    assert alone.width > widths[0] == widths[1] > widths[2] == widths[3]
    assert [most for _, most in sink.asked.values()] == [1024, 1024, 512, 512]


def test_tiny_pictures_are_shown_large_whichever_side_is_longer_and_said_to_be():
    assert shown_size(12, 8, (640, 460)) == (160, 107)
    assert shown_size(8, 12, (640, 460)) == (107, 160)
    assert [drawn(width=side, height=8).enlarged for side in (12, 80, 100, 4000)] == [True, True, False, False]


def test_each_still_shows_its_own_frame_with_its_own_time_in_words():
    sink = Kept()
    made = replace(film(3), decode=lambda: np.stack([np.full((90, 160, 3), 10 * i, np.uint8) for i in range(3)]))

    stills = draw_film(made, sink, "x")

    assert [int(sink.asked[one.url.removeprefix("media/")][0][0, 0, 0]) for one in stills] == [0, 10, 20]
    assert [one.alt for one in stills] == [f"video of x at {i}.0 seconds: 1 point" for i in range(3)]
    assert [one.title for one in stills] == ["0.0 s", "1.0 s", "2.0 s"]
    assert [one.note for one in stills] == ["said 0", "said 1", "said 2"]
    assert all(one.width > one.height for one in stills)
    assert stills[0].dots[0].radius < drawn(marks=(Mark(x=0.5, y=0.5),)).dots[0].radius


@pytest.mark.parametrize(
    "draw", [lambda: draw_pictures([picture()], Full(), "x"), lambda: draw_film(film(), Full(), "x")]
)
def test_a_full_disk_is_no_fault_of_a_picture(draw):
    with pytest.raises(NotWrittenError):
        draw()


def test_boxes_have_the_colour_and_the_number_of_what_they_are_of():
    box = Mark(kind="box", x=0.5, y=0.25, width=0.2, height=0.5, label="cat", number=3, group=10)

    (found,) = drawn(marks=(box,)).boxes

    assert (found.colour, found.number, found.title) == (2, 3, "3 cat (50%, 25%)")


def test_a_box_that_reaches_out_of_the_picture_is_counted_and_one_on_its_edge_is_drawn():
    boxes = [Mark(kind="box", x=0.5, y=0.5, width=width, height=0.5) for width in (0.5, 0.505, 0.7)]

    found = drawn(marks=tuple(boxes))

    assert (len(found.boxes), found.outside) == (2, 1)


def test_rings_around_a_point_do_not_grow_without_end():
    radii = [dot.radius for dot in drawn(marks=tuple(Mark(x=0.5, y=0.5) for _ in range(40))).dots]

    assert radii == sorted(radii, reverse=True)
    assert radii[0] <= 2 * radii[-3]


@pytest.mark.parametrize(
    ("number", "label", "title"), [(4, "dog", "4 dog"), (0, "dog", "dog"), (4, "", "4"), (0, "", "")]
)
def test_a_point_is_called_by_its_number_and_label_as_far_as_it_has_them(number, label, title):
    (dot,) = drawn(marks=(Mark(x=0.5, y=0.5, number=number, label=label),)).dots

    assert dot.title == f"{title} (50%, 50%)".strip()


def test_crops_and_tokens_are_upright_and_level_where_they_are():
    found = drawn(grid=Grid(crops_x=(0.5,), crops_y=(0.25,), tokens_x=(0.1,), tokens_y=(0.2,)))

    assert (found.crops, found.tokens) == ("M0.5 0V1M0 0.25H1", "M0.1 0V1M0 0.2H1")


def test_a_track_is_a_line_without_places_that_are_no_numbers():
    places = ((0.0, 0.1, 0.2), (1.0, float("nan"), 0.5), (2.0, float("inf"), 0.5), (3.0, 0.3, 0.4))

    (still,) = draw_film(film(1, tracks=(Track("ant", 3, 1, places),)), Kept(), "x")

    (line,) = still.lines
    assert (line.points, line.colour, line.title) == ("0.1000,0.2000 0.3000,0.4000", 1, "3 ant")


def test_two_tracks_of_one_annotation_have_colours_of_their_own_and_one_alone_keeps_its():
    tracks = tuple(Track("ball", number, 4, ((0.0, 0.1, 0.1), (2.0, 0.9, 0.5))) for number in (1, 2))
    stills = (Still(time="0.0", marks=tuple(Mark(x=0.1, y=0.1, number=n, group=4) for n in (1, 2))),)
    both, alone = film(stills=stills, tracks=tracks), film(stills=stills, tracks=tracks[1:])
    others = replace(both, stills=(Still(time="0.0", marks=(Mark(x=0.1, y=0.1, number=1, group=0),)),))

    apart = told_apart(both)

    assert [track.group for track in apart.tracks] == [mark.group for mark in apart.stills[0].marks] == [0, 1]
    assert told_apart(alone) == alone
    assert told_apart(others) == others


def test_meanings_of_a_film_are_of_its_tracks_or_else_of_its_points():
    assert texts(example(film=film(3))) == ["track 1: ball"]
    assert texts(example(film=film(3, tracks=()))) == ["3 points: ball"]
    nameless = tuple(Track("", number, group, ()) for number, group in ((2, 0), (0, 1)))
    assert texts(example(film=film(3, tracks=nameless))) == ["track 2", "1 track"]


def test_meanings_come_in_the_order_of_their_annotations_with_no_more_labels_than_fit():
    marks = (Mark(x=0, y=0, label="later", group=1), *(Mark(x=0, y=0, label=f"thing {i}") for i in range(5)))

    found = meanings(example(pictures=(picture(marks=marks),)))

    assert [(one.colour, one.text) for one in found] == [
        (0, "5 points: thing 0, thing 1, thing 2, thing 3 and 1 more"),
        (1, "1 point: later"),
    ]


def test_each_trained_text_has_a_shade_and_a_lighter_one_the_less_it_weighs():
    weights = [0.1, 0.2, 0.3, 0.4, 1.0]
    card = example(conversations=tuple(talk("a", "b", weight=weight) for weight in weights))
    one = example(shared=(Span("trained", "b", 1, 0.7),), conversations=(talk("only read"),))

    found = shades(card)

    assert [shade_of(Span("trained", "b", 1, weight), found) for weight in weights] == [1, 2, 3, 4, 5]
    assert shade_of(Span("prompt", "a", 1), found) == 0
    assert [(shade.level, shade.lowest, shade.highest) for shade in shades(one)] == [(3, 0.7, 0.7)]


def test_parts_of_a_row_s_bars_say_what_they_are_of_and_how_long():
    packed = row(example(0), example(1))
    packed = replace(packed, examples=(*packed.examples, example(2)))  # whose place nobody knows

    first, second = segments(packed, "tokens", packed.max_tokens)
    branches = runs(packed, "branches")

    assert first.title == "1 shapes example-0: tokens 0 to 40 (40)"
    assert second.title == "2 shapes example-1: tokens 40 to 80 (40)"
    assert branches[3].title == "2 shapes: branch 2, tokens 70 to 80"
    assert [one.colour for one in branches] == [0, 0, 1, 1]
