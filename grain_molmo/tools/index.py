"""Makes an index of lengths beside the store, so that a run with the same arguments plans its rows without encoding.

Worth it where one process cannot encode a pod's global batch as fast as it is consumed; batches are the same with and
without. The lengths belong to a tokenizer, a seed and the stage's sizes; an index of others is not used. What is there
is compared with its checksum and kept, and the same command goes on where it was stopped.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from tqdm import tqdm

from grain_molmo.encode import Encoder
from grain_molmo.errors import ConfigError, GrainMolmoError, StoreBusyError
from grain_molmo.indexing import IndexedEpoch, build_index
from grain_molmo.lengths import LengthIndex
from grain_molmo.readable import human_bytes, table
from grain_molmo.recipes import RECIPES, find_stage
from grain_molmo.stage_changes import customized
from grain_molmo.stages import STAGES
from grain_molmo.store import canonical_name
from grain_molmo.text.tokenizer import DEFAULT_TOKENIZER, load_tokenizer
from grain_molmo.tools.arguments import stage_name, whole_number
from grain_molmo.tools.parser import complain

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_BUSY = 0, 1, 2, 3
EXIT_CODES = {3: "another process indexes the set", 130: "stopped by an interrupt", 143: "stopped by SIGTERM"}
EXAMPLES = (
    ("what a run of a stage looks up, for its tokenizer", "--stage pretraining --tokenizer bytes --data-dir DATA"),
    ("two epochs of two sets", "molmo2-cap molmo2-videopoint --stage sft --tokenizer bytes --epochs 2 --data-dir DATA"),
    (
        "for a run with other rows, on two cores",
        "--stage sft --tokenizer bytes --seq-len 8192 --max-frames 64 --n-procs 2 --data-dir DATA",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    add_run_arguments(parser)
    parser.add_argument("names", nargs="*", metavar="NAME", help="sets such as molmo2-cap; default: all of the stage")
    parser.add_argument("--epochs", type=whole_number(1), default=1, metavar="N", help="visits of each set (1)")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument(
        "--n-procs", type=whole_number(1), default=cores, metavar="N", help="processes that encode (one a core)"
    )
    parser.add_argument("--wait", action="store_true", help="until another process is done with a set")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def add_run_arguments(
    parser: argparse.ArgumentParser,
    *,
    data_dir: str = "the store's folder; default: $GRAIN_MOLMO_DATA",
    tokenizer: str = DEFAULT_TOKENIZER,
) -> None:
    """What decides the lengths of a run's examples, as for `make_loader`; a help text and a default may differ."""
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help=data_dir)
    parser.add_argument("--stage", type=stage_name, choices=list(STAGES), default="pretraining", help="(pretraining)")
    parser.add_argument("--recipe", choices=list(RECIPES), help="the published stage of that name")
    parser.add_argument(
        "--tokenizer", default=tokenizer, metavar="T", help=f'file, folder, hub name or "bytes" ({tokenizer})'
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the run (0)")
    parser.add_argument("--seq-len", type=whole_number(1), metavar="N", help="tokens a row; default: the stage's")
    parser.add_argument("--max-frames", type=whole_number(1), metavar="N", help="of a video; default: the stage's")


def encoder_of(args: argparse.Namespace, names: Sequence[str] = ()) -> Encoder:
    """The encoder of the run that `add_run_arguments` described. Raises ConfigError and StoreError as `make_loader`.

    Args:
        args: of the command line.
        names: only these datasets, so that the stage's others need not be there; default all of them.
    """
    from grain_molmo.stage_data import open_datasets  # here, so that --help needs no Grain

    stage = customized(find_stage(args.stage, args.recipe), seq_len=args.seq_len, max_frames=args.max_frames)
    if names:
        rules = {name: rule for name, rule in stage.rules.items() if name in names}
        stage = replace(stage, mixture=dict.fromkeys(names, 1), groups=(), phases=(), rules=rules)
    datasets, _ = open_datasets(stage, args.data_dir)
    return Encoder(datasets, stage, load_tokenizer(args.tokenizer), args.seed)


def run(args: argparse.Namespace) -> int:
    """Makes what is missing, prints what is there; the exit code."""
    from converters.signals import Stopped, stopping  # the command line alone reaches to the converters

    done: list[IndexedEpoch] = []
    error, hint, code = None, "", EXIT_DONE
    try:
        with stopping():
            done.extend(_build(args))
    except Stopped as stopped:
        error, code = f"stopped by {stopped}; what is done is kept: the same command goes on", stopped.exit_code
    except GrainMolmoError as problem:
        error, hint, code = str(problem), problem.hint, _exit_code(problem)
    if args.json:
        indexed = [asdict(one) for one in done]
        print(json.dumps({"ok": error is None, "indexed": indexed, **({"error": error} if error else {})}))
    elif done:
        print(_text(done))
    if error is not None:
        complain("grain-molmo index", error, hint)
    return code


def _exit_code(problem: GrainMolmoError) -> int:
    if isinstance(problem, ConfigError):
        return EXIT_USAGE
    return EXIT_BUSY if isinstance(problem, StoreBusyError) else EXIT_FAILED


def _build(args: argparse.Namespace) -> Iterator[IndexedEpoch]:
    """The epochs as they get done; then the whole index is compared with its checksums and with the encoder."""
    encoder = encoder_of(args, [canonical_name(name) for name in args.names])
    is_terminal = sys.stderr.isatty()
    total = args.epochs * sum(map(len, encoder.datasets.values()))
    with tqdm(total=total, desc="index", unit=" examples", disable=not is_terminal, leave=False) as bar:
        how = {"epochs": range(args.epochs), "n_procs": args.n_procs, "wait": args.wait, "progress": bar.update}
        for one in build_index(args.data_dir, encoder, **how):
            if not is_terminal:
                print(f"{one.dataset}, epoch {one.epoch}: {one.examples:,} examples done", file=sys.stderr)
            yield one
    LengthIndex.open(args.data_dir, encoder, strict=True)


def _text(done: Sequence[IndexedEpoch]) -> str:
    rows = [
        [
            one.dataset,
            str(one.epoch),
            f"{one.examples:,}",
            f"{one.unusable:,}",
            human_bytes(one.num_bytes),
            "was there" if one.seconds is None else f"{one.seconds:.1f} s",
        ]
        for one in done
    ]
    return table(["set", "epoch", "examples", "unusable", "size", "time"], rows, left=1)
