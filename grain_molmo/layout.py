"""Where a row's media lie in its `images` and `token_pooling`, when context shards share the row.

Without context shards, media lie side by side from the first crop on. With n of them, `images` and `token_pooling`
are n blocks of equal size, block i of each for context shard i, so that a shard finds in its own crops all patches that
its own windows pool. Media keep their order. A picture lies whole in one shard, for its windows pool patches of several
crops; a video may be cut between two frames.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from grain_molmo.errors import ConfigError
from grain_molmo.stages import Stage
from grain_molmo.vision.crops import PATCHES_PER_CROP, VALUES_PER_PATCH

_ARRAYS_OF_TOKENS = 6
_MOST_POOLED = 196  # a crop pools to at most so many visual tokens, a picture's detailed view being of one crop


class Medium(NamedTuple):
    """A picture or a video of a row: its crops, the rows of `token_pooling` it fills, whether it may be cut."""

    n_crops: int
    n_pooled: int
    divisible: bool


@dataclass(frozen=True)
class Piece:
    """Crops of one medium that lie side by side in one shard, and the rows of `token_pooling` that pool them.

    Attributes:
        shard: which context shard.
        crops_of_medium, pooled_of_medium: which of the medium's they are.
        crops: where they lie in the shard's block of `images`.
        pooled: where they lie in the shard's block of `token_pooling`.
    """

    shard: int
    crops_of_medium: slice
    pooled_of_medium: slice
    crops: slice
    pooled: slice


@dataclass(frozen=True)
class RowLayout:
    """The shapes of a row, cut for so many context shards.

    A pooling index counts patches from the row's first crop, so that one gather serves the whole row; a shard that
    has only its own block of crops subtracts `shard * patches_per_shard`. Rows of -1 end each block of `token_pooling`:
    the row's k-th `<im_patch>` takes the k-th row of `token_pooling` that isn't all -1.

    Attributes:
        n_context: context shards, 1 for none.
        tokens: tokens a row (T), a multiple of `n_context`.
        crops_per_shard: crops of each block of `images`.
        pooled_per_shard: rows of each block of `token_pooling`.
        pooling_width: patches pooled into a visual token at most.
    """

    n_context: int
    tokens: int
    crops_per_shard: int
    pooled_per_shard: int
    pooling_width: int

    @classmethod
    def of(cls, stage: Stage, n_context: int = 1) -> "RowLayout":
        """The smallest layout with room for every row of the `stage`, cut into `n_context` shards.

        Raises:
            ConfigError: the stage's tokens do not divide among the shards.
        """
        if n_context < 1 or stage.seq_len % n_context:
            raise ConfigError(f"seq_len {stage.seq_len} does not divide among {n_context} context shards")
        crops = crops_for_any_row(stage.crops_per_row, _crops_of_largest_picture(stage), n_context)
        pooled = min(stage.seq_len, crops * _MOST_POOLED)  # each is a token of the row's
        return cls(n_context, stage.seq_len, crops, pooled, stage.pooling_width)

    @property
    def crops(self) -> int:
        """Crops of `images` (C)."""
        return self.n_context * self.crops_per_shard

    @property
    def pooled(self) -> int:
        """Rows of `token_pooling` (P)."""
        return self.n_context * self.pooled_per_shard

    @property
    def patches_per_shard(self) -> int:
        """What a shard subtracts from its pooling indices, times its number, to count in its own crops."""
        return self.crops_per_shard * PATCHES_PER_CROP

    def row_bytes(self, n_shards: int | None = None) -> int:
        """Bytes of a row whose images are there of `n_shards` context shards; by default of all."""
        crops = self.crops_per_shard * (self.n_context if n_shards is None else n_shards)
        return crops * PATCHES_PER_CROP * VALUES_PER_PATCH + 4 * (
            self.tokens * _ARRAYS_OF_TOKENS + self.pooled * self.pooling_width
        )

    def shards_of_tokens(self, start: int, stop: int) -> range:
        """The context shards that have a row's tokens [start, stop)."""
        per_shard = self.tokens // self.n_context
        return range(start // per_shard, -(-stop // per_shard))

    def place(self, media: Sequence[Medium]) -> list[list[Piece]]:
        """The pieces of each of a row's media, crops spread over the shards as evenly as their order allows.

        Raises ValueError for a row that the stage's planner would not make.
        """
        total = sum(medium.n_crops for medium in media)
        least = max([-(-total // self.n_context), *(medium.n_crops for medium in media if not medium.divisible)])
        most = max(least, self.crops_per_shard)
        # Whatever fits into shards of some size fits into larger ones: the smallest is found by halving.
        size = least + bisect_left(
            range(least, most), True, key=lambda size: _shards_filled(media, size) <= self.n_context
        )
        if size > self.crops_per_shard or _shards_filled(media, size) > self.n_context:
            raise ValueError(f"a row of {total} crops does not fit {self.n_context} x {self.crops_per_shard}")
        pieces: list[list[Piece]] = [[] for _ in media]
        crops, pooled = [0] * self.n_context, [0] * self.n_context
        for number, shard, first, n_crops in _cuts(media, size):
            medium = media[number]
            start, stop = (medium.n_pooled * crop // medium.n_crops for crop in (first, first + n_crops))
            pieces[number].append(
                Piece(
                    shard,
                    slice(first, first + n_crops),
                    slice(start, stop),
                    _next(crops, shard, n_crops),
                    _next(pooled, shard, stop - start),
                )
            )
        return pieces


def _next(filled: list[int], shard: int, count: int) -> slice:
    """So many places of the shard's block after those that are filled, which are then filled, too."""
    filled[shard] += count
    return slice(filled[shard] - count, filled[shard])


def _crops_of_largest_picture(stage: Stage) -> int:
    high_res = any(rule.p_high_res > 0 for rule in stage.rules.values())
    tiled = max(stage.max_crops, stage.high_res_max_crops) if high_res else stage.max_crops
    return min(1 + tiled, stage.crops_per_row)


def crops_for_any_row(crops: int, picture: int, n_shards: int) -> int:
    """The least room per shard in which every row finds place, its media in order, its pictures uncut.

    To fill each shard before the next is the best one can do in order, so room lacks only for a row that overfills
    the last shard that way. The shortest such row is known, see `_least_that_overfills`; room is enough as soon as that
    one is longer than a row can be.

    Args:
        crops: crops of a row at most, in media of which only videos may be cut.
        picture: crops of a picture at most.
        n_shards: how many shards.
    """
    return next(room for room in range(picture, crops + 1) if _least_that_overfills(room, picture, n_shards) > crops)


def _least_that_overfills(room: int, picture: int, n_shards: int) -> int:
    """Crops of the shortest row that overfills shards of such room, filled one after another.

    Let p_i be the picture that begins shard i because shard i - 1 had no room for it (p_n the one that finds no place).
    Shard i - 1 then holds more than room - p_i, and at least the p_{i-1} that it began with. Where two of the largest
    pictures fit a shard, all p_i are that large: each shard wastes the most. Where not, a large p_i fills its own shard
    itself; it pays to have large and small ones in turn, two shards together one crop above their room.
    """
    if room + 1 >= 2 * picture:
        return n_shards * (room + 1 - picture) + picture
    pairs, odd = divmod(n_shards + 1, 2)
    return pairs * (room + 1) + odd * (room + 1 - picture)


def _cuts(media: Iterable[Medium], size: int) -> Iterable[tuple[int, int, int, int]]:
    """The row cut for shards of such a size, each filled before the next: (medium, shard, first crop, crops)."""
    shard, room = 0, size
    for number, medium in enumerate(media):
        first = 0
        while first < medium.n_crops:
            left = medium.n_crops - first
            if room < (1 if medium.divisible else left):
                shard, room = shard + 1, size
            n_crops = min(left, room)
            yield number, shard, first, n_crops
            first, room = first + n_crops, room - n_crops


def _shards_filled(media: Iterable[Medium], size: int) -> int:
    """How many shards of such a size the row takes."""
    return max((shard for _, shard, _, _ in _cuts(media, size)), default=-1) + 1
