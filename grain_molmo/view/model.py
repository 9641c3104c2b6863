"""What a view shows, as plain data: made by `describe_example` and `describe_packed_row`, drawn by the templates.

Places in pictures are shares of their width and height, from 0 to 1, so a view may draw them at any size. Nothing is
decoded before a view asks for pixels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

MOST_STILLS = 12
"""Frames of a video in a strip, if a view is not told."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A point or a box on a picture or frame.

    Attributes:
        kind: "point" or "box".
        x, y: of the point, or of the box's upper left corner; shares of the picture's width and height.
        width, height: of the box, as shares.
        label: what is marked.
        number: of the thing among those of its annotation, from 1; 0 is none. A track has one number in all frames.
        group: the annotation that it belongs to; marks of a group have one colour.
    """

    kind: Literal["point", "box"] = "point"
    x: float
    y: float
    width: float = 0.0
    height: float = 0.0
    label: str = ""
    number: int = 0
    group: int = 0


@dataclass(frozen=True)
class Grid:
    """Lines that a picture is cut along for the model, ascending, without the picture's own edges; shares.

    Attributes:
        crops_x, crops_y: upright and level borders of crops.
        tokens_x, tokens_y: the same of what is pooled into one visual token.
    """

    crops_x: tuple[float, ...] = ()
    crops_y: tuple[float, ...] = ()
    tokens_x: tuple[float, ...] = ()
    tokens_y: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Picture:
    """A picture to show.

    Attributes:
        title: "picture 1", "whole", "in detail".
        width, height: pixels.
        decode: the picture, [height, width, 3] uint8; it may raise whatever broken media raise.
        key: equal for equal pixels, and fit for a file name.
        marks: what is drawn on it.
        grid: how it is cut.
    """

    title: str
    width: int
    height: int
    decode: Callable[[], np.ndarray]
    key: str
    marks: tuple[Mark, ...] = ()
    grid: Grid | None = None


@dataclass(frozen=True, kw_only=True)
class Still:
    """A frame of a film.

    Attributes:
        time: as the model reads it, seconds from the clip's start ("12.5").
        marks: what is drawn on it.
        subtitle: what is said then.
    """

    time: str
    marks: tuple[Mark, ...] = ()
    subtitle: str = ""


@dataclass(frozen=True)
class Track:
    """Where one thing goes in a film.

    Attributes:
        label: what it is.
        number, group: as of `Mark`.
        places: (seconds from the clip's start, x, y) in order of time; x and y are shares.
    """

    label: str
    number: int
    group: int
    places: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Film:
    """Frames of a video to show as a strip.

    Attributes:
        title: "video".
        width, height: of a frame, pixels.
        duration_s: of the clip, seconds.
        stills: the frames to show, in order of time.
        num_frames: frames that the model gets, of which the stills are some.
        decode: the stills, [F, height, width, 3] uint8; it may raise whatever broken media raise.
        key: equal for equal frames, and fit for a file name.
        tracks: what moves through it.
        subtitles: (start, end, text), seconds from the clip's start.
        grid: how each frame is cut.
    """

    title: str
    width: int
    height: int
    duration_s: float
    stills: tuple[Still, ...]
    num_frames: int
    decode: Callable[[], np.ndarray]
    key: str
    tracks: tuple[Track, ...] = ()
    subtitles: tuple[tuple[float, float, str], ...] = ()
    grid: Grid | None = None


@dataclass(frozen=True)
class Span:
    """Neighbouring tokens of one kind and weight.

    Attributes:
        kind: "prompt" (no loss), "trained" (its prediction has loss weight), or "visual".
        text: decoded; of visual tokens what stands between them: times, numbers of pictures, subtitles.
        n_tokens: how many.
        weight: loss weight of each; 0 unless trained.
        n_between: how many of visual ones are text.
    """

    kind: str
    text: str
    n_tokens: int
    weight: float = 0.0
    n_between: int = 0


@dataclass(frozen=True)
class Conversation:
    """One branch of an example, or its only one.

    Attributes:
        spans: its tokens from the first to the last that it predicts.
        group: the colour of the marks that it speaks of.
    """

    spans: tuple[Span, ...]
    group: int = 0


@dataclass(frozen=True)
class Place:
    """Where an example lies in a packed row; each [start, stop), or several of them.

    Attributes:
        tokens, crops, pooled: of the row's.
        branches: runs of tokens, one a branch; what is before the first is shared by all.
        visual: runs of visual tokens.
        trained: runs of tokens with loss weight.
    """

    tokens: tuple[int, int]
    crops: tuple[int, int]
    pooled: tuple[int, int]
    branches: tuple[tuple[int, int], ...] = ()
    visual: tuple[tuple[int, int], ...] = ()
    trained: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class ExampleCard:
    """All that a view shows of an example.

    Attributes:
        dataset, index, id: which one.
        facts: short facts in order, such as "tokens": "1,204".
        pictures: in order; the first are large.
        film: of its video.
        shared: what all branches see, of a message tree of several.
        conversations: its branches.
        fields: what the dataset says of it, JSON-able, media left out.
        problem: why the model would not learn from it, or "".
        place: where it lies, of a packed row.
    """

    dataset: str
    index: int
    id: str
    facts: Mapping[str, str] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()
    film: Film | None = None
    shared: tuple[Span, ...] = ()
    conversations: tuple[Conversation, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    place: Place | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class RowCard:
    """All that a view shows of a packed row.

    Attributes:
        stage: name.
        step, row: which global batch, and which row of it; from 0.
        max_tokens, max_crops, max_pooled: the row's budgets.
        examples: in the order of the row, each with its place.
        attention: [n, n] uint8, queries down and keys across, each of max_tokens / n tokens: 0 where no query may
            attend to any key, 2 where every one may, 1 where some may; also where that cannot be told from the
            bounds of a block (`attention_blocks`), beside the borders of examples.
        attention_mode: how the tokens of pictures look ahead, in words.
    """

    stage: str
    step: int
    row: int
    max_tokens: int
    max_crops: int
    max_pooled: int
    examples: tuple[ExampleCard, ...]
    attention: np.ndarray
    attention_mode: str

    @property
    def n_tokens(self) -> int:
        """Tokens in use."""
        return self._used("tokens")

    @property
    def n_crops(self) -> int:
        """Crops in use."""
        return self._used("crops")

    @property
    def n_pooled(self) -> int:
        """Rows of `token_pooling` in use."""
        return self._used("pooled")

    def _used(self, what: str) -> int:
        ranges = [getattr(example.place, what) for example in self.examples if example.place]
        return sum(stop - start for start, stop in ranges)
