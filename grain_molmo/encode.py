"""An example's visit to tokens and media slots: cheap, pure, and without a pixel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, cast

import numpy as np

from grain_molmo.datasets.base import Dataset, metadata_of
from grain_molmo.datasets.lessons import shown_by, with_lesson
from grain_molmo.errors import DamagedRecordError, ExampleError
from grain_molmo.packing.draw import Draw
from grain_molmo.rng import example_rng
from grain_molmo.slots import FramesSlot, MediaSlot, PictureSlot
from grain_molmo.stages import Stage
from grain_molmo.text.assemble import TokenArrays, assemble, assemble_prompt, truncate
from grain_molmo.text.format import format_example
from grain_molmo.text.subtitles import subtitle_text
from grain_molmo.text.tokenizer import Tokenizer
from grain_molmo.vision.chosen import shown_times, with_chosen_as_video
from grain_molmo.vision.crops import select_tiling
from grain_molmo.vision.frames import FrameSampling, clip_window
from grain_molmo.vision.pictures import picture_size_hw
from grain_molmo.vision.videos import as_video
from grain_molmo.visual_tokens import frame_tokens, picture_tokens, text_tokens

_LEAST_SHARE_OF_TEXT = 8
"""Frames leave one token in so many to the text, unless the text needs less."""

Conversations = list[str] | list[list[str]]


class Lengths(NamedTuple):
    """What an example takes of a row, and the work to render it.

    Attributes:
        n_tokens, n_crops, n_pooled: of a row's tokens, crops and rows of `token_pooling`.
        cost: in crops of a picture.
    """

    n_tokens: int
    n_crops: int
    n_pooled: int
    cost: int


@dataclass(frozen=True)
class EncodedExample:
    """All of an example's visit but its pixels.

    Attributes:
        draw: which example of which dataset and epoch.
        id: the example's own, for people.
        arrays: its tokens.
        slots: its pictures, or the frames of its video, in order.
        metadata: what its dataset says beside, for whoever reads the batch.
    """

    draw: Draw
    id: str
    arrays: TokenArrays
    slots: tuple[MediaSlot, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_tokens(self) -> int:
        """Tokens it takes of a row."""
        return len(self.arrays)

    @property
    def n_crops(self) -> int:
        """Crops it takes of a row."""
        return sum(slot.n_crops for slot in self.slots)

    @property
    def n_pooled(self) -> int:
        """Rows it takes of a row's `token_pooling`."""
        return sum(slot.n_pooled for slot in self.slots)

    @property
    def lengths(self) -> Lengths:
        """All that it takes of a row."""
        return Lengths(self.n_tokens, self.n_crops, self.n_pooled, sum(slot.cost for slot in self.slots))


@dataclass(frozen=True)
class LostExample:
    """Stands in a row for an example that was planned by its lengths and can no longer be encoded.

    It keeps the example's place: tokens of padding, crops of zeros, no pooling, no loss weight.

    Attributes:
        draw: which example of which dataset and epoch.
        n_tokens, n_crops, n_pooled: the place it takes.
        reason: why, in a short stable word.
        detail: what exactly was wrong.
        id: the example's own, where it is known.
    """

    draw: Draw
    n_tokens: int
    n_crops: int
    n_pooled: int
    reason: str
    detail: str
    id: str = ""


