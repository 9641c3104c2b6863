"""Pictures from the store to the batch: how many examples a second, and at what share of a plain decode and resize.

The pictures (a folder of yours, or sample pictures drawn for it) go into a small store, each with a caption of 200
words. Timed is all that the loader does for an example: read the annotation, format and tokenize it, read the
picture's bytes, decode, resize twice, cut into crops and patches in the rows of a batch. Batches of a few full rows are
made one after another in one thread, then side by side in several.

The baselines decode the same files with the same decoder, from memory, and resize once (OpenCV, linear, uint8):
"resize to a crop" to 378 x 378, "resize to the canvas" to the size that the crops are cut from.

Turning text into ids is work of the text, not of the pictures, so the figure is also given with the ids looked up.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from converters.sample.scenes import make_scene
from converters.sample.text import caption
from grain_molmo.datasets.pixmo import PixMoCap
from grain_molmo.encode import Encoder
from grain_molmo.errors import ConfigError
from grain_molmo.packing.draw import Draw
from grain_molmo.readable import ruled_table
from grain_molmo.render import ImageBuffers, render_rows
from grain_molmo.slots import PictureSlot
from grain_molmo.stages import PRETRAINING_STAGE
from grain_molmo.store import MediaRef, Record, SplitWriter, content_key
from grain_molmo.text.tokenizer import Tokenizer, load_tokenizer
from grain_molmo.tools.bench.pictures import Picture, decode_and_resize, read_pictures, sample_pictures
from grain_molmo.tools.bench.report import Report, Seconds, positive, speed_ratio, time_in_turn
from grain_molmo.vision.crops import render_crops, select_tiling
from grain_molmo.vision.image import decode_image
from grain_molmo.vision.resize import use_one_opencv_thread

OURS, OURS_IDS_KNOWN = "store to batch", "the same, ids looked up"
TO_CROP, TO_CANVAS = "decode + resize to a crop", "decode + resize to the canvas"
_DATASET = "pixmo_cap"
# Rows long enough to be full of crops, whatever the tokenizer makes of the captions.
_STAGE = replace(PRETRAINING_STAGE, mixture={_DATASET: 1}, seq_len=16_384)
_ROWS_A_BATCH = 4
_CAPTION_WORDS = 200
_STEPS: tuple[str, ...] = ("encode", "read", "decode", "crops")

Batch = list[list[int]]  # numbers of the pictures in each row
Work = Callable[[], object]


EXAMPLES = (
    ("sample pictures", ""),
    ("pictures of your own, on 1, 2, 4 and 8 threads", "--media PICTURES --threads 2 4 8"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's arguments."""
    parser.add_argument("--media", type=Path, metavar="DIR", help="folder of pictures; default: sample pictures")
    parser.add_argument("--pictures", type=positive, default=128, metavar="N", help="pictures to use at most (128)")
    parser.add_argument("--tokenizer", default="bytes", metavar="T", help='file, folder, hub name or "bytes" (bytes)')
    parser.add_argument("--rounds", type=positive, default=7, metavar="N", help="times that each is measured (7)")
    parser.add_argument(
        "--threads", type=positive, nargs="*", default=[2, 4], metavar="N", help="also with so many threads (2 4)"
    )


def run(args: argparse.Namespace) -> Report:
    """The benchmark's report. Raises ConfigError if the folder holds no picture that decodes."""
    use_one_opencv_thread()
    with tempfile.TemporaryDirectory(prefix="grain-molmo-bench-") as temporary:
        folder = args.media or sample_pictures(Path(temporary) / "sample", args.pictures)
        pictures, left_out = read_pictures(folder, args.pictures)
        if not pictures:
            raise ConfigError(f"--media {folder}: no file in it decodes as a picture")
        data_dir = Path(temporary) / "store"
        write_store(data_dir, pictures)
        figures = measure(data_dir, pictures, load_tokenizer(args.tokenizer), args.rounds, args.threads)
    figures["left_out"] = dict(left_out)
    settings = {
        "media": str(args.media) if args.media else "sample pictures",
        "tokenizer": args.tokenizer,
        "rounds": args.rounds,
    }
    return Report("image", settings, figures, _describe(settings, figures))


