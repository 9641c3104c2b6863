"""What the tests of the converters share: pictures, a web server on loopback, rows in files, what a store holds."""

import contextlib
import hashlib
import io
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from converters.convert import convert_set
from converters.fetch import FetchPolicy, ImageFetcher
from converters.options import Options
from converters.request import SetRequest
from converters.sets import SETS
from converters.spec import SetSpec
from converters.summary import Summary
from grain_molmo.store import AnnotationSource

# Of tests: nothing is waited for before it is asked again, and loopback may be asked.
HASTY = FetchPolicy(connect_timeout_s=5.0, read_timeout_s=5.0, backoff_s=0.0, max_wait_s=0.0, allow_private=True)
NOW = "2026-01-31T12:00:00Z"


def make_picture(number: int = 0, size: tuple[int, int] = (40, 30)) -> bytes:
    """A PNG that differs from those of other numbers."""
    out = io.BytesIO()
    Image.new("RGB", size, (number % 256, number // 256, 7)).save(out, "PNG")
    return out.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_rows(folder: Path, rows: list[dict], kind: str = "parquet", split: str = "train") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{split}.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "arrow":
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    else:
        path.write_text(json.dumps(rows))
    return str(folder)


def convert(spec: SetSpec | str, source: str, data_dir: Path, **options: Any) -> Summary:
    """Converts local rows into a set as it is known, or as it is given."""
    spec = SETS[spec] if isinstance(spec, str) else spec
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SETS, spec.name, spec)
        patch.setitem(ImageFetcher.__init__.__kwdefaults__, "now", lambda: NOW)
        chosen = Options(**{"workers": 4, "validation_fraction": 0.0, "fetching": HASTY, **options})
        return convert_set(SetRequest(name=spec.name, source=source), data_dir, chosen)


def records(data_dir: Path, name: str, split: str = "train") -> list[Any]:
    source = AnnotationSource(data_dir, name, [split])
    return [source[i] for i in range(len(source))]


def rejects(data_dir: Path, name: str, split: str = "train") -> list[dict[str, Any]]:
    lines = (data_dir / name / f"rejects-{split}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def all_files(data_dir: Path) -> dict[str, bytes]:
    """What the store holds; its locks are no part of it."""
    paths = [path for path in sorted(data_dir.rglob("*")) if path.is_file() and ".locks" not in path.parts]
    return {str(path.relative_to(data_dir)): path.read_bytes() for path in paths}


def digest_without_port(text: str) -> str:
    """What `plan` takes for the identity of a URL, the same whichever port the web server of the test has."""
    return hashlib.sha256(re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1", text).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass
class Answer:
    """What the server says to one request."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    missing_bytes: int = 0  # announced, but not sent
    never: bool = False  # hold the request until the test is over
    endless: bool = False  # send the body again and again, without announcing a length


class Web:
    """A web server on loopback: `pages` maps a path to what is answered, one after the other, the last one for good."""

    def __init__(self) -> None:
        self.pages: dict[str, list[Answer]] = {}
        self.requests: list[str] = []
        self.asked = threading.Event()  # set by the first request
        self.over = threading.Event()
        self.gate = threading.Event()  # while it is not set, requests are taken and not answered
        self.gate.set()
        self.now = Counter[str]()  # requests that are being answered, by host
        self.most = Counter[str]()  # ... at a time, also of all hosts together
        self.changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def serve(self, path: str, *answers: Answer | bytes) -> str:
        """Puts answers under a path; its URL."""
        self.pages[path] = [Answer(answer) if isinstance(answer, bytes) else answer for answer in answers]
        return self.url(path)

    def picture(self, number: int = 0, size: tuple[int, int] = (40, 30)) -> str:
        """URL of a picture."""
        return self.serve(f"/{number}.png", make_picture(number, size))

    @contextlib.contextmanager
    def handling(self, host: str) -> Iterator[None]:
        with self.changed:
            self.now[host] += 1
            self.most |= self.now
            self.most["all"] = max(self.most["all"], self.now.total())
            self.changed.notify_all()
        try:
            yield
        finally:
            with self.changed:
                self.now[host] -= 1

    def wait_for(self, requests: int) -> None:
        """Waits until so many requests are being answered."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.now.total() >= requests, timeout=30)

    def close(self) -> None:
        self.over.set()
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()


def _handler(web: Web) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            web.requests.append(self.path)
            web.asked.set()
            answers = web.pages.get(self.path, [Answer(b"not here", 404)])
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            with web.handling(self.headers["Host"].partition(":")[0]):
                self.answer(answer)

        def answer(self, answer: Answer) -> None:
            web.gate.wait()
            if answer.never:
                web.over.wait()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.endless:
                self.send_header("Connection", "close")
            else:
                self.send_header("Content-Length", str(len(answer.body) + answer.missing_bytes))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the client has seen enough
                self.wfile.write(answer.body)
                while answer.endless:
                    self.wfile.write(answer.body)
            if answer.missing_bytes:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
