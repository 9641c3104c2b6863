"""Cards as HTML: what stands where, in words and numbers. How it looks and behaves is tested in a browser."""

import html
import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser

import jinja2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_cards import HOSTILE, example, film, hostile_example, picture, row, talk

from grain_molmo.errors import MediaError
from grain_molmo.view.drawn import borders, meanings, percent, shades, shown_size
from grain_molmo.view.drawn_rows import attention_paths
from grain_molmo.view.html import environment, fragment_page, notebook_html, render_example, render_row
from grain_molmo.view.media import FolderMedia, InlineMedia
from grain_molmo.view.model import Conversation, Grid, Mark, Span, Still, Track
from grain_molmo.view.visible import pieces, visible

MEDIA = InlineMedia()


class Words(HTMLParser):
    """The text of a fragment, and its elements as (tag, attributes); fails where elements are not closed in order."""

    def __init__(self, fragment: str):
        super().__init__()
        self.text, self.elements, self.open = "", [], []
        self.feed(fragment)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("img", "input", "meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, css_class: str) -> list[dict[str, str]]:
        return [attrs for _, attrs in self.elements if css_class in (attrs.get("class") or "").split()]

    def tags(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.elements if name == tag]


def shown(card) -> Words:
    return Words(render_example(card, MEDIA))


def normal(text: str) -> str:
    return " ".join(text.split())


# ---- pictures and marks ----


def test_marks_stand_at_their_shares_in_percent():
    marks = (
        Mark(x=0.125, y=1 / 3, label="dog", number=4),
        Mark(kind="box", x=0.5, y=0.25, width=0.2, height=0.5, label="cat", group=1),
    )

    words = shown(example(pictures=(picture(marks=marks),)))

    (rim, dot), (halo, box) = words.tags("circle"), words.tags("rect")
    assert (dot["cx"], dot["cy"]) == (rim["cx"], rim["cy"]) == ("12.5%", "33.333%")
    assert [box[key] for key in ("x", "y", "width", "height")] == ["50%", "25%", "20%", "50%"]
    assert halo == box
    assert "4 dog (12.5%, 33.333%)" in words.text
    assert normal("1 point: dog") in normal(words.text)
    assert normal("1 box: cat") in normal(words.text)


def test_a_picture_says_its_size_before_it_is_there_and_what_it_is():
    (img,) = shown(example(pictures=(picture(1280, 640, marks=(Mark(x=0.5, y=0.5),)),))).tags("img")

    assert (img["width"], img["height"]) == ("640", "320")
    assert (img["loading"], img["decoding"]) == ("lazy", "async")
    assert img["alt"] == "picture of shapes example-0: 1 point"


def test_points_at_one_place_are_rings_around_the_last():
    marks = tuple(Mark(x=0.5, y=0.5, group=group) for group in range(3))

    radii = [int(dot["r"]) for dot in shown(example(pictures=(picture(marks=marks),))).tags("circle")[1::2]]

    assert radii[0] > radii[1] > radii[2]


@pytest.mark.parametrize("place", [(1.2, 0.5), (0.5, -0.1), (float("nan"), 0.5), (float("inf"), 0.5)])
def test_marks_outside_of_the_picture_are_counted_and_not_drawn(place):
    words = shown(example(pictures=(picture(marks=(Mark(x=place[0], y=place[1]), Mark(x=1.0, y=0.0))),)))

    assert len(words.tags("circle")) == 2  # a rim and a dot
    assert "1 marked outside" in words.text


def test_crops_and_visual_tokens_are_lines_at_their_shares():
    grid = Grid(crops_x=(0.5,), crops_y=(0.25,), tokens_x=(0.1, 0.2), tokens_y=())

    words = shown(example(pictures=(picture(grid=grid),)))

    paths = [path["d"] for path in words.tags("path")]
    assert paths == ["M0.1 0V1M0.2 0V1"] * 2 + ["M0.5 0V1M0 0.25H1"] * 2


def test_only_toggles_that_have_something_to_hide_are_there():
    plain = shown(example(pictures=(picture(),)))
    marked = shown(example(pictures=(picture(marks=(Mark(x=0.5, y=0.5),), grid=Grid((0.5,))),)))

    assert [box["class"] for box in plain.tags("input")] == ["gm-t-large"]
    assert [box["class"] for box in marked.tags("input")] == ["gm-t-points", "gm-t-crops", "gm-t-large"]
    assert shown(example()).tags("input") == []


def test_a_picture_that_does_not_decode_says_why_and_the_rest_stays():
    def broken() -> np.ndarray:
        raise MediaError("bad_image", "cut off after 20 bytes")

    words = shown(example(pictures=(picture(key="one", decode=broken), picture(key="two")), fields={"a": 1}))

    assert "picture cannot be shown: bad_image: cut off after 20 bytes" in words.text
    assert len(words.tags("img")) == 1
    assert "Where?" in words.text


def test_pictures_that_are_tiny_are_shown_large_and_those_that_are_large_fit():
    assert shown_size(12, 8, (640, 460)) == (160, 107)
    assert shown_size(1, 1, (640, 460)) == (16, 16)
    assert shown_size(4000, 3000, (640, 460)) == (613, 460)
    assert shown_size(300, 200, (640, 460)) == (300, 200)
    assert shown_size(100_000, 2, (640, 460)) == (640, 1)


def test_meanings_name_the_labels_of_each_colour():
    marks = (*(Mark(x=0.1, y=0.1, label=f"thing {i}") for i in range(6)), Mark(x=0, y=0, label="other", group=9))

    found = meanings(example(pictures=(picture(marks=marks),)))

    assert [(one.colour, one.text) for one in found] == [
        (0, "6 points: thing 0, thing 1, thing 2, thing 3 and 2 more"),
        (1, "1 point: other"),
    ]


# ---- films ----


def test_a_film_is_a_strip_of_stills_with_times_subtitles_and_its_tracks_in_each():
    words = shown(example(film=film(3, subtitles=((0.0, 2.5, "hello"), (2.5, float("inf"), "bye")))))

    assert len(words.tags("img")) == 3
    assert len(words.all("gm-tracks")) == 3
    assert words.tags("polyline")[0]["points"] == "0.0000,0.5000 0.2000,0.5000"
    text = normal(words.text)
    assert "video: 3 of the 9 frames that the model gets, 3.0 s" in text
    assert "2.0 s said 2" in text
    assert "0.0–2.5 s hello" in text
    assert "2.5–end bye" in text
    assert "1 track 1 ball 2 places, 0.0 to 2.0 s" in text


def test_a_film_is_decoded_once_and_each_still_is_a_file_of_its_own(tmp_path):
    decoded = []

    def decode() -> np.ndarray:
        decoded.append(1)
        return np.full((4, 90, 160, 3), 90, np.uint8)

    made = replace(film(4), decode=decode)
    sink = FolderMedia(tmp_path / "media")
    for _ in range(2):
        words = Words(render_example(example(film=made), sink))

    assert len(decoded) == 1
    assert len({img["src"] for img in words.tags("img")}) == 4
    assert all((tmp_path / img["src"]).is_file() for img in words.tags("img"))


def test_a_film_that_does_not_decode_says_why_once():
    def broken() -> np.ndarray:
        raise ValueError("no frames")

    made = replace(film(5), decode=broken)

    words = shown(example(film=made))

    assert words.text.count("ValueError: no frames") == 1
    assert words.tags("img") == []
    assert "Where?" in words.text


def test_tracks_of_one_annotation_have_a_colour_each_in_lines_points_and_words():
    tracks = tuple(Track("ball", number, 0, ((0.0, 0.1, 0.1 * number), (2.0, 0.9, 0.5))) for number in (1, 2, 3))
    stills = (Still(time="0.0", marks=tuple(Mark(x=0.1, y=0.1 * n, number=n) for n in (1, 2, 3))),)

    words = shown(example(film=film(stills=stills, tracks=tracks)))

    for kind in ("gm-tracks", "gm-points"):
        assert [one["class"] for one in words.all(kind) if "gm-names" not in one["class"]] == [
            f"{kind} gm-c{colour}" for colour in (0, 1, 2)
        ]
    assert [one["class"] for one in words.all("gm-swatch")] == [f"gm-swatch gm-c{colour}" for colour in (0, 1, 2)] * 2
    assert "track 1: ball track 2: ball track 3: ball" in " ".join(words.text.split())


def test_tracks_of_several_annotations_keep_the_colours_of_these():
    tracks = tuple(Track("ball", number, number // 2, ((0.0, 0.1, 0.1), (2.0, 0.9, 0.5))) for number in (1, 2, 3))

    words = shown(example(film=film(stills=(Still(time="0.0"),), tracks=tracks)))

    assert [one["class"] for one in words.all("gm-tracks")] == [f"gm-tracks gm-c{colour}" for colour in (0, 1, 1)]


def test_visual_tokens_are_counted_without_the_text_between_them():
    spans = (Span("prompt", "0.0 ", 4), Span("visual", "0.5 1.0 ", 251, n_between=8), Span("trained", "Yes", 3, 1.0))

    words = shown(example(conversations=(Conversation(spans),)))

    assert "243 visual tokens, 8 of text between" in words.text
    assert words.all("gm-visual")[0]["title"] == "between them: 0.5 1.0 "


def test_a_track_of_thousands_of_places_is_drawn_with_fewer():
    track = Track("ant", 1, 0, tuple((i / 30, i / 9000, 0.5) for i in range(9000)))

    words = shown(example(film=film(1, tracks=(track,))))

    assert 100 < len(words.tags("polyline")[0]["points"].split()) <= 240


def test_a_film_without_stills_is_no_error():
    assert "There." in shown(example(film=film(0))).text


# ---- conversations ----


def test_trained_text_says_its_weight_and_visual_tokens_their_number():
    spans = (Span("prompt", "Hi", 1), Span("visual", "", 1196), Span("trained", "Yes", 2, 0.125))

    words = shown(example(conversations=(Conversation(spans),)))

    assert "Hi1,196 visual tokensYes" in words.text  # nothing between what is not there between
    mark = words.tags("mark")[0]
    assert mark["title"] == "loss weight 0.125, 2 tokens"
    assert "loss weight 0.125" in words.text
    assert mark["class"] == words.tags("mark")[-1]["class"]  # the legend's


def test_special_tokens_and_line_feeds_are_set_apart_from_words():
    assert list(pieces("<|im_start|>user\na < b | c <im_patch><p>")) == [
        ("special", "<|im_start|>"),
        ("text", "user"),
        ("feed", "\n"),
        ("text", "a < b | c "),
        ("special", "<im_patch>"),
        ("text", "<p>"),
    ]


@given(st.text())
def test_pieces_lose_nothing(text):
    assert "".join(part for _, part in pieces(text)) == text


def test_white_space_of_a_conversation_is_kept():
    text = "  two  spaces\n\n\ttab "

    fragment = render_example(example(conversations=(talk(text),)), MEDIA)

    (shown_text,) = re.findall(r'<p class="gm-text">(.*?)</p>', fragment, re.DOTALL)
    assert html.unescape(re.sub(r"<[^>]+>", "", shown_text)) == text


def test_a_few_weights_have_a_shade_each_and_many_share_shades_in_order():
    few = example(conversations=(talk("a", "b", weight=0.2), talk("a", "b", weight=1.0)))
    many = example(conversations=tuple(talk("a", "b", weight=i / 20) for i in range(1, 21)))

    assert [(shade.lowest, shade.highest) for shade in shades(few)] == [(0.2, 0.2), (1.0, 1.0)]
    found = shades(many)
    assert [shade.level for shade in found] == [1, 2, 3, 4, 5]
    assert all(one.highest < other.lowest for one, other in itertools.pairwise(found))
    assert shades(example(conversations=(talk("only read"),))) == ()


def test_branches_are_numbered_and_what_they_share_comes_first():
    words = shown(example(shared=(Span("prompt", "SHARED", 1),), conversations=(talk("FIRST"), talk("SECOND"))))

    order = [words.text.index(part) for part in ("seen by all branches", "SHARED", "branch 1", "FIRST", "branch 2")]
    assert order == sorted(order)


def test_fields_that_are_very_long_are_cut_and_say_so():
    words = shown(example(fields={"text": "x" * 50_000}))

    assert re.search(r"… \d+,\d+ more characters", words.text)
    assert len(words.text) < 25_000


# ---- rows ----


def test_a_row_s_segments_lie_at_their_shares_of_the_budget():
    words = Words(render_row(row(example(0), example(1)), MEDIA))

    assert [bar["aria-label"] for bar in words.all("gm-bar")] == [
        "tokens: 80 of 100 in use",
        "crops: 4 of 8 in use",
        "pooled: 20 of 40 in use",
    ]
    bars = [(part["x"], part["width"]) for part in words.tags("foreignobject")]
    rects = [(rect["x"], rect["width"]) for rect in words.tags("rect") if "x" in rect and rect.get("y") == "0"]
    assert bars[:2] == [("0%", "40%"), ("40%", "40%")]
    assert ("20%", "10%") in rects  # the first branch
    assert ("35%", "5%") in rects  # what is trained
    assert ("1%", "10%") in rects  # what is visual
    assert ("25%", "25%") in bars  # crops of the second example


def test_segments_and_contents_lead_to_the_cards_of_their_examples():
    words = Words(render_row(row(example(0), example(1)), MEDIA))

    anchors = [attrs["id"] for attrs in words.tags("article")]
    assert anchors == ["gm-sft-3-1", "gm-sft-3-1-1", "gm-sft-3-1-2"]
    assert {attrs["href"] for attrs in words.tags("a")} == {f"#{anchor}" for anchor in anchors[1:]}
    assert "40 tokens (40–80), 2 crops (2–4), 10 pooled (10–20)" in normal(words.text)
    assert "padding 20 tokens" in normal(words.text)


def test_what_attends_to_what_is_filled_cell_by_cell():
    attention = np.array([[2, 0, 0], [1, 2, 0], [0, 1, 1]], np.uint8)

    assert attention_paths(attention) == {1: "M0 1h1v1H0zM1 2h2v1H1z", 2: "M0 0h1v1H0zM1 1h1v1H1z"}


@given(st.lists(st.lists(st.integers(0, 2), min_size=7, max_size=7), min_size=1, max_size=7))
def test_paths_of_attention_cover_just_the_cells_that_have_their_value(rows):
    cells = np.array(rows, np.uint8)
    for value, path in attention_paths(cells).items():
        covered = np.zeros_like(cells)
        for x, y, length in re.findall(r"M(\d+) (\d+)h(\d+)", path):
            covered[int(y), int(x) : int(x) + int(length)] += 1
        assert (covered == (cells == value)).all()


def test_a_row_without_examples_is_padding_and_no_error():
    words = Words(render_row(row(), MEDIA))

    assert "padding 100 tokens" in normal(words.text)


# ---- documents ----


def test_a_document_forbids_scripts_and_allows_just_its_own_style():
    words = Words(re.sub(r"<!doctype html>\s*", "", fragment_page(render_example(example(), MEDIA), "a <title>")))

    (policy,) = [meta["content"] for meta in words.tags("meta") if "http-equiv" in meta]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert "unsafe" not in policy
    assert "a <title>" in words.text


def test_a_notebook_s_style_is_for_its_view_alone():
    fragment = notebook_html(render_example(example(), MEDIA))
    style = re.sub(r"/\*.*?\*/", "", fragment.partition("<style>")[2].partition("</style>")[0], flags=re.DOTALL)

    selectors = [one.strip() for group in re.findall(r"([^{}]+)\{", style) for one in group.split(",")]
    outside = [one for one in selectors if ".gm-view" not in one and not one.startswith("@container")]
    assert outside == []
    assert "<script" not in fragment
    assert "style=" not in fragment


def test_nothing_is_loaded_from_anywhere():
    body = render_example(example(pictures=(picture(),), film=film()), MEDIA) + render_row(row(example()), MEDIA)

    addresses = re.findall(r"""(?:src|href)="([^"]*)"|url\(([^)]*)\)""", fragment_page(body, "x"))

    assert addresses
    assert all((one or other).startswith(("data:image/jpeg", "#")) for one, other in addresses)


def test_hostile_text_is_escaped_wherever_it_stands():
    for fragment in (render_example(hostile_example(), MEDIA), render_row(row(hostile_example()), MEDIA)):
        words = Words(fragment)
        assert words.tags("script") == []
        assert all(not name.startswith("on") for _, attrs in words.elements for name in attrs)
        assert all(img["src"].startswith("data:image/jpeg") for img in words.tags("img"))
        assert all(visible(text) in words.text for text in HOSTILE)
        fragment.encode("utf-8")


@given(st.text(alphabet=st.characters(), max_size=50))
def test_any_text_comes_out_as_it_is_or_visibly_escaped(text):
    words = shown(example(id=text, conversations=(talk(text),), facts={text: text}, fields={"k": text}, problem=text))

    assert visible(text) in words.text.replace("\r", "\n")
    assert visible(visible(text)) == visible(text)
    visible(text).encode("utf-8")


def test_a_name_that_a_template_misspells_is_an_error_and_not_nothing():
    with pytest.raises(jinja2.UndefinedError):
        environment().from_string("{{ card.nmae }}").render(card=example())


def test_shares_are_exact_to_a_hundred_thousandth():
    assert [percent(share) for share in (0, 1, 0.1, 2 / 3, 1e-9)] == ["0%", "100%", "10%", "66.667%", "0%"]
    assert borders((), ()) == ""


def test_a_still_of_an_unnamed_time_is_shown_without_marks():
    words = shown(example(film=film(stills=(Still(time="?"),), tracks=())))

    assert "? s" in words.text
