"""A stored picture stands for its pixels and opens nothing before they are asked for."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grain_molmo.errors import MediaError, StoreError
from grain_molmo.store import MediaRef, MediaStore, Record, SplitWriter, content_key
from grain_molmo.vision.image import decode_image, probe_image
from grain_molmo.vision.lazy import LazyImage


def encoded_picture(**save: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)).save(out, "PNG", **save)
    return out.getvalue()


def stored(folder: Path, data: bytes, width: int, height: int) -> LazyImage:
    ref = MediaRef(content_key(data), "image", width, height, len(data))
    writer = SplitWriter(folder, "pictures", "train", num_shards=1)
    writer.write_shard(0, [(Record("0", {}, (ref,)), {ref.sha256: data})])
    writer.finish(source={}, converter={}, rejects=[])
    return LazyImage(ref, MediaStore(folder))


def test_an_image_is_an_array_of_its_decoded_pixels(tmp_path: Path):
    data = encoded_picture()
    image = stored(tmp_path, data, 6, 4)
    assert (image.shape, image.dtype) == ((4, 6, 3), np.uint8)
    assert image.encoded() == data
    for array in (np.asarray(image), np.array(image), image.decode()):
        assert array.dtype == np.uint8
        assert np.array_equal(array, decode_image(data))
    assert np.asarray(image, np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="without decoding"):
        np.asarray(image, copy=False)


def test_a_picture_on_its_side_is_stored_and_decoded_upright(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded_picture(exif=exif)
    info = probe_image(data)
    assert (info.width, info.height) == (4, 6)
    assert np.asarray(stored(tmp_path, data, info.width, info.height)).shape == (6, 4, 3)


def test_pixels_of_another_size_than_was_planned_for_are_an_error(tmp_path: Path):
    image = stored(tmp_path, encoded_picture(), 4, 6)
    with pytest.raises(MediaError, match=f"{image.ref.sha256} is .4, 6, 3., stored as .6, 4, 3.") as caught:
        image.decode()
    assert caught.value.reason == "other_size"


def test_bytes_that_are_no_picture_are_an_error_of_the_media(tmp_path: Path):
    with pytest.raises(MediaError) as caught:
        np.asarray(stored(tmp_path, b"no picture", 4, 6))
    assert caught.value.reason == "not_an_image"


def test_its_size_is_known_without_the_store(tmp_path: Path):
    ref = MediaRef(content_key(b"lost"), "image", 7, 5, 4)
    image = LazyImage(ref, MediaStore(tmp_path))
    assert image.shape == (5, 7, 3)
    assert repr(image) == f"LazyImage(7x5, {ref.sha256[:12]})"
    with pytest.raises(StoreError, match=f"lacks media {ref.sha256}"):
        image.decode()


def test_an_image_travels_between_processes_as_a_reference(tmp_path: Path):
    image = stored(tmp_path, encoded_picture(), 6, 4)
    packed = pickle.dumps(image)
    assert image.encoded() not in packed
    assert np.array_equal(np.asarray(pickle.loads(packed)), np.asarray(image))
