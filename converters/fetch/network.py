"""A thread that runs downloads, as many at a time as the bounds allow; the others wait for little memory."""

import asyncio
import logging
import os
import threading
import urllib.request
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from converters.fetch.download import Downloader
from converters.fetch.policy import FetchPolicy

log = logging.getLogger(__name__)

T = TypeVar("T")
_Job = tuple[Callable[[], Awaitable[Any]], "Future[Any]"]

_CHECKERS = min(8, os.cpu_count() or 1)

# Begun for each connection that there may be: those beyond wait for a connection or to be tried again, 10 kB each.
_BEGUN_PER_CONNECTION = 32
_BEGUN_OF_HOST_PER_CONNECTION = 4


class Network:
    """Runs downloads in an event loop of its own, and in threads what is done with what they bring.

    Args:
        policy: bounds on the asking.
        options: the other arguments of `Downloader`.
    """

    def __init__(self, policy: FetchPolicy, options: dict[str, Any]):
        _mention_proxies()
        self._threads = ThreadPoolExecutor(_CHECKERS, thread_name_prefix="check")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fetch", daemon=True)
        self._thread.start()
        self._queue = _HostQueue(
            _BEGUN_PER_CONNECTION * policy.connections, _BEGUN_OF_HOST_PER_CONNECTION * policy.per_host
        )

        async def open_downloader() -> Downloader:
            return Downloader(policy, **options)

        self.downloader = asyncio.run_coroutine_threadsafe(open_downloader(), self._loop).result()

    def begin(self, host: str, work: Callable[[], Awaitable[T]]) -> "Future[T]":
        """Does work that asks a host, when it is its turn. Called from other threads."""
        future: Future[T] = Future()
        self._loop.call_soon_threadsafe(self._queue.put, host, (work, future))
        return future

    async def in_thread(self, work: Callable[[], T]) -> T:
        """What work that takes a while returns."""
        return await self._loop.run_in_executor(self._threads, work)

    def close(self) -> None:
        """Stops what runs and forgets what waits; their futures are cancelled."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._threads.shutdown(cancel_futures=True)

    async def _stop(self) -> None:
        self._queue.clear()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self.downloader.aclose()


class _HostQueue:
    """Jobs by host. The hosts take turns, so that one of which much is wanted holds up none of the others."""

    def __init__(self, most: int, most_of_host: int):
        self._most = most
        self._most_of_host = most_of_host
        self._waiting: dict[str, deque[_Job]] = {}
        self._ready: OrderedDict[str, None] = OrderedDict()  # hosts with jobs that wait and may begin
        self._begun = Counter[str]()
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, host: str, job: _Job) -> None:
        """Begins a job now or later."""
        self._waiting.setdefault(host, deque()).append(job)
        self._make_ready(host)
        self._begin()

    def clear(self) -> None:
        """Cancels the jobs that have not begun."""
        for jobs in self._waiting.values():
            for _, future in jobs:
                future.cancel()
        self._waiting.clear()
        self._ready.clear()

    def _make_ready(self, host: str) -> None:
        if host in self._waiting and self._begun[host] < self._most_of_host:
            self._ready.setdefault(host)

    def _begin(self) -> None:
        while self._ready and len(self._tasks) < self._most:
            host, _ = self._ready.popitem(last=False)
            jobs = self._waiting[host]
            work, future = jobs.popleft()
            if not jobs:
                del self._waiting[host]
            self._begun[host] += 1
            task = asyncio.ensure_future(_run(work, future))
            self._tasks.add(task)
            task.add_done_callback(lambda task, host=host, future=future: self._done(host, task, future))
            self._make_ready(host)

    def _done(self, host: str, task: "asyncio.Task[None]", future: "Future[Any]") -> None:
        self._tasks.discard(task)
        future.cancel()  # if it has no result: a task that is cancelled before its first step runs nothing
        self._begun[host] -= 1
        if self._begun[host] == 0:
            del self._begun[host]
        self._make_ready(host)
        self._begin()


async def _run(work: Callable[[], Awaitable[T]], future: "Future[T]") -> None:
    try:
        future.set_result(await work())
    except asyncio.CancelledError:
        future.cancel()
        raise
    except BaseException as error:
        future.set_exception(error)


def _mention_proxies() -> None:
    named = {kind: proxy for kind, proxy in urllib.request.getproxies().items() if kind in ("http", "https", "all")}
    if named:
        log.warning(
            "The proxy of the environment (%s) is not used for pictures: behind it nobody could check that an address "
            "that a row names is public. They are asked for directly.",
            ", ".join(f"{kind}_proxy" for kind in sorted(named)),
        )
