"""What the converters know of a set before its rows are seen, and where the media of a row may be."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.rows import Row
from converters.videos import VideoFolder
from grain_molmo.errors import RowError
from grain_molmo.store import MediaRef

Annotation = dict[str, Any]

# Rejections that say the numbers are in another unit than the set's, by reason, with what to look for.
UNIT_REASONS = {
    "points_out_of_range": "Points must be percent of the picture, 0-100 (flat points with a timestamp: 0-1): "
    "are these pixels, or the other of the two?",
    "points_outside_image": "Points must be pixels of the picture or video as it was annotated: was it resized since?",
    "points_outside": "Points are pixels of the picture as it is, x first: was it resized since? Percent are said by "
    "--values point_scale=100; --values clip_points=true has slips of the pen moved to the edge.",
}


@dataclass(frozen=True)
class FromUrl:
    """A picture to fetch; the bytes must have the SHA-256 if one is given."""

    url: str
    sha256: str | None = None


@dataclass(frozen=True)
class FromFile:
    """A picture in a file."""

    path: Path


@dataclass(frozen=True)
class FromCache:
    """A picture that the image cache holds under a name: the SHA-256 of a URL that the row does not give."""

    key: str


@dataclass(frozen=True)
class Embedded:
    """A picture whose encoded bytes are in the row."""

    data: bytes


@dataclass(frozen=True)
class Drawn:
    """A picture that is made from the row."""

    draw: Callable[[], bytes]


@dataclass(frozen=True)
class FromVideo:
    """A video in a file."""

    path: Path


@dataclass(frozen=True)
class EmbeddedVideo:
    """A video whose bytes are in the row."""

    data: bytes


MediaSource = FromUrl | FromFile | FromCache | Embedded | Drawn | FromVideo | EmbeddedVideo


@dataclass(frozen=True)
class Place:
    """Where a row stands.

    Attributes:
        config: the hub's config, or None.
        split: the store's name of the source's split.
        folder: where relative paths start, or None if rows may not refer to files.
        videos: where videos lie, or None if nobody said.
    """

    config: str | None
    split: str
    folder: Path | None
    videos: VideoFolder | None = None


def column(*names: str) -> Callable[[Row], Any]:
    """Reads the first of the columns that a row has a value in."""
    return lambda row: next((row[name] for name in names if row.get(name) is not None), None)


picture_url = column("image_url")


def _whole(pieces: list[Annotation]) -> list[Annotation]:
    return pieces


def _anywhere(piece: Annotation, medium: MediaRef) -> Annotation:
    return piece


def _usual_frames(annotation: Annotation, medium: MediaRef) -> Sequence[Mapping[str, Any]]:
    return ({},)


@dataclass(frozen=True, kw_only=True, eq=False)
class SetSpec:
    """What there is to know of a set before its rows are seen.

    Attributes:
        name: in the store.
        hub: dataset of the hub.
        aliases: other spellings that users know.
        is_video: each record is about one video; else about one or more pictures.
        configs: of the hub; each becomes a store split `SPLIT_CONFIG`.
        other_hubs: datasets of the hub with the same content in another form, that have no configs.
        config_of_others: the config that rows without one belong to.
        splits: of the hub.
        store_splits: the store's name of a hub's split, where it is another.
        required, optional: columns that are read, and their kinds.
        either: of each of these groups of optional columns there must be one.
        placed_by: columns that `identity`, `within` and `subset` look at; "a|b" is b where there is no column a.
        identity: what a row is about (a picture's URL, a video's id), which also names the example.
        within: what else rows must agree in to make one example, such as the clip of a video.
        grouped: rows of one identity make one example.
        subset: rows go to store splits `SPLIT_SUBSET`.
        validation_fraction: share of the pictures to hold out where the hub gives only a train split, about 2,048.
        rows_per_shard: source rows of one shard; a row never makes more than one record.
        excluded_by: dataset of the hub whose pictures must not occur.
        evaluates: the set that this one was made to evaluate, if it was made for nothing else.
        parse: one row to its piece of an annotation. Raises RowError.
        fit: what of the piece depends on the first medium's size or duration. Raises RowError.
        combine: the pieces of an example to the annotations of its records.
        media: the row's pictures in order, or its video. Raises RowError.
        units: what the numbers in a field of the annotations are, where its name leaves that open.
        frame_requests: sampler overrides that the set's datasets may show a record with; see `converters.frames`.
    """

    name: str
    hub: str
    aliases: tuple[str, ...] = ()
    is_video: bool = False
    configs: tuple[str | None, ...] = (None,)
    other_hubs: tuple[str, ...] = ()
    config_of_others: str | None = None
    splits: tuple[str, ...] = ("train",)
    store_splits: Mapping[str, str] = field(default_factory=dict)
    required: Mapping[str, str] = field(default_factory=dict)
    optional: Mapping[str, str] = field(default_factory=dict)
    either: tuple[tuple[str, ...], ...] = ()
    placed_by: tuple[str, ...] = ("image_url",)
    identity: Callable[[Row], Any] = picture_url
    within: Callable[[Row], str] | None = None
    grouped: bool = False
    subset: Callable[[Row], str] | None = None
    validation_fraction: float | None = None
    rows_per_shard: int = 4096
    excluded_by: str | None = None
    evaluates: str | None = None
    parse: Callable[[Row, Place], Annotation]
    fit: Callable[[Annotation, MediaRef], Annotation] = _anywhere
    combine: Callable[[list[Annotation]], list[Annotation]] = _whole
    media: Callable[[Row, Place], Sequence[MediaSource]]
    units: Mapping[str, str] = field(default_factory=dict)
    frame_requests: Callable[[Annotation, MediaRef], Sequence[Mapping[str, Any]]] = _usual_frames

    def store_split(self, split: str) -> str:
        """The store's name of a source's split."""
        return self.store_splits.get(split, split)


def embedded_picture(image: Any, place: Place) -> MediaSource:
    """The picture of an image feature: its bytes, or the file that it names. Raises RowError("missing_image")."""
    data, path = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (image, image)
    if isinstance(data, bytes) and data:
        return Embedded(data)
    if isinstance(path, str) and path and place.folder is not None:
        return FromFile(place.folder / path)
    raise RowError("missing_image", "the row holds neither encoded bytes nor the path of a file beside the rows")
