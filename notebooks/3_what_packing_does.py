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
# # 3. What packing does
#
# A batch for an accelerator has one fixed shape, and examples have all lengths. Either most of a batch is padding, or
# several examples share a row. This notebook shows both, looks into a packed row, and tries whether the examples in it
# really know nothing of each other.

# %%
# Only where the library is not there yet, as on Colab; the path of a checkout or wheel does as well: "PATH[notebooks]"
import importlib.util
import subprocess
import sys

PACKAGE = "grain-molmo[notebooks]"
if importlib.util.find_spec("grain_molmo") is None:
    subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", PACKAGE])

# %%
command = f'"{sys.executable}" -m grain_molmo'
DATA = "sample-data"

# %%
# !{command} convert --stage pretraining --sample --rows 40 --data-dir {DATA}

# %% [markdown]
# ## Padding against packing
#
# We take a few batches of pretraining. `"bytes"` is a tokenizer that needs no file; a byte is a token to it, so we make
# rows longer than the stage does.

# %%
import grain_molmo as gm
from grain_molmo.view import plots

settings = {"data_dir": DATA, "tokenizer": "bytes", "seq_len": 6144, "batch_size": 4}
history = plots.History()
loader = gm.make_loader("pretraining", metrics=history, **settings)

rows = []
for _ in range(2):
    next(loader)
    rows += loader.batch_info.rows
plots.padding_and_packing(rows, loader.stage)

# %% [markdown]
# Left and right show the same examples, and a row is as high on both sides. What is white on the right is what an
# accelerator need not compute.
#
# A row has *two* budgets: tokens, and crops, the pieces of pictures that the vision model sees. Which examples share a
# row is decided from these two lengths alone. No picture is opened for it, so no decoded picture ever waits for a row.

# %%
stage = loader.stage
print(f"a row: {stage.seq_len:,} tokens, {stage.crops_per_row} crops; a batch: {stage.batch_size} rows")

# %% [markdown]
# ## One packed row
#
# The row as the model gets it: its examples side by side, how much of each budget they use, what attends to what.
# Everything below is read back from the arrays of the batch. Click a segment to get to its example.

# %%
loader.show_row(0)

# %% [markdown]
# ## Who sees whom?
#
# `segment_ids` tell the examples of a row apart, `position_ids` begin anew with each, and `loss_weights` say what is
# learned. A picture with several questions is a tree: what all questions share comes once, and each branch sees the
# shared part and itself (`subsegment_ids`).

# %%
import numpy as np

batch = next(loader)
row = max(range(stage.batch_size), key=lambda row: len(np.unique(batch["subsegment_ids"][row])))  # one with a tree
for one in loader.batch_info.rows[row]:
    here = slice(*one.tokens)
    positions = batch["position_ids"][row, here]
    branches = np.setdiff1d(batch["subsegment_ids"][row, here], [10_000])
    trained = (batch["loss_weights"][row, here] > 0).mean()
    print(
        f"{one.dataset:14} tokens {one.tokens[0]:5} to {one.tokens[1]:5}, positions {positions.min()} to {positions.max():4}, "
        f"branches: {len(branches)}, {trained:4.0%} trained"
    )

# %% [markdown]
# From these arrays `attention_mask` makes the rule of who may attend to whom. Is it tight? We let a small model with
# random weights read a row, then vandalise all examples but one, text and pictures, and let it read again. What it says
# about the one must not change.

# %%
import jax
import jax.numpy as jnp

from grain_molmo.examples.model import ModelConfig, init_params, predict

small = gm.make_loader("pretraining", **{**settings, "seq_len": 4096, "batch_size": 1})
batch, tokenizer = next(small), gm.load_tokenizer("bytes")
one = small.batch_info.rows[0][1]
print(f"{len(small.batch_info.rows[0])} examples in the row; we keep {one.dataset} {one.id}, tokens {one.tokens}")

rng = np.random.RandomState(0)
vandalised = {key: array.copy() for key, array in batch.items()}
others = batch["segment_ids"] != one.segment
text = others & (batch["input_tokens"] < tokenizer.special_base) & (batch["segment_ids"] > 0)
vandalised["input_tokens"][text] = rng.randint(0, 256, text.sum())
for other in small.batch_info.rows[0]:
    if other.segment != one.segment:
        vandalised["images"][0, slice(*other.crops)] = rng.randint(0, 256, (729, 588))
small.close()

# %%
config = ModelConfig(vocab_size=tokenizer.vocab_size, special_base=tokenizer.special_base, width=32, num_layers=2)
params = init_params(config, jax.random.key(0))
scores = jax.jit(lambda batch: predict(params, batch, config))
difference = np.asarray(jnp.abs(scores(batch) - scores(vandalised)).max(axis=-1))[0]
inside = difference[slice(*one.tokens)].max()
outside = difference[others[0] & (batch["segment_ids"][0] > 0)].max()
print(f"scores of the kept example moved by {inside:.1e}, those of the others by {outside:.2f}")
assert inside < 1e-4 < outside

# %% [markdown]
# Packing is nothing that the model could notice.
#
# ## Does the mixture hold?
#
# The weights say how often an example of a dataset is drawn. They are exact: in every 1,024 draws each dataset has its
# share. How many *tokens* that makes is another matter, and how much *loss weight* a third.

# %%
for _ in range(12):
    next(loader)
plots.mixture_shares(loader)

# %% [markdown]
# ## How full are the rows?
#
# 48 examples wait for a row at any time. A new row begins with the one that has waited longest, and is filled up with
# those that fit best. Over time:

# %%
plots.fill_over_time(history)

# %% [markdown]
# Fewer examples that wait leave less to choose from:

# %%
from dataclasses import replace

for waiting in (1, 4, 16, 48):
    with gm.make_loader(replace(stage, waiting=waiting), data_dir=DATA, tokenizer="bytes") as other:
        for _ in range(6):
            next(other)
        stats = other.stats()
        print(f"{waiting:2} wait: {stats['token_fill']:.1%} of tokens, {stats['crop_fill']:.1%} of crops in use")

# %% [markdown]
# ## What limits the loader?
#
# The stages of the pipeline work side by side, each some batches ahead of the next. Each bar says what one of them could
# do if it never had to wait for another; the line is what came out. Here nothing is trained, so the loader itself is
# what we wait for.

# %%
loader.close()
pace = plots.History()
with gm.make_loader("pretraining", metrics=pace, **settings) as loader:
    for _ in range(8):
        next(loader)
plots.throughput(pace)

# %% [markdown]
# ## Where next
#
# - `grain-molmo visualize --stage pretraining --data-dir sample-data --out page` shows many rows as a page.
# - `grain-molmo bench packing` compares the packer with others on 20,000 examples.
# - Put your own examples into such rows: [4_your_own_dataset](4_your_own_dataset.ipynb).
