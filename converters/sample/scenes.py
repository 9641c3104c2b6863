"""Pictures of shapes whose content is known exactly: what is where, in which color, and how often.

A `Scene` is the truth, `draw_scene` its upright picture, `encode_picture` the bytes of one of the many kinds of file
that a web crawl holds. All three are pure functions of (seed, folder, index).
"""

import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from grain_molmo.rng import stable_hash

RGB = tuple[int, int, int]

COLORS: dict[str, RGB] = {
    "red": (208, 38, 44),
    "orange": (240, 132, 24),
    "yellow": (248, 208, 48),
    "green": (40, 150, 68),
    "blue": (38, 92, 214),
    "purple": (126, 58, 176),
    "pink": (242, 128, 180),
    "brown": (120, 74, 42),
    "black": (24, 24, 28),
    "white": (250, 250, 250),
}
GRAYS: dict[str, RGB] = {"black": (22, 22, 22), "dark gray": (92, 92, 92), "white": (250, 250, 250)}
SHADES = COLORS | GRAYS

BACKGROUNDS: dict[str, RGB] = {
    "cream": (248, 240, 218),
    "pale blue": (208, 228, 246),
    "light gray": (218, 220, 224),
    "mint green": (206, 236, 218),
    "lavender": (226, 218, 244),
    "sand-colored": (228, 208, 172),
    "navy blue": (26, 38, 76),
    "charcoal": (50, 52, 58),
    "dark teal": (16, 82, 90),
}
GRAY_BACKGROUND = "silver"
PATTERNS = ("plain", "gradient", "striped", "checkered", "mottled")

MIN_CONTRAST = 95.0  # Euclidean RGB distance between a shape and its background, so that every shape is plain to see
SUPERSAMPLING = 3


@dataclass(frozen=True)
class Encoding:
    """How a picture becomes bytes. `orientation` is the EXIF tag, by which viewers turn the stored pixels upright."""

    format: str = "JPEG"
    mode: str = "RGB"
    quality: int = 85
    subsampling: int = 2  # JPEG: 0 is 4:4:4, 2 is 4:2:0
    orientation: int = 1

    @property
    def suffix(self) -> str:
        """File name ending of this format."""
        return {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}[self.format]


# Sixteen that come equally often; JPEG is what the web mostly serves.
ENCODINGS = (
    Encoding(quality=60),
    Encoding(quality=75),
    Encoding(quality=80),
    Encoding(quality=85),
    Encoding(quality=92),
    Encoding(quality=75, subsampling=0),
    Encoding(quality=90, subsampling=0),
    Encoding(quality=95, subsampling=0),
    Encoding(mode="L"),
    Encoding(orientation=6),
    Encoding(orientation=8),
    Encoding(orientation=3, subsampling=0),
    Encoding("PNG"),
    Encoding("PNG", mode="P"),
    Encoding("PNG", mode="RGBA"),
    Encoding("WEBP", quality=80),
)


@dataclass(frozen=True)
class Shape:
    """One shape; center and radius (of its circumscribed circle) in pixels of the upright picture."""

    kind: str
    color: str
    x: float
    y: float
    radius: float

    @property
    def label(self) -> str:
        """Color and kind, such as "red circle"."""
        return f"{self.color} {self.kind}"


@dataclass(frozen=True)
class Scene:
    """What a picture shows. `shapes` don't overlap; those of one label stand together, most important label first."""

    width: int
    height: int
    background: str
    pattern: str
    shapes: tuple[Shape, ...]
    encoding: Encoding
    noise_seed: int

    def groups(self) -> dict[str, list[Shape]]:
        """Shapes by label, in the scene's order."""
        groups: dict[str, list[Shape]] = {}
        for shape in self.shapes:
            groups.setdefault(shape.label, []).append(shape)
        return groups


def make_scene(seed: int, folder: str, index: int) -> Scene:
    """Return scene `index` of a folder.

    "scenes" hold a few shapes, "crowds" dozens; the first label of "counts" has 1 to 20, that of "evals" 2 to 10.
    """
    rng = np.random.default_rng(stable_hash("scene", seed, folder, index))
    # An odd stride visits every kind of file once in each run of sixteen pictures, so small samples have them all.
    encoding = ENCODINGS[(stable_hash("encoding", seed, folder) + 7 * index) % len(ENCODINGS)]
    gray = encoding.mode == "L"
    background = GRAY_BACKGROUND if gray else str(rng.choice(list(BACKGROUNDS)))
    pattern = str(rng.choice(PATTERNS))
    width, height = _draw_size(rng, smallest=520 if folder == "crowds" else 200)
    numbers = _group_sizes(rng, folder, index)
    labels = draw_labels(rng, len(numbers), background, GRAYS if gray else COLORS)
    kinds_colors = [label for label, number in zip(labels, numbers, strict=False) for _ in range(number)]
    # Few shapes may vary much in size; a crowd is evenly spread over a finer grid.
    spots = _draw_spots(rng, len(kinds_colors), width, height, slack=1.25 if folder == "crowds" else 1.6)
    shapes = tuple(Shape(*label, *spot) for label, spot in zip(kinds_colors, spots, strict=True))
    return Scene(width, height, background, pattern, shapes, encoding, int(rng.integers(2**31)))


