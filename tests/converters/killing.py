"""A converter in a process of its own, to be killed. Time and the port of URLs are fixed, so that stores compare.

python killing.py ARGUMENTS OF THE CONVERTER...
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

NOW = "2026-01-31T12:00:00Z"


def start(arguments: list[str]) -> subprocess.Popen:
    """Begins a conversion."""
    command = [sys.executable, __file__, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )


def kill_after(arguments: list[str], until: Callable[[], bool]) -> None:
    """Begins a conversion and kills it as soon as something has come about, unless it is done before that."""
    process = start(arguments)
    while process.poll() is None and not until():
        time.sleep(0.002)
    process.kill()
    process.communicate()


if __name__ in ("__main__", "__mp_main__"):  # also in the processes that a conversion starts
    sys.path[:1] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
    from loopback import digest_without_port

    from converters import plan
    from converters.fetch import ImageFetcher

    plan._digest = digest_without_port
    ImageFetcher.__init__.__kwdefaults__["now"] = lambda: NOW

if __name__ == "__main__":
    from converters.to_arrayrecord import main

    sys.exit(main(sys.argv[1:]))
