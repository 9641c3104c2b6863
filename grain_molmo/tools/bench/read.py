"""Records read at random, one at a time: the store's reader against Grain's ArrayRecordDataSource.

Shards of 1 KB records are written into a temporary folder. Both readers read from the page cache, in turn; Grain's
reads fewer records where it takes long. Beside it, what it costs to open the manifest of a set of ten million records:
only the manifest is there, no shard is opened for it.
"""

import argparse
import statistics
import tempfile
import tracemalloc
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import grain
import numpy as np

from grain_molmo.readable import ruled_table
from grain_molmo.store import AnnotationSource, RecordReader, ShardInfo, SplitManifest
from grain_molmo.store.files import shard_file
from grain_molmo.store.manifest import save_manifest
from grain_molmo.store.shards import ANNOTATION_OPTIONS, write_shard
from grain_molmo.tools.bench.report import Report, positive, timed

OURS, GRAIN = "RecordReader", "grain.sources.ArrayRecordDataSource"
_RECORD_BYTES = 1024
_SECONDS_A_ROUND = 0.4
_MOST_READS = 5000
_PROBES = 8


class Readable(Protocol):
    """Records by number."""

    def __getitem__(self, index: int, /) -> bytes: ...


EXAMPLES = (("a smaller one", "--records 1000 --rounds 2 --manifest-shards 10"), ("the whole", ""))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's arguments."""
    parser.add_argument(
        "--records",
        type=positive,
        nargs="+",
        default=[10_000, 100_000, 1_000_000],
        metavar="N",
        help="records in a shard, one shard each (10000 100000 1000000)",
    )
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="times that each is measured (5)")
    parser.add_argument("--manifest-shards", type=positive, default=1000, metavar="N", help="of 10,000 records (1000)")


def run(args: argparse.Namespace) -> Report:
    """The benchmark's report."""
    with tempfile.TemporaryDirectory(prefix="grain-molmo-bench-") as temporary:
        folder = Path(temporary)
        reads = {str(count): measure_reads(folder, count, args.rounds) for count in args.records}
        manifest = measure_manifest(folder, args.manifest_shards)
    settings = {"records": args.records, "rounds": args.rounds, "record_bytes": _RECORD_BYTES}
    figures = {"reads": reads, "manifest": manifest}
    return Report("read", settings, figures, _describe(figures))


def measure_reads(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Records a second of both readers at one size of shard, the shard made for it and removed."""
    path = folder / shard_file("bench-train", 0, 1)
    info = write_shard(path, _payloads(count), ANNOTATION_OPTIONS)
    readers: dict[str, Readable] = {
        OURS: RecordReader(folder, [info]),
        GRAIN: grain.sources.ArrayRecordDataSource(str(path)),
    }
    rng = np.random.default_rng(count)
    per_round = {name: _reads_a_round(reader, rng.integers(count, size=_PROBES)) for name, reader in readers.items()}
    speeds: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(rounds):
        for name, reader in readers.items():
            indices = rng.integers(count, size=per_round[name]).tolist()
            speeds[name].append(len(indices) / timed(partial(_read_all, reader, indices)))
    path.unlink()
    return {
        "records_per_s": {name: statistics.median(found) for name, found in speeds.items()},
        "reads": {name: reads * rounds for name, reads in per_round.items()},
        "ratio": statistics.median(ours / theirs for ours, theirs in zip(speeds[OURS], speeds[GRAIN], strict=True)),
    }


def _payloads(count: int) -> Iterator[bytes]:
    """Records that do not compress, cut from one random block so that making them takes no time."""
    block = np.random.default_rng(0).bytes(1 << 20)
    for number in range(count):
        start = number * 997 % (len(block) - _RECORD_BYTES)
        yield number.to_bytes(8, "little") + block[start : start + _RECORD_BYTES - 8]


def _reads_a_round(reader: Readable, probes: np.ndarray) -> int:
    """Reads that take about as long as a round should; opens the shard, too."""
    first, *others = probes.tolist()
    reader[first]
    seconds_a_read = timed(partial(_read_all, reader, others)) / len(others)
    return int(np.clip(_SECONDS_A_ROUND / seconds_a_read, _PROBES, _MOST_READS))


def _read_all(reader: Readable, indices: Sequence[int]) -> None:
    for index in indices:
        reader[index]


def measure_manifest(folder: Path, num_shards: int) -> dict[str, Any]:
    """Seconds and bytes that opening a set of so many shards of 10,000 records takes."""
    shards = tuple(
        ShardInfo(shard_file("bench-train", number, num_shards), 10_000, 10_000 * _RECORD_BYTES, f"{number:064x}")
        for number in range(num_shards)
    )
    (folder / "bench").mkdir()
    save_manifest(folder, "bench", {"train": SplitManifest(shards, None, {}, {"kind": "bench"})})
    open_it = partial(AnnotationSource, folder, "bench", ["train"])
    seconds = [timed(open_it) for _ in range(5)]
    tracemalloc.start()
    source = open_it()
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "records": len(source),
        "shards": num_shards,
        "open_s": statistics.median(seconds),
        "held_bytes": held,
        "peak_bytes": peak,
    }


def _describe(figures: dict[str, Any]) -> list[str]:
    rows = [
        (
            f"{int(count):,}",
            f"{found['records_per_s'][OURS]:,.0f}",
            f"{found['records_per_s'][GRAIN]:,.0f}",
            f"{found['ratio']:.1f}",
        )
        for count, found in figures["reads"].items()
    ]
    manifest = figures["manifest"]
    return [
        ruled_table(("records a shard", f"{OURS}, records/s", f"{GRAIN}, records/s", "ratio"), rows),
        f"A set of {manifest['records']:,} records in {manifest['shards']:,} shards opens in "
        f"{manifest['open_s'] * 1e3:.1f} ms and holds {manifest['held_bytes'] / 1e6:.2f} MB "
        f"(at most {manifest['peak_bytes'] / 1e6:.2f} MB on the way); no shard is opened.",
    ]
