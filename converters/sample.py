"""Sample data of our own for the seven PixMo sets: hub-shaped parquet files beside a cache of the pictures.

Everything is drawn from (seed, set, row), so the annotations are true by construction and the same call writes the same
bytes. The folder is laid out like local copies of the hub's repositories, and the pictures lie where the published
downloader keeps them (Molmo2 §0.1), so the converter reads the sample as it reads the real thing:

    OUT/pixmo-cap/data/train-00000-of-00001.parquet
    OUT/pixmo-docs/charts/validation-00000-of-00001.parquet
    OUT/image-cache/<sha256 of the URL, in hex>
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from converters.sample_rows import ROW_MAKERS, SCHEMAS, PicturePool, Row
from grain_molmo.errors import ConfigError
from grain_molmo.rng import stable_hash

DOCS_CONFIGS = ("charts", "diagrams", "tables", "other")

# Why the converter must refuse a row, in the order in which a set's bad rows take them.
PROBLEMS: dict[str, tuple[str, ...]] = {
    "pixmo-cap": ("empty_caption", "dead_url"),
    "pixmo-points": ("point_out_of_range", "wrong_sha256", "dead_url"),
    "pixmo-count": ("point_out_of_range", "dead_url"),
    "pixmo-docs": ("not_an_image",),
    "pixmo-cap-qa": ("dead_url",),
    "pixmo-ask-model-anything": ("wrong_sha256", "dead_url"),
    "pixmo-clocks": ("bad_time",),
}
SAMPLE_NAMES = tuple(PROBLEMS)
NOT_AN_IMAGE = b"<!DOCTYPE html><title>404 Not Found</title>"


@dataclass(frozen=True)
class BadRow:
    """A row that the converter must refuse; `split` as in `SampleSet.counts`, `row` counts from 0 in its file."""

    split: str
    row: int
    reason: str  # one of PROBLEMS
    url: str = ""


@dataclass(frozen=True)
class SampleSet:
    """What was written of one set. `counts` are rows by "train" (of pixmo-docs "charts/train"), bad rows included."""

    folder: Path
    image_cache: Path
    counts: dict[str, int]
    bad_rows: tuple[BadRow, ...]


def write_sample(
    out: Path, names: Sequence[str] = SAMPLE_NAMES, rows: int = 64, seed: int = 0, problems: float = 0.02
) -> dict[str, SampleSet]:
    """Write sample rows of the named sets under `out` and return what was written, by the hub's name of the set.

    `rows` is the length of a set's training data; other splits are shorter. A share `problems` of the training rows,
    rounded up, at most half of them, can't be converted; 0 makes every row good. Names accept "-" and "_" alike.
    ConfigError for an unknown name, `rows` below 1 or `problems` outside 0 to 0.5.
    """
    if rows < 1 or not 0 <= problems <= 0.5:
        raise ConfigError(f"rows={rows} must be at least 1 and problems={problems} between 0 and 0.5")
    chosen = [_hub_name(name) for name in names]
    pool = PicturePool(seed, Path(out) / "image-cache")
    return {name: _write_set(Path(out) / name, name, pool, rows, problems) for name in chosen}


def _hub_name(name: str) -> str:
    """ "pixmo-cap-qa" for itself, "pixmo_cap_qa" and "pixmo-capqa"."""
    by_letters = {known.replace("-", ""): known for known in SAMPLE_NAMES}
    try:
        return by_letters[name.replace("-", "").replace("_", "").lower()]
    except KeyError:
        raise ConfigError(f"no sample data for {name!r}; there is: {', '.join(SAMPLE_NAMES)}") from None


def split_sizes(name: str, rows: int) -> dict[str, int]:
    """Return the number of rows of every split of a set whose training data have about `rows` rows."""
    quarter = max(1, rows // 4)
    if name == "pixmo-docs":
        parts = {"train": quarter, "validation": max(1, rows // 16)}
        return {f"{config}/{part}": number for config in DOCS_CONFIGS for part, number in parts.items()}
    if name == "pixmo-count":
        return {"train": rows, "validation": quarter, "test": quarter}
    if name == "pixmo-clocks":
        return {"train": rows, "validation": quarter}
    return {"train": rows}


def _write_set(folder: Path, name: str, pool: PicturePool, rows: int, problems: float) -> SampleSet:
    counts = split_sizes(name, rows)
    bad_rows: list[BadRow] = []
    for position, (split, number) in enumerate(counts.items()):
        table = ROW_MAKERS[name](pool, split, number)
        if position == 0:  # the training data; of pixmo-docs, those of the charts
            bad_rows = _spoil(table, name, split, pool, math.ceil(rows * problems))
        path = folder / _parquet_path(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(table, schema=SCHEMAS[name]), path)
    (folder / "README.md").write_text(_dataset_card(name, list(counts)))
    return SampleSet(folder, pool.folder, counts, tuple(bad_rows))


def _parquet_path(split: str, pattern: str = "-00000-of-00001.parquet") -> str:
    """Where the hub keeps a split: in the folder of its config, or in data/."""
    return f"{split if '/' in split else 'data/' + split}{pattern}"


def _dataset_card(name: str, splits: list[str]) -> str:
    """The part of a hub repository's README that tells `datasets.load_dataset` where configs and splits lie."""
    lines = ["---", "configs:"]
    for config in dict.fromkeys(split.rpartition("/")[0] or "default" for split in splits):
        lines += [f"- config_name: {config}", "  data_files:"]
        for split in splits:
            if (split.rpartition("/")[0] or "default") == config:
                lines += [f"  - split: {split.rpartition('/')[2]}", f"    path: {_parquet_path(split, '-*')}"]
    lines += ["---", f"Generated sample data with the columns of allenai/{name}; no row of it comes from there.", ""]
    return "\n".join(lines)


