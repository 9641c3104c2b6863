"""Values of any kind as lines for people, and as JSON."""

import math
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np

from grain_molmo.tools.colour import paint

_TEXT, _ITEMS, _ENTRIES, _NARROWEST = 300, 12, 200, 12


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """Aligned columns; the first `left` of them to the left, the others to the right.

    On a terminal the headings are bold, and the widest columns to the left are cut to its width.
    """
    widths = [max(len(row[i]) for row in (headings, *rows)) for i in range(len(headings))]
    _fit(widths, left, terminal_width())
    header, *lines = (
        "  "
        + "  ".join(
            _cut(cell, width).ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (headings, *rows)
    )
    return "\n".join([paint(header, "heading"), *lines])


def ruled_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns aligned: the first to the left, numbers to the right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([paint(lines[0], "heading"), "  ".join("-" * width for width in widths), *lines[1:]])


def terminal_width() -> int | None:
    """Columns of the terminal that standard output is; None if it is none, so that nothing needs to be cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _fit(widths: list[int], left: int, room: int | None) -> None:
    """Narrows the columns to the left, the widest first, until the table has room, or nothing can be cut."""
    while room is not None and 2 * len(widths) + sum(widths) > room:
        widest = max(range(left), key=lambda i: widths[i], default=None)
        if widest is None or widths[widest] <= _NARROWEST:
            return
        widths[widest] -= 1


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def human_bytes(number: int) -> str:
    """A size with its unit.

    >>> human_bytes(131072), human_bytes(999), human_bytes(1_500_000_000)
    ('131 KB', '999 B', '1.5 GB')
    """
    size = float(number)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if size >= 9.95 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def jsonable(value: Any) -> Any:
    """The value as `json.dumps` takes it: pictures as what is known of them, arrays as lists."""
    if hasattr(value, "ref") and is_dataclass(value.ref):  # LazyImage: never decoded here
        return jsonable(value.ref)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, np.ndarray | np.generic):
        return jsonable(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def readable(value: Mapping[str, Any], indent: int = 2) -> str:
    """A mapping as lines "key  value", long texts and lists cut, nothing in them that a terminal would obey."""
    return "\n".join(_lines(value, indent))


def _lines(value: Mapping[str, Any], indent: int) -> Iterator[str]:
    width = max((len(str(key)) for key in value), default=0) + 2
    for key, entry in value.items():
        head = f"{' ' * indent}{printable(str(key)):<{width}}"
        if isinstance(entry, Mapping):
            yield head.rstrip()
            yield from _lines(entry, indent + 2)
        elif isinstance(entry, list | tuple) and any(isinstance(item, Mapping) for item in entry):
            yield head.rstrip()
            for item in entry[:_ITEMS]:
                yield f"{' ' * indent}  - {one_line(item)}"
            if len(entry) > _ITEMS:
                yield f"{' ' * indent}  … {len(entry) - _ITEMS} more"
        else:
            yield head + _one_line(entry)


def one_line(value: Any, most: int = _TEXT) -> str:
    """Any value on a line, cut to so many characters."""
    return _cut(_one_line(value), most)


def _one_line(value: Any) -> str:
    if hasattr(value, "ref"):
        value = value.ref
    if hasattr(value, "sha256") and hasattr(value, "width"):
        facts = getattr(value, "video", None)
        lasting = f"{facts.duration_s:.1f} s at {facts.fps:.4g} frames/s, " if facts else ""
        size = f"{value.width}x{value.height} pixels"
        return f"{size}, {lasting}{human_bytes(value.num_bytes)}, sha256 {value.sha256[:12]}…"
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, np.ndarray) and value.size > _ENTRIES:
        return f"{list(value.shape)} {value.dtype}"
    if isinstance(value, np.ndarray):
        value = (value.astype(float).round(2) if value.dtype.kind in "fV" else value).tolist()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return "  ".join(f"{printable(str(key))}: {_one_line(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        items = [f'"{printable(item)}"' if isinstance(item, str) else _one_line(item) for item in value[:_ITEMS]]
        more = [f"… {len(value) - _ITEMS} more"] if len(value) > _ITEMS else []
        return "[" + ", ".join(items + more) + "]"
    return printable(str(value))


def printable(text: str) -> str:
    """The text on one line, cut to 300 characters, control characters and broken surrogates as escapes."""
    cut = text[:_TEXT] + (f"… ({len(text):,} characters)" if len(text) > _TEXT else "")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)
