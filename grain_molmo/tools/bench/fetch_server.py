"""A web server on loopback that misbehaves in every way that hosts of pictures do: `/KIND/NUMBER` says how."""

import asyncio
import io
import multiprocessing
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing.connection import Connection

import numpy as np
from PIL import Image

KINDS: dict[str, tuple[int, str | None]] = {
    # kind: (how many in a thousand, the reason that it is rejected for, None where the picture comes in the end)
    "good": (500, None),
    "slow": (60, None),  # half of it, a pause, the rest
    "flaky": (40, None),  # 503 once
    "redirected": (40, None),
    "gzipped": (20, None),
    "429-second": (20, None),  # Retry-After of a second, once
    "hashed": (40, None),  # the row has the right SHA-256
    "404": (100, "http_404"),
    "429-year": (10, "http_429"),  # Retry-After of a year, always
    "500": (20, "http_500"),
    "never": (20, "timeout"),  # takes the request and says nothing
    "trickle": (5, "timeout"),  # a byte now and then
    "cut": (15, "transport_error"),  # fewer bytes than announced
    "closed": (10, "transport_error"),  # hangs up
    "gone": (20, "unknown_host"),
    "loop": (10, "too_many_redirects"),
    "to-file": (5, "bad_url"),
    "to-private": (5, "private_address"),
    "wrong-hash": (20, "hash_mismatch"),
    "html": (20, "not_an_image"),
    "truncated": (10, "truncated"),  # as many bytes as announced, but half a picture
    "huge": (3, "too_many_bytes"),  # announces 1 GB
    "endless": (3, "too_many_bytes"),  # sends 1 GB without saying so
    "bomb": (4, "too_many_bytes"),  # 1 MB that unpack to 1 GB
}
GONE_HOST, PRIVATE_HOST = "gone.test", "metadata.test"

_YEAR_S = 365 * 24 * 3600
_GIGABYTE = 1 << 30
_PAUSE_S = 0.1
_POOL = 32  # different scenes; every number has bytes of its own


def picture(number: int) -> bytes:
    """The picture of a number: a JPEG of 640x480, about 60 kB, with the number in a comment."""
    comment = b"picture %d" % number
    jpeg = _scene(number % _POOL)
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


@cache
def _scene(number: int) -> bytes:
    rng = np.random.default_rng(number)
    small = Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    out = io.BytesIO()
    small.resize((640, 480), Image.Resampling.BICUBIC).save(out, "JPEG", quality=92)
    return out.getvalue()


@contextmanager
def serving() -> Iterator[int]:
    """The port of the server, which runs in a process of its own until the block is left."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there,), daemon=True)
    process.start()
    there.close()
    try:
        yield here.recv()
    finally:
        process.terminate()
        process.join()


def _serve(connection: Connection) -> None:
    asyncio.run(_Server().run(connection))


class _Server:
    """Remembers what was asked for, for those who answer only the second time."""

    def __init__(self) -> None:
        self._asked = Counter[str]()

    async def run(self, connection: Connection) -> None:
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0, backlog=1000)
        connection.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers requests on one connection until an answer is such that it ends."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode()
                self._asked[path] += 1
                async for piece in self._answer(path):
                    writer.write(piece)
                    await writer.drain()
        except (_HangUp, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: str) -> AsyncIterator[bytes]:
        _, kind, number = path.split("/")
        body, is_first = picture(int(number)), self._asked[path] == 1
        match kind:
            case "slow":
                yield _head(len(body)) + body[: len(body) // 2]
                await asyncio.sleep(_PAUSE_S)
                yield body[len(body) // 2 :]
            case "never" | "trickle":
                yield b"" if kind == "never" else _head(len(body))
                while True:
                    await asyncio.sleep(_PAUSE_S)
                    yield b"" if kind == "never" else b"\xff"
            case "cut" | "closed":
                yield _head(len(body)) + body[:1000] if kind == "cut" else b""
                raise _HangUp
            case "endless":
                yield _head(None)
                for _ in range(_GIGABYTE >> 20):
                    yield bytes(1 << 20)
                raise _HangUp
            case "bomb":
                for piece in (_head(None, "200 OK", "Content-Encoding: gzip"), *_bomb()):
                    yield piece
                raise _HangUp
            case _:
                yield _WHOLE.get(kind, _good)(path, body, is_first)


class _HangUp(Exception):
    pass


def _head(length: int | None, status: str = "200 OK", *headers: str) -> bytes:
    announced = "Connection: close" if length is None else f"Content-Length: {length}"
    return "\r\n".join([f"HTTP/1.1 {status}", announced, *headers, "", ""]).encode()


def _good(path: str, body: bytes, is_first: bool) -> bytes:
    return _head(len(body)) + body


def _refusal(status: str, *headers: str, once: bool = False) -> Callable[[str, bytes, bool], bytes]:
    def answer(path: str, body: bytes, is_first: bool) -> bytes:
        return _head(0, status, *headers) if is_first or not once else _good(path, body, is_first)

    return answer


def _redirect(to: Callable[[str], str]) -> Callable[[str, bytes, bool], bytes]:
    return lambda path, body, is_first: _head(0, "302 Found", f"Location: {to(path)}")


def _gzipped(path: str, body: bytes, is_first: bool) -> bytes:
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    packed = packer.compress(body) + packer.flush()
    return _head(len(packed), "200 OK", "Content-Encoding: gzip") + packed


@cache
def _bomb() -> tuple[bytes, ...]:
    """Pieces of a gzip stream of a gigabyte of zeros."""
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    first = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)  # packs the same wherever it stands
    return (first, *[again] * (_GIGABYTE >> 20))


_WHOLE = {
    "404": _refusal("404 Not Found"),
    "500": _refusal("500 Internal Server Error"),
    "flaky": _refusal("503 Service Unavailable", once=True),
    "429-second": _refusal("429 Too Many Requests", "Retry-After: 1", once=True),
    "429-year": _refusal("429 Too Many Requests", f"Retry-After: {_YEAR_S}"),
    "redirected": _redirect(lambda path: path.replace("redirected", "good")),
    "loop": _redirect(lambda path: path),
    "to-file": _redirect(lambda path: "file:///etc/hostname"),
    "to-private": _redirect(lambda path: f"http://{PRIVATE_HOST}/latest/meta-data/"),
    "gzipped": _gzipped,
    "html": lambda path, body, is_first: _head(26) + b"<html>Not found.</html>...",
    "truncated": lambda path, body, is_first: _good(path, body[: len(body) // 2], is_first),
    "huge": lambda path, body, is_first: _head(_GIGABYTE) + body,
}
