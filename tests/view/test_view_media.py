"""Where the pictures of a view go: data URIs, and files that are written once and never half."""

import base64
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from grain_molmo.view import media
from grain_molmo.view.media import FolderMedia, InlineMedia, NotWrittenError, encode_jpeg

STRIPES = np.repeat(np.array([[[250, 20, 30], [20, 30, 250]]], np.uint8), 60, axis=1).repeat(40, axis=0)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_a_picture_keeps_its_colours_to_the_edge_between_them():
    pixels = np.asarray(opened(encode_jpeg(STRIPES, 1000))).astype(int)

    assert pixels.shape == STRIPES.shape
    assert np.abs(pixels - STRIPES).max() < 40


@pytest.mark.parametrize(
    ("shape", "most", "expected"),
    [
        ((300, 400), 200, (200, 150)),
        ((30, 40), 200, (40, 30)),
        ((5000, 2), 100, (1, 100)),
        ((1, 1), 16, (1, 1)),
    ],
)
def test_pictures_are_made_smaller_but_never_larger_nor_gone(shape, most, expected):
    assert opened(encode_jpeg(np.zeros((*shape, 3), np.uint8), most)).size == expected


def test_a_picture_that_is_not_contiguous_is_encoded_as_it_looks():
    turned = np.swapaxes(STRIPES, 0, 1)[:, ::-1]

    assert np.abs(np.asarray(opened(encode_jpeg(turned, 1000))).astype(int) - turned).max() < 40


def test_an_inline_picture_is_its_own_address():
    url = InlineMedia().put("key", lambda: STRIPES, 60)

    kind, data = url.split(",")
    assert kind == "data:image/jpeg;base64"
    assert opened(base64.b64decode(data)).size == (60, 20)


def test_a_sink_s_own_limit_holds_where_more_is_asked_for(tmp_path):
    url = FolderMedia(tmp_path / "media", max_side=30).put("key", lambda: STRIPES, 600)

    assert Image.open(tmp_path / url).size == (30, 10)


def test_a_picture_is_decoded_and_written_once_however_many_threads_want_it(tmp_path):
    sink, decoded, together = FolderMedia(tmp_path / "media"), [], threading.Barrier(8)

    def decode() -> np.ndarray:
        decoded.append(1)
        return STRIPES

    def put(_: int) -> str:
        together.wait()
        return sink.put("key", decode, 100)

    with ThreadPoolExecutor(8) as pool:
        urls = set(pool.map(put, range(8)))

    assert urls == {"media/key-100.jpg"}
    assert len(decoded) == 1
    assert [path.name for path in (tmp_path / "media").iterdir()] == ["key-100.jpg"]


def test_the_same_picture_in_two_sizes_is_two_files(tmp_path):
    sink = FolderMedia(tmp_path / "media")

    assert sink.put("key", lambda: STRIPES, 60) != sink.put("key", lambda: STRIPES, 100)


@pytest.mark.parametrize("key", ["../../etc/passwd", "a b", "", "x" * 300, "nul\0", "\ud800", "<script>"])
def test_a_key_that_is_no_file_name_makes_a_plain_one_in_the_folder(tmp_path, key):
    url = FolderMedia(tmp_path / "media").put(key, lambda: STRIPES, 100)

    assert url.removeprefix("media/").removesuffix("-100.jpg").isalnum()
    assert [f"media/{path.name}" for path in (tmp_path / "media").iterdir()] == [url]


def test_what_a_decoder_raises_comes_out_and_leaves_nothing(tmp_path):
    def broken() -> np.ndarray:
        raise ValueError("torn")

    sink = FolderMedia(tmp_path / "media")
    with pytest.raises(ValueError, match="torn"):
        sink.put("key", broken, 100)

    assert not (tmp_path / "media").exists()
    assert sink.put("key", lambda: STRIPES, 100) == "media/key-100.jpg"


def test_a_file_that_cannot_be_finished_does_not_appear(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(media.os, "replace", fail)
    with pytest.raises(NotWrittenError, match="disk full"):
        FolderMedia(tmp_path / "media").put("key", lambda: STRIPES, 100)

    assert list((tmp_path / "media").iterdir()) == []
