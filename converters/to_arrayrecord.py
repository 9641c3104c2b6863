"""Converts sets of the hub, of a local folder, or of our own sample generator into the store.

The same program as `grain-molmo convert`.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: Python put this folder on the path, not the checkout that holds it
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from converters.convert import Options, Summary, convert_set
from converters.fetch import ImageCache, ImageFetcher
from converters.fetch_policy import add_fetch_arguments, fetch_policy_from
from converters.sets import SETS, find_set
from converters.sources import SourceSplit, open_source
from converters.spec import SetSpec
from converters.videos import VideoFolder, default_video_dir
from grain_molmo.errors import ConfigError, GrainMolmoError
from grain_molmo.store import resolve_data_dir
from grain_molmo.tools.logs import log_to_stderr

log = logging.getLogger("converters")

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
SAMPLE_ROWS, SAMPLE_VALIDATION_FRACTION = 64, 0.1

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
  generated sample data, no network:
    %(prog)s all --sample --data-dir DATA

A conversion that was stopped goes on where it was when the same command is given again. Rows that cannot be converted
are listed with their reasons in DATA/NAME/rejects-SPLIT.jsonl. Exit codes: 0 done, 1 failed, 2 wrong usage.
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
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"sets to convert: {names}; or all")
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
    parser.add_argument("--max-rows", type=_positive, metavar="N", help="only the first N rows of each source split")
    parser.add_argument(
        "--workers", type=_positive, default=16, metavar="N", help="pictures or videos read at a time (16)"
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
        "--rows", type=_positive, default=SAMPLE_ROWS, metavar="N", help="with --sample: rows a set (64)"
    )
    parser.add_argument("--seed", type=int, default=0, help="with --sample: another seed, other pictures")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a text summary")
    add_fetch_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the program; the exit code."""
    parser = build_parser(prog)
    try:
        args = parser.parse_args(argv)
    except SystemExit as error:  # argparse ends the process; a caller wants the code
        return int(error.code or 0)
    log_to_stderr()
    log.setLevel(logging.INFO)  # ours alone: HTTP clients write a line for each picture
    try:
        data_dir = resolve_data_dir(args.data_dir)
        specs = list(dict.fromkeys(spec for name in args.names for spec in _sets(name)))
        video_dir = args.video_dir or default_video_dir()
        args.videos = VideoFolder(video_dir) if video_dir else None  # one for all sets, so that it is listed once
    except ConfigError as error:
        log.error("%s: %s", parser.prog, error)
        return EXIT_USAGE
    results: list[dict[str, Any]] = []
    for spec in specs:
        try:
            if args.sample:
                summary = _convert_sample(spec, args, data_dir)
            else:
                summary = _convert(spec, args, data_dir, is_only=len(specs) == 1)
        except (GrainMolmoError, OSError) as error:
            log.error("%s: %s", spec.name, error)
            results.append({"name": spec.name, "error": str(error)})
            continue
        log.info("%s", summary.to_text())
        error = {} if sum(summary.examples.values()) else {"error": "no row could be converted"}
        results.append({**summary.to_json(), **error})
    failed = any("error" in result for result in results)
    if args.json:
        print(json.dumps({"ok": not failed, "data_dir": str(data_dir), "datasets": results}))
    return EXIT_FAILED if failed else EXIT_DONE


def _sets(name: str) -> list[SetSpec]:
    return list(SETS.values()) if name == "all" else [find_set(name)]


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 0 and below 1, not {value}")
    return value


def _convert(spec: SetSpec, args: argparse.Namespace, data_dir: Path, *, is_only: bool) -> Summary:
    """Converts a set from the hub or from local rows."""
    source = spec.hub if args.source is None else args.source if is_only else _folder_of_set(Path(args.source), spec)
    is_local = Path(source).expanduser().exists()
    splits = _source_splits(spec, args.split, is_local=is_local)
    sources = _open(spec, source, splits, revision=args.revision)
    options = _options(args)
    exclude = args.exclude or (None if is_local else spec.excluded_by)
    if exclude:
        excluded, origin = read_excluded(exclude)
        options = replace(options, excluded=excluded, excluded_origin=origin)
    elif spec.excluded_by:
        log.warning("%s: pictures of the evaluation set are not left out; --exclude %s", spec.name, spec.excluded_by)
    cache = ImageCache(args.image_cache) if args.image_cache else None
    with ImageFetcher(fetch_policy_from(args), cache) as fetcher:
        return convert_set(spec, sources, data_dir, fetcher, options)


def _open(spec: SetSpec, source: str, splits: Sequence[str], *, revision: str | None = None) -> list[SourceSplit]:
    """The source's splits; where the set has configs, also rows of it that have none, if nothing else is there."""
    configs = (None,) if source in spec.other_hubs else spec.configs
    in_order = not spec.grouped
    try:
        sources = open_source(source, configs, splits, revision=revision, in_order=in_order)
    except ConfigError:
        if configs == (None,) or spec.config_of_others is None or not Path(source).expanduser().exists():
            raise
        sources = open_source(source, (None,), splits, in_order=in_order)
    # A folder may hold a split under the hub's name and under the store's.
    by_split = {(one.config, spec.store_split(one.split)): one for one in reversed(sources)}
    return list(reversed(by_split.values()))


def _convert_sample(spec: SetSpec, args: argparse.Namespace, data_dir: Path) -> Summary:
    """Converts rows of our own generator, written first as the hub would give them; the network is not asked."""
    from converters.sample import write_sample

    folder = data_dir / f".sample-{args.rows}-{args.seed}"
    (written,) = write_sample(folder, [spec.name], rows=args.rows, seed=args.seed).values()
    splits = _source_splits(spec, args.split, is_local=False)
    sources = _open(spec, str(written.folder), splits)
    options = _options(args)
    if spec.is_video:
        options = replace(options, videos=VideoFolder(written.video_dir))
    if options.validation_fraction is None and spec.validation_fraction is not None:
        options = replace(options, validation_fraction=SAMPLE_VALIDATION_FRACTION)
    with ImageFetcher(cache=ImageCache(written.image_cache), cache_only=True) as fetcher:
        return convert_set(spec, sources, data_dir, fetcher, options)


def _options(args: argparse.Namespace) -> Options:
    return Options(
        validation_fraction=args.validation_fraction,
        max_rows=args.max_rows,
        workers=args.workers,
        force=args.force,
        videos=args.videos,
        video_frames=args.video_frames,
    )


def _source_splits(spec: SetSpec, wanted: str | None, *, is_local: bool) -> tuple[str, ...]:
    """The hub's splits; of local rows also the store's names for them, and a validation split that somebody carved.

    Of these only the wanted one, by either name; a split of another name if that is wanted.
    """
    splits = spec.splits
    if is_local:
        splits = tuple(dict.fromkeys((*splits, *map(spec.store_split, splits), "validation")))
    if wanted is None:
        return splits
    return tuple(split for split in splits if wanted in (split, spec.store_split(split))) or (wanted,)


def _folder_of_set(parent: Path, spec: SetSpec) -> str:
    """The set's own folder in a folder of several sets. Raises ConfigError if there is none."""
    spellings = [spelling for name in (spec.name, *spec.aliases) for spelling in (name.replace("_", "-"), name)]
    spellings += [hub.rpartition("/")[2] for hub in (spec.hub, *spec.other_hubs)]
    for spelling in spellings:
        if (parent / spelling).exists():
            return str(parent / spelling)
    raise ConfigError(f"{parent} has no folder for {spec.name}; looked for {', '.join(spellings)}")


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


if __name__ == "__main__":
    sys.exit(main())
