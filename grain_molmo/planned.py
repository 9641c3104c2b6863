"""Examples for the plan: by their lengths, encoded already or only when their row is rendered."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from grain_molmo.datasets.base import StoreDataset
from grain_molmo.encode import EncodedExample, Encoder, LostExample
from grain_molmo.errors import ExampleError, StoreError
from grain_molmo.lengths import Lengths
from grain_molmo.packing.draw import Draw
from grain_molmo.packing.rows import PlannedExample

logger = logging.getLogger(__name__)


def encode_or_lose(encoder: Encoder) -> Callable[[PlannedExample], EncodedExample | LostExample]:
    """Encodes examples of which nothing is known beforehand; what cannot be encoded becomes a `LostExample`."""

    def encode(planned: PlannedExample) -> EncodedExample | LostExample:
        try:
            return encoder(planned.draw)
        except ExampleError as error:
            return _lost(planned, (0, 0, 0), error)

    return encode


def _lost(planned: PlannedExample, lengths: tuple[int, int, int], error: ExampleError) -> LostExample:
    """What stands for it; the place says which it is, so the detail need not."""
    name, _, index = planned.draw
    detail = error.detail.removeprefix(f"{name} example {index} (id {error.example_id}): ")
    return LostExample(planned.draw, *lengths, error.reason, detail, error.example_id)


@dataclass(frozen=True)
class ExamplePlanner:
    """Draws to planned examples: from an index of lengths where it knows them, else by encoding.

    Plans are the same with and without an index; with one, each process encodes only what it renders. An example that
    comes with its media, and not with where to find them, is made twice, too: none waits in the plan for its row.

    Args:
        encoder: draws to tokens.
        known_lengths: the lengths of a draw, or None for one that must be encoded.
    """

    encoder: Encoder
    known_lengths: Callable[[Draw], Lengths | None] | None = None
    _made_twice: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def __call__(self, draw: Draw) -> PlannedExample:
        """The lengths of a draw. Raises ExampleError if it cannot be encoded, and StoreError as `Encoder` does."""
        known = self.known_lengths(draw) if self.known_lengths else None
        if known is not None:
            return PlannedExample(draw, *known)
        encoded = self.encoder(draw)
        if any(slot.in_memory for slot in encoded.slots):
            self._tell(draw.dataset)
            return PlannedExample(draw, *encoded.lengths)
        return PlannedExample(draw, *encoded.lengths, encoded)

    def _tell(self, dataset: str) -> None:
        if dataset not in self._made_twice:
            self._made_twice.add(dataset)
            logger.warning(
                "dataset %r gives pictures or videos themselves, so each example is made once to plan and once to be "
                "rendered; stored with grain_molmo.write_dataset, or with a `fingerprint` and `grain-molmo index`, it "
                "is faster",
                dataset,
            )

    def encode(self, planned: PlannedExample) -> EncodedExample | LostExample:
        """The example itself; a `LostExample` if it was planned by its lengths and can no longer be encoded.

        Raises StoreError if its lengths are not those that it was planned with.
        """
        if planned.encoded is not None:
            return planned.encoded
        lengths = (planned.n_tokens, planned.n_crops, planned.n_pooled)
        try:
            encoded = self.encoder(planned.draw)
        except ExampleError as error:
            return _lost(planned, lengths, error)
        if encoded.lengths[:3] != lengths:
            draw = planned.draw
            problem = f"planned as (tokens, crops, pooled) = {lengths}, it has {encoded.lengths[:3]} now"
            cure = "data or code changed, build the index of lengths again"
            if not isinstance(self.encoder.datasets[draw.dataset], StoreDataset):
                cure = (
                    "its `get` must be a function of (item, rng), which grain_molmo.testing.check_dataset looks into; "
                    f"if it is, {cure}"
                )
            raise StoreError(f"{draw.dataset} example {draw.index}, epoch {draw.epoch}: {problem}; {cure}")
        return encoded