@dataclass(frozen=True)
class Encoder:
    """Encodes draws: `encoder(draw)` is a function of the draw, the seed and what is configured here.

    Args:
        datasets: by the name that the draws use.
        stage: lengths, formats and weights.
        tokenizer: text to ids.
        seed: the run's.
        training: whether prompts vary as in training, or are the one of evaluation, see `format_example`; and whether
            some visits are of high resolution (Molmo2 §3.7).
    """

    datasets: Mapping[str, Dataset]
    stage: Stage
    tokenizer: Tokenizer
    seed: int
    training: bool = True

    def __call__(self, draw: Draw) -> EncodedExample:
        """The encoded example.

        Raises:
            ExampleError: its text or media cannot become tokens of this stage, or its annotation is damaged
                ("damaged_record"); `reason` says why in a word.
            StoreError: the shard of its annotation cannot be read.
        """
        rng = example_rng(self.seed, draw.dataset, draw.epoch, draw.index)
        example_id: object = draw.index
        try:
            example = self.datasets[draw.dataset].get(draw.index, rng)
            if not isinstance(example, Mapping):
                raise ExampleError("bad_example", f"get returned {type(example).__name__}, not a dict")
            example_id = metadata_of(example).get("id", draw.index)
            arrays, slots = self._encode(draw.dataset, example, rng)
            return EncodedExample(draw, str(example_id), arrays, tuple(slots), metadata_of(example))
        except ExampleError as error:
            where = f"{draw.dataset} example {draw.index} (id {example_id})"
            raise ExampleError(error.reason, f"{where}: {error.detail}", error.example_id or str(example_id)) from error
        except DamagedRecordError as error:  # of this example alone, and the same wherever the store is read
            raise ExampleError("damaged_record", f"{draw.dataset} example {draw.index}: {error}") from error
        except Exception as error:  # a dataset of the user's own may raise anything; the traceback must say where
            error.add_note(
                f"while encoding {draw.dataset} example {draw.index}, epoch {draw.epoch}; to have an example left out, "
                "its dataset raises grain_molmo.ExampleError(reason, detail)"
            )
            raise

    def _encode(
        self, dataset: str, example: Mapping[str, Any], rng: np.random.RandomState
    ) -> tuple[TokenArrays, Sequence[MediaSlot]]:
        stage, rule = self.stage, self.stage.rule(dataset)
        example = with_chosen_as_video(example)
        if example.get("video") is not None:
            conversations, visual_tokens, slots = self._with_video(example, rng)
        else:
            p_high_res = rule.p_high_res if self.training else 0.0
            conversations, visual_tokens, slots = self._with_pictures(example, p_high_res, rng)
        if stage.kind == "prompts":
            arrays = assemble_prompt(_only(conversations), visual_tokens, self.tokenizer)
            if len(arrays) > stage.seq_len:
                raise ExampleError(
                    "too_long", f"a prompt of {len(arrays)} tokens, a row has {stage.seq_len} (seq_len=)"
                )
            return arrays, slots
        arrays = assemble(
            conversations,
            visual_tokens,
            self.tokenizer,
            weighting=stage.loss.overridden(rule.loss),
            max_length=stage.seq_len,
        )
        return truncate(arrays, stage.seq_len, self.tokenizer), slots

    def _with_pictures(
        self, example: Mapping[str, Any], p_high_res: float, rng: np.random.RandomState
    ) -> tuple[Conversations, np.ndarray, list[PictureSlot]]:
        """Conversations, visual tokens and slots of an example with any number of pictures, none included."""
        stage, pictures = self.stage, _pictures(example)
        if len(pictures) > stage.max_images:
            raise ExampleError("too_many_images", f"{len(pictures)} pictures, the stage takes {stage.max_images}")
        if pictures and not stage.crops_per_row:
            raise ExampleError("too_many_crops", f"stage {stage.name!r} takes text alone (crops_per_row is 0)")
        sizes_hw = [picture_size_hw(picture) for picture in pictures]
        conversations = self._format(example, rng, image_sizes=[(width, height) for height, width in sizes_hw])
        slots: list[PictureSlot] = []
        first_crop = 0
        for picture, size_hw in zip(pictures, sizes_hw, strict=True):
            tiling = select_tiling(*size_hw, self._max_crops(len(pictures), p_high_res, rng))
            slots.append(PictureSlot(picture, tiling, first_crop))
            first_crop += tiling.n_crops
        if first_crop > stage.crops_per_row:
            raise ExampleError("too_many_crops", f"{first_crop} crops, a row of the stage has {stage.crops_per_row}")
        return conversations, picture_tokens([slot.tiling for slot in slots], self.tokenizer), slots

    def _max_crops(self, num_pictures: int, p_high_res: float, rng: np.random.RandomState) -> int:
        """How many crops a picture may be cut into (Molmo2 §3.7), the global one not counted."""
        stage = self.stage
        high_res = num_pictures == 1 and p_high_res > 0 and rng.random_sample() < p_high_res
        # A picture alone must fit a row.
        return min(stage.high_res_max_crops if high_res else stage.max_crops, stage.crops_per_row - 1)

    def _with_video(
        self, example: Mapping[str, Any], rng: np.random.RandomState
    ) -> tuple[Conversations, np.ndarray, list[FramesSlot]]:
        """Conversations, visual tokens and the slot of an example with a video (Molmo2 §4).

        Where a row has no room for all frames that the stage would show, as many are shown as fit, spread as they would
        be if the stage allowed no more.
        """
        stage = self.stage
        if stage.max_frames < 1:
            raise ExampleError("video", f"stage {stage.name!r} takes pictures and text, not video (max_frames=)")
        if example.get("image") is not None:
            raise ExampleError("mixed_media", "an example has pictures or a video, not both")
        metadata = metadata_of(example)
        video = as_video(example["video"], timestamps=example.get("timestamps"), fps=metadata.get("video_fps"))
        clip_start_s, duration_s = clip_window(
            video.duration_s, metadata.get("clip_start_time"), metadata.get("clip_end_time")
        )
        sampling = FrameSampling(max_frames=stage.max_frames, max_fps=stage.max_fps)
        sampling = sampling.overridden(metadata.get("sampler_overrides"))
        before = rng.get_state()

        def show(max_frames: int) -> tuple[np.ndarray, Conversations, np.ndarray]:
            rng.set_state(before)
            times_s = shown_times(video, clip_start_s, duration_s, replace(sampling, max_frames=max_frames))
            conversations = self._format(
                example, rng, image_sizes=[(video.width, video.height)], frame_times=times_s.tolist()
            )
            subtitles = text_tokens(subtitle_text(example.get("subtitle") or "", times_s.tolist()), self.tokenizer)
            return times_s, conversations, np.concatenate([frame_tokens(times_s, self.tokenizer), subtitles])

        times_s, conversations, visual_tokens = show(stage.max_frames)
        n_wanted = len(times_s)
        while (excess := self._excess(conversations, len(visual_tokens))) > 0:
            n_frames = len(times_s) - max(1, excess * len(times_s) // len(visual_tokens))
            if n_frames < 1:
                takes = f"{len(times_s)} frames and the subtitle take {len(visual_tokens)} tokens"
                raise ExampleError("too_long", f"{takes}; a row of {stage.seq_len} has no room for a frame")
            times_s, conversations, visual_tokens = show(n_frames)
        return conversations, visual_tokens, [FramesSlot(video, times_s, clip_start_s, n_wanted)]

    def _excess(self, conversations: Conversations, n_visual: int) -> int:
        """Tokens by which the media, and as much text as they must leave room for, exceed a row; below 1, all fits.

        To a prompt they leave room for all of it, for it cannot be cut.
        """
        seq_len, is_prompt = self.stage.seq_len, self.stage.kind == "prompts"
        most_text = seq_len // _LEAST_SHARE_OF_TEXT
        excess = 1 + n_visual + most_text - seq_len
        if excess <= 0 and not is_prompt:  # nearly always; the text need not be counted
            return excess
        branches = cast("list[list[str]]", [conversations] if isinstance(conversations[0], str) else conversations)
        # The last of a branch is predicted, but no input; a prompt has one turn more.
        n_ends = sum((len(branch) - 1) // 2 for branch in branches)
        n_text = n_ends + sum(len(self.tokenizer.encode(text)) for branch in branches for text in branch)
        return excess - most_text + (n_text if is_prompt else min(n_text, most_text))

    def _format(
        self,
        example: Mapping[str, Any],
        rng: np.random.RandomState,
        *,
        image_sizes: Sequence[tuple[int, int]],
        frame_times: Sequence[float] | None = None,
    ) -> Conversations:
        stage = self.stage
        return format_example(
            with_lesson(example, shown_by(example)),
            rng,
            style_mode=stage.style_mode,
            prompt_mode=stage.prompt_mode,
            image_sizes=image_sizes,
            point_format=stage.point_format,
            frame_times=frame_times,
            training=self.training,
            answered=stage.kind != "prompts",
        )


def _only(conversations: Conversations) -> list[str]:
    """The one conversation of a prompt."""
    if isinstance(conversations[0], str):
        return cast("list[str]", conversations)
    if len(conversations) > 1:
        raise ExampleError(
            "many_prompts",
            f"the example has {len(conversations)} conversations, and a prompt is one: take each for itself, with "
            "grain_molmo.EachMessage(dataset)",
        )
    return cast("list[str]", conversations[0])


def _pictures(example: Mapping[str, Any]) -> list[Any]:
    image = example.get("image")
    if image is None:
        return []
    return list(image) if isinstance(image, list | tuple) else [image]
