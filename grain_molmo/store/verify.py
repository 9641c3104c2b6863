"""Whether a store is sound: every checksum, every record, every reference. Knows nothing of pixels: see `CheckMedia`.

Nothing is held of a record but 20 bytes for its id and 44 for each of its references, so a store of any size is
verified. A medium's own SHA-256 is computed only with `check_media`: its shard's checksum says as much, unless what was
written into the shard was wrong already.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from grain_molmo.errors import StoreError
from grain_molmo.store.files import canonical_name
from grain_molmo.store.manifest import (
    MANIFEST_FILE,
    Manifest,
    list_converted,
    load_manifest,
    read_manifest,
    rejects_file,
)
from grain_molmo.store.media import MEDIA_FOLDER, MediaGroup, build_index, group_files, list_groups
from grain_molmo.store.scan import FACTS, REF, CheckMedia, Scan, scan_annotations, scan_media
from grain_molmo.store.shards import ShardInfo, file_sha256
from grain_molmo.store.strays import Stray, folders_without_manifest, runs_of, strays_of_media, strays_of_set

_OLDER = "no checksum (converted by an older version)"
_TO_HAVE_ONE = "it is sound as far as can be said; convert again to have one"
_OF_MEDIA = "restore it, or delete it and convert again with --force the sets that refer to its media"
_MOST_PER_FILE = 20


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        file: path below the store's folder.
        record: its index in the file, or None.
        problem: what is wrong.
        advice: what to do.
    """

    file: str
    record: int | None
    problem: str
    advice: str

    def __str__(self) -> str:
        where = self.file if self.record is None else f"{self.file}, record {self.record}"
        return f"{where}: {self.problem}; {self.advice}"


@dataclass(frozen=True)
class Report:
    """What `verify_store` found.

    Attributes:
        damage: what makes the store unsound, by file.
        warnings: what does not.
        sets, files, records, media: how many were looked at.
        num_bytes: of those files.
    """

    damage: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    sets: int
    files: int
    records: int
    media: int
    num_bytes: int


def verify_store(
    data_dir: Path,
    names: Sequence[str] | None = None,
    *,
    quick: bool = False,
    check_media: CheckMedia | None = None,
    threads: int = 4,
    progress: Callable[[int], object] = lambda num_bytes: None,
) -> Report:
    """Checks a store, or some of its sets with the media groups that they refer to.

    Args:
        data_dir: the store's folder.
        names: of the sets; default: all, and all media, also those that no set refers to any more.
        quick: of shards, and then of those of all media groups, look at the size alone.
        check_media: look into the media, too.
        threads: shards that are read at a time.
        progress: told the bytes of each shard that is done; see `num_bytes_of_shards`.

    Raises:
        ConfigError: something is no name of a set.
        StoreError: there is no such folder, or a set was not converted into it.
    """
    if not data_dir.is_dir():
        raise StoreError(f"there is no folder {data_dir}")
    chosen = _chosen(data_dir, names)
    with ThreadPoolExecutor(threads, thread_name_prefix="verify") as pool:
        verifier = _Verifier(data_dir, pool, quick, check_media, progress)
        try:
            groups = verifier.open_groups()
            scans = {name: verifier.check_set(name) for name in chosen}
            if names is None:
                verifier.check_outside(groups)
            elif not quick:
                groups = [group for group in groups if _is_used(group, scans.values())]
            media = np.concatenate([np.zeros(0, REF), *(verifier.check_group(group) for group in groups)])
            media = media[np.argsort(media["key"], kind="stable")]
            for name, of_set in scans.items():
                verifier.check_refs(name, of_set, media)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return verifier.report()


