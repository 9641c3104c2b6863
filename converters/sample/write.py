"""Sample data of our own for the PixMo and Molmo2 sets: hub-shaped parquet files beside pictures and videos.

Everything is drawn from (seed, set, row), so the annotations are true by construction and the same call writes the same
bytes. The folder is laid out like local copies of the hub's repositories, and pictures and videos lie where the
published pipeline keeps them (Molmo2 §0.1, §1B.2), so the converter reads the sample as it reads the real thing:

    OUT/pixmo-cap/data/train-00000-of-00001.parquet
    OUT/pixmo-docs/charts/validation-00000-of-00001.parquet
    OUT/molmo2-videocapqa/data/CapQA-00000-of-00001.parquet
    OUT/image-cache/<sha256 of the URL, in hex>
    OUT/video_datasets/youtube-cc/youtube-cc-exist/<id>/<id>.mp4
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from converters.sample import multi_rows as sample_multi_rows
from converters.sample import rows as sample_rows
from converters.sample import video_rows as sample_video_rows
from converters.sample.problems import BadRow, Pools, spoil
from converters.sample.rows import PicturePool, Row
from converters.sample.videos import VideoPool
from grain_molmo.errors import ConfigError

CONFIGS = {
    "pixmo-docs": ("charts", "diagrams", "tables", "other"),
    "molmo2-synmultiimageqa": sample_multi_rows.FIGURE_CONFIGS,
}
SCHEMAS = sample_rows.SCHEMAS | sample_multi_rows.SCHEMAS | sample_video_rows.SCHEMAS
PIXMO_NAMES = tuple(sample_rows.SCHEMAS)
MOLMO2_NAMES = tuple(sample_video_rows.SCHEMAS | sample_multi_rows.SCHEMAS)
SAMPLE_NAMES = PIXMO_NAMES + MOLMO2_NAMES


@dataclass(frozen=True)
class SampleSet:
    """What was written of one set.

    `counts` are rows by "train" (of pixmo-docs "charts/train"), bad rows included. Of molmo2-videopoint "train" has all
    rows and "object/train" and the like those of one category once more.
    """

    folder: Path
    image_cache: Path
    video_dir: Path
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
    pools = Pools(PicturePool(seed, Path(out) / "image-cache"), VideoPool(seed, Path(out) / "video_datasets"))
    return {name: _write_set(Path(out) / name, name, pools, rows, problems) for name in chosen}


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
    if name in CONFIGS:
        shares = {"pixmo-docs": (4, 16), "molmo2-synmultiimageqa": (8, 32)}
        train, validation = (max(1, rows // share) for share in shares[name])
        parts = {"train": train, "validation": validation}
        return {f"{config}/{part}": number for config in CONFIGS[name] for part, number in parts.items()}
    match name:
        case "pixmo-count":
            return {"train": rows, "validation": quarter, "test": quarter}
        case "pixmo-points-eval":
            return {"test": quarter}
        case "pixmo-clocks" | "molmo2-multiimageqa":
            return {"train": rows, "validation": quarter}
        case "molmo2-cap":
            return {"train": rows, "val": quarter}
        case "molmo2-videocapqa":
            return {"CapQA": rows, "LongCapQA": max(1, rows // 8)}
        case "molmo2-videosubtitleqa":
            return {"SubtitleQA": rows}
        case "molmo2-askmodelanything":
            return {"HumanQA": rows}
        case "molmo2-videotrack":
            return {f"{task}/train": max(1, rows // 3) for task in sample_video_rows.TRACK_TASKS}
        case _:
            return {"train": rows}


def _write_set(folder: Path, name: str, pools: Pools, rows: int, problems: float) -> SampleSet:
    tables: dict[str, list[Row]] = {}
    bad_rows: list[BadRow] = []
    for split, number in split_sizes(name, rows).items():
        tables[split] = _make_rows(name, pools, split, number)
        if len(tables) == 1:  # the training data; of a set with configs, those of the first
            bad_rows = spoil(tables[split], name, split, pools, math.ceil(rows * problems))
    if name == "molmo2-videopoint":
        bad_rows += _split_by_category(tables, bad_rows)
    for split, table in tables.items():
        path = folder / _parquet_path(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(table, schema=schema(name, split)), path)
    (folder / "README.md").write_text(_dataset_card(name, list(tables)))
    counts = {split: len(table) for split, table in tables.items()}
    return SampleSet(folder, pools.pictures.folder, pools.videos.folder, counts, tuple(bad_rows))


def _make_rows(name: str, pools: Pools, split: str, number: int) -> list[Row]:
    if name in sample_video_rows.ROW_MAKERS:
        return sample_video_rows.ROW_MAKERS[name](pools.videos, split, number)
    return (sample_rows.ROW_MAKERS | sample_multi_rows.ROW_MAKERS)[name](pools.pictures, split, number)


def schema(name: str, split: str) -> pa.Schema:
    """Return the columns of a split."""
    return sample_video_rows.LONG_QA_SCHEMA if split == "LongCapQA" else SCHEMAS[name]


def _split_by_category(tables: dict[str, list[Row]], bad_rows: list[BadRow]) -> list[BadRow]:
    """Add a table of each category, as the hub's configs have them, and return the bad rows in those."""
    found = []
    for category in sample_video_rows.POINT_CONFIGS:
        places = [i for i, row in enumerate(tables["train"]) if row["category"] == category]
        if places:
            tables[f"{category}/train"] = [tables["train"][i] for i in places]
        found += [replace(b, split=f"{category}/train", row=places.index(b.row)) for b in bad_rows if b.row in places]
    return found


def _parquet_path(split: str, pattern: str = "-00000-of-00001.parquet") -> str:
    """Where the hub keeps a split: in the folder of its config, or in data/."""
    return f"{split if '/' in split else 'data/' + split}{pattern}"


def _dataset_card(name: str, splits: list[str]) -> str:
    """The part of a hub repository's README that tells `datasets.load_dataset` where configs and splits lie."""
    lines = ["---", "configs:"]
    for config in dict.fromkeys(map(_config, splits)):
        lines += [f"- config_name: {config}", "  data_files:"]
        for split in splits:
            if _config(split) == config:
                lines += [f"  - split: {split.rpartition('/')[2]}", f"    path: {_parquet_path(split, '-*')}"]
    lines += ["---", f"Generated sample data with the columns of allenai/{name}; no row of it comes from there.", ""]
    return "\n".join(lines)


def _config(split: str) -> str:
    """Its folder, or "default"; rows of other columns than the rest need a config of their own."""
    return split if split == "LongCapQA" else split.rpartition("/")[0] or "default"
