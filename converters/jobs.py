"""One shard as a job that any process can do: what it is made of goes in, finished files lie in the store."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.fetch import FetchSpool, ImageCache, ImageFetcher
from converters.media import MediaLoader, num_bytes, ordered_map
from converters.options import Options
from converters.plan import Unit
from converters.request import SetRequest, open_request
from converters.retry import committed_records, hopeful_ids, retry_shard
from converters.rows import Rows
from converters.sources import SourceSplit
from converters.spec import FromUrl, Place, SetSpec
from converters.units import Made, Prepared, make_records, prepare
from converters.videos import VideoFolder
from grain_molmo.errors import ConfigError
from grain_molmo.store import Record, Reject, SplitWriter

# Media in flight: enough that one slow host does not idle the other workers, few enough to hold in memory. Of pictures
# about 256; of videos as many as fit, at least one.
_BYTES_IN_FLIGHT = 256 << 20
_UNITS_LOOKED_AT = 8


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What all jobs of a conversion share; picklable.

    Attributes:
        request: where the rows come from; of the hub, at a commit.
        options: what the caller chose.
        data_dir: the store's folder, which every process that takes part sees.
    """

    request: SetRequest
    options: Options
    data_dir: Path


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """One shard of a split that a `SplitWriter` has begun; picklable.

    Attributes:
        split: of the store.
        origin: of the source split, so that a process that finds other rows in its place notices.
        shard, num_shards: which of how many.
        units: what it is made of.
        retried: the rows of the committed shard that are in no record, if only those are to be tried again.
    """

    split: str
    origin: Mapping[str, Any]
    shard: int
    num_shards: int
    units: tuple[Unit, ...]
    retried: tuple[Reject, ...] | None = None

    @property
    def num_rows(self) -> int:
        """Source rows of the shard."""
        return sum(len(unit.rows) for unit in self.units)


@dataclass(frozen=True)
class ShardResult:
    """What a job came to.

    Attributes:
        shard: which.
        num_rows: source rows that it was made of.
        rejected: how many of them are in no record.
    """

    shard: int
    num_rows: int
    rejected: int


class ShardWorker:
    """What a process keeps from one job of a conversion to the next: the opened source, threads, connections.

    A context manager; not to be shared between threads.

    Args:
        conversion: whose jobs it does.
        opened: what `open_request` said, if the caller has it.
        videos: the folder of videos, if the caller has it listed.
        fetcher: instead of one that the options describe; closed with the worker.
    """

    def __init__(
        self,
        conversion: Conversion,
        *,
        opened: tuple[SetSpec, list[SourceSplit]] | None = None,
        videos: VideoFolder | None = None,
        fetcher: ImageFetcher | None = None,
    ):
        options = conversion.options
        self.conversion = conversion
        self.spec, self._sources = opened or open_request(conversion.request)
        self.videos = videos or (VideoFolder(options.video_dir) if options.video_dir else None)
        self._split = ""
        self._ahead: dict[tuple[str, int], list[Prepared]] = {}
        self._exit = contextlib.ExitStack()
        self.pool = self._exit.enter_context(_media_pool(options.workers))
        cache = ImageCache(options.image_cache) if options.image_cache else None
        # Closed before the pool, so that no thread goes on waiting for a picture.
        fetcher = fetcher or ImageFetcher(options.fetching, cache, cache_only=options.cache_only)
        self._fetcher = self._exit.enter_context(fetcher)
        self.loader = MediaLoader(self._fetcher)

    def __enter__(self) -> "ShardWorker":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._exit.close()

    def source(self, job: ShardJob) -> SourceSplit:
        """The source split of a job. Raises ConfigError if it is not what the job was made for."""
        for source in self._sources:
            if dict(source.origin) == dict(job.origin):
                return source
        name = self.spec.name
        raise ConfigError(f"{name} {job.split}: the rows are not those that the conversion began with: {job.origin}")

    def writer(self, job: ShardJob) -> SplitWriter:
        """The writer of a job's split; attached once a split, as is the spool of what is fetched for it."""
        if job.split != self._split:
            self._writer = SplitWriter.attach(self.conversion.data_dir, self.spec.name, job.split)
            self._split = job.split
            if not self.conversion.options.cache_only:
                spool = self._exit.enter_context(FetchSpool(self._writer.spool_folder))
                self._fetcher.use_spool(spool)
        return self._writer

    def place(self, job: ShardJob) -> Place:
        """Where the rows of a job stand."""
        return place_of(self.spec, self.source(job), self.videos)

    def prepared(self, job: ShardJob, units: Sequence[Unit]) -> Iterable[Prepared]:
        """The units of a job with everything that can be said before their media are there."""
        ahead = self._ahead.pop((job.split, job.shard), None)
        return ahead if ahead is not None else self._prepare(job, units)

    def _prepare(self, job: ShardJob, units: Sequence[Unit]) -> Iterator[Prepared]:
        return prepare(self.spec, self.source(job).rows, self.place(job), units, self.conversion.options.excluded)

    def fetch_ahead(self, job: ShardJob) -> None:
        """Begins to ask for the pictures of a job, if they are somewhere on the web and were not asked for."""
        key = job.split, job.shard
        if (
            self.conversion.options.cache_only
            or key in self._ahead
            or not asks_network(self.spec, self.source(job).rows, self.place(job), job.units)
        ):
            return
        hopeful = None if job.retried is None else hopeful_ids(job.retried)
        units = [unit for unit in job.units if hopeful is None or unit.id in hopeful]
        self._ahead[key] = list(self._prepare(job, units))
        self._fetcher.prefetch(
            (source.url, source.sha256)
            for unit in self._ahead[key]
            for source in unit.sources
            if isinstance(source, FromUrl)
        )


