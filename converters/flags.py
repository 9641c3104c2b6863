"""The words of the converter's command line; what they come to is in `converters.arguments`."""

import argparse

from converters.choose import STAGE_CHOICES
from converters.fetch.policy import add_fetch_arguments
from converters.own.source import add_own_arguments
from converters.sets import SETS
from grain_molmo.tools.arguments import stage_name, whole_number

EXAMPLES = (
    ("generated sample data, no network", "all --sample --data-dir DATA"),
    ("a first look at a set, 1,000 rows of it", "pixmo-points --max-rows 1000 --data-dir DATA"),
    (
        "from the hub, pictures fetched from the web and kept in a folder for the next time",
        "pixmo-cap --data-dir DATA --image-cache PICTURES",
    ),
    (
        "everything that pretraining needs, after a look at what it comes to",
        "--stage pretraining --include-eval --data-dir DATA --dry-run",
    ),
    (
        "rows that are here already (Parquet, Arrow or JSON, a file or a folder such as data/train-*.parquet)",
        "pixmo-docs --source path/to/pixmo-docs --data-dir DATA",
    ),
    (
        "several sets from a folder that has a folder for each",
        "pixmo-cap pixmo-count --source path/to/datasets --data-dir DATA",
    ),
    (
        "videos, which the hub does not host, from a folder of yours; their frames are made ready to show",
        "molmo2-videopoint --video-dir VIDEOS --video-frames --data-dir DATA",
    ),
    (
        "data of your own, from a table, a folder of pictures, save_to_disk, WebDataset or TFDS",
        "my-set --source path/to/my-set --columns caption=TEXT --data-dir DATA",
    ),
)
EXIT_CODES = {3: "another converter writes the set", 130: "stopped by an interrupt", 143: "stopped by SIGTERM"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the program, by what they are about."""
    _add_what(parser)
    _add_where(parser)
    _add_again(parser)
    _add_how(parser)
    add_own_arguments(parser)
    add_fetch_arguments(parser)


def _add_what(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to convert")
    names = ", ".join(name.replace("_", "-") for name in SETS)
    group.add_argument("names", nargs="*", metavar="NAME", help=f"sets to convert: {names}; or all")
    group.add_argument(
        "--stage", type=stage_name, choices=STAGE_CHOICES, help="instead of names: the sets that a stage trains on"
    )
    group.add_argument(
        "--include-eval", action="store_true", help="with --stage: also what is there to evaluate them on"
    )
    group.add_argument("--split", metavar="S", help="convert only this split of the source")
    group.add_argument(
        "--max-rows", type=whole_number(1), metavar="N", help="only the first N rows of each source split"
    )
    group.add_argument("--exclude", metavar="SOURCE", help="rows whose pictures must not occur (hub name or path)")
    group.add_argument(
        "--validation-fraction",
        type=_fraction,
        metavar="F",
        help="share of the pictures to hold out where there is no validation split; default: about 2,048 of all",
    )


def _add_where(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where from and where to")
    group.add_argument("--data-dir", metavar="DIR", help="the store's folder; default: $GRAIN_MOLMO_DATA")
    source = group.add_mutually_exclusive_group()
    source.add_argument("--source", metavar="HUB_OR_PATH", help="hub dataset (owner/name) or local rows")
    source.add_argument("--sample", action="store_true", help="rows and pictures from our own generator")
    group.add_argument("--rows", type=whole_number(1), default=64, metavar="N", help="with --sample: rows a set (64)")
    group.add_argument(
        "--seed", type=int, default=0, metavar="N", help="with --sample: another seed, other pictures (0)"
    )
    group.add_argument("--revision", metavar="REV", help="branch, tag or commit of the hub dataset")
    group.add_argument("--image-cache", metavar="DIR", help="folder of pictures named by the SHA-256 of their URL")
    group.add_argument(
        "--video-dir", metavar="DIR", help="folder of videos by id; default: $MOLMO_DATA_DIR/video_datasets"
    )
    group.add_argument(
        "--video-frames",
        action="store_true",
        help="store beside each video the frames that the stages sft and long_context ask for, ready to show",
    )


def _add_again(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is there already, and what fails")
    group.add_argument("--force", action="store_true", help="convert anew what is already there")
    group.add_argument(
        "--retry-rejects",
        action="store_true",
        help="of what is already there, try the rows again that a host did not answer for",
    )
    group.add_argument(
        "--max-rejected",
        type=_share,
        default=1.0,
        metavar="F",
        help="do not commit a split that loses a larger share of its rows, e.g. 0.3; default: no limit",
    )
    group.add_argument("--wait", action="store_true", help="for another converter that writes the set, to be done")


def _add_how(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how")
    group.add_argument(
        "--dry-run", action="store_true", help="say how many rows there are and, by trying a few, how much they come to"
    )
    group.add_argument("--json", action="store_true", help="print one JSON object instead of a text summary")
    group.add_argument(
        "--workers", type=whole_number(1), default=16, metavar="N", help="pictures or videos read at a time (16)"
    )
    group.add_argument(
        "--n-procs",
        type=whole_number(1),
        metavar="N",
        help="processes that write shards, each with its own workers; default: one a core, but one where pictures are "
        "fetched",
    )
    group.add_argument("--rows-per-shard", type=whole_number(1), metavar="N", help="source rows of a shard at most")
    group.add_argument(
        "--runner", metavar="NAME", help="write the shards in an Apache Beam pipeline that this runner runs"
    )
    group.add_argument(
        "--beam-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="with --runner: an option of Beam or the runner, such as direct_num_workers=4; as often as needed",
    )


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 0 and below 1, not {value}")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, not {value}")
    return value
