"""The engine: planned rows in, committed splits of the store out. Order kept, memory bounded, rejects accounted for."""

import contextlib
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from converters.fetch import ImageFetcher
from converters.media import MediaBytes, MediaLoader, Medium, num_bytes, ordered_map
from converters.plan import SplitPlan, Unit, plan_splits
from converters.rows import Row
from converters.schema import check_columns
from converters.sources import SourceSplit
from converters.spec import UNIT_REASONS, MediaSource, Place, SetSpec
from converters.videos import VideoFolder
from grain_molmo.errors import ConfigError, FetchError, RowError, StoreError
from grain_molmo.store import (
    MediaStore,
    Record,
    Reject,
    SplitManifest,
    SplitWriter,
    load_manifest,
    save_rejects,
)

log = logging.getLogger(__name__)

# Media in flight: enough that one slow host does not idle the other workers, few enough to hold in memory. Of pictures
# about 256; of videos as many as fit, at least one.
_BYTES_IN_FLIGHT = 256 << 20


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the caller chooses about a conversion.

    Attributes:
        validation_fraction: instead of the set's own.
        max_rows: only the first rows of each source split.
        workers: media fetched or read at a time.
        force: convert anew what is already there.
        videos: where videos lie, or None if nobody said.
        video_frames: store beside each video the frames that training can ask for, ready to show.
        excluded: URLs and SHA-256 hashes of pictures that must not occur.
        excluded_origin: where those came from, for the manifest.
    """

    validation_fraction: float | None = None
    max_rows: int | None = None
    workers: int = 16
    force: bool = False
    videos: VideoFolder | None = None
    video_frames: bool = False
    excluded: frozenset[str] = frozenset()
    excluded_origin: Mapping[str, Any] | None = None


@dataclass
class Summary:
    """What a conversion of one set came to."""

    name: str
    media: str = "pictures"
    rows: int = 0
    examples: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    media_new: int = 0
    media_shared: int = 0
    num_bytes: int = 0
    already_there: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON-able values."""
        return asdict(self)

    def to_text(self) -> str:
        """The summary for people, one line a fact."""
        splits = ", ".join(f"{split} {count:,}" for split, count in self.examples.items()) or "no examples"
        lines = [f"{self.name}: {splits} (from {self.rows:,} rows in {self.seconds:.1f} s)"]
        if self.already_there:
            lines.append(f"  already converted, kept: {', '.join(self.already_there)} (--force converts anew)")
        lines.append(
            f"  {self.media}: {self.media_new:,} new, {self.media_shared:,} uses of ones already stored; "
            f"{self.num_bytes / 1e6:,.1f} MB written"
        )
        for reason, count in sorted(self.rejected.items(), key=lambda item: (-item[1], item[0])):
            lines.append(f"  rejected {reason}: {count:,}")
        return "\n".join([*lines, *(f"  WARNING: {warning}" for warning in self.warnings)])


def convert_set(
    spec: SetSpec, sources: Sequence[SourceSplit], data_dir: Path, fetcher: ImageFetcher, options: Options
) -> Summary:
    """Converts the splits of a set into the store.

    A split is committed when all of its shards are written. Shards that an earlier run with the same arguments finished
    are kept. A row that cannot be converted is rejected with a reason and aborts nothing.

    Raises:
        ConfigError: the rows are not of this set.
        StoreError: the store cannot be written.
    """
    started = time.monotonic()
    for source in sources:
        check_columns(spec.name.replace("_", "-"), source.rows, spec.required, spec.optional, spec.either)
        _require_videos(spec, source, options)
    plans = plan_splits(spec, sources, validation_fraction=options.validation_fraction, max_rows=options.max_rows)
    with_frames = spec.is_video and options.video_frames
    summary = Summary(spec.name, "videos and frames" if with_frames else "videos" if spec.is_video else "pictures")
    loader = MediaLoader(fetcher)
    for plan in plans:
        summary.rows += plan.num_rows
        manifest = _convert_split(spec, plan, data_dir, loader, options, summary)
        if manifest is not None:
            summary.examples[plan.split] = manifest.num_examples
    summary.seconds = round(time.monotonic() - started, 3)
    return summary


def _require_videos(spec: SetSpec, source: SourceSplit, options: Options) -> None:
    """Raises ConfigError if there is no way to find the set's videos: better now than at each row."""
    if spec.is_video and options.videos is None and "video_path" not in source.rows.columns:
        raise ConfigError(
            f"{spec.name}: the rows have only the ids of their videos; say where those are: --video-dir DIR"
        )


