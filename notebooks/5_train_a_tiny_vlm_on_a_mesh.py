# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: -jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5. Train a tiny VLM on a mesh
#
# A vision-language model with fewer than a hundred thousand weights learns from packed batches on eight devices, is
# stopped, and goes on with another arrangement of devices as if nothing had happened. The devices are parts of this
# machine's processor, but every line is what a pod would run.

# %%
# Only where the library is not there yet, as on Colab; the path of a checkout or wheel does as well: "PATH[notebooks]"
import importlib.util
import subprocess
import sys

PACKAGE = "grain-molmo[notebooks]"
if importlib.util.find_spec("grain_molmo") is None:
    subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", PACKAGE])

# %%
# Eight devices on the processor; this must be said before JAX is imported.
import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

command = f'"{sys.executable}" -m grain_molmo'
DATA = "sample-data"

# %%
# !{command} convert pixmo-count pixmo-clocks --sample --rows 40 --data-dir {DATA}

# %% [markdown]
# ## A mesh and a loader
#
# Rows of a batch are split over the axes `data` and `fsdp`, weights of the model over `fsdp`. With `mesh=` the loader
# hands out global arrays: of each batch a process decodes only what its devices need.
#
# The stage is cut small for a processor: rows with room for two examples, and one crop a picture beside the whole. The
# examples count things and read clocks.

# %%
import jax

import grain_molmo as gm
from grain_molmo.view import plots

Auto = jax.sharding.AxisType.Auto
mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(Auto, Auto))
tokenizer = gm.load_tokenizer("bytes")
stage = gm.Stage(
    name="tiny",
    mixture={"pixmo_count": 1, "pixmo_clocks": 1},
    seq_len=1088,
    crops_per_row=4,
    max_crops=1,
    batch_size=8,
)
history = plots.History()
loader = gm.make_loader(stage, data_dir=DATA, tokenizer=tokenizer, mesh=mesh, metrics=history)

beginning = loader.get_state()
batch = next(loader)
for key, array in batch.items():
    print(
        f"{key:15} {array.dtype!s:8} {array.shape!s:20} of which a device has {array.addressable_shards[0].data.shape}"
    )

# %%
loader.show_row(0)

# %% [markdown]
# ## The model
#
# `grain_molmo.examples.model` is about a hundred lines of plain JAX: patches become features, the features of a window
# are averaged and added to the token that stands for it, a transformer reads the row by the attention rule of packed
# rows, and the loss is weighted. Copy from it what you need.

# %%
from grain_molmo.examples.model import ModelConfig
from grain_molmo.examples.step import abstract_state, init_state, make_train_step

config = ModelConfig(
    vocab_size=tokenizer.vocab_size, special_base=tokenizer.special_base, width=32, num_layers=1, num_heads=2
)


def prepare(mesh):
    """What the state looks like on a mesh, and the step that changes it."""
    abstract = abstract_state(config, mesh)
    return abstract, make_train_step(config, learning_rate=5e-3, abstract=abstract)


abstract, train_step = prepare(mesh)
state = jax.jit(lambda: init_state(config), out_shardings=jax.tree.map(lambda array: array.sharding, abstract))()
print(f"{sum(array.size for array in jax.tree.leaves(state['params'])):,} weights")

# %% [markdown]
# ## Train, and keep checkpoints
#
# The loader's state is a few kilobytes of JSON and lies in the same checkpoint as the model, so that the two cannot fall
# apart. The train step also returns a checksum of the batch, by which we know later whether we got the same one.

# %%
from pathlib import Path

import orbax.checkpoint as ocp

STEPS, SAVED_AT = 16, 10
checkpoints = ocp.CheckpointManager(Path("run").absolute())


def train(loader, train_step, state, steps):
    """Trains for these steps; the state, and loss and checksum of each step."""
    log = []
    for step in steps:
        state, metrics = train_step(state, next(loader))
        log.append((float(metrics["loss"]), int(metrics["batch"])))
        if step + 1 == SAVED_AT:
            both = {"model": ocp.args.StandardSave(state), "data": ocp.args.JsonSave(loader.get_state())}
            checkpoints.save(step + 1, args=ocp.args.Composite(**both))
    checkpoints.wait_until_finished()
    return state, log


loader.set_state(beginning)
state, log = train(loader, train_step, state, range(STEPS))
loader.close()

losses = [loss for loss, _ in log]
print(f"loss {losses[0]:.2f} at first, {losses[-1]:.2f} after {STEPS} steps")
assert losses[-1] < 0.7 * losses[0]

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(8, 2.6), facecolor="white")
axes.axvline(SAVED_AT, color="grey", linestyle=":")
axes.set(xlabel="step", ylabel="loss", title="The dotted line is the checkpoint")
_ = axes.plot(losses, ".-")

# %% [markdown]
# ## Stop, and go on with other devices
#
# Forget everything but the folder `run`. A new mesh has the same eight devices in another arrangement; it could as well
# be another number of hosts. `set_state` takes a moment at any step, for nothing is decoded on the way.

# %%
del state, loader
print(sorted(path.name for path in (Path("run") / str(SAVED_AT)).iterdir()))

other_mesh = jax.make_mesh((2, 4), ("data", "fsdp"), axis_types=(Auto, Auto))
abstract, train_step = prepare(other_mesh)
parts = ocp.args.Composite(model=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore())
restored = checkpoints.restore(SAVED_AT, args=parts)

again = gm.make_loader(stage, data_dir=DATA, tokenizer=tokenizer, mesh=other_mesh)
again.set_state(restored["data"])
state, log_again = train(again, train_step, restored["model"], range(SAVED_AT, STEPS))

# %%
for step, (before, now) in enumerate(zip(log[SAVED_AT:], log_again, strict=True), start=SAVED_AT):
    print(f"step {step}: batch {before[1]:08x} and {now[1]:08x}, loss {before[0]:.4f} and {now[0]:.4f}")
assert [checksum for _, checksum in log[SAVED_AT:]] == [checksum for _, checksum in log_again]

# %% [markdown]
# The same batches, to the bit. The losses agree but for the order in which devices add up.
#
# Any batch of the run can be looked at later, by its number alone:

# %%
again.show_row(0, step=12)

# %% [markdown]
# ## Did the trainer wait?

# %%
again.close()
plots.throughput(history)

# %% [markdown]
# The bar "the trainer" is what the model's step took on this processor. On accelerators steps are what they are, and
# `loader.stats()["wait_share"]` says whether the loader keeps up.
#
# ## Where next
#
# - `python -m grain_molmo.examples.train --data-dir sample-data --mixture pixmo-count=1,pixmo-clocks=1 --checkpoints RUN`
#   is this notebook as a program that can be killed at any moment; without `--mixture` it trains on all of a stage.
# - `tpu_configs` has meshes and batch sizes for pods, and `grain-molmo size v5e-16` says what their hosts must do.
