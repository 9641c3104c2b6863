"""The script of a page in headless Chromium: which card is where, and what keys, buttons and addresses do."""

from pathlib import Path

import pytest
from chromium import Browser
from made_cards import example, film, many
from selenium.webdriver.common.keys import Keys

from grain_molmo.view.page import write_page

pytestmark = pytest.mark.xdist_group("browser")  # they share one

STATUS = "return document.getElementById('status').textContent"
CURRENT = "return document.querySelector('.slot.current')?.dataset.item ?? ''"
IS_STATUS = "return document.getElementById('status').textContent === arguments[0]"
IS_CURRENT = "return document.querySelector('.slot.current')?.dataset.item === arguments[0]"
HASH = "return location.hash"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """A hundred and fifty examples of five sets, the last a film."""
    cards = [*many(149, words=3), example(149, dataset="films", conversations=(), film=film(12))]
    return write_page(tmp_path_factory.mktemp("page") / "out", cards, title="made by hand").page


def items(browser: Browser) -> list[int]:
    return browser.run("return [...document.querySelectorAll('.slot')].map(slot => Number(slot.dataset.item))")


def is_on(browser: Browser, overlay: str) -> bool:
    boxes = browser.run(
        "return [...document.querySelectorAll(`#overlays input[value=${arguments[0]}], .gm-t-${arguments[0]}`)]"
        ".map(box => box.checked)",
        overlay,
    )
    assert len(boxes) > 1
    assert len(set(boxes)) == 1  # the page and its cards say the same
    return boxes[0]


def test_each_place_of_a_page_holds_its_own_card_and_says_its_number(browser, page):
    browser.open_page(page, "#page=3")

    cards = browser.run("""return [...document.querySelectorAll('.slot')].map(slot =>
        [Number(slot.dataset.item), slot.textContent, slot.querySelector('.link').textContent])""")

    assert [item for item, _, _ in cards] == [*range(40, 60)]
    for item, text, link in cards:
        assert f"What is in picture {item}?" in text
        assert link == f"#{item + 1}"


def test_a_file_of_cards_that_was_missing_is_asked_for_again(browser, tmp_path):
    path = write_page(tmp_path / "out", many(30, words=3), title="torn").page
    torn = path.parent / "cards" / "0002.js"
    text = torn.read_text()
    torn.unlink()
    browser.open_page(path, "#page=2")
    assert "cannot be shown" in browser.run("return document.getElementById('cards').textContent")

    torn.write_text(text)
    browser.press("p")
    browser.wait("return document.querySelectorAll('.gm-card').length === 20")
    browser.press("n")

    browser.wait("return document.querySelectorAll('.gm-card').length === 10")


def test_an_example_is_stepped_through_among_those_found_and_not_beyond(browser, page):
    browser.open_page(page, "#set=set_3&page=2")
    browser.wait(IS_STATUS, "21–30 of 30")

    browser.press("j")
    browser.wait(IS_CURRENT, "103")
    assert browser.run(HASH) == "#set=set_3&page=2&item=104"
    browser.press(Keys.ARROW_RIGHT)
    browser.wait(IS_CURRENT, "108")
    browser.press(Keys.ARROW_LEFT)
    browser.wait(IS_CURRENT, "103")
    browser.press(*"j" * 15)
    browser.wait(IS_CURRENT, "148")
    assert browser.run(STATUS) == "21–30 of 30"
    assert browser.log() == []


def test_a_step_back_from_the_top_of_a_page_leads_to_the_end_of_the_one_before(browser, page):
    browser.open_page(page, "#page=2")

    browser.press("k")

    browser.wait(IS_CURRENT, "19")
    assert browser.run(STATUS) == "1–20 of 150"
    browser.open_page(page)
    browser.press("k")
    assert browser.run(CURRENT) == ""


def test_a_step_brings_its_card_into_sight(browser, page):
    browser.open_page(page)

    browser.press(*"j" * 12)

    browser.wait(IS_CURRENT, "11")
    top = browser.run("return document.querySelector('.slot.current').getBoundingClientRect().top")
    assert 0 <= top < 900
    assert browser.run("return document.querySelectorAll('.slot.current').length") == 1
    browser.press("n")
    browser.wait(IS_STATUS, "21–40 of 150")
    browser.wait("return scrollY === 0")


def test_a_filter_begins_at_its_first_page_and_an_address_at_the_last_that_there_is(browser, page):
    browser.open_page(page, "#page=8")

    browser.click("#sets input[value=set_1]")
    browser.wait(IS_STATUS, "1–20 of 30")
    assert browser.run(HASH) == "#set=set_1"
    browser.open_page(page, "#set=set_1&page=77")
    assert browser.run(STATUS) == "21–30 of 30"
    browser.open_page(page, "#q=nowhere")
    assert browser.run(STATUS) == "0 found"
    assert browser.run("return [...document.querySelectorAll('[data-go]')].every(button => button.disabled)")
    assert browser.run("return document.getElementById('nothing').hidden") is False
    browser.open_page(page, "#q=id-77")
    assert browser.run(STATUS) == "1–1 of 1"
    assert browser.run("return document.getElementById('nothing').hidden") is True