def _convert_split(
    spec: SetSpec, plan: SplitPlan, data_dir: Path, loader: MediaLoader, options: Options, summary: Summary
) -> SplitManifest | None:
    """Converts one split and adds to the summary; None if not one of its rows could be converted."""
    converter = {
        "set": spec.name,
        "validation_fraction": plan.held_out,
        "max_rows": options.max_rows,
        "rows_per_shard": spec.rows_per_shard,
        "excluded": dict(options.excluded_origin) if options.excluded_origin else None,
    }
    if spec.is_video:
        converter["video_frames"] = options.video_frames
    source = dict(plan.source.origin)
    committed = _committed(data_dir, spec.name, plan.split)
    if committed and not options.force and (committed.source, committed.converter) == (source, converter):
        summary.already_there.append(plan.split)
        summary.rejected.update(Counter(summary.rejected) + Counter(committed.rejected))
        return committed

    def open_writer() -> SplitWriter:
        arguments = {"converter": converter, "source": source}
        return SplitWriter(data_dir, spec.name, plan.split, num_shards=len(plan.shards), arguments=arguments)

    writer = open_writer()
    if options.force:
        writer.discard()
        writer = open_writer()
    media_before = len(MediaStore(data_dir))
    rejects = _write_shards(spec, plan, writer, loader, options)
    summary.rejected.update(Counter(summary.rejected) + Counter(reject.reason for reject in rejects))
    summary.warnings += _unit_warnings(spec, plan, rejects)
    if len(rejects) == plan.num_rows:  # a row is part of a record or rejected, never both
        _explain_failure(spec, plan, rejects)
        writer.discard()  # so that a second try does not start with everything rejected
        if committed is None:  # else the table of the split that stays
            save_rejects(data_dir, spec.name, plan.split, rejects)
        return None
    uses = writer.media_uses()
    manifest = writer.finish(source=source, converter=converter, rejects=rejects)
    store = MediaStore(data_dir)
    new = len(store) - media_before
    media_shards = next((group.shards for group in store.groups if group.name == manifest.media_group), ())
    summary.media_new += new
    summary.media_shared += uses - new
    summary.num_bytes += sum(shard.num_bytes for shard in (*manifest.shards, *media_shards))
    return manifest


def _committed(data_dir: Path, name: str, split: str) -> SplitManifest | None:
    try:
        return load_manifest(data_dir, name).get(split)
    except StoreError:  # not there yet
        return None


def _write_shards(
    spec: SetSpec, plan: SplitPlan, writer: SplitWriter, loader: MediaLoader, options: Options
) -> list[Reject]:
    """Writes the shards that are not written yet; the rejects of all."""
    rejects: list[Reject] = []
    source = plan.source
    place = Place(source.config or spec.config_of_others, plan.source_split, source.rows.folder, options.videos)
    with (
        _Progress(f"{spec.name} {plan.split}", plan.num_rows) as progress,
        _media_pool(options.workers) as pool,
    ):
        for shard, units in enumerate(plan.shards):
            num_rows = sum(len(unit.rows) for unit in units)
            if writer.has_shard(shard):
                progress.update(num_rows)
            else:
                in_shard: list[Reject] = []
                prepared = (_prepare(spec, source, place, unit, options.excluded) for unit in units)
                made = ordered_map(
                    pool,
                    lambda one: _make_records(spec, one, loader, options.video_frames),
                    prepared,
                    lambda one: num_bytes(one.sources, options.video_frames),
                    _BYTES_IN_FLIGHT,
                )
                writer.write_shard(shard, _records(made, in_shard, progress), in_shard)
            rejects += writer.shard_rejects(shard)
            progress.shard_done(shard + 1, len(plan.shards), len(rejects))
    return rejects


@contextlib.contextmanager
def _media_pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that load media; after a failure nothing that waits is begun any more."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="media")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Prepared:
    """A unit whose rows were read: pieces of its annotation by row, its media still to load."""

    unit: Unit
    url: str
    pieces: list[tuple[int, dict[str, Any]]]
    sources: Sequence[MediaSource]
    rejects: list[Reject]

    def reject(self, row: int, error: RowError) -> Reject:
        network = (error.attempts, error.time) if isinstance(error, FetchError) else ()
        return Reject(row, self.unit.id, error.reason, error.detail, self.url, *network)


@dataclass(frozen=True)
class _Made:
    """A unit's records and their media, and those of its rows that are in none."""

    records: list[Record]
    media: MediaBytes
    rejects: list[Reject]
    num_rows: int


