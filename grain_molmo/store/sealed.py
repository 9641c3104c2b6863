"""JSON files that carry their own checksum, so that a flip of any of their bytes is found, blanks included.

The checksum is the last entry of the object, `"sha256"`: of all bytes of the file but its own 64 digits.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from grain_molmo.store.files import damaged, write_text

_SEAL = "sha256"
_TAIL = re.compile(rb'\n "sha256": "([0-9a-f]{64})"\n}\n\Z')


def text_sha256(text: str) -> str:
    """Lower-case hex SHA-256 of a file with this text."""
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def sealed_text(value: Mapping[str, Any]) -> str:
    """JSON of a mapping that is not empty, with its checksum."""
    head = json.dumps(value, indent=1, ensure_ascii=False).removesuffix("\n}") + f',\n "{_SEAL}": "'
    tail = '"\n}\n'
    return head + text_sha256(head + tail) + tail


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Writes JSON with its checksum, atomically."""
    write_text(path, sealed_text(value))


def read_sealed(path: Path, keys: Collection[str]) -> tuple[dict[str, Any], bool]:
    """The entries of a file, and whether it carries a checksum: those that older versions wrote do not.

    Args:
        path: the file.
        keys: all entries that it may have. In a file without checksum another one is a checksum's damaged name.

    Raises:
        FileNotFoundError: there is no such file.
        StoreError: it is damaged.
    """
    try:
        data = path.read_bytes()
        value = json.loads(data.decode("utf-8"))
        if not isinstance(value, dict):
            raise ValueError("no JSON object")
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    if _SEAL in value:
        found = _TAIL.search(data)
        if found is None or not _is_intact(data, found):
            raise damaged(path, "its checksum is not that of its content")
        return {key: entry for key, entry in value.items() if key != _SEAL}, True
    unknown = sorted(set(value) - set(keys))
    if unknown:
        raise damaged(path, f"unknown entry {unknown[0]!r}")
    return value, False


def _is_intact(data: bytes, found: re.Match[bytes]) -> bool:
    start, stop = found.span(1)
    return hashlib.sha256(data[:start] + data[stop:]).hexdigest() == found[1].decode()
