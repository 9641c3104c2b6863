"""Small files of features and folders of spatial relations, as documents describe them."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RELATIONS = ["left", "right", "top", "bottom"]


def features_ND(rows: int = 12, width: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).standard_normal((rows, width)).astype(np.float32)


def spatial_rows(number: int = 8, width: int = 6) -> dict[str, list[Any]]:
    """Columns of document 5, every second relation true."""
    return {
        "image_path": [f"images/{i}.png" for i in range(number)],
        "spatial_relation": [RELATIONS[i % 4] for i in range(number)],
        "label": [i % 2 for i in range(number)],
        "captions": [[f"A cup, number {i}.", "Another."][: 1 + i % 2] for i in range(number)],
        "features": features_ND(number, width).tolist(),
    }


def write_spatial(folder: Path, columns: dict[str, list[Any]] | None = None) -> Path:
    """A folder of `save_to_disk`, its pictures in it."""
    from datasets import Dataset

    columns = spatial_rows() if columns is None else columns
    Dataset.from_dict(columns).save_to_disk(folder)
    for i, name in enumerate(columns.get("image_path", [])):
        if name is not None and not Path(name).is_absolute() and ".." not in name:
            (folder / name).parent.mkdir(exist_ok=True)
            Image.new("RGB", (20 + i, 10), (20 * i, 0, 0)).save(folder / name)
    return folder
