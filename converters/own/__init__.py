"""Data of one's own: folders, tables, chats, WebDataset, TFDS and records, as sets of examples."""

from converters.own.sets import open_own
from converters.own.source import OwnSource, add_own_arguments, own_from_args

__all__ = ["OwnSource", "add_own_arguments", "open_own", "own_from_args"]
