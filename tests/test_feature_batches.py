"""Labelled features through the loader: mixing, faults and places in the run are those of any other stage."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import grain_molmo as gm
from grain_molmo.errors import ConfigError, ExampleError, StoreError


class Labelled(gm.Dataset):
    """Features that say which example they are of."""

    def __init__(self, size=50, first=0, shape=(8,), **faulty):
        self.size, self.first, self.shape, self.faulty = size, first, shape, faulty

    def __len__(self):
        return self.size

    def get(self, item, rng):
        if item in self.faulty.get("raises", ()):
            raise gm.ExampleError("torn", "half of it is missing")
        features = np.full(self.shape, self.first + item, np.float16)
        if item in self.faulty.get("nan", ()):
            features.flat[0] = np.nan
        label = "cat" if item in self.faulty.get("named", ()) else item % 3
        return {"features": features, "label": label, "metadata": {"id": f"x{self.first + item}"}}


STAGE = gm.Stage(kind="features", mixture={"low": 3, "high": 1}, batch_size=8)


def loader_of(low=None, high=None, **settings):
    datasets = {"low": low or Labelled(), "high": high or Labelled(20, 1000)}
    return gm.make_loader(STAGE, datasets=datasets, num_threads=2, **settings)


def test_batches_hold_features_and_their_labels_one_example_a_row():
    loader = loader_of()
    for _ in range(6):
        batch = next(loader)
        assert {key: (value.shape, value.dtype) for key, value in batch.items()} == {
            "features": ((8, 8), np.float32),
            "labels": ((8,), np.int32),
            "loss_weights": ((8,), np.float32),
        }
        for row, (one,) in enumerate(loader.batch_info.rows):
            assert one.id == f"x{batch['features'][row, 0]:.0f}"
            assert batch["labels"][row] == one.index % 3
            assert one.metadata == {"id": one.id}


def test_epochs_and_weights_are_those_of_a_mixture():
    loader = loader_of(batch_size=20)
    visits = [
        (one.dataset, one.epoch, one.index)
        for _ in range(20)
        for _ in [next(loader)]
        for (one,) in loader.batch_info.rows
    ]
    assert len(visits) == len(set(visits))
    assert np.mean([name == "low" for name, _, _ in visits]) == pytest.approx(0.75, abs=0.05)
    assert {index for name, epoch, index in visits if (name, epoch) == ("low", 0)} == set(range(50))


def test_a_state_goes_on_on_another_number_of_processes():
    loader = loader_of()
    for _ in range(3):
        next(loader)
    state = json.loads(json.dumps(loader.get_state()))
    rest = [next(loader) for _ in range(4)]
    halves = [loader_of(process_index=index, process_count=2) for index in range(2)]
    for half in halves:
        half.set_state(state)
    for batch in rest:
        parts = [next(half) for half in halves]
        for key, value in batch.items():
            np.testing.assert_array_equal(value, np.concatenate([part[key] for part in parts]))
    np.testing.assert_array_equal(loader.batch_at(3)["features"], rest[0]["features"])


def test_an_example_that_cannot_be_used_keeps_its_row_without_weight_and_moves_nothing():
    faults = {"raises": {7}, "nan": {9}, "named": {11}}
    whole, faulty = loader_of(), loader_of(Labelled(**faults))
    for _ in range(12):
        batch, other = next(whole), next(faulty)
        blank = np.array([bool(row[0].blanked) for row in faulty.batch_info.rows])
        np.testing.assert_array_equal(other["loss_weights"], np.where(blank, 0, 1))
        np.testing.assert_array_equal(other["features"], np.where(blank[:, None], 0, batch["features"]))
        np.testing.assert_array_equal(other["labels"], np.where(blank, 0, batch["labels"]))
    counted = faulty.stats()
    assert counted["skipped_media"].keys() == {"torn", "not_finite", "bad_label"}
    assert counted["loss_weight"] == counted["examples"] - sum(counted["skipped_media"].values())


def test_a_policy_may_stop_at_the_first_that_cannot_be_used():
    loader = loader_of(Labelled(raises={*range(1, 50)}), policy=gm.FaultPolicy(action="raise"))
    with pytest.raises((ExampleError, gm.errors.MediaError), match=r"low example \d+ .*half of it is missing"):
        next(loader)
    few_in_a_row = gm.FaultPolicy(max_in_a_row=15)
    loader = loader_of(Labelled(raises={*range(0, 50, 2)}), policy=few_in_a_row)
    for _ in range(40):  # usable ones between them: never all of sixteen
        next(loader)


def test_features_of_several_shapes_or_none_are_refused():
    with pytest.raises(ConfigError, match=r"high \[4\], low \[8\]"):
        loader_of(high=Labelled(20, shape=(4,)))

    class Silent(gm.Dataset):
        def __len__(self):
            return 3

        def get(self, item, rng):
            return {"messages": ["a", "b"]}

    with pytest.raises(ConfigError, match=r"low is of no use .*the example has no features"):
        loader_of(Silent())


class Given(gm.Dataset):
    """Examples as they are."""

    feature_shape = (3,)

    def __init__(self, *examples):
        self.examples = examples

    def __len__(self):
        return len(self.examples)

    def get(self, item, rng):
        return self.examples[item]


def of_each(*examples):
    """Features, label and what is said of each example."""
    with gm.make_eval_loader(Given(*examples), kind="features", batch_size=len(examples), num_threads=1) as loader:
        batch = next(loader)
        return batch["features"], batch["labels"], [one for row in loader.batch_info.rows for one in row]


@pytest.mark.parametrize("dtype", ["f8", ">f4", "f2", "i8", "u1", "?", "bfloat16"])
def test_numbers_of_any_type_become_floats_of_32_bits(dtype):
    features, _, (info,) = of_each({"features": np.array([0, 1, 1], jnp.dtype(dtype)), "label": 0})
    assert (features.tolist(), features.dtype, info.blanked) == ([[0, 1, 1]], np.float32, None)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([1 + 2j, 0, 0], "bad_features"),
        (["1", "2", "3"], "bad_features"),
        ([1, None, 2], "bad_features"),
        (np.array([1, 2, 3], "M8[s]"), "bad_features"),
        ([[1], [2, 3], []], "bad_features"),
        ([1], "bad_features"),
        ([1e300, 0, 0], "not_finite"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_are_no_such_numbers_is_blank(values, reason):
    features, _, (info,) = of_each({"features": values, "label": 0, "metadata": {"id": "own"}})
    assert (info.id, info.blanked) == ("own", reason)
    assert not features.any()


@pytest.mark.parametrize("label", [5, np.uint8(5), np.int64(5), np.array(5)])
def test_labels_are_whole_numbers_of_any_type(label):
    assert of_each({"features": np.ones(3), "label": label})[1].tolist() == [5]


@pytest.mark.parametrize("label", [None, True, np.True_, 5.0, "5", [5], np.array([5]), 2**31, -(2**31) - 1])
def test_labels_that_are_none_are_blank_under_the_example_s_id(label):
    _, labels, (info,) = of_each({"features": np.ones(3), "label": label, "metadata": {"id": "own"}})
    assert (labels.tolist(), info.id, info.blanked) == ([0], "own", "bad_label")


@pytest.mark.parametrize("metadata", [None, ["a"], "text", np.zeros(2)])
def test_metadata_that_are_no_dict_count_as_none(metadata):
    _, _, (info,) = of_each({"features": np.ones(3), "label": 1, "metadata": metadata})
    assert (info.id, info.blanked, info.metadata) == ("0", None, {})


def test_what_is_no_example_is_blank():
    _, _, infos = of_each(None, {"features": np.ones(3), "label": 1}, {"label": 1})
    assert [info.blanked for info in infos] == ["bad_example", None, "no_features"]


def test_on_a_mesh_rows_of_features_lie_whole_on_the_devices_that_share_them():
    mesh = jax.make_mesh((4, 2), ("data", "context"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    local, loader = loader_of(), loader_of(mesh=mesh)
    for _ in range(2):
        wanted, batch = next(local), next(loader)
        for key, value in wanted.items():
            assert batch[key].sharding.spec == jax.sharding.PartitionSpec(("data",))
            assert {shard.data.shape for shard in batch[key].addressable_shards} == {(2, *value.shape[1:])}
            np.testing.assert_array_equal(np.asarray(batch[key]), value)


def test_a_lost_shard_stops_the_run():
    class Lost(Labelled):
        def get(self, item, rng):
            if item:
                raise StoreError("shard 3 is missing")
            return super().get(item, rng)

    loader = loader_of(Lost())
    with pytest.raises(StoreError, match="shard 3"):
        next(loader)


def test_mastered_features_are_filtered_like_any_examples():
    loader = loader_of(curriculum={"low": gm.Curriculum(filter_threshold=0.5)})
    next(loader)
    report = loader.filter({f"x{i}": 1.0 for i in range(40)})
    assert (report["low"].removed, report["low"].active) == (40, 10)
    low = {
        one.index
        for _ in range(20)
        for _ in [next(loader)]
        for (one,) in loader.batch_info.rows
        if one.dataset == "low"
    }
    assert low == set(range(40, 50))