# ---- rows to refuse ----


def _spoil(table: list[Row], name: str, split: str, pool: PicturePool, number: int) -> list[BadRow]:
    """Spoil `number` rows of a table (at most half of it) in place and return which, in the table's order."""
    rng = np.random.default_rng(stable_hash("problems", pool.seed, name, split, len(table)))
    reasons = PROBLEMS[name]
    free = [int(i) for i in rng.permutation(len(table))]
    bad_rows = []
    for i in range(min(number, len(table) // 2)):
        reason = reasons[i % len(reasons)]
        suited = (row for row in free if reason != "point_out_of_range" or table[row]["count"] > 0)
        row = next(suited, None)
        if row is None:  # a short table may hold nothing but labels of absent objects
            continue
        free.remove(row)
        table[row] |= _problem(table[row], reason, f"{name}-{row:06d}", pool)
        bad_rows.append(BadRow(split, row, reason, table[row].get("image_url", "")))
    return sorted(bad_rows, key=lambda bad: bad.row)


def _problem(row: Row, reason: str, unique: str, pool: PicturePool) -> dict[str, Any]:
    """The columns to change. A bad URL is the row's own, so that rows that share its picture stay good."""
    if reason == "dead_url":
        return {"image_url": pool.url(f"gone/{unique}.jpg")}
    if reason == "wrong_sha256":
        url = pool.url(f"changed/{unique}.jpg")
        pool.store(url, pool.cached(row["image_url"]))
        return {"image_url": url, "image_sha256": hashlib.sha256(b"the picture before it was changed").hexdigest()}
    if reason == "empty_caption":
        return {"caption": " "}
    if reason == "point_out_of_range":
        return {"points": _one_outside(row["points"])}
    if reason == "not_an_image":
        return {"image": {"bytes": NOT_AN_IMAGE, "path": row["image"]["path"]}}
    if reason == "bad_time":
        return {"minute_visible": (row["minute_visible"] + 30) % 60}
    raise ValueError(reason)


def _one_outside(points: Any) -> Any:
    """Move the first point beyond the right border: pixmo-count has columns of pixels, pixmo-points percents."""
    if isinstance(points, dict):
        return {"x": [9999.0, *points["x"][1:]], "y": points["y"]}
    return [{"x": 131.5, "y": points[0]["y"]}, *points[1:]]
