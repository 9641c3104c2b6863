"""What a column must be: as an Arrow type, before anything is converted, and as a value, row by row."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from converters.rows import Row, Rows
from grain_molmo.errors import ConfigError, RowError


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_list_of(kind: pa.DataType, is_item: Callable[[pa.DataType], bool]) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and is_item(kind.value_type)


def _is_struct(kind: pa.DataType, names: set[str], is_field: Callable[[pa.DataType], bool]) -> bool:
    if not pa.types.is_struct(kind):
        return False
    fields = {field.name: field.type for field in kind}
    return names <= fields.keys() and all(is_field(fields[name]) for name in names)


def _is_table(kind: pa.DataType, names: set[str], is_field: Callable[[pa.DataType], bool]) -> bool:
    """A list of structs, or a struct of lists: `datasets` has written the same feature both ways."""
    return _is_list_of(kind, lambda item: _is_struct(item, names, is_field)) or _is_struct(
        kind, names, lambda field: _is_list_of(field, is_field)
    )


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_image(kind: pa.DataType) -> bool:
    def is_bytes(kind: pa.DataType) -> bool:
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    return is_bytes(kind) or _is_text(kind) or _is_struct(kind, {"bytes"}, is_bytes)


# Kinds of column by the words that an error message uses for them.
TEXT, INTEGER, BOOLEAN, TEXTS = "text", "integers", "booleans", "lists of text"
POINTS, QUESTIONS, IMAGE = "lists of {x, y}", "{question, answer} lists", "encoded images"
_IS_KIND: dict[str, Callable[[pa.DataType], bool]] = {
    TEXT: _is_text,
    INTEGER: pa.types.is_integer,
    BOOLEAN: pa.types.is_boolean,
    TEXTS: lambda kind: _is_list_of(kind, _is_text),
    POINTS: lambda kind: _is_table(kind, {"x", "y"}, _is_number),
    QUESTIONS: lambda kind: _is_table(kind, {"question", "answer"}, _is_text),
    IMAGE: _is_image,
}


def check_columns(set_name: str, rows: Rows, required: Mapping[str, str], optional: Mapping[str, str]) -> None:
    """Raises ConfigError naming set, column and what was found if the rows cannot be of the set."""
    found = ", ".join(rows.columns) or "none"
    for column in required:
        if column not in rows.columns:
            raise ConfigError(f"{set_name}: column {column!r} is missing; the rows have: {found}")
    if rows.schema is None:
        return
    for column, kind in {**required, **optional}.items():
        if column not in rows.columns:
            continue
        found_type = rows.schema.field(column).type
        is_absent = column in optional and pa.types.is_null(found_type)
        if not is_absent and not _IS_KIND[kind](found_type):
            raise ConfigError(f"{set_name}: column {column!r} must hold {kind}, but its type is {found_type}")


def text(row: Row, column: str) -> str:
    """A text that is not blank. Raises RowError: `missing_COLUMN`, `wrong_type`, `empty_COLUMN`."""
    value = _present(row, column)
    if not isinstance(value, str):
        raise _wrong_type(column, value, "text")
    if not value.strip():
        raise RowError(f"empty_{column}", f"{column} is blank")
    return value


def integer(row: Row, column: str) -> int:
    """A whole number. Raises RowError: `missing_COLUMN`, `wrong_type`."""
    value = _present(row, column)
    if isinstance(value, float) and value.is_integer():  # a column with gaps, by way of pandas
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong_type(column, value, "a whole number")
    return value


def texts(row: Row, column: str) -> list[str]:
    """The texts of a list that are not blank. Raises RowError: `missing_COLUMN`, `wrong_type`."""
    value = _present(row, column)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _wrong_type(column, value, "a list of text")
    return [item for item in value if item.strip()]


def points(row: Row, column: str) -> list[list[float]]:
    """[[x, y], ...] in the row's own unit, in its order. Raises RowError: `missing_COLUMN`, `wrong_type`."""
    pairs = _pairs(row, column, "x", "y")
    for pair in pairs:
        for value in pair:
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise _wrong_type(column, value, "a finite number for each x and y")
    return [[float(x), float(y)] for x, y in pairs]


def questions(row: Row, column: str) -> list[list[str]]:
    """[[question, answer], ...], none blank. Raises RowError: `missing_COLUMN`, `wrong_type`, `empty_COLUMN`."""
    pairs = _pairs(row, column, "question", "answer")
    for pair in pairs:
        for value in pair:
            if not isinstance(value, str):
                raise _wrong_type(column, value, "text for each question and answer")
            if not value.strip():
                raise RowError(f"empty_{column}", f"{column} has a blank question or answer")
    if not pairs:
        raise RowError(f"empty_{column}", f"{column} has no question")
    return [list(pair) for pair in pairs]


def _pairs(row: Row, column: str, first: str, second: str) -> list[tuple[Any, Any]]:
    """The two fields of each item, from a list of dicts or a dict of lists."""
    value = _present(row, column)
    if isinstance(value, dict):
        firsts, seconds = value.get(first), value.get(second)
        if isinstance(firsts, list) and isinstance(seconds, list) and len(firsts) == len(seconds):
            return list(zip(firsts, seconds, strict=True))
    elif isinstance(value, list) and all(isinstance(item, dict) and {first, second} <= item.keys() for item in value):
        return [(item[first], item[second]) for item in value]
    raise _wrong_type(column, value, f"a list of {{{first}, {second}}}, or two lists of one length")


def _present(row: Row, column: str) -> Any:
    value = row.get(column)
    if value is None:
        raise RowError(f"missing_{column}", f"{column} is null")
    return value


def _wrong_type(column: str, value: Any, expected: str) -> RowError:
    return RowError("wrong_type", f"{column} is {type(value).__name__} {str(value)[:80]!r}, expected {expected}")
