"""How full rows get, how long examples wait for it, what planning costs, and what is held decoded meanwhile.

Lengths are drawn by a seeded generator (see `packing_lengths`), so that no data is needed and no media can be opened:

  pretraining   a picture of log-normal size in at most 8 crops, text by the 60/25/5/5/5 mixture; rows of 4,096 x 24
  sft           15 % text, 45 % a picture, 15 % two to five, 25 % video of up to 128 frames; rows of 16,384 x 128
  long_context  the same with up to 384 frames; rows of 36,864 x 384

or, with --data-dir, they are those of a stage over that store, from its index of lengths where there is one.

On the same examples in the same run, chunk by chunk in turn: our packer; the published one, a two-dimensional knapsack
over 48 examples (Molmo2 §7.1, written from its description); and a first fit with 32 open rows. "of bound" is the
share of the lower bound max(sum of tokens / T, sum of crops / C) over the examples packed so far. "held" are the
pixels of the examples that wait, at most and on average: the published packer takes decoded examples (float32 in
pretraining, uint8 later), with a buffer in each worker process, and so would a first fit; ours takes lengths, and only
what is packed is decoded.

Beside it the cost of drawing an example from the mixture, of both together, and of the whole plan loop around a
look-up in place of encoding.
"""

import argparse
import bisect
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from grain_molmo.packing.mixture import Draw, MixedStream
from grain_molmo.packing.planner import RowPacker, Waiting
from grain_molmo.packing.rows import PackedRows, PlannedExample, PlanPhase
from grain_molmo.readable import ruled_table
from grain_molmo.stages import PRETRAINING_STAGE
from grain_molmo.tools.bench.packing_baselines import FirstFitPacker, KnapsackPacker, Row
from grain_molmo.tools.bench.packing_lengths import MIXTURES, Rows, rows_of, stored_examples
from grain_molmo.tools.bench.report import Report, positive
from grain_molmo.tools.index import add_run_arguments, encoder_of

OURS, KNAPSACK, FIRST_FIT = "ours", "published knapsack", "first fit, 32 rows"
_CHUNK = 1000
_ROWS_A_BATCH = 32

# Examples in the hub's sets (Molmo2 datasets §1A): what the shuffle has to permute.
_HUB_SIZES = {
    "pixmo_cap": 714_994,
    "pixmo_points": 2_376_222,
    "pixmo_count": 73_832,
    "pixmo_docs": 255_000,
    "pixmo_cap_qa": 271_714,
}


class Packer(Protocol):
    """Takes examples one at a time, gives rows."""

    def add(self, waiting: Waiting[None], /) -> Row | None:
        """Adds an example; a row when one is full."""
        ...


@dataclass
class Tally:
    """What a packer did with a stream.

    Attributes:
        rows, examples, tokens, crops: packed so far.
        longest_wait_examples: most examples that came after one before its row was done.
        longest_wait_rows: most rows that were done between an example's arrival and its own row.
        held_crops: crops of the examples that wait, after each example that comes.
        us_per_example: microseconds, by chunk.
    """

    rows: int = 0
    examples: int = 0
    tokens: int = 0
    crops: int = 0
    longest_wait_examples: int = 0
    longest_wait_rows: int = 0
    held_crops: list[int] = field(default_factory=list)
    us_per_example: list[float] = field(default_factory=list)
    _done_at: list[int] = field(default_factory=list, repr=False)  # for each row, the example that completed it
    _waiting_crops: int = field(default=0, repr=False)

    def feed(self, packer: Packer, chunk: Sequence[Waiting[None]]) -> None:
        """Packs a chunk, timed; what it came to is counted afterwards."""
        rows: list[tuple[int, Row]] = []
        started = time.perf_counter()
        for waiting in chunk:
            row = packer.add(waiting)
            if row is not None:
                rows.append((waiting.position, row))
        self.us_per_example.append((time.perf_counter() - started) / len(chunk) * 1e6)
        done = dict(rows)
        for waiting in chunk:
            self._waiting_crops += waiting.crops
            self.held_crops.append(self._waiting_crops)
            if row := done.get(waiting.position):
                self._count(waiting.position, row)

    def _count(self, position: int, row: Row) -> None:
        oldest = min(waiting.position for waiting in row)
        self.longest_wait_examples = max(self.longest_wait_examples, position - oldest)
        rows_since = self.rows - bisect.bisect_left(self._done_at, oldest)
        self.longest_wait_rows = max(self.longest_wait_rows, rows_since)
        self._done_at.append(position)
        self.rows += 1
        self.examples += len(row)
        self.tokens += sum(waiting.tokens for waiting in row)
        crops = sum(waiting.crops for waiting in row)
        self.crops += crops
        self._waiting_crops -= crops

    def figures(self, mixture: Rows, crop_bytes: int) -> dict[str, Any]:
        """The tally as JSON-able values, with fills as shares of the rows' budgets.

        Args:
            mixture: what was packed.
            crop_bytes: that each crop of an example that waits takes.
        """
        rows = max(1, self.rows)
        bound = max(self.tokens / mixture.max_tokens, self.crops / mixture.max_crops)
        return {
            "rows": self.rows,
            "examples": self.examples,
            "token_fill": self.tokens / (rows * mixture.max_tokens),
            "crop_fill": self.crops / (rows * mixture.max_crops),
            "of_bound": bound / rows,
            "us_per_example": statistics.median(self.us_per_example),
            "longest_wait_examples": self.longest_wait_examples,
            "longest_wait_rows": self.longest_wait_rows,
            "held_bytes_most": max(self.held_crops) * crop_bytes,
            "held_bytes_mean": statistics.mean(self.held_crops) * crop_bytes,
        }


