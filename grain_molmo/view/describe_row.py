"""From a row of a batch to what a view shows of it: read from the row's own arrays, so it is what the model gets."""

import functools
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np

from grain_molmo.attention import LookAhead, Queries, attention_blocks, attention_keys
from grain_molmo.render import ExampleInfo
from grain_molmo.rng import stable_hash
from grain_molmo.stages import Stage
from grain_molmo.text.tokenizer import Tokenizer
from grain_molmo.view.describe import FRAME_GRID, choose_stills, still
from grain_molmo.view.fields import shown_value
from grain_molmo.view.marks import Pointed, pointed_at, tracks_of
from grain_molmo.view.model import MOST_STILLS, Conversation, ExampleCard, Film, Picture, Place, RowCard
from grain_molmo.view.row_view import ExampleView, Frame, Row, View, describe_row, join_frames

_MAP_SIDE = 128
"""Blocks along the side of the map of attention."""
_NO_BRANCH = np.iinfo(np.int32).max
_MODES: dict[LookAhead, str] = {
    None: "each token sees what came before it",
    "image_tokens": "the tokens of pictures also see all others of their example's pictures",
    "within_image": "the tokens of a picture also see those that come later in it",
}


def describe_packed_row(
    row: Row,
    infos: Sequence[ExampleInfo],
    stage: Stage,
    tokenizer: Tokenizer,
    *,
    step: int = 0,
    number: int = 0,
    attention: LookAhead = None,
    max_stills: int = MOST_STILLS,
) -> RowCard:
    """What there is to show of a packed row.

    Args:
        row: the arrays of one row of a batch by their keys, [T], [C, 729, 588] and [P, ...] of the batch's dtypes
            (`take_row`).
        infos: what lies where, from `Loader.batch_info.rows`.
        stage: of the loader.
        tokenizer: of the loader.
        step, number: which global batch, and which row of it.
        attention: how the tokens of pictures look ahead: see `attention_mask`.
        max_stills: frames of a video to show.
    """
    view = describe_row(row, infos, tokenizer)
    where = (stage.name, step, number)
    return RowCard(
        stage=stage.name,
        step=step,
        row=number,
        max_tokens=view.max_tokens,
        max_crops=view.max_crops,
        max_pooled=len(row["token_pooling"]),
        examples=tuple(_card(example, where, max_stills) for example in view.examples),
        attention=attention_map(row, attention, tokenizer.special_base),
        attention_mode=_MODES[attention],
    )


def attention_map(row: Row, mode: LookAhead, special_base: int) -> np.ndarray:
    """[n, n] uint8, see `RowCard.attention`; the row is filled up so that n blocks are equally long."""
    length = len(row["segment_ids"])
    size = -(-length // _MAP_SIDE)
    padded = {
        key: jnp.pad(jnp.asarray(row[key]), (0, -length % size))[None]
        for key in ("input_tokens", "segment_ids", "subsegment_ids")
    }
    queries, keys = attention_keys(padded, mode, special_base)
    valid = padded["segment_ids"] > 0
    # Padding asks for everything, so that no query is left without a key; nobody reads what it gets. A block that is
    # partly padding is told by its tokens: with padding that asks for nothing it sees what some of them see, with
    # padding that asks for all it sees the whole of what all of them see.
    branch, order, picture = queries
    asking = Queries(jnp.where(valid, branch, _NO_BRANCH), jnp.where(valid, order, -1), jnp.where(valid, picture, -1))
    some = np.asarray(attention_blocks(asking, keys, size, size).some[0], np.uint8)
    every = np.asarray(attention_blocks(queries, keys, size, size).every[0], np.uint8)
    return some + some * every


def _card(example: ExampleView, where: tuple[str | int, ...], max_stills: int) -> ExampleCard:
    info = example.info
    # Points in pixels are those of a picture that the row knows no size of.
    pointed = [one for i, branch in enumerate(example.branches) for one in pointed_at(branch.text, i, ())]
    return ExampleCard(
        dataset=info.dataset,
        index=info.index,
        id=info.id,
        facts=_facts(info),
        pictures=tuple(_pictures(example, pointed, where)),
        film=_film(example, pointed, where, max_stills) if example.frames else None,
        shared=tuple(join_frames(example.shared)),
        conversations=tuple(
            Conversation(tuple(join_frames(branch.spans)), i) for i, branch in enumerate(example.branches)
        ),
        fields={"metadata": shown_value(info.metadata)} if info.metadata else {},
        problem=f"{info.blanked}: {info.detail}" if info.blanked else "",
        place=Place(
            info.tokens,
            info.crops,
            info.pooled,
            tuple(branch.tokens for branch in example.branches),
            example.visual,
            example.trained,
        ),
    )


def _facts(info: ExampleInfo) -> dict[str, str]:
    facts = {"epoch": str(info.epoch), "segment": str(info.segment)}
    facts["loss weight"] = f"{0.0 if info.blanked else info.loss_weight:,.4g}"
    if info.frames:
        of = f" of {info.frames_wanted}" if info.frames < info.frames_wanted else ""
        facts["frames"] = f"{info.frames}{of}" + (f", {info.frames_from}" if info.frames_from else "")
    return facts


def _pictures(example: ExampleView, pointed: Sequence[Pointed], where: tuple[str | int, ...]) -> Iterator[Picture]:
    several = len(example.pictures) > 1
    for number, views in enumerate(example.pictures, start=1):
        marks = tuple(one.mark for one in pointed if one.frame == number)
        for view, what in zip(views, ("whole", "in detail"), strict=False):
            height, width = view.pixels_HW3.shape[:2]
            yield Picture(
                title=f"picture {number}, {what}" if several else what,
                width=width,
                height=height,
                decode=functools.partial(_pixels, view),
                key=f"{stable_hash(*where, example.info.segment, number, what):016x}",
                marks=marks,
                grid=view.grid,
            )


def _pixels(view: View) -> np.ndarray:
    return np.ascontiguousarray(view.pixels_HW3)


def _film(example: ExampleView, pointed: Sequence[Pointed], where: tuple[str | int, ...], max_stills: int) -> Film:
    frames = example.frames
    times_s = [_seconds(frame) for frame in frames]
    shown = choose_stills(times_s, [one.frame for one in pointed], max_stills)
    height, width = frames[0].view.pixels_HW3.shape[:2]
    return Film(
        title="video",
        width=width,
        height=height,
        duration_s=max(times_s),
        stills=tuple(still(frames[number].time, pointed, ()) for number in shown),
        num_frames=len(frames),
        decode=functools.partial(_stack, [frames[number].view for number in shown]),
        key=f"{stable_hash(*where, example.info.segment, *shown):016x}",
        tracks=tracks_of(pointed),
        grid=FRAME_GRID,
    )


def _seconds(frame: Frame) -> float:
    try:
        return float(frame.time)
    except ValueError:  # a time that the tokens do not say
        return -1.0


def _stack(views: Sequence[View]) -> np.ndarray:
    return np.stack([view.pixels_HW3 for view in views])
