"""Measures this machine: each figure as a ratio to a named baseline, timed in turn with it in the same run.

  image    pictures from the store to the batch, against decoding and one plain resize
  video    frames of videos to patches, against decoding each video from start to end
  packing  rows from lengths, against the published knapsack and a first fit
  plan     global batches of a pod, with an index of lengths against without; how soon a run starts and goes on
  read     records at random, against Grain's ArrayRecordDataSource
  loader   batches, against decoding the same pictures without a loader
  convert  rows into a store, against array_record alone
  fetch    pictures from a web server that misbehaves, against a plain HTTP client

`grain-molmo bench BENCHMARK --help` says more of each. Machines are noisy: trust the ratios before the seconds.
"""

import argparse

from grain_molmo.tools.bench import convert, fetch, image, loader, packing, plan, read, video
from grain_molmo.tools.bench.report import print_report

_BENCHMARKS = {
    "image": image,
    "video": video,
    "packing": packing,
    "plan": plan,
    "read": read,
    "loader": loader,
    "convert": convert,
    "fetch": fetch,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds a subcommand for each benchmark."""
    commands = parser.add_subparsers(metavar="BENCHMARK", dest="benchmark", required=True)
    for name, module in _BENCHMARKS.items():
        doc = module.__doc__ or ""
        command = commands.add_parser(
            name,
            help=doc.partition("\n")[0],
            description=doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.add_argument("--json", action="store_true", help="print one JSON object instead of tables")


def run(args: argparse.Namespace) -> int:
    """Runs the benchmark that was asked for and prints what it found; the exit code."""
    report = _BENCHMARKS[args.benchmark].run(args)
    print_report(report, as_json=args.json)
    return 0
