"""The files of tpu_configs: every shape is there, multiplies out, and fits; and the arithmetic behind it."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

import tpu_configs
from grain_molmo.errors import ConfigError
from grain_molmo.layout import RowLayout
from grain_molmo.pods import CHIPS, MOLMO2_4B, Pod, StageRun, Transformer, VisionLanguageModel, needs, problems
from grain_molmo.render import batch_bytes
from grain_molmo.stages import STAGES

PODS = [tpu_configs.pod(name) for name in tpu_configs.names()]


def test_there_is_a_file_of_every_shape_from_8_to_256_chips_of_v5e_and_v6e_and_to_512_cores_of_v5p():
    shapes = {f"{name}-{size * chip.counted}" for name, chip in CHIPS.items() for size in chip.sizes}
    assert {pod.name for pod in PODS} == shapes
    assert {"v5e-8", "v5e-256", "v5p-8", "v5p-512", "v6e-8", "v6e-256"} <= shapes


def test_a_file_is_of_the_pod_that_its_name_says():
    assert [pod.name for pod in PODS] == tpu_configs.names()


def test_v5p_counts_tensorcores_two_a_chip():
    assert [(pod.chips, pod.hosts) for pod in map(tpu_configs.pod, ("v5p-8", "v5p-512"))] == [(4, 1), (256, 64)]


def test_eight_chips_of_v5e_and_v6e_are_one_host_and_larger_slices_have_four_a_host():
    names = ("v5e-8", "v5e-16", "v6e-8", "v6e-256")
    assert [tpu_configs.pod(name).hosts for name in names] == [1, 4, 1, 64]
    assert tpu_configs.pod("v5e-8").host.vcpus == 224
    assert tpu_configs.pod("v5e-16").host.vcpus == 112


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("pod", PODS, ids=lambda pod: pod.name)
def test_every_stage_fits_its_devices_and_its_hosts(pod, stage):
    assert problems(pod, stage) == []


@pytest.mark.parametrize("pod", [pod for pod in PODS if pod.name != "v5e-8"], ids=lambda pod: pod.name)
def test_a_run_can_move_between_all_pods_but_the_smallest_for_the_batches_are_the_same(pod):
    assert all(pod.stage(name).batch_size == stage.batch_size for name, stage in STAGES.items())


def test_the_smallest_pod_takes_whole_fractions_of_the_stages_batches():
    pod = tpu_configs.pod("v5e-8")
    assert all(stage.batch_size % pod.stage(name).batch_size == 0 for name, stage in STAGES.items())


def test_the_names_of_pods_that_are_not_there_are_refused_with_those_that_are():
    with pytest.raises(ConfigError, match="v5e-16"):
        tpu_configs.pod("v4-8")


FINE = Pod(
    name="v5e-16",
    threads=48,
    pretraining=StageRun(fsdp=16),
    sft=StageRun(fsdp=16),
    long_context=StageRun(fsdp=2, context=8),
)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "v5e-12"}, "no such shape; one of v5e-8, v5e-16"),
        ({"name": "v5p-4"}, "no such shape"),
        ({"name": "v7-16"}, "no such shape"),
        ({"sft": StageRun(fsdp=8)}, "data 1 x fsdp 8 x context 1 is not 16 devices"),
        ({"sft": StageRun(fsdp=16, rows=3)}, "128 rows is no whole number of passes of 3 rows on each of 16 shards"),
        ({"sft": StageRun(fsdp=16, batch_size=24)}, "24 rows is no whole number"),
        ({"sft": StageRun(data=2, fsdp=2, context=4, batch_size=2)}, "2 rows is no whole number"),
    ],
)
def test_numbers_that_do_not_multiply_out_are_refused(change, said):
    with pytest.raises(ConfigError, match=said):
        replace(FINE, **change)


def test_a_stage_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match="pretraining, sft, long_context"):
        FINE.run("rlhf")


def test_what_does_not_fit_is_said_with_what_takes_the_memory():
    (too_long,) = problems(replace(FINE, sft=StageRun(fsdp=16, rows=8)), "sft")
    assert too_long.startswith("v5e-16, sft: a device needs model 4.5 + activations ")
    (too_many,) = problems(replace(FINE, threads=57), "sft")
    assert "57 threads on hosts of 56 cores" in too_many


# ---- the arithmetic ----

TINY = Transformer(layers=3, width=10, heads=4, kv_heads=2, head_dim=5, mlp=20, gated=True)


def test_a_transformer_has_the_parameters_of_its_matrices():
    queries, keys_and_values, output, mlp = 10 * 20, 2 * 10 * 10, 20 * 10, 3 * 10 * 20
    assert TINY.params == 3 * (queries + keys_and_values + output + mlp)


def test_a_token_takes_two_operations_a_parameter_and_four_for_each_value_of_a_key_it_sees():
    assert TINY.forward_flops(7, 6) == 7 * (2 * TINY.params + 3 * 4 * 6 * 20)


def test_the_model_has_the_size_that_is_published():
    """Qwen3-4B: 4.02 billion parameters, 3.6 of them outside the embedding; So400m: 0.4, of 27 layers."""
    assert round(MOLMO2_4B.language.params / 1e9, 1) == 3.6
    assert round((MOLMO2_4B.language.params + 151_936 * 2560) / 1e9, 2) == 4.02
    assert round(MOLMO2_4B.vision.params * 27 / 25 / 1e9, 1) == 0.4


def test_a_step_takes_three_times_the_forward_pass_at_the_given_share_of_the_peak():
    model = VisionLanguageModel(vision=TINY, language=TINY, connector_params=0, vocab_size=0)
    stage = STAGES["pretraining"]
    forward = TINY.forward_flops(4096, 4096 / 2) + TINY.forward_flops(24 * 729, 729)
    asked = needs(FINE, "pretraining", examples_per_row=1, model=model, mfu=0.25)
    assert asked.step_s == pytest.approx(stage.batch_size * 3 * forward / (16 * 197e12 * 0.25))
    assert asked.rows_per_s == pytest.approx(256 / asked.step_s)
    assert asked.host_rows_per_s == pytest.approx(asked.rows_per_s / 4)


def test_the_model_is_divided_among_fsdp_and_context_and_repeated_along_data():
    model = MOLMO2_4B.params * 16
    for run in (StageRun(fsdp=16), StageRun(fsdp=2, context=8), StageRun(fsdp=4, context=4)):
        found = needs(replace(FINE, long_context=run), "long_context", 1).device_bytes["model"]
        assert found == model / 16
    assert needs(replace(FINE, sft=StageRun(data=4, fsdp=4)), "sft", 1).device_bytes["model"] == model / 4


def test_a_host_holds_its_part_of_eight_batches():
    batch = batch_bytes(STAGES["sft"], 128)
    assert needs(FINE, "sft", 1).host_bytes["batches"] == 8 * batch / 4


def test_a_host_of_four_chips_renders_half_of_the_crops_of_rows_that_eight_devices_share():
    layout = RowLayout.of(STAGES["long_context"], 8)
    found = needs(FINE, "long_context", 1).host_bytes["batches"]
    assert found == 8 * 64 * layout.row_bytes(4)


# ---- on devices ----

_ON_DEVICES = """
from dataclasses import replace