def num_bytes_of_shards(data_dir: Path, names: Sequence[str] | None = None) -> int:
    """About how many bytes `verify_store` reads, as far as the manifests can be read."""
    total = 0
    groups: set[str | None] = set(list_groups(data_dir / MEDIA_FOLDER)) if names is None else set()
    for name in _chosen(data_dir, names):
        try:
            splits = load_manifest(data_dir, name).values()
        except StoreError:
            continue
        total += sum(shard.num_bytes for entry in splits for shard in entry.shards)
        groups |= {entry.media_group for entry in splits}
    for group in groups - {None}:
        try:
            total += sum(shard.num_bytes for shard in MediaGroup(data_dir / MEDIA_FOLDER, str(group)).shards)
        except (StoreError, OSError):
            continue
    return total


def _chosen(data_dir: Path, names: Sequence[str] | None) -> list[str]:
    if names is None:
        return list_converted(data_dir)
    for name in names:
        if not (data_dir / canonical_name(name) / MANIFEST_FILE).exists():
            load_manifest(data_dir, name)  # raises, and says how to convert it
    return list(dict.fromkeys(map(canonical_name, names)))


_SetScans = Sequence[tuple[Path, Scan]]


def _is_used(group: MediaGroup, sets: Iterable[_SetScans]) -> bool:
    """Whether one of the sets refers to media of the group, or the group does not say what it holds."""
    try:
        keys = _keys_of_index(group.index)
    except StoreError:
        return True
    return any(np.isin(scan.refs["key"], keys).any() for of_set in sets for _, scan in of_set)


def _keys_of_index(index: np.ndarray) -> np.ndarray:
    """[N] S16 from the index's two rows of hash bits."""
    return np.ascontiguousarray(index[:2].T).astype(">u8").view("S16").reshape(-1)


