"""A page over many cards: a folder whose `index.html` opens from a file, in any browser, without a server.

index.html      style, script, which item belongs to which sets, and the text to search
cards/0000.js   the HTML of a few items each, loaded when one of them is to be seen
media/*.jpg     pictures, loaded when they are scrolled to
"""

import json
import os
import shutil
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from grain_molmo.errors import ConfigError
from grain_molmo.view.html import OVERLAYS, csp_hash, environment, read_template, render_example, render_row, stylesheet
from grain_molmo.view.media import FolderMedia, writing
from grain_molmo.view.model import ExampleCard, RowCard
from grain_molmo.view.visible import visible

Card = ExampleCard | RowCard

MARKER = '<meta name="generator" content="grain-molmo visualize">'
"""What tells a page of ours from somebody's folder."""
INDEX_FILE = "index.html"
_CARDS, _MEDIA = "cards", "media"
_OURS = {INDEX_FILE, _CARDS, _MEDIA, ".DS_Store", "Thumbs.db"}  # and what systems leave in folders that one looks at
_CARDS_A_FILE = 10


@dataclass(frozen=True)
class PageReport:
    """What was written.

    Attributes:
        page: the file to open.
        items: how many, examples or rows.
        sets: items that show something of a set, by its name.
        problems: items with an example that the model would not learn from.
    """

    page: Path
    items: int
    sets: Mapping[str, int]
    problems: int


