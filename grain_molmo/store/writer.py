"""Writing one split of a dataset: shard by shard, resumable between shards, committed by one rename at the end."""

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from grain_molmo.errors import ConfigError, StoreError
from grain_molmo.store.files import canonical_name, fsync_folder, read_json, shard_file, write_json
from grain_molmo.store.manifest import SplitManifest, count_reasons, load_manifest, save_manifest, save_rejects
from grain_molmo.store.media import MEDIA_FOLDER, MediaStore, build_index, commit_group, new_group_name
from grain_molmo.store.records import MediaRef, Record, Reject, encode_media, encode_record
from grain_molmo.store.shards import ANNOTATION_OPTIONS, MEDIA_OPTIONS, ShardInfo, write_shard

MAX_RECORDS_PER_SHARD = 10_000


class SplitWriter:
    """Writes a split's annotation shards, and the media they add to the store.

    Finished shards wait in a hidden folder beside the dataset until `finish` moves them into place and writes the
    manifest. A writer made again with the same arguments after a stop finds the shards that were finished. One writer
    a split at a time.

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
        self.data_dir = Path(data_dir)
        self.name, self.split, self.num_shards = canonical_name(name), split, num_shards
        if self.name == MEDIA_FOLDER:
            raise ConfigError(f"a dataset cannot be named {name!r}: the store keeps the pictures in that folder")
        self._folder = self.data_dir / self.name
        self._media_folder = self.data_dir / MEDIA_FOLDER
        self._staging = self._folder / f".{split}.partial"
        self._run_file = self._staging / "run.json"
        self._group = self._begin({"num_shards": num_shards, **(arguments or {})})
        self._store = MediaStore(self.data_dir)
        self._written = {sha256 for shard in self._finished() for sha256 in shard["media_keys"]}

    @classmethod
    def attach(cls, data_dir: str | os.PathLike[str], name: str, split: str) -> "SplitWriter":
        """The writer of a run that another process began. Raises StoreError if there is none."""
        run_file = Path(data_dir) / canonical_name(name) / f".{split}.partial" / "run.json"
        try:
            arguments = read_json(run_file)["arguments"]
        except FileNotFoundError:
            raise StoreError(f"{run_file} is missing: no conversion of {name} {split} was begun") from None
        return cls(data_dir, name, split, num_shards=arguments.pop("num_shards"), arguments=arguments)

    def _begin(self, arguments: dict[str, Any]) -> str:
        """Takes over the run that the staging folder holds if it is ours, else starts one; the media group's name."""
        arguments = json.loads(json.dumps(arguments))
        if self._run_file.exists():
            run = read_json(self._run_file)
            if run["arguments"] == arguments:
                _remove(self._media_folder.glob(f".{run['media_group']}.*.tmp-*"))
                return run["media_group"]
        self.discard()
        group = self._next_group()
        write_json(self._run_file, {"arguments": arguments, "media_group": group})
        return group

    def _next_group(self) -> str:
        return new_group_name(self._media_folder, f"{self.name}-{self.split}")

    def discard(self) -> None:
        """Forgets the shards that were finished but not committed; the writer is of no use afterwards."""
        self._remove_staging()
        # Media of a group without a manifest; with one (`finish` stopped behind it) annotations may refer to them.
        group = self._next_group()
        _remove(self._media_folder.glob(f"{group}.array_record-*"))
        _remove(self._media_folder.glob(f".{group}.*.tmp-*"))

    def _remove_staging(self) -> None:
        # The run's file goes first: shards without it are nobody's, so a stop in the middle leaves none to take over.
        self._run_file.unlink(missing_ok=True)
        if self._staging.exists():
            shutil.rmtree(self._staging)

    def _progress_file(self, shard: int) -> Path:
        return self._staging / f"shard-{shard:05d}.json"

    def _finished(self) -> Iterator[dict[str, Any]]:
        yield from (read_json(self._progress_file(shard)) for shard in range(self.num_shards) if self.has_shard(shard))

    def has_shard(self, shard: int) -> bool:
        """Whether the shard was finished, now or by an earlier run with the same arguments."""
        return self._progress_file(shard).exists()

    def shard_rejects(self, shard: int) -> list[Reject]:
        """The rows that were rejected while the finished shard was made."""
        return [Reject(**reject) for reject in read_json(self._progress_file(shard))["rejects"]]

    def media_uses(self) -> int:
        """How often the records of the finished shards refer to media, new or stored before."""
        return sum(shard.get("media_uses", 0) for shard in self._finished())

    def write_shard(
        self, shard: int, items: Iterable[tuple[Record, Mapping[str, bytes]]], rejects: Sequence[Reject] = ()
    ) -> ShardInfo:
        """Writes annotation shard `shard` and the media shard with those of its media that the store lacks.

        Args:
            shard: index of the shard, below num_shards.
            items: records in order, each with the original bytes of its media by SHA-256. Read once, as it is written.
            rejects: rows left out while making the items; looked at after the items are used up, so it may be the
                list that the producer of the items appends to. Kept with the shard for a run that resumes.

        Raises:
            ConfigError: no such shard, or it was finished already; or an annotation is not JSON.
            StoreError: more records than a shard may hold, media bytes missing, or the disk is full.
        """
        if not 0 <= shard < self.num_shards:
            raise ConfigError(f"{self.name} {self.split}: there is no shard {shard} of {self.num_shards}")
        if self.has_shard(shard):
            raise ConfigError(f"{self.name} {self.split}: shard {shard} was finished; `discard` to write it anew")
        new_media: dict[str, MediaRef] = {}
        media_name = shard_file(self._group, shard, self.num_shards)
        media_path = self._media_folder / media_name
        annotation_path = self._staging / shard_file(f"{self.name}-{self.split}", shard, self.num_shards)
        # Two files grow together, so the annotations of a shard (small) wait in memory while its media stream to disk.
        payloads: list[bytes] = []
        uses = 0

        def media_payloads() -> Iterator[bytes]:
            nonlocal uses
            for record, media in items:
                uses += len(record.media)
                payloads.append(encode_record(record))
                if len(payloads) > MAX_RECORDS_PER_SHARD:
                    raise StoreError(f"{annotation_path}: over {MAX_RECORDS_PER_SHARD:,} records; use more shards")
                for ref in record.media:
                    if ref.sha256 in new_media or ref.sha256 in self._written or ref.sha256 in self._store:
                        continue
                    if ref.sha256 not in media:
                        raise StoreError(
                            f"record {record.id!r} refers to media {ref.sha256}, whose bytes were not given"
                        )
                    new_media[ref.sha256] = ref
                    yield encode_media(ref, media[ref.sha256])

        media_info = write_shard(media_path, media_payloads(), MEDIA_OPTIONS)
        if not new_media:
            media_path.unlink()
        info = write_shard(annotation_path, payloads, ANNOTATION_OPTIONS)
        progress = {
            "annotations": asdict(info),
            "media": asdict(media_info) if new_media else None,
            "media_keys": list(new_media),
            "media_uses": uses,
            "rejects": [asdict(reject) for reject in rejects],
        }
        write_json(self._progress_file(shard), progress)
        self._written.update(new_media)
        return info

    def finish(
        self, *, source: Mapping[str, Any], converter: Mapping[str, Any], rejects: Sequence[Reject]
    ) -> SplitManifest:
        """Commits the split: media group, reject table, shards into place, manifest.

        Raises StoreError if a shard was not written.
        """
        missing = [shard for shard in range(self.num_shards) if not self.has_shard(shard)]
        if missing:
            raise StoreError(f"{self._folder} {self.split}: shard {missing[0]} of {self.num_shards} was not written")
        finished = list(self._finished())
        with_media = [shard for shard in finished if shard["media"]]
        if with_media:
            shards = [ShardInfo(**shard["media"]) for shard in with_media]
            index = build_index([shard["media_keys"] for shard in with_media])
            commit_group(self._media_folder, self._group, shards, index)
        save_rejects(self.data_dir, self.name, self.split, rejects)
        manifest = SplitManifest(
            shards=tuple(ShardInfo(**shard["annotations"]) for shard in finished),
            media_group=self._group if with_media else None,
            rejected=count_reasons(rejects),
            source=dict(source),
            converter=dict(converter),
        )
        self._move_into_place(manifest)
        self._remove_staging()
        return manifest

    def _move_into_place(self, manifest: SplitManifest) -> None:
        splits = load_manifest(self.data_dir, self.name) if (self._folder / "manifest.json").exists() else {}
        for shard in manifest.shards:
            if (self._staging / shard.file).exists():  # else an earlier, interrupted finish moved it
                os.replace(self._staging / shard.file, self._folder / shard.file)
        fsync_folder(self._folder)
        save_manifest(self.data_dir, self.name, {**splits, self.split: manifest})
        files = {shard.file for shard in manifest.shards}
        old = self._folder.glob(f"{self.name}-{self.split}.array_record-*")
        _remove(path for path in old if path.name not in files)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
