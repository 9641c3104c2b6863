"""PixMo-Cap's captions by their pictures."""

from pathlib import Path

import numpy as np

from grain_molmo.store import AnnotationSource, load_manifest

_CAPTIONS = "pixmo_cap"
_DIGITS = 16  # of the hash of a picture, which make 64 bits


class CaptionsByPicture:
    """Finds the caption of a picture, in 16 bytes a picture.

    Args:
        data_dir: a store with PixMo-Cap, all of whose records are read once.

    Raises:
        StoreError: PixMo-Cap was not converted into this folder.
    """

    def __init__(self, data_dir: Path):
        self._records = AnnotationSource(data_dir, _CAPTIONS, sorted(load_manifest(data_dir, _CAPTIONS)))
        pictures = (self._records[i].media[0].sha256 for i in range(len(self._records)))
        keys = np.fromiter((_key(sha256) for sha256 in pictures), np.uint64, len(self._records))
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def find(self, sha256: str) -> str | None:
        """The caption of the picture with that hash; the first of several, None if there is none."""
        place = int(np.searchsorted(self._keys, np.uint64(_key(sha256))))
        while place < len(self._keys) and int(self._keys[place]) == _key(sha256):
            record = self._records[int(self._order[place])]
            if record.media[0].sha256 == sha256:
                return record.annotation["caption"]
            place += 1
        return None


def _key(sha256: str) -> int:
    return int(sha256[:_DIGITS], 16)
