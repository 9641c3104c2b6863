"""How far a conversion is: a bar on a terminal, else plain lines."""

import logging
import sys

from tqdm import tqdm

log = logging.getLogger(__name__)


class Progress:
    """A bar on a terminal, else one log line a shard."""

    def __init__(self, title: str, num_rows: int):
        self._title = title
        self._is_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=num_rows, desc=title, unit=" rows", disable=not self._is_terminal, dynamic_ncols=True, leave=False
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bar.close()

    def update(self, rows: int) -> None:
        """So many source rows are done."""
        self._bar.update(rows)

    def shard_done(self, done: int, total: int, rejected: int) -> None:
        """A shard is done."""
        if self._is_terminal:
            self._bar.set_postfix(shards=f"{done}/{total}", rejected=rejected)
        else:
            log.info("%s: shard %d of %d done, %s rows rejected so far", self._title, done, total, f"{rejected:,}")
