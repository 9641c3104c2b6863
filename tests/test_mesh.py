"""Batches on a mesh: which part a process renders, and that the global arrays hold what plain batches hold."""

import gc
import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import grain_molmo as gm
from grain_molmo.errors import ConfigError
from grain_molmo.layout import RowLayout
from grain_molmo.mesh import ProcessPart, batch_sharding, context_size, row_axes, to_global
from grain_molmo.render import ImageBuffers
from grain_molmo.stages import STAGES

pytestmark = pytest.mark.xdist_group("loader")  # they share the converted sample

STAGE = replace(STAGES["pretraining"], crops_per_row=10, max_crops=4)
LOADER = {"stage": STAGE, "batch_size": 4, "seq_len": 3072}


def mesh_of(order=None, **axes):
    """A mesh of the first CPU devices, shuffled if a seed is given."""
    devices = np.array(jax.devices("cpu")[: np.prod([*axes.values()])])
    if order is not None:
        devices = np.random.default_rng(order).permutation(devices)
    return Mesh(devices.reshape(*axes.values()), tuple(axes))


MESHES = {
    "data": ({"data": 4}, ("data",)),
    "fsdp before data, tensor": ({"fsdp": 2, "tensor": 2, "data": 2}, (("data", "fsdp"),)),
    "an axis of another name": ({"batch": 4}, ("batch",)),
    "data and context": ({"data": 2, "context": 4}, ("data", "context")),
    "context before fsdp and data": ({"context": 2, "fsdp": 2, "data": 2}, (("data", "fsdp"), "context")),
    "context alone": ({"context": 8}, (None, "context")),
}


def as_numpy(batch):
    return {key: np.asarray(array) for key, array in batch.items()}


def shown(batch):
    """By row which patches the k-th `<im_patch>` pools: [K, 4, 588] uint8, zeros for those that aren't there."""
    for patches_CPD, pooling_PK in zip(batch["images"], batch["token_pooling"], strict=True):
        windows = pooling_PK[(pooling_PK >= 0).any(1)]
        yield np.where((windows >= 0)[..., None], patches_CPD.reshape(-1, 588)[windows], np.uint8(0))


@pytest.fixture(scope="module")
def plain(sample_dir):
    """The first batches without a mesh, what they show and who is in them."""
    with gm.make_loader(**LOADER, data_dir=sample_dir, tokenizer="bytes", num_threads=2) as loader:
        return [(batch, list(shown(batch)), loader.batch_info.rows) for batch in itertools.islice(loader, 2)]


@pytest.mark.parametrize("order", [None, 1], ids=["", "shuffled"])
@pytest.mark.parametrize(("axes", "spec"), MESHES.values(), ids=MESHES)
def test_a_global_batch_holds_what_the_plain_batch_holds(open_loader, plain, axes, spec, order):
    loader = open_loader(mesh=mesh_of(order, **axes), **LOADER)
    for expected, shows, rows in plain:
        batch = next(loader)
        assert {array.sharding.spec for array in batch.values()} == {PartitionSpec(*spec)}
        batch = as_numpy(batch)
        cut = {"images", "token_pooling"} if "context" in axes else set()
        assert all(np.array_equal(batch[key], expected[key]) for key in expected.keys() - cut)
        assert all(map(np.array_equal, shown(batch), shows))
        assert loader.batch_info.rows == rows


def test_every_device_finds_the_patches_of_its_windows_in_its_own_crops(open_loader):
    mesh = mesh_of(2, data=2, context=4)
    loader = open_loader(mesh=mesh, **LOADER)
    layout = RowLayout.of(loader.stage, 4)
    batch = next(loader)
    where = {shard.device: shard for shard in batch["images"].addressable_shards}
    seen = 0
    for shard in batch["token_pooling"].addressable_shards:
        images = where[shard.device]
        assert images.index[0] == shard.index[0]
        number = images.index[1].start // layout.crops_per_shard
        pooling = np.asarray(shard.data)
        own = pooling[pooling >= 0] - number * layout.patches_per_shard
        assert ((own >= 0) & (own < np.prod(images.data.shape[1:3]))).all()
        seen += own.size
    assert seen == (np.asarray(batch["token_pooling"]) >= 0).sum() > 0


