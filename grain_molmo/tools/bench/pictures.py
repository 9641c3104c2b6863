"""Pictures to measure with, and the plainest thing that a program can do to them."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2

from converters.sample import write_sample
from grain_molmo.errors import MediaError
from grain_molmo.vision.crops import CROP
from grain_molmo.vision.image import decode_image


@dataclass(frozen=True)
class Picture:
    """A file's bytes, and the upright size of the picture in it."""

    data: bytes
    height: int
    width: int


def sample_pictures(folder: Path, count: int) -> Path:
    """Draws about so many sample pictures; the folder that holds them."""
    (written,) = write_sample(folder, ["pixmo-cap"], rows=count, problems=0).values()
    return written.image_cache


def read_pictures(folder: Path, at_most: int) -> tuple[list[Picture], Counter[str]]:
    """The first pictures below the folder, by path; and why other files among them were left out."""
    pictures: list[Picture] = []
    left_out: Counter[str] = Counter()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if len(pictures) == at_most:
            break
        data = path.read_bytes()
        try:
            height, width, _ = decode_image(data).shape
        except MediaError as error:
            left_out[error.reason] += 1
            continue
        pictures.append(Picture(data, height, width))
    return pictures, left_out


def decode_and_resize(data: bytes, height: int = CROP, width: int = CROP) -> None:
    """Decodes as the loader does, and resizes once with OpenCV's linear resize of uint8."""
    cv2.resize(decode_image(data), (width, height), interpolation=cv2.INTER_LINEAR)
