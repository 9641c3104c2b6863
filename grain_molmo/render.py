"""From planned rows to a batch: tokens laid out, pictures and frames decoded straight into their place."""

import math
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any

import numpy as np

from grain_molmo.encode import EncodedExample, LostExample
from grain_molmo.errors import MediaError, StoreError
from grain_molmo.layout import Medium, Piece, RowLayout
from grain_molmo.slots import FramesSlot, MediaSlot, shift_pooling
from grain_molmo.stages import Stage
from grain_molmo.store.reads import Reads, reads_so_far
from grain_molmo.text.assemble import TokenArrays
from grain_molmo.vision.crops import PATCHES_PER_CROP, VALUES_PER_PATCH

Batch = dict[str, Any]


@dataclass(frozen=True)
class ExampleInfo:
    """Where an example lies in a row, and where it came from.

    Attributes:
        dataset, epoch, index: which example.
        id: the example's own.
        segment: its number in `segment_ids`, from 1.
        tokens: [start, stop) in the row's tokens.
        crops: [start, stop) of the row's crops, padding not counted: places in `images` unless the row is cut for
            context shards.
        pooled: the same of the rows of `token_pooling`.
        loss_weight: sum of its loss weights, as planned.
        frames: frames of its video that are shown.
        frames_wanted: frames that would be shown if the row had room for their tokens.
        frames_from: "prepared" at conversion or the "original" video; "" if it has no frames to show, or if neither
            tokens nor crops of it are this process's.
        blanked: why its media could not be shown ("truncated", ...), or None. Its loss weights are zero then.
        detail: what exactly was wrong.
        metadata: what its dataset says beside.
        read_bytes: of its media that were read.
        read_s, decode_s: seconds that threads took to read them, and to decode them and write their crops.
    """

    dataset: str
    epoch: int
    index: int
    id: str
    segment: int
    tokens: tuple[int, int]
    crops: tuple[int, int]
    pooled: tuple[int, int]
    loss_weight: float
    frames: int = 0
    frames_wanted: int = 0
    frames_from: str = ""
    blanked: str | None = None
    detail: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)
    read_bytes: int = field(default=0, compare=False)
    read_s: float = field(default=0.0, compare=False)
    decode_s: float = field(default=0.0, compare=False)


class ImageBuffers:
    """Memory for the `images` of batches, used again once nobody refers to a batch that had it.

    Touching fresh memory costs 6 to 8 % of rendering; a batch's images are tens of megabytes, which the system
    takes back and clears each time. Safe for any number of threads.
    """

    _MOST_KEPT = 2  # a loader in full flow gives one back for each that it takes

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """A uint8 array of any content, C-contiguous."""
        size = math.prod(shape)
        try:
            memory = self._free.pop()
        except IndexError:
            memory = None
        if memory is None or memory.size != size:
            memory = np.empty(size, np.uint8)
        # By way of a memoryview: numpy lets views refer past an array to the array that it is a view of, but not past
        # other objects. So every view that anybody makes keeps `lent` alive.
        lent = np.frombuffer(memory.data, np.uint8)
        weakref.finalize(lent, self._give_back, memory).atexit = False
        return lent.reshape(shape)

    def _give_back(self, memory: np.ndarray) -> None:
        if len(self._free) < self._MOST_KEPT:
            self._free.append(memory)


def batch_bytes(stage: Stage, rows: int) -> int:
    """Memory that a batch of so many rows takes."""
    return rows * RowLayout.of(stage).row_bytes()


def render_rows(
    rows: Sequence[Sequence[EncodedExample | LostExample]],
    stage: Stage,
    pool: Executor,
    buffers: ImageBuffers | None = None,
    layout: RowLayout | None = None,
    shards: Sequence[int] | None = None,
) -> tuple[Batch, list[list[ExampleInfo]]]:
    """The batch of the rows, all numpy, and what is where in it.

    Media are decoded in the pool's threads. An example whose media cannot be decoded keeps its place and its tokens,
    with crops of zeros and no loss weight, so that nothing else in the run moves.

    An example is decoded where any of its tokens or crops belong to one of the `shards`, all of it: who has some of its
    tokens must know whether its media are broken, though their crops be another's.

    Args:
        rows: the examples of each row; a `LostExample` is blank from the start.
        stage: gives the shapes.
        pool: threads, one picture or video each.
        buffers: where to take memory for the images from, for a caller that makes batch after batch.
        layout: how context shards share a row; by default there are none.
        shards: the context shards whose images are wanted, ascending; by default all of them.

    Returns:
        `input_tokens`, `target_tokens`, `position_ids`, `segment_ids`, `subsegment_ids` [B, T] int32, `loss_weights`
        [B, T] float32, `images` [B, C, 729, 588] uint8, `token_pooling` [B, P, 4] int32, of a
        stage with video [B, P, 9]. Of `images`, the blocks of the `shards` only; the rest is whole.
    """
    layout = layout or RowLayout.of(stage)
    shards = range(layout.n_context) if shards is None else shards
    batch = _empty_batch(layout, len(rows), len(shards), buffers or ImageBuffers())
    images = _Images.of(batch["images"], shards)
    placed = [[*_place_row(batch, row, examples, layout)] for row, examples in enumerate(rows)]
    slots = [
        (row, position, slot, images.crops(row, pieces))
        for row, (examples, places) in enumerate(zip(rows, placed, strict=True))
        for position, (example, place) in enumerate(zip(examples, places, strict=True))
        if isinstance(example, EncodedExample) and place.concerns(layout, shards)
        for slot, pieces in zip(example.slots, place.pieces, strict=True)
    ]
    slots.sort(key=lambda each: -each[2].cost)  # the longest first, so that all threads end about together
    jobs = [(row, position, pool.submit(render_slot, slot, crops)) for row, position, slot, crops in slots]
    cleared = [pool.submit(np.copyto, crops_CPD, np.uint8(0)) for crops_CPD in images.unused(placed)]
    infos = [[place.info for place in places] for places in placed]
    # All of them before any is blanked: an example's other pictures may still be on their way.
    outcomes = [(row, position, job.result()) for row, position, job in jobs]
    for row, position, rendered in outcomes:
        info = rendered.counted_in(infos[row][position])
        if rendered.failure is not None:
            info = _blank(batch, row, info, rendered.failure)
            images.clear(row, placed[row][position])
        infos[row][position] = info
    for job in cleared:
        job.result()
    return batch, infos


