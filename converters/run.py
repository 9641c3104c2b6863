"""A conversion, from the words of the command line to the exit code."""

import argparse
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from converters.arguments import excluding, in_folder_of_set, options_from, requests_from, runner_from
from converters.convert import MakeRunner, convert_set
from converters.dry_run import estimate_request, sum_up
from converters.options import Options
from converters.request import SetRequest
from converters.signals import Stopped, stopping
from converters.videos import VideoFolder
from grain_molmo.errors import ConfigError, GrainMolmoError, StoreBusyError
from grain_molmo.store import resolve_data_dir

log = logging.getLogger("converters")

EXIT_DONE, EXIT_FAILED, EXIT_BUSY = 0, 1, 3

Outcome = tuple[dict[str, Any], int]  # what there is to say of a set, and the exit code
Work = Callable[[SetRequest], Outcome]


def convert(args: argparse.Namespace) -> int:
    """Converts what the arguments of `converters.flags` say; the exit code. Raises ConfigError for what cannot be."""
    log.setLevel(logging.INFO)  # ours alone: HTTP clients write a line for each picture
    try:
        data_dir = resolve_data_dir(args.data_dir)
        requests, options, runner = requests_from(args), options_from(args), runner_from(args)
    except ConfigError as error:
        if args.json:
            print(json.dumps({"ok": False, "error": str(error), "datasets": []}))
        raise
    work = _estimating(options, args) if args.dry_run else _converting(options, data_dir, runner, args)
    results: list[dict[str, Any]] = []
    code = EXIT_DONE
    try:
        with stopping():
            for result, result_code in _do_all(requests, work):
                results.append(result)
                code = max(code, result_code) if EXIT_FAILED not in (code, result_code) else EXIT_FAILED
    except Stopped as stopped:
        code = stopped.exit_code
        log.error("stopped by %s; finished shards are kept: the same command goes on from there", stopped)
    if code == EXIT_DONE and not (args.dry_run or args.json):
        only = f" {requests[0].name.replace('_', '-')}" if len(requests) == 1 else ""
        log.info("what is in it: grain-molmo inspect%s --data-dir %s", only, data_dir)
    together = sum_up(results, data_dir) if args.dry_run else {}
    if args.json:
        print(json.dumps({"ok": code == EXIT_DONE, "data_dir": str(data_dir), "datasets": results, **together}))
    return code


def _do_all(requests: Sequence[SetRequest], work: Work) -> Iterator[Outcome]:
    """The work for each set; one that fails does not stop the others."""
    for request in requests:
        try:
            yield work(in_folder_of_set(request) if len(requests) > 1 else request)
        except (GrainMolmoError, OSError) as error:
            log.error("%s", _named(str(error), request.name))
            is_busy = isinstance(error, StoreBusyError)
            yield {"name": request.name, "error": str(error)}, EXIT_BUSY if is_busy else EXIT_FAILED


def _named(message: str, name: str) -> str:
    """The message behind the name of the set, unless it begins with that in some spelling."""
    first = message.partition(" ")[0].rstrip(":")
    return message if first.replace("-", "_") == name.replace("-", "_") else f"{name}: {message}"


def _converting(options: Options, data_dir: Path, runner: MakeRunner | None, args: argparse.Namespace) -> Work:
    videos = VideoFolder(options.video_dir) if options.video_dir else None  # one for all sets: it is listed once

    def convert(request: SetRequest) -> Outcome:
        summary = convert_set(request, data_dir, excluding(options, request, args.exclude), videos, runner)
        log.info("%s", summary.to_text())
        error = "; ".join(summary.refused.values())
        if not error and not sum(summary.examples.values()):
            error = "no row could be converted"
        return {**summary.to_json(), **({"error": error} if error else {})}, EXIT_FAILED if error else EXIT_DONE

    return convert


def _estimating(options: Options, args: argparse.Namespace) -> Work:
    def estimate(request: SetRequest) -> Outcome:
        found = estimate_request(request, excluding(options, request, args.exclude))
        log.info("%s", found.to_text())
        return found.to_json(), EXIT_DONE

    return estimate