def _draw_size(rng: np.random.Generator, smallest: int) -> tuple[int, int]:
    low, high = [(200, 400), (500, 1000), (1000, 1600)][rng.choice(3, p=[0.08, 0.86, 0.06])]
    longest = max(int(rng.integers(low, high + 1)), smallest)
    shortest = max(int(longest / rng.choice([1.0, 1.25, 4 / 3, 1.5, 16 / 9, 2.2])), min(smallest, longest))
    return (longest, shortest) if rng.random() < 0.65 else (shortest, longest)


def _group_sizes(rng: np.random.Generator, folder: str, index: int) -> list[int]:
    """How many shapes each label gets."""
    if folder == "scenes":
        return [int(n) for n in rng.choice([1, 1, 1, 2, 3], size=rng.integers(3, 6))]
    if folder == "crowds":  # every second crowd has a label with more points than one example may hold (60)
        most = int(rng.integers(61, 91)) if index % 2 == 0 else int(rng.integers(18, 60))
        return [most, *(int(n) for n in rng.integers(4, 16, size=rng.integers(1, 4)))]
    if folder == "counts":
        return [int(rng.integers(1, 21)), *(int(n) for n in rng.integers(1, 6, size=rng.integers(1, 3)))]
    if folder == "evals":
        return [int(rng.integers(2, 11)), *(int(n) for n in rng.integers(1, 6, size=rng.integers(1, 3)))]
    raise ValueError(f"unknown folder of scenes {folder!r}")


def draw_labels(
    rng: np.random.Generator, number: int, background: str, palette: dict[str, RGB]
) -> list[tuple[str, str]]:
    """Return different (kind, color) pairs whose colors stand out from both tones of the background."""
    tones = background_tones(background)
    colors = [name for name, color in palette.items() if min(math.dist(color, tone) for tone in tones) >= MIN_CONTRAST]
    pairs = [(kind, color) for kind in OUTLINES for color in colors]
    return [pairs[i] for i in rng.choice(len(pairs), size=number, replace=False)]


