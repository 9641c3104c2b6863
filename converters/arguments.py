"""What the words of the converter's command line come to."""

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.choose import sets_of_stage
from converters.convert import MakeRunner
from converters.fetch.policy import fetch_policy_from
from converters.options import Options
from converters.own.source import OwnSource, own_from_args
from converters.request import SampleRows, SetRequest, folder_of_set, is_local_source
from converters.sets import SETS, find_set, is_set
from converters.sources import SourceSplit, open_source, require_source
from converters.videos import default_video_dir
from grain_molmo.errors import ConfigError

log = logging.getLogger(__name__)


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
    if request.source is not None and request.sample is None:
        require_source(request.source)  # before the hub is asked for what to leave out
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
