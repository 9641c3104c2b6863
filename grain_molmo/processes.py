"""Processes that work for this one and never outlive it."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

# Begun or waiting in a process at a time, for each: the next job is there when one is done, the rest are not made yet.
_JOBS_A_PROCESS = 2


@contextlib.contextmanager
def helper_processes(number: int, begin: Callable[..., None], *arguments: Any) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes that end with the context, and with this process however it ends.

    Args:
        number: of processes.
        begin: called in each with the arguments, before its first job.
        *arguments: that pickle.
    """
    context = multiprocessing.get_context("spawn")  # threads do not survive a fork
    lifeline, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(number, context, _begin, (lifeline, begin, arguments))
    try:
        yield pool
    finally:
        ours.close()
        pool.shutdown(cancel_futures=True)
        lifeline.close()


def in_any_order(
    pool: ProcessPoolExecutor, number: int, work: Callable[[Job], Result], jobs: Iterable[Job]
) -> Iterator[Result]:
    """Results of the jobs as they get done. Raises what a job raises, BrokenProcessPool if a process was ended.

    Args:
        pool: of `helper_processes`.
        number: of its processes.
        work: a function of a module.
        jobs: taken from the iterable a few ahead.
    """
    pending: set[Future[Result]] = set()
    waiting = iter(jobs)
    while True:
        pending |= {pool.submit(work, job) for job in islice(waiting, number * _JOBS_A_PROCESS - len(pending))}
        if not pending:
            return
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        yield from (future.result() for future in done)


def _begin(lifeline: Connection, begin: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal it reaches all; the process that began decides
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    begin(*arguments)


def _end_with(lifeline: Connection) -> None:
    """Ends this process at once when the other end is closed: the work was stopped or killed, or is over."""
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv()
    os._exit(1)
