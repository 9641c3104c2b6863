"""What conversions would come to, said before anything is written."""

import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from converters.convert import open_conversion
from converters.estimate import SetEstimate, estimate_set, human_seconds
from converters.jobs import Conversion, ShardWorker
from converters.options import Options
from converters.peek import peek_hub, peek_local
from converters.request import SetRequest, is_local_source, source_splits
from converters.sets import find_set
from grain_molmo.readable import human_bytes

log = logging.getLogger(__name__)

# Of the hub so many rows of each split are read: enough that those of one picture are seen together.
_ROWS_PEEKED = 512


def estimate_request(request: SetRequest, options: Options) -> SetEstimate:
    """What the conversion of a set would come to. Raises ConfigError if there are no such rows.

    Of the hub's rows only the first are read; pictures of the rows tried are fetched.
    """
    if request.own or request.sample or is_local_source(request.source or find_set(request.name).hub):
        with tempfile.TemporaryDirectory() as elsewhere, open_conversion(request, Path(elsewhere), options) as opened:
            source = (opened.spec, opened.sources)
            with ShardWorker(opened.conversion, opened=source) as worker:
                return estimate_set(opened.spec, peek_local(opened.sources), worker)
    spec = find_set(request.name)
    path = request.source or spec.hub
    configs = (None,) if path in spec.other_hubs else spec.configs
    splits = source_splits(spec, request, is_local=False)
    peeks = peek_hub(path, configs, splits, revision=request.revision, rows=_ROWS_PEEKED)
    conversion = Conversion(request=request, options=options, data_dir=Path())
    with ShardWorker(conversion, opened=(spec, [peek.source for peek in peeks])) as worker:
        return estimate_set(spec, peeks, worker)


def sum_up(estimates: Sequence[Mapping[str, Any]], data_dir: Path) -> dict[str, Any]:
    """Logs what sets come to together, and whether there is room for them; both as JSON-able values."""
    num_bytes = sum(one.get("num_bytes", 0) for one in estimates)
    seconds = sum(one.get("seconds", 0.0) for one in estimates)
    free = _free_bytes(data_dir)
    if len(estimates) > 1:
        log.info("together: about %s, %s", human_bytes(num_bytes), human_seconds(seconds))
    if num_bytes > free:
        log.warning("%s has room for %s", data_dir, human_bytes(free))
    return {"num_bytes": num_bytes, "seconds": round(seconds, 1), "free_bytes": free}


def _free_bytes(folder: Path) -> int:
    """Room on the disk where the folder is, or will be."""
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(existing).free
