"""From an example, or a row of a batch, to what a view shows of it. Nothing is decoded here."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from grain_molmo.datasets.base import Dataset, metadata_of
from grain_molmo.datasets.lessons import pointing_messages, shown_by
from grain_molmo.encode import EncodedExample, Encoder
from grain_molmo.errors import ExampleError, GrainMolmoError
from grain_molmo.packing.mixture import Draw
from grain_molmo.recipes import find_stage
from grain_molmo.rng import example_rng, stable_hash
from grain_molmo.slots import FramesSlot, PictureSlot
from grain_molmo.stages import Stage
from grain_molmo.text.outside import points_outside
from grain_molmo.text.subtitles import Cue, subtitle_cues
from grain_molmo.text.times import time_string
from grain_molmo.text.tokenizer import Tokenizer, load_tokenizer
from grain_molmo.view.fields import shown_value, text_of
from grain_molmo.view.marks import Pointed, held_marks, held_points, pointed_at, tracks_of
from grain_molmo.view.model import MOST_STILLS, Conversation, ExampleCard, Film, Grid, Picture, Span, Still
from grain_molmo.view.row_view import Branch, join_frames, pooling_grid, read_conversations
from grain_molmo.vision.chosen import with_chosen_as_video
from grain_molmo.vision.crops import FRAME_POOLED, Tiling, frame_pooling, pooling_indices
from grain_molmo.vision.frames import clip_window
from grain_molmo.vision.pictures import picture_pixels, picture_size_hw
from grain_molmo.vision.videos import Video, as_video, default_times

_POINTED_SHARE = 2 / 3
"""Of the stills, so many at most are kept for frames that something is pointed at in."""
_SHORTEST_GAP_S = 0.05
"""Times are said with one decimal."""
_FRAME_SIDE = 9


def describe_example(
    dataset: Dataset,
    index: int,
    *,
    name: str | None = None,
    stage: str | Stage = "sft",
    tokenizer: str | Tokenizer = "bytes",
    max_stills: int = MOST_STILLS,
    seed: int = 0,
) -> ExampleCard:
    """What there is to show of an example: its media, and what a stage makes of it.

    What is wrong with an example is said in the card's `problem`, with whatever of it can still be shown.

    Args:
        dataset: it is one of.
        index: which one, from 0.
        name: the dataset's; default its own.
        stage: how prompts are put, pictures cut and frames chosen.
        tokenizer: what the text becomes tokens with.
        max_stills: frames of a video to show.
        seed: of the random choices, as of a loader's first epoch.

    Raises:
        ConfigError: an unknown stage or tokenizer.
        IndexError: there is no such example.
    """
    chosen, chosen_tokenizer = find_stage(stage), load_tokenizer(tokenizer)
    index = range(len(dataset))[index]
    name = name or name_of(dataset)
    encoder = Encoder({name: dataset}, chosen, chosen_tokenizer, seed)
    example, problem = _example(dataset, index, example_rng(seed, name, 0, index))
    encoded: EncodedExample | None = None
    if not problem and "features" not in example:
        encoded, problem = _encoded(encoder, Draw(name, 0, index))
    subject = _Subject(name, index, example, encoded, chosen_tokenizer, max_stills)
    try:
        return subject.card(problem)
    except Exception as error:  # of an example that is not what it seems; the others are still to be seen
        return ExampleCard(dataset=name, index=index, id=str(index), problem=problem or _words_of(error))


def name_of(dataset: Dataset) -> str:
    """What a dataset is called where nobody named it: its set, or its class."""
    return str(getattr(dataset, "NAME", "") or type(dataset).__name__)


def _example(dataset: Dataset, index: int, rng: np.random.RandomState) -> tuple[Mapping[str, Any], str]:
    """The example, or none and why."""
    try:
        example = dataset.get(index, rng)
    except Exception as error:  # a dataset of the user's own may raise anything, and the others are still to be seen
        return {}, _words_of(error)
    return (example, "") if isinstance(example, Mapping) else ({}, f"get returned {type(example).__name__}, not a dict")


def _encoded(encoder: Encoder, draw: Draw) -> tuple[EncodedExample | None, str]:
    """The example as tokens, one without an answer as a prompt; and why it cannot be learned from, if so."""
    try:
        return encoder(draw), ""
    except Exception as error:  # as above
        problem = _words_of(error)
    try:
        return replace(encoder, stage=replace(encoder.stage, kind="prompts"))(draw), problem
    except Exception:  # the first one says more
        return None, problem


def _words_of(error: Exception) -> str:
    if isinstance(error, ExampleError):
        return f"{error.reason}: {error.detail}"
    return str(error) if isinstance(error, GrainMolmoError) else f"{type(error).__name__}: {text_of(error)}"


class _Clip(NamedTuple):
    """What is shown of a video."""

    video: Video
    times_s: np.ndarray
    start_s: float
    duration_s: float


@dataclass(frozen=True)
class _Subject:
    """An example as its dataset gave it, and as it was encoded, if it could be."""

    dataset: str
    index: int
    example: Mapping[str, Any]
    encoded: EncodedExample | None
    tokenizer: Tokenizer
    max_stills: int

    def card(self, problem: str) -> ExampleCard:
        shared, branches = self._conversations()
        sizes = list(self._sizes())
        pointed = [one for i, branch in enumerate(branches) for one in pointed_at(branch.text, i, sizes)]
        return ExampleCard(
            dataset=self.dataset,
            index=self.index,
            id=text_of(metadata_of(self.example).get("id", self.index)),
            facts=self._facts(),
            pictures=tuple(self._pictures(pointed, len(branches))),
            film=self._film(pointed),
            shared=tuple(join_frames(shared)),
            conversations=tuple(Conversation(tuple(join_frames(branch.spans)), i) for i, branch in enumerate(branches)),
            fields={
                text_of(key): shown_value(value) for key, value in self.example.items() if key not in ("image", "video")
            },
            problem=problem,
        )

    def _conversations(self) -> tuple[tuple[Span, ...], tuple[Branch, ...]]:
        if self.encoded is None:
            return (), ()
        arrays = self.encoded.arrays
        n = len(arrays)
        subsegments = np.zeros(n, np.int32) if arrays.subsegment_ids is None else arrays.subsegment_ids
        fields = ("input_tokens", "target_tokens", "loss_weights")
        row = {**{key: getattr(arrays, key) for key in fields}, "subsegment_ids": subsegments}
        return read_conversations(row, 0, n, self.tokenizer)

    def _given_pictures(self) -> list[Any]:
        image = with_chosen_as_video(self.example).get("image")
        if image is None:
            return []
        return list(image) if isinstance(image, list | tuple) else [image]

    def _clip(self) -> _Clip | None:
        """The frames that the stage shows; of a video that it does not take, some."""
        given = with_chosen_as_video(self.example).get("video")
        if given is None:
            return None
        metadata = metadata_of(self.example)
        try:
            video = as_video(given, timestamps=self.example.get("timestamps"), fps=metadata.get("video_fps"))
            start_s, duration_s = clip_window(
                video.duration_s, metadata.get("clip_start_time"), metadata.get("clip_end_time")
            )
            slots = self.encoded.slots if self.encoded else ()
            slot = next((slot for slot in slots if isinstance(slot, FramesSlot)), None)
            return _Clip(video, default_times(duration_s) if slot is None else slot.times_s, start_s, duration_s)
        except GrainMolmoError:  # the problem says so
            return None

    def _sizes(self) -> Iterator[tuple[int, int]]:
        """(width, height) of each picture that has one, or of the video."""
        if clip := self._clip():
            yield clip.video.width, clip.video.height
        for picture in self._given_pictures():
            try:
                height, width = picture_size_hw(picture)
            except GrainMolmoError:  # the problem names it
                continue
            yield width, height

    def _facts(self) -> dict[str, str]:
        metadata = metadata_of(self.example)
        facts = {key: text_of(metadata[key]) for key in ("source", "split", "url") if metadata.get(key) is not None}
        if self.encoded is None:
            return facts
        weight = float(self.encoded.arrays.loss_weights.sum())
        facts |= {"tokens": f"{self.encoded.n_tokens:,}", "loss weight": f"{weight:,.4g}"}
        if moved := self._num_outside():
            facts["points outside"] = f"{moved:,}, moved to the edge"
        if self.encoded.n_crops:
            facts |= {"crops": f"{self.encoded.n_crops:,}", "pooled": f"{self.encoded.n_pooled:,}"}
        return facts

    def _num_outside(self) -> int:
        """Points of the example that lie outside of its picture or video."""
        example, sizes = with_chosen_as_video(self.example), list(self._sizes())
        messages = pointing_messages(example, shown_by(example))
        return sum(len(list(points_outside(message, sizes))) for _, message in messages)

    def _pictures(self, pointed: Sequence[Pointed], group: int) -> Iterator[Picture]:
        pictures = self._given_pictures()
        slots = [slot for slot in self.encoded.slots if isinstance(slot, PictureSlot)] if self.encoded else []
        for number, picture in enumerate(pictures, start=1):
            try:
                height, width = picture_size_hw(picture)
            except GrainMolmoError:
                continue
            marks = tuple(one.mark for one in pointed if one.frame == number)
            if number == 1:
                if not pointed and len(pictures) == 1:
                    marks = held_points(self.example, (width, height))
                marks += held_marks(self.example, (width, height), group)
            yield Picture(
                title=f"picture {number}" if len(pictures) > 1 else "picture",
                width=width,
                height=height,
                decode=functools.partial(picture_pixels, picture),
                key=self._key(picture, number),
                marks=marks,
                grid=tiling_grid(slots[number - 1].tiling) if number <= len(slots) else None,
            )

    def _key(self, medium: Any, number: int) -> str:
        """Stored media by their content; of others it is only known where they were found."""
        ref = getattr(medium, "ref", None)
        if ref is not None:
            return str(ref.sha256)[:24]
        return f"{stable_hash(self.dataset, self.index, number):016x}"

    def _film(self, pointed: Sequence[Pointed]) -> Film | None:
        clip = self._clip()
        if clip is None:
            return None
        video, times = clip.video, [time_string(time_s) for time_s in clip.times_s.tolist()]
        cues = _cues(self.example)
        shown = choose_stills([float(time) for time in times], [one.frame for one in pointed], self.max_stills)
        times_s = clip.times_s[shown]
        return Film(
            title="video",
            width=video.width,
            height=video.height,
            duration_s=clip.duration_s,
            stills=tuple(still(times[number], pointed, cues) for number in shown),
            num_frames=len(times),
            decode=functools.partial(video.decode, times_s, clip.start_s),
            key=f"{self._key(video, 0)}-{stable_hash(str(clip.start_s), *map(str, times_s.tolist())):016x}",
            tracks=tracks_of(pointed),
            subtitles=tuple(cues),
            grid=FRAME_GRID,
        )


def _cues(example: Mapping[str, Any]) -> list[Cue]:
    """The subtitle's cues; a text without times is one for all of the clip."""
    subtitle = example.get("subtitle")
    if isinstance(subtitle, str):
        return [(0.0, float("inf"), subtitle)] if subtitle.strip() else []
    try:
        return subtitle_cues(subtitle)
    except ExampleError:  # the problem says so
        return []


