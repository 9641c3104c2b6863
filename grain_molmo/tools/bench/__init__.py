"""Measures this machine: each figure as a ratio to a named baseline, timed in turn with it in the same run.

`grain-molmo bench BENCHMARK --help` says more of each. Machines are noisy: trust the ratios before the seconds.
"""

import argparse

from grain_molmo.tools.bench import convert, fetch, image, loader, packing, page, plan, read, video
from grain_molmo.tools.bench.report import print_report
from grain_molmo.tools.parser import describe

_BENCHMARKS = {
    "image": (image, "pictures from the store to the batch, against decoding and one plain resize"),
    "video": (video, "frames of videos to patches, against decoding each video from start to end"),
    "packing": (packing, "rows from lengths, against the published knapsack and a first fit"),
    "plan": (plan, "global batches of a pod, with an index of lengths against without; how soon a run starts"),
    "read": (read, "records at random, against Grain's ArrayRecordDataSource"),
    "loader": (loader, "batches, against decoding the same pictures without a loader"),
    "convert": (convert, "rows into a store, against array_record alone"),
    "fetch": (fetch, "pictures from a web server that misbehaves, against a plain HTTP client"),
    "page": (page, "pages of cards, against encoding their pictures alone and opening an empty document"),
}
EXAMPLES = (
    ("what limits a loader here, on sample data", "loader"),
    ("the same over a store, for a program", "loader --data-dir DATA --json"),
    ("pictures of your own, decoded and cut into crops", "image --media PICTURES"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds a subcommand for each benchmark."""
    commands = parser.add_subparsers(title="benchmarks", metavar="BENCHMARK", dest="benchmark", required=True)
    for name, (module, summary) in _BENCHMARKS.items():
        command = commands.add_parser(name, help=summary, formatter_class=parser.formatter_class)
        command.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
        describe(command, module)


def run(args: argparse.Namespace) -> int:
    """Runs the benchmark that was asked for and prints what it found; the exit code."""
    module, _ = _BENCHMARKS[args.benchmark]
    print_report(module.run(args), as_json=args.json)
    return 0
