"""Files that no manifest knows: conversions under way, what killed ones left, and what somebody put there."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from grain_molmo.errors import StoreError
from grain_molmo.store.manifest import MANIFEST_FILE, SplitManifest, rejects_file
from grain_molmo.store.media import MEDIA_FOLDER, MediaGroup, group_files
from grain_molmo.store.staging import Run, open_runs


@dataclass(frozen=True)
class Stray:
    """A file or folder that no manifest knows, and what to do about it."""

    path: Path
    problem: str
    advice: str


def strays_of_set(folder: Path, splits: dict[str, SplitManifest], runs: Collection[Run]) -> Iterator[Stray]:
    """What lies in an annotation folder beside what its manifest lists.

    Args:
        folder: of the annotations.
        splits: that its manifest has.
        runs: conversions of the set that are not finished; see `runs_of`.
    """
    listed = {MANIFEST_FILE, "features.json", "dataset_info.json", *map(rejects_file, splits)}
    listed |= {shard.file for entry in splits.values() for shard in entry.shards}
    under_way = {run.folder.name: run for run in runs}
    for path in sorted(folder.iterdir()):
        if path.name in under_way:
            yield _of_run(path, under_way[path.name])
        elif path.name not in listed:
            yield _stray(path)


def strays_of_media(folder: Path, groups: Iterable[MediaGroup], runs: Collection[Run]) -> Iterator[Stray]:
    """What lies in the media folder beside what the groups' manifests list."""
    listed = {run.media_folder.name for run in runs}
    for group in groups:
        listed |= {*group_files(group.name), *(shard.file for shard in group.shards)}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in listed:
            yield _stray(path)


def folders_without_manifest(data_dir: Path) -> Iterator[Stray]:
    """Folders that hold shards, but no manifest that lists them; not those that a first commit is about to give one."""
    for folder in sorted(path for path in data_dir.iterdir() if path.is_dir()):
        if folder.name == MEDIA_FOLDER or (folder / MANIFEST_FILE).exists():
            continue
        is_to_come = any(run.commit_file.exists() for run in runs_of(data_dir, folder.name))
        if any(folder.glob("*.array_record-*")) and not is_to_come:
            yield Stray(folder, f"has shards, but no {MANIFEST_FILE}", "restore that, or convert again")


def runs_of(data_dir: Path, name: str) -> list[Run]:
    """The conversions of a set that are not finished; none where that cannot be read."""
    try:
        return open_runs(data_dir, name)
    except StoreError:  # their folders are listed as strays
        return []


def _of_run(path: Path, run: Run) -> Stray:
    if run.commit_file.exists():
        problem = f"a conversion of {run.split} was stopped in the middle of its commit"
        return Stray(path, problem, "give the same command again: it does the rest")
    problem = f"a conversion of {run.split} is not finished"
    return Stray(path, problem, "give the same command again: it goes on; or delete the folder")


def _stray(path: Path) -> Stray:
    if path.name.startswith("."):
        return Stray(path, "left by a conversion that was killed", "the next conversion of the set removes it")
    if path.name.startswith("rejects-"):
        problem = "lists the rows of a split of which none could be converted; it has no checksum"
        return Stray(path, problem, "look at the reasons in it")
    return Stray(path, "no manifest lists it", "delete it if it is not yours")
