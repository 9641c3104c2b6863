"""Pictures by URL: from a cache or the network, checked before they count, kept only when good.

`FetchPolicy` bounds the asking, `Downloader` does it, `ImageCache` and `FetchSpool` keep what came of it, and
`converters.fetch.reasons` lists what can go wrong.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

import httpcore

from converters.fetch.addresses import Resolve, system_addresses
from converters.fetch.download import Sleep, utc_now, web_url
from converters.fetch.image_cache import FetchSpool, ImageCache
from converters.fetch.network import Network
from converters.fetch.picture_check import Picture, WholePictures, check_picture
from converters.fetch.policy import FetchPolicy
from grain_molmo.errors import FetchError, RowError

Request = tuple[str, str | None]
"""A URL, and the SHA-256 that its bytes must have or None."""
Outcome = Picture | FetchError


class ImageFetcher:
    """Fetches pictures; safe to share between threads. A context manager: leaving it closes the connections.

    Args:
        policy: bounds on the asking.
        cache: read first; written when a picture passed its checks, never with a failure.
        cache_only: ask no network; what the cache lacks is rejected as `not_in_cache`.
        spool: keeps failures, and pictures if there is no cache, for the run; see `use_spool`.
        sleep: how to wait between attempts, in seconds.
        now: says when a URL is asked, UTC, ISO 8601 to the second.
        resolve: finds the addresses of a name.
        backend: opens the connections.
    """

    def __init__(
        self,
        policy: FetchPolicy | None = None,
        cache: ImageCache | None = None,
        *,
        cache_only: bool = False,
        spool: FetchSpool | None = None,
        sleep: Sleep = asyncio.sleep,
        now: Callable[[], str] = utc_now,
        resolve: Resolve = system_addresses,
        backend: httpcore.AsyncNetworkBackend | None = None,
    ):
        self.policy = policy or FetchPolicy()
        self.cache = cache
        self._spool = spool
        self._cache_only = cache_only
        self._options: dict[str, Any] = {"sleep": sleep, "now": now, "resolve": resolve, "backend": backend}
        self._lock = threading.Lock()
        self._network: Network | None = None  # once it is needed
        self._closed = False
        self._asked: dict[Request, Future[Outcome]] = {}  # in flight, for whoever wants it, too
        self._pictures = WholePictures()

    def __enter__(self) -> "ImageFetcher":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Drops what is asked for and closes the connections; a `fetch` that waits raises CancelledError."""
        with self._lock:
            self._closed = True
            network, self._network = self._network, None
        if network is not None:
            network.close()

    def use_spool(self, spool: FetchSpool | None) -> None:
        """Keeps what is asked for from now on in another spool."""
        self._spool = spool

    def fetch(self, url: str, sha256: str | None = None) -> Picture:
        """The picture of a URL, from the cache, the spool or the network; waits for it.

        Args:
            url: http or https.
            sha256: hex digest that its bytes must have, or None to take what there is if it is whole.

        Raises:
            FetchError: it was asked for, in this run or an earlier one with the same spool, and could not be had.
            RowError: it was not asked for: `bad_url`, `not_in_cache`, or what is wrong with the one in the cache.
        """
        web_url(url)
        request, spool = (url, sha256), self._spool
        with self._lock:
            asked = self._asked.get(request)
        if asked is None:
            picture = self._on_disk(request, spool)
            if picture is not None:
                return picture
            asked = self._ask(request, spool)
        outcome = asked.result()
        if isinstance(outcome, FetchError):
            raise _anew(outcome)  # several threads may wait for it
        return outcome

    def cached(self, key: str) -> Picture:
        """The picture that the cache holds under a SHA-256 of a URL that nobody knows any more.

        Raises RowError: `not_in_cache`, or what is wrong with the picture.
        """
        data = self.cache.read_key(key) if self.cache else None
        if data is None:
            raise RowError(
                "not_in_cache", f"{key}; the row names its picture by the hash of its URL: give --image-cache"
            )
        return check_picture(data)

    def prefetch(self, requests: Iterable[Request]) -> None:
        """Begins to ask for pictures and returns; a `fetch` of one of them waits for it, or finds it done.

        What comes of them goes to the cache and the spool, not into memory. Without a spool, or where the network may
        not be asked, nothing is done.
        """
        spool = self._spool
        store = self._store(spool)
        if spool is None or store is None or self._cache_only:
            return
        for url, sha256 in requests:
            try:
                web_url(url)
            except RowError:
                continue  # `fetch` will say so
            # Not looked at more closely: if something else lies there, `fetch` asks.
            if not store.path(url).exists() and spool.failure(url, sha256) is None:
                self._ask((url, sha256), spool)

    def _store(self, spool: FetchSpool | None) -> ImageCache | None:
        """Where pictures lie, if anywhere."""
        return self.cache or (spool.pictures if spool else None)

    def _on_disk(self, request: Request, spool: FetchSpool | None) -> Picture | None:
        """What is known of a request. Raises RowError if it is known to fail; None if the network must say."""
        url, sha256 = request
        failure = spool.failure(url, sha256) if spool else None
        if failure is not None:
            raise failure
        store = self._store(spool)
        data = store.read(url) if store else None
        if data is not None:
            try:
                # What we wrote is whole. What the user has is taken as the published pipeline would.
                return check_picture(data, sha256)
            except RowError:
                # A failure that somebody cached, or a picture that changed: the network decides, if it may.
                if self._cache_only:
                    raise
        if self._cache_only:
            raise RowError("not_in_cache", url)
        return None

    def _ask(self, request: Request, spool: FetchSpool | None) -> "Future[Outcome]":
        """Begins to ask the network, unless it is being asked already."""
        with self._lock:
            if request in self._asked:
                return self._asked[request]
            if self._closed:
                raise RuntimeError("the fetcher is closed")
            if self._network is None:
                self._network = Network(self.policy, self._options)
            network = self._network
            future = network.begin(web_url(request[0]).host, lambda: self._from_network(network, request, spool))
            self._asked[request] = future
        future.add_done_callback(lambda _: self._forget(request))
        return future

    def _forget(self, request: Request) -> None:
        with self._lock:
            self._asked.pop(request, None)

    async def _from_network(self, network: Network, request: Request, spool: FetchSpool | None) -> Outcome:
        outcome = await self._download(network, request, spool)
        if isinstance(outcome, FetchError) and spool:
            await network.in_thread(lambda: spool.add_failure(*request, outcome))
        return outcome

    async def _download(self, network: Network, request: Request, spool: FetchSpool | None) -> Outcome:
        """What asking comes to; a failure as a value, for a raised one holds on to the bytes where it was raised."""
        url = request[0]
        try:
            async with network.downloader.answer(url) as answer:
                found = await network.in_thread(lambda: self._accept(request, answer.data, spool))
                if isinstance(found, Picture):
                    return found
                return FetchError(found.reason, f"{url}: {found.detail}", answer.attempts, answer.time)
        except FetchError as error:
            return _anew(error)

    def _accept(self, request: Request, data: bytes, spool: FetchSpool | None) -> Picture | RowError:
        """Checks and keeps what came; what is wrong with it is returned, too."""
        url, sha256 = request
        try:
            picture = self._pictures.check(data, sha256)
        except RowError as error:
            return RowError(error.reason, error.detail)
        store = self._store(spool)
        if store:
            store.write(url, data)
        return picture


def _anew(error: FetchError) -> FetchError:
    """The same error, without what it remembers of where it was raised."""
    return FetchError(error.reason, error.detail, error.attempts, error.time)
