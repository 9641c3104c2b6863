"""What the plan of a pod's global batches costs on each host, and how soon a run starts and goes on.

Sets of the hub's size are imitated by your store, or by sample data, again and again (see `plan_data`), with an index
of lengths beside them. Measured, with the index and without:

  a step   seconds to plan one global batch, which every host does, and the share of them that encoding takes. A host
           plans ahead in a thread of its own, so that a training step which takes longer hides it. On a machine that
           others use, too, trust the seconds of the processor ("CPU")
  a start  seconds from `make_loader` to the first batch; from `set_state` in a new loader to the first batch, at
           several steps, and the bytes of that state. For this, rows are planned one a step from the first step on,
           through the index, so the states are real ones

The examples' files are in the system's cache. Imports are not counted.
"""

import argparse
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grain_molmo.encode import EncodedExample, Encoder
from grain_molmo.lengths import LengthIndex
from grain_molmo.loader import Loader, make_loader
from grain_molmo.loader_state import pack_state
from grain_molmo.packing.draw import Draw
from grain_molmo.packing.rows import PackedRows
from grain_molmo.planned import ExamplePlanner, PlannedExample
from grain_molmo.readable import ruled_table
from grain_molmo.stage_data import open_datasets, plan_phases
from grain_molmo.stages import STAGES, Stage
from grain_molmo.text.tokenizer import Tokenizer, load_tokenizer
from grain_molmo.tools.arguments import stage_name, whole_number
from grain_molmo.tools.bench.loader import convert_sample
from grain_molmo.tools.bench.plan_data import repeated_stage, write_repeated_index
from grain_molmo.tools.bench.report import Report, positive

_SEED = 0
_EXAMPLES_A_ROW = 8  # at most, on average: how many draws the index must hold for
_LEAST_ROWS, _LEAST_STEPS = 3072, 3  # planned to measure a step, the latter with an index


