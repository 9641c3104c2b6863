"""Loading pictures: what is accepted, how it is turned, and what hostile bytes may do."""

import io
import json
import pickle
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageFile, ImageOps

from grain_molmo.errors import MediaError
from grain_molmo.vision.image import MAX_PIXELS, ImageInfo, decode_image, probe_image

XMP_SIDEWAYS = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def encoded(image: Image.Image, image_format: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, image_format, **options)
    return out.getvalue()


def gradient(width: int = 40, height: int = 24, mode: str = "RGB") -> Image.Image:
    """A smooth picture without symmetry, so that every way of turning it shows."""
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], axis=-1)
    return Image.fromarray(rgb.astype(np.uint8)).convert(mode)


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif.tobytes()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"\0" * 99)) + png_chunk(b"IEND", b"")


def reason_of(data: bytes, **options) -> str:
    with pytest.raises(MediaError) as caught:
        decode_image(data, **options)
    return caught.value.reason


class TestFormats:
    @pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
    def test_the_content_decides_the_format(self, image_format):
        data = encoded(gradient(), image_format)
        assert probe_image(data) == ImageInfo(40, 24, image_format)
        pixels = decode_image(data)
        assert pixels.shape == (24, 40, 3)
        assert pixels.dtype == np.uint8
        assert pixels.flags.writeable
        assert pixels.flags.c_contiguous

    @pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
    @pytest.mark.parametrize("subsampling", [0, 1, 2])
    @pytest.mark.parametrize("progressive", [False, True])
    def test_jpeg_pixels_are_those_of_pillow(self, mode, subsampling, progressive):
        data = encoded(gradient(67, 45, mode), "JPEG", subsampling=subsampling, progressive=progressive)
        assert np.array_equal(decode_image(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))

    def test_alpha_is_dropped_not_composited(self):
        image = gradient(mode="RGBA")
        image.putalpha(0)
        assert np.array_equal(decode_image(encoded(image, "PNG")), np.asarray(gradient()))

    @pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF"])
    def test_of_an_animation_the_first_frame(self, image_format):
        frames = [Image.new("RGB", (20, 10), color) for color in ("red", "lime", "blue")]
        data = encoded(frames[0], image_format, save_all=True, append_images=frames[1:])
        pixels = decode_image(data).astype(int)
        assert (np.abs(pixels - [255, 0, 0]) < 5).all()

    def test_a_program_is_no_picture(self):
        """Pillow would run Ghostscript on it."""
        assert reason_of(encoded(gradient(), "EPS")) == "not_an_image"


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
    def test_every_orientation_is_applied_as_pillow_does(self, image_format, orientation):
        data = encoded(gradient(), image_format, exif=turned(orientation))
        pixels, info = decode_image(data), probe_image(data)
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        assert np.array_equal(pixels, np.asarray(upright))
        assert pixels.shape[:2] == (info.height, info.width) == ((40, 24) if orientation >= 5 else (24, 40))

    @pytest.mark.parametrize("image_format", ["JPEG", "TIFF"])
    def test_orientation_in_xmp_counts_as_far_as_pillow_reads_it(self, image_format):
        where = {"xmp": XMP_SIDEWAYS} if image_format == "JPEG" else {"tiffinfo": {700: XMP_SIDEWAYS}}
        data = encoded(gradient(), image_format, **where)
        info = probe_image(data)
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)).convert("RGB"))
        assert (info.width, info.height) == upright.size
        assert np.array_equal(decode_image(data), np.asarray(upright))

    @pytest.mark.parametrize(
        "chunk",
        [
            png_chunk(b"eXIf", turned(6).removeprefix(b"Exif\0\0")),
            png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP_SIDEWAYS),
        ],
    )
    def test_a_png_may_tell_its_orientation_behind_the_pixels(self, chunk):
        data = encoded(gradient(), "PNG")
        data = data[:-12] + chunk + data[-12:]
        assert probe_image(data) == ImageInfo(24, 40, "PNG")
        assert decode_image(data).shape == (40, 24, 3)

    @pytest.mark.parametrize(
        "exif",
        [
            b"Exif\0\0",
            b"Exif\0\0MM\0*",
            b"Exif\0\0XX\0*\0\0\0\x08\0\x01",
            b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40,
            turned(6)[:-9],
            turned(0),
            turned(9),
        ],
    )
    @pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
    @pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
    def test_malformed_exif_does_not_cost_the_picture(self, image_format, exif):
        data = encoded(gradient(), image_format, exif=exif)
        assert decode_image(data).shape == (24, 40, 3)
        assert probe_image(data) == ImageInfo(40, 24, image_format)


