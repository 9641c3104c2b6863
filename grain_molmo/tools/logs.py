"""Log lines of the command line."""

import logging
import sys


def log_to_stderr() -> None:
    """Bare messages on standard error, warnings and worse unless a logger says otherwise."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    for handler in logging.root.handlers:
        # A library that was imported before may have put one there, which writes INFO:converters: before each line.
        if type(handler) is logging.StreamHandler:
            handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("huggingface_hub").propagate = False  # it writes its lines itself