@pytest.mark.parametrize("axes", [{"data": 4}, {"data": 2, "context": 2}], ids=str)
def test_a_jitted_function_over_all_batches_is_traced_once(open_loader, axes):
    traces = []

    @jax.jit
    def weights(batch):
        traces.append(1)
        return {key: jnp.sum(array.astype(jnp.float32)) for key, array in batch.items() if key != "images"}

    for batch in itertools.islice(open_loader(mesh=mesh_of(**axes), **LOADER), 5):
        weights(batch)
    assert len(traces) == 1
    assert weights._cache_size() == 1


def test_any_batch_again_is_global_and_single_rows_of_it_are_not(open_loader):
    loader = open_loader(mesh=mesh_of(data=2, context=2), **LOADER)
    batches = list(itertools.islice(loader, 3))
    again = loader.batch_at(1)
    assert all(again[key].sharding == batches[1][key].sharding for key in again)
    assert all(np.array_equal(again[key], batches[1][key]) for key in again)
    row = loader.batch_at(1, rows=[2])
    assert all(np.array_equal(row[key], np.asarray(batches[1][key])[[2]]) for key in row)


@pytest.mark.parametrize(
    ("options", "axes", "message"),
    [
        ({"batch_size": 6}, {"data": 2, "fsdp": 2}, r"batch_size 6 does not divide among .*\(data=2 x fsdp=2\)"),
        ({"batch_size": 2}, {"data": 4}, "batch_size 2 does not divide among the 4 parts"),
        ({"seq_len": 3073}, {"data": 2, "context": 2}, "seq_len 3073 does not divide among 2 context shards"),
        ({"process_index": 1, "process_count": 2}, {"data": 2}, "process_index 1 of 2 with a mesh"),
    ],
)
def test_what_cannot_be_dealt_is_refused_when_the_loader_is_made(open_loader, options, axes, message):
    with pytest.raises(ConfigError, match=message):
        open_loader(mesh=mesh_of(**axes), **{**LOADER, **options})


def test_which_axes_share_rows_and_which_have_different_ones():
    assert row_axes(mesh_of(context=2, fsdp=2, data=2)) == ("data", "fsdp")
    assert row_axes(mesh_of(context=2, batch=4)) == ("batch",)
    assert row_axes(mesh_of(context=4)) == ()
    assert [context_size(mesh) for mesh in (None, mesh_of(data=2), mesh_of(data=2, context=4))] == [1, 1, 4]


def test_one_process_has_all_rows_and_shards_in_order():
    assert ProcessPart.of_mesh(4, mesh_of(3, data=2, context=4)) == ProcessPart((0, 1, 2, 3), (0, 1, 2, 3))
    assert ProcessPart.of_process(6, 1, 3) == ProcessPart((2, 3), (0,))


def test_a_trainer_that_forbids_transfers_still_gets_batches():
    mesh, layout = mesh_of(data=2), RowLayout.of(STAGES["pretraining"])
    tokens_BT = np.arange(16, dtype=np.int32).reshape(2, 8)
    with jax.transfer_guard("disallow"):
        batch = to_global({"input_tokens": tokens_BT}, ProcessPart((0, 1)), mesh, 2, layout)
    assert np.array_equal(batch["input_tokens"], tokens_BT)


def aligned(size):
    """Memory that JAX's CPU devices use as it is instead of copying it."""
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]


def test_memory_that_a_global_array_uses_is_not_taken_back_before_the_array_is_gone():
    mesh, layout = mesh_of(data=1), RowLayout.of(STAGES["pretraining"])
    shape = (1, layout.crops, 8, 8)
    buffers = ImageBuffers()
    buffers._free.append(aligned(np.prod(shape)))
    images = buffers.take(shape)
    images[...] = 7
    address = images.ctypes.data
    batch = to_global({"images": images}, ProcessPart((0,)), mesh, 1, layout)
    jax.block_until_ready(batch)
    assert batch["images"].addressable_shards[0].data.unsafe_buffer_pointer() == address  # it does share the memory
    del images
    gc.collect()
    other = buffers.take(shape)
    assert other.ctypes.data != address
    other[...] = 0
    assert (np.asarray(batch["images"]) == 7).all()
    del batch
    gc.collect()
    assert buffers.take(shape).ctypes.data == address


def test_the_sharding_of_a_batch_can_be_had_beforehand():
    sharding = batch_sharding(mesh_of(data=2, context=2))
    assert sharding.spec == PartitionSpec("data", "context")
    assert sharding.shard_shape((4, 8)) == (2, 4)
