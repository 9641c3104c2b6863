"""The folder of a page: what is in it, when it appears, and what it never replaces."""

import errno
import json
import os
import re
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_cards import HOSTILE, example, film, hostile_example, many, picture, row, talk
from PIL import Image

from grain_molmo.errors import ConfigError
from grain_molmo.view.media import NotWrittenError
from grain_molmo.view.model import ExampleCard, Mark, Span, Still, Track
from grain_molmo.view.page import search_text, write_page


def data_of(page: Path, name: str) -> Any:
    """A data block of the index, read as a browser would."""
    (text,) = re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', page.read_text("utf-8"), re.S)
    return json.loads(text)


def cards_of(page: Path) -> list[str]:
    """The fragments in the order of the files that hold them."""
    found: list[str] = []
    for number, path in enumerate(sorted((page.parent / "cards").iterdir())):
        text = path.read_text("utf-8")
        assert text.startswith(f"gmCards({number}, ")
        found += json.loads(text.removeprefix(f"gmCards({number}, ").removesuffix(");\n"))
    return found


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_page_holds_every_card_in_order_and_knows_its_set_and_text(tmp_path):
    report = write_page(tmp_path / "out", many(43, words=5), title="forty-three")

    assert (report.items, report.problems) == (43, 0)
    assert report.sets == {"set_0": 9, "set_1": 9, "set_2": 9, "set_3": 8, "set_4": 8}
    cards, known, texts = cards_of(report.page), data_of(report.page, "known"), data_of(report.page, "texts")
    assert len(cards) == len(texts) == len(known["items"]) == 43
    for number in (0, 9, 10, 42):
        assert f"id-{number}<" in cards[number]
        assert f"What is in picture {number}?" in texts[number]
        assert [known["sets"][of] for of in known["items"][number]] == [f"set_{number % 5}"]


def test_the_pictures_of_cards_are_there_once_each(tmp_path):
    report = write_page(tmp_path / "out", many(120, words=1), title="x")

    addresses = {address for card in cards_of(report.page) for address in re.findall(r'src="([^"]*)"', card)}
    assert len(addresses) == 50
    assert {f"media/{path.name}" for path in (report.page.parent / "media").iterdir()} == addresses


def test_a_row_belongs_to_all_sets_of_its_examples_once(tmp_path):
    cards = [
        row(example(0, dataset="a"), example(1, dataset="b"), example(2, dataset="a")),
        row(example(3, dataset="b")),
    ]

    report = write_page(tmp_path / "out", cards, title="rows")

    assert report.sets == {"a": 1, "b": 2}
    known = data_of(report.page, "known")
    assert [[known["sets"][of] for of in sets] for sets in known["items"]] == [["a", "b"], ["b"]]


def test_a_page_of_nothing_is_a_page(tmp_path):
    assert write_page(tmp_path / "out", [], title="nothing").items == 0


def test_problems_are_counted_and_said(tmp_path):
    cards = [example(0, problem="too long"), example(1), row(example(2), example(3, problem="no answer"))]

    report = write_page(tmp_path / "out", cards, title="x")

    assert report.problems == 2
    assert "too long" in cards_of(report.page)[0]


def test_a_search_finds_names_facts_words_labels_subtitles_and_problems():
    one = example(
        7,
        facts={"url": "somewhere"},
        pictures=(picture(marks=(Mark(x=0, y=0, label="a label"),)),),
        film=film(1),
        conversations=(talk("a question", "an answer"),),
        problem="a problem",
    )
    wanted = ["shapes", "example-7", "somewhere", "a label", "ball", "said 0", "a question", "an answer", "a problem"]

    assert all(words in search_text(one) for words in wanted)
    assert all(words in search_text(row(one)) for words in [*wanted, "sft step 3 row 1"])


@pytest.mark.parametrize(
    "words",
    ["shared by all", "on the second picture", "in a still", "along a track", "below a still", "said beside", "4711"],
)
def test_a_search_finds_words_wherever_a_card_has_them(words):
    still, track = Mark(x=0, y=0, label="in a still"), Track("along a track", 1, 0, ((0.0, 0.1, 0.1),))
    one = example(
        4711,
        id="x",
        pictures=(picture(), picture(marks=(Mark(x=0, y=0, label="on the second picture"),))),
        film=film(
            stills=(Still(time="0.0", marks=(still,), subtitle="below a still"),),
            tracks=(track,),
            subtitles=((0.0, 1.0, "said beside"),),
        ),
        shared=(Span("prompt", "shared ", 3), Span("prompt", "by all", 3)),
    )

    assert search_text(one).split("\n").count(words) == 1


