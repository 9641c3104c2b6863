"""Pages and fragments in headless Chromium, opened from files: what one sees, does and is safe from."""

import itertools
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from chromium import DESKTOP, PHONE, Browser
from made_cards import GREEN, GREY, HOSTILE, example, film, hostile_example, many, picture, row, talk
from selenium.webdriver.common.keys import Keys

from grain_molmo.view.html import fragment_page, notebook_html, render_example, render_row
from grain_molmo.view.media import InlineMedia
from grain_molmo.view.model import ExampleCard, Mark, Still, Track
from grain_molmo.view.page import write_page
from grain_molmo.view.visible import visible

pytestmark = pytest.mark.xdist_group("browser")  # they share one

SHOWN = "return [...document.querySelectorAll('.slot')].map(slot => Number(slot.dataset.item))"
STATUS = "return document.getElementById('status').textContent"
CURRENT = "return document.querySelector('.slot.current')?.dataset.item ?? ''"
IS_DRAWN = "return document.getElementById('status').textContent === arguments[0]"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """A hundred and fifty examples of five sets."""
    cards = [*many(149, words=30), example(149, dataset="films", conversations=(), film=film())]
    return write_page(tmp_path_factory.mktemp("page") / "out", cards, title="made by hand").page


@pytest.fixture(scope="module")
def rows_page(tmp_path_factory) -> Path:
    """Two packed rows."""
    ours, theirs = (itertools.islice(many(9, words=20), start, None) for start in (0, 4))
    cards = [row(next(ours), next(ours)), row(next(theirs), example(8, dataset="films", film=film()))]
    return write_page(tmp_path_factory.mktemp("rows") / "out", cards, title="rows").page


def shows(browser: Browser, first: int, stop: int) -> None:
    """Waits until these items are there, and no others."""
    browser.wait(f"const found = (() => {{ {SHOWN} }})(); return found.join() === arguments[0]", _joined(first, stop))


def _joined(first: int, stop: int) -> str:
    return ",".join(map(str, range(first, stop)))


# ---- opening ----


def test_a_page_opens_from_a_file_without_an_error_and_asks_for_its_own_files_alone(browser, page):
    browser.open_page(page)

    shows(browser, 0, 20)
    assert browser.run(STATUS) == "1–20 of 150"
    browser.wait("const img = document.querySelector('img'); return img.complete && img.naturalWidth > 0")
    asked, failed = browser.requests()
    assert not failed
    assert asked
    assert all(address.startswith((page.parent.as_uri(), "data:,")) for address in asked)
    assert browser.log() == []


def test_five_thousand_examples_open_and_only_what_is_seen_is_loaded(browser, tmp_path, capsys):
    page = write_page(tmp_path / "out", many(5000, words=60), title="five thousand").page

    browser.open_page(page)

    assert browser.run(STATUS) == "1–20 of 5,000"
    ready_ms = browser.run("return performance.getEntriesByName('cards')[0].startTime")
    with capsys.disabled():
        print(f"\n5,000 examples, {page.stat().st_size / 1e6:.1f} MB of index: first cards after {ready_ms:.0f} ms")
    asked, _ = browser.requests()
    assert sum("/cards/" in address for address in asked) == 2  # of 500
    assert sum("/media/" in address for address in asked) < 20  # the others are far below
    browser.type("#search", "ID-4999")
    browser.wait(IS_DRAWN, "1–1 of 1")
    shows(browser, 4999, 5000)


def test_a_file_of_cards_that_is_missing_says_so_in_their_place(browser, tmp_path):
    page = write_page(tmp_path / "out", many(20, words=3), title="torn").page
    (page.parent / "cards" / "0001.js").unlink()

    browser.open_page(page)

    assert browser.run("return document.querySelectorAll('.gm-card').length") == 10
    assert "cards/0001.js" in browser.run("return document.querySelectorAll('.slot')[10].textContent")


# ---- finding ----


