"""Pictures fetched from a web server that misbehaves, and pictures a second against a plain HTTP client.

The server runs on loopback in a process of its own. Under the names of many hosts it answers well, slowly, never, with
errors, redirects in circles or into the private network, wrong hashes, pages, cut pictures, a gigabyte, and bombs. Rows
with its URLs are converted into a store: exactly the good pictures must be there, and each of the others be rejected
for its own reason. Then only good pictures are fetched, looked through and written to disk, in turn with httpx that
only reads them, in as many threads as we have connections.
"""

import argparse
import contextlib
import json
import random
import resource
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from converters.convert import Opened, convert_set
from converters.fetch import FetchPolicy, FetchSpool, ImageFetcher
from converters.jobs import ShardWorker
from converters.options import Options
from converters.processes import Runner, in_this_process
from converters.request import SetRequest
from grain_molmo.readable import ruled_table
from grain_molmo.store import AnnotationSource, MediaStore, content_key
from grain_molmo.tools.bench.fetch_server import GONE_HOST, KINDS, PRIVATE_HOST, picture, serving
from grain_molmo.tools.bench.report import Report, positive, speed_ratio, timed

OURS, BASELINE = "ImageFetcher", "httpx.Client in threads"
_HOSTS = 40
_WITH_HASH, _WITHOUT_HASH = "pixmo_ask_model_anything", "pixmo_cap"


@dataclass(frozen=True)
class Case:
    """A URL, what it does, and what should come of it."""

    url: str
    kind: str
    number: int
    reason: str | None


EXAMPLES = (("a smaller one", "--urls 200 --good 50 --rounds 1"), ("the whole", ""))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's arguments."""
    parser.add_argument("--urls", type=positive, default=5000, metavar="N", help="that are converted (5000)")
    parser.add_argument("--good", type=positive, default=1000, metavar="N", help="that are fetched in turn (1000)")
    parser.add_argument("--rounds", type=positive, default=3, metavar="N", help="times that each is measured (3)")
    parser.add_argument(
        "--timeout", type=float, default=2.0, metavar="S", help="seconds that a server may be silent (2; usually 20)"
    )


def run(args: argparse.Namespace) -> Report:
    """The benchmark's report."""
    policy = FetchPolicy(
        connect_timeout_s=args.timeout,
        read_timeout_s=args.timeout,
        total_timeout_s=3 * args.timeout,
        backoff_s=args.timeout / 10,
        max_wait_s=args.timeout,
        allow_hosts=("127.0.0.1",),
    )
    with serving() as port, tempfile.TemporaryDirectory(prefix="grain-molmo-bench-") as temporary:
        mixed = convert_mixed(Path(temporary) / "mixed", cases(args.urls, port), policy)
        good = measure_good(Path(temporary) / "good", port, args.good, args.rounds, policy)
    figures = {"mixed": mixed, "good": good}
    settings = {"urls": args.urls, "good": args.good, "rounds": args.rounds, "timeout_s": args.timeout}
    return Report("fetch", settings, figures, _describe(figures, policy))


def cases(count: int, port: int) -> list[Case]:
    """So many URLs, all kinds among them in their shares (each at least once), well mixed."""
    total = sum(share for share, _ in KINDS.values())
    kinds = list(KINDS)
    for kind, (share, _) in KINDS.items():
        kinds += [kind] * (round(count * share / total) - 1)
    kinds += ["good"] * (count - len(kinds))
    random.Random(0).shuffle(kinds)
    return [_case(kind, number, port) for number, kind in enumerate(kinds)]


def _case(kind: str, number: int, port: int) -> Case:
    host = GONE_HOST if kind == "gone" else f"host{number % _HOSTS}.test"
    return Case(f"http://{host}:{port}/{kind}/{number}", kind, number, KINDS[kind][1])


def resolve(host: str, port: int) -> list[str]:
    """The addresses of the names that the cases use, without asking anybody."""
    if host == GONE_HOST:
        raise OSError("no such name")
    return ["169.254.169.254" if host == PRIVATE_HOST else "127.0.0.1"]


def convert_mixed(folder: Path, mixed: Sequence[Case], policy: FetchPolicy) -> dict[str, Any]:
    """Converts the cases; seconds, bytes of memory, what became of each kind, and what should not have."""
    of_set = {
        _WITHOUT_HASH: [case for case in mixed if case.kind not in ("hashed", "wrong-hash")],
        _WITH_HASH: [case for case in mixed if case.kind in ("hashed", "wrong-hash")],
    }
    before = _peak_bytes()
    seconds = timed(lambda: [_convert(name, folder, policy, some) for name, some in of_set.items()])
    peak = _peak_bytes()
    found: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    wrong: list[str] = []
    for name, some in of_set.items():
        outcomes = _outcomes(folder / "store", name)
        for case in some:
            outcome = outcomes.pop(case.url)
            found[case.kind][outcome] += 1
            if outcome != (case.reason or "stored"):
                wrong.append(f"{case.url}: {outcome}, not {case.reason or 'stored'}")
        wrong += [f"{url}: {outcome}, of no row" for url, outcome in outcomes.items()]
    return {
        "urls": len(mixed),
        "seconds": seconds,
        "urls_per_s": len(mixed) / seconds,
        "peak_bytes": peak,
        "peak_bytes_before": before,
        "outcomes": {kind: dict(counts) for kind, counts in found.items()},
        "wrong": wrong,
    }