EXAMPLES = (("drawn lengths", ""), ("those of a stage over a store", "--data-dir DATA --stage sft --examples 500"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's arguments."""
    parser.add_argument("--examples", type=positive, default=20_000, metavar="N", help="examples to pack (20000)")
    parser.add_argument("--mixture", choices=[*MIXTURES, "all"], default="all", help="kind of lengths (all)")
    data_dir = "pack a stage over this store instead; the arguments below say which"
    add_run_arguments(parser, data_dir=data_dir, tokenizer="bytes")


def run(args: argparse.Namespace) -> Report:
    """The benchmark's report."""
    settings: dict[str, Any] = {"examples": args.examples, "seed": args.seed}
    if args.data_dir is not None:
        return _run_stored(args, settings)
    names = list(MIXTURES) if args.mixture == "all" else [args.mixture]
    figures = {
        name: measure(MIXTURES[name], MIXTURES[name].examples(args.examples, args.seed), args.seed) for name in names
    }
    text = [paragraph for name in names for paragraph in _describe(name, MIXTURES[name], figures[name])]
    return Report("packing", {**settings, "mixtures": names}, figures, text)


def _run_stored(args: argparse.Namespace, settings: Mapping[str, Any]) -> Report:
    encoder = encoder_of(args)
    stage, rows = encoder.stage, rows_of(encoder.stage)
    lengths, num_known = stored_examples(encoder, args.data_dir, args.examples)
    figures = {stage.name: measure(rows, lengths, args.seed)}
    text = _describe(stage.name, rows, figures[stage.name])
    text += [f"{num_known:,} of {len(lengths):,} lengths came from the index, the others were encoded."]
    stored = {"data_dir": str(args.data_dir), "stage": stage.name, "recipe": args.recipe, "tokenizer": args.tokenizer}
    return Report("packing", {**settings, **stored}, figures, text)


def measure(mixture: Rows, lengths: Sequence[tuple[int, int]], seed: int) -> dict[str, Any]:
    """Figures by packer, and microseconds an example of the plan's parts."""
    count = len(lengths)
    packers: dict[str, Packer] = {
        OURS: RowPacker(mixture.max_tokens, mixture.max_crops, PRETRAINING_STAGE.waiting),
        KNAPSACK: KnapsackPacker(mixture.max_tokens, mixture.max_crops, mixture.image_weight),
        FIRST_FIT: FirstFitPacker(mixture.max_tokens, mixture.max_crops),
    }
    tallies = {name: Tally() for name in packers}
    stream, draw_us = _new_stream(seed), []
    for start in range(0, count, _CHUNK):
        ends = range(start, min(start + _CHUNK, count))
        chunk = [Waiting(position, *lengths[position], None) for position in ends]
        for name, packer in packers.items():
            tallies[name].feed(packer, chunk)
        draw_us.append(_draw_us(stream, ends))
    # Ours takes lengths: what waits in it is not decoded yet.
    results = {
        name: tally.figures(mixture, 0 if name == OURS else mixture.crop_bytes) for name, tally in tallies.items()
    }
    draw, pack = statistics.median(draw_us), results[OURS]["us_per_example"]
    plan = {"draw_us": draw, "pack_us": pack, "sum_us": draw + pack, "loop_us": _loop_us(mixture, lengths, seed)}
    return {
        "packers": results,
        "plan": plan,
        "rows_fill_ratio": results[OURS]["of_bound"] / max(1e-9, results[KNAPSACK]["of_bound"]),
        "speed_ratio": results[KNAPSACK]["us_per_example"] / pack,
        "at_least_as_full": results[OURS]["of_bound"] >= results[KNAPSACK]["of_bound"],
    }


def _new_stream(seed: int) -> MixedStream:
    return MixedStream(PRETRAINING_STAGE.weights, _HUB_SIZES, seed)


def _draw_us(stream: MixedStream, positions: range) -> float:
    started = time.perf_counter()
    for position in positions:
        stream[position]
    return (time.perf_counter() - started) / len(positions) * 1e6


def _loop_us(mixture: Rows, lengths: Sequence[tuple[int, int]], seed: int) -> float:
    """Microseconds an example of the whole plan, with a look-up in place of encoding."""
    planned_examples = iter([PlannedExample(Draw("", 0, 0), *pair, 0, 0) for pair in lengths])
    plan = iter(
        PackedRows(
            [PlanPhase(0, PRETRAINING_STAGE.weights)],
            _HUB_SIZES,
            seed,
            lambda draw: replace(next(planned_examples), draw=draw),
            batch_size=_ROWS_A_BATCH,
            max_tokens=mixture.max_tokens,
            max_crops=mixture.max_crops,
            waiting=PRETRAINING_STAGE.waiting,
        )
    )
    per_batch, planned = [], 0
    while True:
        started = time.perf_counter()
        try:
            next(plan)
        except StopIteration:  # the examples ran out in the middle of a batch
            break
        elapsed = time.perf_counter() - started
        position = plan.get_state()["position"]
        per_batch.append(elapsed / (position - planned) * 1e6)
        planned = position
    return statistics.median(per_batch) if per_batch else float("nan")


def _describe(name: str, mixture: Rows, figures: dict[str, Any]) -> list[str]:
    packers, plan = figures["packers"], figures["plan"]
    rows = [
        (
            packer,
            f"{found['rows']:,}",
            f"{found['token_fill']:.1%}",
            f"{found['crop_fill']:.1%}",
            f"{found['of_bound']:.2%}",
            f"{found['us_per_example']:.1f}",
            found["longest_wait_examples"],
            found["longest_wait_rows"],
            f"{found['held_bytes_most'] / 1e6:,.0f} MB",
            f"{found['held_bytes_mean'] / 1e6:,.0f} MB",
        )
        for packer, found in packers.items()
    ]
    header = (
        "packer",
        "rows",
        "tokens",
        "crops",
        "of bound",
        "µs/example",
        "longest wait, examples",
        "rows",
        "most held",
        "mean",
    )
    if not figures["packers"][KNAPSACK]["rows"]:
        return [f"{name}: too few examples for a row of the published knapsack; give more --examples"]
    verdict = "at least as full as" if figures["at_least_as_full"] else "LESS FULL than"
    return [
        f"{name}: rows of {mixture.max_tokens:,} tokens and {mixture.max_crops} crops\n\n{ruled_table(header, rows)}",
        f"Ours is {verdict} the published knapsack ({figures['rows_fill_ratio']:.4f} of its fill) and packs "
        f"{figures['speed_ratio']:.0f} times as fast.\n"
        f"Planning beyond encode: draw {plan['draw_us']:.1f} + pack {plan['pack_us']:.1f} = {plan['sum_us']:.1f} µs "
        f"an example; the whole loop {plan['loop_us']:.1f} µs. No media was opened: there is none.",
    ]
