"""What the caller chooses about a conversion."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from converters.fetch import FetchPolicy


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the caller chooses about a conversion; picklable, as every process that takes part gets them.

    Attributes:
        validation_fraction: instead of the set's own.
        max_rows: only the first rows of each source split.
        rows_per_shard: instead of the set's own; smaller shards are finished, and kept after a stop, sooner.
        workers: media read at a time, by each process.
        n_procs: processes that write shards, or None to choose.
        force: convert anew what is already there.
        retry_rejects: of what is already there, try the rows again that were rejected for what may have passed.
        max_rejected: a split that loses a larger share of its rows is not committed.
        wait: for another process that writes the dataset, instead of raising.
        video_dir: where videos lie, or None if nobody said.
        video_frames: store beside each video the frames that training can ask for, ready to show.
        excluded: URLs and SHA-256 hashes of pictures that must not occur.
        excluded_origin: where those came from, for the manifest.
        fetching: bounds on each URL.
        image_cache: folder of pictures named by the SHA-256 of their URL.
        cache_only: ask no network for what the image cache lacks.
    """

    validation_fraction: float | None = None
    max_rows: int | None = None
    rows_per_shard: int | None = None
    workers: int = 16
    n_procs: int | None = None
    force: bool = False
    retry_rejects: bool = False
    max_rejected: float = 1.0
    wait: bool = False
    video_dir: str | None = None
    video_frames: bool = False
    excluded: frozenset[str] = frozenset()
    excluded_origin: Mapping[str, Any] | None = None
    fetching: FetchPolicy = field(default_factory=FetchPolicy)
    image_cache: str | None = None
    cache_only: bool = False
