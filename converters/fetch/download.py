"""The bytes behind a URL: a bounded number of requests, each bounded in time, redirects and bytes, all in memory."""

import asyncio
import contextlib
import email.utils
import hashlib
import io
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast
from weakref import WeakValueDictionary

import httpcore
import httpx

from converters.fetch.addresses import AddressRule, CheckedBackend, Resolve, system_addresses
from converters.fetch.connections import Connections
from converters.fetch.policy import FetchPolicy
from converters.fetch.reasons import may_pass
from grain_molmo.errors import FetchError, RowError

Sleep = Callable[[float], Awaitable[None] | None]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_COMPRESSED = frozenset({b"gzip", b"x-gzip", b"deflate"})  # not asked for, but some servers send it
_SMALL_BYTES = 1 << 20  # bodies up to this are read before they ask for room
_PIECE_BYTES = 1 << 16  # decompressed at a time

_HEADERS = [
    # Some hosts of PixMo's pictures refuse unnamed clients.
    (b"User-Agent", b"grain-molmo (dataset conversion)"),
    (b"Accept", b"image/*,*/*;q=0.5"),
    (b"Accept-Encoding", b"identity"),
]


def utc_now() -> str:
    """This moment in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Answer:
    """What a URL gave in the end.

    Attributes:
        data: the body, decompressed.
        attempts: requests that it took.
        time: of the last of them, UTC, ISO 8601 to the second.
    """

    data: bytes
    attempts: int
    time: str


class _Busy(RowError):
    """A status that is not a picture; says how long the server wants us to wait."""

    def __init__(self, reason: str, detail: str, retry_after_s: float):
        super().__init__(reason, detail)
        self.retry_after_s = retry_after_s


class Downloader:
    """Downloads within the bounds of a policy. Belongs to one event loop.

    The proxies that the environment names are not used: behind one nobody could check which address is connected to.

    Args:
        policy: the bounds.
        resolve: finds the addresses of a name; blocks.
        backend: opens connections to addresses that were found to be allowed.
        sleep: how to wait between two attempts, in seconds.
        now: the time of an attempt, as `Answer.time`.
    """

    def __init__(
        self,
        policy: FetchPolicy,
        *,
        resolve: Resolve = system_addresses,
        backend: httpcore.AsyncNetworkBackend | None = None,
        sleep: Sleep = asyncio.sleep,
        now: Callable[[], str] = utc_now,
    ):
        self._policy = policy
        self._sleep = sleep
        self._now = now
        connect = backend or cast(httpcore.AsyncNetworkBackend, httpcore.AnyIOBackend())
        self._backend = CheckedBackend(connect, AddressRule(policy), resolve)
        self._connections = Connections(self._backend, policy.connections, httpx.create_ssl_context())
        self._slots = asyncio.Semaphore(policy.connections)
        self._hosts: WeakValueDictionary[bytes, asyncio.Semaphore] = WeakValueDictionary()  # those somebody waits for
        self._large, self._small = _Budget(policy.memory_bytes), _Budget(policy.memory_bytes)

    async def aclose(self) -> None:
        """Closes the connections."""
        self._backend.close()
        await self._connections.aclose()

    @contextlib.asynccontextmanager
    async def answer(self, url: str) -> AsyncIterator[Answer]:
        """What a URL gives in the end; the room that its bytes take is given back on leaving.

        Raises FetchError.
        """
        room = _Room(self._large, self._small)
        try:
            yield await self._insist(url, room)
        finally:
            room.leave()

    async def _insist(self, url: str, room: "_Room") -> Answer:
        """The first answer with a body, after as many attempts as it takes and the policy has. Raises FetchError."""
        attempt = 0
        while True:
            attempt += 1
            asked = self._now()
            try:
                return Answer(await self._follow(url, room), attempt, asked)
            except RowError as error:
                room.leave()
                if attempt >= self._policy.attempts or not may_pass(error.reason):
                    raise FetchError(error.reason, error.detail, attempt, asked) from error
                wait_s = wait_before_next(self._policy, url, attempt, getattr(error, "retry_after_s", 0.0))
            waiting = self._sleep(wait_s)
            if waiting is not None:
                await waiting

    async def _follow(self, url: str, room: "_Room") -> bytes:
        """The body at the end of the redirects. Raises RowError."""
        where = web_url(url)
        for _ in range(self._policy.max_redirects + 1):
            found = await self._request(where, room)
            if isinstance(found, bytes):
                return found
            where = found
        raise RowError("too_many_redirects", f"{url}: over {self._policy.max_redirects} redirects, the next to {where}")

    async def _request(self, url: httpx.URL, room: "_Room") -> bytes | httpx.URL:
        """The body of one answer, or where it sends us. Raises RowError."""
        policy = self._policy
        timeouts = {"connect": policy.connect_timeout_s, "read": policy.read_timeout_s, "write": policy.read_timeout_s}
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        host = self._hosts.setdefault(url.raw_host, asyncio.Semaphore(policy.per_host))
        async with host, self._slots:
            try:
                async with (
                    asyncio.timeout(policy.total_timeout_s) as deadline,
                    self._connections.to(target) as connection,
                    connection.stream("GET", target, headers=_HEADERS, extensions={"timeout": timeouts}) as response,
                ):
                    return await self._read(response, url, room, deadline)
            except (TimeoutError, httpcore.TimeoutException) as error:
                raise RowError("timeout", f"{url}: {_what(error) or 'no complete answer in time'}") from error
            except (httpcore.NetworkError, httpcore.ProtocolError, zlib.error, OSError) as error:
                raise RowError("transport_error", f"{url}: {_what(error)}") from error

    async def _read(
        self, response: httpcore.Response, url: httpx.URL, room: "_Room", deadline: asyncio.Timeout
    ) -> bytes | httpx.URL:
        headers = {name.lower(): value.strip() for name, value in response.headers}
        status = response.status
        if status in _REDIRECTS and b"location" in headers:
            return _redirected(url, headers[b"location"])
        if not 200 <= status < 300:
            raise _Busy(f"http_{status}", str(url), retry_after_s(headers.get(b"retry-after", b"")))
        length = headers.get(b"content-length", b"")
        announced = int(length) if length.isdigit() else None
        if (announced or 0) > self._policy.max_bytes:
            raise RowError("too_many_bytes", f"{url}: {announced:,} bytes are announced")
        inflated = _Inflated() if headers.get(b"content-encoding", b"").lower() in _COMPRESSED else None
        most = self._policy.max_bytes if inflated or announced is None else announced
        received = 0
        with io.BytesIO() as body:  # empties it also when an error is raised, which would remember it
            async for piece in response.aiter_stream():
                received += len(piece)
                for part in inflated.parts(piece) if inflated else (piece,):
                    size = body.tell() + len(part)
                    if max(size, received) > self._policy.max_bytes:
                        raise RowError("too_many_bytes", f"{url}: over {self._policy.max_bytes:,} bytes")
                    await room.enter(size, most, deadline)
                    body.write(part)
            if inflated:
                inflated.finish()
            await room.stay(body.tell(), deadline)
            return body.getvalue()


def web_url(url: str) -> httpx.URL:
    """A URL taken apart. Raises RowError: `bad_url` if it is neither http nor https, or names no host."""
    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host  # not every host that parses is ASCII
    except (httpx.InvalidURL, ValueError) as error:
        raise RowError("bad_url", f"{url!r}: {error}") from error
    if parsed.scheme not in ("http", "https") or not host or b"%" in host or not 0 < (parsed.port or 80) < 1 << 16:
        raise RowError("bad_url", f"{url!r} is no http or https address")
    return parsed


def wait_before_next(policy: FetchPolicy, url: str, attempt: int, retry_after_s: float = 0.0) -> float:
    """Seconds to wait after an attempt that failed: longer after each, spread out by the URL, never over the bound."""
    digest = hashlib.blake2b(f"{url}\n{attempt}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    spread = 0.5 + int.from_bytes(digest, "big") / 2**64  # between a half and one and a half
    return min(max(policy.backoff_s * 2 ** (attempt - 1) * spread, retry_after_s), policy.max_wait_s)


def retry_after_s(header: bytes) -> float:
    """Seconds that a `Retry-After` header asks for; 0 if there is none or it makes no sense."""
    text = header.decode("latin-1").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _redirected(url: httpx.URL, location: bytes) -> httpx.URL:
    try:
        text = location.decode()
    except UnicodeDecodeError:
        text = location.decode("latin-1")
    try:
        return web_url(str(url.join(text)))
    except (httpx.InvalidURL, ValueError) as error:
        raise RowError("bad_url", f"{url} redirects to {text!r}: {error}") from error


def _what(error: Exception) -> str:
    return f"{type(error).__name__} {error}".removesuffix(" ") if str(error) else type(error).__name__


class _Inflated:
    """A compressed body, decompressed a bounded piece at a time: 1 MB may stand for 1 GB."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, as its first bytes say

    def parts(self, piece: bytes) -> Iterator[bytes]:
        while piece and not self._decoder.eof:
            yield self._decoder.decompress(piece, _PIECE_BYTES)
            piece = self._decoder.unconsumed_tail

    def finish(self) -> None:
        if not self._decoder.eof:
            raise zlib.error("the compressed body is cut off")