class _Verifier:
    """One verification: what it found, and how far it is."""

    def __init__(
        self,
        data_dir: Path,
        pool: ThreadPoolExecutor,
        quick: bool,
        check_media: CheckMedia | None,
        progress: Callable[[int], object],
    ):
        self.data_dir, self._media_folder = data_dir, data_dir / MEDIA_FOLDER
        self._pool, self._quick, self._check_media, self._progress = pool, quick, check_media, progress
        self._lock = threading.Lock()
        self._damage: list[Finding] = []
        self._warnings: list[Finding] = []
        self._sets = self._files = self._records = self._media = self._num_bytes = 0

    def report(self) -> Report:
        def by_file(findings: list[Finding]) -> tuple[Finding, ...]:
            return tuple(sorted(findings, key=lambda one: (one.file, -1 if one.record is None else one.record)))

        counts = (self._sets, self._files, self._records, self._media, self._num_bytes)
        return Report(by_file(self._damage), by_file(self._warnings), *counts)

    # ---- what is found ----

    def _blame(self, path: Path, problem: str, advice: str, record: int | None = None) -> None:
        with self._lock:
            self._damage.append(Finding(str(path.relative_to(self.data_dir)), record, problem, advice))

    def _warn(self, path: Path, problem: str, advice: str) -> None:
        with self._lock:
            self._warnings.append(Finding(str(path.relative_to(self.data_dir)), None, problem, advice))

    def _blame_records(self, path: Path, problems: Sequence[tuple[int, str]], advice: str) -> None:
        for record, problem in problems[:_MOST_PER_FILE]:
            self._blame(path, problem, advice, record)
        if len(problems) > _MOST_PER_FILE:
            self._blame(path, f"{len(problems) - _MOST_PER_FILE:,} more records are not sound", advice)

    def _warn_of(self, strays: Iterable[Stray]) -> None:
        for stray in strays:
            self._warn(stray.path, stray.problem, stray.advice)

    def _again(self, name: str) -> str:
        command = f"grain-molmo convert {name.replace('_', '-')} --force --data-dir {self.data_dir}"
        return f"restore it, or convert again: {command}"

    # ---- files ----

    def _count(self, num_bytes: int) -> None:
        with self._lock:
            self._files += 1
            self._num_bytes += num_bytes

    def _check_file(self, path: Path, sha256: str | None, advice: str) -> bool:
        """Whether a file is there and has its checksum, as far as one is known."""
        try:
            num_bytes, found = path.stat().st_size, file_sha256(path)
        except OSError as error:
            self._blame(path, f"cannot be read ({error.strerror})", advice)
            return False
        self._count(num_bytes)
        if sha256 is None:
            self._warn(path, _OLDER, _TO_HAVE_ONE)
        elif found != sha256:
            self._blame(path, "its checksum is not the one in the manifest", advice)
        return sha256 in (None, found)

    def _check_shard(self, path: Path, info: ShardInfo, scan: Callable[[Path, ShardInfo], Scan], advice: str) -> Scan:
        """Size, checksum and records of a shard; those are read even if the checksum is wrong, to name the bad ones."""
        try:
            num_bytes = path.stat().st_size
            if num_bytes != info.num_bytes:
                self._blame(path, f"has {num_bytes:,} bytes where the manifest says {info.num_bytes:,}", advice)
                return Scan.nothing()
            if self._quick:
                self._count(num_bytes)
                return Scan.nothing()
            self._check_file(path, info.sha256, advice)
            found = scan(path, info)
        except OSError as error:
            self._blame(path, f"cannot be read ({error.strerror})", advice)
            return Scan.nothing()
        except StoreError:
            self._blame(path, "its index does not read", advice)
            return Scan.nothing()
        finally:
            with self._lock:
                self._progress(info.num_bytes)
        self._blame_records(path, found.problems, advice)
        return found

    # ---- annotations ----

    def check_set(self, name: str) -> list[tuple[Path, Scan]]:
        """Checks an annotation folder; what each of its shards holds."""
        folder, advice = self.data_dir / name, self._again(name)
        try:
            manifest = read_manifest(folder)
        except (StoreError, OSError) as error:
            self._blame(folder / MANIFEST_FILE, str(error), advice)
            return []
        self._sets += 1
        self._count((folder / MANIFEST_FILE).stat().st_size)
        if not manifest.is_sealed:
            self._warn(folder / MANIFEST_FILE, _OLDER, _TO_HAVE_ONE)
        runs = runs_of(self.data_dir, name)
        self._warn_of(strays_of_set(folder, manifest.splits, runs))
        if not any(run.commit_file.exists() for run in runs):  # else these files are about to be put right
            self._check_side_files(folder, manifest, advice)
        for split, entry in manifest.splits.items():
            path = self._media_folder / group_files(entry.media_group or "")[1]
            if entry.media_group is not None and not path.exists():
                self._blame(path, f"is lost; {split} of {name} refers to its media", advice)
        shards = [(folder / info.file, info) for entry in manifest.splits.values() for info in entry.shards]
        check = partial(self._check_shard, scan=scan_annotations, advice=advice)
        scans = list(self._pool.map(lambda shard: (shard[0], check(*shard)), shards))
        self._records += sum(info.records for _, info in shards)
        self._check_ids(scans, advice)
        return scans

    def _check_side_files(self, folder: Path, manifest: Manifest, advice: str) -> None:
        for file in ("features.json", "dataset_info.json"):
            self._check_file(folder / file, manifest.files.get(file), advice)
        for split, entry in manifest.splits.items():
            self._check_file(folder / rejects_file(split), entry.rejects_sha256, advice)

    def _check_ids(self, scans: _SetScans, advice: str) -> None:
        """Ids are unique within a set."""
        ids = np.concatenate([np.zeros(0, "S16"), *(scan.ids for _, scan in scans)])
        order = np.argsort(ids, kind="stable")
        again = np.sort(order[1:][ids[order[1:]] == ids[order[:-1]]])
        starts = np.cumsum([0, *(len(scan.ids) for _, scan in scans)])
        for number in again[:_MOST_PER_FILE].tolist():
            shard = int(np.searchsorted(starts, number, side="right")) - 1
            path, scan = scans[shard]
            record = int(scan.id_records[number - starts[shard]])
            self._blame(path, "a record before it in the set has the same id", advice, record)

    # ---- media ----

    def open_groups(self) -> list[MediaGroup]:
        """The media groups whose manifests are sound."""
        groups = []
        for name in list_groups(self._media_folder):
            try:
                groups.append(MediaGroup(self._media_folder, name))
            except (StoreError, OSError) as error:
                advice = "restore it: without it nobody finds the group's media"
                self._blame(self._media_folder / group_files(name)[1], str(error), advice)
        return groups

    def check_group(self, group: MediaGroup) -> np.ndarray:
        """Checks a media group; REF of each medium that it holds."""
        folder = self._media_folder
        index_path, manifest_path = (folder / file for file in group_files(group.name))
        self._count(manifest_path.stat().st_size)
        if not group.is_sealed:
            self._warn(manifest_path, _OLDER, _TO_HAVE_ONE)
        is_index_sound = self._check_file(index_path, group.index_sha256, _OF_MEDIA)
        scan = partial(scan_media, check_media=self._check_media)
        check = partial(self._check_shard, scan=scan, advice=_OF_MEDIA)
        scans = list(self._pool.map(lambda info: check(folder / info.file, info), group.shards))
        self._media += len(group)
        if is_index_sound and all(one.is_whole for one in scans) and not _lists(group, scans):
            self._blame(index_path, "does not say where the group's media lie", _OF_MEDIA)
        return np.concatenate([np.zeros(0, REF), *(one.refs for one in scans)])

    def check_refs(self, name: str, scans: _SetScans, media: np.ndarray) -> None:
        """Whether each reference of a set leads to a medium of that kind and size.

        Args:
            name: of the set.
            scans: of its shards.
            media: [N] REF, what the store holds, sorted by key.
        """
        if self._quick:
            return
        for path, scan in scans:
            wrong = [
                (int(ref["record"]), f"refers to media {_hex(ref)}…, {_WRONG[bool(is_there)]}")
                for ref, is_there in _wrong_refs(scan.refs, media)
            ]
            self._blame_records(path, wrong, self._again(name))

    def check_outside(self, groups: Sequence[MediaGroup]) -> None:
        """Folders without a manifest, and what no manifest lists among the media."""
        for stray in folders_without_manifest(self.data_dir):
            self._blame(stray.path, stray.problem, stray.advice)
        runs = [run for folder in self.data_dir.iterdir() for run in runs_of(self.data_dir, folder.name)]
        self._warn_of(strays_of_media(self._media_folder, groups, runs))