def test_an_address_says_all_that_is_shown_and_its_controls_say_it_too(browser, page):
    browser.open_page(page, "#q=picture&set=set_0&set=set_2&page=3")

    assert browser.run(STATUS) == "41–60 of 60"
    assert browser.run("return document.getElementById('search').value") == "picture"
    checked = browser.run("return [...document.querySelectorAll('#sets input:checked')].map(box => box.value)")
    assert checked == ["set_0", "set_2"]
    assert {item % 5 for item in items(browser)} == {0, 2}
    browser.press("p")
    browser.wait(IS_STATUS, "21–40 of 60")
    assert browser.run(HASH) == "#q=picture&set=set_0&set=set_2&page=2"
    browser.open_page(page, "#set=nobody")
    assert browser.run(STATUS) == "1–20 of 150"
    browser.open_page(page, "#item=150")
    assert browser.run(CURRENT) == "149"
    browser.open_page(page, "#q=id-3&set=set_1&item=64")  # neither has it
    assert browser.run(CURRENT) == "63"
    assert browser.run(STATUS) == "61–80 of 150"


@pytest.mark.parametrize("narrowed", ["#q=id-7", "#set=set_1", "#q=id-7&set=set_1"])
@pytest.mark.parametrize("how", ["button", "key"])
def test_what_is_left_out_comes_back_by_a_button_or_a_key(browser, page, narrowed, how):
    browser.open_page(page)
    assert browser.run("return document.getElementById('clear').hidden") is True
    browser.open_page(page, narrowed)

    browser.click("#clear") if how == "button" else browser.press(Keys.ESCAPE)

    browser.wait(IS_STATUS, "1–20 of 150")
    assert browser.run("return document.getElementById('search').value") == ""
    assert browser.run("return document.querySelectorAll('#sets input:checked').length") == 0
    assert browser.run("return document.getElementById('clear').hidden") is True


def test_back_leads_over_a_whole_search_and_over_each_page_but_over_no_steps(browser, page):
    browser.open_page(page)

    browser.press("n")
    browser.wait(IS_STATUS, "21–40 of 150")
    browser.press("j", "j")
    browser.wait(IS_CURRENT, "21")
    browser.type("#search", "id-1")
    browser.wait(IS_STATUS, "1–20 of 60")
    browser.type("#search", "48")
    browser.wait(IS_STATUS, "1–1 of 1")

    browser.driver.back()
    browser.wait(IS_STATUS, "21–40 of 150")
    browser.driver.back()
    browser.wait(IS_STATUS, "1–20 of 150")


def test_enter_leaves_the_search_and_keys_are_keys_again(browser, page):
    browser.open_page(page)
    browser.press("/")
    browser.press("picture")
    browser.wait("return location.hash === '#q=picture'")

    browser.press(Keys.ENTER, "n")

    browser.wait(IS_STATUS, "21–40 of 149")


def test_buttons_turn_pages_and_say_where_there_are_none(browser, page):
    browser.open_page(page)
    disabled = "return [...document.querySelectorAll('[data-go]')].map(button => button.disabled)"
    assert browser.run(disabled) == [True, False] * 2

    browser.click(".foot [data-go='1']")
    browser.wait(IS_STATUS, "21–40 of 150")
    assert browser.run(disabled) == [False] * 4
    browser.click(".bar [data-go='-1']")
    browser.wait(IS_STATUS, "1–20 of 150")
    browser.press("p")
    assert browser.run(HASH) == ""
    browser.click("#help-button")
    assert browser.run("return document.getElementById('help').open")


def test_keys_turn_what_lies_over_pictures_on_and_off_together(browser, page):
    browser.open_page(page)
    before = is_on(browser, "points"), is_on(browser, "crops"), is_on(browser, "large")
    assert before == (True, True, False)

    browser.press("m", "g", "l")
    assert (is_on(browser, "points"), is_on(browser, "crops"), is_on(browser, "large")) == (False, False, True)
    browser.press("g")
    of_page = "return document.querySelector(`#overlays input[value=${arguments[0]}]`).checked"
    assert browser.run(of_page, "crops")
    assert browser.run(of_page, "tokens")
    assert not any(browser.run(of_page, name) for name in ("points", "boxes", "tracks", "names"))


def test_keys_of_the_browser_stay_the_browser_s(browser, page):
    browser.open_page(page)

    for key in ("ctrlKey", "metaKey", "altKey"):
        browser.run("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'n', [arguments[0]]: true}))", key)

    assert browser.run(STATUS) == "1–20 of 150"


def test_arrows_in_a_strip_of_frames_scroll_it(browser, page):
    browser.open_page(page, "#set=films")

    browser.run("document.querySelector('.gm-strip').focus()")
    browser.press(Keys.ARROW_RIGHT)
    assert browser.run(CURRENT) == ""
    browser.press("j")
    browser.wait(IS_CURRENT, "149")


def test_a_theme_is_kept_for_the_next_time_and_comes_round(browser, page):
    theme = "return document.documentElement.dataset.theme"
    browser.open_page(page)

    for wanted in ("light", "dark", "auto"):
        browser.press("t")
        assert browser.run(theme) == wanted
        assert browser.run("return document.getElementById('theme').textContent") == f"theme: {wanted}"
        # Again in the same process of the browser: another one may be told of what is kept a moment later.
        browser.driver.refresh()
        browser.wait("return performance.getEntriesByName('cards').length")
        assert browser.run(theme) == wanted
