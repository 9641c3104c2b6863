"""Pods of real JAX processes on this machine: whether they give the batches that one process gives.

The tests take a few steps. By hand, as many as wished, stopped at random steps in between:

    python tests/pods/pods.py --steps 50 --processes 4 2 1
"""

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pod_process import STAGE_NAMES, Found, Job

ROOT = Path(__file__).parents[2]
DEVICES = 8
VIDEO_SETS = ("cap", "videocapqa", "videosubtitleqa", "askmodelanything", "videopoint", "videotrack")
SETS = (
    *("pixmo-cap", "pixmo-points", "pixmo-count", "pixmo-docs", "pixmo-cap-qa"),
    *(f"molmo2-{name}" for name in (*VIDEO_SETS, "multiimageqa", "synmultiimageqa", "multiimagepoint")),
)
MESHES = {
    1: {
        "pretraining": {"data": 4, "tensor": 2},
        "sft": {"data": 4, "context": 2},
        "long_context": {"context": 4, "data": 2},
    },
    2: {
        "pretraining": {"tensor": 2, "fsdp": 4},
        "sft": {"context": 2, "data": 4},
        "long_context": {"data": 2, "context": 4},
    },
    4: {
        "pretraining": {"data": 2, "fsdp": 2, "tensor": 2},
        "sft": {"data": 2, "context": 2, "tensor": 2},
        "long_context": {"fsdp": 2, "context": 4},
    },
}
"""Meshes of the eight devices by number of processes; a stage has as many context shards on all of them."""


def launch(count: int, jobs: Sequence[Job], data_dir: Path, folder: Path) -> list[list[Found]]:
    """What the jobs came to in each of so many processes, which share eight CPU devices."""
    task = {"data_dir": str(data_dir), "jobs": [asdict(job) for job in jobs]}
    return [[Found(**found) for found in own] for own in launch_script("pod_process.py", count, task, folder)]


def launch_script(script: str, count: int, task: dict[str, Any], folder: Path) -> list[Any]:
    """What a script of this folder makes of a task in each of so many processes, which share eight CPU devices.

    Each is run as `script INPUT.json OUTPUT.json`; the input is the task with `coordinator`, `count` and `process`.
    """
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        coordinator = f"localhost:{probe.getsockname()[1]}"
    flags = f"--xla_force_host_platform_device_count={DEVICES // count}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    processes = []
    for process in range(count):
        given, output, log = (folder / f"{count}-{process}.{kind}" for kind in ("in.json", "out.json", "log"))
        given.write_text(json.dumps({**task, "coordinator": coordinator, "count": count, "process": process}))
        command = [sys.executable, str(Path(__file__).with_name(script)), str(given), str(output)]
        with log.open("w") as file:
            processes.append((subprocess.Popen(command, env=environment, stdout=file, stderr=file), output, log))
    failed = [log for process, _, log in processes if process.wait() != 0]
    if failed:
        raise RuntimeError("\n".join(log.read_text()[-4000:] for log in failed))
    return [json.loads(output.read_text()) for _, output, _ in processes]


def merged(parts: Sequence[Found]) -> Found:
    """What all processes of a job found together. Raises AssertionError where two differ on the same thing."""
    blocks: dict[str, str] = {}
    for part in parts:
        assert all(blocks.setdefault(name, digest) == digest for name, digest in part.blocks.items())
        assert part.sums == parts[0].sums
        assert part.state == parts[0].state
        assert part.traces == parts[0].traces
    return replace(parts[0], blocks=blocks, rows=sorted({row for part in parts for row in part.rows}))


def stop_and_go_on(stops: Sequence[tuple[int, int]], data_dir: Path, folder: Path) -> list[list[list[Found]]]:
    """All stages on one pod after another, each going on from the state of the one before.

    Args:
        stops: processes of each pod, and the steps it takes.
        data_dir: where the sets were converted to.
        folder: for files in between.

    Returns:
        What was found, by pod, process and stage.
    """
    states: dict[str, dict | None] = dict.fromkeys(STAGE_NAMES)
    pods = []
    for count, steps in stops:
        jobs = [Job(name, MESHES[count][name], steps, states[name], order=count) for name in STAGE_NAMES]
        pods.append(launch(count, jobs, data_dir, folder))
        states = {name: merged(parts).state for name, *parts in zip(STAGE_NAMES, *pods[-1], strict=True)}
    return pods


def main() -> None:
    """Compares a run that stops at random steps with one that doesn't, and every pod with a single process."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--processes", type=int, nargs="+", default=[4, 2, 1], choices=sorted(MESHES))
    parser.add_argument("--seed", type=int, default=None, help="of the steps to stop at")
    args = parser.parse_args()
    cuts = sorted(random.Random(args.seed).sample(range(1, args.steps), len(args.processes) - 1))
    steps = [stop - start for start, stop in zip([0, *cuts], [*cuts, args.steps], strict=True)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [
            sys.executable,
            "-m",
            "grain_molmo",
            "convert",
            *SETS,
            "--sample",
            "--data-dir",
            str(folder / "data"),
        ]
        subprocess.run([*command, "--rows", "24"], check=True, cwd=ROOT, stderr=subprocess.DEVNULL)
        ((reference,),) = stop_and_go_on([(1, args.steps)], folder / "data", folder)
        runs = {f"{count} processes": [(count, args.steps)] for count in args.processes if count > 1}
        runs[f"stopped at {cuts}, on {args.processes} processes"] = [*zip(args.processes, steps, strict=True)]
        for what, stops in runs.items():
            pods = stop_and_go_on(stops, folder / "data", folder)
            for number, stage in enumerate(STAGE_NAMES):
                parts = [merged([process[number] for process in pod]) for pod in pods]
                blocks = {name: digest for part in parts for name, digest in part.blocks.items()}
                same = blocks == reference[number].blocks and parts[-1].state == reference[number].state
                print(f"{what}: {stage}: {args.steps} global batches {'identical' if same else 'DIFFER'}", flush=True)
                if not same:
                    sys.exit(1)


if __name__ == "__main__":
    main()
