"""One process of a pod: iterates loaders over a mesh of all processes' devices and says which bytes its devices got.

Run by `pods.py` as `python pod_process.py INPUT.json OUTPUT.json`.
"""

import hashlib
import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import grain_molmo as gm
from grain_molmo.stages import STAGES

ROWS = 8
_SMALL = {
    "pretraining": {"seq_len": 2560, "crops_per_row": 10},
    "sft": {"seq_len": 2048, "crops_per_row": 16, "max_frames": 12},
    "long_context": {"seq_len": 3072, "crops_per_row": 24, "max_frames": 24},
}
STAGE_NAMES = tuple(_SMALL)


@dataclass(frozen=True)
class Job:
    """Some steps of a stage.

    Attributes:
        stage: which, with short rows.
        axes: the mesh's sizes by axis.
        steps: how many.
        state: a loader's, to go on from.
        order: of the mesh's devices: as JAX has them, or shuffled with this seed.
    """

    stage: str
    axes: dict[str, int]
    steps: int
    state: dict[str, Any] | None = None
    order: int | None = None


@dataclass(frozen=True)
class Found:
    """What came of a job in one process.

    Attributes:
        blocks: hash of each row's part in each context shard: "step/array/row/start".
        sums: by step, each array of integers summed up over the whole global batch, on the devices.
        rows: that were rendered here.
        state: of the loader at the end.
        traces: how often the function that sums was traced.
    """

    blocks: dict[str, str]
    sums: list[dict[str, int]]
    rows: list[int]
    state: dict[str, Any]
    traces: int


def small_stage(name: str) -> gm.Stage:
    """A preset with rows so short that a pod fits on one machine."""
    return replace(STAGES[name], batch_size=ROWS, **_SMALL[name])


def run(job: Job, data_dir: str) -> Found:
    """The job, on all devices of all processes."""
    devices = np.array(jax.devices())
    if job.order is not None:
        devices = np.random.default_rng(job.order).permutation(devices)
    mesh = jax.sharding.Mesh(devices.reshape(*job.axes.values()), tuple(job.axes))
    traces = []

    @jax.jit
    def sums(batch):
        traces.append(1)
        return {key: jnp.sum(value, dtype=jnp.uint32) for key, value in batch.items() if value.dtype != jnp.float32}

    with gm.make_loader(
        small_stage(job.stage), data_dir=data_dir, tokenizer="bytes", mesh=mesh, num_threads=1
    ) as loader:
        if job.state is not None:
            loader.set_state(job.state)
        blocks, all_sums, rows = {}, [], []
        for _ in range(job.steps):
            batch = next(loader)
            all_sums.append({key: int(value) for key, value in sums(batch).items()})
            rows = list(loader.batch_info.row_numbers)
            for key, array in batch.items():
                for shard in array.addressable_shards:
                    first, start = (part.start or 0 for part in shard.index[:2])
                    for row, values in enumerate(np.asarray(shard.data), start=first):
                        name = f"{loader.batch_info.step}/{key}/{row}/{start}"
                        digest = hashlib.blake2b(np.ascontiguousarray(values), digest_size=16).hexdigest()
                        assert blocks.setdefault(name, digest) == digest, f"replicas of {name} differ"
        return Found(blocks, all_sums, rows, loader.get_state(), len(traces))


def main() -> None:
    """Joins the pod and does its jobs."""
    given = json.loads(Path(sys.argv[1]).read_text())
    jax.distributed.initialize(given["coordinator"], given["count"], given["process"])
    found = [asdict(run(Job(**job), given["data_dir"])) for job in given["jobs"]]
    Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
