"""An evaluation in about the lines that it takes: every example once, what the model writes to it, scores, a file.

    python -m grain_molmo.examples.evaluate pixmo_points:validation --data-dir DATA --checkpoint RUN
    python -m grain_molmo.examples.evaluate --task dense_caption_eval --data-dir DATA --checkpoint RUN

RUN is a folder of `grain_molmo.examples.train`. The file, predictions.json, has what scorers elsewhere need.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

try:
    import orbax.checkpoint as ocp
except ImportError as error:
    missing = "this example needs orbax: pip install 'grain-molmo[checkpoint]'"
    raise (SystemExit(missing) if __name__ == "__main__" else ImportError(missing)) from error

import grain_molmo as gm
from grain_molmo.errors import ConfigError
from grain_molmo.evaluation import mean_scores, score_answer
from grain_molmo.examples.answer import make_answer
from grain_molmo.examples.model import ModelConfig, Params
from grain_molmo.examples.step import abstract_state, init_state
from grain_molmo.examples.train import add_process_arguments, join_processes, make_mesh, mesh_axes
from grain_molmo.predictions import Prediction, gather_predictions, plain_metadata, write_predictions
from grain_molmo.stage_data import open_named
from grain_molmo.stages import STAGES
from grain_molmo.stats import BatchInfo
from grain_molmo.tools.arguments import stage_name
from grain_molmo.tools.parser import CommandParser, HelpFormatter
from grain_molmo.tools.program import run_main


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    return run_main(_arguments(), _run, argv)


def _run(args: argparse.Namespace) -> int:
    if (args.dataset is None) == (args.task is None):
        raise ConfigError("name a dataset, or a --task")
    join_processes(args)
    summary = evaluate(args)
    if jax.process_index() == 0:
        print(json.dumps(summary))
    return 0


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the file of predictions; number of examples, how many could not be shown, and the mean scores."""
    mesh = make_mesh(args.mesh)
    tokenizer = gm.load_tokenizer(args.tokenizer)
    config = ModelConfig(vocab_size=tokenizer.vocab_size, special_base=tokenizer.special_base, width=args.width)
    params = load_params(args.checkpoint, config, mesh)
    answer = make_answer(config, args.max_new_tokens, mesh)
    stage = STAGES[args.stage]
    if args.high_res:
        stage = replace(stage, max_crops=stage.high_res_max_crops)
    name = args.dataset or args.task
    prompts = gm.EachMessage(open_named(name, None, args.data_dir))
    own: list[Prediction] = []
    with gm.make_eval_loader(
        prompts,
        stage=stage,
        tokenizer=tokenizer,
        batch_size=args.batch_size,
        seq_len=args.seq_len,
        num_threads=args.threads,
        mesh=mesh,
    ) as loader:
        for batch in tqdm(loader, name, unit=" batches", disable=None):
            tokens_BT = np.asarray(answer(params, batch))
            own += read_answers(tokens_BT, loader.batch_info, name, prompts.ids, tokenizer)
    predictions = gather_predictions(own)
    if jax.process_index() == 0:
        write_predictions(args.out, predictions)
    unusable = sum(bool(prediction.error) for prediction in predictions)
    scores = mean_scores(prediction.scores for prediction in predictions)
    return {"examples": len(predictions), "unusable": unusable, **scores}


def read_answers(
    tokens_BT: np.ndarray, info: BatchInfo | None, name: str, ids: Sequence[str], tokenizer: gm.Tokenizer
) -> Iterator[Prediction]:
    """What the model wrote in the rows of this process, with scores where it is known what is right.

    Args:
        tokens_BT: of the global batch, answers behind their prompts.
        info: of the batch.
        name: of the dataset.
        ids: of all its examples.
        tokenizer: that its tokens are of.
    """
    assert info is not None
    for row, examples in zip(info.row_numbers, info.rows, strict=True):
        for example in examples:  # one, or none in a row of padding
            number, example_id = info.step * len(tokens_BT) + row, ids[example.index]
            if example.blanked:
                yield Prediction(number, name, example_id, "", error=f"{example.blanked}: {example.detail}")
                continue
            start, stop = example.tokens
            prompt_n, answer_n = tokens_BT[row, start + 1 : stop], tokens_BT[row, stop:]  # without BOS
            ends = np.flatnonzero(answer_n == tokenizer.eos_id)
            text = tokenizer.decode(answer_n[: ends[0] if len(ends) else None])
            yield Prediction(
                number,
                name,
                example_id,
                text,
                prompt=tokenizer.decode(prompt_n[prompt_n < tokenizer.special_base]),
                metadata=plain_metadata(example.metadata),
                scores=score_answer(text, example.metadata),
            )


def load_params(folder: str | None, config: ModelConfig, mesh: jax.sharding.Mesh) -> Params:
    """The weights of a run's newest checkpoint, on the mesh; random ones without a folder."""
    abstract = abstract_state(config, mesh)
    if folder is None:
        print("no --checkpoint: the weights are random, and so are the answers", file=sys.stderr)
        placed = jax.tree.map(lambda array: array.sharding, abstract)
        return jax.jit(partial(init_state, config), out_shardings=placed)()["params"]
    with ocp.CheckpointManager(Path(folder).absolute()) as checkpoints:
        step = checkpoints.latest_step()
        if step is None:
            raise ConfigError(f"{folder}: no checkpoint of grain_molmo.examples.train in this folder")
        parts = ocp.args.Composite(model=ocp.args.StandardRestore(abstract))
        return checkpoints.restore(step, args=parts)["model"]["params"]


def _arguments() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m grain_molmo.examples.evaluate", description=__doc__, formatter_class=HelpFormatter
    )
    add = parser.add_argument
    add("dataset", nargs="?", metavar="NAME[:SPLIT]", help="such as pixmo_points:validation, pixmo_points_eval")
    add("--task", metavar="NAME", help="the same, as an option: dense_caption_eval")
    add("--data-dir", metavar="DIR", help="converted datasets; default $GRAIN_MOLMO_DATA")
    add("--checkpoint", metavar="RUN", help="folder of the training run; without, the weights are random")
    add("--out", metavar="FILE", default="predictions.json", help="what the model wrote (predictions.json)")
    add(
        "--stage",
        type=stage_name,
        default="pretraining",
        choices=list(STAGES),
        help="how prompts are put: as in this stage (pretraining)",
    )
    add("--high-res", action="store_true", help="cut pictures into as many crops as high-resolution visits")
    add("--tokenizer", default="bytes", help='of the run: a hub name, the path of a tokenizer.json, or "bytes"')
    add("--width", type=int, default=64, help="of the model (64)")
    add("--batch-size", type=int, default=4, metavar="ROWS", help="prompts at a time (4)")
    add("--seq-len", type=int, default=2048, metavar="TOKENS", help="the longest prompt (2048)")
    add("--max-new-tokens", type=int, default=32, metavar="N", help="the longest answer (32)")
    add("--mesh", type=mesh_axes, default="data=-1", metavar="AXES", help='such as "data=2,fsdp=2"')
    add("--threads", type=int, metavar="N", help="of the loader; default the cores")
    add_process_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
