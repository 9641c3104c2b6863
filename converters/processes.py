"""Who does the jobs of a split: this process, or several that it starts."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Protocol

from converters.jobs import Conversion, ShardJob, ShardResult, ShardWorker, run_shard
from grain_molmo.errors import StoreError
from grain_molmo.processes import helper_processes, in_any_order


class Runner(Protocol):
    """Does the jobs of one split."""

    def __call__(self, jobs: Iterable[ShardJob], on_rows: Callable[[int], object]) -> Iterator[ShardResult]:
        """Results of the jobs as they get done, in any order; tells meanwhile how many source rows are done."""
        ...


def in_this_process(worker: ShardWorker) -> Runner:
    """Does one job after the other."""

    def run(jobs: Iterable[ShardJob], on_rows: Callable[[int], object]) -> Iterator[ShardResult]:
        waiting = iter(jobs)
        job = next(waiting, None)
        while job is not None:
            following = next(waiting, None)
            yield run_shard(job, worker, on_rows, following)
            job = following

    return run


@contextlib.contextmanager
def in_processes(conversion: Conversion, number: int) -> Iterator[Runner]:
    """Does as many jobs at a time as there are processes. They end with the context, and with this process."""
    policy = conversion.options.fetching  # bounds all of them together
    share = replace(
        policy,
        connections=max(1, policy.connections // number),
        per_host=max(1, policy.per_host // number),
        memory_bytes=max(1, policy.memory_bytes // number),
    )
    conversion = replace(conversion, options=replace(conversion.options, fetching=share))

    def run(jobs: Iterable[ShardJob], on_rows: Callable[[int], object]) -> Iterator[ShardResult]:
        for result in in_any_order(pool, number, _run, jobs):
            on_rows(result.num_rows)
            yield result

    try:
        with helper_processes(number, _begin, conversion) as pool:
            yield run
    except BrokenProcessPool as error:
        raise StoreError(
            f"{conversion.request.name}: a process of the conversion was ended from outside, perhaps for want of "
            "memory; the same command goes on where it was, fewer --n-procs take less"
        ) from error


_worker: ShardWorker | None = None  # of this process, if it is one of several


def _begin(conversion: Conversion) -> None:
    global _worker
    _worker = ShardWorker(conversion)


def _run(job: ShardJob) -> ShardResult:
    if _worker is None:
        raise RuntimeError("a job came to a process that was not begun")
    return run_shard(job, _worker)
