"""Log lines of the command line."""

import logging
import sys


def log_to_stderr() -> None:
    """Bare messages on standard error, warnings and worse unless a logger says otherwise."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("huggingface_hub").propagate = False  # it writes its lines itself
