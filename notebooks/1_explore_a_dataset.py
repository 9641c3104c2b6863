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
# # 1. Explore a dataset
#
# People trust data that they have looked at. In a few minutes you will have a handful of datasets on your disk, see
# their examples with everything that a model would learn from them, and know how long they are and what was left out.
#
# All data here are drawn by a generator of this library: no account, no token, no download. What you do with them is
# what you would do with the real sets.

# %%
# Only where the library is not there yet, as on Colab; the path of a checkout or wheel does as well: "PATH[notebooks]"
import importlib.util
import subprocess
import sys

PACKAGE = "grain-molmo[notebooks]"
if importlib.util.find_spec("grain_molmo") is None:
    subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", PACKAGE])

# %% [markdown]
# ## Get some data
#
# `grain-molmo convert` turns the rows of a set into a *store*: small annotation records in one folder a set, and a
# folder `media` that holds every picture and video once. `--sample` takes generated rows instead of the hub's. In a
# terminal the command is simply `grain-molmo`; here we call it through the Python that runs this notebook.

# %%
command = f'"{sys.executable}" -m grain_molmo'
DATA = "sample-data"

# %%
# !{command} convert pixmo-cap pixmo-points pixmo-docs molmo2-videopoint --sample --rows 40 --data-dir {DATA}

# %%
# !{command} inspect --data-dir {DATA}

# %% [markdown]
# The sample has some bad rows on purpose: an empty caption, a web page in place of a picture, a point outside of its
# picture. Each was rejected for a reason, as the conversion said. Nothing is ever dropped without a word.
#
# ## An example is a dict

# %%
import grain_molmo as gm

dataset = gm.get_dataset("pixmo_points", data_dir=DATA)
dataset

# %%
example = dataset[0]
{key: value for key, value in example.items() if key != "message_list"}

# %% [markdown]
# The picture knows its size without being opened. It is decoded when somebody asks for its pixels, for example by
# `np.asarray(example["image"])`.
#
# What the model learns is in `message_list`: one or several conversations about the same picture.

# %%
example["message_list"][:2]

# %% [markdown]
# ## Look at it
#
# `show` puts all of it together: the picture as it is cut for the model, the points where they belong, the conversation
# token for token. Tokens that are learned are tinted by their loss weight. The boxes above a picture switch its
# overlays on and off.

# %%
dataset.show(0, stage="pretraining")

# %% [markdown]
# The same points come in three units: `points` are pixels of this picture, `message_list` has them in percent, as the set
# does, and the text says thousandths of the picture's width and height, each after its number. What is drawn is what the
# text says: the points are read back from the tokens that the model is trained on.
#
# Documents look quite different. Small print matters, so such a picture is cut into several crops beside the one that
# shows all of it.

# %%
gm.get_dataset("pixmo-docs", data_dir=DATA).show(3, stage="pretraining")

# %% [markdown]
# A video becomes a strip of frames with their times. Here the question is where something is, and when.

# %%
videos = gm.get_dataset("molmo2_videopoint", data_dir=DATA)
videos.show(1)

# %% [markdown]
# ## The same example, another visit
#
# Several questions about one video may be asked in turn or each by itself; such choices come from a random state that
# is handed to `get`. In training it depends on the seed, the dataset's name, the epoch and the index, and on nothing
# else. So each epoch shows another side of an example, and any of them can be had again.

# %%
import numpy as np

for seed in (1, 2, 3, 1):
    visit = videos.get(7, np.random.RandomState(seed))
    print(seed, ["in turn" if "multi_turn_messages" in one else one["style"] for one in visit["message_list"]])

# %% [markdown]
# ## How long are they?
#
# Two lengths decide how examples share a row of a batch: tokens, and crops, the square pieces that pictures are cut
# into. Neither needs a pixel. We count with the tokenizer `"bytes"`, which needs no file; with a real one, text takes
# about a quarter of that.

# %%
from grain_molmo.view import plots

names = ["pixmo_cap", "pixmo_points", "pixmo_docs", "molmo2_videopoint"]
plots.length_histogram(names, "sft", tokenizer="bytes", data_dir=DATA)

# %% [markdown]
# ## Find something
#
# A dataset is a sequence. To go through the annotations is cheap, for no picture is decoded on the way.

# %%
captions = gm.get_dataset("pixmo_cap", data_dir=DATA)
found = [i for i, one in enumerate(captions) if " red " in one["caption"]]
print(f"{len(found)} of {len(captions)} captions speak of something red: examples {found[:8]}")
captions.show(found[0], stage="pretraining")

# %% [markdown]
# ## What was left out
#
# Every rejected row is a line in `rejects-SPLIT.jsonl`, with its number, its URL and the reason. `inspect` with a name
# tells a set in detail.

# %%
# !{command} inspect pixmo-points --num-samples 2 --data-dir {DATA}

# %% [markdown]
# ## Where next
#
# - `grain-molmo visualize pixmo-points --data-dir sample-data --out page` writes all examples as a page for your
#   browser, to filter, search and go through with the keyboard.
# - Without `--sample` the same `convert` takes the real sets: begin with `--dry-run`, which says what they come to, or
#   with `--max-rows 1000`.
# - How rows of the hub become records is the next notebook, [2_hub_rows_to_arrayrecord](2_hub_rows_to_arrayrecord.ipynb);
#   what a model sees of several examples at once is [3_what_packing_does](3_what_packing_does.ipynb).
