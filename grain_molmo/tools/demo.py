"""The whole way in half a minute, without network: sample rows, converted, packed into batches, and a picture.

Writes generated rows of the PixMo and Molmo2 sets, converts them with the program behind `grain-molmo convert`, loads
packed batches of pretraining and of fine-tuning with video from the result, and draws what the model sees in a row of
each. All files stay in the folder; run again, it keeps what was converted.
"""

import argparse
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grain_molmo.errors import StoreError
from grain_molmo.readable import table
from grain_molmo.render import Batch, ExampleInfo
from grain_molmo.special_tokens import LOW_RES_IM_START
from grain_molmo.stages import PRETRAINING_STAGE, SFT_STAGE, Stage
from grain_molmo.text.tokenizer import Tokenizer, load_tokenizer
from grain_molmo.tools.arguments import whole_number
from grain_molmo.tools.colour import paint
from grain_molmo.tools.store_report import SetReport, report_store
from grain_molmo.view.row_picture import row_picture
from grain_molmo.view.row_view import Row, take_row

DEFAULT_OUT = "grain-molmo-demo"
SAMPLE_ROWS, FEWEST_ROWS = 48, 16
NUM_BATCHES = 8
EXIT_CODES = {130: "stopped by an interrupt", 143: "stopped by SIGTERM"}

# A byte is a token to the tokenizer that needs no file, so text takes about four times as many as with a real one: only
# longer rows hold as many examples as the stage's.
PICTURES_STAGE = replace(PRETRAINING_STAGE, seq_len=8192, crops_per_row=32, batch_size=4)
VIDEO_STAGE = replace(SFT_STAGE, batch_size=2)
DEMO_STAGES: Mapping[str, Stage] = {"packed-row.png": PICTURES_STAGE, "packed-video-row.png": VIDEO_STAGE}
"""By the name of the picture that is drawn of one of its rows."""


