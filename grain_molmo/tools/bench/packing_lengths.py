"""Lengths of examples: drawn as a mixture would give them, without data, or those of a store."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from grain_molmo.encode import Encoder
from grain_molmo.errors import ExampleError
from grain_molmo.lengths import LengthIndex
from grain_molmo.packing.mixture import MixedStream
from grain_molmo.stage_data import plan_phases
from grain_molmo.stages import LONG_CONTEXT_STAGE, SFT_STAGE, STAGES, Stage
from grain_molmo.vision.crops import PATCHES_PER_CROP, VALUES_PER_PATCH, select_tiling

_CROP_BYTES = PATCHES_PER_CROP * VALUES_PER_PATCH
_MAX_CROPS = 8
_TOKENS_PER_FRAME = 89

# Share of the mixture, and mean and spread of the logarithm of the text's tokens.
_PRETRAINING_TEXTS = (
    (0.60, 5.5, 0.35),  # dense captions: about 250 tokens
    (0.25, 4.6, 0.70),  # points
    (0.05, 3.5, 0.40),  # counts
    (0.05, 4.5, 0.70),  # questions about documents
    (0.05, 4.8, 0.60),  # dialogues
)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows to pack into, and what the published packer makes of them.

    Attributes:
        max_tokens, max_crops: budgets of a row.
        image_weight: what the published packer counts a crop for, where a token counts 1 (Molmo2 §7.1).
        crop_bytes: of a decoded crop while it waits there (Molmo2 §3.2).
    """

    max_tokens: int
    max_crops: int
    image_weight: int
    crop_bytes: int = _CROP_BYTES


@dataclass(frozen=True, kw_only=True)
class LengthMixture(Rows):
    """Generated data to pack; `draw` gives tokens and crops of one example."""

    draw: Callable[[np.random.RandomState], tuple[int, int]]

    def examples(self, count: int, seed: int) -> list[tuple[int, int]]:
        """(tokens, crops) of each example; an example longer than a row is cut to it."""
        rng = np.random.RandomState(np.random.MT19937(seed))
        drawn = (self.draw(rng) for _ in range(count))
        return [(min(tokens, self.max_tokens), min(crops, self.max_crops)) for tokens, crops in drawn]


def rows_of(stage: Stage) -> Rows:
    """The rows of a stage. As published, crops weigh more where there is video, and are bytes there, not floats."""
    weight, crop_bytes = (30, _CROP_BYTES) if stage.max_frames else (1, 4 * _CROP_BYTES)
    return Rows(max_tokens=stage.seq_len, max_crops=stage.crops_per_row, image_weight=weight, crop_bytes=crop_bytes)


def stored_examples(encoder: Encoder, data_dir: Path, count: int) -> tuple[list[tuple[int, int]], int]:
    """(tokens, crops) of the first examples of a run, and how many of them an index knew; the others are encoded."""
    sizes = {name: len(dataset) for name, dataset in encoder.datasets.items()}
    stream = MixedStream(plan_phases(encoder.stage, encoder.datasets)[0].weights, sizes, encoder.seed)
    index = LengthIndex.open(data_dir, encoder)
    lengths: list[tuple[int, int]] = []
    num_known = 0
    for draw in stream:
        known = index.get(draw)
        try:
            tokens, crops, _, _ = known or encoder(draw).lengths
        except ExampleError:
            continue
        num_known += known is not None
        lengths.append((tokens, crops))
        if len(lengths) == count:
            break
    return lengths, num_known


def _text(rng: np.random.RandomState, mean: float, spread: float) -> int:
    return int(rng.lognormal(mean, spread))


def _picture(rng: np.random.RandomState) -> tuple[int, int]:
    """A picture of log-normal height (median 735 pixels) and aspect ratio (median 1.1), cut into at most 8 crops."""
    height = float(np.clip(rng.lognormal(6.6, 0.4), 150, 3000))
    width = float(np.clip(height * rng.lognormal(0.1, 0.35), 150, 3000))
    tiling = select_tiling(int(height), int(width), _MAX_CROPS)
    return tiling.n_tokens, tiling.n_crops


def draw_pretraining(rng: np.random.RandomState) -> tuple[int, int]:
    """A picture with the text of one of five datasets, 60/25/5/5/5."""
    kind = int(rng.choice(len(_PRETRAINING_TEXTS), p=[share for share, _, _ in _PRETRAINING_TEXTS]))
    tokens, crops = _picture(rng)
    return tokens + _text(rng, *_PRETRAINING_TEXTS[kind][1:]), crops


def draw_instructions(rng: np.random.RandomState, max_frames: int) -> tuple[int, int]:
    """15 % text, 45 % one picture, 15 % two to five, 25 % video: a crop and 89 tokens for each frame shown."""
    kind = rng.random_sample()
    if kind < 0.15:
        return int(np.clip(rng.lognormal(6, 0.9), 20, 8000)), 0
    if kind < 0.75:
        pictures = [_picture(rng) for _ in range(1 if kind < 0.6 else rng.randint(2, 6))]
        tokens, crops = (sum(lengths) for lengths in zip(*pictures, strict=True))
        return tokens + _text(rng, 4.5, 0.8), crops
    frames = int(np.clip(rng.lognormal(4, 0.8), 4, max_frames))
    return frames * _TOKENS_PER_FRAME + _text(rng, 5, 1), frames


MIXTURES = {
    name: LengthMixture(**vars(rows_of(STAGES[name])), draw=draw)
    for name, draw in {
        "pretraining": draw_pretraining,
        "sft": partial(draw_instructions, max_frames=SFT_STAGE.max_frames),
        "long_context": partial(draw_instructions, max_frames=LONG_CONTEXT_STAGE.max_frames),
    }.items()
}
"""By the name of the stage whose rows they are packed into."""
