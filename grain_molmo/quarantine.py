"""Files that list faulty examples, a line of JSON each: written as they are found, read to leave them out of a plan."""

import glob
import json
import operator
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from grain_molmo.datasets.base import Dataset, PathLike, content_fingerprint
from grain_molmo.errors import ConfigError, ExampleError, MediaError
from grain_molmo.rng import stable_hash
from grain_molmo.store.files import writing

_BLOCK = 1 << 16


@dataclass(frozen=True)
class Fault:
    """An example that could not be used as it should be.

    Attributes:
        dataset, index, epoch: which example, on which visit.
        id: the example's own; "" where its annotation does not read.
        step: of the global batch that it was left out of, or that it is blank in.
        stage: "encode" or "render".
        reason: a short stable word.
        error: what exactly was wrong.
    """

    dataset: str
    index: int
    epoch: int
    id: str
    step: int
    stage: str
    reason: str
    error: str

    def __str__(self) -> str:
        # The encoder's messages name the example themselves.
        where = "" if self.stage == "encode" else f"{self.dataset} example {self.index} (id {self.id}): "
        return f"{where}{self.error}"

    def to_error(self) -> ExampleError | MediaError:
        """What the example alone would have raised."""
        if self.stage == "encode":
            return ExampleError(self.reason, str(self), self.id)
        return MediaError(self.reason, str(self))


def part_of(path: PathLike, process_index: int, process_count: int) -> Path:
    """The file of one of several processes.

    >>> part_of("faults.jsonl", 3, 8).name
    'faults-00003-of-00008.jsonl'
    """
    path = Path(path).expanduser()
    if process_count == 1:
        return path
    return path.with_name(f"{path.stem}-{process_index:05d}-of-{process_count:05d}{path.suffix}")


class QuarantineFile:
    """A process's file: an example is added once, also over several runs.

    Raises:
        StoreError: the file cannot be written.
        ConfigError: a line of what is there does not read.
    """

    def __init__(self, path: PathLike, datasets: Mapping[str, Dataset], process_index: int = 0, process_count: int = 1):
        self._path = part_of(path, process_index, process_count)
        self._fingerprints = {name: content_fingerprint(dataset) for name, dataset in datasets.items()}
        with writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch()
            _end_last_line(self._path)
        self._known: dict[str, set[int]] = {name: set() for name in datasets}
        for _, entry in _entries(self._path):
            if entry.fingerprint == self._fingerprints.get(entry.dataset):
                self._known[entry.dataset].add(entry.index)

    def add(self, faults: Iterable[Fault]) -> None:
        """Appends those that are not there yet. Raises StoreError if they cannot be written."""
        new = {(fault.dataset, fault.index): fault for fault in faults if fault.index not in self._known[fault.dataset]}
        if not new:
            return
        lines = (
            json.dumps({**asdict(fault), "fingerprint": self._fingerprints[fault.dataset]}, ensure_ascii=False) + "\n"
            for fault in new.values()
        )
        with writing(self._path):
            _append(self._path, "".join(lines).encode("utf-8", "backslashreplace"))
        for name, index in new:
            self._known[name].add(index)


@dataclass(frozen=True)
class Quarantine:
    """Examples to leave out of a plan.

    Attributes:
        examples: their indices by dataset.
    """

    examples: Mapping[str, frozenset[int]]

    @property
    def digest(self) -> str:
        """16 hex digits that stand for the examples; "" if there are none."""
        by_name = [(name, sorted(indices)) for name, indices in sorted(self.examples.items()) if indices]
        return f"{stable_hash(json.dumps(by_name)):016x}" if by_name else ""


def read_quarantine(paths: PathLike | Iterable[PathLike], datasets: Mapping[str, Dataset] | None = None) -> Quarantine:
    """The examples that quarantine files list.

    Args:
        paths: files, or patterns ("faults*.jsonl"). The name that a `FaultPolicy` was given stands for the files of
            all processes. A last line that was torn is passed over.
        datasets: those to plan; what is said of others is passed over.

    Raises:
        ConfigError: there is no such file, a line does not read, or it speaks of other data than the datasets hold.
    """
    examples: dict[str, set[int]] = {}
    known = None if datasets is None else {name: content_fingerprint(one) for name, one in datasets.items()}
    for path in _files([paths] if isinstance(paths, str | os.PathLike) else paths):
        for number, entry in _entries(path):
            if known is not None:
                if entry.dataset not in known:
                    continue
                if entry.fingerprint != known[entry.dataset]:
                    raise ConfigError(
                        f"{path} line {number}: example {entry.index} of {entry.dataset} as it was then; the dataset "
                        f"holds other data now, in which it may be another: delete the lines of {entry.dataset}, or "
                        "name another file"
                    )
            examples.setdefault(entry.dataset, set()).add(entry.index)
    return Quarantine({name: frozenset(indices) for name, indices in sorted(examples.items())})


@dataclass(frozen=True)
class _Entry:
    """Which example a line speaks of; the rest is for people."""

    dataset: str
    index: int
    fingerprint: str


def _entries(path: Path) -> Iterator[tuple[int, _Entry]]:
    """The lines of a file that has ended, by number from 1. Raises ConfigError for one that does not read."""
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            try:
                fields = json.loads(line)
                yield number, _Entry(str(fields["dataset"]), operator.index(fields["index"]), fields["fingerprint"])
            except (ValueError, KeyError, TypeError) as error:
                if not line.endswith("\n"):  # torn: a process was killed as it wrote
                    return
                raise ConfigError(
                    f"{path} line {number} is no line of a quarantine file ({error!r}); delete it, or name another file"
                ) from error


def _end_last_line(path: Path) -> None:
    """Takes away a line that was torn, so that the next one begins on its own."""
    with open(path, "rb") as file:
        whole = end = file.seek(0, os.SEEK_END)
        newline = -1
        while whole and newline < 0:
            at = max(0, whole - _BLOCK)
            file.seek(at)
            newline = file.read(whole - at).rfind(b"\n")
            whole = at + newline + 1
    if whole < end:
        os.truncate(path, whole)


def _append(path: Path, data: bytes) -> None:
    """All of the data or, where the disk is full, none: a line torn here would have the next one behind it."""
    with open(path, "ab", buffering=0) as file:
        end = file.tell()
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(end)
            raise


def _files(paths: Iterable[PathLike]) -> list[Path]:
    """The files that paths and patterns stand for, each once. Raises ConfigError for one that stands for none."""
    found: dict[Path, None] = {}
    for path in paths:
        path = Path(path).expanduser()
        if not path.name:
            raise ConfigError(f"quarantine: {path} is no file")
        stem, digits = glob.escape(str(path.with_suffix(""))), "[0-9]" * 5
        parts = glob.glob(f"{stem}-{digits}-of-{digits}{glob.escape(path.suffix)}")
        matching = [path] if path.is_file() else [each for each in glob.glob(str(path)) if os.path.isfile(each)]
        if not parts and not matching:
            raise ConfigError(f"quarantine: there is no file {path}")
        found |= dict.fromkeys(Path(each) for each in sorted([*parts, *map(str, matching)]))
    return list(found)
