"""One packed row as a person would describe it: examples, branches, decoded text, and the pictures put together again.

Everything is read from the row's own arrays, so what it shows is what the model gets: pictures come from `images` by
way of `token_pooling`, text from the tokens by segment and subsegment.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from grain_molmo.render import ExampleInfo
from grain_molmo.special_tokens import (
    IM_COL,
    IM_END,
    IM_PATCH,
    IM_START,
    LOW_RES_IM_START,
    SPECIAL_TOKENS,
    VISUAL_OFFSETS,
)
from grain_molmo.text.assemble import SHARED_SUBSEGMENT
from grain_molmo.text.points import ParsedPoint, parse_points
from grain_molmo.text.tokenizer import Tokenizer
from grain_molmo.view.model import Grid, Span
from grain_molmo.vision.crops import PATCH, PATCHES_PER_CROP

Row = Mapping[str, np.ndarray]
"""The arrays of one row: a batch's without their first axis."""


@dataclass(frozen=True)
class Branch:
    """One conversation of an example, or its only one.

    Attributes:
        tokens: [start, stop) in the row.
        spans: its tokens from the first to the last that it predicts.
    """

    tokens: tuple[int, int]
    spans: tuple[Span, ...]

    @property
    def text(self) -> str:
        """All of it, decoded."""
        return "".join(span.text for span in self.spans)

    @property
    def points(self) -> list[ParsedPoint]:
        """What it points at: shares of the picture's width and height; `frame` is the picture's number, from 1."""
        return parse_points(self.text)


