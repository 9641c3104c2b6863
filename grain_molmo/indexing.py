"""Making a length index: every example of some epochs is encoded once, by several processes if wished.

The files are a function of what they are made of, whoever makes them and however often they are stopped: finished parts
wait in `epoch-00000.partial/`, and the epoch's file appears when it is complete.
"""

import contextlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from grain_molmo.encode import Encoder
from grain_molmo.errors import ConfigError, ExampleError, StoreError
from grain_molmo.lengths import UNUSABLE, LengthFiles, count_unusable, pack_lengths
from grain_molmo.packing.draw import Draw
from grain_molmo.processes import helper_processes, in_any_order
from grain_molmo.store import canonical_name, resolve_data_dir
from grain_molmo.store.files import replacing, writing
from grain_molmo.store.lock import write_lock
from grain_molmo.store.sealed import write_sealed

logger = logging.getLogger(__name__)

_PART = 2048  # examples: some seconds of work


@dataclass(frozen=True)
class IndexedEpoch:
    """One epoch of a dataset, done.

    Attributes:
        dataset, epoch: which.
        examples: in it.
        unusable: of them cannot be encoded, so a run leaves them out.
        num_bytes: of the file.
        seconds: that it took; None if the file was there.
    """

    dataset: str
    epoch: int
    examples: int
    unusable: int
    num_bytes: int
    seconds: float | None


class _Part(NamedTuple):
    """Examples to encode, one after the other."""

    dataset: str
    epoch: int
    start: int
    stop: int


class _Encoded(NamedTuple):
    """A part's entries, and one detail for each reason why examples cannot be encoded."""

    part: _Part
    entries: bytes
    problems: dict[str, str]


def build_index(
    data_dir: str | os.PathLike[str] | None,
    encoder: Encoder,
    names: Sequence[str] | None = None,
    *,
    epochs: Iterable[int] = (0,),
    n_procs: int = 1,
    wait: bool = False,
    progress: Callable[[int], object] = lambda examples: None,
) -> Iterator[IndexedEpoch]:
    """Makes what is missing of an index, an epoch after the other, and says of each when it is there.

    Args:
        data_dir: the store's folder; None: $GRAIN_MOLMO_DATA.
        encoder: of the run that the index is for.
        names: datasets of the encoder; default all that have a `fingerprint`.
        epochs: which; a run reads further ones once it has seen a dataset so many times.
        n_procs: processes that encode.
        wait: until another process is done with a dataset, instead of raising.
        progress: told how many more examples are done, those of earlier, stopped runs included.

    Raises:
        ConfigError: a name that the encoder does not have, or a dataset without a fingerprint.
        StoreBusyError: another process indexes the dataset.
        StoreError: annotations cannot be read, the index cannot be written, or what is there of it is damaged.
    """
    folder = resolve_data_dir(data_dir)
    chosen = _files_by_name(folder, encoder, names)
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(helper_processes(n_procs, _begin, encoder)) if n_procs > 1 else None
        run = _Runner(encoder, pool, n_procs)
        for epoch in epochs:
            for name, files in chosen.items():
                lock = f"lengths-{name}-{files.folder.name}"
                with write_lock(folder, lock, files.folder, wait=wait):
                    yield _index_epoch(name, epoch, files, run, progress)


def _files_by_name(folder: Path, encoder: Encoder, names: Sequence[str] | None) -> dict[str, LengthFiles]:
    asked_for = list(encoder.datasets) if names is None else [canonical_name(name) for name in names]
    if unknown := [name for name in asked_for if name not in encoder.datasets]:
        raise ConfigError(f"{unknown[0]!r} is no dataset of this stage; it has {', '.join(encoder.datasets)}")
    found = {name: LengthFiles.of(folder, encoder, name) for name in asked_for}
    if names is not None and (unsure := [name for name, files in found.items() if files is None]):
        raise ConfigError(
            f"{unsure[0]!r} has no `fingerprint` that stands for its content, so nobody could tell when its lengths "
            "are out of date; give the dataset one"
        )
    return {name: files for name, files in found.items() if files is not None}


