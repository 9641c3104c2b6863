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
# # 2. From rows of the hub to ArrayRecord
#
# On the hub a set is a few Parquet files: text, points, and *URLs* of pictures. For training we want records that are
# read at random in microseconds, and pictures that are certainly there. This notebook goes the whole way once: look at
# the rows, estimate, convert, stop and go on, look at what was lost and why, verify, and find a damaged file.
#
# The rows come from this library's generator. They have the columns of the hub's sets and lie in folders as there, so
# what follows is what you would do with the real ones.

# %%
# Only where the library is not there yet, as on Colab; the path of a checkout or wheel does as well: "PATH[notebooks]"
import importlib.util
import subprocess
import sys

PACKAGE = "grain-molmo[notebooks]"
if importlib.util.find_spec("grain_molmo") is None:
    subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", PACKAGE])

# %% [markdown]
# ## Rows as they are on the hub

# %%
from pathlib import Path

from converters.sample.write import write_sample

command = f'"{sys.executable}" -m grain_molmo'
sample = write_sample(Path("hub"), ["pixmo-cap", "pixmo-points", "pixmo-cap-qa"], rows=60, problems=0.1)
for file in sorted(Path("hub").rglob("*.parquet")):
    print(file, f"{file.stat().st_size:,} bytes")

# %%
import pyarrow.parquet as pq

rows = pq.read_table("hub/pixmo-points/data/train-00000-of-00001.parquet")
print(rows.schema)
rows.slice(0, 2).to_pylist()

# %% [markdown]
# A row has a URL and, in this set, the SHA-256 of the picture that was annotated. Points are in percent of its width
# and height. One picture has many rows, one for each thing that is pointed at.
#
# The URLs of real sets lead all over the web. Who has fetched the pictures before has them in a folder, each under the
# SHA-256 of its URL, the layout of the published downloader. The generator leaves such a folder, too.

# %%
import hashlib

url = rows["image_url"][0].as_py()
cached = Path("hub/image-cache", hashlib.sha256(url.encode()).hexdigest())
print(url, "->", cached, f"{cached.stat().st_size:,} bytes")

# %% [markdown]
# ## What will it come to?
#
# Before anything large, ask. `--dry-run` reads the row counts, tries a few rows, and says what all of them would take.
# It also reminds us that pictures of the evaluation set should not be trained on: `--exclude` leaves them out. The generator
# makes no such pictures here.

# %%
# !{command} convert pixmo-points --source hub/pixmo-points --image-cache hub/image-cache --attempts 1 --data-dir DATA --dry-run

# %% [markdown]
# ## Convert
#
# `--source` is a folder here; without it the rows come from the hub. `--image-cache` is asked before the network is.
# Some of these rows are bad on purpose: URLs that no cache has and no server answers for, points outside of their
# picture, captions without a word. `--attempts 1` asks once for what is missing; for real links leave it out.

# %%
# !{command} convert pixmo-cap pixmo-points pixmo-cap-qa --source hub --image-cache hub/image-cache --attempts 1 --data-dir DATA

# %% [markdown]
# The same command again has nothing to do. Had the first one been stopped, by Ctrl-C, `kill -9` or a full disk, this one
# would have gone on where it was, and the store would be the same, byte for byte.

# %%
# !{command} convert pixmo-points --source hub/pixmo-points --image-cache hub/image-cache --attempts 1 --data-dir DATA

# %% [markdown]
# ## What is there now

# %%
# !{command} inspect --data-dir DATA

# %% [markdown]
# Three sets, but each picture is stored once, though rows of all three may show it. Rows of PixMo-Points that share a
# picture became one record.

# %%
for path in sorted(Path("DATA").rglob("*")):
    if path.is_file() and ".locks" not in path.parts:
        print(f"{path.stat().st_size:>10,}  {path}")

# %% [markdown]
# Files `*.array_record` are ArrayRecord with one record a group, which any reader of the format opens. An annotation
# record is a `tf.train.Example`; media records are the picture's bytes as they were fetched.

# %%
from array_record.python.array_record_data_source import ArrayRecordDataSource

shard = min(Path("DATA/media").rglob("*.array_record*"))
source = ArrayRecordDataSource(str(shard))
print(shard, len(source), "records; the first begins with", source[0][:48])

# %% [markdown]
# ## What was lost, and why
#
# Nothing is lost silently: each row that was left out is a line.

# %%
import json
from collections import Counter

rejects = [
    json.loads(line) | {"set": path.parent.name}
    for path in sorted(Path("DATA").glob("*/rejects-*.jsonl"))
    for line in path.read_text().splitlines()
]
for (name, reason), count in sorted(Counter((one["set"], one["reason"]) for one in rejects).items()):
    print(f"{count:3}  {name:14} {reason}")
rejects[0]

# %% [markdown]
# `unknown_host` may pass, for a name may be found another day: `convert ... --retry-rejects` tries such rows again, and
# only them. An empty caption will stay empty.
#
# ## Is the store sound?
#
# `verify` compares every file with its checksum, reads every record, and follows every reference to a picture.

# %%
# !{command} verify --data-dir DATA

# %% [markdown]
# Copies between machines are where files break. Let us break one: a single bit, among the pictures.

# %%
intact = shard.read_bytes()
damaged = bytearray(intact)
damaged[len(damaged) // 4] ^= 1
shard.chmod(0o644)
_ = shard.write_bytes(damaged)

# %%
# !{command} verify --data-dir DATA

# %% [markdown]
# The file is named, the record in it, and every annotation that needs that picture, of all three sets. Put back:

# %%
_ = shard.write_bytes(intact)

# %%
# !{command} verify --data-dir DATA

# %% [markdown]
# ## From the store to the model

# %%
import grain_molmo as gm

gm.get_dataset("pixmo-cap-qa", data_dir="DATA").show(0, stage="pretraining")

# %% [markdown]
# ## Where next
#
# - The real thing: `grain-molmo convert --stage pretraining --data-dir DATA --image-cache PICTURES --dry-run`, and when
#   you like what it says, the same without `--dry-run`. All of PixMo-Cap is about 370 GB of pictures.
# - `grain-molmo convert --help` knows more: processes, clusters, bounds on fetching, data of your own.
# - What a loader makes of a store is [3_what_packing_does](3_what_packing_does.ipynb).
