"""Whether a process that is elsewhere than the others is found out, by all of them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from grain_molmo.loader_state import check_same_everywhere, pack_state

_PROCESS = """
import sys
import jax
from grain_molmo.errors import StoreError
from grain_molmo.loader_state import check_same_everywhere, pack_state

process = int(sys.argv[2])
jax.distributed.initialize(sys.argv[1], 2, process)
for step in (3, 4 + process):
    try:
        check_same_everywhere(pack_state({"seed": "0"}, {"step": step}))
        print("found: same")
    except StoreError as error:
        print("found:", error)
"""


def test_one_process_is_where_it_is():
    check_same_everywhere(pack_state({}, {"step": 3}))


@pytest.mark.xdist_group("pods")
def test_a_process_that_is_elsewhere_is_named_on_all():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        coordinator = f"localhost:{probe.getsockname()[1]}"
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONPATH": root}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _PROCESS, coordinator, str(process)],
            env=environment, stdout=subprocess.PIPE, text=True,
        )
        for process in range(2)
    ]  # fmt: skip
    for process in processes:
        printed, _ = process.communicate(timeout=120)
        # JAX's collectives write lines of their own.
        first, second = (line.removeprefix("found: ") for line in printed.splitlines() if line.startswith("found: "))
        assert first == "same"
        assert second.startswith("the loaders of processes 1 are elsewhere than that of process 0")
