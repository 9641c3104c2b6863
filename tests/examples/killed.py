"""The example trainer in processes that are killed, and what its model saw.

python tests/examples/killed.py --kills 20    # on sample data, against a run that is left alone
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SETS = ["pixmo-cap", "pixmo-points", "pixmo-count", "pixmo-docs", "pixmo-cap-qa"]
SMALL = {"batch-size": 2, "seq-len": 1024, "width": 16, "threads": 2, "save-every": 3, "mesh": "data=1"}


def command_line(options: dict[str, Any]) -> list[str]:
    return [f"--{key}={value}" for key, value in options.items()]


def start(options: dict[str, Any], devices: int | None = None) -> subprocess.Popen[str]:
    """The trainer in a process of its own, with so many devices of the CPU; its log comes out of its stdout.

    By default with as many as there are here: XLA cuts work up by their number, which shows in the last bits.
    """
    command = [sys.executable, "-m", "grain_molmo.examples.train", *command_line({**options, "log": "/dev/stdout"})]
    flags = {"JAX_PLATFORMS": "cpu"}
    if devices is not None:
        flags["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **flags})


def run(options: dict[str, Any], devices: int | None = None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Runs the trainer to its end: the lines of its steps, and its summary."""
    out, _ = (process := start(options, devices)).communicate()
    assert process.returncode == 0, out
    *steps, summary = read(out.splitlines())
    return steps, summary


def run_and_kill(options: dict[str, Any], when: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Runs the trainer and kills it once a step's line says so: the lines of its steps until then."""
    process = start(options)
    assert process.stdout is not None
    seen = []
    for line in read(process.stdout):
        seen.append(line)
        if "step" in line and when(line):  # the last line is the summary of a run that came to its end
            break
    process.kill()
    seen += read(process.communicate()[0].splitlines())  # what it still said while it was shot at
    return [line for line in seen if "step" in line]


def read(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:  # torn off by the kill
            return


def main() -> None:
    """Kills a run again and again, and compares every step that any of its processes took with an undisturbed run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, str(ROOT))
        from converters.to_arrayrecord import main as convert

        assert convert([*SETS, "--sample", "--rows", "24", "--data-dir", f"{folder}/data"]) == 0
        options = {**SMALL, "save-every": 2, "data-dir": f"{folder}/data", "steps": args.steps}
        alone, _ = run({**options, "checkpoints": f"{folder}/alone"})
        options["checkpoints"] = f"{folder}/killed"
        seen: list[dict[str, Any]] = []
        for kill in range(args.kills):
            last = rng.randint(0, 3)
            first_of_run: list[int] = []

            def when(line: dict[str, Any], last: int = last, first: list[int] = first_of_run) -> bool:
                first.append(line["step"]) if not first else None
                if line["step"] < first[0] + last:
                    return False
                time.sleep(rng.uniform(0, 0.6))  # somewhere in the next step, or while a checkpoint is written
                return True

            lines = run_and_kill(options, when)
            seen += lines
            print(f"kill {kill + 1}: steps {[line['step'] for line in lines]}", flush=True)
        seen += run(options)[0]
        wrong = [line for line in seen if any(line[key] != alone[line["step"]][key] for key in ("batch", "loss"))]
        steps = {line["step"] for line in seen}
        print(f"{len(seen)} steps were taken for the {len(steps)} of the run; {len(wrong)} saw another batch or loss")
        sys.exit(bool(wrong) or steps != set(range(args.steps)))


if __name__ == "__main__":
    main()
