"""A little of what trains by reinforcement: prompts, a model that learns some of them, rewards, a curriculum.

Run by a test that kills it: `python rl_loop.py FOLDER STEPS` goes on from the checkpoint in the folder, and prints a
line for each step.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grain_molmo as gm
from grain_molmo.curriculum import Curriculum
from grain_molmo.datasets.prompts import MathCodePrompts
from grain_molmo.rng import stable_hash
from grain_molmo.sequence_sample import prompt_sample

FILTER_EVERY = 4
_LEARNS_IN = 3  # visits until an easy prompt is answered right each time


def prompts(count: int = 60) -> list[dict[str, Any]]:
    """Sums, by lines as of a file."""
    return [
        {"qid": f"q{n}", "prompt": f"What is {n} and {n * n}?", "solutions": [str(n + n * n)]} for n in range(count)
    ]


def prompt_loader(count: int = 60, **settings: Any) -> gm.Loader:
    """A loader of these prompts alone, two rows a batch; closed by who asked for it."""
    datasets = {"rl_prompts": MathCodePrompts(dataset_builder=lambda: prompts(count))}
    stage = gm.Stage(mixture={"rl_prompts": 1}, kind="prompts", seq_len=256, batch_size=2, crops_per_row=0, waiting=8)
    curriculum = Curriculum(filter_threshold=0.5, max_filter_percentage=0.25)
    given = {"tokenizer": "bytes", "num_threads": 1, "datasets": datasets, "curriculum": curriculum}
    return gm.make_loader(stage, **{**given, **settings})


def answer(prompt_id: str, visits: int, metadata: dict[str, Any]) -> str:
    """What the model says: of every third prompt the wrong thing, of others the right one once it was there often."""
    easy = stable_hash(prompt_id) % 3 != 0
    return metadata["solutions"][0] if easy and visits >= _LEARNS_IN else "no idea"


def train(loader: gm.Loader, steps: int, scores: dict[str, list[float]]) -> Iterator[tuple[list[str], int]]:
    """The ids of each batch, and how many examples are active after it. Rewards are added to the scores."""
    tokenizer = gm.load_tokenizer("bytes")
    for batch in loader:
        info = loader.batch_info
        assert info is not None
        if info.step >= steps:
            return
        sample = prompt_sample(batch, info)
        for one in sample.unpack():
            (qid,), (metadata,) = one.ids, one.metadata
            assert f"What is {qid[1:]} and" in tokenizer.decode(one.data["packed_prompts"])
            rewards = scores.setdefault(qid, [])
            rewards.append(float(answer(qid, len(rewards), metadata) in metadata["solutions"]))
        if info.step % FILTER_EVERY == FILTER_EVERY - 1:
            loader.filter({qid: sum(rewards) / len(rewards) for qid, rewards in scores.items()})
        yield list(sample.ids), len(loader.active_indices("rl_prompts"))


def main() -> None:
    """Trains, with a checkpoint after each step."""
    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    checkpoint, scores = folder / "checkpoint.json", {}
    with prompt_loader() as loader:
        if checkpoint.exists():
            saved = json.loads(checkpoint.read_text())
            loader.set_state(saved["loader"])
            scores = saved["scores"]
        for ids, active in train(loader, steps, scores):
            (folder / "new.json").write_text(json.dumps({"loader": loader.get_state(), "scores": scores}))
            os.replace(folder / "new.json", checkpoint)
            print(json.dumps([loader.batch_info.step, ids, active]), flush=True)


if __name__ == "__main__":
    main()