EXAMPLES = (("sample data", ""), ("a store, batches of 256 rows", "--data-dir DATA --batch-sizes 256 --at 10 1000"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's arguments."""
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="converted datasets; default: sample data")
    parser.add_argument("--stage", type=stage_name, choices=list(STAGES), default="pretraining", help="(pretraining)")
    parser.add_argument("--tokenizer", default="bytes", metavar="T", help='file, folder, hub name or "bytes" (bytes)')
    rows_help = "rows of each sample set, 16 or more (64)"
    parser.add_argument("--rows", type=whole_number(16), default=64, metavar="N", help=rows_help)
    parser.add_argument("--size", type=positive, default=500_000, metavar="N", help="examples of a set (500000)")
    batch_sizes = [128, 1024, 8192]
    parser.add_argument(
        "--batch-sizes", type=positive, nargs="+", default=batch_sizes, metavar="N", help=f"{batch_sizes}"
    )
    steps = [10, 10_000, 1_000_000]
    parser.add_argument("--at", type=positive, nargs="+", default=steps, metavar="STEP", help=f"to go on at: {steps}")
    parser.add_argument("--threads", type=positive, default=4, metavar="N", help="of the loader (4)")


def run(args: argparse.Namespace) -> Report:
    """The benchmark's report."""
    with tempfile.TemporaryDirectory(prefix="grain-molmo-bench-") as temporary:
        folder = Path(temporary)
        data_dir = args.data_dir or convert_sample(folder / "store", args.stage, args.rows)
        stage = repeated_stage(STAGES[args.stage], data_dir, args.size)
        subject = Subject(folder / "repeated", stage, load_tokenizer(args.tokenizer), args.threads)
        most_rows = max(*args.at, _LEAST_ROWS, *(_LEAST_STEPS * size for size in args.batch_sizes))
        num_bytes = write_repeated_index(subject.data_dir, subject.encoder, _EXAMPLES_A_ROW * most_rows)
        figures = {
            "index": {"bytes": num_bytes, "first_look_s": _first_look_s(subject)},
            "steps": {str(size): measure_step(subject, size) for size in args.batch_sizes},
            "starts": measure_starts(subject, sorted(args.at)),
        }
    data = str(args.data_dir) if args.data_dir else f"sample of {args.rows} rows"
    settings = {"data": data, **{key: getattr(args, key) for key in ("stage", "tokenizer", "size", "threads")}}
    return Report("plan", settings, figures, _describe(settings, figures))


@dataclass(frozen=True)
class Subject:
    """What is measured: a stage over repeated sets, with an index in `data_dir`."""

    data_dir: Path
    stage: Stage
    tokenizer: Tokenizer
    threads: int

    @property
    def encoder(self) -> Encoder:
        """Of a run."""
        return Encoder(open_datasets(self.stage, self.data_dir)[0], self.stage, self.tokenizer, _SEED)

    def plan(self, plan_example: Callable[[Draw], PlannedExample], batch_size: int) -> PackedRows:
        """A run's plan, as `make_loader` makes it."""
        stage, datasets = self.stage, self.encoder.datasets
        return PackedRows(
            plan_phases(stage, datasets),
            {name: len(dataset) for name, dataset in datasets.items()},
            _SEED,
            plan_example,
            batch_size=batch_size,
            max_tokens=stage.seq_len,
            max_crops=stage.crops_per_row,
            waiting=stage.waiting,
        )

    def loader(self, *, length_index: bool) -> Loader:
        """A loader of one row a batch that has not begun."""
        return make_loader(
            self.stage,
            data_dir=self.data_dir,
            tokenizer=self.tokenizer,
            batch_size=1,
            seed=_SEED,
            num_threads=self.threads,
            length_index=length_index,
        )


def _first_look_s(subject: Subject) -> float:
    """Seconds to open the index and to read, check and compare a file of each set."""
    encoder = subject.encoder
    started = time.perf_counter()
    index = LengthIndex.open(subject.data_dir, encoder)
    for name in encoder.datasets:
        index.get(Draw(name, 0, 0))
    return time.perf_counter() - started


class _TimedEncoder:
    """An encoder that counts its time."""

    def __init__(self, encoder: Encoder):
        self._encoder = encoder
        self.seconds, self.cpu_seconds, self.examples = 0.0, 0.0, 0

    def __call__(self, draw: Draw) -> EncodedExample:
        started, cpu_started = time.perf_counter(), time.thread_time()
        try:
            return self._encoder(draw)
        finally:
            self.seconds += time.perf_counter() - started
            self.cpu_seconds += time.thread_time() - cpu_started
            self.examples += 1


def measure_step(subject: Subject, batch_size: int) -> dict[str, Any]:
    """Seconds to plan a global batch with and without an index, by the clock and the processor; encoding's share."""
    encoder = subject.encoder
    index = LengthIndex.open(subject.data_dir, encoder)
    for name in encoder.datasets:  # files are read and checked once a run
        index.get(Draw(name, 0, 0))
    steps = max(1, _LEAST_ROWS // batch_size)
    known = _step_seconds(subject.plan(ExamplePlanner(encoder, index.get), batch_size), max(_LEAST_STEPS, steps))
    timed = _TimedEncoder(encoder)
    planner = ExamplePlanner(timed)  # pyright: ignore[reportArgumentType]  (called, and nothing else)
    encoded = _step_seconds(subject.plan(planner, batch_size), steps)
    return {
        "steps_with_index": len(known),
        "steps_without_index": len(encoded),
        "with_index_s": statistics.median(clock for clock, _ in known),
        "with_index_cpu_s": statistics.median(cpu for _, cpu in known),
        "without_index_s": statistics.median(clock for clock, _ in encoded),
        "without_index_cpu_s": statistics.median(cpu for _, cpu in encoded),
        "encoding": timed.seconds / sum(clock for clock, _ in encoded),
        "encode_cpu_us": timed.cpu_seconds / timed.examples * 1e6,
        "examples_a_row": timed.examples / (steps * batch_size),
    }


def _step_seconds(plan: PackedRows, steps: int) -> list[tuple[float, float]]:
    """(seconds of the clock, seconds of this thread's processor) of each step."""
    batches = iter(plan)
    seconds = []
    for _ in range(steps):
        started, cpu_started = time.perf_counter(), time.thread_time()
        next(batches)
        seconds.append((time.perf_counter() - started, time.thread_time() - cpu_started))
    return seconds


def measure_starts(subject: Subject, steps: Sequence[int]) -> dict[str, Any]:
    """Seconds to the first batch of new loaders, from the beginning and from states of those steps."""
    logging.getLogger("grain_molmo").setLevel(logging.WARNING)
    starts = [_start(subject, None)]
    started = time.perf_counter()
    for state, draws in _states(subject, steps):
        planned_s = time.perf_counter() - started
        starts.append({**_start(subject, state, draws), "planned_in_s": planned_s})
    return {"rows_a_step": 1, "from": starts}


def _states(subject: Subject, steps: Sequence[int]) -> Iterator[tuple[dict[str, Any], list[Draw]]]:
    """The plan's state before the batch of each step, and what is in that batch."""
    encoder = subject.encoder
    index = LengthIndex.open(subject.data_dir, encoder)
    batches = iter(subject.plan(ExamplePlanner(encoder, index.get), batch_size=1))
    step = 0
    for goal in steps:
        while step < goal:
            next(batches)
            step += 1
        state = batches.get_state()
        batch = next(batches)
        step += 1
        yield state, [example.draw for row in batch.rows for example in row]


def _start(subject: Subject, plan_state: dict[str, Any] | None, draws: Sequence[Draw] = ()) -> dict[str, Any]:
    """Seconds to the first batch with and without an index, and bytes of the state."""
    found: dict[str, Any] = {"step": plan_state["step"] if plan_state else 0}
    for key, length_index in (("with_index_s", True), ("without_index_s", False)):
        started = time.perf_counter()
        with subject.loader(length_index=length_index) as loader:
            state = loader.get_state()
            found[f"made_{key}"] = time.perf_counter() - started
            if plan_state is not None:
                state = json.loads(json.dumps(pack_state(state["fingerprint"], plan_state)))
                started = time.perf_counter()
                loader.set_state(state)
            next(loader)
            found[key] = time.perf_counter() - started
            info = loader.batch_info
            assert info is not None
            seen = [Draw(example.dataset, example.epoch, example.index) for row in info.rows for example in row]
            if draws and seen != list(draws):
                raise AssertionError(f"step {info.step} restored: {seen} instead of {list(draws)}")
        found["state_bytes"] = len(json.dumps(state))
    return found


def _describe(settings: dict[str, Any], figures: dict[str, Any]) -> list[str]:
    steps = [
        (
            f"{int(size):,}",
            _time(found["with_index_s"]),
            _time(found["with_index_cpu_s"]),
            _time(found["without_index_s"]),
            _time(found["without_index_cpu_s"]),
            f"{found['encoding']:.0%}",
            f"{found['without_index_cpu_s'] / found['with_index_cpu_s']:.0f}",
            f"{found['steps_with_index']}, {found['steps_without_index']}",
        )
        for size, found in figures["steps"].items()
    ]
    any_step = next(iter(figures["steps"].values()))
    starts = [
        (
            f"{found['step']:,}" if found["step"] else "0, make_loader included",
            _time(found["with_index_s"]),
            _time(found["without_index_s"]),
            f"{found['state_bytes']:,}",
            _time(found["planned_in_s"]) if "planned_in_s" in found else "",
        )
        for found in figures["starts"]["from"]
    ]
    index = figures["index"]
    return [
        f"stage {settings['stage']}, tokenizer {settings['tokenizer']}, {settings['data']} as sets of "
        f"{settings['size']:,} examples: {any_step['examples_a_row']:.1f} examples a row, "
        f"{any_step['encode_cpu_us']:,.0f} µs of a processor to encode one",
        "Planning a global batch, on every host; a training step that takes longer hides it:\n\n"
        + ruled_table(("rows", "with index", "CPU", "without", "CPU", "of it encoding", "ratio", "steps"), steps),
        f"The index: {index['bytes'] / 1e6:,.0f} MB, looked into first in {_time(index['first_look_s'])}.",
        "The first batch, rows of one a step, from a new loader:\n\n"
        + ruled_table(("at step", "with index", "without", "state, bytes", "planned to there in"), starts),
    ]


def _time(seconds: float) -> str:
    return f"{seconds:,.2f} s" if seconds >= 1 else f"{seconds * 1e3:,.1f} ms"