def write_page(
    out: Path,
    cards: Iterable[Card],
    *,
    title: str,
    note: str = "",
    max_side: int = 1024,
    threads: int = 4,
    progress: Callable[[int], object] = lambda number: None,
) -> PageReport:
    """Writes a page over the cards, in their order.

    Cards are taken as they are needed, a few more than there are threads are held at a time. The folder appears when
    it is whole: stopped on the way, nothing is left, and a page that was there stays.

    Args:
        out: the folder to write; a page of ours that is there is replaced.
        cards: examples or rows.
        title: of the page.
        note: what the page is of, shown under the title.
        max_side: of any picture, pixels.
        threads: cards that are drawn at a time.
        progress: called with 1 after each card.

    Raises:
        ConfigError: there is something else at `out`.
        NotWrittenError: a file cannot be written, as on a full disk.
    """
    out = out.expanduser().resolve()
    check_out(out)
    beside = out.with_name(f".{out.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        with writing(beside):
            beside.mkdir(parents=True)
        report = _write(beside, cards, title, note, max_side, threads, progress)
        check_out(out)
        _put_in_place(beside, out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return PageReport(out / INDEX_FILE, **report)


def check_out(out: Path) -> None:
    """Raises ConfigError if a page cannot be written at that place because of what is there."""
    if not out.exists():
        return
    try:
        found = {path.name for path in out.iterdir()}
        is_ours = not found or (found <= _OURS and _has_marker(out / INDEX_FILE))
    except OSError:  # a file, or a folder that is not to be read
        found, is_ours = set(), False
    if not is_ours:
        beside = ", ".join(sorted(found - _OURS)[:3])
        holds = f" (it holds {beside})" if beside else ""
        what = f"{out} is there and is no page of `grain-molmo visualize`, or not only one"
        raise ConfigError(f"{what}{holds}; choose another --out, or remove it")
    if Path.cwd().is_relative_to(out.resolve()):
        raise ConfigError(f"{out} is the folder that you are in, which a page would take away; choose another --out")


def _has_marker(index: Path) -> bool:
    with index.open(encoding="utf-8", errors="replace") as file:
        return MARKER in file.read(2000)


def _put_in_place(beside: Path, out: Path) -> None:
    """The new page where the old one was, which is gone only then."""
    old = out.with_name(f"{beside.name}.old")
    with writing(out):
        if out.exists():
            os.replace(out, old)
        try:
            os.replace(beside, out)
        except OSError:
            if old.exists() and not out.exists():
                os.replace(old, out)
            raise
        finally:
            shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True)
class _Item:
    """A card that was drawn."""

    html: str
    sets: tuple[str, ...]
    text: str
    has_problem: bool


@dataclass
class _Index:
    """What the page knows of its items before it loads them."""

    sets: dict[str, int] = field(default_factory=dict)
    sets_of_items: list[list[int]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    problems: int = 0

    def add(self, item: _Item) -> None:
        self.sets_of_items.append([self.sets.setdefault(name, len(self.sets)) for name in item.sets])
        self.texts.append(item.text)
        self.problems += item.has_problem

    def counts(self) -> dict[str, int]:
        """Items by set, in order of name."""
        names = list(self.sets)
        counts = Counter(names[number] for numbers in self.sets_of_items for number in numbers)
        return dict(sorted(counts.items()))


def _write(
    folder: Path,
    cards: Iterable[Card],
    title: str,
    note: str,
    max_side: int,
    threads: int,
    progress: Callable[[int], object],
) -> dict[str, Any]:
    with writing(folder):
        (folder / _CARDS).mkdir()
    media = FolderMedia(folder / _MEDIA, max_side)
    index = _Index()
    waiting: list[str] = []
    for item in _drawn_in_threads(cards, media, threads):
        waiting.append(item.html)
        if len(waiting) == _CARDS_A_FILE:
            _write_cards(folder, len(index.texts) // _CARDS_A_FILE, waiting)
            waiting = []
        index.add(item)
        progress(1)
    if waiting:
        _write_cards(folder, len(index.texts) // _CARDS_A_FILE, waiting)
    with writing(folder / INDEX_FILE):
        (folder / INDEX_FILE).write_text(_index_html(index, title, note), encoding="utf-8")
    return {"items": len(index.texts), "sets": index.counts(), "problems": index.problems}


def _drawn_in_threads(cards: Iterable[Card], media: FolderMedia, threads: int) -> Iterator[_Item]:
    """The cards drawn, in their order; decoders drop the GIL."""
    waiting: deque[Future[_Item]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for card in cards:
                waiting.append(pool.submit(_draw, card, media))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _draw(card: Card, media: FolderMedia) -> _Item:
    if isinstance(card, RowCard):
        sets = tuple(dict.fromkeys(example.dataset for example in card.examples))
        has_problem = any(example.problem for example in card.examples)
        return _Item(render_row(card, media), sets, search_text(card), has_problem)
    return _Item(render_example(card, media), (card.dataset,), search_text(card), bool(card.problem))


def search_text(card: Card) -> str:
    """What a search finds a card by: names, ids, facts, conversations, labels, subtitles and problems."""
    if isinstance(card, RowCard):
        words = [f"{card.stage} step {card.step} row {card.row}", *map(search_text, card.examples)]
    else:
        words = [card.dataset, card.id, str(card.index), *card.facts.values(), card.problem, *_words(card)]
    return visible("\n".join(dict.fromkeys(word for word in words if word)))


def _words(card: ExampleCard) -> Iterator[str]:
    for spans in (card.shared, *(conversation.spans for conversation in card.conversations)):
        yield "".join(span.text for span in spans)
    yield from (mark.label for picture in card.pictures for mark in picture.marks)
    if card.film:
        yield from (mark.label for still in card.film.stills for mark in still.marks)
        yield from (track.label for track in card.film.tracks)
        yield from chain((still.subtitle for still in card.film.stills), (text for *_, text in card.film.subtitles))


def _write_cards(folder: Path, number: int, fragments: Sequence[str]) -> None:
    """A script, since a page that was opened from a file may load no other kind of data."""
    text = f"gmCards({number}, {_json(fragments)});\n"
    path = folder / _CARDS / f"{number:04d}.js"
    with writing(path):
        path.write_text(text, encoding="utf-8")


def _json(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it ends the element or begins a comment."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _index_html(index: _Index, title: str, note: str) -> str:
    script, style = read_template("page.js"), stylesheet() + read_template("page.css")
    # A browser may keep files of the page that was here before.
    version = uuid.uuid4().hex[:12]
    known = {
        "version": version,
        "perFile": _CARDS_A_FILE,
        "sets": list(map(visible, index.sets)),
        "items": index.sets_of_items,
    }
    return (
        environment()
        .get_template("page.html")
        .render(
            marker=MARKER,
            title=title,
            note=note,
            script=script,
            script_hash=csp_hash(script),
            style=style,
            style_hash=csp_hash(style),
            known=_json(known),
            texts=_json(index.texts),
            counts=index.counts(),
            overlays=OVERLAYS,
            items=len(index.texts),
        )
    )