def _draw_spots(
    rng: np.random.Generator, number: int, width: int, height: int, slack: float
) -> list[tuple[float, float, float]]:
    """(x, y, radius) of discs that touch neither each other nor the border: each in a grid cell of its own."""
    cells = math.ceil(number * slack)
    cols = max(1, round(math.sqrt(cells * width / height)))
    rows = math.ceil(cells / cols)
    cell_w, cell_h = width / cols, height / rows
    spots = []
    for cell in rng.choice(rows * cols, size=number, replace=False):
        radius = min(cell_w, cell_h) * rng.uniform(0.27, 0.46)
        room_x, room_y = cell_w / 2 - radius - 1, cell_h / 2 - radius - 1
        x = (cell % cols + 0.5) * cell_w + rng.uniform(-1, 1) * max(room_x, 0)
        y = (cell // cols + 0.5) * cell_h + rng.uniform(-1, 1) * max(room_y, 0)
        spots.append((round(float(x), 2), round(float(y), 2), round(float(radius), 2)))
    return spots


# ---- drawing ----


def _regular(corners: int, turn_degrees: float, inner: float | None = None) -> tuple[tuple[float, float], ...]:
    """Corners of a regular polygon of radius 1 around 0, or of a star whose inner corners lie at radius `inner`."""
    radii = [1.0] * corners if inner is None else [1.0, inner] * corners
    angles = [math.radians(turn_degrees + 360 * i / len(radii)) for i in range(len(radii))]
    return tuple(
        (radius * math.cos(angle), radius * math.sin(angle)) for radius, angle in zip(radii, angles, strict=True)
    )


def _heart() -> tuple[tuple[float, float], ...]:
    steps = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    x = 16 * np.sin(steps) ** 3
    y = -(13 * np.cos(steps) - 5 * np.cos(2 * steps) - 2 * np.cos(3 * steps) - np.cos(4 * steps))
    return tuple((float(a) / 18, float(b) / 18) for a, b in zip(x, y, strict=True))


def _cross(arm: float) -> tuple[tuple[float, float], ...]:
    quarter = [(-arm, -0.94), (arm, -0.94), (arm, -arm)]
    turns = [lambda x, y: (x, y), lambda x, y: (-y, x), lambda x, y: (-x, -y), lambda x, y: (y, -x)]
    return tuple(turn(x, y) for turn in turns for x, y in quarter)


OUTLINES: dict[str, tuple[tuple[float, float], ...]] = {
    "circle": _regular(72, 0),
    "square": _regular(4, 45),
    "triangle": _regular(3, -90),
    "star": _regular(5, -90, inner=0.45),
    "diamond": tuple((x * 0.72, y) for x, y in _regular(4, 0)),
    "hexagon": _regular(6, 0),
    "cross": _cross(0.32),
    "heart": _heart(),
}


def background_tones(background: str) -> tuple[RGB, RGB]:
    """Return the two close tones that a background's pattern is made of."""
    tone = BACKGROUNDS.get(background, (176, 176, 176))
    factor = 0.9 if sum(tone) > 380 else 1.25
    return tone, tuple(min(255, int(channel * factor)) for channel in tone)  # type: ignore[return-value]


def draw_scene(scene: Scene) -> Image.Image:
    """Return the upright RGB picture of a scene."""
    image = draw_background(scene)
    draw_shapes(image, scene.shapes)
    return image


def draw_shapes(image: Image.Image, shapes: Iterable[Shape]) -> None:
    """Draw shapes, each with a faint shadow, into a picture."""
    for shape in shapes:
        color = SHADES[shape.color]
        side = math.ceil(shape.radius) * 2 + 2
        left, top = math.floor(shape.x) - side // 2, math.floor(shape.y) - side // 2
        mask = _shape_mask(shape.kind, side, shape.radius, shape.x - left, shape.y - top)
        offset = max(1, round(shape.radius * 0.06))
        shadow = tuple(int(channel * 0.72) for channel in image.getpixel((int(shape.x), int(shape.y))))  # type: ignore
        image.paste(shadow, (left + offset, top + offset), mask)
        image.paste(color, (left, top), mask)


@lru_cache(maxsize=256)
def _shape_mask(kind: str, side: int, radius: float, x: float, y: float) -> Image.Image:
    """Antialiased [side, side] mask of a shape around (x, y)."""
    mask = Image.new("L", (side * SUPERSAMPLING, side * SUPERSAMPLING))
    corners = [((x + radius * u) * SUPERSAMPLING, (y + radius * v) * SUPERSAMPLING) for u, v in OUTLINES[kind]]
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    return mask.reduce(SUPERSAMPLING)


def draw_background(scene: Scene) -> Image.Image:
    """Return the picture of a scene without its shapes: two tones, blended by a weight in 0..1 per pixel."""
    tones = np.array(background_tones(scene.background), np.float32)
    rows_H1 = np.arange(scene.height, dtype=np.float32)[:, None]
    cols_1W = np.arange(scene.width, dtype=np.float32)[None, :]
    step = max(16, min(scene.width, scene.height) // 12)
    if scene.pattern == "gradient":
        weight_HW = rows_H1 / scene.height + 0 * cols_1W
    elif scene.pattern == "striped":
        weight_HW = ((rows_H1 + cols_1W) // step) % 2
    elif scene.pattern == "checkered":
        weight_HW = (rows_H1 // step + cols_1W // step) % 2
    elif scene.pattern == "mottled":
        noise = np.random.default_rng(scene.noise_seed).integers(0, 256, (12, 16), dtype=np.uint8)
        clouds = Image.fromarray(noise).resize((scene.width, scene.height), Image.Resampling.BICUBIC)
        weight_HW = np.asarray(clouds, np.float32) / 255
    else:
        return Image.new("RGB", (scene.width, scene.height), background_tones(scene.background)[0])
    levels_256x3 = np.linspace(tones[0], tones[1], 256).round().astype(np.uint8)
    return Image.fromarray(levels_256x3[(weight_HW * 255).astype(np.uint8)])


# ---- encoding ----

# Stored pixels = the upright picture turned the other way round than the viewer turns it.
_UNTURN = {
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}
_EXIF_ORIENTATION = 0x0112


def encode_picture(upright: Image.Image, encoding: Encoding) -> bytes:
    """Return the file bytes of an upright RGB picture."""
    exif = Image.Exif()
    stored = upright
    if encoding.orientation != 1:
        stored = upright.transpose(_UNTURN[encoding.orientation])
        exif[_EXIF_ORIENTATION] = encoding.orientation
    out = io.BytesIO()
    if encoding.format == "JPEG":
        stored = stored.convert(encoding.mode)
        stored.save(out, "JPEG", quality=encoding.quality, subsampling=encoding.subsampling, exif=exif)
    elif encoding.format == "WEBP":
        stored.save(out, "WEBP", quality=encoding.quality, method=0)
    elif encoding.mode == "P":
        return png_bytes(stored.quantize(64, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE))
    elif encoding.mode == "RGBA":
        return png_bytes(_with_round_corners(stored))
    else:
        return png_bytes(stored)
    return out.getvalue()


def png_bytes(image: Image.Image) -> bytes:
    """Return a PNG, packed quickly rather than tightly."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _with_round_corners(image: Image.Image) -> Image.Image:
    """RGBA with transparent corners. The color under them stays, so dropping alpha gives the same picture back."""
    alpha = Image.new("L", image.size)
    ImageDraw.Draw(alpha).rounded_rectangle((0, 0, *image.size), radius=min(image.size) // 16, fill=255)
    image = image.copy()
    image.putalpha(alpha)
    return image
