"""The command line of the converter: its words, and what they come to."""

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.choose import STAGE_CHOICES, sets_of_stage
from converters.convert import MakeRunner
from converters.fetch.policy import add_fetch_arguments, fetch_policy_from
from converters.options import Options
from converters.own.source import OwnSource, add_own_arguments, own_from_args
from converters.request import SampleRows, SetRequest, folder_of_set, is_local_source
from converters.sets import SETS, find_set, is_set
from converters.sources import SourceSplit, open_source
from converters.videos import default_video_dir
from grain_molmo.errors import ConfigError
from grain_molmo.tools.arguments import whole_number

log = logging.getLogger(__name__)

_EPILOG = """\
examples:
  from the hub, pictures fetched from the web and kept in a folder for the next time:
    %(prog)s pixmo-cap --data-dir DATA --image-cache PICTURES
  a first look at a set, 1,000 rows of it:
    %(prog)s pixmo-points --max-rows 1000 --data-dir DATA
  rows that are here already (Parquet, Arrow or JSON, as a file or a folder such as data/train-*.parquet):
    %(prog)s pixmo-docs --source path/to/pixmo-docs --data-dir DATA
  videos, which the hub does not host, from a folder of yours; the frames that training asks for are made ready to show:
    %(prog)s molmo2-videopoint --video-dir VIDEOS --video-frames --data-dir DATA
  several sets from a folder that has a folder for each:
    %(prog)s pixmo-cap pixmo-count --source path/to/datasets --data-dir DATA
  everything that pretraining needs, after a look at what it comes to:
    %(prog)s --stage pretraining --include-eval --data-dir DATA --dry-run
  data of your own, from a table, a folder of pictures, save_to_disk, WebDataset or TFDS:
    %(prog)s my-set --source path/to/it --columns caption=TEXT --data-dir DATA
  generated sample data, no network:
    %(prog)s all --sample --data-dir DATA

A conversion that was stopped goes on where it was when the same command is given again. Rows that cannot be converted
are listed with their reasons in DATA/NAME/rejects-SPLIT.jsonl. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 another
converter writes the set; 130 and 143 stopped by an interrupt or by SIGTERM.
"""


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The command line of the program."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Converts PixMo and Molmo2 sets into ArrayRecord annotations and a media store.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(name.replace("_", "-") for name in SETS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"sets to convert: {names}; or all")
    parser.add_argument("--stage", choices=STAGE_CHOICES, help="instead of names: the sets that a stage trains on")
    parser.add_argument(
        "--include-eval", action="store_true", help="with --stage: also what is there to evaluate them on"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say how many rows there are and, by trying a few, how much they come to"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--source", metavar="HUB_OR_PATH", help="hub dataset (owner/name) or local rows")
    where.add_argument("--sample", action="store_true", help="rows and pictures from our own generator")
    parser.add_argument("--data-dir", metavar="DIR", help="the store's folder; default: $GRAIN_MOLMO_DATA")
    parser.add_argument("--image-cache", metavar="DIR", help="folder of pictures named by the SHA-256 of their URL")
    parser.add_argument(
        "--video-dir", metavar="DIR", help="folder of videos by id; default: $MOLMO_DATA_DIR/video_datasets"
    )
    parser.add_argument(
        "--video-frames",
        action="store_true",
        help="store beside each video the frames that the stages sft and long_context ask for, ready to show",
    )
    parser.add_argument("--split", help="convert only this split of the source")
    parser.add_argument(
        "--max-rows", type=whole_number(1), metavar="N", help="only the first N rows of each source split"
    )
    parser.add_argument(
        "--workers", type=whole_number(1), default=16, metavar="N", help="pictures or videos read at a time (16)"
    )
    parser.add_argument(
        "--n-procs",
        type=whole_number(1),
        metavar="N",
        help="processes that write shards, each with its own workers; default: one a core, but one where pictures are "
        "fetched",
    )
    parser.add_argument(
        "--runner", metavar="NAME", help="write the shards in an Apache Beam pipeline that this runner runs"
    )
    parser.add_argument(
        "--beam-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="with --runner: an option of Beam or the runner, such as direct_num_workers=4; as often as needed",
    )
    parser.add_argument(
        "--validation-fraction",
        type=_fraction,
        metavar="F",
        help="share of the pictures to hold out where there is no validation split; default: about 2,048 of all",
    )
    parser.add_argument("--exclude", metavar="SOURCE", help="rows whose pictures must not occur (hub name or path)")
    parser.add_argument("--revision", help="branch, tag or commit of the hub dataset")
    parser.add_argument("--force", action="store_true", help="convert anew what is already there")
    parser.add_argument(
        "--retry-rejects",
        action="store_true",
        help="of what is already there, try the rows again that a host did not answer for",
    )
    parser.add_argument(
        "--max-rejected",
        type=_share,
        default=1.0,
        metavar="F",
        help="do not commit a split that loses a larger share of its rows, e.g. 0.3; default: no limit",
    )
    parser.add_argument("--rows-per-shard", type=whole_number(1), metavar="N", help="source rows of a shard at most")
    parser.add_argument("--wait", action="store_true", help="for another converter that writes the set, to be done")
    parser.add_argument("--rows", type=whole_number(1), default=64, metavar="N", help="with --sample: rows a set (64)")
    parser.add_argument("--seed", type=int, default=0, help="with --sample: another seed, other pictures")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a text summary")
    add_own_arguments(parser)
    add_fetch_arguments(parser)
    return parser


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


