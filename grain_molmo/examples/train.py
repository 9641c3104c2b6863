"""A trainer that can be stopped at any moment, in about the lines that it takes.

    python -m grain_molmo.examples.train --data-dir DATA --checkpoints RUN --steps 100

The same command goes on where the last checkpoint was taken, also with other devices or processes: model and loader
state lie in one Orbax checkpoint, so that they cannot fall apart.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax

try:
    import orbax.checkpoint as ocp
except ImportError as error:
    missing = "this example needs orbax: pip install 'grain-molmo[checkpoint]'"
    raise (SystemExit(missing) if __name__ == "__main__" else ImportError(missing)) from error

import grain_molmo as gm
from grain_molmo.errors import ConfigError
from grain_molmo.examples.model import ModelConfig
from grain_molmo.examples.step import State, abstract_state, init_state, make_train_step
from grain_molmo.examples.watch import Watch
from grain_molmo.loader_state import check_same_everywhere
from grain_molmo.stage_changes import with_mixture
from grain_molmo.stages import STAGES
from grain_molmo.tools.arguments import stage_name, weights_by_name
from grain_molmo.tools.parser import CommandParser, HelpFormatter
from grain_molmo.tools.program import run_main


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    return run_main(_arguments(), _run, argv)


def _run(args: argparse.Namespace) -> int:
    if args.mixture is not None:
        args.stage = with_mixture(STAGES[args.stage], args.mixture)
    join_processes(args)
    summary = train(args)
    if jax.process_index() == 0:
        print(json.dumps(summary))
    return 0


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Trains up to `args.steps` steps, the first of them by an earlier run; figures of this run.

    Args:
        args: as the command line has them; `stage` is a name or a Stage.
    """
    mesh = make_mesh(args.mesh)
    tokenizer = gm.load_tokenizer(args.tokenizer)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        special_base=tokenizer.special_base,
        width=args.width,
        n_context=mesh.shape.get("context", 1),
    )
    loader = gm.make_loader(
        args.stage,
        data_dir=args.data_dir,
        tokenizer=tokenizer,
        batch_size=args.batch_size,
        seq_len=args.seq_len,
        num_threads=args.threads,
        mesh=mesh,
    )
    with loader, open_checkpoints(args) as checkpoints:
        abstract = abstract_state(config, mesh)
        train_step = make_train_step(config, args.learning_rate, abstract)
        state, first = restore_or_init(checkpoints, loader, config, abstract)
        if first:
            more = "" if first < args.steps else "; that many are done, give more --steps"
            say(f"going on from step {first} of {args.steps}, the newest checkpoint in {args.checkpoints}{more}")
        watch = Watch(args.log, args.step_seconds)
        try:
            for step in range(first, args.steps):
                with watch.waiting():
                    batch = next(loader)
                state, metrics = train_step(state, batch)
                del batch  # so that its memory is free when the step is done, not when the next batch is there
                watch.step_done(step, metrics)
                is_last = step + 1 == args.steps
                if is_last or checkpoints.should_save(step + 1):
                    check_same_everywhere(loader.get_state())
                    say(watch.last_line(step, args.steps))
                data = ocp.args.JsonSave(loader.get_state())
                checkpoints.save(
                    step + 1,
                    args=ocp.args.Composite(model=ocp.args.StandardSave(state), data=data),
                    force=is_last,
                )
            checkpoints.wait_until_finished()
        except BaseException:  # an interrupt, too
            checkpoints.wait_until_finished()
            say(f"the same command goes on from step {checkpoints.latest_step() or 0}")
            raise
        return watch.summary() | {"token_fill": loader.stats()["token_fill"]}


def say(line: str) -> None:
    """Tells a person, once, whatever the number of processes."""
    if jax.process_index() == 0:
        print(line, file=sys.stderr, flush=True)


def join_processes(args: argparse.Namespace) -> None:
    """Joins several processes by hand; on a pod, jax.distributed.initialize() finds out by itself."""
    if args.coordinator:
        jax.distributed.initialize(args.coordinator, args.process_count, args.process_index)