@contextlib.contextmanager
def _media_pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that load media; after a failure nothing that waits is begun any more."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="media")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def run_shard(
    job: ShardJob,
    worker: ShardWorker,
    on_rows: Callable[[int], object] = lambda num_rows: None,
    following: ShardJob | None = None,
) -> ShardResult:
    """Writes a shard, unless an earlier run finished it.

    Args:
        job: the shard; `SplitWriter` was begun for its split.
        worker: of the conversion that the job belongs to.
        on_rows: told how many more source rows are done.
        following: the job that comes next, if that is known: its pictures are asked for meanwhile.

    Raises:
        ConfigError: the source has other rows than the job was made for.
        StoreError: the shard cannot be written.
    """
    writer = worker.writer(job)
    if not writer.has_shard(job.shard):
        for one in (job, following):
            if one is not None and not writer.has_shard(one.shard):
                worker.fetch_ahead(one)
        if job.retried is None:
            rejects: list[Reject] = []
            made = _made(job.units, job, worker)
            writer.write_shard(job.shard, _records(made, rejects, on_rows), rejects)
            return ShardResult(job.shard, job.num_rows, len(rejects))
        data_dir, name = worker.conversion.data_dir, worker.spec.name
        retry_shard(
            writer,
            job.shard,
            job.units,
            job.retried,
            lambda: committed_records(data_dir, name, job.split, job.shard),
            lambda units: _made(units, job, worker),
        )
    on_rows(job.num_rows)
    return ShardResult(job.shard, job.num_rows, len(writer.shard_rejects(job.shard)))


def asks_network(spec: SetSpec, rows: Rows, place: Place, units: Sequence[Unit]) -> bool:
    """Whether the first rows that can be read have pictures that are somewhere on the web."""
    first = prepare(spec, rows, place, units[:_UNITS_LOOKED_AT], frozenset())
    return any(isinstance(source, FromUrl) for unit in first for source in unit.sources)


def place_of(spec: SetSpec, source: SourceSplit, videos: VideoFolder | None) -> Place:
    """Where the rows of a source split stand."""
    return Place(source.config or spec.config_of_others, spec.store_split(source.split), source.rows.folder, videos)


def _made(units: Sequence[Unit], job: ShardJob, worker: ShardWorker) -> Iterator[Made]:
    """The units in order, converted in the worker's threads."""
    spec, with_frames = worker.spec, worker.conversion.options.video_frames
    return ordered_map(
        worker.pool,
        lambda unit: make_records(spec, unit, worker.loader, with_frames),
        worker.prepared(job, units),
        lambda unit: num_bytes(unit.sources, with_frames),
        _BYTES_IN_FLIGHT,
        lambda unit: worker.loader.is_at_hand(unit.sources),
    )


def _records(
    made: Iterable[Made], rejects: list[Reject], on_rows: Callable[[int], object]
) -> Iterator[tuple[Record, Mapping[str, bytes]]]:
    """Records of the units, in order, with the bytes of their media; adds to the rejects."""
    for one in made:
        rejects += one.rejects
        for record in one.records:
            yield record, one.media
        on_rows(one.num_rows)
