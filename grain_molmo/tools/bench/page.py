"""Pages of cards: written, against encoding their pictures alone; opened in a browser, against an empty document.

The cards are made up, each with a picture of its own, points and some text. Opening is measured where Chromium,
chromedriver and selenium are there, each time by a fresh browser: from asking for the file until the first cards are
laid out, as the page's own clock says.
"""

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from grain_molmo.readable import ruled_table
from grain_molmo.tools.bench.report import Report, positive, timed
from grain_molmo.view.drawn import PICTURE_SIDE
from grain_molmo.view.media import encode_jpeg
from grain_molmo.view.model import Conversation, ExampleCard, Grid, Mark, Picture, Span
from grain_molmo.view.page import write_page

_SIZE_HW, _WORDS, _POINTS, _SETS = (240, 320), 120, 4, 5
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=1280,900"),
)
_PATIENCE_S = 60
_CARDS_AT = "return performance.getEntriesByName('cards')[0]?.startTime ?? null"
_LOADED_AT = "return performance.getEntriesByType('navigation')[0].loadEventEnd || null"

EXAMPLES = (("five thousand cards", ""), ("a smaller one", "--cards 200 --rounds 1"))


EXAMPLES = (("a smaller one", "--cards 200 --rounds 1"), ("the whole", ""))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's arguments."""
    parser.add_argument("--cards", type=positive, default=5000, metavar="N", help="of the page (5000)")
    parser.add_argument("--rounds", type=positive, default=3, metavar="N", help="times that it is opened (3)")
    parser.add_argument("--threads", type=positive, default=4, metavar="N", help="that draw cards (4)")


def run(args: argparse.Namespace) -> Report:
    """The benchmark's report."""
    with tempfile.TemporaryDirectory(prefix="grain-molmo-bench-") as temporary:
        folder = Path(temporary)
        page = folder / "page"
        write_s = timed(lambda: write_page(page, made_cards(args.cards), title="bench", threads=args.threads))
        encode_s = timed(partial(_encode_pictures, args.cards))
        figures: dict[str, Any] = {
            "write_s": write_s,
            "pictures_alone_s": encode_s,
            "ratio": encode_s / write_s,
            "cards_per_s": args.cards / write_s,
            "index_bytes": (page / "index.html").stat().st_size,
            "opened": _measure_opening(folder, args.rounds),
        }
    settings = {"cards": args.cards, "rounds": args.rounds, "threads": args.threads}
    return Report("page", settings, figures, _describe(args.cards, figures))


def made_cards(number: int) -> Iterator[ExampleCard]:
    """Examples with a picture, points and text, different each."""
    rng = np.random.default_rng(0)
    for index in range(number):
        text = " ".join(f"{word:x}" for word in rng.integers(1 << 24, size=_WORDS).tolist())
        places = rng.random((_POINTS, 2)).tolist()
        picture = Picture(
            title="picture",
            width=_SIZE_HW[1],
            height=_SIZE_HW[0],
            decode=partial(_pixels, index),
            key=f"made-{index}",
            marks=tuple(Mark(x=x, y=y, label="thing", number=i) for i, (x, y) in enumerate(places, start=1)),
            grid=Grid((0.5,), (0.5,), tuple(i / 14 for i in range(1, 14)), tuple(i / 14 for i in range(1, 14))),
        )
        spans = (Span("prompt", "What is there?", 4), Span("visual", "", 196), Span("trained", text, _WORDS, 0.5))
        yield ExampleCard(
            dataset=f"set_{index % _SETS}",
            index=index,
            id=f"made-{index}",
            pictures=(picture,),
            conversations=(Conversation(spans),),
            fields={"caption": text},
        )


def _pixels(index: int) -> np.ndarray:
    """[240, 320, 3] uint8, smooth, and different for each index."""
    height, width = _SIZE_HW
    ramps = np.arange(height)[:, None], np.arange(width)[None], np.full((1, 1), index)
    return np.stack(np.broadcast_arrays(*ramps), axis=2).astype(np.uint8)


def _encode_pictures(number: int) -> None:
    for index in range(number):
        encode_jpeg(_pixels(index), PICTURE_SIDE)


def _measure_opening(folder: Path, rounds: int) -> Mapping[str, float] | str:
    """Milliseconds until cards are there, and until an empty document is; or what is missing to measure them."""
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    try:
        from selenium.webdriver import Chrome, ChromeOptions
        from selenium.webdriver.chrome.service import Service
        from selenium.webdriver.support.ui import WebDriverWait
    except ImportError:
        return "selenium is not installed"
    if not chromium or not driver:
        return "chromium or chromedriver is not installed"
    empty = folder / "empty.html"
    empty.write_text("<!doctype html><title>empty</title>")
    pages = {"empty_ms": (empty, _LOADED_AT), "page_ms": (folder / "page" / "index.html", _CARDS_AT)}
    waited: dict[str, list[float]] = {name: [] for name in pages}
    for _ in range(rounds):
        options = ChromeOptions()
        options.binary_location = chromium
        for flag in _FLAGS:
            options.add_argument(flag)
        with Chrome(options=options, service=Service(driver)) as browser:
            for name, (path, script) in pages.items():
                browser.get(path.as_uri())
                waiting = WebDriverWait(browser, _PATIENCE_S)
                waited[name].append(waiting.until(partial(Chrome.execute_script, script=script)))
    return {name: statistics.median(found) for name, found in waited.items()}


def _describe(cards: int, figures: Mapping[str, Any]) -> list[str]:
    rows = [
        ("a page written", f"{figures['write_s']:.2f}", f"{figures['cards_per_s']:,.0f}", f"{figures['ratio']:.2f}"),
        (
            "its pictures alone",
            f"{figures['pictures_alone_s']:.2f}",
            f"{cards / figures['pictures_alone_s']:,.0f}",
            "1",
        ),
    ]
    opened = figures["opened"]
    if isinstance(opened, str):
        words = f"Opening it was not measured: {opened}."
    else:
        words = (
            f"Chromium shows the first cards of {cards:,} after {opened['page_ms']:.0f} ms; an empty "
            f"document loads in {opened['empty_ms']:.0f} ms. The index is {figures['index_bytes'] / 1e6:.1f} MB."
        )
    return [ruled_table((f"{cards:,} cards", "seconds", "cards/s", "ratio"), rows), words]