def _index_epoch(
    name: str, epoch: int, files: LengthFiles, run: "_Runner", progress: Callable[[int], object]
) -> IndexedEpoch:
    started = time.perf_counter()
    path, num_examples = files.path(epoch), files.num_examples
    is_there = path.exists()
    if is_there:
        progress(num_examples)
    else:
        if not (key_file := files.folder / "key.json").exists():
            write_sealed(key_file, json.loads(files.key_text))
        folder, parts = path.with_suffix(".partial"), list(_parts_of(name, epoch, num_examples))
        _make_parts(folder, files, parts, run, progress)
        write_epoch(files, epoch, _entries_of_parts(folder, files, parts))
        shutil.rmtree(folder, ignore_errors=True)
    unusable = count_unusable(files.read(epoch), num_examples)
    seconds = None if is_there else time.perf_counter() - started
    return IndexedEpoch(name, epoch, num_examples, unusable, path.stat().st_size, seconds)


def _parts_of(name: str, epoch: int, num_examples: int) -> Iterator[_Part]:
    for start in range(0, num_examples, _PART):
        yield _Part(name, epoch, start, min(start + _PART, num_examples))


def _make_parts(
    folder: Path, files: LengthFiles, parts: Iterable[_Part], run: "_Runner", progress: Callable[[int], object]
) -> None:
    """Encodes the parts that are not in the folder yet, and writes each with its checksum."""
    missing = []
    for part in parts:
        if _read_part(folder, files, part) is None:
            missing.append(part)
        else:
            progress(part.stop - part.start)
    seen: set[str] = set()
    for part, entries, problems in run(missing):
        path = _part_path(folder, part)
        with replacing(path) as temporary, writing(path):
            temporary.write_bytes(entries + _part_digest(files, part, entries))
        progress(part.stop - part.start)
        for reason in problems.keys() - seen:
            logger.warning("cannot be encoded (further cases of %r are only counted): %s", reason, problems[reason])
        seen |= problems.keys()


def _part_path(folder: Path, part: _Part) -> Path:
    return folder / f"{part.start:010d}"


def _part_digest(files: LengthFiles, part: _Part, entries: bytes) -> bytes:
    digest = files.digest(part.epoch, part.start)
    digest.update(entries)
    return digest.digest()


def _read_part(folder: Path, files: LengthFiles, part: _Part) -> bytes | None:
    """A part's entries; None if it is not there or not whole."""
    try:
        data = _part_path(folder, part).read_bytes()
    except OSError:
        return None
    entries = data[: len(pack_lengths(UNUSABLE)) * (part.stop - part.start)]
    return entries if data[len(entries) :] == _part_digest(files, part, entries) else None


def write_epoch(files: LengthFiles, epoch: int, entries: Iterable[bytes]) -> None:
    """Writes an epoch's file from its entries, in pieces of any size. Raises StoreError if it cannot be written."""
    path, digest = files.path(epoch), files.digest(epoch)
    with replacing(path) as temporary, writing(path), open(temporary, "wb") as out:
        for piece in entries:
            digest.update(piece)
            out.write(piece)
        out.write(digest.digest())


def _entries_of_parts(folder: Path, files: LengthFiles, parts: Iterable[_Part]) -> Iterator[bytes]:
    for part in parts:
        entries = _read_part(folder, files, part)
        if entries is None:
            raise StoreError(f"{_part_path(folder, part)} does not read back; give the same command again")
        yield entries


@dataclass(frozen=True)
class _Runner:
    """Encodes parts, here or in processes; they come back in any order."""

    encoder: Encoder
    pool: ProcessPoolExecutor | None
    n_procs: int

    def __call__(self, parts: Iterable[_Part]) -> Iterator[_Encoded]:
        if self.pool is None:
            yield from (_encode_part(self.encoder, part) for part in parts)
            return
        try:
            yield from in_any_order(self.pool, self.n_procs, _encode_in_process, parts)
        except BrokenProcessPool as error:
            raise StoreError(
                "a process that encodes was ended from outside, perhaps for want of memory; the same command goes on "
                "where it was, fewer --n-procs take less"
            ) from error


def _encode_part(encoder: Encoder, part: _Part) -> _Encoded:
    problems: dict[str, str] = {}
    entries = bytearray()
    for index in range(part.start, part.stop):
        try:
            lengths = encoder(Draw(part.dataset, part.epoch, index)).lengths
        except ExampleError as error:
            lengths = UNUSABLE
            problems.setdefault(error.reason, error.detail)
        entries += pack_lengths(lengths)
    return _Encoded(part, bytes(entries), problems)


_encoder: Encoder | None = None  # of this process, if it is one of several


def _begin(encoder: Encoder) -> None:
    global _encoder
    _encoder = encoder


def _encode_in_process(part: _Part) -> _Encoded:
    assert _encoder is not None
    return _encode_part(_encoder, part)
