"""Who does the jobs of a split: this process, or several that it starts."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Protocol

from converters.jobs import Conversion, ShardJob, ShardResult, ShardWorker, run_shard
from grain_molmo.errors import StoreError

# Begun or waiting in a process at a time, for each: the next job is there when one is done, the rest are not made yet.
_JOBS_A_PROCESS = 2


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
    context = multiprocessing.get_context("spawn")  # threads do not survive a fork
    lifeline, ours = context.Pipe(duplex=False)
    policy = conversion.options.fetching  # bounds all of them together
    share = replace(
        policy,
        connections=max(1, policy.connections // number),
        per_host=max(1, policy.per_host // number),
        memory_bytes=max(1, policy.memory_bytes // number),
    )
    conversion = replace(conversion, options=replace(conversion.options, fetching=share))
    pool = ProcessPoolExecutor(number, context, _begin, (conversion, lifeline))

    def run(jobs: Iterable[ShardJob], on_rows: Callable[[int], object]) -> Iterator[ShardResult]:
        pending: set[Future[ShardResult]] = set()
        waiting = iter(jobs)
        while True:
            for job in _first(waiting, number * _JOBS_A_PROCESS - len(pending)):
                pending.add(pool.submit(_run, job))
            if not pending:
                return
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for result in (future.result() for future in done):
                on_rows(result.num_rows)
                yield result

    try:
        yield run
    except BrokenProcessPool as error:
        raise StoreError(
            f"{conversion.request.name}: a process of the conversion was ended from outside, perhaps for want of "
            "memory; the same command goes on where it was, fewer --n-procs take less"
        ) from error
    finally:
        ours.close()
        pool.shutdown(cancel_futures=True)
        lifeline.close()


def _first(jobs: Iterator[ShardJob], number: int) -> Iterator[ShardJob]:
    for _ in range(number):
        job = next(jobs, None)
        if job is None:
            return
        yield job


_worker: ShardWorker | None = None  # of this process, if it is one of several


def _begin(conversion: Conversion, lifeline: Connection) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal it reaches all; the process that began decides
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    _worker = ShardWorker(conversion)


def _end_with(lifeline: Connection) -> None:
    """Ends this process at once when the other end is closed: the conversion was stopped or killed, or is over."""
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv()
    os._exit(1)


def _run(job: ShardJob) -> ShardResult:
    if _worker is None:
        raise RuntimeError("a job came to a process that was not begun")
    return run_shard(job, _worker)
