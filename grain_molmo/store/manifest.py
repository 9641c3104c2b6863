"""The manifest of an annotation folder: its splits, and the checksums of all files in it."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from grain_molmo.errors import NotConvertedError, StoreError
from grain_molmo.store.files import canonical_name, damaged, write_text
from grain_molmo.store.records import Reject
from grain_molmo.store.sealed import read_sealed, text_sha256, write_sealed
from grain_molmo.store.shards import ShardInfo
from grain_molmo.store.tfds import tfds_files

MANIFEST_FILE = "manifest.json"
FORMAT = 1
_KEYS = ("format", "name", "files", "splits")


@dataclass(frozen=True)
class SplitManifest:
    """One split of a converted dataset.

    Attributes:
        shards: annotation shards, in order.
        media_group: name of the media group that this conversion added, or None if every medium was there already.
        rejected: number of source rows left out, by reason; the rows are in `rejects-SPLIT.jsonl`.
        source: where the rows came from (kind, path, config, split, revision, rows).
        converter: the arguments that decide the outcome.
        rejects_sha256: of the table of rejected rows; None of splits that older versions converted.
    """

    shards: tuple[ShardInfo, ...]
    media_group: str | None
    rejected: dict[str, int]
    source: dict[str, Any]
    converter: dict[str, Any] = field(default_factory=dict)
    rejects_sha256: str | None = None

    @property
    def num_examples(self) -> int:
        """Annotation records in the split."""
        return sum(shard.records for shard in self.shards)


def rejects_file(split: str) -> str:
    """Name of the table of rejected rows: one JSON object a line."""
    return f"rejects-{split}.jsonl"


def rejects_text(rejects: Sequence[Reject]) -> str:
    """Content of a table of rejected rows."""
    return "".join(f"{reject.to_json()}\n" for reject in rejects)


def save_rejects(data_dir: str | os.PathLike[str], name: str, split: str, rejects: Sequence[Reject]) -> None:
    """Writes the table of a split of which nothing could be converted; that of others `SplitWriter.finish` writes."""
    write_text(Path(data_dir) / canonical_name(name) / rejects_file(split), rejects_text(rejects))


def load_rejects(data_dir: str | os.PathLike[str], name: str, split: str) -> Iterator[Reject]:
    """A split's rejected rows, one after the other. Raises StoreError if their table does not read."""
    path = Path(data_dir) / canonical_name(name) / rejects_file(split)
    try:
        with open(path, encoding="utf-8", newline="\n") as lines:  # U+2028 and the like end no line
            for line in lines:
                yield Reject(**json.loads(line))
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{path} does not read ({error}); restore it or convert again with --force") from error


def count_reasons(rejects: Sequence[Reject]) -> dict[str, int]:
    """Rejected rows by reason, the most frequent first."""
    return dict(sorted(Counter(reject.reason for reject in rejects).items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says.

    Attributes:
        splits: by name.
        files: SHA-256 of the folder's other files, by name; empty if an older version wrote it.
        is_sealed: whether it carries a checksum of itself.
    """

    splits: dict[str, SplitManifest]
    files: dict[str, str]
    is_sealed: bool


def load_manifest(data_dir: str | os.PathLike[str], name: str) -> dict[str, SplitManifest]:
    """The splits of a converted dataset. Raises NotConvertedError if there is none, else StoreError."""
    try:
        return read_manifest(Path(data_dir) / canonical_name(name)).splits
    except FileNotFoundError:
        command = f"grain-molmo convert {name.replace('_', '-')} --data-dir {data_dir}"
        folder = Path(data_dir) / canonical_name(name)
        raise NotConvertedError(f"{folder} holds no converted dataset; make it with `{command}`") from None


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an annotation folder. Raises FileNotFoundError if it has none, StoreError if it is damaged."""
    path = folder / MANIFEST_FILE
    entries, is_sealed = read_sealed(path, _KEYS)
    try:
        if entries["format"] != FORMAT:
            raise StoreError(f"{path} has format {entries['format']!r}, this version reads {FORMAT}")
        splits = {split: split_from_json(entry) for split, entry in entries["splits"].items()}
        return Manifest(splits, dict(entries.get("files", {})), is_sealed)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(path, repr(error)) from error


def split_from_json(entry: Mapping[str, Any]) -> SplitManifest:
    """The inverse of `asdict`."""
    return SplitManifest(**{**entry, "shards": tuple(ShardInfo(**shard) for shard in entry["shards"])})


def list_converted(data_dir: str | os.PathLike[str]) -> list[str]:
    """Names of the datasets that were converted into the folder."""
    return sorted(path.parent.name for path in Path(data_dir).glob(f"*/{MANIFEST_FILE}"))


def save_manifest(data_dir: str | os.PathLike[str], name: str, splits: Mapping[str, SplitManifest]) -> None:
    """Commits a dataset: the manifest first, by one rename; then TFDS's files, which follow from it."""
    folder = Path(data_dir) / name
    ordered = dict(sorted(splits.items()))
    others = tfds_files(name, f"{FORMAT}.0.0", {split: entry.shards for split, entry in ordered.items()})
    manifest = {
        "format": FORMAT,
        "name": name,
        "files": {file: text_sha256(text) for file, text in others.items()},
        "splits": {split: asdict(entry) for split, entry in ordered.items()},
    }
    write_sealed(folder / MANIFEST_FILE, manifest)
    for file, text in others.items():
        write_text(folder / file, text)
