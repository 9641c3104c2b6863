"""Batches: the time to the first, how many a second, what limits them, what memory they take, how soon they resume.

A loader is made as a training program makes it, over your data folder or over sample data converted for it. Each round
makes a new loader, sets the state that the round before ended with, and takes batches as fast as they come. Right after
it, in a stage of pictures, the ceiling: the same pictures, their bytes in memory, decoded and resized once to 378 x 378
(OpenCV, linear, uint8) by as many threads, without a loader. The ratio is pictures a second of the loader where the
ceiling is 1. What a video costs depends on its codec, size and length; `grain-molmo bench video` compares it with
decoding it from start to end.

"waiting", "planning" and "rendering" are shares of the time that batches were taken in. A consumer that does nothing
waits all the time. What sets the pace is named by the rule of `Loader.stats()`. With --step-seconds the consumer takes
so long over each batch, as a device does over a step; the share that it waits is the data stall.

Seconds of the processor are those of the whole process, all threads and planning included, for a row that is handed
out. `grain-molmo size` reads them, the bytes and the planning from --json.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grain_molmo.datasets.base import Dataset
from grain_molmo.datasets.registry import get_dataset
from grain_molmo.errors import StoreError
from grain_molmo.loader import Loader, make_loader
from grain_molmo.readable import ruled_table
from grain_molmo.render import ExampleInfo, batch_bytes
from grain_molmo.rng import example_rng
from grain_molmo.stages import STAGES, Stage
from grain_molmo.stats import BatchInfo, Seconds, limited_by
from grain_molmo.tools.arguments import seconds, stage_name
from grain_molmo.tools.bench.pictures import decode_and_resize
from grain_molmo.tools.bench.report import Report, positive, timed
from grain_molmo.vision.lazy import LazyImage
from grain_molmo.vision.resize import use_one_opencv_thread

_SEED = 0


@dataclass(frozen=True)
class LoaderSettings:
    """Which loader to measure, and for how long.

    Attributes:
        data_dir: where the datasets are.
        stage, batch_size, threads, tokenizer: as for `make_loader`.
        steps: batches to take in all.
        rounds: in so many rounds.
        step_s: seconds that the consumer takes over each.
    """

    data_dir: Path
    stage: str
    batch_size: int
    steps: int
    rounds: int
    threads: int
    tokenizer: str
    step_s: float = 0.0

    def new_loader(self) -> Loader:
        """A loader that has not begun."""
        return make_loader(
            self.stage,
            data_dir=self.data_dir,
            tokenizer=self.tokenizer,
            batch_size=self.batch_size,
            num_threads=self.threads,
            seed=_SEED,
        )


@dataclass
class _Round:
    """What one round came to; `seconds` and `infos` begin behind its first batch."""

    first_batch_s: float
    seconds: float = 0.0
    wait_s: float = 0.0
    cpu_s: float = 0.0
    infos: list[BatchInfo] = field(default_factory=list)
    num_pictures: int = 0
    ceiling_pictures_per_s: float = 0.0

    @property
    def examples(self) -> list[ExampleInfo]:
        return [example for info in self.infos for row in info.rows for example in row]

    @property
    def pictures_per_s(self) -> float:
        return self.num_pictures / self.seconds


EXAMPLES = (
    ("sample data", ""),
    ("a store, with a step that takes as long as yours", "--data-dir DATA --stage pretraining --step-seconds 0.5"),
    ("figures for grain-molmo size", "--data-dir DATA --json"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's arguments."""
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="converted datasets; default: sample data")
    parser.add_argument("--stage", type=stage_name, choices=list(STAGES), default="pretraining", help="(pretraining)")
    parser.add_argument("--batch-size", type=positive, default=8, metavar="N", help="rows (8)")
    parser.add_argument("--steps", type=positive, default=30, metavar="N", help="batches in all (30)")
    parser.add_argument("--rounds", type=positive, default=3, metavar="N", help="loaders to share them among (3)")
    parser.add_argument("--threads", type=positive, default=4, metavar="N", help="of the loader and the ceiling (4)")
    parser.add_argument("--tokenizer", default="bytes", metavar="T", help='file, folder, hub name or "bytes" (bytes)')
    parser.add_argument("--rows", type=positive, default=64, metavar="N", help="rows of each sample set (64)")
    parser.add_argument(
        "--step-seconds", type=seconds, default=0.0, metavar="S", help="what the consumer takes over a batch (0)"
    )