def test_keys_turn_pages_and_step_through_cards_across_pages(browser, page):
    browser.open_page(page)

    browser.press("n")
    shows(browser, 20, 40)
    browser.press("p")
    shows(browser, 0, 20)
    browser.press("j", "j")
    browser.wait(f"return (() => {{ {CURRENT} }})() === '1'")
    assert browser.run("return document.activeElement.dataset.item") == "1"
    browser.press("k")
    assert browser.run(CURRENT) == "0"
    browser.press(*"j" * 20)
    shows(browser, 20, 40)
    assert browser.run(CURRENT) == "20"
    browser.press("k")
    shows(browser, 0, 20)
    assert browser.run(CURRENT) == "19"
    assert browser.log() == []


def test_the_last_page_holds_what_is_left_and_cannot_be_turned(browser, page):
    browser.open_page(page, "#page=8")

    shows(browser, 140, 150)
    assert browser.run("return [...document.querySelectorAll('[data-go=\"1\"]')].every(button => button.disabled)")
    browser.press("n")
    assert browser.run(STATUS) == "141–150 of 150"


def test_sets_filter_and_say_how_many_they_have(browser, page):
    browser.open_page(page)
    labels = browser.run(
        "return [...document.querySelectorAll('#sets label')].map(label => label.innerText.split(/\\s+/))"
    )
    assert labels == [["films", "1"], *(["set_" + str(i), "30" if i < 4 else "29"] for i in range(5))]

    browser.click("#sets input[value=films]")
    browser.wait(IS_DRAWN, "1–1 of 1")
    browser.click("#sets input[value=set_4]")
    browser.wait(IS_DRAWN, "1–20 of 30")
    assert "set=films&set=set_4" in browser.run("return location.hash")

    browser.click("#clear")
    browser.wait(IS_DRAWN, "1–20 of 150")


def test_a_search_wants_all_words_wherever_they_are_and_minds_no_capitals(browser, page):
    browser.open_page(page)

    browser.press("/")
    browser.press("PICTURE 77?  Id-77")
    browser.wait(IS_DRAWN, "1–1 of 1")
    shows(browser, 77, 78)
    assert browser.run("return new URLSearchParams(location.hash.slice(1)).get('q')") == "PICTURE 77?  Id-77"
    browser.type("#search", " absent")
    browser.wait(IS_DRAWN, "0 found")
    assert browser.run("return document.getElementById('nothing').hidden") is False
    browser.press(Keys.ESCAPE)  # leaves the field: keys are keys again
    browser.press(Keys.ESCAPE)
    browser.wait(IS_DRAWN, "1–20 of 150")
    assert browser.run("return document.getElementById('search').value") == ""


