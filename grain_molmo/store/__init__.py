"""The store on disk: annotation records, media by content hash, manifests. See `writer` and `annotations`."""

from grain_molmo.store.annotations import AnnotationSource
from grain_molmo.store.commit import recover
from grain_molmo.store.files import canonical_name, resolve_data_dir
from grain_molmo.store.lock import dataset_lock
from grain_molmo.store.manifest import SplitManifest, list_converted, load_manifest, load_rejects, save_rejects
from grain_molmo.store.media import MediaStore
from grain_molmo.store.medium import MediaBytes, Medium
from grain_molmo.store.records import MediaRef, Record, Reject, VideoFacts, content_key
from grain_molmo.store.shards import RecordReader, ShardInfo
from grain_molmo.store.writer import SplitWriter

__all__ = [
    "AnnotationSource",
    "MediaBytes",
    "MediaRef",
    "MediaStore",
    "Medium",
    "Record",
    "RecordReader",
    "Reject",
    "ShardInfo",
    "SplitManifest",
    "SplitWriter",
    "VideoFacts",
    "canonical_name",
    "content_key",
    "dataset_lock",
    "list_converted",
    "load_manifest",
    "load_rejects",
    "recover",
    "resolve_data_dir",
    "save_rejects",
]
