"""Where the files of a conversion wait until it is committed, and which of them are nobody's any more.

A run has two hidden folders, one beside the annotations and one beside the media (which may lie on another disk):
`NAME/.SPLIT.RUN.partial` with its `run.json`, and `media/.NAME-SPLIT.RUN.partial`. RUN tells runs apart: a process that
a killed run left behind can never write into the folders of the run after it.
"""

import json
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grain_molmo.errors import StoreError
from grain_molmo.store.files import next_generation, read_json, shard_stem, write_json
from grain_molmo.store.manifest import MANIFEST_FILE, read_manifest
from grain_molmo.store.media import MEDIA_FOLDER, list_groups, new_group_name

_RUN_FILE, _COMMIT_FILE = "run.json", "commit.json"
_STAGING = re.compile(r"\.(\w+)\.([0-9a-f]{12})\.partial")
_PIECE = re.compile(r"\d{5,}-[0-9a-f]{8}\.(annotations|media|unique)")


@dataclass(frozen=True)
class Run:
    """A conversion of one split that has begun.

    Attributes:
        data_dir, name, split: what it writes.
        run_id: tells it from other runs of the same split.
        arguments: that decide its outcome.
        num_shards: of annotations.
        stem: what the names of its annotation shards begin with.
        media_group: the group that its media will be.
        known_groups: the groups that were committed when it began; what they hold it does not store again.
    """

    data_dir: Path
    name: str
    split: str
    run_id: str
    arguments: dict[str, Any]
    num_shards: int
    stem: str
    media_group: str
    known_groups: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where its annotation shards and what is known of them wait."""
        return self.data_dir / self.name / f".{self.split}.{self.run_id}.partial"

    @property
    def media_folder(self) -> Path:
        """Where its media wait."""
        return _media_staging(self.data_dir, self.name, self.split, self.run_id)

    @property
    def commit_file(self) -> Path:
        """There from the moment at which the run is sure to be committed; see `commit`."""
        return self.folder / _COMMIT_FILE

    @property
    def is_open(self) -> bool:
        """Whether it is neither committed nor discarded."""
        return (self.folder / _RUN_FILE).exists()

    def progress_file(self, shard: int) -> Path:
        """There when the shard is finished: what is in it."""
        return self.folder / f"shard-{shard:05d}.json"

    def finished(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(shard, what is in it) of the shards that are finished and whole, in order."""
        for shard in range(self.num_shards):
            progress = self.progress(shard)
            if progress is not None:
                yield shard, progress

    def progress(self, shard: int) -> dict[str, Any] | None:
        """What is in a shard; None if it is not finished or a file of it is lost."""
        try:
            progress = read_json(self.progress_file(shard))
        except FileNotFoundError:
            return None
        if self.commit_file.exists():  # the files are on their way to their places
            return progress
        pieces = [(self.folder, progress["annotations"]), (self.media_folder, progress["media"])]
        is_whole = all(_has_size(folder / piece["file"], piece["num_bytes"]) for folder, piece in pieces if piece)
        return progress if is_whole else None

    def remove(self) -> None:
        """Removes all that waits. The run's file goes first: folders without it are nobody's."""
        (self.folder / _RUN_FILE).unlink(missing_ok=True)
        for folder in (self.media_folder, self.folder):
            # A process that a killed run left behind may still write there: then the next run removes the rest.
            shutil.rmtree(folder, ignore_errors=True)

    def remove_pieces(self, progress: Mapping[str, Any]) -> None:
        """Removes the files of a shard that does not count."""
        for folder, kind in ((self.folder, "annotations"), (self.media_folder, "media")):
            if progress[kind]:
                (folder / progress[kind]["file"]).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Removes temporary files, and pieces of shards that were never finished."""
        if self.commit_file.exists():  # all that is there is to be moved
            return
        used = {self.progress_file(shard).name for shard in range(self.num_shards)}
        for _, progress in self.finished():
            used |= {piece["file"] for piece in (progress["annotations"], progress["media"]) if piece}
        for folder in (self.folder, self.media_folder):
            for path in folder.glob("*"):
                if is_temporary(path) or (_PIECE.fullmatch(path.name) and path.name not in used):
                    path.unlink(missing_ok=True)


def _media_staging(data_dir: Path, name: str, split: str, run_id: str) -> Path:
    return data_dir / MEDIA_FOLDER / f".{name}-{split}.{run_id}.partial"


def _has_size(path: Path, num_bytes: int) -> bool:
    try:
        return path.stat().st_size == num_bytes
    except OSError:
        return False


def is_temporary(path: Path) -> bool:
    """Whether `files.replacing` gave the path its name."""
    return re.fullmatch(r"\..+\.tmp-\d+-[0-9a-f]{8}", path.name) is not None


def begin_run(data_dir: Path, name: str, split: str, num_shards: int, arguments: Mapping[str, Any]) -> Run:
    """A new run; its names are those of the generation after what the store holds of the split."""
    run = Run(
        data_dir=data_dir,
        name=name,
        split=split,
        run_id=uuid.uuid4().hex[:12],
        arguments=json_value(arguments),
        num_shards=num_shards,
        stem=_next_stem(data_dir / name, name, split),
        media_group=new_group_name(data_dir / MEDIA_FOLDER, f"{name}-{split}"),
        known_groups=tuple(list_groups(data_dir / MEDIA_FOLDER)),
    )
    keys = ("arguments", "num_shards", "stem", "media_group", "known_groups")
    write_json(run.folder / _RUN_FILE, {key: getattr(run, key) for key in keys})
    return run


def json_value(value: Any) -> Any:
    """The value as it comes back from JSON."""
    return json.loads(json.dumps(value))


def _next_stem(folder: Path, name: str, split: str) -> str:
    base = f"{name}-{split}"
    committed = read_manifest(folder).splits.get(split) if (folder / MANIFEST_FILE).exists() else None
    return next_generation(shard_stem(committed.shards[0].file), base) if committed else base


def open_runs(data_dir: Path, name: str, split: str | None = None) -> list[Run]:
    """The runs of a dataset, or of one split, that are neither committed nor discarded."""
    runs = []
    for folder in sorted((data_dir / name).glob(".*.partial")):
        named = _STAGING.fullmatch(folder.name)
        if named is None or split not in (None, named[1]) or not (folder / _RUN_FILE).exists():
            continue
        entries = read_json(folder / _RUN_FILE)
        entries["known_groups"] = tuple(entries["known_groups"])
        try:
            runs.append(Run(data_dir=data_dir, name=name, split=named[1], run_id=named[2], **entries))
        except TypeError as error:
            raise StoreError(f"{folder / _RUN_FILE} is damaged ({error}); delete {folder} and convert again") from error
    return runs


def remove_leftovers(data_dir: Path, name: str) -> None:
    """Removes temporary files of a dataset, and folders of runs that were committed or discarded."""
    runs = open_runs(data_dir, name)
    kept = {run.folder for run in runs} | {run.media_folder for run in runs}
    media_folder = data_dir / MEDIA_FOLDER
    hidden = [*(data_dir / name).glob(".*"), *media_folder.glob(f".{name}-*")]
    _remove(path for path in hidden if is_temporary(path))
    for folder in hidden:
        is_staging = re.fullmatch(rf"\.({re.escape(name)}-)?\w+(\.[0-9a-f]{{12}})?\.partial", folder.name)
        if is_staging and folder not in kept:
            shutil.rmtree(folder, ignore_errors=True)
    for run in runs:
        run.sweep()


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