def test_a_last_card_alone_in_its_file_is_there_and_sets_are_in_order_of_name(tmp_path):
    cards = [example(i, dataset=f"set_{9 - i % 3}") for i in range(11)]

    report = write_page(tmp_path / "out", cards, title="eleven")

    assert len(cards_of(report.page)) == 11
    assert list(report.sets.items()) == [("set_7", 3), ("set_8", 4), ("set_9", 4)]


def test_a_page_becomes_none_of_somebody_s_files_that_came_meanwhile(tmp_path):
    page = write_page(tmp_path / "out", many(2, words=1), title="old").page

    def cards() -> Iterator[ExampleCard]:
        yield example(0)
        (page.parent / "notes.txt").write_text("mine")

    with pytest.raises(ConfigError, match=r"it holds notes\.txt"):
        write_page(tmp_path / "out", cards(), title="new")

    assert (page.parent / "notes.txt").read_text() == "mine"
    assert "<title>old" in page.read_text("utf-8")


def test_pictures_of_a_page_are_no_larger_than_was_asked_for(tmp_path):
    shapes = np.zeros((400, 600, 3), np.uint8)
    card = example(pictures=(picture(600, 400, decode=lambda: shapes),))

    write_page(tmp_path / "out", [card], title="small", note="what it is of", max_side=64)

    (path,) = (tmp_path / "out" / "media").iterdir()
    assert Image.open(path).size == (64, 43)
    assert "what it is of" in (tmp_path / "out" / "index.html").read_text("utf-8")


def test_hostile_text_ends_no_script_of_the_index(tmp_path):
    page = write_page(tmp_path / "out", [hostile_example()], title=HOSTILE[1], note=HOSTILE[0]).page

    text = page.read_text("utf-8")
    assert text.count("<script") == text.count("</script>") == 3
    assert data_of(page, "known")["sets"] == [HOSTILE[1]]
    assert {path.name for path in page.parent.iterdir()} == {"index.html", "cards", "media"}


def test_the_index_needs_no_other_file_but_cards_and_media(tmp_path):
    text = write_page(tmp_path / "out", many(3, words=1), title="x").page.read_text("utf-8")

    assert re.findall(r'(?:src|href)="([^"]*)"', text) == ["data:,", "#results"]
    assert "http:" not in text
    assert "https:" not in text
    assert "unsafe-inline" not in text


def test_cards_come_no_faster_than_they_are_drawn_and_are_not_kept(tmp_path):
    made: list[weakref.ref[ExampleCard]] = []
    alive: list[int] = []

    def cards() -> Iterator[ExampleCard]:
        for index in range(60):
            card = example(index)
            made.append(weakref.ref(card))
            yield card
            del card
            alive.append(sum(one() is not None for one in made))

    write_page(tmp_path / "out", cards(), title="x", threads=2)

    assert max(alive) <= 5


def test_pictures_are_decoded_in_threads_and_cards_stay_in_order(tmp_path):
    together = threading.Barrier(2, timeout=30)

    def decode() -> np.ndarray:
        together.wait()  # passes only if two of them decode at a time
        return np.zeros((4, 4, 3), np.uint8)

    cards = [example(index, pictures=(picture(key=f"key-{index}", decode=decode),)) for index in range(6)]
    report = write_page(tmp_path / "out", cards, title="x", threads=2)

    assert [re.findall(r"example-\d", card)[0] for card in cards_of(report.page)] == [f"example-{i}" for i in range(6)]


def test_progress_is_told_for_each_card(tmp_path):
    told: list[int] = []

    write_page(tmp_path / "out", many(7, words=1), title="x", progress=told.append)

    assert told == [1] * 7