import jax
import numpy as np

import grain_molmo as gm
import tpu_configs
from grain_molmo.errors import ConfigError
from grain_molmo.mesh import batch_sharding
from grain_molmo.stages import STAGES

devices = jax.devices()
for name in tpu_configs.names():
    pod = tpu_configs.pod(name)
    for stage in STAGES:
        run, mesh = pod.run(stage), pod.mesh(stage, devices[: pod.chips])
        rows, tokens = batch_sharding(mesh).shard_shape((pod.stage(stage).batch_size, STAGES[stage].seq_len))
        assert rows == run.rows * pod.passes(stage) and tokens * run.context == STAGES[stage].seq_len, (name, stage)


class Noise(gm.Dataset):
    def __len__(self):
        return 100

    def get(self, item, rng):
        image = rng.randint(0, 256, (300, 400, 3), dtype=np.uint8)
        return {"image": image, "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]}


gm.register_dataset("noise", lambda split: Noise())
pod = tpu_configs.pod("v5e-8")
args = pod.loader_args("pretraining", devices[:8])
assert (args["stage"], args["batch_size"], args["num_threads"]) == ("pretraining", 256, 96)
args |= {"stage": replace(STAGES["pretraining"], mixture={"noise": 1}), "batch_size": 8, "num_threads": 2}
with gm.make_loader(**args, tokenizer="bytes") as loader:
    images = next(loader)["images"]
assert images.shape == (8, 24, 729, 588) and images.sharding.mesh == args["mesh"]
try:
    pod.mesh("sft")
except ConfigError as error:
    print(error)
"""


def test_meshes_are_made_on_as_many_devices_and_the_loader_takes_them():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=256"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    words = [sys.executable, "-c", _ON_DEVICES]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pod v5e-8 has 8 devices, here are 256" in done.stdout
