"""Datasets of one's own in the store: `write_dataset`, and reading back what it or a plain source wrote."""

import contextlib
import functools
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from grain_molmo.datasets.base import Dataset, Example, PathLike, StoreDataset, require
from grain_molmo.datasets.example_media import example_media
from grain_molmo.datasets.example_record import FORM, to_annotation, to_example
from grain_molmo.datasets.labelled import FEATURES, with_features
from grain_molmo.datasets.lessons import has_lesson, require_lesson, require_points_inside, with_lesson
from grain_molmo.datasets.spool import Item, ItemSpool
from grain_molmo.errors import ConfigError, DamagedRecordError, ExampleError, StoreError
from grain_molmo.store import (
    MediaBytes,
    MediaStore,
    Record,
    Reject,
    SplitWriter,
    canonical_name,
    dataset_lock,
    list_converted,
    load_manifest,
    resolve_data_dir,
)
from grain_molmo.vision.frames import clip_window

EXAMPLES_PER_SHARD = 4096

Numbered = tuple[int, Mapping[str, Any]]


def is_written(data_dir: PathLike | None, name: str) -> bool:
    """Whether the folder has a dataset of that name that holds whole examples, as `WrittenDataset` reads them."""
    try:
        manifest = load_manifest(resolve_data_dir(data_dir), name)
    except (ConfigError, StoreError):  # no folder, no dataset, or a damaged one: whoever opens it is told
        return False
    return any(split.source.get("form") == FORM for split in manifest.values())


def written_names(data_dir: PathLike | None) -> list[str]:
    """Names of the datasets in the folder that hold whole examples; none if no folder is given."""
    try:
        folder = resolve_data_dir(data_dir)
    except ConfigError:
        return []
    return [name for name in list_converted(folder) if is_written(folder, name)]


class WrittenDataset(StoreDataset):
    """Examples that `write_dataset` stored, or that were converted from a plain source (a folder, a table, ...).

    Args:
        name: as it was written.
        split: of the store.
        data_dir: the store's folder; default $GRAIN_MOLMO_DATA.

    Raises:
        StoreError: there is no such dataset in this folder.
        ConfigError: no such split, no folder given, or a dataset of another form.
    """

    def __init__(self, name: str, split: str = "train", data_dir: PathLike | None = None):
        self.NAME = canonical_name(name)
        super().__init__(split, data_dir)
        if not is_written(data_dir, self.NAME):
            raise ConfigError(f"{name} was converted, but not as whole examples; open it by the name of its set")

    @functools.cached_property
    def feature_shape(self) -> tuple[int, ...] | None:
        """Shape of an example's features; None if the first has none."""
        features = self.records[0].annotation.get(FEATURES) if len(self) else None
        return None if features is None else features.shape

    def get(self, item: int, rng: np.random.RandomState) -> Example:
        """Example `item` as it was written, its media as LazyImage or LazyVideo; draws nothing.

        `metadata` has `id`, `source` and `split` unless the example brought its own.

        Raises:
            DamagedRecordError: the record holds no example.
        """
        record = self.records[item]
        try:
            example = to_example(record.annotation, self.images(record), self.videos(record))
        except (KeyError, IndexError, TypeError) as error:
            raise DamagedRecordError(f"{self.records.folder}: record {item} holds no example ({error!r})") from error
        return {**example, "metadata": {**self.metadata(record), **example.get("metadata", {})}}

    def example_id(self, item: int) -> str:
        """The example's own id if it brought one, else its record's."""
        return str(self[item]["metadata"]["id"])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.NAME!r}, {self.split!r}, {len(self)} examples)"


@dataclass(frozen=True)
class WriteSummary:
    """What was written.

    Attributes:
        name: of the dataset.
        split: of it.
        examples: that it holds now.
        skipped: examples that were left out, by reason; the rows are in `rejects-SPLIT.jsonl`.
        media_new: pictures and videos that the store did not hold before.
        num_bytes: of the files that were written.
    """

    name: str
    split: str
    examples: int
    skipped: dict[str, int] = field(default_factory=dict)
    media_new: int = 0
    num_bytes: int = 0


