"""From planned rows to a batch: tokens laid out, pictures and frames decoded straight into their place."""

import math
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from grain_molmo.encode import EncodedExample
from grain_molmo.errors import MediaError, StoreError
from grain_molmo.slots import FramesSlot, MediaSlot, shift_pooling
from grain_molmo.stages import Stage
from grain_molmo.store.reads import Reads, reads_so_far
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
        crops: [start, stop) in the row's images.
        pooled: [start, stop) in the row's token_pooling.
        loss_weight: sum of its loss weights, as planned.
        frames: frames of its video that are shown.
        frames_wanted: frames that would be shown if the row had room for their tokens.
        frames_from: "prepared" at conversion or the "original" video; "" if it has no frames to show.
        blanked: why its media could not be shown ("truncated", ...), or None. Its loss weights are zero then.
        detail: what exactly was wrong.
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
    images = stage.crops_per_row * PATCHES_PER_CROP * VALUES_PER_PATCH
    return rows * (images + stage.seq_len * 6 * 4 + stage.pooled_per_row * stage.pooling_width * 4)


def render_rows(
    rows: Sequence[Sequence[EncodedExample]], stage: Stage, pool: Executor, buffers: ImageBuffers | None = None
) -> tuple[Batch, list[list[ExampleInfo]]]:
    """The batch of the rows, all numpy, and what is where in it.

    Media are decoded in the pool's threads. An example whose media cannot be decoded keeps its place and its tokens,
    with crops of zeros and no loss weight, so that nothing else in the run moves.

    Args:
        rows: the examples of each row.
        stage: gives the shapes.
        pool: threads, one picture or video each.
        buffers: where to take memory for the images from, for a caller that makes batch after batch.

    Returns:
        `input_tokens`, `target_tokens`, `position_ids`, `segment_ids`, `subsegment_ids` [B, T] int32, `loss_weights`
        [B, T] float32, `images` [B, C, 729, 588] uint8, `token_pooling` [B, P, 4] int32, of a
        stage with video [B, P, 9].
    """
    batch = _empty_batch(stage, len(rows), buffers or ImageBuffers())
    infos = [[*_place_row(batch, row, examples)] for row, examples in enumerate(rows)]
    slots = []
    for row, (examples, placed) in enumerate(zip(rows, infos, strict=True)):
        for position, (example, info) in enumerate(zip(examples, placed, strict=True)):
            for slot in example.slots:
                start = info.crops[0] + slot.first_crop
                slots.append((row, position, slot, batch["images"][row, start : start + slot.n_crops]))
    slots.sort(key=lambda each: -each[2].cost)  # the longest first, so that all threads end about together
    jobs = [(row, position, pool.submit(render_slot, slot, out_CPD)) for row, position, slot, out_CPD in slots]
    unused = [batch["images"][row, placed[-1].crops[1] if placed else 0 :] for row, placed in enumerate(infos)]
    cleared = [pool.submit(np.copyto, crops_CPD, np.uint8(0)) for crops_CPD in unused]
    # All of them before any is blanked: an example's other pictures may still be on their way.
    outcomes = [(row, position, job.result()) for row, position, job in jobs]
    for row, position, rendered in outcomes:
        info = rendered.counted_in(infos[row][position])
        infos[row][position] = info if rendered.failure is None else _blank(batch, row, info, rendered.failure)
    for job in cleared:
        job.result()
    return batch, infos


def _empty_batch(stage: Stage, rows: int, buffers: ImageBuffers) -> Batch:
    """The arrays, padding everywhere but in `images`, whose content is left over from anything."""
    shape = (rows, stage.seq_len)
    return {
        "input_tokens": np.zeros(shape, np.int32),
        "target_tokens": np.zeros(shape, np.int32),
        "loss_weights": np.zeros(shape, np.float32),
        "position_ids": np.zeros(shape, np.int32),
        "segment_ids": np.zeros(shape, np.int32),
        "subsegment_ids": np.zeros(shape, np.int32),
        "images": buffers.take((rows, stage.crops_per_row, PATCHES_PER_CROP, VALUES_PER_PATCH)),
        "token_pooling": np.full((rows, stage.pooled_per_row, stage.pooling_width), -1, np.int32),
    }


def _place_row(batch: Batch, row: int, examples: Sequence[EncodedExample]):
    """Writes the tokens and pooling indices of a row's examples side by side; yields where each lies."""
    token = crop = pooled = 0
    for segment, example in enumerate(examples, start=1):
        arrays = example.arrays
        tokens = slice(token, token + len(arrays))
        for key in ("input_tokens", "target_tokens", "loss_weights", "position_ids"):
            batch[key][row, tokens] = getattr(arrays, key)
        batch["segment_ids"][row, tokens] = segment
        if arrays.subsegment_ids is not None:
            batch["subsegment_ids"][row, tokens] = arrays.subsegment_ids
        first_pooled = pooled
        for slot in example.slots:
            windows = shift_pooling(slot.pooling(), crop)
            batch["token_pooling"][row, pooled : pooled + len(windows), : windows.shape[1]] = windows
            pooled += len(windows)
        info = ExampleInfo(
            dataset=example.draw.dataset,
            epoch=example.draw.epoch,
            index=example.draw.index,
            id=example.id,
            segment=segment,
            tokens=(token, tokens.stop),
            crops=(crop, crop + example.n_crops),
            pooled=(first_pooled, pooled),
            loss_weight=float(arrays.loss_weights.sum()),
            frames=sum(slot.n_crops for slot in example.slots if isinstance(slot, FramesSlot)),
            frames_wanted=sum(slot.n_wanted for slot in example.slots if isinstance(slot, FramesSlot)),
        )
        token, crop = tokens.stop, info.crops[1]
        yield info


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


def render_slot(slot: MediaSlot, out_CPD: np.ndarray) -> Rendered:
    """Decodes a slot's picture or frames and writes its crops; zeros if it cannot be shown."""
    started, read_before = time.perf_counter(), reads_so_far()
    source, failure = "", None
    try:
        source = slot.render(out_CPD)
    except (MediaError, StoreError) as error:
        out_CPD[...] = 0
        failure = error
    reads = reads_so_far().since(read_before)
    return Rendered(source, failure, reads, time.perf_counter() - started - reads.seconds)


def _blank(batch: Batch, row: int, info: ExampleInfo, failure: MediaError | StoreError) -> ExampleInfo:
    """Takes the example's weight and crops away; its tokens stay, so that every other index in the row holds."""
    batch["loss_weights"][row, slice(*info.tokens)] = 0
    batch["images"][row, slice(*info.crops)] = 0
    reason = failure.reason if isinstance(failure, MediaError) else "unreadable_record"
    return replace(info, blanked=reason, detail=str(failure))
