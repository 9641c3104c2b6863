"""An example's visit to tokens and media slots: cheap, pure, and without a pixel."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from grain_molmo.datasets.base import Dataset
from grain_molmo.errors import ExampleError
from grain_molmo.packing.mixture import Draw
from grain_molmo.rng import example_rng
from grain_molmo.stages import Stage
from grain_molmo.text.assemble import TokenArrays, assemble, truncate
from grain_molmo.text.format import format_example
from grain_molmo.text.tokenizer import Tokenizer
from grain_molmo.vision.crops import PATCHES_PER_CROP, Tiling, layout_tokens, pooling_indices, select_tiling

POOLING_WIDTH = 4
"""Patches averaged into one visual token of an image: windows of 2 x 2."""


@dataclass(frozen=True)
class MediaSlot:
    """A picture of an example and the crops it will fill.

    Attributes:
        picture: LazyImage, [H, W, 3] uint8 array or PIL image; not decoded yet.
        tiling: how it is cut.
        first_crop: where its crops begin among the example's.
    """

    picture: Any
    tiling: Tiling
    first_crop: int


@dataclass(frozen=True)
class EncodedExample:
    """All of an example's visit but its pixels.

    Attributes:
        draw: which example of which dataset and epoch.
        id: the example's own, for people.
        arrays: its tokens.
        token_pooling: [p, 4] int32, the patches averaged into each visual token, counted from the example's first
            crop; -1 is none.
        slots: its pictures in order.
    """

    draw: Draw
    id: str
    arrays: TokenArrays
    token_pooling: np.ndarray
    slots: tuple[MediaSlot, ...]

    @property
    def n_tokens(self) -> int:
        """Tokens it takes of a row."""
        return len(self.arrays)

    @property
    def n_crops(self) -> int:
        """Crops it takes of a row."""
        return sum(slot.tiling.n_crops for slot in self.slots)


@dataclass(frozen=True)
class Encoder:
    """Encodes draws: `encoder(draw)` is a function of the draw, the seed and what is configured here.

    Args:
        datasets: by the name that the draws use.
        stage: lengths, formats and weights.
        tokenizer: text to ids.
        seed: the run's.
    """

    datasets: Mapping[str, Dataset]
    stage: Stage
    tokenizer: Tokenizer
    seed: int

    def __call__(self, draw: Draw) -> EncodedExample:
        """The encoded example.

        Raises:
            ExampleError: its text or pictures cannot become tokens of this stage; `reason` says why in a word.
            StoreError: its annotation cannot be read.
        """
        rng = example_rng(self.seed, draw.dataset, draw.epoch, draw.index)
        example_id: object = draw.index
        try:
            example = self.datasets[draw.dataset].get(draw.index, rng)
            if not isinstance(example, Mapping):
                raise ExampleError("bad_example", f"get returned {type(example).__name__}, not a dict")
            if isinstance(metadata := example.get("metadata"), Mapping):
                example_id = metadata.get("id", draw.index)
            return self._encode(draw, str(example_id), example, rng)
        except ExampleError as error:
            where = f"{draw.dataset} example {draw.index} (id {example_id})"
            raise ExampleError(error.reason, f"{where}: {error.detail}") from error
        except Exception as error:  # a dataset of the user's own may raise anything; the traceback must say where
            error.add_note(f"while encoding {draw.dataset} example {draw.index}, epoch {draw.epoch}")
            raise

    def _encode(self, draw: Draw, example_id: str, example: Mapping[str, Any], rng: Any) -> EncodedExample:
        stage, rule = self.stage, self.stage.rule(draw.dataset)
        pictures = _pictures(example)
        if len(pictures) > stage.max_images:
            raise ExampleError("too_many_images", f"{len(pictures)} pictures, the stage takes {stage.max_images}")
        sizes_hw = [_size_hw(picture) for picture in pictures]
        conversations = format_example(
            example,
            rng,
            style_mode=stage.style_mode,
            prompt_mode=stage.prompt_mode,
            image_size=(sizes_hw[0][1], sizes_hw[0][0]) if sizes_hw else None,
            point_format=stage.point_format,
        )
        max_crops = [self._max_crops(len(pictures), rule.p_high_res, rng) for _ in pictures]
        tilings = [select_tiling(*size_hw, most) for size_hw, most in zip(sizes_hw, max_crops, strict=True)]
        slots, first_crop = [], 0
        for picture, tiling in zip(pictures, tilings, strict=True):
            slots.append(MediaSlot(picture, tiling, first_crop))
            first_crop += tiling.n_crops
        if first_crop > stage.crops_per_row:
            raise ExampleError("too_many_crops", f"{first_crop} crops, a row of the stage has {stage.crops_per_row}")
        arrays = assemble(
            conversations,
            self._visual_tokens(tilings),
            self.tokenizer,
            weighting=stage.loss.overridden(rule.loss),
            max_length=stage.seq_len,
        )
        return EncodedExample(
            draw, example_id, truncate(arrays, stage.seq_len, self.tokenizer), _pooling(slots), tuple(slots)
        )

    def _max_crops(self, num_pictures: int, p_high_res: float, rng: np.random.RandomState) -> int:
        """How many crops a picture may be cut into (Molmo2 §3.7), the global one not counted."""
        stage = self.stage
        high_res = num_pictures == 1 and p_high_res > 0 and rng.random_sample() < p_high_res
        # A picture alone must fit a row.
        return min(stage.high_res_max_crops if high_res else stage.max_crops, stage.crops_per_row - 1)

    def _visual_tokens(self, tilings: list[Tiling]) -> np.ndarray:
        """[v] int32: the layout of each picture; of several, each after its number (Molmo2 §5)."""
        base = self.tokenizer.special_base
        blocks = []
        for number, tiling in enumerate(tilings, start=1):
            if len(tilings) > 1:
                blocks.append(np.array(self.tokenizer.encode(f"Image {number}"), np.int32))
            blocks.append(layout_tokens(tiling) + np.int32(base))
        return np.concatenate(blocks) if blocks else np.empty(0, np.int32)


def _pooling(slots: list[MediaSlot]) -> np.ndarray:
    if not slots:
        return np.empty((0, POOLING_WIDTH), np.int32)
    if len(slots) == 1:
        return pooling_indices(slots[0].tiling)
    return np.concatenate([shift_pooling(pooling_indices(slot.tiling), slot.first_crop) for slot in slots])


def shift_pooling(pooling: np.ndarray, first_crop: int) -> np.ndarray:
    """The same windows when the crops they speak of begin at crop `first_crop`; -1 stays -1."""
    return np.where(pooling >= 0, pooling + np.int32(first_crop * PATCHES_PER_CROP), np.int32(-1))


def _pictures(example: Mapping[str, Any]) -> list[Any]:
    if example.get("video") is not None:
        raise ExampleError("video", "this stage takes pictures and text, not video")
    image = example.get("image")
    if image is None:
        return []
    return list(image) if isinstance(image, list | tuple) else [image]


def _size_hw(picture: Any) -> tuple[int, int]:
    """Upright height and width of a picture, pixels, without decoding it."""
    shape = getattr(picture, "shape", None)
    if shape is None and hasattr(picture, "size"):  # PIL: (width, height)
        shape = (picture.size[1], picture.size[0])
    if shape is None or len(shape) not in (2, 3) or 0 in shape[:2]:
        of_shape = "" if shape is None else f" of shape {shape}"
        wanted = "an array of [H, W, 3] uint8, a PIL image or a LazyImage"
        raise ExampleError("bad_image", f"image is {type(picture).__name__}{of_shape}; it must be {wanted}")
    return int(shape[0]), int(shape[1])
