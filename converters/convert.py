"""The engine: planned rows in, committed splits of the store out. Order kept, memory bounded, rejects accounted for."""

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.jobs import Conversion, ShardJob, ShardWorker, run_shard
from converters.options import Options
from converters.plan import SplitPlan, plan_splits
from converters.progress import Progress
from converters.request import SetRequest, open_request, pinned, sample_written
from converters.schema import check_columns
from converters.sources import SourceSplit
from converters.spec import UNIT_REASONS, SetSpec
from converters.summary import Summary
from converters.videos import VideoFolder
from grain_molmo.errors import ConfigError, StoreError
from grain_molmo.store import MediaStore, Reject, SplitManifest, SplitWriter, load_manifest, save_rejects

log = logging.getLogger(__name__)


def convert_set(request: SetRequest, data_dir: Path, options: Options, videos: VideoFolder | None = None) -> Summary:
    """Converts the splits of a set into the store.

    A split is committed when all of its shards are written. Shards that an earlier run with the same arguments finished
    are kept. A row that cannot be converted is rejected with a reason and aborts nothing.

    Args:
        request: the set, and where its rows come from.
        data_dir: the store's folder.
        options: what else the caller chose.
        videos: the folder of `options.video_dir`, if it is listed already.

    Raises:
        ConfigError: there are no such rows, or they are not of this set.
        StoreError: the store cannot be written.
    """
    started = time.monotonic()
    with open_conversion(request, data_dir, options) as opened:
        spec = opened.spec
        with_frames = spec.is_video and options.video_frames
        summary = Summary(spec.name, "videos and frames" if with_frames else "videos" if spec.is_video else "pictures")
        with ShardWorker(opened.conversion, opened=(spec, opened.sources), videos=videos) as worker:
            for plan in opened.plans:
                summary.rows += plan.num_rows
                manifest = _convert_split(plan, worker, summary)
                if manifest is not None:
                    summary.examples[plan.split] = manifest.num_examples
    summary.seconds = round(time.monotonic() - started, 3)
    return summary


@dataclass(frozen=True)
class Opened:
    """A conversion whose rows were found and planned.

    Attributes:
        conversion: what its jobs share.
        spec: the set.
        sources: the splits of the source.
        plans: what each split of the store is to be made of.
    """

    conversion: Conversion
    spec: SetSpec
    sources: list[SourceSplit]
    plans: list[SplitPlan]


@contextlib.contextmanager
def open_conversion(request: SetRequest, data_dir: Path, options: Options) -> Iterator[Opened]:
    """A conversion, ready to be run; for as long as the context lasts the dataset is ours.

    Raises ConfigError if there are no such rows, or they are not of this set.
    """
    with sample_written(request, options, data_dir) as (found, chosen):
        spec, sources = open_request(found)
        conversion = Conversion(request=pinned(found, sources), options=chosen, data_dir=data_dir)
        yield Opened(conversion, spec, sources, plan_set(spec, sources, chosen))


def plan_set(spec: SetSpec, sources: Sequence[SourceSplit], options: Options) -> list[SplitPlan]:
    """What each split of the store is to be made of. Raises ConfigError if the rows are not of this set."""
    for source in sources:
        check_columns(spec.name.replace("_", "-"), source.rows, spec.required, spec.optional, spec.either)
        # Better now than at each row.
        if spec.is_video and options.video_dir is None and "video_path" not in source.rows.columns:
            raise ConfigError(
                f"{spec.name}: the rows have only the ids of their videos; say where those are: --video-dir DIR"
            )
    return plan_splits(
        spec,
        sources,
        validation_fraction=options.validation_fraction,
        max_rows=options.max_rows,
        rows_per_shard=options.rows_per_shard,
    )


def converter_arguments(spec: SetSpec, plan: SplitPlan, options: Options) -> dict[str, Any]:
    """What decides the outcome beside the rows themselves, as the manifest has it."""
    arguments = {
        "set": spec.name,
        "validation_fraction": plan.held_out,
        "max_rows": options.max_rows,
        "rows_per_shard": options.rows_per_shard or spec.rows_per_shard,
        "excluded": dict(options.excluded_origin) if options.excluded_origin else None,
    }
    return {**arguments, "video_frames": options.video_frames} if spec.is_video else arguments


def begin_split(spec: SetSpec, plan: SplitPlan, conversion: Conversion) -> SplitWriter:
    """Begins the run of a split, or goes on with the one that was stopped."""
    options, arguments = (
        conversion.options,
        {
            "converter": converter_arguments(spec, plan, conversion.options),
            "source": dict(plan.source.origin),
        },
    )

    def open_writer() -> SplitWriter:
        return SplitWriter(conversion.data_dir, spec.name, plan.split, num_shards=len(plan.shards), arguments=arguments)

    writer = open_writer()
    if options.force:
        writer.discard()
        writer = open_writer()
    return writer


def shard_jobs(plan: SplitPlan) -> Iterator[ShardJob]:
    """The jobs that make up a split, in order."""
    for shard, units in enumerate(plan.shards):
        yield ShardJob(
            split=plan.split, origin=plan.source.origin, shard=shard, num_shards=len(plan.shards), units=tuple(units)
        )


def _convert_split(plan: SplitPlan, worker: ShardWorker, summary: Summary) -> SplitManifest | None:
    """Converts one split and adds to the summary; None if not one of its rows could be converted."""
    conversion, spec = worker.conversion, worker.spec
    data_dir = conversion.data_dir
    source, converter = dict(plan.source.origin), converter_arguments(spec, plan, conversion.options)
    committed = _committed(data_dir, spec.name, plan.split)
    if committed and not conversion.options.force and (committed.source, committed.converter) == (source, converter):
        summary.already_there.append(plan.split)
        summary.rejected.update(Counter(summary.rejected) + Counter(committed.rejected))
        return committed

    writer = begin_split(spec, plan, conversion)
    media_before = len(MediaStore(data_dir))
    with Progress(f"{spec.name} {plan.split}", plan.num_rows) as progress:
        _run(shard_jobs(plan), worker, progress)
    rejects = [reject for shard in range(len(plan.shards)) for reject in writer.shard_rejects(shard)]
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


def _run(jobs: Iterable[ShardJob], worker: ShardWorker, progress: Progress) -> None:
    rejected = 0
    for done, job in enumerate(jobs, 1):
        result = run_shard(job, worker, progress.update)
        rejected += result.rejected
        progress.shard_done(done, job.num_shards, rejected)


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
