"""Lengths of examples, drawn as a mixture would give them, without data."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from grain_molmo.vision.crops import select_tiling

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


@dataclass(frozen=True)
class LengthMixture:
    """A kind of data to pack.

    Attributes:
        draw: tokens and crops of one example.
        max_tokens, max_crops: budgets of a row.
        image_weight: what the published packer counts a crop for, where a token counts 1 (Molmo2 §7.1).
    """

    draw: Callable[[np.random.RandomState], tuple[int, int]]
    max_tokens: int
    max_crops: int
    image_weight: int

    def examples(self, count: int, seed: int) -> list[tuple[int, int]]:
        """(tokens, crops) of each example; an example longer than a row is cut to it."""
        rng = np.random.RandomState(np.random.MT19937(seed))
        drawn = (self.draw(rng) for _ in range(count))
        return [(min(tokens, self.max_tokens), min(crops, self.max_crops)) for tokens, crops in drawn]


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


def draw_sft(rng: np.random.RandomState) -> tuple[int, int]:
    """15 % text, 45 % one picture, 15 % two to five, 25 % video: a crop and 89 tokens for each of up to 128 frames."""
    kind = rng.random_sample()
    if kind < 0.15:
        return int(np.clip(rng.lognormal(6, 0.9), 20, 8000)), 0
    if kind < 0.75:
        pictures = [_picture(rng) for _ in range(1 if kind < 0.6 else rng.randint(2, 6))]
        tokens, crops = (sum(lengths) for lengths in zip(*pictures, strict=True))
        return tokens + _text(rng, 4.5, 0.8), crops
    frames = int(np.clip(rng.lognormal(4, 0.8), 4, 128))
    return frames * _TOKENS_PER_FRAME + _text(rng, 5, 1), frames


MIXTURES = {
    "pretraining": LengthMixture(draw_pretraining, max_tokens=4096, max_crops=24, image_weight=1),
    "sft": LengthMixture(draw_sft, max_tokens=16_384, max_crops=128, image_weight=30),
}