def test_a_page_that_loads_late_does_not_replace_the_one_asked_for_since(browser, page):
    browser.open_page(page)

    browser.run("""
        for (const key of ['n', 'p']) document.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));""")
    browser.wait("return !document.head.querySelector('script')")  # the second page has come
    browser.run("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    shows(browser, 0, 20)
    assert browser.run(STATUS) == "1–20 of 150"


def test_a_search_finds_accents_in_either_spelling(browser, tmp_path):
    cards = [
        example(i, conversations=(talk("Where?", text),)) for i, text in enumerate(["cafe\u0301", "Caf\u00e9", "cafe"])
    ]
    path = write_page(tmp_path / "out", cards, title="x").page

    for query in ("caf\u00e9", "cafe\u0301"):
        browser.open_page(path, f"#{urlencode({'q': query})}")
        assert browser.run(STATUS) == "1–2 of 2"


def test_typing_in_the_search_moves_nothing_else(browser, page):
    browser.open_page(page)

    browser.press("/")
    browser.press("njk?t")
    browser.wait(IS_DRAWN, "0 found")

    assert browser.run("return document.documentElement.dataset.theme") == "auto"
    assert browser.run("return document.getElementById('help').open") is False


def test_an_address_leads_to_its_example_and_back_leads_back(browser, page):
    browser.open_page(page, "#item=64")

    shows(browser, 60, 80)
    assert browser.run(CURRENT) == "63"
    top = browser.run("return document.querySelector('.slot.current').getBoundingClientRect().top")
    assert 0 < top < DESKTOP[1] / 2
    browser.press("n")
    shows(browser, 80, 100)
    browser.driver.back()
    shows(browser, 60, 80)
    browser.click(".slot:nth-child(3) .link")
    browser.wait(f"return (() => {{ {CURRENT} }})() === '62'")


def test_an_address_to_an_example_that_its_filter_leaves_out_shows_it_all_the_same(browser, page):
    browser.open_page(page, "#set=films&item=64")

    shows(browser, 60, 80)
    assert browser.run(CURRENT) == "63"


def test_an_address_that_makes_no_sense_shows_the_first_page(browser, page):
    browser.open_page(page, "#page=-3&item=99999&set=nobody&q=%ff")

    assert browser.log() == []
    browser.open_page(page, "#page=x&item=y&set=nobody&__proto__=1")
    shows(browser, 0, 20)


def test_the_help_opens_and_closes_by_keys(browser, page):
    browser.open_page(page)

    browser.press("?")
    assert browser.run("return document.getElementById('help').open")
    browser.press("n")
    browser.press(Keys.ESCAPE)
    browser.wait("return !document.getElementById('help').open")
    assert browser.run(STATUS) == "1–20 of 150"


# ---- looking ----


def is_seen(browser: Browser, selector: str) -> bool:
    return browser.run("return getComputedStyle(document.querySelector(arguments[0])).display !== 'none'", selector)


def test_a_card_s_toggles_hide_what_lies_over_its_pictures(browser, page):
    browser.open_page(page)
    points, crops = ".slot:nth-child(1) .gm-points", ".slot:nth-child(1) .gm-crops"
    other = ".slot:nth-child(2) .gm-points"
    assert is_seen(browser, points)

    browser.click(".slot:nth-child(1) .gm-t-points")
    assert not is_seen(browser, points)
    assert is_seen(browser, crops)
    assert is_seen(browser, other)
    browser.click(".slot:nth-child(1) .gm-t-crops")
    assert not is_seen(browser, crops)


def test_the_page_s_toggles_are_for_all_cards_and_stay_when_pages_turn(browser, page):
    browser.open_page(page)

    browser.click("#overlays input[value=points]")
    assert not is_seen(browser, ".slot:nth-child(1) .gm-points")
    browser.press("n")
    shows(browser, 20, 40)
    assert not is_seen(browser, ".slot:nth-child(7) .gm-points")
    browser.press("m")  # some of them are on: all off
    assert not is_seen(browser, ".slot:nth-child(7) .gm-names")
    browser.press("m")
    assert is_seen(browser, ".slot:nth-child(7) .gm-points")
    assert is_seen(browser, ".slot:nth-child(7) .gm-names")


def test_toggles_of_a_document_without_scripts_work_as_well(browser, tmp_path):
    card = next(many(1))
    path = tmp_path / "alone.html"
    path.write_text(fragment_page(render_example(card, InlineMedia()), "alone"), encoding="utf-8")

    browser.open(path)
    assert is_seen(browser, ".gm-points")
    browser.click(".gm-t-points")
    assert not is_seen(browser, ".gm-points")
    assert browser.log() == []


def test_a_segment_of_a_row_leads_to_its_example(browser, rows_page):
    browser.open_page(rows_page)
    hash_before = browser.run("return location.hash")

    browser.click(".gm-bar foreignObject:nth-child(2) a")

    assert browser.run("return document.activeElement.id") == "gm-sft-3-1-2"
    top = browser.run("return document.activeElement.getBoundingClientRect().top")
    assert 0 < top < DESKTOP[1]
    assert browser.run("return location.hash") == hash_before
    assert browser.log() == []


def test_the_segments_of_a_row_lie_where_its_tokens_are(browser, rows_page):
    browser.open_page(rows_page)

    shares = browser.run("""
        const bar = document.querySelector('.gm-bar').getBoundingClientRect();
        return [...document.querySelectorAll('.gm-bar')[0].querySelectorAll('a')].map(link => {
          const box = link.getBoundingClientRect();
          return [(box.x - bar.x) / bar.width, (box.right - bar.x) / bar.width];
        });""")

    assert np.allclose(shares, [[0.0, 0.4], [0.4, 0.8]], atol=0.002)


@pytest.mark.parametrize("which", ["page", "rows_page", "hostile_page"])
def test_on_a_phone_nothing_sticks_out(browser, request, which):
    browser.size(PHONE, is_phone=True)
    browser.open_page(request.getfixturevalue(which))

    widths = browser.run("return [document.documentElement.scrollWidth, innerWidth]")

    assert widths == [PHONE[0], PHONE[0]]
    assert browser.run("return document.getElementById('side').open") is False
    assert browser.log() == []


CONTRASTS = """
    const probe = document.createElement('i');
    document.querySelector('.gm-view').append(probe);
    const read = (name) => {
      probe.style.color = `var(--gm-${name})`;
      return getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map(Number);
    };
    return Object.fromEntries(arguments[0].map((name) => [name, read(name)]));"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(browser, page, scheme):
    browser.prefer(color_scheme=scheme)
    browser.open_page(page)
    pairs = [
        *itertools.product(["ink", "quiet", "link"], ["ground", "paper"]),
        *[("ink", f"w{level}") for level in range(1, 6)],
        ("alarm", "alarm-ground"),
    ]

    colours = browser.run(CONTRASTS, sorted({name for pair in pairs for name in pair}))

    is_dark = sum(colours["ground"]) < sum(colours["ink"])
    assert is_dark == (scheme == "dark")
    found = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert {pair: ratio for pair, ratio in found.items() if ratio < 4.5} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_numbers_of_a_row_s_examples_can_be_read_on_all_colours(browser, rows_page, scheme):
    browser.prefer(color_scheme=scheme)
    browser.open_page(rows_page)

    found = browser.run("""
        const numbers = (text) => text.match(/[\\d.]+/g).slice(0, 3)
          .map((part) => part * (text.startsWith('color(') ? 255 : 1));
        return ['.gm-bar a', '.gm-chip'].flatMap((which) => [0, 1, 2, 3, 4, 5, 6, 7].map((colour) => {
          const one = document.querySelector(which);
          one.classList.remove(...[...one.classList].filter((name) => /^gm-c\\d$/.test(name)));
          one.classList.add(`gm-c${colour}`);
          const style = getComputedStyle(one);
          return [numbers(style.color), numbers(style.backgroundColor)];
        }));""")

    assert [round(contrast(*pair), 1) for pair in found if contrast(*pair) < 4.5] == []


def contrast(one: list[float], other: list[float]) -> float:
    """Of two sRGB colours, from 1 to 21, as WCAG defines it."""

    def luminance(colour: list[float]) -> float:
        shares = np.array(colour) / 255
        linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_theme_s_button_comes_before_the_system(browser, page):
    browser.prefer(color_scheme="dark")
    browser.open_page(page)
    dark = browser.run("return getComputedStyle(document.body).backgroundColor")

    browser.press("t")
    light = browser.run("return getComputedStyle(document.body).backgroundColor")
    browser.click("#theme")

    assert browser.run("return document.documentElement.dataset.theme") == "dark"
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == dark != light
    browser.click("#theme")  # as it was, for the tests after this one


def test_a_notebook_s_theme_comes_before_the_system(browser, tmp_path):
    view = notebook_html(render_example(example(), InlineMedia()))
    path = tmp_path / "notebook.html"
    ground = "return getComputedStyle(document.querySelector('.gm-card')).backgroundColor"
    found = {}
    for attribute in ('data-jp-theme-light="false"', 'data-jp-theme-light="true"', 'class="vscode-dark"', ""):
        path.write_text(f"<!doctype html><body {attribute}>{view}</body>", encoding="utf-8")
        browser.prefer(color_scheme="dark" if "true" in attribute else "light")
        browser.open(path)
        found[attribute] = browser.run(ground)
    dark, light, vscode_dark, plain = found.values()
    assert dark == vscode_dark != light == plain


def test_every_control_has_a_name_and_every_picture_a_text(browser, page):
    browser.open_page(page)

    unnamed = browser.run("""
        const text = (e) => e?.textContent.trim();
        const name = (e) => e.getAttribute('aria-label') || text(e) || text(e.closest('label'));
        return [...document.querySelectorAll('button, input, a, summary, [role=img]')].filter((e) => !name(e))
          .map((e) => e.outerHTML);""")

    assert unnamed == []
    assert browser.run("return [...document.images].every((image) => image.alt)")


# ---- marks, by pixel ----

SIZES = {"plain": (640, 480), "wide": (2000, 100), "tall": (100, 1600), "tiny": (12, 8), "large": (3000, 2250)}
PLACES = ((0.25, 0.25), (0.75, 0.5), (0.5, 0.75))
POINT_COLOUR, BOX_COLOUR = (229, 23, 63), (10, 132, 255)
AT_MOST_PX = 1.5


def block_at(size: tuple[int, int], place: tuple[float, float]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in pixels of a block about that place, large enough to be seen around a mark."""
    width, height = size
    half_x, half_y = max(1, round(0.09 * width)), max(1, round(0.09 * height))
    x, y = round(place[0] * width), round(place[1] * height)
    return max(0, x - half_x), max(0, y - half_y), min(width, x + half_x), min(height, y + half_y)


def drawn_blocks(size: tuple[int, int], blocks: list[tuple[int, int, int, int]]) -> np.ndarray:
    pixels = np.full((size[1], size[0], 3), GREY, np.uint8)
    for left, top, right, bottom in blocks:
        pixels[top:bottom, left:right] = GREEN
    return pixels


def block_card(name: str, place: tuple[float, float], kind: str, index: int) -> ExampleCard:
    """A picture with a block, and a mark where the generator put it."""
    size = SIZES[name]
    left, top, right, bottom = block = block_at(size, place)
    if kind == "point":
        mark = Mark(x=(left + right) / 2 / size[0], y=(top + bottom) / 2 / size[1])
    else:
        extent = {"width": (right - left) / size[0], "height": (bottom - top) / size[1]}
        mark = Mark(kind="box", x=left / size[0], y=top / size[1], **extent, group=1)
    shown = picture(*size, marks=(mark,), key=f"{name}-{index}", decode=lambda: drawn_blocks(size, [block]))
    return example(index, pictures=(shown,))


def centre(is_it_YX: np.ndarray) -> np.ndarray:
    """(x, y) of the middle of the smallest box around what is set."""
    assert is_it_YX.any()
    ys, xs = np.nonzero(is_it_YX)
    return np.array([xs.min() + xs.max() + 1, ys.min() + ys.max() + 1]) / 2


def is_colour(pixels: np.ndarray, colour: tuple[int, int, int], within: int = 60) -> np.ndarray:
    return (np.abs(pixels.astype(int) - colour) <= within).all(axis=2)


def look_at(browser: Browser, slot: int, image: int = 0) -> tuple[np.ndarray, np.ndarray, float]:
    """(pixels about a card's picture, its (left, top, width, height) in them, device pixels to a CSS pixel)."""
    found = f"const image = document.querySelectorAll('.slot')[{slot}].querySelectorAll('img')[{image}];"
    browser.run(f"{found} image.scrollIntoView({{block: 'center', inline: 'center'}})")
    browser.wait(f"{found} return image.complete && image.naturalWidth > 0")
    box = f"{found} const box = image.getBoundingClientRect(); return [box.left, box.top, box.width, box.height]"
    left, top, width, height = browser.run(box)
    scale = browser.run("return devicePixelRatio")
    margin = 12  # a mark on the edge reaches beyond the picture
    pixels = browser.pixels()
    x, y = max(0, round((left - margin) * scale)), max(0, round((top - margin) * scale))
    part = pixels[y : round((top + height + margin) * scale), x : round((left + width + margin) * scale)]
    return part, np.array([left * scale - x, top * scale - y, width * scale, height * scale]), scale


@pytest.mark.parametrize("is_phone", [False, True], ids=["desktop", "phone"])
@pytest.mark.parametrize("kind", ["point", "box"])
def test_marks_lie_where_the_generator_put_their_shapes(browser, tmp_path, kind, is_phone):
    browser.size(PHONE if is_phone else DESKTOP, is_phone=is_phone)
    cases = list(itertools.product(SIZES, PLACES))
    cards = [block_card(name, place, kind, index) for index, (name, place) in enumerate(cases)]
    browser.open_page(write_page(tmp_path / "out", cards, title="blocks").page)

    off = {}
    for slot, (name, place) in enumerate(cases):
        pixels, (left, top, width, height), scale = look_at(browser, slot)
        left_px, top_px, right_px, bottom_px = block_at(SIZES[name], place)
        shape = np.array(
            [
                left + (left_px + right_px) / 2 / SIZES[name][0] * width,
                top + (top_px + bottom_px) / 2 / SIZES[name][1] * height,
            ]
        )
        mark = centre(is_colour(pixels, POINT_COLOUR if kind == "point" else BOX_COLOUR))
        off[name, place, "planned"] = np.abs(mark - shape).max() / scale
        if min(width, height) / scale * 0.18 > 20:  # the shape is seen around the mark
            seen = centre(is_colour(pixels, GREEN, within=90))
            off[name, place, "seen"] = np.abs(mark - seen).max() / scale
    assert {case: px for case, px in off.items() if px > AT_MOST_PX} == {}
    assert sum(case[2] == "seen" for case in off) >= 6


@pytest.mark.parametrize("is_phone", [False, True], ids=["desktop", "phone"])
def test_tracks_go_from_place_to_place_and_each_frame_marks_where_they_are(browser, tmp_path, is_phone):
    browser.size(PHONE if is_phone else DESKTOP, is_phone=is_phone)
    size = (640, 480)
    blocks = [block_at(size, place) for place in PLACES]
    middles = [((a + c) / 2 / size[0], (b + d) / 2 / size[1]) for a, b, c, d in blocks]
    stills = tuple(Still(time=f"{i}.0", marks=(Mark(x=x, y=y),)) for i, (x, y) in enumerate(middles))
    track = Track("block", 1, 0, tuple((float(i), x, y) for i, (x, y) in enumerate(middles)))

    def decode() -> np.ndarray:
        return np.stack([drawn_blocks(size, [block]) for block in blocks])

    made = replace(film(stills=stills, tracks=(track,), key="moving"), width=640, height=480, decode=decode)
    page = write_page(tmp_path / "out", [example(film=made)], title="a track").page

    browser.open_page(page)
    browser.click(".gm-t-tracks")
    for number in range(3):
        pixels, _, scale = look_at(browser, 0, number)
        off = centre(is_colour(pixels, POINT_COLOUR)) - centre(is_colour(pixels, GREEN, within=90))
        assert np.abs(off).max() / scale <= AT_MOST_PX

    browser.click(".gm-t-tracks")
    browser.click(".gm-t-points")
    for number in range(3):
        pixels, (left, top, width, height), scale = look_at(browser, 0, number)
        is_line = is_colour(pixels, POINT_COLOUR)
        xs, ys = np.array(middles).T * [[width], [height]] + [[left], [top]]
        assert np.abs(centre(is_line) - [(xs.min() + xs.max()) / 2, (ys.min() + ys.max()) / 2]).max() / scale <= 2
        for x, y in zip(xs, ys, strict=True):
            near = is_line[
                round(y - 2 * scale) : round(y + 2 * scale) + 1, round(x - 2 * scale) : round(x + 2 * scale) + 1
            ]
            assert near.any()


# ---- what data may try ----


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory) -> Path:
    cards = [hostile_example(0), row(hostile_example(1), hostile_example(2)), example(3)]
    return write_page(tmp_path_factory.mktemp("hostile") / "out", cards, title=HOSTILE[1], note=HOSTILE[0]).page


