"""Where the rows of a set come from, as a few words that any process can open again."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from converters.options import Options
from converters.own import open_own
from converters.own.source import OwnSource
from converters.sets import find_set
from converters.sources import SourceSplit, open_source
from converters.spec import SetSpec
from grain_molmo.errors import ConfigError
from grain_molmo.store import canonical_name

# Of so few rows the sets' own shares would hold out none.
SAMPLE_VALIDATION_FRACTION = 0.1
# A split of any other name is for evaluation alone.
TRAINING_SPLITS = ("train", "validation")


@dataclass(frozen=True)
class SampleRows:
    """Rows of our own generator.

    Attributes:
        rows: length of the training data.
        seed: another seed, other pictures.
    """

    rows: int = 64
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class SetRequest:
    """A set, and where its rows come from; picklable.

    Attributes:
        name: of the set, in any spelling.
        source: path or dataset of the hub; None for the set's own place on the hub.
        split: only this split of the source.
        include_eval: also the splits that are for evaluation alone.
        revision: branch, tag or commit of the hub's repository.
        sample: generated rows; `sample_written` says in `source` where they are.
        own: how to read `source` if the set is none that is known, but somebody's own.
    """

    name: str
    source: str | None = None
    split: str | None = None
    include_eval: bool = True
    revision: str | None = None
    sample: SampleRows | None = None
    own: OwnSource | None = None


def open_request(request: SetRequest) -> tuple[SetSpec, list[SourceSplit]]:
    """The set and the splits of its source.

    Raises ConfigError if there is no such set, or nothing of the kind where its rows should be.
    """
    if request.own is not None:
        splits = None if request.split is None else (request.split,)
        return open_own(request.name, request.source or "", request.own, splits, request.revision)
    spec = find_set(request.name)
    source = request.source or spec.hub
    is_local = is_local_source(source) and request.sample is None
    splits = source_splits(spec, request, is_local=is_local)
    sources = open_splits(spec, source, splits, request.revision)
    if request.sample is None:
        return spec, sources
    return spec, [replace(one, origin=_sample_origin(request.sample, one)) for one in sources]


def set_name(request: SetRequest) -> str:
    """The dataset's name in the store. Raises ConfigError if there is no such set."""
    return find_set(request.name).name if request.own is None else canonical_name(request.name)


def _sample_origin(sample: SampleRows, split: SourceSplit) -> dict[str, Any]:
    """Where generated rows came from: their folder does not outlast the conversion."""
    size = {"training_rows": sample.rows, "seed": sample.seed}
    return {"kind": "sample", **size, "config": split.config, "split": split.split, "rows": len(split.rows)}


def pinned(request: SetRequest, sources: Sequence[SourceSplit]) -> SetRequest:
    """The request for the commit of the hub that was opened: what a branch stands for may change meanwhile."""
    commit = sources[0].origin.get("revision") if sources else None
    return replace(request, revision=commit) if commit else request


def is_local_source(source: str) -> bool:
    """Whether the source is a file or folder of this machine."""
    return Path(source).expanduser().exists()


def open_splits(spec: SetSpec, source: str, splits: Sequence[str], revision: str | None = None) -> list[SourceSplit]:
    """The source's splits; where the set has configs, also rows of it that have none, if nothing else is there."""
    configs = (None,) if source in spec.other_hubs else spec.configs
    in_order = not spec.grouped
    try:
        sources = open_source(source, configs, splits, revision=revision, in_order=in_order)
    except ConfigError:
        if configs == (None,) or spec.config_of_others is None or not is_local_source(source):
            raise
        sources = open_source(source, (None,), splits, in_order=in_order)
    # A folder may hold a split under the hub's name and under the store's.
    by_split = {(one.config, spec.store_split(one.split)): one for one in reversed(sources)}
    return list(reversed(by_split.values()))


def source_splits(spec: SetSpec, request: SetRequest, *, is_local: bool) -> tuple[str, ...]:
    """The hub's splits; of local rows also the store's names for them, and a validation split that somebody carved.

    Of these those that are wanted, by either name; a split of another name if that is wanted.
    """
    splits = spec.splits
    if is_local:
        splits = tuple(dict.fromkeys((*splits, *map(spec.store_split, splits), "validation")))
    if request.split is not None:
        wanted = request.split
        return tuple(split for split in splits if wanted in (split, spec.store_split(split))) or (wanted,)
    return tuple(split for split in splits if request.include_eval or spec.store_split(split) in TRAINING_SPLITS)


def folder_of_set(parent: Path, spec: SetSpec) -> str:
    """The set's own folder in a folder of several sets. Raises ConfigError if there is none."""
    spellings = [spelling for name in (spec.name, *spec.aliases) for spelling in (name.replace("_", "-"), name)]
    spellings += [hub.rpartition("/")[2] for hub in (spec.hub, *spec.other_hubs)]
    for spelling in spellings:
        if (parent / spelling).exists():
            return str(parent / spelling)
    raise ConfigError(f"{parent} has no folder for {spec.name}; looked for {', '.join(spellings)}")


@contextlib.contextmanager
def sample_written(request: SetRequest, options: Options, data_dir: Path) -> Iterator[tuple[SetRequest, Options]]:
    """Generated rows as the hub would give them, for as long as the context lasts; other requests as they are.

    Yields the request for them, and the options with their pictures and videos; the network is not asked. They lie
    beside the datasets in a folder with the name of the set: whoever holds the lock of the dataset may write and remove
    it. One that a killed conversion left is written anew.
    """
    if request.sample is None:
        yield request, options
        return
    # Imported here: it draws with libraries that other conversions don't need.
    from converters.sample import write_sample

    spec = find_set(request.name)
    folder = data_dir / f".sample-{spec.name}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        written = write_sample(folder, [spec.name], rows=request.sample.rows, seed=request.sample.seed)
        (one,) = written.values()
        fraction = options.validation_fraction
        if fraction is None and spec.validation_fraction is not None:
            fraction = SAMPLE_VALIDATION_FRACTION
        yield (
            replace(request, source=str(one.folder)),
            replace(
                options,
                validation_fraction=fraction,
                image_cache=str(one.image_cache),
                cache_only=True,
                video_dir=str(one.video_dir) if spec.is_video else None,
            ),
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
