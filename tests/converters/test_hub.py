"""Sets loaded from the hub by name, through the hub's own client libraries against a small hub on loopback."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loopback import Web, make_picture

from grain_molmo.datasets.pixmo import PixMoCap, PixMoDocs
from grain_molmo.store import load_manifest

PROGRAM = Path(__file__).parents[2] / "converters/to_arrayrecord.py"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Hub(BaseHTTPRequestHandler):
    """The few pages of the hub that its clients ask for when they load Parquet files."""

    protocol_version = "HTTP/1.1"
    root: Path
    revisions: list[str]
    sent: list[int]  # bytes of files, by request

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if match := re.fullmatch(r"/api/datasets/(\w+/[\w-]+)(?:/revision/(\w+))?", path):
            self.revisions.append(match[2])
            if not (self.root / match[1]).is_dir():
                self._reply(b"{}", 404, {"X-Error-Code": "RepoNotFound"})
                return
            files = [{"rfilename": entry["path"]} for entry in self._entries(match[1], "", recursive=True)]
            self._reply_json({"id": match[1], "sha": COMMIT, "tags": [], "siblings": files})
        elif match := re.fullmatch(rf"/api/datasets/(\w+/[\w-]+)/tree/{COMMIT}/?(.*)", path):
            self._reply_json(self._entries(match[1], match[2], recursive=False))
        elif match := re.fullmatch(rf"/datasets/(\w+/[\w-]+)/resolve/{COMMIT}/(.*)", path):
            file = self.root / match[1] / match[2]
            if file.is_file():
                etag = {"ETag": f'"{_digest(file)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
                part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                wanted = slice(int(part[1]), int(part[2]) + 1) if part else slice(None)
                data = file.read_bytes()[wanted]
                self.sent += [len(data)]
                self._reply(data, 206 if part else 200, etag)
            else:
                self._reply(b"", 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        else:
            self._reply(b"{}", 404)

    do_HEAD = do_GET

    def _entries(self, repository: str, folder: str, *, recursive: bool) -> list[dict]:
        root = self.root / repository
        found = sorted((root / folder).rglob("*") if recursive else (root / folder).glob("*"))
        return [
            {
                "type": "file" if path.is_file() else "directory",
                "path": str(path.relative_to(root)),
                "size": path.stat().st_size,
                "oid": _digest(path) if path.is_file() else "0" * 40,
            }
            for path in found
        ]

    def _reply_json(self, value: object) -> None:
        self._reply(json.dumps(value).encode())

    def _reply(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _digest(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[type[_Hub]]:
    handler = type("Hub", (_Hub,), {"root": tmp_path / "hub", "revisions": [], "sent": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        handler.endpoint = f"http://127.0.0.1:{server.server_port}"
        yield handler
        server.shutdown()


def convert(hub: type[_Hub], tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGINGFACE_"))}
    environment |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
    options = ["--allow-private", "--data-dir", str(tmp_path / "data"), "--json"]
    command = [sys.executable, str(PROGRAM), *arguments, *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_sets_are_loaded_by_name_at_the_commit_that_the_manifest_records(web: Web, hub: type[_Hub], tmp_path: Path):
    captions = [{"image_url": web.picture(i), "caption": f"Caption {i}.", "transcripts": ["t"]} for i in range(4)]
    _write(hub.root / "allenai/pixmo-cap/data/train-00000-of-00001.parquet", captions)
    questions = {"question": ["What?"], "answer": ["A chart"]}
    for config in ("charts", "tables", "diagrams", "other"):
        for split in ("train", "validation"):
            row = {"image": {"bytes": make_picture(), "path": None}, "image_id": "c", "questions": questions}
            _write(hub.root / f"allenai/pixmo-docs/{config}/{split}-00000-of-00001.parquet", [row], is_picture=True)
    card = [
        f"- config_name: {config}\n  data_files:\n"
        + "".join(f"  - split: {split}\n    path: {config}/{split}-*\n" for split in ("train", "validation"))
        for config in ("charts", "tables", "diagrams", "other")
    ]
    (hub.root / "allenai/pixmo-docs/README.md").write_text(f"---\nconfigs:\n{''.join(card)}---\n")

    # Whether a picture is held out depends on its URL, and with it on the port of this run's server.
    result = convert(hub, tmp_path, "pixmo-cap", "pixmo-docs", "--revision", "main", "--validation-fraction", "0")
    assert result.returncode == 0, result.stderr
    assert hub.revisions[0] == "main"
    dataset = PixMoCap(data_dir=tmp_path / "data")
    assert [example["caption"] for example in dataset] == [row["caption"] for row in captions]
    assert len(PixMoDocs(data_dir=tmp_path / "data")) == 4
    source = load_manifest(tmp_path / "data", "pixmo_cap")["train"].source
    assert source["revision"] == COMMIT
    assert (source["kind"], source["path"], source["rows"]) == ("hub", "allenai/pixmo-cap", 4)


def test_a_set_that_the_hub_does_not_have_is_a_clear_failure(hub: type[_Hub], tmp_path: Path):
    result = convert(hub, tmp_path, "pixmo-cap", "--source", "allenai/pixmo-nothing")
    assert result.returncode == 1
    (summary,) = json.loads(result.stdout)["datasets"]
    assert "the hub does not know allenai/pixmo-nothing" in summary["error"]


def test_points_are_not_converted_without_the_rows_to_keep_apart(web: Web, hub: type[_Hub], tmp_path: Path):
    row = {"image_url": web.picture(), "image_sha256": "0" * 64, "points": [{"x": 1.0, "y": 1.0}], "count": 1}
    _write(
        hub.root / "allenai/pixmo-points/data/train-00000-of-00001.parquet",
        [{**row, "label": "cat", "collection_method": "pointing"}],
    )
    result = convert(hub, tmp_path, "pixmo-points")
    assert result.returncode == 1
    assert "pixmo-points-eval" in json.loads(result.stdout)["datasets"][0]["error"]
    assert web.requests == []


def test_a_dry_run_reads_the_ends_of_files_and_the_first_rows(hub: type[_Hub], tmp_path: Path):
    rows = [
        {"image_url": "http://127.0.0.1:9/x.png", "caption": os.urandom(1000).hex(), "transcripts": []}
        for _ in range(4000)
    ]
    for part in range(3):
        _write(hub.root / f"allenai/pixmo-cap/data/train-0000{part}-of-00003.parquet", rows, row_group_size=100)
    size = sum(path.stat().st_size for path in hub.root.rglob("*.parquet"))
    result = convert(hub, tmp_path, "pixmo-cap", "--dry-run")
    assert result.returncode == 0, result.stderr
    (estimate,) = json.loads(result.stdout)["datasets"]
    assert sum(split["rows"] for split in estimate["splits"]) == 12_000
    assert estimate["download_bytes"] == size
    assert sum(hub.sent) < size / 2
    assert not (tmp_path / "data").exists()


def _write(path: Path, rows: list[dict], *, is_picture: bool = False, row_group_size: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    if is_picture:  # what tells `datasets` that it would have to decode
        features = {"info": {"features": {"image": {"_type": "Image"}}}}
        features["info"]["features"] |= {
            "image_id": {"dtype": "string", "_type": "Value"},
            "questions": {
                "question": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
                "answer": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
            },
        }
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, path, row_group_size=row_group_size)
