"""Cards as lines of text: what somebody in a terminal reads."""

import math
from dataclasses import replace

from made_cards import example, film, picture, row, talk

from grain_molmo.view.lines import example_lines, row_lines
from grain_molmo.view.model import Conversation, Mark, Span

BOX = Mark(kind="box", x=0.1, y=0.1, width=0.2, height=0.2)


def test_an_example_is_told_with_its_media_marks_and_what_is_learned_of_it():
    spans = (
        Span("prompt", "Look: ", 5),
        Span("visual", "0.5 1.0 ", 251, n_between=8),
        Span("trained", "A dog.", 3, 0.125),
    )
    card = example(
        4,
        facts={"tokens": "259"},
        pictures=(picture(320, 240, marks=(Mark(x=0.5, y=0.5), BOX, BOX)), picture(64, 48, title="second")),
        film=film(3),
        shared=(Span("prompt", "Seen by all", 3),),
        conversations=(Conversation(spans),),
        problem="too long",
    )

    assert list(example_lines(card)) == [
        "shapes example 4, id example-4",
        "  problem  too long",
        "  tokens  259",
        "  picture  320x240 pixels, 1 point, 2 boxes",
        "  second  64x48 pixels",
        "  video  160x90 pixels, 3.0 s, 9 frames, 1 track, 3 points",
        "  all branches see  Seen by all",
        "  -",
        "    Look: ",
        "    [243 visual tokens, 8 of text between]",
        "  > A dog.   (weight 0.125 a token)",
    ]


def test_a_row_says_how_full_each_budget_is_and_which_tokens_each_example_has():
    packed = row(example(0, conversations=(talk("a"), talk("b"))), example(1, problem="no answer"))

    assert list(row_lines(packed)) == [
        "stage sft, step 3, row 1",
        "  tokens       80 of 100 (80.0%)",
        "  crops         4 of 8 (50.0%)",
        "  pooled       20 of 40 (50.0%)",
        "        0 to      40  shapes, id example-0, 2 branches",
        "       40 to      80  shapes, id example-1   no answer",
    ]


def test_a_row_of_text_alone_has_no_crops_to_fill():
    (line,) = (line for line in row_lines(replace(row(example(0)), max_crops=0)) if "crops" in line)

    assert line.split() == ["crops", "2", "of", "0"]


def test_what_is_left_out_of_a_long_card_is_counted():
    branches = tuple(talk(f"question {i}") for i in range(5))
    (*_, last) = example_lines(example(conversations=branches))
    packed = row(*(example(i) for i in range(13)), max_tokens=1000)
    (*_, last_of_row) = row_lines(packed)

    assert last == "  … 1 more conversations"
    assert last_of_row == "  … 1 more examples"
    assert "question 4" not in "\n".join(example_lines(example(conversations=branches)))


def test_no_text_of_an_example_controls_the_terminal():
    evil = "\x1b[2J\u202e\nforged line"
    card = example(0, dataset=evil, id=evil, facts={"url": evil}, conversations=(talk(evil, evil),), problem=evil)

    for line in (*example_lines(card), *row_lines(replace(row(card), stage=evil))):
        assert line.isprintable()


def test_a_weight_is_said_to_three_digits():
    (*_, line) = example_lines(example(conversations=(talk("a", "b", weight=1 / math.sqrt(3)),)))

    assert line.endswith("(weight 0.577 a token)")
