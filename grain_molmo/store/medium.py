"""Media on their way into the store."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from grain_molmo.store.records import MediaRef


@dataclass(frozen=True)
class Medium:
    """A medium that passed its checks: what is known of it, and its bytes for whoever asks."""

    ref: MediaRef
    read: Callable[[], bytes]


class MediaBytes(Mapping[str, bytes]):
    """The bytes of some media by SHA-256, got when asked for: those that the store has already are never asked for."""

    def __init__(self, media: Iterable[Medium]):
        self._media = {medium.ref.sha256: medium for medium in media}

    def __getitem__(self, sha256: str) -> bytes:
        return self._media[sha256].read()

    def __contains__(self, sha256: object) -> bool:
        return sha256 in self._media

    def __iter__(self) -> Iterator[str]:
        return iter(self._media)

    def __len__(self) -> int:
        return len(self._media)
