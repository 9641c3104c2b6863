"""Cards made by hand: shapes at known places, hostile text, and as many as one likes."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from grain_molmo.view.model import (
    Conversation,
    ExampleCard,
    Film,
    Grid,
    Mark,
    Picture,
    Place,
    RowCard,
    Span,
    Still,
    Track,
)

GREEN, GREY = (0, 230, 60), (70, 70, 70)
HOSTILE = (
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 2</script>",
    '<img src=x onerror="window.hacked = 3">',
    "\"' onmouseover='window.hacked = 4",
    "{{ 7 * 7 }} {% include 'x' %} ${window.hacked = 5}",
    "javascript:window.hacked=6",
    "<!-- ]]> &lt;b&gt; &amp;",
    "line\u2028para\u2029graph",
    "nul\0 bell\a escape\x1b",
    "half \ud800 surrogate",
    "\u202eright to left\u202c שלום עולם",
)


def picture(
    width: int = 320,
    height: int = 240,
    marks: tuple[Mark, ...] = (),
    *,
    key: str = "grey",
    title: str = "picture",
    grid: Grid | None = None,
    decode: Callable[[], np.ndarray] | None = None,
) -> Picture:
    pixels = decode or (lambda: np.full((height, width, 3), GREY, np.uint8))
    return Picture(title=title, width=width, height=height, decode=pixels, key=key, marks=marks, grid=grid)


def talk(*texts: str, weight: float = 0.5) -> Conversation:
    """A conversation: read and trained in turn."""
    spans = [
        Span("trained", text, 7, weight) if number % 2 else Span("prompt", text, 7) for number, text in enumerate(texts)
    ]
    return Conversation(tuple(spans))


def example(index: int = 0, **settings) -> ExampleCard:
    settings = {"dataset": "shapes", "id": f"example-{index}", "conversations": (talk("Where?", "There."),), **settings}
    return ExampleCard(index=index, **settings)


def film(num_stills: int = 3, *, key: str = "film", **settings) -> Film:
    def decode() -> np.ndarray:
        return np.full((num_stills, 90, 160, 3), GREY, np.uint8)

    stills = tuple(
        Still(
            time=f"{number}.0", marks=(Mark(x=0.1 * number, y=0.5, label="ball", number=1),), subtitle=f"said {number}"
        )
        for number in range(num_stills)
    )
    settings = {"stills": stills, "tracks": (Track("ball", 1, 0, ((0.0, 0.0, 0.5), (2.0, 0.2, 0.5))),), **settings}
    return Film(title="video", width=160, height=90, duration_s=3.0, num_frames=9, decode=decode, key=key, **settings)


def row(*examples: ExampleCard, max_tokens: int = 100) -> RowCard:
    """The examples side by side, each of 40 tokens, 2 crops and 10 pooled."""
    placed = [
        replace(
            one,
            place=Place(
                (40 * i, 40 * i + 40),
                (2 * i, 2 * i + 2),
                (10 * i, 10 * i + 10),
                branches=((40 * i + 20, 40 * i + 30), (40 * i + 30, 40 * i + 40)),
                visual=((40 * i + 1, 40 * i + 11),),
                trained=((40 * i + 35, 40 * i + 40),),
            ),
        )
        for i, one in enumerate(examples)
    ]
    attention = np.tril(np.full((20, 20), 2, np.uint8))
    attention[np.arange(20), np.arange(20)] = 1
    return RowCard(
        stage="sft",
        step=3,
        row=1,
        max_tokens=max_tokens,
        max_crops=8,
        max_pooled=40,
        examples=tuple(placed),
        attention=attention,
        attention_mode="each token sees what came before it",
    )


def hostile_example(index: int = 0) -> ExampleCard:
    """Hostile text in every place that holds text."""
    text = " ".join(HOSTILE)
    marks = (
        Mark(x=0.5, y=0.5, label=text, number=1),
        Mark(kind="box", x=0.1, y=0.1, width=0.2, height=0.2, label=text),
    )

    def broken() -> np.ndarray:
        raise ValueError(text)

    return ExampleCard(
        dataset=HOSTILE[1],
        index=index,
        id=text,
        facts={HOSTILE[0]: text, "url": HOSTILE[5]},
        pictures=(
            picture(marks=marks, key=f"../{HOSTILE[0]}", title=text),
            picture(key="broken", title=text, decode=broken),
        ),
        film=film(
            stills=(Still(time=HOSTILE[0], marks=marks, subtitle=text),),
            tracks=(Track(text, 1, 0, ((0.0, 0.1, 0.1),)),),
            subtitles=((0.0, float("inf"), text),),
            key=HOSTILE[2],
        ),
        shared=(Span("prompt", text, 3),),
        conversations=(talk(text, text), talk(text, text)),
        fields={HOSTILE[1]: [text, {text: text}]},
        problem=text,
    )


def many(number: int, words: int = 120) -> Iterator[ExampleCard]:
    """Examples of five sets with a picture of their own set and so many words of text."""
    rng = np.random.default_rng(0)
    vocabulary = np.array([f"{a}{b}{c}" for a in "bdfgkl" for b in "aeiou" for c in "mnrst"])
    for index in range(number):
        text = " ".join(rng.choice(vocabulary, words).tolist())
        marks = tuple(
            Mark(x=x, y=y, label="thing", number=i) for i, (x, y) in enumerate(rng.random((4, 2)).tolist(), 1)
        )
        yield example(
            index,
            dataset=f"set_{index % 5}",
            id=f"id-{index}",
            facts={"tokens": f"{words:,}"},
            pictures=(picture(marks=marks, key=f"grey-{index % 50}", grid=Grid((0.5,), (0.5,))),),
            conversations=(talk(f"What is in picture {index}?", text),),
            fields={"caption": text},
        )
