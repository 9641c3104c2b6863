"""The two JSON files that let TFDS open an annotation folder without TensorFlow."""

from collections.abc import Mapping, Sequence
from typing import Any

from grain_molmo.store.files import json_text, shard_stem
from grain_molmo.store.shards import ShardInfo

_FEATURES = "tensorflow_datasets.core.features"


def tfds_files(name: str, version: str, splits: Mapping[str, Sequence[ShardInfo]]) -> dict[str, str]:
    """Contents by file name. The shards of a split may be of any generation: its file name template follows."""
    return {"features.json": json_text(_features()), "dataset_info.json": json_text(_info(name, version, splits))}


def _info(name: str, version: str, splits: Mapping[str, Sequence[ShardInfo]]) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "fileFormat": "array_record",
        "splits": [
            {
                "name": split,
                "shardLengths": [str(shard.records) for shard in shards],
                "numBytes": str(sum(shard.num_bytes for shard in shards)),
                "filepathTemplate": _template(name, split, shards),
            }
            for split, shards in splits.items()
        ],
    }


def _template(name: str, split: str, shards: Sequence[ShardInfo]) -> str:
    stem = shard_stem(shards[0].file) if shards else f"{name}-{split}"
    generation = stem.removeprefix(f"{name}-{split}")
    return f"{{DATASET}}-{{SPLIT}}{generation}.{{FILEFORMAT}}-{{SHARD_X_OF_Y}}"


def _features() -> dict[str, Any]:
    text = {"pythonClassName": f"{_FEATURES}.text_feature.Text", "text": {}}
    int64 = {
        "pythonClassName": f"{_FEATURES}.tensor_feature.Tensor",
        "tensor": {"dtype": "int64", "encoding": "none", "shape": {}},
    }

    def dictionary(features: dict[str, Any]) -> dict[str, Any]:
        class_name = f"{_FEATURES}.features_dict.FeaturesDict"
        return {"pythonClassName": class_name, "featuresDict": {"features": features}}

    media = dictionary(
        {"sha256": text, "kind": text, "width": int64, "height": int64, "num_bytes": int64, "video": text}
    )
    sequence = {
        "pythonClassName": f"{_FEATURES}.sequence_feature.Sequence",
        "sequence": {"feature": media, "length": "-1"},
    }
    return dictionary({"id": text, "annotation": text, "media": sequence})
