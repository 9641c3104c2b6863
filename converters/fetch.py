"""Pictures by URL: bounded in time, size, attempts and redirects, checked before they count, cached only when good."""

import email.utils
import hashlib
import os
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from grain_molmo.errors import MediaError, RowError
from grain_molmo.vision.image import ImageInfo, probe_image

_PASSING_STATUSES = frozenset({408, 425, 429})  # and all of 5xx


@dataclass(frozen=True, kw_only=True)
class FetchPolicy:
    """How long and how hard to try.

    Attributes:
        connect_timeout_s: for a connection to open.
        read_timeout_s: between two pieces of an answer.
        total_timeout_s: for one whole answer, so that a trickling server holds no worker.
        attempts: at most this many requests for one URL.
        backoff_s: wait before the second attempt; doubles with each further one.
        max_wait_s: no wait is longer, whatever `Retry-After` says (some servers name a date years ahead).
        max_redirects: followed one after the other.
        max_bytes: a larger answer is refused.
    """

    connect_timeout_s: float = 5.0
    read_timeout_s: float = 20.0
    total_timeout_s: float = 60.0
    attempts: int = 3
    backoff_s: float = 2.0
    max_wait_s: float = 30.0
    max_redirects: int = 5
    max_bytes: int = 64 << 20


@dataclass(frozen=True)
class Picture:
    """Original bytes that were found to be a picture, and what their header says."""

    data: bytes
    info: ImageInfo


def check_picture(data: bytes, sha256: str | None = None) -> Picture:
    """The bytes as a picture.

    Raises:
        RowError: `hash_mismatch` if the bytes are not those with the given SHA-256, `not_an_image` if no decoder knows
            them, else the reason that the header is refused for.
    """
    if sha256 is not None:
        found = hashlib.sha256(data).hexdigest()
        if found != sha256.lower():
            raise RowError("hash_mismatch", f"the bytes have SHA-256 {found}, the row says {sha256}")
    try:
        return Picture(data, probe_image(data))
    except MediaError as error:
        # The first bytes tell people more than a decoder's message, and are the same in every run.
        begin = f"{len(data):,} bytes that begin {data[:24]!r}"
        raise RowError(error.reason, begin if error.reason == "not_an_image" else error.detail) from error


class ImageCache:
    """A folder of pictures under the SHA-256 of their URL, the layout that the published downloader leaves behind."""

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder).expanduser()
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, url: str) -> Path:
        """Where the picture of a URL lies, whether or not it is there."""
        return self.folder / hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()

    def read(self, url: str) -> bytes | None:
        """What lies there. It may be anything: the published downloader writes its error messages there, too."""
        return self.read_key(self.path(url).name)

    def read_key(self, key: str) -> bytes | None:
        """What lies under the hash of a URL."""
        if not re.fullmatch(r"[0-9a-f]{64}", key):  # never a path
            return None
        try:
            return (self.folder / key).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, url: str, data: bytes) -> None:
        """Stores a picture; a reader sees all of it or nothing."""
        path = self.path(url)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


class ImageFetcher:
    """Fetches pictures; safe to share between threads. A context manager: leaving it closes the connections.

    Args:
        policy: bounds on each URL.
        cache: read first; written when a picture passed its checks, never with a failure.
        connections: at most so many at once.
        cache_only: ask no network; what the cache lacks is rejected as `not_in_cache`.
        sleep: how to wait between attempts, in seconds.
    """

    def __init__(
        self,
        policy: FetchPolicy | None = None,
        cache: ImageCache | None = None,
        *,
        connections: int = 32,
        cache_only: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.policy = policy or FetchPolicy()
        self.cache = cache
        self._cache_only = cache_only
        self._sleep = sleep
        self._client = httpx.Client(
            timeout=httpx.Timeout(self.policy.read_timeout_s, connect=self.policy.connect_timeout_s, pool=None),
            limits=httpx.Limits(max_connections=connections),
            follow_redirects=True,
            max_redirects=self.policy.max_redirects,
            # Some hosts of PixMo's pictures refuse unnamed clients.
            headers={"User-Agent": "grain-molmo (dataset conversion)", "Accept": "image/*,*/*;q=0.5"},
        )

    def __enter__(self) -> "ImageFetcher":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._client.close()

    def fetch(self, url: str, sha256: str | None = None) -> Picture:
        """The picture of a URL, from the cache or the network.

        Args:
            url: http or https.
            sha256: hex digest that its bytes must have, or None to take what there is.

        Raises:
            RowError: with a stable reason: `bad_url`, `not_in_cache`, `http_404` and so on, `timeout`,
                `transport_error`, `too_many_redirects`, `too_many_bytes`, `hash_mismatch`, `not_an_image`.
        """
        _require_web_url(url)
        cached = self.cache.read(url) if self.cache else None
        if cached is not None:
            try:
                return check_picture(cached, sha256)
            except RowError:
                # A failure that somebody cached, or a picture that changed: the network decides, if it may.
                if self._cache_only:
                    raise
        if self._cache_only:
            raise RowError("not_in_cache", url)
        picture = check_picture(self._download(url), sha256)
        if self.cache:
            self.cache.write(url, picture.data)
        return picture

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

    def _download(self, url: str) -> bytes:
        policy = self.policy
        for attempt in range(1, policy.attempts + 1):
            wait_s = policy.backoff_s * 2 ** (attempt - 1)
            try:
                return self._request(url)
            except _Busy as error:
                failure = RowError(error.reason, error.detail)
                wait_s = max(wait_s, error.retry_after_s)
            except httpx.TooManyRedirects as error:
                raise RowError("too_many_redirects", f"{url}: over {policy.max_redirects} redirects") from error
            except (httpx.UnsupportedProtocol, httpx.InvalidURL, UnicodeError) as error:
                raise RowError("bad_url", f"{url}: {error}") from error
            except httpx.TimeoutException as error:
                failure = RowError("timeout", f"{url}: {type(error).__name__} {error}")
            except httpx.HTTPError as error:
                failure = RowError("transport_error", f"{url}: {type(error).__name__} {error}")
            if attempt == policy.attempts:
                raise failure
            self._sleep(min(wait_s, policy.max_wait_s))
        raise ValueError(f"attempts must be at least 1, not {policy.attempts}")

    def _request(self, url: str) -> bytes:
        deadline = time.monotonic() + self.policy.total_timeout_s
        with self._client.stream("GET", url) as response:
            status = response.status_code
            if status in _PASSING_STATUSES or status >= 500:
                raise _Busy(f"http_{status}", url, _retry_after_s(response.headers.get("Retry-After")))
            if not response.is_success:
                raise RowError(f"http_{status}", url)
            body = bytearray()
            for piece in response.iter_bytes():
                body += piece
                if len(body) > self.policy.max_bytes:
                    raise RowError("too_many_bytes", f"{url}: over {self.policy.max_bytes:,} bytes")
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout(f"not complete after {self.policy.total_timeout_s:g} s")
            return bytes(body)


class _Busy(RowError):
    """A status that may pass; says how long the server wants us to wait."""

    def __init__(self, reason: str, detail: str, retry_after_s: float):
        super().__init__(reason, detail)
        self.retry_after_s = retry_after_s


def _retry_after_s(header: str | None) -> float:
    """Seconds that a `Retry-After` header asks for; 0 if there is none or it makes no sense."""
    if not header:
        return 0.0
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return 0.0


def _require_web_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_web = parts.scheme.lower() in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_web = False
    if not is_web:
        raise RowError("bad_url", f"{url!r} is no http or https address")
