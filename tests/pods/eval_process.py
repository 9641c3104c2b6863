"""One process of a pod that evaluates: goes through loaders over a mesh of all devices and says what it was given.

Run as `python eval_process.py INPUT.json OUTPUT.json`.
"""

import json
import sys
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import grain_molmo as gm
from grain_molmo.errors import ExampleError

N_EXAMPLES, ROWS = 1003, 8
STAGE = gm.Stage(mixture={"unused": 1}, seq_len=512, max_crops=1, crops_per_row=2, style_mode="no_style")
MISSING, BROKEN = (0, 500, 1002), (13, 700)
"""Examples that cannot be encoded, and such with a picture that cannot be decoded."""


class Questions(gm.Dataset):
    """Questions without an answer, some of them about a picture."""

    def __len__(self):
        return N_EXAMPLES

    def get(self, item, rng):
        if item == MISSING[0]:
            raise ExampleError("gone", "there is nothing here")
        if item in MISSING:
            return {"messages": [], "metadata": {"id": f"q{item}"}}
        example = {"messages": [{"role": "user", "content": f"What is {item}?"}], "metadata": {"id": f"q{item}"}}
        if item in BROKEN:
            return {**example, "image": np.zeros((30, 40, 3), np.float32)}  # pixels are uint8
        return {**example, "image": np.full((30, 40, 3), item % 256, np.uint8)} if item % 50 == 7 else example


@dataclass(frozen=True)
class Job:
    """A part of the evaluation.

    Attributes:
        state: of a loader, to go on from.
        steps: how many at most; by default to the end.
    """

    state: dict[str, Any] | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Given:
    """What a process was given.

    Attributes:
        examples: [number, id, valid, checksum of the tokens] of each row that was rendered here, in order.
        padding: number of rows without an example.
        num_valid: rows of each whole batch that are valid, summed up on the devices.
        states: of the loader, before each batch and at the end.
    """

    examples: list[list[Any]]
    padding: int
    num_valid: list[int]
    states: list[dict[str, Any]]


def run(job: Job) -> Given:
    """The job, on all devices of all processes."""
    mesh = jax.make_mesh((len(jax.devices("cpu")),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    count = jax.jit(lambda valid: jnp.sum(valid))
    with gm.make_eval_loader(
        Questions(), stage=STAGE, tokenizer="bytes", batch_size=ROWS, mesh=mesh, num_threads=1
    ) as loader:
        if job.state is not None:
            loader.set_state(job.state)
        examples, num_valid, padding, states = [], [], 0, [loader.get_state()]
        for batch in loader:
            num_valid.append(int(count(batch["valid"])))
            info = loader.batch_info
            tokens, valid = (_rows(batch[key]) for key in ("input_tokens", "valid"))
            assert [*tokens] == [*valid] == [*info.row_numbers]
            for row, infos in zip(info.row_numbers, info.rows, strict=True):
                padding += not infos
                assert bool(infos) or not valid[row]
                number = info.step * ROWS + row
                examples += [[number, one.id, bool(valid[row]), zlib.crc32(tokens[row])] for one in infos]
            states.append(loader.get_state())
            if len(num_valid) == job.steps:
                break
        return Given(examples, padding, num_valid, states)


def _rows(array: jax.Array) -> dict[int, Any]:
    """The rows that the devices of this process have, by number."""
    rows = {}
    for shard in array.addressable_shards:
        first = shard.index[0].start or 0
        rows |= dict(enumerate(np.asarray(shard.data), start=first))
    return dict(sorted(rows.items()))


def main() -> None:
    """Joins the pod and does its jobs."""
    given = json.loads(Path(sys.argv[1]).read_text())
    jax.distributed.initialize(given["coordinator"], given["count"], given["process"])
    Path(sys.argv[2]).write_text(json.dumps([asdict(run(Job(**job))) for job in given["jobs"]]))


if __name__ == "__main__":
    main()
