"""What the benchmarks share: timing in turn, ratios, facts about the machine, tables."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from grain_molmo.tools.arguments import whole_number

_LIBRARIES = (
    "grain",
    "array-record",
    "numpy",
    "opencv-python-headless",
    "simplejpeg",
    "av",
    "pillow",
    "tokenizers",
    "jax",
)

Seconds = list[float]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Report:
    """What a benchmark found.

    Attributes:
        benchmark: its name.
        settings: what was asked for.
        figures: JSON-able results.
        text: the same for people, a paragraph or table each.
    """

    benchmark: str
    settings: Mapping[str, Any]
    figures: Mapping[str, Any]
    text: Sequence[str]
    machine: Mapping[str, Any] = field(default_factory=lambda: machine_facts())


def machine_facts() -> dict[str, Any]:
    """Processor, cores that this process may use, load, and versions: what a figure depends on beside our code."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def time_in_turn(
    contenders: Mapping[str, Callable[[], object]], rounds: int, clock: Clock = time.perf_counter
) -> dict[str, Seconds]:
    """Seconds that each contender took, by round: A B C A B C ..., after one round that is not counted."""
    seconds: dict[str, Seconds] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, contender in contenders.items():
            elapsed = timed(contender, clock)
            if number:
                seconds[name].append(elapsed)
    return seconds


def timed(work: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """Seconds that the work took."""
    started = clock()
    work()
    return clock() - started


def speed_ratio(ours: Seconds, baseline: Seconds) -> float:
    """How fast we are where the baseline is 1: the median over the rounds, so that a slow minute hits both alike."""
    return statistics.median(theirs / own for own, theirs in zip(ours, baseline, strict=True))


def print_report(report: Report, *, as_json: bool) -> None:
    """Prints one JSON object, or the machine and the tables."""
    if as_json:
        keys = ("benchmark", "machine", "settings", "figures")
        print(json.dumps({key: getattr(report, key) for key in keys}))
        return
    machine = dict(report.machine)
    processor, cores, load = (machine.pop(key) for key in ("processor", "cores", "load_average"))
    print(f"{processor}, {cores} cores, load {load}")
    print(", ".join(f"{name} {number}" for name, number in machine.items()))
    for paragraph in report.text:
        print(f"\n{paragraph}")


positive = whole_number(1)
"""The argparse type of the benchmarks' counts."""
