"""One process of a pod that draws prompts about numbers and pictures and filters them; run by `pods.launch_script`."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

import grain_molmo as gm
from grain_molmo.curriculum import Curriculum
from grain_molmo.datasets.prompts import MathCodePrompts
from grain_molmo.sequence_sample import prompt_sample

ROWS = 8
STAGE = gm.Stage(
    mixture={"sums": 0.6, "pixmo_count": 0.4}, kind="prompts", seq_len=1024, batch_size=ROWS, crops_per_row=6,
    max_crops=2, waiting=12,
)  # fmt: skip


def sums() -> list[dict[str, Any]]:
    """Lines as of a file of prompts."""
    return [{"qid": f"q{n}", "prompt": f"{n} + {n} = ?", "solutions": [str(2 * n)]} for n in range(80)]


def run(data_dir: str, steps: int, filters: dict[str, dict[str, Any]], state: dict[str, Any] | None) -> dict[str, Any]:
    """Some steps on all devices of all processes.

    Args:
        data_dir: of the pictures.
        steps: the step to stop before.
        filters: scores by the step after whose batch they are given, `{"scores": ..., "step": ...}`.
        state: to go on from.

    Returns:
        `rows`: hashes of this process's rows by "step/array/row"; `ids` of its prompts by "step/row"; `active`: indices
        by step, of each dataset; `state` at the end.
    """
    mesh = jax.sharding.Mesh(np.array(jax.devices("cpu")), ("data",))
    rows: dict[str, str] = {}
    ids: dict[str, list[str]] = {}
    active: dict[str, list[list[int]]] = {}
    with gm.make_loader(
        STAGE, data_dir=data_dir, tokenizer="bytes", mesh=mesh, num_threads=1,
        datasets={"sums": MathCodePrompts(dataset_builder=sums)},
        curriculum=Curriculum(filter_threshold=0.5, max_filter_percentage=0.6),
    ) as loader:  # fmt: skip
        if state is not None:
            loader.set_state(state)
        done = 0 if state is None else state["plan"]["step"]
        for step in range(done, steps):
            batch = next(loader)
            for key in ("input_tokens", "images", "token_pooling"):
                for shard in batch[key].addressable_shards:
                    digest = hashlib.blake2b(np.ascontiguousarray(shard.data), digest_size=16).hexdigest()
                    rows[f"{step}/{key}/{shard.index[0].start}"] = digest
            sample = prompt_sample(batch, loader.batch_info)
            for name, metadata in zip(sample.ids, sample.metadata, strict=True):
                ids.setdefault(f"{step}/{metadata['row']}", []).append(name)
            if given := filters.get(str(step)):
                loader.filter(given["scores"], step=given["step"])
            active[str(step)] = [loader.active_indices(name).tolist() for name in sorted(loader.weights)]
        return {"rows": rows, "ids": ids, "active": active, "state": loader.get_state()}


def main() -> None:
    """Joins the pod and does its task."""
    given = json.loads(Path(sys.argv[1]).read_text())
    jax.distributed.initialize(given["coordinator"], given["count"], given["process"])
    found = run(given["data_dir"], given["steps"], given["filters"], given["state"])
    Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