def run(args: argparse.Namespace) -> Report:
    """The benchmark's report."""
    with tempfile.TemporaryDirectory(prefix="grain-molmo-bench-") as temporary:
        data_dir = args.data_dir or convert_sample(Path(temporary), args.stage, args.rows)
        settings = LoaderSettings(
            data_dir=data_dir,
            stage=args.stage,
            batch_size=args.batch_size,
            steps=args.steps,
            rounds=args.rounds,
            threads=args.threads,
            tokenizer=args.tokenizer,
            step_s=args.step_seconds,
        )
        figures = measure(settings)
    shown = {**vars(settings), "data_dir": str(args.data_dir) if args.data_dir else f"sample of {args.rows} rows"}
    return Report("loader", shown, figures, _describe(settings, figures))


def convert_sample(data_dir: Path, stage: str, rows: int) -> Path:
    """Sample data, converted by a process of its own: what that takes of memory is not the loader's."""
    names = [name.replace("_", "-") for name in STAGES[stage].weights]
    options = ["--sample", "--rows", str(rows), "--data-dir", str(data_dir)]
    done = subprocess.run(
        [sys.executable, "-m", "converters.to_arrayrecord", *names, *options], capture_output=True, text=True
    )
    if done.returncode:
        raise StoreError(f"converting sample data failed:\n{done.stderr}")
    return data_dir


def measure(settings: LoaderSettings) -> dict[str, Any]:
    """Speeds, shares of the time, memory, what a row costs, and in a stage of pictures the ratio to the ceiling."""
    bytes_before = _resident_bytes()
    first, state, stage = _take_batches(settings, None)
    peak_bytes = _peak_bytes()  # before the ceiling holds pictures
    rounds = [first]
    if not stage.max_frames:
        _measure_ceiling(settings, stage, first)
    for _ in range(1, settings.rounds):
        found, state, _ = _take_batches(settings, state)
        if not stage.max_frames:
            _measure_ceiling(settings, stage, found)
        rounds.append(found)
    examples = [example for found in rounds for example in found.examples]
    infos = [info for found in rounds for info in found.infos]
    seconds = sum(found.seconds for found in rounds)
    rows = sum(len(info.rows) for info in infos)
    tokens, crops = (sum(_extent(getattr(example, key)) for example in examples) for key in ("tokens", "crops"))
    resumed = [found.first_batch_s for found in rounds[1:]]
    read_bytes = sum(example.read_bytes for example in examples)
    spent = Seconds(
        total_s=seconds,
        wait_s=sum(found.wait_s for found in rounds),
        plan_s=sum(info.plan_s for info in infos),
        encode_s=sum(info.encode_s for info in infos),
        read_s=sum(example.read_s for example in examples),
        decode_s=sum(example.decode_s for example in examples),
        render_s=sum(info.render_s for info in infos),
    )
    return {
        "first_batch_s": first.first_batch_s,
        "resume_s": statistics.median(resumed) if resumed else None,
        "examples_per_s": len(examples) / seconds,
        "rows_per_s": rows / seconds,
        "crops_per_s": crops / seconds,
        "read_bytes_per_s": read_bytes / seconds,
        "examples_per_row": len(examples) / rows,
        "read_bytes_per_row": read_bytes / rows,
        "cpu_s_per_row": sum(found.cpu_s for found in rounds) / rows,
        "plan_s_per_example": spent.plan_s / len(examples),
        **_ceiling(rounds),
        "token_fill": tokens / (rows * stage.seq_len),
        "crop_fill": crops / (rows * stage.crops_per_row),
        "waiting": spent.wait_share,
        "planning": spent.plan_s / seconds,
        "rendering": spent.render_s / seconds,
        "limited_by": limited_by(spent),
        "peak_bytes": peak_bytes,
        "added_bytes": peak_bytes - bytes_before,
        "batch_bytes": batch_bytes(stage, settings.batch_size),
    }


def _ceiling(rounds: Sequence[_Round]) -> dict[str, float | None]:
    """Pictures a second, of the ceiling, too, and their ratio; None of a stage with video."""
    keys = ("pictures_per_s", "ceiling_pictures_per_s", "ratio")
    if not all(found.num_pictures for found in rounds):
        return dict.fromkeys(keys)
    ratios = [found.pictures_per_s / found.ceiling_pictures_per_s for found in rounds]
    speeds = [[getattr(found, key) for found in rounds] for key in keys[:2]]
    return dict(zip(keys, map(statistics.median, (*speeds, ratios)), strict=True))