class _Budget:
    """Bytes that tasks share, handed out in the order of asking."""

    def __init__(self, total: int):
        self.total = total
        self._free = total
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    async def take(self, amount: int) -> None:
        async with self._turn:
            while self._free < amount:
                self._freed.clear()
                await self._freed.wait()
            self._free -= amount

    def give(self, amount: int) -> None:
        self._free += amount
        self._freed.set()


class _Room:
    """What one body holds of the memory: a large one all that it may come to, a small one its size when it is there.

    The two have budgets of their own: a large one that arrives slowly holds up none that is small.
    """

    def __init__(self, large: _Budget, small: _Budget):
        self._large, self._small = large, small
        self._held: tuple[_Budget, int] | None = None

    async def enter(self, size: int, most: int, deadline: asyncio.Timeout) -> None:
        """Waits until a body may grow to so many bytes; the deadline waits, too."""
        if size > _SMALL_BYTES:
            await self._take(self._large, most, deadline)

    async def stay(self, size: int, deadline: asyncio.Timeout) -> None:
        """Waits until a body of so many bytes, which is there, may wait for whoever wants it."""
        await self._take(self._small, size, deadline)

    async def _take(self, budget: _Budget, amount: int, deadline: asyncio.Timeout) -> None:
        if self._held:
            return
        loop = asyncio.get_running_loop()
        left_s = (deadline.when() or loop.time()) - loop.time()
        deadline.reschedule(None)
        amount = min(amount, budget.total)
        await budget.take(amount)
        self._held = budget, amount
        deadline.reschedule(loop.time() + left_s)

    def leave(self) -> None:
        """Gives back what is held."""
        held, self._held = self._held, None
        if held:
            budget, amount = held
            budget.give(amount)