HACKED = """
    const elements = 'img[src="x"], [onerror], [onmouseover], a[href^="javascript"]';
    return [window.hacked ?? null, document.querySelectorAll(elements).length];"""


def test_markup_in_data_is_text_and_nothing_of_it_runs(browser, hostile_page):
    browser.open_page(hostile_page)

    text = browser.run("return document.getElementById('cards').textContent")
    for words in HOSTILE:
        assert visible(words) in text
    assert "\u202e" not in text
    assert browser.run("return document.title") == HOSTILE[1]
    assert browser.run(HACKED) == [None, 0]
    browser.run("for (const e of document.querySelectorAll('.gm-card *')) e.dispatchEvent(new MouseEvent('mouseover'))")
    assert browser.run(HACKED) == [None, 0]
    assert browser.log() == []
    assert not browser.requests()[1]


@pytest.mark.parametrize("words", HOSTILE[:7])
def test_hostile_words_can_be_searched_for_and_linked_to(browser, hostile_page, words):
    browser.open_page(hostile_page, f"#{urlencode({'q': words, 'set': HOSTILE[1]})}")

    assert browser.run(STATUS) == "1–2 of 2"
    assert browser.run("return document.getElementById('search').value") == words
    assert browser.run(HACKED) == [None, 0]
    assert browser.log() == []


