"""A package that knows nothing of a run, but offers a dataset, and is trained on with sets of this library."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import grain_molmo as gm
from grain_molmo.examples.step import checksum

pytestmark = pytest.mark.xdist_group("loader")  # they share the converted sample

ROOT = Path(__file__).parents[2]

MODULE = '''
"""Bird pictures, painted as they are asked for."""

import numpy as np
import grain_molmo as gm


class Birds(gm.Dataset):
    def __init__(self, split="train", wings=2):
        self.split, self.wings = split, wings

    def __len__(self):
        return 10

    def get(self, item, rng):
        return {
            "image": rng.randint(0, 256, (60 + item, 80, 3), dtype=np.uint8),
            "messages": ["What is this?", f"Bird {item} of {self.split} with {self.wings} wings."],
            "metadata": {"id": f"bird-{item}", "source": "acme"},
        }
'''

STAGE = {
    "mixture": [
        {"name": "acme-birds", "weight": 0.5, "args": {"wings": 4}},
        {"name": "pixmo_cap", "weight": 0.5},
    ],
    "max_crops": 2,
    "crops_per_row": 6,
}
SIZES = {"batch_size": 2, "seq_len": 1024}

TRAIN = """
import argparse, json, sys
import grain_molmo as gm
from grain_molmo.examples.train import train

options = json.loads(sys.argv[1])
stage = gm.Stage(**options.pop("stage"))
assert "acme_birds" not in sys.modules
train(argparse.Namespace(stage=stage, **options))
print(sys.modules["acme_birds"].__file__)
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with the package as an installer leaves it: the module, and what its pyproject.toml says of it."""
    info = tmp_path / "site" / "acme_birds-0.3.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "site" / "acme_birds.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-birds\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text("[grain_molmo.datasets]\nacme-birds = acme_birds:Birds\n")
    return tmp_path / "site"


def run(site: Path, *args: object) -> str:
    paths = os.pathsep.join([str(site), str(ROOT)])
    env = {**os.environ, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    done = subprocess.run([sys.executable, *map(str, args)], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_package_s_dataset_trains_beside_one_of_the_library_and_goes_on_after_a_stop(
    site: Path, sample_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log = tmp_path / "log.jsonl"
    options = {"stage": STAGE, "data_dir": str(sample_dir), "checkpoints": str(tmp_path / "run"), "log": str(log)}
    model = {"tokenizer": "bytes", "width": 16, "learning_rate": 1e-3, "mesh": {"data": 1}}
    pace = {"threads": 2, "save_every": 2, "step_seconds": 0.0}
    out = run(site, "-c", TRAIN, json.dumps({**options, **SIZES, **model, **pace, "steps": 2}))
    assert Path(out.strip()).parent == site
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in steps] == [0, 1]
    state = json.loads((tmp_path / "run" / "2" / "data" / "metadata").read_text())  # of the checkpoint

    monkeypatch.syspath_prepend(site)
    settings: dict[str, Any] = {"data_dir": sample_dir, "tokenizer": "bytes", "num_threads": 1, **SIZES}
    stage = gm.Stage(**STAGE)  # pyright: ignore[reportArgumentType]
    with gm.make_loader(stage, **settings) as straight, gm.make_loader(stage, **settings) as resumed:
        assert [line["batch"] for line in steps] == [f"{int(checksum(next(straight))):08x}" for _ in steps]
        resumed.set_state(state)
        for _ in range(2):
            assert checksum(next(straight)) == checksum(next(resumed))
        assert set(straight.stats()["datasets"]) == {"acme_birds", "pixmo_cap"}


def test_its_dataset_is_listed_and_made_by_name(site: Path):
    code = (
        "import sys, json, grain_molmo as gm; known = 'acme_birds' in gm.dataset_names() and 'acme_birds' "
        "not in sys.modules; ds = gm.get_dataset('acme_birds', split='test', wings=3); "
        "print(json.dumps([known, ds[7]['messages'][1]]))"
    )
    assert json.loads(run(site, "-c", code)) == [True, "Bird 7 of test with 3 wings."]
