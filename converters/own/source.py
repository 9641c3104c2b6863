"""What plain sources there are, and how a user says to read one."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from converters.own.columns import FIELDS
from grain_molmo.errors import ConfigError

KINDS = ("auto", "folder", "table", "hf", "webdataset", "tfds", "records", "tensors")


@dataclass(frozen=True, kw_only=True)
class OwnSource:
    """How to read a plain source; picklable.

    Attributes:
        kind: one of `KINDS`; "auto" looks.
        columns: (field, column) for columns whose names say too little, or something else.
        values: (field, value) that all rows share: a style, a question, the unit of points.
        config: of a dataset of the hub.
        media_dir: where relative paths of rows start, instead of beside the rows.
        allow_any_path: rows may name files anywhere on this machine.
        labels: file with the labels of features that have none of their own.
        layers: files of a folder of features, by number or name; none: all.
    """

    kind: str = "auto"
    columns: tuple[tuple[str, str], ...] = ()
    values: tuple[tuple[str, Any], ...] = ()
    config: str | None = None
    media_dir: str | None = None
    allow_any_path: bool = False
    labels: str | None = None
    layers: tuple[str, ...] = ()


def add_own_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of plain sources."""
    group = parser.add_argument_group("data of your own", "NAME is then the name that your dataset gets in the store.")
    group.add_argument(
        "--from", dest="own_kind", choices=KINDS, help="what --source is; auto looks (and is meant without this)"
    )
    group.add_argument(
        "--columns", nargs="+", default=[], metavar="FIELD=COLUMN", help=f"what columns mean: {', '.join(FIELDS)}"
    )
    group.add_argument(
        "--values", nargs="+", default=[], metavar="FIELD=VALUE", help="what all rows share: style=..., point_scale=100"
    )
    group.add_argument("--config", help="config of a hub dataset")
    group.add_argument("--media-dir", metavar="DIR", help="where paths in rows start; default: beside the rows")
    group.add_argument("--allow-any-path", action="store_true", help="rows may name any file of this machine")
    group.add_argument("--labels", metavar="FILE", help="of features whose file has none: .pt, .npy, ...")
    layers_help = "of a folder of features with a file for each; default: all, stacked"
    group.add_argument("--layers", nargs="+", default=[], metavar="LAYER", help=layers_help)


def own_from_args(args: argparse.Namespace) -> OwnSource | None:
    """How the command line says to read a plain source; None if none of its flags was given.

    Raises ConfigError for a pair that is none.
    """
    own = OwnSource(
        kind=args.own_kind or "auto",
        columns=tuple(_pairs("--columns", args.columns)),
        values=tuple((field, _value(text)) for field, text in _pairs("--values", args.values)),
        config=args.config,
        media_dir=args.media_dir,
        allow_any_path=args.allow_any_path,
        labels=args.labels,
        layers=tuple(args.layers),
    )
    return own if args.own_kind or own != OwnSource() else None


def _pairs(flag: str, given: Sequence[str]) -> list[tuple[str, str]]:
    pairs = [text.partition("=") for text in given]
    for text, (field, equals, value) in zip(given, pairs, strict=True):
        if not field or not equals or not value:
            raise ConfigError(f"{flag} {text}: give FIELD=..., such as caption=TEXT")
    return [(field, value) for field, _, value in pairs]


def _value(text: str) -> Any:
    """A number where the text is one."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float) and not isinstance(value, bool) else text
