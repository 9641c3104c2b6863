"""Writing one split of a dataset: shard by shard, in any order, by any number of processes; committed at the end.

What comes out does not depend on who wrote which shard when: media shard k holds, in order of first mention, the media
that annotation shard k mentions, without those that the store held when the run began and those that an annotation
shard before k mentions. Whoever writes shard k leaves out what it knows by then; the commit removes the rest.
"""

import functools
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from grain_molmo.errors import ConfigError, StoreError
from grain_molmo.store.commit import complete_commit, prepare_commit
from grain_molmo.store.files import canonical_name, json_text, replacing, writing
from grain_molmo.store.known import KnownMedia
from grain_molmo.store.manifest import SplitManifest, count_reasons, load_manifest, rejects_text
from grain_molmo.store.media import MEDIA_FOLDER, MediaStore
from grain_molmo.store.records import MediaRef, Record, Reject, encode_media, encode_record
from grain_molmo.store.shards import ANNOTATION_OPTIONS, MEDIA_OPTIONS, ShardInfo, write_shard
from grain_molmo.store.staging import Run, begin_run, json_value, open_runs

MAX_RECORDS_PER_SHARD = 10_000


class SplitWriter:
    """Writes a split's annotation shards, and the media they add to the store.

    Finished shards wait in hidden folders until `finish` commits them. A writer made again with the same arguments
    after a stop finds the shards that were finished. Make it and finish it under `dataset_lock`; between the two,
    other processes may `attach` and write shards.

    Args:
        data_dir: the store's folder.
        name: dataset name.
        split: store split.
        num_shards: fixed before the first shard is written.
        arguments: JSON-able values that decide the outcome; finished shards are only taken over from a run with equal
            ones.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        name: str,
        split: str,
        *,
        num_shards: int,
        arguments: Mapping[str, Any] | None = None,
    ):
        if num_shards < 1:
            raise ConfigError(f"{name} {split}: a split has at least one shard, not {num_shards}")
        if not re.fullmatch(r"\w+", split):
            raise ConfigError(f"{split!r} is no split name: use letters, digits and '_'")
        canonical = canonical_name(name)
        if canonical == MEDIA_FOLDER:
            raise ConfigError(f"a dataset cannot be named {name!r}: the store keeps the pictures in that folder")
        self._use(_begin(Path(data_dir), canonical, split, num_shards, arguments or {}))

    @classmethod
    def attach(cls, data_dir: str | os.PathLike[str], name: str, split: str) -> "SplitWriter":
        """A writer of the run that another process began, perhaps on another machine that sees the folder.

        Raises StoreError if there is none.
        """
        runs = open_runs(Path(data_dir), canonical_name(name), split)
        if len(runs) != 1:
            raise StoreError(f"{Path(data_dir) / canonical_name(name)}: no conversion of {split} is under way")
        writer = cls.__new__(cls)
        writer._use(runs[0])
        return writer

    def _use(self, run: Run) -> None:
        self._run = run
        self._store = MediaStore(run.data_dir, run.known_groups)

    def __repr__(self) -> str:
        return f"conversion of {self._run.name} {self._run.split}, {self._run.num_shards} shards"

    @property
    def num_shards(self) -> int:
        """Annotation shards of the split."""
        return self._run.num_shards

    @property
    def spool_folder(self) -> Path:
        """For whatever else the run must remember over a stop: it goes when the run is committed or discarded."""
        return self._run.folder / "spool"

    def discard(self) -> None:
        """Forgets the shards that were finished but not committed; the writer is of no use afterwards."""
        if self._run.commit_file.exists():  # too late: others may have seen its media
            complete_commit(self._run)
        else:
            self._run.remove()

    def has_shard(self, shard: int) -> bool:
        """Whether the shard was finished, by any process of this run or of an earlier one with the same arguments."""
        return self._run.progress(shard) is not None

    def shard_rejects(self, shard: int) -> list[Reject]:
        """The rows that were rejected while the finished shard was made."""
        return [Reject(**reject) for reject in self._progress(shard)["rejects"]]

    def media_uses(self) -> int:
        """How often the records of the finished shards refer to media, new or stored before."""
        return sum(progress["media_uses"] for _, progress in self._run.finished())

    def write_shard(
        self, shard: int, items: Iterable[tuple[Record, Mapping[str, bytes]]], rejects: Sequence[Reject] = ()
    ) -> ShardInfo:
        """Writes annotation shard `shard`, and those of its media that neither the store nor a shard before it holds.

        Several processes may write at once, also the same shard: then the first to finish wins, and the others return
        what it wrote.

        Args:
            shard: index of the shard, below num_shards.
            items: records in order, each with the original bytes of its media by SHA-256. Read once, as it is written.
            rejects: rows left out while making the items; looked at after the items are used up, so it may be the
                list that the producer of the items appends to. Kept with the shard for a run that resumes.

        Raises:
            ConfigError: no such shard, or it was finished already; or an annotation is not JSON.
            StoreError: more records than a shard may hold, media bytes missing, the disk is full, or the run was
                discarded meanwhile.
        """
        self._require_unwritten(shard)
        known = self._known_before(shard)
        new_media: list[str] = []
        # Two files grow together, so the annotations of a shard (small) wait in memory while its media stream to disk.
        payloads: list[bytes] = []
        uses = 0

        seen: set[str] = set()

        def is_new(ref: MediaRef) -> bool:
            if ref.sha256 in seen:
                return False
            seen.add(ref.sha256)
            if ref.sha256 in self._store:
                return False
            first = known.first_shard(ref.sha256)
            return first is None or first >= shard

        def media_payloads() -> Iterator[bytes]:
            nonlocal uses
            for record, media in items:
                uses += len(record.media)
                payloads.append(encode_record(record))
                if len(payloads) > MAX_RECORDS_PER_SHARD:
                    raise StoreError(
                        f"{self}: shard {shard} has over {MAX_RECORDS_PER_SHARD:,} records; use more shards"
                    )
                for ref in filter(is_new, record.media):
                    if ref.sha256 not in media:
                        raise StoreError(
                            f"record {record.id!r} refers to media {ref.sha256}, whose bytes were not given"
                        )
                    new_media.append(ref.sha256)
                    yield encode_media(ref, media[ref.sha256])

        piece = f"{shard:05d}-{uuid.uuid4().hex[:8]}"
        media_path = self._run.media_folder / f"{piece}.media"
        try:
            media_info = write_shard(media_path, media_payloads(), MEDIA_OPTIONS)
            if not new_media:
                media_path.unlink()
            info = write_shard(self._run.folder / f"{piece}.annotations", payloads, ANNOTATION_OPTIONS)
        except BaseException as error:
            media_path.unlink(missing_ok=True)
            self._require_open(shard, error)
            raise
        return self._record(
            shard,
            {
                "annotations": asdict(info),
                "media": asdict(media_info) if new_media else None,
                "media_keys": new_media,
                "media_uses": uses,
                "rejects": [asdict(reject) for reject in rejects],
            },
        )

    def keep_shard(self, shard: int, rejects: Sequence[Reject] = ()) -> ShardInfo:
        """Takes the shard over from the split as it is committed, which has as many shards, instead of writing it.

        Raises ConfigError as `write_shard` does, StoreError if the committed split has no such shard.
        """
        self._require_unwritten(shard)
        run = self._run
        committed = load_manifest(run.data_dir, run.name).get(run.split)
        if committed is None or len(committed.shards) != run.num_shards:
            raise StoreError(f"{self}: no committed split with as many shards, from which one could be kept")
        old = committed.shards[shard]
        path = run.folder / f"{shard:05d}-{uuid.uuid4().hex[:8]}.annotations"
        with writing(path):
            try:
                os.link(run.data_dir / run.name / old.file, path)
            except OSError:  # a file system without links
                shutil.copyfile(run.data_dir / run.name / old.file, path)
        info = replace(old, file=path.name)
        progress = {"annotations": asdict(info), "media": None, "media_keys": [], "media_uses": 0}
        return self._record(shard, {**progress, "rejects": [asdict(reject) for reject in rejects]})

    def finish(
        self, *, source: Mapping[str, Any], converter: Mapping[str, Any], rejects: Sequence[Reject]
    ) -> SplitManifest:
        """Commits the split: media group, shards under the names of a new generation, manifest, reject table.

        Killed anywhere, the store holds the old split or the new one; the same call, or `recover`, does the rest.

        Raises StoreError if a shard was not written, or the disk is full.
        """
        missing = [shard for shard in range(self.num_shards) if not self.has_shard(shard)]
        if missing:
            raise StoreError(f"{self}: shard {missing[0]} was not written")
        if not self._run.commit_file.exists():
            entry = SplitManifest(
                shards=(),
                media_group=None,
                rejected=count_reasons(rejects),
                source=json_value(dict(source)),
                converter=json_value(dict(converter)),
            )
            prepare_commit(self._run, entry, rejects_text(rejects))
        return complete_commit(self._run)

    def _require_unwritten(self, shard: int) -> None:
        if not 0 <= shard < self.num_shards:
            raise ConfigError(f"{self._run.name} {self._run.split}: there is no shard {shard} of {self.num_shards}")
        if self.has_shard(shard):
            raise ConfigError(
                f"{self._run.name} {self._run.split}: shard {shard} was finished; `discard` to write anew"
            )

    def _require_open(self, shard: int, error: BaseException | None = None) -> None:
        if not self._run.is_open:
            raise StoreError(f"{self}: the conversion was discarded while shard {shard} was written") from error

    def _progress(self, shard: int) -> dict[str, Any]:
        progress = self._run.progress(shard)
        if progress is None:
            raise StoreError(f"{self}: shard {shard} was not written")
        return progress

    def _known_before(self, shard: int) -> KnownMedia:
        """The media of the shards before this one that are finished by now."""
        known = _known_media(self._run.folder)
        for earlier in range(shard):
            if earlier not in known.shards and (progress := self._run.progress(earlier)) is not None:
                known.add(earlier, progress["media_keys"])
        return known

    def _record(self, shard: int, progress: dict[str, Any]) -> ShardInfo:
        """Makes the shard a finished one, if no other process did that meanwhile; the shard that counts."""
        path = self._run.progress_file(shard)
        self._require_open(shard)
        with writing(path):
            if path.exists() and not self.has_shard(shard):
                path.unlink()  # its files are lost
        with replacing(path, keep=True) as temporary, writing(path):
            temporary.write_text(json_text(progress), encoding="utf-8", errors="backslashreplace")
        winner = self._progress(shard)
        if winner["annotations"] != progress["annotations"]:
            self._run.remove_pieces(progress)
        return ShardInfo(**winner["annotations"])


@functools.lru_cache(maxsize=4)
def _known_media(folder: Path) -> KnownMedia:
    """Shared by the writers of this process that work on one run, however often they attach."""
    del folder
    return KnownMedia()


def _begin(data_dir: Path, name: str, split: str, num_shards: int, arguments: Mapping[str, Any]) -> Run:
    """The run with these arguments that was begun and not committed, or a new one instead of all others."""
    arguments = json_value(dict(arguments))
    ours = None
    for run in open_runs(data_dir, name, split):
        if (run.num_shards, run.arguments) == (num_shards, arguments):
            ours = run
        elif run.commit_file.exists():
            complete_commit(run)
        else:
            run.remove()
    if ours is None:
        return begin_run(data_dir, name, split, num_shards, arguments)
    ours.sweep()
    return ours