def test_markup_in_data_is_text_in_a_single_document_and_in_a_notebook(browser, tmp_path):
    media = InlineMedia()
    body = render_example(hostile_example(), media) + render_row(row(hostile_example()), media)
    alone, notebook = tmp_path / "alone.html", tmp_path / "notebook.html"
    alone.write_text(fragment_page(body, HOSTILE[1]), encoding="utf-8")
    notebook.write_text(f"<!doctype html><meta charset=utf-8><body>{notebook_html(body)}</body>", encoding="utf-8")
    for path in (alone, notebook):
        browser.open(path)
        text = browser.run("return document.body.textContent")
        assert all(visible(words) in text for words in HOSTILE)
        assert browser.run(HACKED) == [None, 0]
        assert browser.log() == []


NOTEBOOK_STYLE = """
  .jp-RenderedHTMLCommon { line-height: 1.6; padding-right: 20px }
  .jp-RenderedHTMLCommon ul:not(.list-inline), .jp-RenderedHTMLCommon ol:not(.list-inline) { padding-left: 2em }
  .jp-RenderedHTMLCommon h3:first-child, .jp-RenderedHTMLCommon h4:first-child { margin-top: 30px }
  .jp-RenderedHTMLCommon p { margin-bottom: 1em } .jp-RenderedHTMLCommon dt { font-weight: bold }
  .jp-RenderedHTMLCommon img, .jp-RenderedHTMLCommon svg { max-width: 100%; height: auto }
  .jp-RenderedHTMLCommon pre { padding: 0; border: 0 }
"""
"""Rules of the weights that notebooks give theirs."""
LOOKS = """
    const looks = (one) => ['padding', 'margin', 'width', 'height', 'fontSize', 'fontWeight'].map(
      (name) => getComputedStyle(one)[name]).join();
    return [...document.querySelectorAll('.gm-card *:not(title, path, g)')].map((one) => one.className + looks(one));"""


def test_a_notebook_s_own_style_changes_nothing_of_a_view(browser, tmp_path):
    many_kinds = row(example(0, film=film(), conversations=(talk("What?", "That."), talk("Who?", "Her."))), example(1))
    view = notebook_html(render_row(many_kinds, InlineMedia()))
    found = []
    for name, style in (("plain", ""), ("notebook", NOTEBOOK_STYLE)):
        path = tmp_path / f"{name}.html"
        path.write_text(
            f'<!doctype html><style>{style}</style><div class="jp-RenderedHTMLCommon" style="width: 900px;'
            f'padding: 0">{view}</div>',
            encoding="utf-8",
        )
        browser.open(path)
        found.append(browser.run(LOOKS))

    assert len(found[0]) > 100
    assert found[0] == found[1]
