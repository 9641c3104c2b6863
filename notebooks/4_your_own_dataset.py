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
# # 4. Your own dataset
#
# First a folder of pictures becomes a dataset by a command. Then ten lines of Python make one that can do more: they say
# how many examples there are, and what the i-th one is. We look at it, have it checked, mix it with another, and store
# it on disk.

# %%
# Only where the library is not there yet, as on Colab; the path of a checkout or wheel does as well: "PATH[notebooks]"
import importlib.util
import subprocess
import sys

PACKAGE = "grain-molmo[notebooks]"
if importlib.util.find_spec("grain_molmo") is None:
    subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", PACKAGE])

# %% [markdown]
# ## Some pictures
#
# Let us pretend that somebody has counted berries. We draw the berries ourselves, so we know where they are.

# %%
import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"red": (205, 40, 50), "blue": (50, 80, 200), "black": (40, 35, 45)}


def draw_berries(number):
    """A picture, and the centres of its berries by colour, in pixels."""
    rng = np.random.RandomState(number)
    width, height = int(rng.randint(300, 900)), int(rng.randint(300, 700))
    image = Image.new("RGB", (width, height), (222, 232, 205))
    pen = ImageDraw.Draw(image)
    berries = {colour: [] for colour in COLOURS}
    for _ in range(rng.randint(3, 12)):
        colour, radius = rng.choice(list(COLOURS)), int(rng.randint(12, 30))
        x, y = int(rng.randint(radius, width - radius)), int(rng.randint(radius, height - radius))
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=COLOURS[colour])
        berries[colour].append((x, y))
    return image, berries


draw_berries(3)[0]

# %% [markdown]
# ## Without any Python: a folder of pictures
#
# Data that lie somewhere already are converted by a command. Here a folder of pictures beside a `metadata.csv`, whose
# column `caption` is known by its name; `--columns` names others.

# %%
import csv
from pathlib import Path

folder = Path("photos")
folder.mkdir(exist_ok=True)
with open(folder / "metadata.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["file_name", "caption"])
    for number in range(12):
        image, berries = draw_berries(number)
        image.save(folder / f"{number:03}.jpg")
        counts = ", ".join(f"{len(places)} {colour}" for colour, places in berries.items() if places)
        table.writerow([f"{number:03}.jpg", f"Berries on a pale green ground: {counts}."])

# %%
command = f'"{sys.executable}" -m grain_molmo'
DATA = "sample-data"

# %%
# !{command} convert my-photos --source photos --data-dir {DATA}

# %%
import grain_molmo as gm

gm.get_dataset("my-photos", data_dir=DATA).show(3)

# %% [markdown]
# Tables, chat files, datasets of the hub, WebDataset, TFDS, TFRecord and ArrayRecord go the same way; see
# `grain-molmo convert --help`. Captions of other pictures, generated ones, shall be mixed in later:

# %%
# !{command} convert pixmo-cap --sample --rows 40 --data-dir {DATA}

# %% [markdown]
# ## The same in Python
#
# A folder of captions says one thing of each picture. Who writes `get` decides anew at each visit: here which colour is
# asked for. All that varies comes from `rng`, a `np.random.RandomState` that is fixed by seed, dataset, epoch and index.
#
# `get` returns a dict. `points` with `label` is one of several forms in which an example may say what is to be learned;
# others are `question` and `answer`, `caption`, `count`, and whole conversations as `messages`.


# %%
class Berries(gm.Dataset):
    """Pictures of berries, and where those of one colour are."""

    def __init__(self, split="train", size=60):
        self.split, self.size = split, size

    def __len__(self):
        return self.size

    def get(self, item, rng):
        image, berries = draw_berries(item)
        colour = rng.choice([colour for colour, places in berries.items() if places])
        return {
            "image": image,
            "points": berries[colour],
            "label": f"{colour} berries",
            "metadata": {"id": f"berries-{item}", "source": "berries"},
        }


dataset = Berries()
dataset.show(3)

# %% [markdown]
# The points are where they belong, the conversation was made for us, and each answer token has its loss weight. Another
# visit of the same example may ask for another colour:

# %%
for seed in range(4):
    print(seed, dataset.get(3, np.random.RandomState(seed))["label"])

# %% [markdown]
# ## Is it right?
#
# One line tries all that a dataset promises, and belongs into a test of yours: form, media, ids, draws from `rng` alone,
# the same answers in threads and in another process's copy, and whether examples fit a stage.

# %%
from grain_molmo.testing import check_dataset

print(check_dataset(dataset, num_examples=20))

# %% [markdown]
# What it finds is told by example and field. A classic: x and y swapped, and random numbers from the wrong place.


# %%
class Careless(Berries):
    """Two mistakes."""

    def get(self, item, rng):
        example = super().get(item, np.random)
        return example | {"points": [(y, x) for x, y in example["points"]]}


try:
    check_dataset(Careless(), num_examples=20)
except AssertionError as error:
    print(error)

# %% [markdown]
# ## Into a mixture
#
# Under a name it can be mixed with any other set. Here it makes a third of the examples, captions the rest.

# %%
from grain_molmo.view import plots

gm.register_dataset("berries", Berries)
stage = gm.Stage(
    name="berry picking", mixture={"berries": 1, "pixmo_cap": 2}, seq_len=6144, batch_size=2, crops_per_row=32
)
loader = gm.make_loader(stage, data_dir=DATA, tokenizer="bytes")
for _ in range(10):
    next(loader)
plots.mixture_shares(loader)

# %%
loader.show_row(0)

# %% [markdown]
# The log said that each example of `berries` is made twice: once to know its lengths, once when its row is rendered, so
# that no pixels wait in between. Stored, it is faster, and `get` need not be around any more.
#
# ## Into the store
#
# `write_dataset` takes any iterable of such dicts. Each is stored as it is now, asking for the colour of this visit.

# %%
loader.close()
summary = gm.write_dataset((dataset[i] for i in range(len(dataset))), DATA, "stored-berries", split="train")
print(summary)
stored = gm.get_dataset("stored-berries", data_dir=DATA)
stored.show(3)

# %% [markdown]
# From here on it is a set like any other: `grain-molmo inspect stored-berries`, `verify`, `visualize`, a name in a
# mixture, and whoever copies the folder has all of it.
#
# ## Examples that cannot be used
#
# Real data have holes. A dataset that raises `gm.ExampleError(reason, detail)` leaves the example out; nothing else
# moves, and `stats()` counts it.


# %%
class WithHoles(Berries):
    """Every tenth picture is lost."""

    def get(self, item, rng):
        if item % 10 == 3:
            raise gm.ExampleError("eaten", "somebody was here before us")
        return super().get(item, rng)


WithHoles().show(3)

# %%
with gm.make_loader(
    gm.Stage(mixture={"holes": 1}, seq_len=6144, batch_size=2, crops_per_row=32),
    tokenizer="bytes",
    datasets={"holes": WithHoles()},
) as loader:
    for _ in range(4):
        next(loader)
    print(loader.stats()["skipped_examples"])

# %% [markdown]
# ## Where next
#
# A model that learns from such rows, is stopped, and goes on: [5_train_a_tiny_vlm_on_a_mesh](5_train_a_tiny_vlm_on_a_mesh.ipynb).