def _empty_batch(layout: RowLayout, rows: int, n_shards: int, buffers: ImageBuffers) -> Batch:
    """The arrays, padding everywhere but in `images`, whose content is left over from anything."""
    shape = (rows, layout.tokens)
    crops = n_shards * layout.crops_per_shard
    return {
        "input_tokens": np.zeros(shape, np.int32),
        "target_tokens": np.zeros(shape, np.int32),
        "loss_weights": np.zeros(shape, np.float32),
        "position_ids": np.zeros(shape, np.int32),
        "segment_ids": np.zeros(shape, np.int32),
        "subsegment_ids": np.zeros(shape, np.int32),
        "images": buffers.take((rows, crops, PATCHES_PER_CROP, VALUES_PER_PATCH)),
        "token_pooling": np.full((rows, layout.pooled, layout.pooling_width), -1, np.int32),
    }


@dataclass(frozen=True)
class _Placed:
    """An example in its row: what there is to say of it, and the pieces of each of its media."""

    info: ExampleInfo
    pieces: list[list[Piece]]

    def concerns(self, layout: RowLayout, shards: Sequence[int]) -> bool:
        """Whether any of its tokens or crops belong to one of the shards."""
        own = {piece.shard for pieces in self.pieces for piece in pieces}
        return not own.union(layout.shards_of_tokens(*self.info.tokens)).isdisjoint(shards)


def _media(example: EncodedExample | LostExample) -> list[Medium]:
    if isinstance(example, LostExample):
        return [Medium(example.n_crops, example.n_pooled, divisible=True)]
    return [Medium(slot.n_crops, slot.n_pooled, isinstance(slot, FramesSlot)) for slot in example.slots]


def _place_row(
    batch: Batch, row: int, examples: Sequence[EncodedExample | LostExample], layout: RowLayout
) -> Iterator[_Placed]:
    """Writes the tokens and pooling indices of a row's examples side by side; yields where each lies."""
    pooling_NPK = batch["token_pooling"][row].reshape(layout.n_context, -1, layout.pooling_width)
    media = [_media(example) for example in examples]
    pieces = iter(layout.place([*chain.from_iterable(media)]))
    token = crop = pooled = 0
    for segment, (example, own) in enumerate(zip(examples, media, strict=True), start=1):
        tokens, crops = (token, token + example.n_tokens), (crop, crop + example.n_crops)
        place = ExampleInfo(
            dataset=example.draw.dataset,
            epoch=example.draw.epoch,
            index=example.draw.index,
            id=example.id or str(example.draw.index),
            segment=segment,
            tokens=tokens,
            crops=crops,
            pooled=(pooled, pooled + example.n_pooled),
            loss_weight=0.0,
        )
        own_pieces = [*islice(pieces, len(own))]
        if isinstance(example, LostExample):
            yield _Placed(replace(place, blanked=example.reason, detail=example.detail), own_pieces)
        else:
            _write_tokens(batch, row, segment, slice(*tokens), example.arrays)
            for slot, pieces_of_slot in zip(example.slots, own_pieces, strict=True):
                _write_pooling(pooling_NPK, slot, pieces_of_slot, layout)
            yield _Placed(_described(place, example), own_pieces)
        token, crop, pooled = tokens[1], crops[1], pooled + example.n_pooled


def _described(place: ExampleInfo, example: EncodedExample) -> ExampleInfo:
    frames = [slot for slot in example.slots if isinstance(slot, FramesSlot)]
    return replace(
        place,
        id=example.id,
        metadata=example.metadata,
        loss_weight=float(example.arrays.loss_weights.sum()),
        frames=sum(slot.n_crops for slot in frames),
        frames_wanted=sum(slot.n_wanted for slot in frames),
    )


