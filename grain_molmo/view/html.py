"""Cards as HTML: fragments for a page or a notebook, and whole documents around fragments.

Every text that comes from data is escaped by the templates, and made visible where it would be swallowed or turn the
text around it (`visible`). No link and no style is made from data.
"""

import base64
import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2

from grain_molmo.view.drawn import Drawn, draw_film, draw_pictures, meanings, shade_of, shades, told_apart
from grain_molmo.view.drawn_rows import attention_paths, runs, segments
from grain_molmo.view.media import MediaSink
from grain_molmo.view.model import ExampleCard, RowCard
from grain_molmo.view.visible import pieces, visible

TEMPLATES = Path(__file__).with_name("templates")
_MOST_OF_FIELDS = 20_000
_NO_ID = re.compile(r"[^A-Za-z0-9_-]+")
OVERLAYS = (
    ("points", "points", True),
    ("boxes", "boxes", True),
    ("tracks", "tracks", True),
    ("names", "numbers", True),
    ("crops", "crops", True),
    ("tokens", "visual tokens", False),
    ("large", "large", False),
)
"""Class, name and whether it is on at first, of what one can choose of pictures."""


def render_example(card: ExampleCard, media: MediaSink) -> str:
    """An `<article class="gm-card">` of an example; a picture that does not decode says why in its place."""
    return _template("example.html").render(view=_example(card, media))


def render_row(card: RowCard, media: MediaSink, anchor: str = "") -> str:
    """An `<article class="gm-card">` of a packed row: its bars, what attends to what, and a card for each example.

    Args:
        card: of the row.
        media: takes its pictures.
        anchor: its id in the document; default one of its stage, step and number.
    """
    anchor = _NO_ID.sub("-", anchor or f"gm-{card.stage}-{card.step}-{card.row}")
    views = [
        _example(example, media, f"{anchor}-{number}", number) for number, example in enumerate(card.examples, start=1)
    ]
    bars = [
        ("tokens", card.n_tokens, card.max_tokens, segments(card, "tokens", card.max_tokens)),
        ("crops", card.n_crops, card.max_crops, segments(card, "crops", card.max_crops)),
        ("pooled", card.n_pooled, card.max_pooled, segments(card, "pooled", card.max_pooled)),
    ]
    lanes = [(name, found) for name in ("branches", "visual", "trained") if (found := runs(card, name))]
    return _template("row.html").render(
        card=card,
        anchor=anchor,
        views=views,
        bars=bars,
        lanes=lanes,
        attention=attention_paths(card.attention),
        attention_side=len(card.attention),
    )


def fragment_page(body: str, title: str) -> str:
    """A whole document around fragments: it loads nothing and runs nothing.

    Args:
        body: fragments of `render_example` or `render_row`, one after the other.
        title: of the document.
    """
    css = stylesheet()
    return _template("fragment.html").render(body=body, title=title, css=css, css_hash=csp_hash(css))


def notebook_html(fragment: str) -> str:
    """A fragment with its style, for `_repr_html_`: light or dark as the notebook is."""
    return f'<div class="gm-view"><style>{stylesheet()}</style>{fragment}</div>'


@functools.cache
def stylesheet() -> str:
    """The style of cards; all of its rules are for what is inside of `gm-view`."""
    return read_template("cards.css")


def read_template(name: str) -> str:
    """A file of `templates` as it is."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def csp_hash(text: str) -> str:
    """What allows just this inline script or style in a Content-Security-Policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@functools.cache
def environment() -> jinja2.Environment:
    """The templates: they escape all that is put in, make it visible, and refuse names that are not there."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"pieces": pieces, "shade": shade_of, "count": "{:,}".format, "weight": "{:.3g}".format}
    return env


def _template(name: str) -> jinja2.Template:
    return environment().get_template(name)


def _example(card: ExampleCard, media: MediaSink, anchor: str = "", number: int = 0) -> Mapping[str, Any]:
    """What `example.html` reads.

    Args:
        card: of the example.
        media: takes its pictures.
        anchor: id of the article, or "".
        number: of the example in a row, from 1; 0 is none.
    """
    if card.film:
        card = replace(card, film=told_apart(card.film))
    owner = f"{card.dataset} {card.id}"
    pictures = draw_pictures(card.pictures, media, owner)
    stills = draw_film(card.film, media, owner) if card.film else ()
    return {
        "card": card,
        "anchor": anchor,
        "number": number,
        "pictures": pictures,
        "stills": stills,
        "overlays": _overlays((*pictures, *stills)),
        "meanings": meanings(card),
        "shades": shades(card),
        "fields": _fields_text(card.fields),
    }


def _overlays(drawn: tuple[Drawn, ...]) -> list[tuple[str, str, bool]]:
    """Those that there is something for."""
    drawn = tuple(one for one in drawn if one.url)
    there = {
        "points": any(one.dots for one in drawn),
        "boxes": any(one.boxes for one in drawn),
        "tracks": any(one.lines for one in drawn),
        "names": any(thing.number for one in drawn for thing in (*one.dots, *one.boxes)),
        "crops": any(one.crops for one in drawn),
        "tokens": any(one.tokens for one in drawn),
        "large": bool(drawn),
    }
    return [overlay for overlay in OVERLAYS if there[overlay[0]]]


def _fields_text(fields: Mapping[str, Any]) -> str:
    if not fields:
        return ""
    text = json.dumps(fields, indent=2, ensure_ascii=False, default=str)
    left_out = len(text) - _MOST_OF_FIELDS
    return text if left_out <= 0 else f"{text[:_MOST_OF_FIELDS]}\n… {left_out:,} more characters"
