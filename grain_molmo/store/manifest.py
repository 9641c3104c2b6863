"""The manifest of an annotation folder, and the two JSON files that let TFDS open the folder without TensorFlow."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from grain_molmo.errors import NotConvertedError, StoreError
from grain_molmo.store.files import canonical_name, damaged, read_json, write_json, write_text
from grain_molmo.store.records import Reject
from grain_molmo.store.shards import ShardInfo

MANIFEST_FILE = "manifest.json"
FORMAT = 1
_TFDS = "tensorflow_datasets.core.features"


@dataclass(frozen=True)
class SplitManifest:
    """One split of a converted dataset.

    Attributes:
        shards: annotation shards, in order.
        media_group: name of the media group that this conversion added, or None if every medium was there already.
        rejected: number of source rows left out, by reason; the rows are in `rejects-SPLIT.jsonl`.
        source: where the rows came from (kind, path, config, split, revision, rows).
        converter: the arguments that decide the outcome.
    """

    shards: tuple[ShardInfo, ...]
    media_group: str | None
    rejected: dict[str, int]
    source: dict[str, Any]
    converter: dict[str, Any] = field(default_factory=dict)

    @property
    def num_examples(self) -> int:
        """Annotation records in the split."""
        return sum(shard.records for shard in self.shards)


def rejects_file(split: str) -> str:
    """Name of the table of rejected rows: one JSON object a line."""
    return f"rejects-{split}.jsonl"


def save_rejects(data_dir: str | os.PathLike[str], name: str, split: str, rejects: Sequence[Reject]) -> None:
    """Writes a split's table of rejected rows."""
    lines = "".join(f"{reject.to_json()}\n" for reject in rejects)
    write_text(Path(data_dir) / canonical_name(name) / rejects_file(split), lines)


def count_reasons(rejects: Sequence[Reject]) -> dict[str, int]:
    """Rejected rows by reason, the most frequent first."""
    return dict(sorted(Counter(reject.reason for reject in rejects).items(), key=lambda item: (-item[1], item[0])))


def load_manifest(data_dir: str | os.PathLike[str], name: str) -> dict[str, SplitManifest]:
    """The splits of a converted dataset. Raises NotConvertedError if there is none, else StoreError."""
    folder = Path(data_dir) / canonical_name(name)
    path = folder / MANIFEST_FILE
    try:
        manifest = read_json(path)
    except FileNotFoundError:
        command = f"grain-molmo convert {name.replace('_', '-')} --data-dir {data_dir}"
        raise NotConvertedError(f"{folder} holds no converted dataset; make it with `{command}`") from None
    try:
        if manifest["format"] != FORMAT:
            raise StoreError(f"{path} has format {manifest['format']!r}, this version reads {FORMAT}")
        return {
            split: SplitManifest(**{**entry, "shards": tuple(ShardInfo(**shard) for shard in entry["shards"])})
            for split, entry in manifest["splits"].items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise damaged(path, repr(error)) from error


def list_converted(data_dir: str | os.PathLike[str]) -> list[str]:
    """Names of the datasets that were converted into the folder."""
    return sorted(path.parent.name for path in Path(data_dir).glob(f"*/{MANIFEST_FILE}"))


def save_manifest(data_dir: str | os.PathLike[str], name: str, splits: Mapping[str, SplitManifest]) -> None:
    """Commits a dataset: TFDS's files first, the manifest last."""
    folder = Path(data_dir) / name
    ordered = dict(sorted(splits.items()))
    write_json(folder / "features.json", _tfds_features())
    write_json(folder / "dataset_info.json", _tfds_info(name, ordered))
    entries = {split: asdict(manifest) for split, manifest in ordered.items()}
    write_json(folder / MANIFEST_FILE, {"format": FORMAT, "name": name, "splits": entries})


def _tfds_info(name: str, splits: Mapping[str, SplitManifest]) -> dict[str, Any]:
    return {
        "name": name,
        "version": f"{FORMAT}.0.0",
        "fileFormat": "array_record",
        "splits": [
            {
                "name": split,
                "shardLengths": [str(shard.records) for shard in manifest.shards],
                "numBytes": str(sum(shard.num_bytes for shard in manifest.shards)),
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
            for split, manifest in splits.items()
        ],
    }


def _tfds_features() -> dict[str, Any]:
    text = {"pythonClassName": f"{_TFDS}.text_feature.Text", "text": {}}
    int64 = {
        "pythonClassName": f"{_TFDS}.tensor_feature.Tensor",
        "tensor": {"dtype": "int64", "encoding": "none", "shape": {}},
    }

    def dictionary(features: dict[str, Any]) -> dict[str, Any]:
        class_name = f"{_TFDS}.features_dict.FeaturesDict"
        return {"pythonClassName": class_name, "featuresDict": {"features": features}}

    media = dictionary(
        {"sha256": text, "kind": text, "width": int64, "height": int64, "num_bytes": int64, "video": text}
    )
    sequence = {
        "pythonClassName": f"{_TFDS}.sequence_feature.Sequence",
        "sequence": {"feature": media, "length": "-1"},
    }
    return dictionary({"id": text, "annotation": text, "media": sequence})