@dataclass(frozen=True, eq=False)
class View:
    """A picture as visual tokens show it, whole or in detail.

    Attributes:
        pixels_HW3: [14 * Y, 14 * X, 3] uint8.
        tokens_YX: which visual token of the view pools each patch.
        crops_YX: which crop of the row shows each patch.
    """

    pixels_HW3: np.ndarray
    tokens_YX: np.ndarray
    crops_YX: np.ndarray

    @property
    def grid(self) -> Grid:
        """Where crops and visual tokens meet."""
        return label_grid(self.crops_YX, self.tokens_YX)


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a video: its time as the tokens say it ("12.5"), and what its visual tokens show."""

    time: str
    view: View


@dataclass(frozen=True, eq=False)
class ExampleView:
    """An example of the row.

    Attributes:
        info: what the loader says of it.
        shared: spans of the part that all branches of a message tree see; empty if there is only one conversation.
        branches: in the order of the row.
        pictures: the views of each picture, global first.
        frames: of its video, in order.
        visual: [start, stop) of each run of visual tokens in the row.
        trained: [start, stop) of each run of tokens with loss weight in the row.
    """

    info: ExampleInfo
    shared: tuple[Span, ...]
    branches: tuple[Branch, ...]
    pictures: tuple[tuple[View, ...], ...]
    frames: tuple[Frame, ...]
    visual: tuple[tuple[int, int], ...]
    trained: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class RowView:
    """A packed row: its budgets of tokens and crops, and its examples."""

    max_tokens: int
    max_crops: int
    examples: tuple[ExampleView, ...]

    @property
    def n_tokens(self) -> int:
        """Tokens in use."""
        return sum(stop - start for start, stop in (example.info.tokens for example in self.examples))

    @property
    def n_crops(self) -> int:
        """Crops in use."""
        return sum(stop - start for start, stop in (example.info.crops for example in self.examples))


def take_row(batch: Mapping[str, Any], row: int) -> Row:
    """The arrays of one row of a batch, without the first axis; of a sharded batch, a row that this process holds."""
    return {key: np.asarray(array[row]) for key, array in batch.items()}


def describe_row(row: Row, examples: Sequence[ExampleInfo], tokenizer: Tokenizer) -> RowView:
    """What is in a row.

    Args:
        row: `input_tokens`, `target_tokens`, `loss_weights`, `subsegment_ids` [T], `images` [C, 729, 588],
            `token_pooling` [P, 4 or 9].
        examples: what lies where, from `Loader.batch_info.rows`.
        tokenizer: the one that made the tokens.
    """
    views = tuple(_describe_example(row, info, tokenizer) for info in examples)
    return RowView(len(row["input_tokens"]), len(row["images"]), views)


def _describe_example(row: Row, info: ExampleInfo, tokenizer: Tokenizer) -> ExampleView:
    start, stop = info.tokens
    shared, branches = read_conversations(row, start, stop, tokenizer)
    is_visual = _is_visual(row["input_tokens"][start:stop], tokenizer)
    pictures, frames = _media(row, info, tokenizer)
    return ExampleView(
        info=info,
        shared=shared,
        branches=branches,
        pictures=pictures,
        frames=frames,
        visual=tuple((start + a, start + b) for a, b, yes in _runs(is_visual) if yes),
        trained=tuple((start + a, start + b) for a, b, yes in _runs(row["loss_weights"][start:stop] > 0) if yes),
    )


def read_conversations(
    row: Row, start: int, stop: int, tokenizer: Tokenizer
) -> tuple[tuple[Span, ...], tuple[Branch, ...]]:
    """What all branches of the example at [start, stop) see, and its branches; one alone shares nothing.

    Args:
        row: `input_tokens`, `target_tokens`, `loss_weights`, `subsegment_ids` [T].
        start, stop: of the example's tokens.
        tokenizer: the one that made the tokens.
    """
    parts = [(start + a, start + b, subsegment) for a, b, subsegment in _runs(row["subsegment_ids"][start:stop])]
    shared = tuple(
        span
        for a, b, subsegment in parts
        if subsegment == SHARED_SUBSEGMENT
        for span in _spans(row, a, b, tokenizer, is_shared=True)
    )
    branches = tuple(
        Branch((a, b), _spans(row, a, b, tokenizer)) for a, b, subsegment in parts if subsegment != SHARED_SUBSEGMENT
    )
    return shared, branches


def _spans(row: Row, start: int, stop: int, tokenizer: Tokenizer, is_shared: bool = False) -> tuple[Span, ...]:
    """The first token of [start, stop) and what each of them predicts.

    A target is an input too, the next one, save where a branch ends. What the last of the shared part predicts is the
    first token of a branch, and shown there. A prompt predicts nothing: its inputs are all there is.
    """
    last = stop - 1 if is_shared else stop
    is_prompt = not row["target_tokens"][start:stop].any()
    follow = row["input_tokens"][start + 1 : stop] if is_prompt else row["target_tokens"][start:last]
    ids = np.concatenate([row["input_tokens"][start : start + 1], follow])
    weights = np.concatenate([[0.0], row["loss_weights"][start : start + len(follow)]]).astype(np.float32)
    # A number for each kind and weight: -1 visual, 0 prompt, the weight of what is trained.
    kinds = np.where(_is_visual(ids, tokenizer), np.float32(-1), weights)
    return tuple(_span(ids[a:b], float(kind), tokenizer) for a, b, kind in _runs(kinds))


def _span(ids: np.ndarray, kind: float, tokenizer: Tokenizer) -> Span:
    if kind < 0:
        return Span("visual", "", len(ids))
    return Span("trained" if kind else "prompt", tokenizer.decode(ids), len(ids), kind)


def join_frames(spans: Sequence[Span]) -> list[Span]:
    """The spans with all visual tokens, and the times or numbers between them, told as one."""
    visual = [i for i, span in enumerate(spans) if span.kind == "visual"]
    if len(visual) < 2:
        return list(spans)
    first, last = visual[0], visual[-1]
    joined = spans[first : last + 1]
    n_tokens = sum(span.n_tokens for span in joined)
    n_between = sum(span.n_tokens for span in joined if span.kind != "visual")
    whole = Span("visual", "".join(span.text for span in joined), n_tokens, n_between=n_between)
    return [*spans[:first], whole, *spans[last + 1 :]]


def _runs(values: np.ndarray) -> Iterator[tuple[int, int, Any]]:
    """(start, stop, value) of each run of equal values; none of no values."""
    if not len(values):
        return
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    for start, stop in itertools.pairwise([0, *changes.tolist(), len(values)]):
        yield start, stop, values[start]


def _is_visual(ids: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    return np.isin(ids - tokenizer.special_base, VISUAL_OFFSETS)


def _media(row: Row, info: ExampleInfo, tokenizer: Tokenizer) -> tuple[tuple[tuple[View, ...], ...], tuple[Frame, ...]]:
    """The pictures of an example, each the views that its tokens lay out, and the frames of its video."""
    ids = row["input_tokens"][slice(*info.tokens)]
    pictures: list[list[View]] = []
    frames: list[Frame] = []
    pooled, text_from = info.pooled[0], 1  # the first token is BOS
    for block in visual_blocks(ids - tokenizer.special_base):
        n_pooled = block.rows * block.cols
        view = pooled_view(row["images"], row["token_pooling"][pooled : pooled + n_pooled], block.rows, block.cols)
        pooled += n_pooled
        if block.kind == "frame":
            frames.append(Frame(tokenizer.decode(ids[text_from : block.start]).strip(), view))
        elif block.kind == "global":
            pictures.append([view])
        else:
            pictures[-1].append(view)
        text_from = block.stop
    return tuple(map(tuple, pictures)), tuple(frames)


@dataclass(frozen=True)
class Block:
    """A run of visual tokens from its start to its end marker.

    Attributes:
        kind: "global" or "detail" of a picture, or "frame".
        start, stop: in the sequence.
        rows, cols: of its visual tokens.
    """

    kind: str
    start: int
    stop: int
    rows: int
    cols: int


def visual_blocks(offsets: np.ndarray) -> list[Block]:
    """The blocks of an example's visual tokens, read from their layout (Molmo2 §3.6, §4.4).

    Args:
        offsets: [n] offsets of special tokens, in the order of the sequence; other numbers are text.
    """
    blocks: list[Block] = []
    kind, start, patches, ends_of_rows = "", 0, 0, 0
    for place in np.flatnonzero((offsets >= 0) & (offsets < len(SPECIAL_TOKENS))).tolist():
        offset = offsets[place]
        if offset in (LOW_RES_IM_START, IM_START):
            # A detailed view follows its global one at once; a frame comes after its time.
            follows = bool(blocks) and blocks[-1].kind == "global" and blocks[-1].stop == place
            kind = "global" if offset == LOW_RES_IM_START else "detail" if follows else "frame"
            start, patches, ends_of_rows = place, 0, 0
        elif offset == IM_END and patches:
            rows = ends_of_rows or math.isqrt(patches)  # the global view and a frame are squares without ends of rows
            blocks.append(Block(kind, start, place + 1, rows, patches // rows))
        patches += offset == IM_PATCH
        ends_of_rows += offset == IM_COL
    return blocks


def pooled_view(images_CPD: np.ndarray, pooling_NW: np.ndarray, rows: int, cols: int) -> View:
    """A view put together from the patches that its visual tokens pool.

    Args:
        images_CPD: [C, 729, 588] uint8, the row's crops.
        pooling_NW: [rows * cols, 4 or 9] patches of each token, counted from the row's first crop; -1 is none.
        rows, cols: the grid of tokens.
    """
    ids_YX, tokens_YX = _by_patch(pooling_NW, rows, cols)
    patches = images_CPD.reshape(-1, PATCH, PATCH, 3)[ids_YX]
    height, width = (PATCH * extent for extent in ids_YX.shape)
    return View(
        patches.transpose(0, 2, 1, 3, 4).reshape(height, width, 3), tokens_YX, ids_YX // np.int32(PATCHES_PER_CROP)
    )


def _by_patch(pooling_NW: np.ndarray, rows: int, cols: int) -> tuple[np.ndarray, np.ndarray]:
    """The patch at each place of a view, and the visual token that pools it, [Y, X] both."""
    if (pooling_NW[:, 4:] < 0).all():  # a picture's windows, in a batch that has room for those of frames
        pooling_NW = pooling_NW[:, :4]
    side = math.isqrt(pooling_NW.shape[1])

    def by_patch(windows: np.ndarray) -> np.ndarray:
        return windows.reshape(rows, cols, side, side).transpose(0, 2, 1, 3).reshape(rows * side, cols * side)

    ids_YX = by_patch(pooling_NW)
    tokens_YX = by_patch(np.repeat(np.arange(rows * cols), side * side))
    there = ids_YX >= 0  # the last windows may reach beyond the picture
    inside = np.ix_(there.any(axis=1), there.any(axis=0))
    return ids_YX[inside], tokens_YX[inside]


def pooling_grid(pooling_NW: np.ndarray, rows: int, cols: int) -> Grid:
    """How a view is cut, read from what its visual tokens pool; the arguments are those of `pooled_view`."""
    ids_YX, tokens_YX = _by_patch(pooling_NW, rows, cols)
    return label_grid(ids_YX // PATCHES_PER_CROP, tokens_YX)


def label_grid(crops_YX: np.ndarray, tokens_YX: np.ndarray) -> Grid:
    """Lines where neighbouring patches belong to other crops, and to other visual tokens."""
    return Grid(borders(crops_YX), borders(crops_YX.T), borders(tokens_YX), borders(tokens_YX.T))


def borders(labels_YX: np.ndarray) -> tuple[float, ...]:
    """Where neighbouring columns differ, as shares of the width."""
    differ = (labels_YX[:, 1:] != labels_YX[:, :-1]).any(axis=0)
    return tuple((int(column) + 1) / labels_YX.shape[1] for column in np.flatnonzero(differ))