def still(time: str, pointed: Sequence[Pointed], cues: Sequence[Cue]) -> Still:
    """A frame with what is pointed at and said at its time, seconds with one decimal."""
    try:
        time_s = float(time)
    except ValueError:  # an array of frames whose times are not said
        return Still(time=time)
    marks = tuple(one.mark for one in pointed if abs(one.frame - time_s) < _SHORTEST_GAP_S)
    said = [text for start_s, end_s, text in cues if start_s <= time_s < end_s]
    return Still(time=time, marks=marks, subtitle=" ".join(said))


def choose_stills(times_s: Sequence[float], pointed_s: Sequence[float], most: int) -> list[int]:
    """Numbers of the frames to show, ascending: some that are pointed at, the rest spread evenly.

    >>> choose_stills([0, 1, 2, 3, 4, 5, 6, 7], [6.0], 3)
    [0, 6, 7]
    """
    at = [i for i, time_s in enumerate(times_s) if any(abs(time_s - one) < _SHORTEST_GAP_S for one in pointed_s)]
    first = _some(at, max(1, int(most * _POINTED_SHARE)))
    taken = set(first)
    others = [i for i in range(len(times_s)) if i not in taken]
    return sorted([*first, *_some(others, most - len(first))])


def _some(numbers: Sequence[int], most: int) -> list[int]:
    places = np.linspace(0, len(numbers) - 1, min(most, len(numbers))).round().astype(int)
    return [numbers[place] for place in places]


@functools.lru_cache(maxsize=256)
def tiling_grid(tiling: Tiling) -> Grid:
    """How the detailed view of a picture is cut, which is the picture from edge to edge."""
    rows, cols = tiling.pooled_hw
    return pooling_grid(pooling_indices(tiling)[-rows * cols :], rows, cols)


FRAME_GRID = pooling_grid(frame_pooling(), _FRAME_SIDE, FRAME_POOLED // _FRAME_SIDE)
"""How a frame of a video is cut: one crop of 9 x 9 visual tokens."""