def write_store(data_dir: Path, pictures: Sequence[Picture]) -> None:
    """Makes a store of the pictures as pixmo-cap, each with a caption of 200 words."""
    writer = SplitWriter(data_dir, _DATASET, "train", num_shards=1)

    def items() -> Iterator[tuple[Record, dict[str, bytes]]]:
        for number, picture in enumerate(pictures):
            sha256 = content_key(picture.data)
            ref = MediaRef(sha256, "image", picture.width, picture.height, len(picture.data))
            annotation = {"caption": _caption(number), "transcripts": []}
            yield Record(str(number), annotation, (ref,)), {sha256: picture.data}

    writer.write_shard(0, items())
    writer.finish(source={"kind": "bench"}, converter={}, rejects=[])


def _caption(number: int) -> str:
    """200 words about scenes of the sample."""
    rng = np.random.default_rng(number)
    words: list[str] = []
    for scene in range(_CAPTION_WORDS):
        if len(words) >= _CAPTION_WORDS:
            break
        words += caption(make_scene(number, "scenes", scene), rng).split()
    return " ".join(words[:_CAPTION_WORDS])


class _KnownIds:
    """A tokenizer that looks up the ids of texts that it has seen."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._ids: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        if text not in self._ids:
            self._ids[text] = self._tokenizer.encode(text)
        return self._ids[text]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


class _Here(Executor):
    """Runs what it is given at once, in the thread that gives it: for batches that are made side by side."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def measure(
    data_dir: Path, pictures: Sequence[Picture], tokenizer: Tokenizer, rounds: int, threads: Sequence[int]
) -> dict[str, Any]:
    """Figures of one thread, of several, and of the steps of the way."""
    datasets = {_DATASET: PixMoCap(data_dir=data_dir)}
    encoder = Encoder(datasets, _STAGE, tokenizer, seed=0)
    knowing = Encoder(datasets, _STAGE, cast(Tokenizer, _KnownIds(tokenizer)), seed=0)
    batches = _batches(encoder, len(pictures))
    buffers = ImageBuffers()
    works: dict[str, list[Work]] = {
        OURS: [partial(_make_batch, encoder, batch, buffers) for batch in batches],
        OURS_IDS_KNOWN: [partial(_make_batch, knowing, batch, buffers) for batch in batches],
        TO_CROP: [partial(_resize_batch, pictures, batch, to_canvas=False) for batch in batches],
        TO_CANVAS: [partial(_resize_batch, pictures, batch, to_canvas=True) for batch in batches],
    }
    seconds = time_in_turn({name: partial(_one_by_one, batch_works) for name, batch_works in works.items()}, rounds)
    several = {number: _in_threads(works, number, rounds) for number in threads if number > 1}
    speeds = {name: len(pictures) / statistics.median(found) for name, found in seconds.items()}
    return {
        "pictures": len(pictures),
        "mean_megapixels": statistics.mean(picture.height * picture.width for picture in pictures) / 1e6,
        "mean_crops": sum(encoder(_draw(number)).n_crops for number in range(len(pictures))) / len(pictures),
        "examples_per_s": speeds,
        "ratio_to_crop": speed_ratio(seconds[OURS], seconds[TO_CROP]),
        "ratio_to_canvas": speed_ratio(seconds[OURS], seconds[TO_CANVAS]),
        "ratio_to_crop_ids_known": speed_ratio(seconds[OURS_IDS_KNOWN], seconds[TO_CROP]),
        "ratio_to_canvas_ids_known": speed_ratio(seconds[OURS_IDS_KNOWN], seconds[TO_CANVAS]),
        "threads": {str(number): _scaling(speeds, found, len(pictures)) for number, found in several.items()},
        "ms_per_example": _step_ms(encoder, len(pictures), rounds),
    }


def _draw(number: int) -> Draw:
    return Draw(_DATASET, 0, number)


def _batches(encoder: Encoder, count: int) -> list[Batch]:
    """Examples in order, as many to a row as fit, a few rows to a batch."""
    rows: list[list[int]] = [[]]
    tokens = crops = 0
    for number in range(count):
        example = encoder(_draw(number))
        tokens, crops = tokens + example.n_tokens, crops + example.n_crops
        if tokens > _STAGE.seq_len or crops > _STAGE.crops_per_row:
            rows.append([])
            tokens, crops = example.n_tokens, example.n_crops
        rows[-1].append(number)
    return [rows[start : start + _ROWS_A_BATCH] for start in range(0, len(rows), _ROWS_A_BATCH)]


def _make_batch(encoder: Encoder, batch: Batch, buffers: ImageBuffers) -> None:
    render_rows([[encoder(_draw(number)) for number in row] for row in batch], _STAGE, _Here(), buffers)


