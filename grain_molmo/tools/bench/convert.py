"""Rows of annotations into a store, opened and verified, against writing the bare rows with array_record.

Rows with the columns of pixmo-docs refer to a few local pictures; they are converted by `grain-molmo convert` in
processes of its own, with one process and with several. The baseline reads the same Parquet row groups and writes each
row as JSON with ArrayRecordWriter: no check, no media, no checksum, and nothing to resume.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from grain_molmo.errors import StoreError
from grain_molmo.readable import human_bytes, ruled_table
from grain_molmo.store import AnnotationSource
from grain_molmo.tools.bench.report import Report, positive, timed

BASELINE = "array_record alone"
_NAME, _SPLIT = "pixmo_docs", "train_charts"
_PICTURES = 16
_ROW_GROUP = 10_000


EXAMPLES = (("a smaller one", "--rows 1000 --n-procs 1"), ("the whole", ""))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's arguments."""
    parser.add_argument("--rows", type=positive, default=100_000, metavar="N", help="to convert (100000)")
    parser.add_argument(
        "--n-procs", type=positive, nargs="+", default=[1, 4], metavar="N", help="processes of each conversion (1 4)"
    )


def run(args: argparse.Namespace) -> Report:
    """The benchmark's report."""
    with tempfile.TemporaryDirectory(prefix="grain-molmo-bench-") as temporary:
        folder = Path(temporary)
        source = _write_rows(folder / "rows", args.rows)
        baseline_s = timed(lambda: _write_bare(source, folder / "bare.array_record"))
        found = {number: _measure(folder / f"store-{number}", source, number) for number in args.n_procs}
    figures = {
        "baseline_rows_per_s": args.rows / baseline_s,
        "conversions": {
            str(number): {**one, "rows_per_s": args.rows / one["seconds"], "ratio": baseline_s / one["seconds"]}
            for number, one in found.items()
        },
    }
    return Report("convert", {"rows": args.rows, "n_procs": args.n_procs}, figures, _describe(args.rows, figures))


def _write_rows(folder: Path, count: int) -> Path:
    """Rows of two questions each, in row groups, beside their pictures; the file's path."""
    path = folder / "charts" / "train.parquet"
    path.parent.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(_PICTURES):
        out = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(out, "JPEG")
        (path.parent / f"{number}.jpg").write_bytes(out.getvalue())
    words = [f"word{number}" for number in rng.integers(0, 10_000, 4096)]

    def row(index: int) -> dict[str, Any]:
        start = index * 31 % 4000
        asked = [" ".join(words[start : start + 12]) + "?", " ".join(words[start + 20 : start + 36]) + "?"]
        return {
            "image": {"bytes": None, "path": f"{index % _PICTURES}.jpg"},
            "image_id": f"chart_{index:08d}",
            "questions": {"question": asked, "answer": [str(index), words[start + 40]]},
        }

    schema = pa.schema(
        {
            "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
            "image_id": pa.string(),
            "questions": pa.struct({"question": pa.list_(pa.string()), "answer": pa.list_(pa.string())}),
        }
    )
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, count, _ROW_GROUP):
            rows = [row(index) for index in range(start, min(count, start + _ROW_GROUP))]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return path


def _write_bare(source: Path, target: Path) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        file = pq.ParquetFile(source)
        for group in range(file.num_row_groups):
            yield from file.read_row_group(group).to_pylist()

    writer = ArrayRecordWriter(str(target), "group_size:1,zstd:3")
    for row in rows():
        writer.write(json.dumps(row).encode())
    writer.close()


def _measure(data_dir: Path, source: Path, n_procs: int) -> dict[str, Any]:
    """Seconds, memory and size of one conversion, and what it takes to open and to verify what it made."""
    places = ["--source", str(source.parent.parent), "--data-dir", str(data_dir)]
    convert = ["convert", _NAME, *places, "--n-procs", str(n_procs), "--json"]
    peaks: list[int] = []
    seconds = timed(lambda: peaks.append(_grain_molmo(convert)))
    opened: list[AnnotationSource] = []
    open_s = timed(lambda: opened.append(AnnotationSource(data_dir, _NAME, [_SPLIT])))
    verify_s = timed(lambda: _grain_molmo(["verify", "--data-dir", str(data_dir), "--json"]))
    return {
        "seconds": seconds,
        "largest_process_bytes": peaks[0],
        "store_bytes": sum(path.stat().st_size for path in data_dir.rglob("*") if path.is_file()),
        "records": len(opened[0]),
        "open_s": open_s,
        "verify_s": verify_s,
    }


def _grain_molmo(words: list[str]) -> int:
    """Runs the command line; the most memory that its process, or one that it started, has had."""
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "grain_molmo", *words]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise StoreError(f"grain-molmo {' '.join(words)} failed: {log.read().decode(errors='replace')[-500:]}")
    return usage.ru_maxrss if sys.platform == "darwin" else usage.ru_maxrss * 1024


def _describe(rows: int, figures: dict[str, Any]) -> list[str]:
    lines = [
        (
            number,
            f"{one['rows_per_s']:,.0f}",
            f"{one['ratio']:.2f}",
            human_bytes(one["largest_process_bytes"]),
            human_bytes(one["store_bytes"]),
            f"{one['open_s'] * 1e3:.1f} ms",
            f"{one['records'] / one['verify_s']:,.0f}",
        )
        for number, one in figures["conversions"].items()
    ]
    header = ("processes", "rows/s", "ratio", "largest process", "store", "opens in", "verified/s")
    return [
        f"{rows:,} rows; {BASELINE} writes {figures['baseline_rows_per_s']:,.0f} a second.",
        ruled_table(header, lines),
    ]