class TestDamage:
    @pytest.mark.parametrize(
        ("data", "reason"),
        [(b"", "empty"), (b"<html>404</html>", "not_an_image"), (encoded(gradient(), "JPEG")[:100], "truncated")],
    )
    def test_what_is_no_picture_has_a_reason(self, data, reason):
        assert reason_of(data) == reason
        with pytest.raises(MediaError) as caught:
            probe_image(data)
        assert caught.value.reason == reason

    @pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
    def test_a_truncated_picture_keeps_what_is_there(self, image_format):
        image = Image.effect_noise((200, 200), 80).convert("RGB")
        data = encoded(image, image_format)
        whole, half = decode_image(data), decode_image(data[: len(data) // 2])
        assert half.shape == whole.shape
        assert np.array_equal(half[:64], whole[:64])
        assert (half[-16:] == half[-1, -1]).all(), "the rest is one flat color"

    def test_the_switch_of_pillow_is_as_before_whatever_happens(self, monkeypatch):
        data = encoded(gradient(), "PNG")
        for before in (False, True):
            monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", before)
            decode_image(data)
            decode_image(data[:-30])
            reason_of(b"nothing")
            assert ImageFile.LOAD_TRUNCATED_IMAGES is before

    def test_threads_that_meet_damaged_files_leave_the_switch_off(self):
        files = [encoded(gradient(90 + i, 70), "PNG")[: -40 - i] for i in range(24)]
        start = threading.Barrier(8)

        def decode_some(worker: int) -> list[tuple[int, ...]]:
            start.wait()
            return [decode_image(data).shape for data in files[worker::8]]

        with ThreadPoolExecutor(8) as pool:
            shapes = [shape for part in pool.map(decode_some, range(8)) for shape in part]
        assert sorted(shapes) == [(70, 90 + i, 3) for i in range(24)]
        assert ImageFile.LOAD_TRUNCATED_IMAGES is False

    def test_a_decompression_bomb_is_refused_by_its_header(self):
        side = int(MAX_PIXELS**0.5) + 1
        for data in (png_of_size(side, side), png_of_size(65536, 65536)):
            assert reason_of(data) == "too_large"
            with pytest.raises(MediaError, match="too_large"):
                probe_image(data)

    @pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
    def test_the_limit_counts_pixels(self, image_format):
        data = encoded(gradient(), image_format)
        assert decode_image(data, max_pixels=40 * 24).shape == (24, 40, 3)
        assert reason_of(data, max_pixels=40 * 24 - 1) == "too_large"

    @given(st.data())
    @settings(max_examples=150)
    @pytest.mark.filterwarnings("ignore")
    def test_hostile_bytes_raise_nothing_but_media_errors(self, data):
        kind = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"]))
        content = bytearray(encoded(gradient(), kind, **({} if kind in ("GIF", "BMP") else {"exif": turned(6)})))
        for _ in range(data.draw(st.integers(1, 6))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        content = bytes(content[: data.draw(st.integers(1, len(content)))])
        try:
            info = probe_image(content)
            pixels = decode_image(content, max_pixels=10**6)
        except MediaError:
            return
        assert pixels.shape == (info.height, info.width, 3)

    def test_an_error_survives_the_way_between_processes(self):
        with pytest.raises(MediaError) as caught:
            decode_image(b"nothing")
        copy = pickle.loads(pickle.dumps(caught.value))
        assert (copy.reason, copy.detail) == (caught.value.reason, caught.value.detail)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Palette images")
def test_real_files_probe_to_the_size_that_they_decode_to(media):
    manifest = json.loads((media / "manifest.json").read_text(encoding="utf-8"))
    names = [entry["file"] for entry in manifest if entry["file"].startswith("images/")]
    assert names
    for name in names:
        data = (media / name).read_bytes()
        try:
            pixels = decode_image(data)
        except MediaError:
            continue
        info = probe_image(data)
        assert pixels.shape == (info.height, info.width, 3), name
