"""Where the rows of a set come from: the hub by name, or a local folder or file that holds the same rows."""

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.rows import Rows, arrow_file_rows, json_rows, parquet_rows, table_rows
from grain_molmo.errors import ConfigError

log = logging.getLogger(__name__)

_READERS = {".parquet": "parquet", ".arrow": "arrow", ".jsonl": "json", ".ndjson": "json", ".json": "json"}
# Files that the datasets library writes beside the rows.
_NOT_ROWS = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
_READ_BYTES = 64 << 20  # of a split are read to tell it from another of the same size


_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class SourceSplit:
    """One split of one config of a source.

    Attributes:
        config: the hub's config name, or None for a set without configs.
        split: the source's own name of the split.
        rows: its rows.
        origin: where they came from, for the manifest; JSON-able.
    """

    config: str | None
    split: str
    rows: Rows
    origin: dict[str, Any]


def open_source(
    source: str,
    configs: Sequence[str | None],
    splits: Sequence[str],
    *,
    revision: str | None = None,
    in_order: bool = True,
) -> list[SourceSplit]:
    """The splits that a source has, of those asked for.

    Args:
        source: a path, or a dataset of the hub as `owner/name`.
        configs: configs to open; `(None,)` for a set without.
        splits: names of splits to look for, in order; on the hub all must exist, locally at least one.
        revision: branch, tag or commit of the hub's repository.
        in_order: see `rows.parquet_rows`.

    Raises:
        ConfigError: nothing of the kind there; the message says what was looked for.
    """
    path = Path(source).expanduser()
    if path.exists():
        if revision is not None:
            raise ConfigError(f"--revision is for the hub; {path} is local")
        return _open_local(path, configs, splits, in_order)
    if _HUB_NAME.fullmatch(source):
        return _open_hub(source, configs, splits, revision)
    raise _nowhere(source)


def require_source(source: str) -> None:
    """Raises ConfigError for what can be neither here nor on the hub, without asking the hub."""
    if not Path(source).expanduser().exists() and not _HUB_NAME.fullmatch(source):
        raise _nowhere(source)


def _nowhere(source: str) -> ConfigError:
    return ConfigError(f"{source!r} is neither an existing file or folder nor a dataset of the hub (owner/name)")


def _open_hub(
    path: str, configs: Sequence[str | None], splits: Sequence[str], revision: str | None
) -> list[SourceSplit]:
    # Imported here: loading takes seconds that local sources need not spend.
    from datasets import load_dataset

    commit = resolve_revision(path, revision)
    found = []
    for config in configs:
        for split in splits:
            try:
                dataset = load_dataset(path, config, split=split, revision=commit)
            except Exception as error:  # the library lets its HTTP client's errors through, and that client changes
                wanted = f"{path} config {config or 'default'} split {split} at {commit or 'its newest revision'}"
                raise ConfigError(f"the hub does not give {wanted}: {error}") from error
            origin = {"kind": "hub", "path": path, "config": config, "split": split, "revision": commit}
            # The arrow format hands out the memory-mapped table itself: pictures stay bytes.
            rows = table_rows(dataset.with_format("arrow")[:])
            found.append(SourceSplit(config, split, rows, {**origin, "rows": len(rows)}))
    return found


def resolve_revision(path: str, revision: str | None) -> str | None:
    """The commit that a branch or tag stands for now; the given revision if the hub is out of reach (offline mode)."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return HfApi().dataset_info(path, revision=revision).sha
    except HfHubHTTPError as error:
        raise ConfigError(f"the hub does not know {path} at {revision or 'its newest revision'}: {error}") from error
    except Exception as error:  # offline mode, or whatever the hub library's HTTP client raises for no connection
        log.warning("%s: the hub does not answer (%s); using what this machine has cached", path, error)
        return revision


def _open_local(path: Path, configs: Sequence[str | None], splits: Sequence[str], in_order: bool) -> list[SourceSplit]:
    found = []
    for config in configs:
        for split in splits:
            files = _split_files(path, config, split)
            if files:
                rows = _read_files(files, in_order)
                names = [str(file.relative_to(path)) if file != path else file.name for file in files]
                origin = {"kind": "local", "path": str(path.resolve()), "files": names, "config": config}
                origin = {**origin, "split": split, "rows": len(rows), **state_of_files(files)}
                found.append(SourceSplit(config, split, rows, origin))
    if not found:
        raise ConfigError(
            f"{path} holds no rows of split {' or '.join(splits)}; looked for files such as {splits[0]}.parquet, "
            f"{splits[0]}-00000-of-00001.parquet, data/{splits[0]}-*.parquet (or .arrow, .jsonl, .json) and for "
            f"folders of datasets' save_to_disk"
            + (f", each under {', '.join(str(config) for config in configs)}" if configs[0] else "")
        )
    return found


def state_of_files(files: Sequence[Path]) -> dict[str, Any]:
    """What changes with the files behind a split, so that no conversion goes on with other rows than it began with.

    Their sizes, and a hash of their bytes; of those that take long to read, of the times at which they were written.
    """
    stats = [file.stat() for file in files]
    digest = hashlib.sha256()
    if sum(stat.st_size for stat in stats) <= _READ_BYTES:
        for file in files:
            digest.update(file.read_bytes())
    else:
        digest.update(repr([stat.st_mtime_ns for stat in stats]).encode())
    return {"num_bytes": [stat.st_size for stat in stats], "fingerprint": digest.hexdigest()[:32]}


def _split_files(root: Path, config: str | None, split: str) -> list[Path]:
    """The files that hold a split, in order; empty if there are none."""
    if root.is_file():
        is_config = config is None or config in (root.parent.name, *re.split(r"[-_.]", root.name))
        return [root] if is_config and split == _split_of_file(root) and _reader(root) else []
    top = root if config is None or root.name == config else root / config
    if (top / "state.json").exists():  # save_to_disk of a single Dataset
        return sorted(top.glob("data-*.arrow")) if split == "train" else []
    for folder in (top / split, top, top / "data"):
        patterns = ("*",) if folder.name == split else (f"{split}.*", f"{split}-*.*", f"*-{split}.*", f"*-{split}-*.*")
        files = {file for pattern in patterns for file in folder.glob(pattern) if _reader(file)}
        if files:
            return _one_kind(sorted(files))
    return []


def _reader(path: Path) -> str | None:
    return _READERS.get(path.suffix) if path.is_file() and path.name not in _NOT_ROWS else None


def _one_kind(files: list[Path]) -> list[Path]:
    kinds = sorted({str(_reader(file)) for file in files})
    if len(kinds) > 1:
        raise ConfigError(f"{files[0].parent} holds the same split as {' and as '.join(kinds)}; leave one of them")
    return files


def _split_of_file(path: Path) -> str:
    """The split that a single file holds, by its name; `train` if the name does not say."""
    match = re.search(r"(?:^|[-_.])(train|validation|val|test)(?:[-_.]|$)", path.name)
    return match[1] if match else "train"


def _read_files(files: list[Path], in_order: bool) -> Rows:
    kind, folder = _reader(files[0]), files[0].parent
    if kind == "parquet":
        return parquet_rows(files, folder, in_order=in_order)
    return arrow_file_rows(files, folder) if kind == "arrow" else json_rows(files, folder)
