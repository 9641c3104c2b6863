"""The engine: planned rows in, committed splits of the store out. Order kept, memory bounded, rejects accounted for."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.forced import ForcedRun, end_forced
from converters.jobs import Conversion, ShardJob, ShardWorker, asks_network, place_of
from converters.losses import explain_failure, too_many_rejected, unit_warnings
from converters.options import Options
from converters.plan import SplitPlan, plan_splits
from converters.processes import Runner, in_processes, in_this_process
from converters.progress import Progress
from converters.request import SetRequest, open_request, pinned, sample_written, set_name
from converters.retry import hopeful_ids
from converters.schema import check_columns
from converters.sources import SourceSplit
from converters.spec import SetSpec
from converters.summary import Summary
from converters.videos import VideoFolder
from grain_molmo.errors import ConfigError, StoreError
from grain_molmo.store import (
    MediaStore,
    Reject,
    SplitManifest,
    SplitWriter,
    dataset_lock,
    load_manifest,
    load_rejects,
    save_rejects,
)
from grain_molmo.store.manifest import count_reasons
from grain_molmo.store.staging import json_value


def convert_set(
    request: SetRequest,
    data_dir: Path,
    options: Options,
    videos: VideoFolder | None = None,
    make_runner: "MakeRunner | None" = None,
) -> Summary:
    """Converts the splits of a set into the store.

    A split is committed when all of its shards are written. Shards that an earlier run with the same arguments finished
    are kept. A row that cannot be converted is rejected with a reason and aborts nothing.

    Args:
        request: the set, and where its rows come from.
        data_dir: the store's folder.
        options: what else the caller chose.
        videos: the folder of `options.video_dir`, if it is listed already.
        make_runner: who does the jobs, if not processes of this machine.

    Raises:
        ConfigError: there are no such rows, or they are not of this set.
        StoreBusyError: another process writes the dataset, and `options.wait` is not set.
        StoreError: the store cannot be written.
    """
    started = time.monotonic()
    with (
        open_conversion(request, data_dir, options) as opened,
        make_runner(opened) if make_runner else _runner(opened, videos) as run,
    ):
        spec = opened.spec
        with_frames = spec.is_video and options.video_frames
        summary = Summary(spec.name, "videos and frames" if with_frames else "videos" if spec.is_video else "pictures")
        for plan in opened.plans:
            summary.rows += plan.num_rows
            manifest = _convert_split(plan, opened, run, summary)
            if manifest is not None:
                summary.examples[plan.split] = manifest.num_examples
        summary.refused |= {plan.split: summary.empty[plan.split] for plan in _lost(opened.plans, summary)}
        if opened.forced and not summary.refused:
            opened.forced.end()
    summary.seconds = round(time.monotonic() - started, 3)
    return summary


def _lost(plans: Sequence[SplitPlan], summary: Summary) -> list[SplitPlan]:
    """The empty splits that take all of a source split along: a small part of it, of a rare kind, may be empty."""

    def of(plan: SplitPlan) -> tuple[int, str]:
        return id(plan.source), plan.split.partition("_")[0]

    there = {of(plan) for plan in plans if plan.split in summary.examples}
    return [plan for plan in plans if plan.split in summary.empty and of(plan) not in there]


@dataclass(frozen=True)
class Opened:
    """A conversion whose rows were found and planned.

    Attributes:
        conversion: what its jobs share.
        spec: the set.
        sources: the splits of the source.
        plans: what each split of the store is to be made of.
        forced: what it has done already, if it is to be done anew.
    """

    conversion: Conversion
    spec: SetSpec
    sources: list[SourceSplit]
    plans: list[SplitPlan]
    forced: ForcedRun | None


MakeRunner = Callable[[Opened], AbstractContextManager[Runner]]


@contextlib.contextmanager
def open_conversion(request: SetRequest, data_dir: Path, options: Options) -> Iterator[Opened]:
    """A conversion, ready to be run; for as long as the context lasts the dataset is ours.

    Raises:
        ConfigError: there are no such rows, or they are not of this set.
        StoreBusyError: another process writes the dataset, and `options.wait` is not set.
    """
    with (
        dataset_lock(data_dir, set_name(request), wait=options.wait),
        sample_written(request, options, data_dir) as (found, chosen),
    ):
        spec, sources = open_request(found)
        conversion = Conversion(request=pinned(found, sources), options=chosen, data_dir=data_dir)
        plans = plan_set(spec, sources, chosen)
        forced = None
        if options.force:
            forced = ForcedRun(data_dir, spec.name, {plan.split: arguments(spec, plan, chosen) for plan in plans})
        yield Opened(conversion, spec, sources, plans, forced)


@contextlib.contextmanager
def _runner(opened: Opened, videos: VideoFolder | None) -> Iterator[Runner]:
    """This process, or as many as were asked for or are worth it."""
    number = opened.conversion.options.n_procs or _worthwhile_processes(opened)
    if number > 1:
        with in_processes(opened.conversion, number) as run:
            yield run
    else:
        with ShardWorker(opened.conversion, opened=(opened.spec, opened.sources), videos=videos) as worker:
            yield in_this_process(worker)


def _worthwhile_processes(opened: Opened) -> int:
    """As many as there are cores, if there are shards enough; one where pictures are fetched: the network decides."""
    if any(_is_fetched(opened, plan) for plan in opened.plans):
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, max((len(plan.shards) // 2 for plan in opened.plans), default=1)))


def _is_fetched(opened: Opened, plan: SplitPlan) -> bool:
    """Whether the pictures of a split are somewhere on the web."""
    place = place_of(opened.spec, plan.source, None)
    asks = asks_network(opened.spec, plan.source.rows, place, plan.shards[0])
    return asks and not opened.conversion.options.cache_only


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


def arguments(spec: SetSpec, plan: SplitPlan, options: Options) -> dict[str, Any]:
    """What decides the outcome of a split, as the manifest has it: its source, and how it was converted."""
    converter = {
        "set": spec.name,
        "validation_fraction": plan.held_out,
        "max_rows": options.max_rows,
        "rows_per_shard": options.rows_per_shard or spec.rows_per_shard,
        "excluded": dict(options.excluded_origin) if options.excluded_origin else None,
    }
    if spec.is_video:
        converter["video_frames"] = options.video_frames
    return {"converter": converter, "source": dict(plan.source.origin)}


def begin_split(opened: Opened, plan: SplitPlan, **more: Any) -> SplitWriter:
    """Begins the run of a split, or goes on with the one that was stopped.

    Args:
        opened: the conversion.
        plan: of the split.
        more: what else decides the outcome.
    """
    conversion, name = opened.conversion, opened.spec.name
    chosen = {**arguments(opened.spec, plan, conversion.options), **more}

    def open_writer() -> SplitWriter:
        return SplitWriter(conversion.data_dir, name, plan.split, num_shards=len(plan.shards), arguments=chosen)

    if opened.forced is None:
        end_forced(conversion.data_dir, name)
    writer = open_writer()
    if opened.forced and not opened.forced.goes_on:
        writer.discard()
        writer = open_writer()
    return writer


def shard_jobs(plan: SplitPlan, rejects: Sequence[Reject] | None = None) -> Iterator[ShardJob]:
    """The jobs that make up a split, in order.

    Args:
        plan: of the split.
        rejects: of the split as it is committed, if they are to be tried again.
    """
    by_unit: dict[str, list[Reject]] = {}
    for reject in rejects or ():
        by_unit.setdefault(reject.id, []).append(reject)
    for shard, units in enumerate(plan.shards):
        in_shard = tuple(reject for unit in units for reject in by_unit.get(unit.id, ()))
        yield ShardJob(
            split=plan.split,
            origin=plan.source.origin,
            shard=shard,
            num_shards=len(plan.shards),
            units=tuple(units),
            retried=None if rejects is None else in_shard,
        )


def _convert_split(plan: SplitPlan, opened: Opened, run: Runner, summary: Summary) -> SplitManifest | None:
    """Converts one split and adds to the summary; what the store has of it, None if nothing could be converted."""
    options = opened.conversion.options
    chosen = arguments(opened.spec, plan, options)
    committed = _committed(opened, plan.split)
    is_same = committed is not None and (committed.source, committed.converter) == (
        json_value(chosen["source"]),
        json_value(chosen["converter"]),
    )
    if committed is None or not is_same:
        if committed is not None and options.retry_rejects:
            raise ConfigError(
                f"{opened.spec.name} {plan.split}: --retry-rejects needs the rows and arguments of the first "
                f"conversion ({committed.source}, {committed.converter}); without it the split is converted anew"
            )
        return _write_split(plan, opened, run, summary, committed)
    if opened.forced and not opened.forced.has_done(plan.split):
        return _write_split(plan, opened, run, summary, committed)
    if options.retry_rejects:
        rejects = list(load_rejects(opened.conversion.data_dir, opened.spec.name, plan.split))
        if hopeful_ids(rejects):
            return _write_split(plan, opened, run, summary, committed, rejects)
    summary.already_there.append(plan.split)
    summary.add_rejected(committed.rejected)
    return committed


def _committed(opened: Opened, split: str) -> SplitManifest | None:
    try:
        return load_manifest(opened.conversion.data_dir, opened.spec.name).get(split)
    except StoreError:  # not there yet
        return None


def _write_split(
    plan: SplitPlan,
    opened: Opened,
    run: Runner,
    summary: Summary,
    committed: SplitManifest | None,
    retried: Sequence[Reject] | None = None,
) -> SplitManifest | None:
    """Writes and commits a split, or those of its shards that rows can be added to; None if no row is in a record."""
    spec, data_dir = opened.spec, opened.conversion.data_dir
    more = {"retry_of": committed.shards[0].file} if committed and retried is not None else {}
    writer = begin_split(opened, plan, **more)
    with Progress(f"{spec.name} {plan.split}", plan.num_rows) as progress:
        rejected = 0
        for done, result in enumerate(run(shard_jobs(plan, retried), progress.update), 1):
            rejected += result.rejected
            progress.shard_done(done, len(plan.shards), rejected)
    rejects = [reject for shard in range(len(plan.shards)) for reject in writer.shard_rejects(shard)]
    summary.add_rejected(count_reasons(rejects))
    if retried is not None:
        summary.add_retried(retried, rejects)
        if len(rejects) == len(retried):  # nothing was won
            writer.discard()
            return committed
    summary.warnings += unit_warnings(spec, plan, rejects)
    if len(rejects) == plan.num_rows:  # a row is part of a record or rejected, never both
        summary.empty[plan.split] = explain_failure(spec, plan, rejects)
        writer.discard()  # so that a second try does not start with everything rejected
        if committed is None:  # else the table of the split that stays
            save_rejects(data_dir, spec.name, plan.split, rejects)
        return None
    if len(rejects) > opened.conversion.options.max_rejected * plan.num_rows:
        summary.refused[plan.split] = too_many_rejected(spec, plan, rejects, opened.conversion.options.max_rejected)
        return committed
    uses = writer.media_uses()
    manifest = writer.finish(**arguments(spec, plan, opened.conversion.options), rejects=rejects)
    added = [group for group in MediaStore(data_dir).groups if group.name == manifest.media_group]
    media_shards = [shard for group in added for shard in group.shards]
    new = sum(map(len, added))
    summary.media_new += new
    summary.media_shared += uses - new
    summary.num_bytes += sum(shard.num_bytes for shard in (*manifest.shards, *media_shards))
    return manifest