def _resize_batch(pictures: Sequence[Picture], batch: Batch, *, to_canvas: bool) -> None:
    for picture in (pictures[number] for row in batch for number in row):
        if to_canvas:
            tiling = select_tiling(picture.height, picture.width, _STAGE.max_crops)
            decode_and_resize(picture.data, *tiling.canvas_hw)
        else:
            decode_and_resize(picture.data)


def _one_by_one(works: Sequence[Work]) -> None:
    for work in works:
        work()


def _in_threads(works: dict[str, list[Work]], threads: int, rounds: int) -> dict[str, Seconds]:
    """Seconds of ours and of the first baseline, batches side by side."""
    with ThreadPoolExecutor(threads) as pool:

        def side_by_side(batch_works: Sequence[Work]) -> None:
            for done in [pool.submit(work) for work in batch_works]:
                done.result()

        return time_in_turn({name: partial(side_by_side, works[name]) for name in (OURS, TO_CROP)}, rounds)


def _scaling(speeds: dict[str, float], seconds: dict[str, Seconds], count: int) -> dict[str, float]:
    ours, baseline = (count / statistics.median(seconds[name]) for name in (OURS, TO_CROP))
    return {
        "examples_per_s": ours,
        "times_one_thread": ours / speeds[OURS],
        "baseline_times_one_thread": baseline / speeds[TO_CROP],
        "ratio_to_crop": speed_ratio(seconds[OURS], seconds[TO_CROP]),
    }


def _step_ms(encoder: Encoder, count: int, rounds: int) -> dict[str, float]:
    """Milliseconds an example by step, medians over the rounds."""
    out_CPD = np.empty((_STAGE.crops_per_row, 729, 588), np.uint8)
    by_round: list[dict[str, float]] = []
    for _ in range(rounds):
        spent: dict[str, float] = dict.fromkeys(_STEPS, 0.0)
        for number in range(count):
            times = [time.perf_counter()]
            example = encoder(_draw(number))
            times.append(time.perf_counter())
            (slot,) = example.slots
            assert isinstance(slot, PictureSlot)
            data = slot.picture.encoded()
            times.append(time.perf_counter())
            pixels_HW3 = decode_image(data)
            times.append(time.perf_counter())
            render_crops(pixels_HW3, slot.tiling, out_CPD[: slot.tiling.n_crops])
            times.append(time.perf_counter())
            for step, start, end in zip(_STEPS, times, times[1:], strict=False):
                spent[step] += (end - start) * 1e3 / count
        by_round.append(spent)
    return {step: statistics.median(spent[step] for spent in by_round) for step in _STEPS}


def _describe(settings: dict[str, Any], figures: dict[str, Any]) -> list[str]:
    left_out = sum(figures["left_out"].values())
    reasons = ", ".join(f"{reason} {count}" for reason, count in figures["left_out"].items())
    ratios = {
        OURS: (figures["ratio_to_crop"], figures["ratio_to_canvas"]),
        OURS_IDS_KNOWN: (figures["ratio_to_crop_ids_known"], figures["ratio_to_canvas_ids_known"]),
    }
    speeds = [
        (name, f"{speed:.1f}", *(f"{ratio:.2f}" for ratio in ratios.get(name, ())))
        for name, speed in figures["examples_per_s"].items()
    ]
    threads = [
        (
            number,
            f"{found['examples_per_s']:.1f}",
            f"{found['times_one_thread']:.2f}",
            f"{found['baseline_times_one_thread']:.2f}",
            f"{found['ratio_to_crop']:.2f}",
        )
        for number, found in figures["threads"].items()
    ]
    steps = [(step, f"{spent:.2f}") for step, spent in figures["ms_per_example"].items()]
    return [
        f"{figures['pictures']} pictures of {settings['media']}, {figures['mean_megapixels']:.2f} megapixels and "
        f"{figures['mean_crops']:.1f} crops on average; {left_out} files left out{f' ({reasons})' if reasons else ''}; "
        f"tokenizer {settings['tokenizer']}",
        ruled_table(
            ("one thread", "examples/s", "ratio to crop", "ratio to canvas"),
            [(*row, *[""] * (4 - len(row))) for row in speeds],
        ),
        ruled_table(("threads", "examples/s", "x one thread", "baseline x one thread", "ratio to crop"), threads),
        ruled_table(("step", "ms an example"), steps),
    ]
