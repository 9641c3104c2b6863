"""The first rows of a source and how many there are in all, without downloading the rest."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from converters.rows import table_rows
from converters.sources import SourceSplit, resolve_revision
from grain_molmo.errors import ConfigError

_FOOTERS_AT_ONCE = 16


@dataclass(frozen=True)
class Peek:
    """A source split of which only the first rows are there.

    Attributes:
        source: its first rows; of local rows all.
        num_rows: of the whole split.
        download_bytes: of the files to download for them; 0 of local rows.
    """

    source: SourceSplit
    num_rows: int
    download_bytes: int


def peek_local(sources: Sequence[SourceSplit]) -> list[Peek]:
    """Splits whose rows are all there."""
    return [Peek(source, len(source.rows), 0) for source in sources]


def peek_hub(
    path: str, configs: Sequence[str | None], splits: Sequence[str], *, revision: str | None, rows: int
) -> list[Peek]:
    """The first rows of splits of the hub: reads the ends of their Parquet files and the first part of one.

    Args:
        path: `owner/name`.
        configs: of the dataset; `(None,)` for one without.
        splits: the hub's names of the splits.
        revision: branch, tag or commit.
        rows: so many at most.

    Raises:
        ConfigError: the hub does not give it, or its files are not Parquet.
    """
    from datasets import load_dataset_builder
    from huggingface_hub import HfFileSystem

    commit = resolve_revision(path, revision)
    hub = HfFileSystem()
    found = []
    for config in configs:
        where = f"{path} config {config or 'default'} at {commit or 'its newest revision'}"
        try:
            files_of = load_dataset_builder(path, config, revision=commit).config.data_files or {}
            for split in splits:
                files = [str(file) for file in files_of.get(split, ())]
                if not files:
                    raise ConfigError(f"the hub has no split {split} of {where}; it has {', '.join(files_of)}")
                peek = _peek_parquet(hub, files, rows)
                origin = {"kind": "hub", "path": path, "config": config, "split": split, "revision": commit}
                found.append(replace(peek, source=replace(peek.source, config=config, split=split, origin=origin)))
        except ConfigError:
            raise
        except Exception as error:  # the libraries let their HTTP client's errors through
            raise ConfigError(f"the hub does not show {where}: {error}") from error
    return found


def _peek_parquet(filesystem: Any, files: Sequence[str], rows: int) -> Peek:
    def footer(file: str) -> tuple[int, int]:
        with filesystem.open(file) as opened:
            return pq.ParquetFile(opened).metadata.num_rows, opened.size

    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        num_rows, num_bytes = zip(*pool.map(footer, files), strict=True)
    with filesystem.open(files[0]) as opened:
        file = pq.ParquetFile(opened)
        first = pa.Table.from_batches(list(_first(file, rows)), file.schema_arrow)
    return Peek(SourceSplit(None, "", table_rows(first), {}), sum(num_rows), sum(num_bytes))


def _first(file: pq.ParquetFile, rows: int) -> Iterator[pa.RecordBatch]:
    """Record batches with the file's first rows, so many at most."""
    left = rows
    for batch in file.iter_batches(batch_size=rows):
        yield batch.slice(0, left)
        left -= len(batch)
        if left <= 0:
            return
