"""What a column must be: as an Arrow type, before anything is converted, and as a value, row by row."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from converters.rows import Row, Rows
from grain_molmo.errors import ConfigError, RowError


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_list_of(kind: pa.DataType, is_item: Callable[[pa.DataType], bool]) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and (pa.types.is_null(kind.value_type) or is_item(kind.value_type))  # null: all lists are empty


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


def _is_any_list(kind: pa.DataType) -> bool:
    """A list, or a struct of lists, as `datasets` writes a sequence of structs."""
    return _is_list_of(kind, lambda item: True) or (
        pa.types.is_struct(kind) and all(_is_list_of(field.type, lambda item: True) for field in kind)
    )


# Past this a number of a row is no place, time or size, whatever its unit; integers beyond it have no float.
_LARGEST = 1e15

# Kinds of column by the words that an error message uses for them.
TEXT, INTEGER, NUMBER, BOOLEAN, TEXTS = "text", "integers", "numbers", "booleans", "lists of text"
POINTS, QUESTIONS, IMAGE = "lists of {x, y}", "{question, answer} lists", "encoded images"
LISTS, SUBTITLE = "lists", "text or lists of {start, end, text}"
_IS_KIND: dict[str, Callable[[pa.DataType], bool]] = {
    TEXT: _is_text,
    INTEGER: pa.types.is_integer,
    NUMBER: _is_number,
    BOOLEAN: pa.types.is_boolean,
    TEXTS: lambda kind: _is_list_of(kind, _is_text),
    POINTS: lambda kind: _is_table(kind, {"x", "y"}, _is_number),
    QUESTIONS: lambda kind: _is_table(kind, {"question", "answer"}, _is_text),
    IMAGE: _is_image,
    LISTS: _is_any_list,  # of several forms, which the rows' values tell apart
    SUBTITLE: lambda kind: _is_text(kind) or _is_any_list(kind),
}


def check_columns(
    set_name: str,
    rows: Rows,
    required: Mapping[str, str],
    optional: Mapping[str, str],
    either: Sequence[Sequence[str]] = (),
) -> None:
    """Raises ConfigError naming set, column and what was found if the rows cannot be of the set.

    Args:
        set_name: for the message.
        rows: of the source.
        required, optional: kinds by column.
        either: groups of optional columns of which one must be there.
    """
    found = ", ".join(rows.columns) or "none"
    for column in required:
        if column not in rows.columns:
            raise ConfigError(f"{set_name}: column {column!r} is missing; the rows have: {found}")
    for group in either:
        if not any(column in rows.columns for column in group):
            raise ConfigError(
                f"{set_name}: one of the columns {', '.join(group)} must be there; the rows have: {found}"
            )
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
    return _worded(column, _present(row, column))


def integer(row: Row, column: str) -> int:
    """A whole number. Raises RowError: `missing_COLUMN`, `wrong_type`."""
    value = _present(row, column)
    if isinstance(value, float) and value.is_integer():  # a column with gaps, by way of pandas
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not abs(value) < _LARGEST:
        raise _wrong_type(column, value, "a whole number")
    return value


def texts(row: Row, column: str) -> list[str]:
    """The texts of a list that are not blank. Raises RowError: `missing_COLUMN`, `wrong_type`."""
    return [item for item in _text_list(row, column) if item.strip()]


def every_text(row: Row, column: str) -> list[str]:
    """The texts of a list whose places mean something, so that none may be left out for being blank.

    Raises RowError: `missing_COLUMN`, `wrong_type`, `empty_COLUMN` if one is blank or there is none.
    """
    found = [_worded(column, item) for item in _text_list(row, column)]
    if not found:
        raise RowError(f"empty_{column.lower()}", f"{column} lists nothing")
    return found


def number(row: Row, column: str) -> float:
    """A finite number. Raises RowError: `missing_COLUMN`, `wrong_type`."""
    return _finite(column, _present(row, column))


def flag(row: Row, column: str) -> bool:
    """Whether the row says so; False where it says nothing. Raises RowError: `wrong_type`."""
    value = row.get(column)
    if value is not None and not isinstance(value, bool):
        raise _wrong_type(column, value, "true or false")
    return bool(value)


def points(row: Row, column: str) -> list[list[float]]:
    """[[x, y], ...] in the row's own unit, in its order. Raises RowError: `missing_COLUMN`, `wrong_type`."""
    return _points(column, _present(row, column))


