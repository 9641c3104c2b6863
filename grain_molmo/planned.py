"""Examples for the plan: by their lengths, encoded already or only when their row is rendered."""

from collections.abc import Callable
from dataclasses import dataclass

from grain_molmo.encode import EncodedExample, Encoder, LostExample
from grain_molmo.errors import ExampleError, StoreError
from grain_molmo.lengths import Lengths
from grain_molmo.packing.mixture import Draw
from grain_molmo.packing.rows import PlannedExample


def encode_or_lose(encoder: Encoder) -> Callable[[PlannedExample], EncodedExample | LostExample]:
    """Encodes examples of which nothing is known beforehand; what cannot be encoded becomes a `LostExample`."""

    def encode(planned: PlannedExample) -> EncodedExample | LostExample:
        try:
            return encoder(planned.draw)
        except ExampleError as error:
            return LostExample(planned.draw, 0, 0, 0, error.reason, error.detail)

    return encode


@dataclass(frozen=True)
class ExamplePlanner:
    """Draws to planned examples: from an index of lengths where it knows them, else by encoding.

    Plans are the same with and without an index; with one, each process encodes only what it renders.

    Args:
        encoder: draws to tokens.
        known_lengths: the lengths of a draw, or None for one that must be encoded.
    """

    encoder: Encoder
    known_lengths: Callable[[Draw], Lengths | None] | None = None

    def __call__(self, draw: Draw) -> PlannedExample:
        """The lengths of a draw. Raises ExampleError if it cannot be encoded, and StoreError as `Encoder` does."""
        known = self.known_lengths(draw) if self.known_lengths else None
        if known is not None:
            return PlannedExample(draw, *known)
        encoded = self.encoder(draw)
        return PlannedExample(draw, *encoded.lengths, encoded)

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
            return LostExample(planned.draw, *lengths, error.reason, error.detail)
        if encoded.lengths[:3] != lengths:
            draw = planned.draw
            raise StoreError(
                f"{draw.dataset} example {draw.index}, epoch {draw.epoch}: planned as (tokens, crops, pooled) = "
                f"{lengths}, it has {encoded.lengths[:3]} now; data or code changed, build the index of lengths again"
            )
        return encoded
