"""Which pictures are whole: those that are cut off are told apart from those that only look odd."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from grain_molmo.errors import MediaError
from grain_molmo.vision.image import decode_image, probe_image, require_whole

DAMAGED = {
    "lovell__sharp/truncated.png",
    "python-pillow__Pillow/broken_data_stream.png",
    "python-pillow__Pillow/truncated_image.png",
    "python-pillow__Pillow/truncated_jpeg.jpg",
}
"""The real pictures that `decode_image` completes with gray or black."""


def encoded(image_format: str, mode: str = "RGB", **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, image_format, **options)
    return out.getvalue()


def refusal(data: bytes) -> str | None:
    try:
        require_whole(data)
    except MediaError as error:
        return error.reason
    return None


@pytest.mark.parametrize(
    ("image_format", "mode", "options"),
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "L", {}),
        ("JPEG", "CMYK", {}),
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("GIF", "P", {}),
        ("BMP", "RGB", {}),
        ("TIFF", "RGB", {}),
        ("JPEG2000", "RGB", {}),
    ],
)
def test_a_picture_without_its_end_is_truncated(image_format: str, mode: str, options: dict):
    data = encoded(image_format, mode, **options)
    assert refusal(data) is None
    for share in (0.6, 0.8, 0.95):
        cut = data[: int(len(data) * share)]
        assert decode_image(cut).shape == (60, 80, 3)  # some pixels are there, the others made up
        assert refusal(cut) == "truncated"


def test_what_cannot_be_decoded_at_all_keeps_its_own_reason():
    assert refusal(encoded("WEBP")[:-50]) == "unreadable"
    assert refusal(b"<html>") == "not_an_image"
    assert refusal(b"") == "empty"


def test_real_pictures_are_whole_but_those_known_not_to_be(media: Path):
    found = set()
    for path in sorted((media / "images").rglob("*")):
        if not path.is_file() or path.stat().st_size > 3_000_000:
            continue
        data = path.read_bytes()
        try:
            info = probe_image(data)
            if info.width * info.height > 4_000_000:
                continue
            decode_image(data)
        except MediaError:
            continue
        if refusal(data) is not None:
            found.add(path.relative_to(media / "images").as_posix())
    assert found == DAMAGED


def test_tolerance_that_other_threads_need_is_not_taken_for_our_own():
    cut = encoded("PNG")[:-3000]
    stop = threading.Event()

    def tolerate() -> None:
        while not stop.is_set():
            decode_image(cut)

    with ThreadPoolExecutor(2) as pool:
        tolerating = pool.submit(tolerate)
        try:
            assert {refusal(cut) for _ in range(100)} == {"truncated"}
        finally:
            stop.set()
        tolerating.result()


def test_the_tolerance_of_the_users_program_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert refusal(encoded("PNG")[:-3000]) == "truncated"
    assert refusal(encoded("PNG")) is None
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
