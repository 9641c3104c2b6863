"""Runs the notebooks, each in a new folder and a kernel of its own, and prints how long each takes.

    python tests/notebooks_run.py [NAME ...]

A name may be cut short: `3` is the third.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
_NOT_FOR_THEM = ("GRAIN_MOLMO_DATA", "XLA_FLAGS", "JAX_PLATFORMS", "MPLBACKEND")
_CELL_TIMEOUT_S = 600
_QUIET = ["--log-level=ERROR"]  # of the kernel itself, which warns of loopback


@dataclass(frozen=True)
class Executed:
    """A notebook that ran to its end.

    Attributes:
        cells: as `nbformat` has them, outputs included.
        seconds: from the kernel's start to its end.
    """

    cells: list[Any]
    seconds: float

    def outputs(self, kind: str) -> Iterator[Any]:
        """All that was shown in a form such as "image/png" or "text/html"."""
        for cell in self.cells:
            for output in cell.get("outputs", ()):
                if kind in output.get("data", {}):
                    yield output["data"][kind]

    @property
    def text(self) -> str:
        """All that was printed, by commands, too."""
        outputs = (output for cell in self.cells for output in cell.get("outputs", ()))
        return "".join(output["text"] for output in outputs if output["output_type"] == "stream")


def execute(path: Path, folder: Path) -> Executed:
    """Runs a notebook in a folder, by this Python. Raises CellExecutionError if one of its cells fails."""
    notebook = nbformat.read(path, as_version=4)
    # Without folders of kernels there is one kernel, this Python's, whatever the user has installed.
    kernel = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    where = {"metadata": {"path": str(folder)}}
    started = time.perf_counter()
    client = NotebookClient(notebook, km=kernel, resources=where, timeout=_CELL_TIMEOUT_S, extra_arguments=_QUIET)
    client.execute(cleanup_kc=True, env=_environment(folder))
    return Executed(notebook.cells, time.perf_counter() - started)


def _environment(folder: Path) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_THEM}
    environment["IPYTHONDIR"] = str(folder / ".ipython")
    try:
        distribution("grain-molmo")
    except PackageNotFoundError:  # the checkout, not installed
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
    return environment


def main(names: list[str]) -> None:
    """Runs the notebooks that begin with these names; all, if there are none."""
    chosen = [path for path in NOTEBOOKS if not names or path.name.startswith(tuple(names))]
    width = max(len(path.stem) for path in chosen)
    for path in chosen:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{path.stem:{width}}  {execute(path, Path(folder)).seconds:6.1f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
