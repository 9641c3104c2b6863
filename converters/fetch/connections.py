"""Connections that are kept open between requests to the same host."""

import contextlib
import ssl
from collections.abc import AsyncIterator

import httpcore

_KEPT_ALIVE_S = 10.0

Origin = tuple[bytes, bytes, int | None]


class Connections:
    """Connections of one event loop, each lent to one request at a time.

    httpcore's own pool looks at every socket whenever a request begins or ends, which costs more than the requests do
    from some dozens of connections on, and it can lose a connection for good when a request is cancelled (its issue
    1093). Here whoever borrows a connection also closes it, unless it may be used again.

    Args:
        backend: opens them.
        keep: at most so many that nobody uses; the oldest go first.
        ssl_context: for https.
    """

    def __init__(self, backend: httpcore.AsyncNetworkBackend, keep: int, ssl_context: ssl.SSLContext):
        self._backend = backend
        self._keep = keep
        self._ssl_context = ssl_context
        self._idle: dict[httpcore.AsyncHTTPConnection, Origin] = {}  # the oldest first

    @contextlib.asynccontextmanager
    async def to(self, url: httpcore.URL) -> AsyncIterator[httpcore.AsyncHTTPConnection]:
        """A connection for one request, opened when that is made."""
        origin = (url.scheme, url.host, url.port)
        connection = await self._kept(origin) or httpcore.AsyncHTTPConnection(
            url.origin, self._ssl_context, _KEPT_ALIVE_S, network_backend=self._backend
        )
        try:
            yield connection
        finally:
            if connection.is_idle() and not connection.is_closed() and not _has_more(connection):
                self._idle[connection] = origin
                if len(self._idle) > self._keep:
                    await self._drop(next(iter(self._idle)))
            else:
                await connection.aclose()

    async def aclose(self) -> None:
        """Closes those that nobody uses."""
        for connection in list(self._idle):
            await self._drop(connection)

    async def _kept(self, origin: Origin) -> httpcore.AsyncHTTPConnection | None:
        """The youngest that leads there and is still open."""
        for connection in [one for one, leads_to in reversed(self._idle.items()) if leads_to == origin]:
            if not connection.has_expired():
                del self._idle[connection]
                return connection
            await self._drop(connection)
        return None

    async def _drop(self, connection: httpcore.AsyncHTTPConnection) -> None:
        if self._idle.pop(connection, None) is not None:
            await connection.aclose()


def _has_more(connection: httpcore.AsyncHTTPConnection) -> bool:
    """Whether the server sent more than it announced: httpcore would take it for the answer to the next request.

    Nothing public tells. Of a version of httpcore that says it otherwise, no connection is used again.
    """
    state = getattr(getattr(connection, "_connection", None), "_h11_state", None)
    return state is None or bool(state.trailing_data[0])