def _take_batches(settings: LoaderSettings, state: dict[str, Any] | None) -> tuple[_Round, dict[str, Any], Stage]:
    """One round of a loader, without its ceiling; the state it ended in; and the stage."""
    started = time.perf_counter()
    loader = settings.new_loader()
    if state is not None:
        started = time.perf_counter()
        loader.set_state(state)
    next(loader)
    begun, cpu_begun = time.perf_counter(), time.process_time()
    found = _Round(first_batch_s=begun - started)
    waited_before = loader.stats()["wait_s"]
    for _ in range(max(1, settings.steps // settings.rounds)):
        time.sleep(settings.step_s)
        next(loader)
        assert loader.batch_info is not None
        found.infos.append(loader.batch_info)
    found.seconds = time.perf_counter() - begun
    found.cpu_s = time.process_time() - cpu_begun
    found.wait_s = loader.stats()["wait_s"] - waited_before
    state = loader.get_state()
    loader.close()
    return found, state, loader.stage


def _measure_ceiling(settings: LoaderSettings, stage: Stage, found: _Round) -> None:
    """Decodes and resizes the round's pictures; adds their number and how many a second that is."""
    names = {example.dataset for example in found.examples}
    datasets = {name: get_dataset(name, split=stage.split, data_dir=settings.data_dir) for name in names}
    shown = [example for example in found.examples if not example.blanked]
    pictures = [picture for example in shown for picture in _pictures(datasets[example.dataset], example)]
    files = {picture.ref.sha256: picture.encoded() for picture in {each.ref.sha256: each for each in pictures}.values()}
    encoded = [files[picture.ref.sha256] for picture in pictures]  # one that comes twice is held once
    found.num_pictures = len(encoded)
    use_one_opencv_thread()
    with ThreadPoolExecutor(settings.threads) as pool:
        seconds = timed(lambda: list(pool.map(decode_and_resize, encoded)))
    found.ceiling_pictures_per_s = len(encoded) / seconds


def _pictures(dataset: Dataset, example: ExampleInfo) -> list[LazyImage]:
    shown = dataset.get(example.index, example_rng(_SEED, example.dataset, example.epoch, example.index))
    image = shown.get("image")
    return list(image) if isinstance(image, list | tuple) else [] if image is None else [image]


def _extent(span: tuple[int, int]) -> int:
    return span[1] - span[0]


def _resident_bytes() -> int:
    return _status_bytes("VmRSS") or _most_ever_bytes()


def _peak_bytes() -> int:
    return _status_bytes("VmHWM") or _most_ever_bytes()


def _status_bytes(key: str) -> int | None:
    """A figure of this process in Linux's /proc; None elsewhere."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith(key)), None)
    except OSError:
        return None


def _most_ever_bytes() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _describe(settings: LoaderSettings, figures: dict[str, Any]) -> list[str]:
    resume = "not measured" if figures["resume_s"] is None else f"{figures['resume_s']:.2f} s"
    ceiling = (
        ()
        if figures["ratio"] is None
        else (
            ("pictures/s", f"{figures['pictures_per_s']:.1f}"),
            ("pictures/s of the ceiling: decode + one resize, no loader", f"{figures['ceiling_pictures_per_s']:.1f}"),
            ("ratio to the ceiling", f"{figures['ratio']:.2f}"),
        )
    )
    rows = [
        ("first batch, from make_loader on", f"{figures['first_batch_s']:.2f} s"),
        ("next batch after set_state", resume),
        ("examples/s", f"{figures['examples_per_s']:.1f}"),
        ("rows/s", f"{figures['rows_per_s']:.2f}"),
        ("crops/s, a frame is one", f"{figures['crops_per_s']:.0f}"),
        ("media read, MB/s", f"{figures['read_bytes_per_s'] / 1e6:.1f}"),
        ("examples a row", f"{figures['examples_per_row']:.2f}"),
        ("media read a row, MB", f"{figures['read_bytes_per_row'] / 1e6:.2f}"),
        ("seconds of the processor a row", f"{figures['cpu_s_per_row']:.3f}"),
        ("planning an example, ms", f"{figures['plan_s_per_example'] * 1e3:.2f}"),
        *ceiling,
        ("tokens filled", f"{figures['token_fill']:.1%}"),
        ("crops filled", f"{figures['crop_fill']:.1%}"),
        ("time waiting", f"{figures['waiting']:.1%}"),
        ("time planning", f"{figures['planning']:.0%}"),
        ("time rendering", f"{figures['rendering']:.0%}"),
        ("peak memory of the process", f"{figures['peak_bytes'] / 1e6:,.0f} MB"),
        ("of it since before the loader", f"{figures['added_bytes'] / 1e6:,.0f} MB"),
        ("a batch", f"{figures['batch_bytes'] / 1e6:,.0f} MB"),
    ]
    return [
        f"stage {settings.stage}, {settings.batch_size} rows a batch, {settings.threads} threads, tokenizer "
        f"{settings.tokenizer}, {settings.steps} batches in {settings.rounds} rounds, {settings.step_s:g} s a step",
        ruled_table(("", "measured"), rows),
        f"What sets the pace: {figures['limited_by']}. The consumer waited {figures['waiting']:.2%} of the time.",
    ]