def point_lists(row: Row, column: str) -> list[list[list[float]]]:
    """Points of each picture or moment: [[[x, y], ...], ...]. Raises RowError: `missing_COLUMN`, `wrong_type`."""
    value = _present(row, column)
    if not isinstance(value, list):
        raise _wrong_type(column, value, "a list of lists of {x, y}")
    return [_points(column, item if item is not None else []) for item in value]


def masks(row: Row, column: str) -> list[np.ndarray]:
    """[H, W] bool masks, all of one size. Raises RowError: `missing_COLUMN`, `wrong_type`."""
    value = _present(row, column)
    try:
        stacked_NHW = np.array(value, dtype=bool)
    except (TypeError, ValueError):  # of several sizes
        stacked_NHW = np.array(True)
    if stacked_NHW.shape != (0,) and (stacked_NHW.ndim != 3 or not stacked_NHW.size):
        raise _wrong_type(column, value, "a list of [height][width] masks of one size")
    return list(stacked_NHW)


def numbers(row: Row, column: str) -> list[float]:
    """Finite numbers. Raises RowError: `missing_COLUMN`, `wrong_type`."""
    value = _present(row, column)
    if not isinstance(value, list):
        raise _wrong_type(column, value, "a list of numbers")
    return [_finite(column, item) for item in value]


def questions(row: Row, column: str) -> list[list[str]]:
    """[[question, answer], ...], none blank.

    Raises RowError: `missing_COLUMN`, `wrong_type`, `empty_COLUMN`.
    """
    pairs = entries(row, column, "question", "answer")
    if not pairs:
        raise RowError(f"empty_{column.lower()}", f"{column} has no question")
    return [[_worded(column, value) for value in pair] for pair in pairs]


def entries(row: Row, column: str, *names: str) -> list[tuple[Any, ...]]:
    """The named fields of each item of a list of structs, or of a struct of lists.

    Raises RowError: `missing_COLUMN`, `wrong_type`.
    """
    return _entries(column, _present(row, column), *names)


def _entries(column: str, value: Any, *names: str) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        lists = [one for name in names if isinstance(one := value.get(name), list)]
        if len(lists) == len(names) and len({len(one) for one in lists}) == 1:
            return list(zip(*lists, strict=True))
    elif isinstance(value, list) and all(isinstance(item, dict) and item.keys() >= set(names) for item in value):
        return [tuple(item[name] for name in names) for item in value]
    raise _wrong_type(column, value, f"a list of {{{', '.join(names)}}}, or lists of one length")


def _points(column: str, value: Any) -> list[list[float]]:
    return [[_finite(column, x), _finite(column, y)] for x, y in _entries(column, value, "x", "y")]


def _finite(column: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        raise _wrong_type(column, value, "finite numbers")
    return float(value)


def _text_list(row: Row, column: str) -> list[str]:
    value = _present(row, column)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _wrong_type(column, value, "a list of text")
    return value


def _worded(column: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong_type(column, value, "text")
    if not value.strip():
        raise RowError(f"empty_{column.lower()}", f"{column} is blank, or has a blank text")
    return value


def _present(row: Row, column: str) -> Any:
    value = row.get(column)
    if value is None:
        raise RowError(f"missing_{column.lower()}", f"{column} is null")
    return value


def _wrong_type(column: str, value: Any, expected: str) -> RowError:
    return RowError("wrong_type", f"{column} is {type(value).__name__} {str(value)[:80]!r}, expected {expected}")