_WRONG = {False: "which the store does not hold, or not whole", True: "which is of another kind or size"}


def _hex(ref: np.void) -> str:
    return bytes(ref["key"]).ljust(16, bytes(1)).hex()  # numpy drops the zeros at the end


def _wrong_refs(refs: np.ndarray, media: np.ndarray) -> list[tuple[np.void, bool]]:
    """(reference, whether its medium is there) of those that do not agree with the media, which are sorted by key.

    A moving picture (GIF) may be one set's picture and another's video: the store has it once, as the first said.
    """
    places = np.searchsorted(media["key"], refs["key"])
    is_there = places < len(media)
    is_there[is_there] = media["key"][places[is_there]] == refs["key"][is_there]
    agrees = is_there.copy()
    stored, said = media[places[is_there]], refs[is_there]
    agrees[is_there] = np.all([said[fact] == stored[fact] for fact in FACTS], axis=0)
    is_picture = [np.isin(some["kind"], (b"image", b"video")) for some in (said, stored)]
    is_shown_otherwise = np.all(is_picture, axis=0) & (said["kind"] != stored["kind"])
    agrees[is_there] |= is_shown_otherwise & (said["num_bytes"] == stored["num_bytes"])
    return list(zip(refs[~agrees], is_there[~agrees], strict=True))


def _lists(group: MediaGroup, scans: Sequence[Scan]) -> bool:
    """Whether the group's index is the one of these media."""
    keys = [np.frombuffer(scan.refs["key"].tobytes(), ">u8").reshape(-1, 2).astype(np.uint64) for scan in scans]
    try:
        return np.array_equal(group.index, build_index(keys))
    except StoreError:
        return False
