"""Converts sets of the hub, of a local folder, or of our own sample generator into the store.

The same program as `grain-molmo convert`.
"""

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: Python put this folder on the path, not the checkout that holds it
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from converters.arguments import build_parser, excluding, in_folder_of_set, options_from, requests_from, runner_from
from converters.convert import convert_set
from converters.dry_run import as_json, estimate_request, report
from converters.estimate import SetEstimate
from converters.videos import VideoFolder
from grain_molmo.errors import ConfigError, GrainMolmoError
from grain_molmo.store import resolve_data_dir
from grain_molmo.tools.logs import log_to_stderr

log = logging.getLogger("converters")

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


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
        requests, options, runner = requests_from(args), options_from(args), runner_from(args)
    except ConfigError as error:
        log.error("%s: %s", parser.prog, error)
        return EXIT_USAGE
    videos = VideoFolder(options.video_dir) if options.video_dir else None  # one for all sets: it is listed once
    results: list[dict[str, Any]] = []
    estimates: list[SetEstimate] = []
    for request in requests:
        try:
            if len(requests) > 1:
                request = in_folder_of_set(request)
            chosen = excluding(options, request, args.exclude)
            if args.dry_run:
                estimates.append(estimate_request(request, chosen))
                log.info("%s", estimates[-1].to_text())
                results.append(as_json(estimates[-1]))
                continue
            summary = convert_set(request, data_dir, chosen, videos, runner)
        except (GrainMolmoError, OSError) as error:
            log.error("%s: %s", request.name, error)
            results.append({"name": request.name, "error": str(error)})
            continue
        log.info("%s", summary.to_text())
        error = {} if sum(summary.examples.values()) else {"error": "no row could be converted"}
        results.append({**summary.to_json(), **error})
    failed = any("error" in result for result in results)
    together = report(estimates, data_dir) if args.dry_run else {}
    if args.json:
        print(json.dumps({"ok": not failed, "data_dir": str(data_dir), "datasets": results, **together}))
    return EXIT_FAILED if failed else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