def _prepare(spec: SetSpec, source: SourceSplit, place: Place, unit: Unit, excluded: frozenset[str]) -> _Prepared:
    """Everything about a unit that can be said before its media are there."""
    pieces: list[tuple[int, dict[str, Any]]] = []
    rejects: list[Reject] = []
    sources: Sequence[MediaSource] = ()
    url = ""
    for index in unit.rows:
        try:
            row = source.rows.row(index)
            url = _url(row) or url
            _require_allowed(row, excluded)
            piece, in_row = spec.parse(row, place), spec.media(row, place)
        except RowError as error:
            rejects.append(Reject(index, unit.id, error.reason, error.detail, url))
            continue
        pieces.append((index, piece))
        sources = sources or in_row
    return _Prepared(unit, url, pieces, sources, rejects)


def _url(row: Row) -> str:
    url = row.get("image_url")
    return url if isinstance(url, str) else ""


def _require_allowed(row: Row, excluded: frozenset[str]) -> None:
    if any(isinstance(row.get(column), str) and row[column] in excluded for column in ("image_url", "image_sha256")):
        raise RowError("excluded_image", "the picture occurs in the set that is kept apart for evaluation")


def _make_records(spec: SetSpec, prepared: _Prepared, loader: MediaLoader, with_frames: bool) -> _Made:
    """The unit's records with their media; runs in the pool."""
    rejects, num_rows = list(prepared.rejects), len(prepared.unit.rows)
    fitted: list[tuple[int, dict[str, Any]]] = []
    try:
        media = loader.load(prepared.sources) if prepared.pieces else []
        for row, piece in prepared.pieces:
            try:
                fitted.append((row, spec.fit(piece, media[0].ref)))
            except RowError as error:
                rejects.append(prepared.reject(row, error))
        annotations = spec.combine([piece for _, piece in fitted]) if fitted else []
        shown = [
            _with_frames(spec, one, media, loader) if with_frames and spec.is_video else media for one in annotations
        ]
    except RowError as error:  # of the media, which the rows share
        rest = [row for row, _ in fitted or prepared.pieces]
        return _Made([], MediaBytes(()), rejects + [prepared.reject(row, error) for row in rest], num_rows)
    records = [
        Record(
            prepared.unit.id if part == 0 else f"{prepared.unit.id}+{part}",
            {"url": prepared.url, **annotation} if prepared.url else annotation,
            tuple(medium.ref for medium in shown[part]),
        )
        for part, annotation in enumerate(annotations)
    ]
    return _Made(records, MediaBytes(medium for one in shown for medium in one), rejects, num_rows)


def _with_frames(
    spec: SetSpec, annotation: dict[str, Any], media: Sequence[Medium], loader: MediaLoader
) -> list[Medium]:
    video = media[0]
    requests = spec.frame_requests(annotation, video.ref)
    return [video, loader.frames(video, requests, annotation.get("clip"))]


def _records(
    made: Iterable[_Made], rejects: list[Reject], progress: "_Progress"
) -> Iterator[tuple[Record, Mapping[str, bytes]]]:
    """Records of the units, in order, with the bytes of their media; adds to the rejects."""
    for one in made:
        rejects += one.rejects
        for record in one.records:
            yield record, one.media
        progress.update(one.num_rows)


def _unit_warnings(spec: SetSpec, plan: SplitPlan, rejects: Sequence[Reject]) -> list[str]:
    """What it suggests that most of the rows are in the wrong unit, if they are."""
    reasons = Counter(reject.reason for reject in rejects)
    warnings = [
        f"{spec.name} {plan.split}: {count:,} of {plan.num_rows:,} rows rejected as {reason}. {UNIT_REASONS[reason]}"
        for reason, count in reasons.items()
        if reason in UNIT_REASONS and count > plan.num_rows / 2
    ]
    for warning in warnings:
        log.error(warning)
    return warnings


def _explain_failure(spec: SetSpec, plan: SplitPlan, rejects: Sequence[Reject]) -> None:
    first = {reject.reason: reject for reject in reversed(rejects)}
    for reason, reject in sorted(first.items()):
        log.error("%s %s: row %d rejected as %s: %s", spec.name, plan.split, reject.row, reason, reject.detail)
    log.error("%s %s: none of %s rows could be converted", spec.name, plan.split, f"{plan.num_rows:,}")


class _Progress:
    """A bar on a terminal, else one log line a shard."""

    def __init__(self, title: str, num_rows: int):
        self._title = title
        self._is_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=num_rows, desc=title, unit=" rows", disable=not self._is_terminal, dynamic_ncols=True, leave=False
        )

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bar.close()

    def update(self, rows: int) -> None:
        """So many source rows are done."""
        self._bar.update(rows)

    def shard_done(self, done: int, total: int, rejected: int) -> None:
        """A shard is done."""
        if self._is_terminal:
            self._bar.set_postfix(shards=f"{done}/{total}", rejected=rejected)
        else:
            log.info("%s: shard %d of %d done, %s rows rejected so far", self._title, done, total, f"{rejected:,}")
