"""How much this thread has read of media, and how long that took: counted where they are read, asked for elsewhere.

By thread, since a medium is read and decoded in one: whoever renders it takes the difference, at no cost in locks.
"""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple


class Reads(NamedTuple):
    """Bytes of media, and the seconds that reading them took."""

    num_bytes: int
    seconds: float

    def since(self, earlier: "Reads") -> "Reads":
        """What was read between two moments of a thread."""
        return Reads(self.num_bytes - earlier.num_bytes, self.seconds - earlier.seconds)


class _ThisThread(threading.local):
    reads = Reads(0, 0.0)


_this_thread = _ThisThread()


def counted(read: Callable[[], bytes]) -> bytes:
    """What `read` returns, counted for this thread; the seconds of a read that fails, too."""
    started = time.perf_counter()
    num_bytes = 0
    try:
        data = read()
        num_bytes = len(data)
        return data
    finally:
        so_far = _this_thread.reads
        _this_thread.reads = Reads(so_far.num_bytes + num_bytes, so_far.seconds + time.perf_counter() - started)


def reads_so_far() -> Reads:
    """What this thread has read since it began."""
    return _this_thread.reads