def _convert(name: str, folder: Path, policy: FetchPolicy, some: Sequence[Case]) -> None:
    source = folder / name
    source.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([_row(name, case) for case in some]), source / "train.parquet")

    @contextlib.contextmanager
    def knowing_the_names(opened: Opened) -> Iterator[Runner]:
        of_set = opened.spec, opened.sources
        fetcher = ImageFetcher(policy, resolve=resolve)
        with ShardWorker(opened.conversion, opened=of_set, fetcher=fetcher) as worker:
            yield in_this_process(worker)

    options = Options(validation_fraction=0.0, workers=policy.connections)
    convert_set(SetRequest(name=name, source=str(source)), folder / "store", options, make_runner=knowing_the_names)


def _row(name: str, case: Case) -> dict[str, Any]:
    if name == _WITHOUT_HASH:
        return {"image_url": case.url, "caption": f"Picture {case.number}."}
    sha256 = content_key(picture(case.number + (case.kind == "wrong-hash")))
    question = {"question": "What is this?", "answer": f"Picture {case.number}."}
    return {"image_url": case.url, "image_sha256": sha256, **question}


def _outcomes(data_dir: Path, name: str) -> dict[str, str]:
    """What became of each URL: "stored" if the store has its very bytes, else the reason that it was rejected for."""
    lines = (data_dir / name / "rejects-train.jsonl").read_text(encoding="utf-8").splitlines()
    outcomes = {line["url"]: line["reason"] for line in map(json.loads, lines)}
    media = MediaStore(data_dir)
    records = AnnotationSource(data_dir, name, ["train"])
    for record in (records[index] for index in range(len(records))):
        url = record.annotation["url"]
        same = media.read(record.media[0].sha256) == picture(int(url.rpartition("/")[2]))
        outcomes[url] = "stored" if same else "stored, but with other bytes"
    return outcomes


def _peak_bytes() -> int:
    """The most memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure_good(folder: Path, port: int, count: int, rounds: int, policy: FetchPolicy) -> dict[str, Any]:
    """Pictures a second of both, in turn; of each round other pictures."""
    seconds: dict[str, list[float]] = {OURS: [], BASELINE: []}
    for number in range(rounds + 1):  # the first does not count
        numbers = range(number * count, (number + 1) * count)
        for name, fetch_all in ((OURS, _fetch_all), (BASELINE, _get_all)):
            urls = [f"http://127.0.0.1:{port}/good/{one}" for one in numbers]
            elapsed = fetch_all(urls, policy, folder / f"{number}")
            if number:
                seconds[name].append(elapsed)
    return {
        "pictures": count,
        "pictures_per_s": {name: count / statistics.median(found) for name, found in seconds.items()},
        "ratio": speed_ratio(seconds[OURS], seconds[BASELINE]),
    }


def _fetch_all(urls: Sequence[str], policy: FetchPolicy, folder: Path) -> float:
    one_host = replace(policy, per_host=policy.connections)
    with FetchSpool(folder) as spool, ImageFetcher(one_host, spool=spool) as fetcher:

        def work() -> None:
            fetcher.prefetch((url, None) for url in urls)
            for url in urls:
                fetcher.fetch(url)

        return timed(work)


def _get_all(urls: Sequence[str], policy: FetchPolicy, folder: Path) -> float:
    limits = httpx.Limits(max_connections=policy.connections)
    threads = ThreadPoolExecutor(policy.connections)
    with httpx.Client(limits=limits, timeout=30, trust_env=False) as client, threads as pool:
        return timed(lambda: [len(response.content) for response in pool.map(client.get, urls)])


def _describe(figures: dict[str, Any], policy: FetchPolicy) -> list[str]:
    mixed, good = figures["mixed"], figures["good"]
    rows = [
        (kind, f"{sum(counts.values()):,}", ", ".join(f"{outcome} {number:,}" for outcome, number in counts.items()))
        for kind, counts in mixed["outcomes"].items()
    ]
    speeds = [(name, f"{speed:,.0f}") for name, speed in good["pictures_per_s"].items()]
    grown = mixed["peak_bytes"] - mixed["peak_bytes_before"]
    return [
        ruled_table(("kind of URL", "URLs", "outcome"), rows),
        f"{mixed['urls']:,} URLs became a store in {mixed['seconds']:.1f} s ({mixed['urls_per_s']:,.0f} a second) with "
        f"{policy.connections} connections, {policy.per_host} a host, {policy.attempts} attempts, silence of "
        f"{policy.read_timeout_s:g} s. Memory: {mixed['peak_bytes'] / 1e6:,.0f} MB at most, {grown / 1e6:,.0f} MB more "
        "than before.",
        "\n".join(mixed["wrong"]) or "Every URL came to what it should.",
        ruled_table((f"{good['pictures']:,} good pictures", "pictures/s"), speeds) + f"\nratio {good['ratio']:.2f}",
    ]
