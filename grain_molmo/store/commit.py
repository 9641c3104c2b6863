"""Committing a run so that a kill anywhere leaves the old split or the new one, never something in between.

First everything is made ready beside its place; then `commit.json` says which file goes where. Before that file is
there nothing has changed; from then on `complete_commit` can be begun again as often as it is cut off. In it the rename
of the manifest is the moment at which readers see the new split: its shards have names of their own, and those of the
old split are removed afterwards.
"""

import os
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from grain_molmo.errors import StoreError
from grain_molmo.store.files import fsync_folder, read_json, shard_file, write_json, write_text, writing
from grain_molmo.store.known import first_mentions
from grain_molmo.store.manifest import (
    MANIFEST_FILE,
    SplitManifest,
    read_manifest,
    rejects_file,
    save_manifest,
    split_from_json,
)
from grain_molmo.store.media import MEDIA_FOLDER, build_index, group_files, key_halves, write_group
from grain_molmo.store.sealed import text_sha256
from grain_molmo.store.shards import MEDIA_OPTIONS, RecordReader, ShardInfo, write_shard
from grain_molmo.store.staging import Run, open_runs, remove_leftovers


def prepare_commit(run: Run, entry: SplitManifest, rejects: str) -> None:
    """Makes ready all that the commit of a run needs, and decides it.

    Args:
        run: all of its shards are finished.
        entry: of the manifest, without shards, group and checksum of the rejects.
        rejects: the table of rejected rows.
    """
    media, index = _unique_media(run)
    media_folder = run.data_dir / MEDIA_FOLDER
    moves = [(run.media_folder / piece, media_folder / info.file) for piece, info in media]
    if media:
        write_group(run.media_folder, run.media_group, [info for _, info in media], index)
        moves += [
            (run.media_folder / file, run.data_dir / MEDIA_FOLDER / file) for file in group_files(run.media_group)
        ]
    shards = []
    for shard, progress in run.finished():
        piece = ShardInfo(**progress["annotations"])
        shards.append(replace(piece, file=shard_file(run.stem, shard, run.num_shards)))
        moves.append((run.folder / piece.file, run.data_dir / run.name / shards[-1].file))
    entry = replace(
        entry,
        shards=tuple(shards),
        media_group=run.media_group if media else None,
        rejects_sha256=text_sha256(rejects),
    )
    write_text(run.folder / rejects_file(run.split), rejects)
    relative = [[str(path.relative_to(run.data_dir)) for path in move] for move in moves]
    write_json(run.commit_file, {"entry": asdict(entry), "moves": relative})


def _unique_media(run: Run) -> tuple[list[tuple[str, ShardInfo]], np.ndarray]:
    """(piece, what it becomes) of the shards of media, each medium in the first that has it; and their index.

    Shards that were made out of order, or at once, hold some media twice: those shards are written anew without them.
    """
    keys = [key_halves(progress["media_keys"]) for _, progress in run.finished()]
    is_first = first_mentions(keys)
    media: list[tuple[str, ShardInfo]] = []
    for shard, progress in run.finished():
        kept = is_first[shard]
        if not kept.any():
            continue
        piece = ShardInfo(**progress["media"])
        if not kept.all():
            reader = RecordReader(run.media_folder, [piece])
            path = run.media_folder / Path(piece.file).with_suffix(".unique")
            piece = write_shard(path, (reader[record] for record in np.flatnonzero(kept).tolist()), MEDIA_OPTIONS)
        media.append((piece.file, replace(piece, file=shard_file(run.media_group, shard, run.num_shards))))
    return media, build_index([some[kept] for some, kept in zip(keys, is_first, strict=True) if kept.any()])


def complete_commit(run: Run) -> SplitManifest:
    """Carries out what `prepare_commit` decided, or the rest of it. Raises StoreError if a file cannot be moved."""
    commit = read_json(run.commit_file)
    entry = split_from_json(commit["entry"])
    for source, target in commit["moves"]:
        _move(run.data_dir / source, run.data_dir / target)
    folder = run.data_dir / run.name
    for changed in {folder, *((run.data_dir / target).parent for _, target in commit["moves"])}:
        with writing(changed):
            fsync_folder(changed)
    splits = read_manifest(folder).splits if (folder / MANIFEST_FILE).exists() else {}
    save_manifest(run.data_dir, run.name, {**splits, run.split: entry})
    _move(run.folder / rejects_file(run.split), folder / rejects_file(run.split))
    _remove_old_shards(folder, run, entry)
    run.remove()
    return entry


def _move(source: Path, target: Path) -> None:
    """Moves a file; one that was moved by an earlier try is left alone."""
    with writing(target):
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, target)
        elif not target.exists():
            raise StoreError(f"{source} is lost, which was to become {target}; convert again with --force")


def _remove_old_shards(folder: Path, run: Run, entry: SplitManifest) -> None:
    named = {shard.file for shard in entry.shards}
    pattern = re.compile(rf"{re.escape(run.name)}-{run.split}(-\d+)?\.array_record-\d+-of-\d+")
    for path in folder.glob("*.array_record-*"):
        if pattern.fullmatch(path.name) and path.name not in named:
            path.unlink(missing_ok=True)


def recover(data_dir: Path, name: str) -> None:
    """Completes commits of a dataset that were cut off, and removes what killed runs left behind.

    Shards that can still be taken over by a run with the same arguments stay. Call it under the dataset's lock.
    """
    for run in open_runs(data_dir, name):
        if run.commit_file.exists():
            complete_commit(run)
    remove_leftovers(data_dir, name)