def write_dataset(
    examples: Iterable[Mapping[str, Any]] | Dataset,
    data_dir: PathLike | None,
    name: str,
    split: str = "train",
    *,
    overwrite: bool = False,
    on_error: str = "raise",
    examples_per_shard: int = EXAMPLES_PER_SHARD,
    progress: bool = True,
) -> WriteSummary:
    """Stores examples as a dataset that `get_dataset(name, split, data_dir=...)` opens and mixtures can name.

    The split appears when all of it is written, or not at all. One example is in memory at a time, of whatever length
    the sequence turns out to be.

    Args:
        examples: dicts as `Dataset` describes them, or in the forms of `with_lesson` (`caption`, `question` and
            `answer`, `points`, `count`, ...), or labelled features: `features`, an array, and `label`, a whole number.
            `image` may also be the path or the bytes of a file, which are kept as
            they are; pixels are stored without loss. `video` is the path or the bytes of a file, or a LazyVideo. A
            dataset gives each example once, with the random choices of `dataset[i]`.
        data_dir: the store's folder; None: $GRAIN_MOLMO_DATA.
        name: letters, digits, "_" and "-"; not that of a registered dataset.
        split: letters, digits and "_".
        overwrite: replace the split if it is there.
        on_error: "raise" at the first example that cannot be stored or learned from, or "skip" and count it.
        examples_per_shard: at most 10,000.
        progress: show a bar on a terminal.

    Raises:
        ConfigError: the name is taken, the split is there already, or there is no example.
        StoreBusyError: another process writes the dataset.
        ExampleError: an example cannot be stored, or (`points_outside`) points out of its picture without
            `clip_points`; the message names its index and the field.
        StoreError: the store cannot be written.
    """
    require("on_error", on_error, ("raise", "skip"))
    if not 1 <= examples_per_shard <= 10_000:
        raise ConfigError(f"examples_per_shard={examples_per_shard}: must be between 1 and 10,000")
    folder, name = resolve_data_dir(data_dir), canonical_name(name)
    rejects: list[Reject] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(dataset_lock(folder, name))
        _require_free(folder, name, split, overwrite)
        counted = tqdm(examples, f"{name} {split}", unit=" examples", disable=None if progress else True, leave=False)
        stack.callback(counted.close)
        numbered = enumerate(counted)
        skipped = rejects if on_error == "skip" else None
        if isinstance(examples, Sized):
            length = len(examples)
            parts = _sized_parts(numbered, length, examples_per_shard, split, skipped)
        else:
            spool = stack.enter_context(ItemSpool(folder))
            length = spool.fill(_items(numbered, split, skipped))
            items = iter(spool)
            parts = (islice(items, examples_per_shard) for _ in range(0, length, examples_per_shard))
        return _write_shards(folder, name, split, max(1, -(-length // examples_per_shard)), parts, rejects)


def _require_free(folder: Path, name: str, split: str, overwrite: bool) -> None:
    from grain_molmo.datasets.registry import dataset_names  # which knows this module

    if name in dataset_names():
        raise ConfigError(f"{name!r} is the name of a registered dataset; choose another")
    if name not in list_converted(folder):
        return
    manifest = load_manifest(folder, name)
    if not is_written(folder, name):
        raise ConfigError(f"{folder / name} holds a dataset of another form; choose another name")
    if split in manifest and not overwrite:
        raise ConfigError(f"{folder / name} has a split {split!r} already; overwrite=True replaces it")


def _write_shards(
    folder: Path, name: str, split: str, num_shards: int, parts: Iterable[Iterator[Item]], rejects: list[Reject]
) -> WriteSummary:
    # Nobody can tell whether two sequences are the same, so no run goes on with the shards of another.
    writer = SplitWriter(folder, name, split, num_shards=num_shards, arguments={"written": uuid.uuid4().hex})
    media_before = len(MediaStore(folder))
    try:
        if not sum(writer.write_shard(shard, items).records for shard, items in enumerate(parts)):
            left_out = f": all {len(rejects):,} were left out, the first as {rejects[0].detail}" if rejects else ""
            raise ConfigError(f"{name} {split}: there is no example to write{left_out}")
    except BaseException:
        writer.discard()
        raise
    manifest = writer.finish(source={"kind": "written", "form": FORM}, converter={}, rejects=rejects)
    store = MediaStore(folder)
    media = next((group.shards for group in store.groups if group.name == manifest.media_group), ())
    num_bytes = sum(shard.num_bytes for shard in (*manifest.shards, *media))
    new = len(store) - media_before
    return WriteSummary(name, split, manifest.num_examples, manifest.rejected, new, num_bytes)


def _sized_parts(
    numbered: Iterator[Numbered], length: int, per_shard: int, split: str, rejects: list[Reject] | None
) -> Iterator[Iterator[Item]]:
    """The items of each shard, where it is known beforehand how many examples there are."""
    for _ in range(0, length, per_shard):
        yield _items(islice(numbered, per_shard), split, rejects)
    if next(numbered, None) is not None:
        raise ConfigError(f"the examples say that there are {length:,} of them, but there are more")


def _items(numbered: Iterable[Numbered], split: str, rejects: list[Reject] | None) -> Iterator[Item]:
    """What is stored of each example. A bad one is added to the rejects, or raised where there are none to add to."""
    for index, example in numbered:
        try:
            yield to_item(index, example, split)
        except ExampleError as error:
            detail = f"example {index}: {error.detail}"
            if rejects is None:
                raise ExampleError(error.reason, detail) from error
            rejects.append(Reject(index, _identity(index, split), error.reason, detail))


def to_item(index: int, example: Mapping[str, Any], split: str = "train") -> Item:
    """Example `index` as a record and the bytes of its media. Raises ExampleError."""
    if not isinstance(example, Mapping):
        raise ExampleError("bad_example", f"it is {type(example).__name__}, not a dict")
    if not isinstance(example.get("metadata") or {}, Mapping):
        raise ExampleError("bad_metadata", f"metadata is {type(example['metadata']).__name__}, not a dict")
    shows, media = example_media(example)
    fields = with_features(with_lesson(example, shows))
    shown = [medium.ref for medium in media if medium.ref.kind != "frames"]
    if FEATURES not in fields or has_lesson(fields):
        sizes = [(ref.width, ref.height) for ref in shown]
        require_lesson(fields, sizes)
        require_points_inside(example, shows, sizes)
    if shown and (facts := shown[0].video) is not None:
        metadata = fields.get("metadata", {})
        clip_window(facts.duration_s, metadata.get("clip_start_time"), metadata.get("clip_end_time"))
    record = Record(_identity(index, split), to_annotation(fields, shows), tuple(medium.ref for medium in media))
    return record, MediaBytes(media)


def _identity(index: int, split: str) -> str:
    return f"{index:09d}" if split == "train" else f"{split}/{index:09d}"