def runner_from(args: argparse.Namespace) -> MakeRunner | None:
    """Who writes the shards, if not processes of this machine. Raises ConfigError if Beam or the runner is missing."""
    if args.runner is None:
        if args.beam_option:
            raise ConfigError("--beam-option belongs to --runner")
        return None
    from converters.beam import on_beam, pipeline_options  # an extra

    flags = [f"--runner={args.runner}", *(f"--{option.lstrip('-')}" for option in args.beam_option)]
    pipeline_options(flags)  # better now than when the rows are read
    return lambda opened: on_beam(opened.conversion, flags)


def requests_from(args: argparse.Namespace) -> list[SetRequest]:
    """The sets that the command line names, each once. Raises ConfigError for a name that is none."""
    if bool(args.names) == bool(args.stage):
        raise ConfigError("say what to convert: NAME... or --stage STAGE (one of them)")
    if args.include_eval and not args.stage:
        raise ConfigError("--include-eval belongs to --stage; a set that is named is converted with all its splits")
    own = _own_request(args)
    if own is not None:
        return [own]
    names = [name for given in args.names for name in (SETS if given == "all" else [find_set(given).name])]
    if args.stage:
        names = [spec.name for spec in sets_of_stage(args.stage, include_eval=args.include_eval)]
    sample = SampleRows(args.rows, args.seed) if args.sample else None
    with_eval = args.include_eval or not args.stage
    request = SetRequest(
        name="", source=args.source, split=args.split, include_eval=with_eval, revision=args.revision, sample=sample
    )
    return [replace(request, name=name) for name in dict.fromkeys(names)]


def _own_request(args: argparse.Namespace) -> SetRequest | None:
    """The request for data of the user's own: what the flags say, or a name of no set with a source beside it."""
    own = own_from_args(args)
    if own is None:
        if args.source is None or len(args.names) != 1 or args.names[0] == "all" or is_set(args.names[0]):
            return None
        own = OwnSource()
    if args.source is None or len(args.names) != 1:
        raise ConfigError("data of your own need one NAME, and where they are: --source HUB_OR_PATH")
    return SetRequest(name=args.names[0], source=args.source, split=args.split, revision=args.revision, own=own)


def in_folder_of_set(request: SetRequest) -> SetRequest:
    """The request for the set's own folder, where the source is a folder of several. Raises ConfigError."""
    if request.source is None:
        return request
    return replace(request, source=folder_of_set(Path(request.source), find_set(request.name)))


def options_from(args: argparse.Namespace) -> Options:
    """What the command line says beside the sets; the pictures to leave out are another matter.

    Raises ConfigError for flags that contradict each other.
    """
    if args.force and args.retry_rejects:
        raise ConfigError("--force converts all rows anew, --retry-rejects only those that were rejected: choose one")
    video_dir = args.video_dir or default_video_dir()
    return Options(
        validation_fraction=args.validation_fraction,
        max_rows=args.max_rows,
        rows_per_shard=args.rows_per_shard,
        workers=args.workers,
        n_procs=args.n_procs,
        force=args.force,
        retry_rejects=args.retry_rejects,
        max_rejected=args.max_rejected,
        wait=args.wait,
        video_dir=str(video_dir) if video_dir else None,
        video_frames=args.video_frames,
        image_cache=args.image_cache,
        fetching=fetch_policy_from(args),
    )


def excluding(options: Options, request: SetRequest, exclude: str | None) -> Options:
    """The options with the pictures that the set must not have: those of a source, or of the set that says so itself.

    Raises ConfigError if the rows of that source name no pictures.
    """
    if request.own is not None:
        excluded, origin = read_excluded(exclude) if exclude else (frozenset[str](), None)
        return replace(options, excluded=excluded, excluded_origin=origin)
    spec = find_set(request.name)
    is_own = request.sample is None and not is_local_source(request.source or spec.hub)
    source = exclude or (spec.excluded_by if is_own else None)
    if source:
        excluded, origin = read_excluded(source)
        return replace(options, excluded=excluded, excluded_origin=origin)
    if spec.excluded_by and request.sample is None:
        log.warning("%s: pictures of the evaluation set are not left out; --exclude %s", spec.name, spec.excluded_by)
    return options


def read_excluded(source: str) -> tuple[frozenset[str], dict[str, Any]]:
    """URLs and hashes of the pictures of a source, and where they came from. Raises ConfigError if it names none."""
    for split in ("test", "validation", "train"):
        try:
            found: list[SourceSplit] = open_source(source, (None,), (split,))
        except ConfigError:
            if split == "train":
                raise
            continue
        columns = found[0].rows.select(["image_url", "image_sha256"])
        values = frozenset(value for column in columns.values() for value in column if isinstance(value, str) and value)
        if not values:
            raise ConfigError(f"--exclude {source}: the rows name no picture (columns image_url, image_sha256)")
        return values, found[0].origin
    raise AssertionError("the loop returns or raises")