# ---- the folder ----


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_run_that_is_stopped_leaves_the_page_that_was_there_and_nothing_else(tmp_path, error):
    write_page(tmp_path / "out", many(3, words=1), title="before")
    before = files_of(tmp_path)

    def cards() -> Iterator[ExampleCard]:
        yield from many(25, words=1)
        raise error

    with pytest.raises(error):
        write_page(tmp_path / "out", cards(), title="after")
    assert files_of(tmp_path) == before
    with pytest.raises(error):
        write_page(tmp_path / "fresh", cards(), title="after")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_page_of_ours_is_replaced_as_a_whole(tmp_path):
    write_page(tmp_path / "out", many(43, words=1), title="before")

    report = write_page(tmp_path / "out", many(2, words=1), title="after")

    assert len(cards_of(report.page)) == 2
    assert [path.name for path in (tmp_path / "out" / "cards").iterdir()] == ["0000.js"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_taken_and_folders_above_are_made(tmp_path):
    (tmp_path / "empty").mkdir()

    assert write_page(tmp_path / "empty", many(1), title="x").page.is_file()
    assert write_page(tmp_path / "a" / "b" / "c", many(1), title="x").page.is_file()


@pytest.mark.parametrize("what", ["notes.txt", "index.html", "a file"])
def test_what_is_somebody_else_s_is_refused_before_any_work(tmp_path, what):
    out = tmp_path / "out"
    if what == "a file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / what).write_text("<!doctype html><title>mine</title>")

    def cards() -> Iterator[ExampleCard]:
        pytest.fail("asked for a card")
        yield

    with pytest.raises(ConfigError, match="is no page of"):
        write_page(out, cards(), title="x")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_page_beside_which_somebody_keeps_files_is_not_replaced(tmp_path):
    page = write_page(tmp_path / "out", many(2, words=1), title="old").page
    (page.parent / "notes.txt").write_text("mine")

    with pytest.raises(ConfigError, match=r"it holds notes\.txt"):
        write_page(tmp_path / "out", many(2, words=1), title="new")

    assert (page.parent / "notes.txt").read_text() == "mine"


def test_the_folder_that_one_is_in_is_not_taken_away(tmp_path, monkeypatch):
    (tmp_path / "out" / "in").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "out" / "in")

    with pytest.raises(ConfigError, match="the folder that you are in"):
        write_page(Path(), many(2, words=1), title="x")

    assert list(tmp_path.rglob("*")) == [tmp_path / "out", tmp_path / "out" / "in"]


@pytest.mark.parametrize("what", ["write_bytes", "write_text"])
def test_a_full_disk_stops_the_page_and_is_no_fault_of_a_picture(tmp_path, monkeypatch, what):
    def full(path, *args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, what, full)

    with pytest.raises(NotWrittenError, match="cannot be written: No space left on device"):
        write_page(tmp_path / "out", [example(film=film()), *many(3, words=1)], title="x")

    assert not list(tmp_path.iterdir())


def test_a_page_that_another_run_put_there_meanwhile_stays_whole(tmp_path, monkeypatch):
    replace = os.replace

    def second_comes_late(source, target):
        if Path(target) == tmp_path / "out" and source.name.endswith(".partial"):
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "index.html").write_text("theirs")
        replace(source, target)

    monkeypatch.setattr(os, "replace", second_comes_late)

    with pytest.raises(NotWrittenError, match="not empty"):
        write_page(tmp_path / "out", many(2, words=1), title="x")

    assert files_of(tmp_path) == {"out/index.html": b"theirs"}


def test_the_page_that_was_there_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    page = write_page(tmp_path / "out", many(2, words=1), title="old").page
    before, replace = files_of(page.parent), os.replace

    def refused(source, target):
        if Path(target) == tmp_path / "out" and source.name.endswith(".partial"):
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refused)

    with pytest.raises(NotWrittenError, match="Input/output error"):
        write_page(tmp_path / "out", many(2, words=1), title="new")

    assert files_of(page.parent) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_page_that_one_is_inside_of_is_not_taken_away(tmp_path, monkeypatch):
    page = write_page(tmp_path / "out", many(2, words=1), title="old").page
    monkeypatch.chdir(page.parent / "cards")

    with pytest.raises(ConfigError, match="the folder that you are in"):
        write_page(tmp_path / "out", many(2, words=1), title="new")
