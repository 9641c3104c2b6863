"""A converter in a process of its own, to be killed; what is fetched gets a fixed time, so that stores compare.

python killing.py ARGUMENTS OF THE CONVERTER...
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

NOW = "2026-01-31T12:00:00Z"


def start(arguments: list[str]) -> subprocess.Popen:
    """Begins a conversion."""
    command = [sys.executable, __file__, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )


def run(arguments: list[str]) -> str:
    """A conversion from beginning to end; what it said. AssertionError if it failed."""
    process = start(arguments)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    return said


def kill_after(arguments: list[str], seconds: float) -> bool:
    """Begins a conversion and kills it; False if it was done before that."""
    process = start(arguments)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    assert process.returncode == 0
    return False


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])
    from converters.fetch import ImageFetcher
    from converters.to_arrayrecord import main

    ImageFetcher.__init__.__kwdefaults__["now"] = lambda: NOW
    begun = time.monotonic()
    code = main(sys.argv[1:])
    print(f"took {time.monotonic() - begun:.3f} s", file=sys.stderr)
    sys.exit(code)