EXAMPLES = (
    (f"into ./{DEFAULT_OUT}", ""),
    ("somewhere else, with fewer rows", f"--out first-look --rows {FEWEST_ROWS}"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("--out", metavar="DIR", default=DEFAULT_OUT, help=f"where to write (./{DEFAULT_OUT})")
    rows_help = f"rows of each set ({SAMPLE_ROWS}; {FEWEST_ROWS} or more)"
    parser.add_argument("--rows", type=whole_number(FEWEST_ROWS), default=SAMPLE_ROWS, metavar="N", help=rows_help)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(args: argparse.Namespace) -> int:
    """Runs the demo; the exit code."""
    started = time.perf_counter()
    out = Path(args.out).expanduser()
    data_dir = out / "data"

    def say(text: str) -> None:
        if not args.json:
            print(text, flush=True)

    command = f"grain-molmo convert all --sample --rows {args.rows} --data-dir {data_dir}"
    say(f"{_heading(1, 'Sample rows, converted')}: {command}")
    sets = convert_sample(data_dir, args.rows)
    say(_sets_text(sets))
    loaded = {}
    for number, (name, stage) in enumerate(DEMO_STAGES.items(), start=2):
        rows = f"{stage.batch_size} rows a batch of {stage.seq_len:,} tokens"
        say(f"\n{_heading(number, f'Stage {stage.name}')}: {rows}")
        loaded[stage.name] = one = load_batches(data_dir, stage)
        say(_loaded_text(one))
        title = f"One packed row of stage {stage.name}, sample data, as the model sees it"
        row_picture(one.row, one.infos, one.tokenizer, title).save(out / name)
        say(f"   what the model sees in one row: {out / name}")
    seconds = time.perf_counter() - started
    say(f"\nDone in {seconds:.1f} s. Next:\n{_next_steps(data_dir)}")
    if args.json:
        print(json.dumps({"data_dir": str(data_dir), **_report(out, sets, loaded, seconds)}))
    return 0


def _heading(number: int, text: str) -> str:
    return paint(f"{number}. {text}", "heading")


def convert_sample(data_dir: Path, rows: int) -> Sequence[SetReport]:
    """Converts sample rows of all sets into the folder, or keeps what is there; what it holds then.

    Raises StoreError if a set could not be converted.
    """
    from converters.to_arrayrecord import main as convert  # the command line alone reaches to the converters

    logging.disable(logging.INFO)  # its summary is told here in another form; warnings and errors still show
    try:
        code = convert(
            ["all", "--sample", "--rows", str(rows), "--data-dir", str(data_dir)], prog="grain-molmo convert"
        )
    finally:
        logging.disable(logging.NOTSET)
    if code in EXIT_CODES:  # it was stopped, and has said so
        raise SystemExit(code)
    if code:
        raise StoreError(f"the sample rows could not be converted into {data_dir} (see above); try another --out")
    return report_store(data_dir).sets


def _sets_text(sets: Sequence[SetReport]) -> str:
    rows = [
        [
            f" {one.name}",
            ", ".join(f"{part} {count:,}" for part, count in one.examples.items()),
            ", ".join(f"{count:,} {reason}" for reason, count in one.rejected.items()) or "none",
        ]
        for one in sets
    ]
    return table([" set", "examples", "rows rejected (the sample has bad ones)"], rows, left=3)


@dataclass(frozen=True, eq=False)
class Loaded:
    """What a few batches came to.

    Attributes:
        weights: the mixture.
        stats: the loader's.
        num_images: pictures that were decoded, frames not counted.
        num_threads: that decoded them.
        seconds: from asking for the first batch to having the last.
        arrays: shape and dtype of each array of a batch.
        row: the arrays of the row to show.
        infos: its examples.
        tokenizer: that its tokens are of.
    """

    weights: Mapping[str, float]
    stats: Mapping[str, Any]
    num_images: int
    num_threads: int
    seconds: float
    arrays: Mapping[str, tuple[tuple[int, ...], str]]
    row: Row
    infos: Sequence[ExampleInfo]
    tokenizer: Tokenizer


def load_batches(data_dir: Path, stage: Stage, num_batches: int = NUM_BATCHES) -> Loaded:
    """Loads batches of a stage and keeps the row that shows most different sets."""
    from grain_molmo.loader import make_loader  # here, so that --help needs no JAX

    tokenizer = load_tokenizer("bytes")
    num_threads = min(16, os.cpu_count() or 1)
    loader = make_loader(stage, data_dir=data_dir, tokenizer=tokenizer, num_threads=num_threads)
    batch: Batch = {}
    best_row: Row = {}
    best_infos: Sequence[ExampleInfo] = ()
    num_images = 0
    started = time.perf_counter()
    for _ in range(num_batches):
        batch = next(loader)
        num_images += int((batch["input_tokens"] == tokenizer.special_id(LOW_RES_IM_START)).sum())
        for row, infos in enumerate(loader.batch_info.rows if loader.batch_info else ()):
            if _num_sets(infos) > _num_sets(best_infos):
                best_row, best_infos = take_row(batch, row), infos
    seconds = time.perf_counter() - started
    loader.close()
    arrays = {key: (array.shape, str(array.dtype)) for key, array in batch.items()}
    return Loaded(
        loader.weights, loader.stats(), num_images, num_threads, seconds, arrays, best_row, best_infos, tokenizer
    )


def _num_sets(infos: Sequence[ExampleInfo]) -> int:
    return len({info.dataset for info in infos})


def _loaded_text(loaded: Loaded) -> str:
    stats = loaded.stats
    mixture = [
        [f" {name}", f"{weight:.0%}", f"{stats['datasets'].get(name, {}).get('examples', 0):,}"]
        for name, weight in loaded.weights.items()
    ]
    arrays = [[f" {key}", dtype, str(list(shape))] for key, (shape, dtype) in loaded.arrays.items()]
    skipped = sum(stats["skipped_examples"].values()) + sum(stats["skipped_media"].values())
    rates = ", ".join(f"{rate:,.0f} {name.removesuffix('_per_s')}/s" for name, rate in _rates(loaded).items())
    return "\n".join(
        [
            table([" mixture", "weight", "examples drawn"], mixture, left=1),
            "",
            table([" a batch", "dtype", "shape"], arrays, left=3),
            "",
            f"   {stats['batches']} batches hold {stats['examples']} examples; {stats['token_fill']:.1%} of the tokens "
            f"and {stats['crop_fill']:.1%} of the crops are in use; {skipped} skipped",
            *_frames_text(stats),
            f"   {rates} on {loaded.num_threads} threads (small sample pictures, a short run)",
        ]
    )


def _frames_text(stats: Mapping[str, Any]) -> list[str]:
    if not stats["frames"]:
        return []
    sources = " and ".join(f"{count:,} frames {source}" for source, count in sorted(stats["frames"].items()))
    return [f"   videos: {sources} (prepared at conversion, or from the original file)"]


def _rates(loaded: Loaded) -> dict[str, float]:
    counts = {"examples": loaded.stats["examples"], "images": loaded.num_images, "rows": loaded.stats["rows"]}
    counts["frames"] = sum(loaded.stats["frames"].values())
    return {f"{name}_per_s": round(count / loaded.seconds, 1) for name, count in counts.items() if count}


def _next_steps(data_dir: Path) -> str:
    look = f"grain-molmo visualize pixmo-points molmo2-videotrack --data-dir {data_dir}"
    there = f"grain-molmo inspect pixmo-points --data-dir {data_dir}"
    real = "grain-molmo convert pixmo-cap --max-rows 1000 --data-dir DATA"
    return f"""\
   look around    {paint(look, "hint")}
   what is there  {paint(there, "hint")}
   real data      {paint(real, "hint")}
   in Python      grain_molmo.make_loader("pretraining", data_dir="DATA", tokenizer="Qwen/Qwen3-4B", batch_size=8)
   how fast here  {paint("grain-molmo bench loader", "hint")}    (the README explains all of it)"""


def _report(out: Path, sets: Sequence[SetReport], loaded: Mapping[str, Loaded], seconds: float) -> dict[str, Any]:
    return {
        "datasets": {one.name: {"examples": one.examples, "rejected": one.rejected} for one in sets},
        "stages": {
            stage.name: {
                "picture": str(out / picture),
                "mixture": dict(loaded[stage.name].weights),
                "batch": {
                    key: {"shape": list(shape), "dtype": dtype}
                    for key, (shape, dtype) in loaded[stage.name].arrays.items()
                },
                "stats": loaded[stage.name].stats,
                "throughput": {**_rates(loaded[stage.name]), "threads": loaded[stage.name].num_threads},
            }
            for picture, stage in DEMO_STAGES.items()
        },
        "seconds": round(seconds, 2),
    }
