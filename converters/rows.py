"""Rows of a source as they lie on disk: columns, a length, and one row at a time, pictures never decoded.

Arrow files are memory-mapped; Parquet is read by row group, or whole (without copies on disk) when rows must be visited
out of order; JSON is held as text and parsed row by row. Nothing is converted into a cache first.
"""

import bisect
import functools
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from grain_molmo.errors import ConfigError, RowError

Row = dict[str, Any]
T = TypeVar("T")

# Sources are read in order, so one row group is enough; the second keeps a group that straddles two shards.
_ROW_GROUPS_IN_MEMORY = 2
# Turned into Python values at a time, at most: rows of text by number, rows with pictures by size.
_BLOCK_ROWS, _BLOCK_BYTES = 1024, 8 << 20
_SCAN_ROWS = 16384

# Half of an escaped pair of surrogates is valid JSON but no text; whether there may be one is seen at a glance.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Rows(Protocol):
    """What the converters need of a source.

    Attributes:
        columns: names of the columns.
        schema: types of the columns, or None where only the values tell (JSON).
        folder: where relative picture paths start, or None if rows may not refer to files (the hub).
    """

    columns: tuple[str, ...]
    schema: pa.Schema | None
    folder: Path | None

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def row(self, index: int) -> Row:
        """One row by column name. Raises RowError if it cannot be parsed."""
        ...

    def select(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """Whole columns, for grouping; None where a row has no such value or cannot be parsed."""
        ...


@runtime_checkable
class BulkRows(Protocol):
    """Rows that are read faster many at a time."""

    def read(self, indices: Sequence[int]) -> Iterator[Row | RowError]:
        """The rows with these indices, in that order, or what is wrong with them."""
        ...


def read_rows(rows: Rows, indices: Sequence[int]) -> Iterator[Row | RowError]:
    """The rows with these indices, in that order, or what is wrong with them."""
    if isinstance(rows, BulkRows):
        yield from rows.read(indices)
        return
    for index in indices:
        try:
            yield rows.row(index)
        except RowError as error:
            yield error


def scan_rows(rows: Rows, names: Sequence[str], limit: int | None = None) -> Iterator[tuple[Any, ...]]:
    """Values of some columns of the first rows, one row after the other; None where there are none."""
    if isinstance(rows, ArrowRows):
        yield from rows.scan(names, limit)
        return
    columns = rows.select(names)
    yield from zip(*(columns[name][:limit] for name in names), strict=True)


class ArrowRows:
    """Rows of Arrow data in chunks (record batches or Parquet row groups)."""

    def __init__(
        self,
        schema: pa.Schema,
        chunk_rows: Iterable[int],
        read_chunk: Callable[[int], Any],
        read_columns: Callable[[list[str]], pa.Table],
        folder: Path | None = None,
    ):
        self.schema: pa.Schema | None = schema
        self.columns = tuple(schema.names)
        self.folder = folder
        self._starts = list(itertools.accumulate(chunk_rows, initial=0))
        self._read_chunk = functools.lru_cache(maxsize=_ROW_GROUPS_IN_MEMORY)(read_chunk)
        self._read_columns = read_columns

    def __len__(self) -> int:
        return self._starts[-1]

    def row(self, index: int) -> Row:
        """One row as Python values. Raises RowError: `bad_value`."""
        chunk = bisect.bisect_right(self._starts, index) - 1
        (row,) = _python_rows(self._read_chunk(chunk).slice(index - self._starts[chunk], 1))
        if isinstance(row, RowError):
            raise row
        return row

    def read(self, indices: Sequence[int]) -> Iterator[Row | RowError]:
        """Rows as Python values, many at a time: a tenth of the time that they take one by one."""
        wanted = np.asarray(indices, np.int64)
        at = 0
        while at < len(wanted):
            block = wanted[at : at + self._block_rows(int(wanted[at]))]
            yield from self._read_block(block)
            at += len(block)

    def _block_rows(self, index: int) -> int:
        """How many rows of the size that they have there to hold as Python values."""
        chunk = self._read_chunk(bisect.bisect_right(self._starts, index) - 1)
        return max(1, min(_BLOCK_ROWS, _BLOCK_BYTES * len(chunk) // max(1, chunk.nbytes)))

    def _read_block(self, wanted: np.ndarray) -> list[Row | RowError]:
        chunks = np.searchsorted(self._starts, wanted, side="right") - 1
        rows: list[Row | RowError] = [{}] * len(wanted)
        for chunk in np.unique(chunks).tolist():
            places = np.flatnonzero(chunks == chunk)
            offsets = wanted[places] - self._starts[chunk]
            is_run = np.all(np.diff(offsets) == 1)
            data = self._read_chunk(chunk)
            # A slice copies nothing: most sets are read in order.
            some = data.slice(int(offsets[0]), len(offsets)) if is_run else data.take(pa.array(offsets))
            for place, row in zip(places.tolist(), _python_rows(some), strict=True):
                rows[place] = row
        return rows

    def scan(self, names: Sequence[str], limit: int | None) -> Iterator[tuple[Any, ...]]:
        """Values of the columns, row by row; None where there is no such column."""
        present = [name for name in dict.fromkeys(names) if name in self.columns]
        table = self._read_columns(present).slice(0, limit) if present else None
        if table is None:
            yield from itertools.repeat((None,) * len(names), len(self) if limit is None else min(limit, len(self)))
            return
        for batch in table.to_batches(max_chunksize=_SCAN_ROWS):
            columns = {name: _python_values(batch[name]) for name in present}
            yield from zip(*(columns.get(name) or [None] * len(batch) for name in names), strict=True)

    def select(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """Whole columns as Python values; None where there is none, and all None for a column that is missing."""
        present = [name for name in names if name in self.columns]
        table = self._read_columns(present)
        return {name: _python_values(table[name]) if name in present else [None] * len(self) for name in names}


# What Arrow raises for text that is no UTF-8, a date beyond Python's, a time zone that nobody knows.
_NO_PYTHON_VALUE = (ValueError, OverflowError, KeyError, pa.ArrowException)


def _python_rows(data: Any) -> list[Row | RowError]:
    """Rows of a table or record batch as Python values, or what is wrong with them."""
    try:
        return data.to_pylist()
    except _NO_PYTHON_VALUE as error:
        if len(data) > 1:
            return [row for index in range(len(data)) for row in _python_rows(data.slice(index, 1))]
        bad = next((name for name in data.schema.names if not _is_readable(data.select([name]))), "a column")
        return [RowError("bad_value", f"{bad} has a value that does not read ({error})")]


def _is_readable(data: Any) -> bool:
    try:
        data.to_pylist()
    except _NO_PYTHON_VALUE:
        return False
    return True


def _python_values(column: Any) -> list[Any]:
    """A column as Python values; None where a value cannot be one."""
    try:
        return column.to_pylist()
    except _NO_PYTHON_VALUE:
        if len(column) == 1:
            return [None]
        return [value for index in range(len(column)) for value in _python_values(column.slice(index, 1))]


def table_rows(table: pa.Table, folder: Path | None = None) -> ArrowRows:
    """Rows of a table in memory or memory-mapped; nothing is copied."""
    batches = table.to_batches()
    return ArrowRows(table.schema, [len(batch) for batch in batches], batches.__getitem__, table.select, folder)


def arrow_file_rows(paths: Sequence[Path], folder: Path | None = None) -> ArrowRows:
    """Rows of `.arrow` files, memory-mapped; both of Arrow's file layouts are known. Raises ConfigError if damaged."""
    return table_rows(_concatenate([(path, _open_arrow(path)) for path in paths]), folder)


def _open_arrow(path: Path) -> pa.Table:
    try:
        with open(path, "rb") as file:
            is_random_access = file.read(6) == b"ARROW1"
        mapped = pa.memory_map(str(path))
        return (pa.ipc.open_file(mapped) if is_random_access else pa.ipc.open_stream(mapped)).read_all()
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path} does not read as Arrow data ({error})") from error


def _concatenate(tables: Sequence[tuple[Path, pa.Table]]) -> pa.Table:
    """One table of all; ConfigError naming the first file whose columns differ."""
    (first_path, first), *others = tables
    for path, table in others:
        _require_same_schema(first_path, first.schema, path, table.schema)
    return pa.concat_tables([table for _, table in tables])


def _require_same_schema(first: Path, expected: pa.Schema, path: Path, schema: pa.Schema) -> None:
    if not schema.equals(expected):
        raise ConfigError(
            f"{path} and {first} are parts of one set but differ in columns or types:\n{schema}\n--\n{expected}"
        )


def parquet_rows(paths: Sequence[Path], folder: Path | None = None, *, in_order: bool = True) -> ArrowRows:
    """Rows of Parquet files.

    Args:
        paths: parts of one set, in order.
        folder: where relative picture paths start.
        in_order: the rows will be visited roughly in order, so row groups are read as they come; otherwise everything
            is read at once (text and points of the largest set, pixmo-points: about 0.7 GB).

    Raises:
        ConfigError: a file is damaged, or the files differ in columns.
    """
    files = [(path, _open_parquet(path)) for path in paths]
    first_path, first = files[0]
    for path, file in files[1:]:
        _require_same_schema(first_path, first.schema_arrow, path, file.schema_arrow)

    def read_columns(names: list[str]) -> pa.Table:
        return pa.concat_tables([_guarded(path, lambda file=file: file.read(names)) for path, file in files])

    if not in_order:
        return table_rows(read_columns(first.schema_arrow.names), folder)
    groups = [(path, file, group) for path, file in files for group in range(file.num_row_groups)]

    def read_group(chunk: int) -> pa.Table:
        path, file, group = groups[chunk]
        return _guarded(path, lambda: file.read_row_group(group))

    lengths = [file.metadata.row_group(group).num_rows for _, file, group in groups]
    return ArrowRows(first.schema_arrow, lengths, read_group, read_columns, folder)


def _open_parquet(path: Path) -> pq.ParquetFile:
    return _guarded(path, lambda: pq.ParquetFile(path, memory_map=True))


def _guarded(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path} does not read as Parquet ({error})") from error


class JsonRows:
    """Rows of JSON files: an array of objects, or one object a line. Types are known by value only."""

    schema: pa.Schema | None = None

    def __init__(self, records: Sequence[bytes | Any], folder: Path | None = None):
        self._records = records
        self.folder = folder
        self.columns = tuple(dict.fromkeys(name for row in self._readable() for name in row))

    def _readable(self) -> Iterable[Row]:
        for index in range(len(self)):
            try:
                yield self.row(index)
            except RowError:
                continue

    def __len__(self) -> int:
        return len(self._records)

    def row(self, index: int) -> Row:
        """One row. Raises RowError("bad_json") if it is no JSON object."""
        record = self._records[index]
        try:
            row = json.loads(record) if isinstance(record, bytes) else record
        except (ValueError, RecursionError) as error:
            raise RowError("bad_json", f"row {index} does not parse ({error})") from error
        if not isinstance(row, dict):
            raise RowError("bad_json", f"row {index} is {type(row).__name__}, not an object of columns")
        if not isinstance(record, bytes) or _SURROGATE.search(record):
            try:
                json.dumps(row, ensure_ascii=False).encode()
            except UnicodeEncodeError as error:
                raise RowError("bad_json", f"row {index} has text that is no Unicode ({error.reason})") from error
        return row

    def select(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """Whole columns; None where a row lacks the column or does not parse."""
        columns: dict[str, list[Any]] = {name: [] for name in names}
        for index in range(len(self)):
            try:
                row = self.row(index)
            except RowError:
                row = {}
            for name, values in columns.items():
                values.append(row.get(name))
        return columns


def json_rows(paths: Sequence[Path], folder: Path | None = None) -> JsonRows:
    """Rows of `.json` or `.jsonl` files; which of the two layouts a file has is seen from its first character.

    Raises ConfigError if an array does not parse. A line that does not parse is a row that is rejected later.
    """
    records: list[bytes | Any] = []
    for path in paths:
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
        if data.lstrip()[:1] == b"[":
            try:
                records.extend(json.loads(data))
            except (ValueError, RecursionError) as error:
                raise ConfigError(f"{path} does not parse as JSON ({error})") from error
        else:
            records.extend(line for line in data.splitlines() if line.strip())
    return JsonRows(records, folder)