def mesh_axes(text: str) -> dict[str, int]:
    """An argparse type: sizes by name, of text such as `data=2,fsdp=-1`."""
    axes = dict(re.findall(r"(data|fsdp|context)=(-1|[1-9][0-9]*)(?:,|$)", text))
    if (
        not axes
        or text != ",".join(f"{name}={size}" for name, size in axes.items())
        or [*axes.values()].count("-1") > 1
    ):
        raise argparse.ArgumentTypeError(f"{text!r} is not like data=2,fsdp=-1,context=2, with one -1 at most")
    return {name: int(size) for name, size in axes.items()}


def make_mesh(sizes: dict[str, int]) -> jax.sharding.Mesh:
    """The mesh of these axes; a size of -1 takes the devices that are left."""
    left = jax.device_count() // abs(math.prod(sizes.values()))
    shape = [left if size == -1 else size for size in sizes.values()]
    if not 0 < math.prod(shape) <= jax.device_count():
        axes = ",".join(f"{name}={size}" for name, size in sizes.items())
        raise ConfigError(f"mesh {axes}: there are {jax.device_count()} devices")
    return jax.make_mesh(shape, tuple(sizes), axis_types=(jax.sharding.AxisType.Auto,) * len(sizes))


def open_checkpoints(args: argparse.Namespace) -> ocp.CheckpointManager:
    """The run's checkpoints; one is written while training goes on, and counts when it is complete."""
    options = ocp.CheckpointManagerOptions(save_interval_steps=args.save_every, max_to_keep=2)
    return ocp.CheckpointManager(Path(args.checkpoints).absolute(), options=options)


def restore_or_init(
    checkpoints: ocp.CheckpointManager, loader: gm.Loader, config: ModelConfig, abstract: State
) -> tuple[State, int]:
    """The state and the number of the next step, from the newest checkpoint if there is one; sets the loader's."""
    step = checkpoints.latest_step()
    if step is None:
        placed = jax.tree.map(lambda array: array.sharding, abstract)
        return jax.jit(partial(init_state, config), out_shardings=placed)(), 0
    parts = ocp.args.Composite(model=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore())
    try:
        restored = checkpoints.restore(step, args=parts)
    except Exception as error:  # whatever its format trips over where it is damaged, or of another model
        error.add_note(
            f"{checkpoints.directory / str(step)} does not restore; without it, the one before is gone on from"
        )
        raise
    loader.set_state(restored["data"])
    return restored["model"], step


def _arguments() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m grain_molmo.examples.train", description=__doc__, formatter_class=HelpFormatter
    )
    add = parser.add_argument
    add("--data-dir", metavar="DIR", help="converted datasets; default $GRAIN_MOLMO_DATA")
    add("--checkpoints", metavar="DIR", required=True, help="where the run's checkpoints lie or will")
    add("--stage", type=stage_name, choices=list(STAGES), default="pretraining", help="(pretraining)")
    add("--mixture", type=weights_by_name, metavar="SETS", help='not the stage\'s: "pixmo_cap=0.7,my-set=0.3"')
    add("--tokenizer", default="bytes", help='a hub name, the path of a tokenizer.json, or "bytes"')
    add("--batch-size", type=int, default=4, metavar="ROWS", help="rows of the global batch (4)")
    add("--seq-len", type=int, default=2048, metavar="TOKENS", help="tokens a row (2048)")
    add(
        "--mesh",
        type=mesh_axes,
        default="data=-1",
        metavar="AXES",
        help='such as "data=2,fsdp=2,context=2"; -1 is what is left',
    )
    add("--threads", type=int, metavar="N", help="of the loader; default the cores")
    add("--steps", type=int, default=100, metavar="N", help="of the whole run (100)")
    add("--save-every", type=int, default=10, metavar="STEPS", help="steps between checkpoints (10)")
    add("--width", type=int, default=64, help="of the model (64)")
    add("--learning-rate", type=float, default=3e-3, metavar="RATE", help="of Adam (0.003)")
    add("--step-seconds", type=float, default=0.0, metavar="S", help="a step takes so long at least, as on a chip")
    add("--log", metavar="FILE", help="a line of JSON a step: step, loss, checksum of the batch, seconds waited")
    add_process_arguments(parser)
    return parser


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `join_processes` needs."""
    add = parser.add_argument
    add("--coordinator", metavar="HOST:PORT", help="of several processes, with the next two")
    add("--process-count", type=int, metavar="N", help="processes of the run")
    add("--process-index", type=int, metavar="I", help="which of them this is")


if __name__ == "__main__":
    sys.exit(main())
