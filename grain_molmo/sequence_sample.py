"""Prompts with ids and lengths beside their packed tokens, as samplers of reinforcement learning take them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from grain_molmo.errors import ConfigError
from grain_molmo.stats import BatchInfo


@dataclass(frozen=True)
class SequenceSample:
    """Sequences of tokens one behind the other, without padding, and what is known of each.

    Attributes:
        ids: [N], of the sequences.
        seqlens: [N], their lengths in tokens, at least 1.
        data: arrays by name, of any dtype (`packed_prompts` is int32): packed, [sum of seqlens, ...], or with one
            entry a sequence, [N, ...].
        metadata: [N], what else travels with each.

    Raises:
        ConfigError: numbers or shapes that do not fit each other.
    """

    ids: tuple[str, ...]
    seqlens: tuple[int, ...]
    data: Mapping[str, np.ndarray]
    metadata: tuple[Mapping[str, Any], ...]

    def __post_init__(self) -> None:
        n = len(self.ids)
        if len(self.seqlens) != n or len(self.metadata) != n:
            raise ConfigError(f"{n} ids, {len(self.seqlens)} seqlens and {len(self.metadata)} metadata: one of each")
        if any(seqlen < 1 for seqlen in self.seqlens):  # then packed and one a sequence cannot be confused
            raise ConfigError(f"seqlens {self.seqlens}: a sequence has at least one token")
        total = sum(self.seqlens)
        for key, array in self.data.items():
            if array.ndim < 1 or len(array) not in (total, n):
                raise ConfigError(f"{key} has shape {array.shape}; its first axis must be {total} tokens or {n} ids")

    @classmethod
    def from_default(
        cls,
        ids: Sequence[object],
        seqlens: Sequence[int],
        data: Mapping[str, Any],
        metadata: Sequence[Mapping[str, Any]] | None = None,
    ) -> "SequenceSample":
        """A sample of anything that numpy takes for arrays; ids become strings.

        >>> SequenceSample.from_default(ids=[7], seqlens=[3], data={"packed_prompts": [1, 2, 3]}).offsets_N1
        array([0, 3], dtype=int32)
        """
        arrays = {key: np.asarray(value) for key, value in data.items()}
        beside = tuple(metadata) if metadata is not None else ({},) * len(ids)
        return cls(tuple(map(str, ids)), tuple(map(int, seqlens)), arrays, beside)

    @classmethod
    def gather(cls, samples: Sequence["SequenceSample"]) -> "SequenceSample":
        """All sequences of the samples in one. Raises ConfigError for none, or if their data have other names."""
        if not samples:
            raise ConfigError("no samples to gather")
        keys = samples[0].data.keys()
        if other := next((sample for sample in samples if sample.data.keys() != keys), None):
            raise ConfigError(f"samples with {sorted(keys)} and with {sorted(other.data)} cannot be gathered")
        return cls(
            tuple(each for sample in samples for each in sample.ids),
            tuple(seqlen for sample in samples for seqlen in sample.seqlens),
            {key: np.concatenate([sample.data[key] for sample in samples]) for key in keys},
            tuple(each for sample in samples for each in sample.metadata),
        )

    def unpack(self) -> list["SequenceSample"]:
        """Each sequence for itself; their arrays are views."""
        return [self._one(place) for place in range(len(self))]

    def _one(self, place: int) -> "SequenceSample":
        start, stop = self.offsets_N1[place : place + 2]
        total = sum(self.seqlens)
        data = {
            key: array[start:stop] if len(array) == total else array[place : place + 1]
            for key, array in self.data.items()
        }
        return SequenceSample((self.ids[place],), (self.seqlens[place],), data, (self.metadata[place],))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def offsets_N1(self) -> np.ndarray:
        """[N + 1] int32, where each sequence begins in packed arrays, and the end: `cu_seqlens` of attention."""
        return np.cumsum([0, *self.seqlens], dtype=np.int32)


def prompt_sample(batch: Mapping[str, Any], batch_info: BatchInfo) -> SequenceSample:
    """The prompts of a packed batch of a stage of kind "prompts", in the order of its rows.

    Of each prompt its id, its length, its tokens in `packed_prompts` ([sum] int32) and, as metadata, what its dataset
    says, with `dataset`, `row` and `tokens` ([start, stop) in that row of the global batch) beside. Examples whose
    media are blank are left out. On a mesh these are the rows of this process.

    Args:
        batch: as the loader handed it out.
        batch_info: of the same batch.

    Raises:
        ConfigError: tokens of these rows are not in this process, for a context axis of the mesh spans several.
    """
    tokens_RT = _own_rows(batch["input_tokens"], batch_info.row_numbers)
    prompts = [
        (place, row, example)
        for place, (row, examples) in enumerate(zip(batch_info.row_numbers, batch_info.rows, strict=True))
        for example in examples
        if example.blanked is None
    ]
    packed = [tokens_RT[place, slice(*example.tokens)] for place, _, example in prompts]
    beside = [
        {**example.metadata, "dataset": example.dataset, "row": row, "tokens": example.tokens}
        for _, row, example in prompts
    ]
    return SequenceSample.from_default(
        ids=[example.id for *_, example in prompts],
        seqlens=[len(tokens) for tokens in packed],
        data={"packed_prompts": np.concatenate([np.empty(0, np.int32), *packed])},
        metadata=beside,
    )


def _own_rows(array: Any, row_numbers: Sequence[int]) -> np.ndarray:
    """[R, T] the rows of a global array, which must be whole in this process; a numpy array has no others."""
    if not isinstance(array, jax.Array):
        return np.asarray(array)
    place_of_row = {row: place for place, row in enumerate(row_numbers)}
    own_RT = np.empty((len(row_numbers), *array.shape[1:]), array.dtype)
    filled_RT = np.zeros(own_RT.shape[:2], bool)
    for shard in array.addressable_shards:
        rows, columns = shard.index[:2]
        places = [place_of_row[row] for row in range(array.shape[0])[rows]]
        own_RT[places, columns] = np.asarray(shard.data)
        filled_RT[places, columns] = True
    if not filled_RT.all():
        raise ConfigError('tokens of these rows are in other processes; keep the axis "context" within a process')
    return own_RT
