"""The engine: planned rows in, committed splits of the store out. Order kept, memory bounded, rejects accounted for."""

import contextlib
import logging
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from converters.fetch import ImageFetcher, Picture, check_picture
from converters.pixmo import UNIT_REASONS, Drawn, Embedded, FromFile, FromUrl, PictureSource, Place, SetSpec
from converters.plan import SplitPlan, Unit, plan_splits
from converters.rows import Row
from converters.schema import check_columns
from converters.sources import SourceSplit
from grain_molmo.errors import RowError, StoreError
from grain_molmo.store import (
    MediaRef,
    MediaStore,
    Record,
    Reject,
    SplitManifest,
    SplitWriter,
    content_key,
    load_manifest,
    save_rejects,
)

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

# Pictures in flight: enough that one slow host does not idle the other workers, few enough to hold in memory.
_LOOK_AHEAD = 256


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the caller chooses about a conversion.

    Attributes:
        validation_fraction: instead of the set's own.
        max_rows: only the first rows of each source split.
        workers: pictures fetched or read at a time.
        force: convert anew what is already there.
        excluded: URLs and SHA-256 hashes of pictures that must not occur.
        excluded_origin: where those came from, for the manifest.
    """

    validation_fraction: float | None = None
    max_rows: int | None = None
    workers: int = 16
    force: bool = False
    excluded: frozenset[str] = frozenset()
    excluded_origin: Mapping[str, Any] | None = None


@dataclass
class Summary:
    """What a conversion of one set came to."""

    name: str
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
            f"  pictures: {self.media_new:,} new, {self.media_shared:,} uses of ones already stored; "
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
        check_columns(spec.name.replace("_", "-"), source.rows, spec.required, spec.optional)
    plans = plan_splits(spec, sources, validation_fraction=options.validation_fraction, max_rows=options.max_rows)
    summary = Summary(spec.name)
    for plan in plans:
        summary.rows += plan.num_rows
        manifest = _convert_split(spec, plan, data_dir, fetcher, options, summary)
        if manifest is not None:
            summary.examples[plan.split] = manifest.num_examples
    summary.seconds = round(time.monotonic() - started, 3)
    return summary


def _convert_split(
    spec: SetSpec, plan: SplitPlan, data_dir: Path, fetcher: ImageFetcher, options: Options, summary: Summary
) -> SplitManifest | None:
    """Converts one split and adds to the summary; None if not one of its rows could be converted."""
    converter = {
        "set": spec.name,
        "validation_fraction": plan.held_out,
        "max_rows": options.max_rows,
        "rows_per_shard": spec.rows_per_shard,
        "excluded": dict(options.excluded_origin) if options.excluded_origin else None,
    }
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
    rejects = _write_shards(spec, plan, writer, fetcher, options)
    summary.rejected.update(Counter(summary.rejected) + Counter(reject.reason for reject in rejects))
    summary.warnings += _unit_warnings(spec, plan, rejects)
    if len(rejects) == plan.num_rows:  # a row is part of a record or rejected, never both
        _explain_failure(spec, plan, rejects)
        writer.discard()  # so that a second try does not start with everything rejected
        if committed is None:  # else the table of the split that stays
            save_rejects(data_dir, spec.name, plan.split, rejects)
        return None
    manifest = writer.finish(source=source, converter=converter, rejects=rejects)
    store = MediaStore(data_dir)
    new = len(store) - media_before
    media_shards = next((group.shards for group in store.groups if group.name == manifest.media_group), ())
    summary.media_new += new
    summary.media_shared += manifest.num_examples - new
    summary.num_bytes += sum(shard.num_bytes for shard in (*manifest.shards, *media_shards))
    return manifest


def _committed(data_dir: Path, name: str, split: str) -> SplitManifest | None:
    try:
        return load_manifest(data_dir, name).get(split)
    except StoreError:  # not there yet
        return None


def _write_shards(
    spec: SetSpec, plan: SplitPlan, writer: SplitWriter, fetcher: ImageFetcher, options: Options
) -> list[Reject]:
    """Writes the shards that are not written yet; the rejects of all."""
    rejects: list[Reject] = []
    with (
        _Progress(f"{spec.name} {plan.split}", plan.num_rows) as progress,
        _picture_pool(options.workers) as pool,
    ):
        for shard, units in enumerate(plan.shards):
            num_rows = sum(len(unit.rows) for unit in units)
            if writer.has_shard(shard):
                progress.update(num_rows)
            else:
                in_shard: list[Reject] = []
                prepared = (_prepare(spec, plan.source, unit, options.excluded) for unit in units)
                loaded = ordered_map(pool, lambda one: _load(one, fetcher), prepared, _LOOK_AHEAD)
                items = _records(spec, loaded, in_shard, progress)
                writer.write_shard(shard, items, in_shard)
            rejects += writer.shard_rejects(shard)
            progress.shard_done(shard + 1, len(plan.shards), len(rejects))
    return rejects


@contextlib.contextmanager
def _picture_pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that load pictures; after a failure nothing that waits is begun any more."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="pictures")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def ordered_map(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], look_ahead: int
) -> Iterator[R]:
    """Results of the function in the order of the items, at most `look_ahead` of them begun and not yet taken."""
    pending: deque[Future[R]] = deque()
    for item in items:
        if len(pending) == look_ahead:
            yield pending.popleft().result()
        pending.append(pool.submit(function, item))
    while pending:
        yield pending.popleft().result()


@dataclass(frozen=True)
class _Prepared:
    """A unit whose rows were read: pieces of its annotation by row, its picture still to load."""

    unit: Unit
    url: str
    pieces: list[tuple[int, dict[str, Any]]]
    picture: PictureSource | None
    rejects: list[Reject]

    def reject(self, row: int, error: RowError) -> Reject:
        return Reject(row, self.unit.id, error.reason, error.detail, self.url)


@dataclass(frozen=True)
class _Loaded:
    """A unit and its picture, or why it has none."""

    prepared: _Prepared
    picture: Picture | None
    ref: MediaRef | None
    error: RowError | None = None


def _prepare(spec: SetSpec, source: SourceSplit, unit: Unit, excluded: frozenset[str]) -> _Prepared:
    """Everything about a unit that can be said before its picture is there."""
    place = Place(source.config, source.split, source.rows.folder)
    pieces: list[tuple[int, dict[str, Any]]] = []
    rejects: list[Reject] = []
    picture: PictureSource | None = None
    url = ""
    for index in unit.rows:
        try:
            row = source.rows.row(index)
            url = _url(row) or url
            _require_allowed(row, excluded)
            piece, row_picture = spec.parse(row, place), spec.picture(row, place)
        except RowError as error:
            rejects.append(Reject(index, unit.id, error.reason, error.detail, url))
            continue
        pieces.append((index, piece))
        picture = picture or row_picture
    return _Prepared(unit, url, pieces, picture, rejects)


def _url(row: Row) -> str:
    url = row.get("image_url")
    return url if isinstance(url, str) else ""


def _require_allowed(row: Row, excluded: frozenset[str]) -> None:
    if any(isinstance(row.get(column), str) and row[column] in excluded for column in ("image_url", "image_sha256")):
        raise RowError("excluded_image", "the picture occurs in the set that is kept apart for evaluation")


def _load(prepared: _Prepared, fetcher: ImageFetcher) -> _Loaded:
    """The unit with its picture; runs in the pool."""
    if prepared.picture is None:
        return _Loaded(prepared, None, None)
    try:
        picture = load_picture(prepared.picture, fetcher)
    except RowError as error:
        return _Loaded(prepared, None, None, error)
    info = picture.info
    ref = MediaRef(content_key(picture.data), "image", info.width, info.height, len(picture.data))
    return _Loaded(prepared, picture, ref)


def load_picture(source: PictureSource, fetcher: ImageFetcher) -> Picture:
    """The picture that a row speaks of. Raises RowError."""
    match source:
        case FromUrl(url, sha256):
            return fetcher.fetch(url, sha256)
        case Embedded(data):
            return check_picture(data)
        case FromFile(path):
            try:
                return check_picture(path.read_bytes())
            except (OSError, ValueError) as error:  # ValueError: a name that no file can have
                raise RowError("missing_image", f"{path}: {error}") from error
        case Drawn(draw):
            return check_picture(draw())


def _records(
    spec: SetSpec, loaded: Iterable[_Loaded], rejects: list[Reject], progress: "_Progress"
) -> Iterator[tuple[Record, Mapping[str, bytes]]]:
    """Records of the units, in order, with their pictures' bytes; adds to the rejects."""
    for one in loaded:
        prepared = one.prepared
        rejects += prepared.rejects
        if one.error is not None:
            rejects += [prepared.reject(row, one.error) for row, _ in prepared.pieces]
        elif one.picture is not None and one.ref is not None:
            pieces = []
            for row, piece in prepared.pieces:
                try:
                    pieces.append(spec.fit(piece, one.picture.info))
                except RowError as error:
                    rejects.append(prepared.reject(row, error))
            for part, annotation in enumerate(spec.combine(pieces) if pieces else []):
                part_id = prepared.unit.id if part == 0 else f"{prepared.unit.id}+{part}"
                named = {"url": prepared.url, **annotation} if prepared.url else annotation
                yield Record(part_id, named, (one.ref,)), {one.ref.sha256: one.picture.data}
        progress.update(len(prepared.unit.rows))


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
