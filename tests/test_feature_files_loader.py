"""Files of features through the loader: mixed, sharded over devices, resumed, and blank where a row cannot be read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from feature_files import features_ND

import grain_molmo as gm
from converters.to_arrayrecord import main as convert

STAGE = gm.Stage(kind="features", mixture={"file": 3, "stored": 1}, batch_size=8)


@pytest.fixture
def sets(tmp_path: Path) -> dict[str, gm.Dataset]:
    """A file that is read as it is, with a row that is not finite, and one that was converted."""
    features = features_ND(40)
    features[5, 2] = np.nan
    np.savez(tmp_path / "file.npz", features=features, labels=np.arange(40) % 3)
    np.savez(tmp_path / "other.npz", features=features_ND(20, seed=1).astype(np.float16), labels=np.arange(20))
    source = str(tmp_path / "other.npz")
    assert convert(["stored", "--source", source, "--rows-per-shard", "7", "--data-dir", str(tmp_path)]) == 0
    return {"file": gm.FeatureDataset(tmp_path / "file.npz"), "stored": gm.get_dataset("stored", data_dir=tmp_path)}


@pytest.fixture
def open_loader(sets: dict[str, gm.Dataset]) -> Iterator[Any]:
    loaders: list[gm.Loader] = []

    def make(**settings: Any) -> gm.Loader:
        loaders.append(gm.make_loader(STAGE, datasets=sets, num_threads=2, **settings))
        return loaders[-1]

    yield make
    for loader in loaders:
        loader.close()


def test_rows_of_files_and_of_the_store_are_mixed_and_a_bad_one_stays_blank(sets: Any, open_loader: Any):
    loader = open_loader()
    blank = 0
    for _ in range(12):
        batch = next(loader)
        for row, (one,) in enumerate(loader.batch_info.rows):
            if (one.dataset, one.index) == ("file", 5):
                blank += 1
                assert one.blanked == "not_finite"
                assert batch["loss_weights"][row] == 0
                assert not batch["features"][row].any()
                continue
            example = sets[one.dataset][one.index]
            np.testing.assert_array_equal(batch["features"][row], example["features"])
            assert batch["labels"][row] == example["label"]
            assert batch["loss_weights"][row] == 1
    assert blank > 0
    assert loader.stats()["skipped_media"] == {"not_finite": blank}
    assert loader.stats()["datasets"]["file"]["examples"] == pytest.approx(72, abs=6)


def test_batches_are_sharded_over_a_mesh_of_eight_devices(open_loader: Any):
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    plain, sharded = open_loader(), open_loader(mesh=mesh)
    for _ in range(3):
        batch, on_devices = next(plain), next(sharded)
        for key, value in batch.items():
            array = on_devices[key]
            assert isinstance(array, jax.Array)
            assert len(array.addressable_shards) == 8
            assert {shard.data.shape[0] for shard in array.addressable_shards} == {1}
            np.testing.assert_array_equal(np.asarray(array), value)


def test_a_probe_learns_from_sharded_batches(open_loader: Any):
    loader = open_loader(mesh=jax.sharding.Mesh(np.array(jax.devices()), ("data",)))

    @jax.jit
    def loss(weights: Any, batch: Any) -> Any:
        scores = jax.nn.log_softmax(batch["features"] @ weights)
        chosen = jax.numpy.take_along_axis(scores, batch["labels"][:, None], 1)[:, 0]
        return -(chosen * batch["loss_weights"]).sum() / batch["loss_weights"].sum()

    weights = jax.numpy.zeros((6, 20))
    batch = next(loader)
    before = float(loss(weights, batch))
    for _ in range(20):
        # One at a time: sums over the devices of a CPU that are under way together may wait for each other's threads.
        weights = jax.block_until_ready(weights - 0.5 * jax.block_until_ready(jax.grad(loss)(weights, batch)))
    assert loss(weights, batch) < before


def test_a_run_that_was_stopped_goes_on_with_the_same_batches(open_loader: Any):
    loader = open_loader()
    for _ in range(3):
        next(loader)
    state = json.loads(json.dumps(loader.get_state()))
    rest = [next(loader) for _ in range(8)]
    again = open_loader()
    again.set_state(state)
    for batch in rest:
        for key, value in next(again).items():
            np.testing.assert_array_equal(value, batch[key])


def test_other_features_under_the_same_name_are_other_data(tmp_path: Path, sets: Any, open_loader: Any):
    state = open_loader().get_state()
    np.savez(tmp_path / "new.npz", features=features_ND(40, seed=9), labels=np.arange(40) % 3)
    sets["file"] = gm.FeatureDataset(tmp_path / "new.npz")
    with pytest.raises(gm.errors.ConfigError, match="data"):
        open_loader().set_state(state)


def test_an_evaluation_sees_every_row_once(sets: Any):
    loader = gm.make_eval_loader(sets["stored"], kind="features", batch_size=8)
    batches = list(loader)
    assert [batch["valid"].sum() for batch in batches] == [8, 8, 4]
    labels = np.concatenate([batch["labels"][batch["valid"]] for batch in batches])
    assert labels.tolist() == list(range(20))