def _write_tokens(batch: Batch, row: int, segment: int, tokens: slice, arrays: TokenArrays) -> None:
    for key in ("input_tokens", "target_tokens", "loss_weights", "position_ids"):
        batch[key][row, tokens] = getattr(arrays, key)
    batch["segment_ids"][row, tokens] = segment
    if arrays.subsegment_ids is not None:
        batch["subsegment_ids"][row, tokens] = arrays.subsegment_ids


def _write_pooling(pooling_NPK: np.ndarray, slot: MediaSlot, pieces: Sequence[Piece], layout: RowLayout) -> None:
    windows = slot.pooling()
    for piece in pieces:
        crop = piece.shard * layout.crops_per_shard + piece.crops.start
        moved = shift_pooling(windows[piece.pooled_of_medium], crop - piece.crops_of_medium.start - slot.first_crop)
        pooling_NPK[piece.shard, piece.pooled, : windows.shape[1]] = moved


Crops = list[tuple[slice, np.ndarray]]
"""Some of a medium's crops: which they are, and [n, 729, 588] uint8 where they belong."""


@dataclass(frozen=True)
class _Images:
    """The images of a batch by row and context shard.

    Attributes:
        images_BNCPD: [B, N, C, 729, 588] uint8.
        blocks: which of N is a shard's; there are only the shards that are rendered.
    """

    images_BNCPD: np.ndarray
    blocks: Mapping[int, int]

    @classmethod
    def of(cls, images_BCPD: np.ndarray, shards: Sequence[int]) -> "_Images":
        rows, crops, *crop = images_BCPD.shape
        blocks = {shard: block for block, shard in enumerate(shards)}
        return cls(images_BCPD.reshape(rows, len(blocks), crops // len(blocks), *crop), blocks)

    def crops(self, row: int, pieces: Iterable[Piece]) -> Crops:
        """Of the medium in these pieces, the crops that are here."""
        return [
            (piece.crops_of_medium, self.images_BNCPD[row, self.blocks[piece.shard], piece.crops])
            for piece in pieces
            if piece.shard in self.blocks
        ]

    def clear(self, row: int, place: _Placed) -> None:
        """Zeros in place of all of an example's media."""
        for _, crops_CPD in self.crops(row, chain.from_iterable(place.pieces)):
            crops_CPD[...] = 0

    def unused(self, placed: Sequence[Sequence[_Placed]]) -> Iterator[np.ndarray]:
        """The crops that nothing is rendered into: those after a shard's last, and of examples that are blank."""
        for row, places in enumerate(placed):
            ends = dict.fromkeys(self.blocks, 0)
            for place in places:
                pieces = [piece for piece in chain.from_iterable(place.pieces) if piece.shard in self.blocks]
                ends |= {piece.shard: piece.crops.stop for piece in pieces}
                if place.info.blanked:
                    yield from (crops_CPD for _, crops_CPD in self.crops(row, pieces))
            yield from (self.images_BNCPD[row, self.blocks[shard], end:] for shard, end in ends.items())


@dataclass(frozen=True)
class Rendered:
    """How it went with a slot.

    Attributes:
        source: what was read, "picture", "prepared" or "original" frames; "" if it stays blank.
        failure: why it stays blank.
        reads: what was read of the media, and how long that took.
        decode_s: seconds that the rest took.
    """

    source: str
    failure: MediaError | StoreError | None
    reads: Reads
    decode_s: float

    def counted_in(self, info: ExampleInfo) -> ExampleInfo:
        """What is known of the slot's example, with this slot."""
        return replace(
            info,
            frames_from=self.source if info.frames else "",
            read_bytes=info.read_bytes + self.reads.num_bytes,
            read_s=info.read_s + self.reads.seconds,
            decode_s=info.decode_s + self.decode_s,
        )


def render_slot(slot: MediaSlot, crops: Crops) -> Rendered:
    """Decodes a slot's picture or frames and writes those of its crops that belong somewhere; zeros if it cannot be."""
    started, read_before = time.perf_counter(), reads_so_far()
    whole = len(crops) == 1 and len(crops[0][1]) == slot.n_crops
    # Rendered whole in any case: what a video shows, and whether it is broken, must not depend on how a row is cut.
    out_CPD = crops[0][1] if whole else np.empty((slot.n_crops, PATCHES_PER_CROP, VALUES_PER_PATCH), np.uint8)
    source, failure = "", None
    try:
        source = slot.render(out_CPD)
    except (MediaError, StoreError) as error:
        out_CPD[...] = 0
        failure = error
    if not whole:
        for part, part_CPD in crops:
            part_CPD[...] = out_CPD[part]
    reads = reads_so_far().since(read_before)
    return Rendered(source, failure, reads, time.perf_counter() - started - reads.seconds)


def _blank(batch: Batch, row: int, info: ExampleInfo, failure: MediaError | StoreError) -> ExampleInfo:
    """Takes the example's weight away; its tokens stay, so that every other index in the row holds."""
    batch["loss_weights"][row, slice(*info.tokens)] = 0
    reason = failure.reason if isinstance(failure, MediaError) else "unreadable_record"
    return replace(info, blanked=reason, detail=str(failure))
