"""What a store holds: annotation records that refer to media, and media records that hold the original bytes."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from grain_molmo.errors import ConfigError
from grain_molmo.store.arrays import decode_arrays, encode_arrays
from grain_molmo.store.example_proto import decode_example, encode_example


@dataclass(frozen=True)
class VideoFacts:
    """What planning needs to know of a video beyond its size.

    Attributes:
        duration_s: from the moment the first frame is shown to the moment the last one ends, seconds.
        num_frames: frames that the container holds.
        fps: frames per second, on average.
    """

    duration_s: float
    num_frames: int
    fps: float


@dataclass(frozen=True)
class MediaRef:
    """Where media are (by content) and all that planning needs to know of them, so that nobody opens them to plan.

    Attributes:
        sha256: lower-case hex digest of the bytes.
        kind: "image", "video", or "frames": frames of the video before it that were decoded at conversion.
        width: upright width in pixels (EXIF orientation or rotation metadata applied).
        height: upright height in pixels.
        num_bytes: size of the bytes.
        video: of a video or its frames.
    """

    sha256: str
    kind: str
    width: int
    height: int
    num_bytes: int
    video: VideoFacts | None = None


@dataclass(frozen=True)
class Record:
    """One annotation record.

    Attributes:
        id: stable identity of the example, unique within its dataset.
        annotation: JSON-able fields of the dataset. A field may also be an array of floating-point numbers (float32,
            float16, bfloat16), which is stored as its bytes.
        media: the pictures or the video that it speaks of, in order.
    """

    id: str
    annotation: dict[str, Any]
    media: tuple[MediaRef, ...] = ()


@dataclass(frozen=True)
class Reject:
    """A source row that did not make it into the store, and why.

    Attributes:
        row: its index in the source split.
        id: of the example that it would have been part of.
        reason: a short stable word to count by.
        detail: what was found.
        url: of its picture.
        attempts: how often the picture was asked for over the network; 0 where the network was not to blame.
        time: of the last of them, UTC, ISO 8601 to the second.
    """

    row: int
    id: str
    reason: str
    detail: str
    url: str = ""
    attempts: int = 0
    time: str = ""

    def to_json(self) -> str:
        """One line for the reject table."""
        fields = asdict(self)
        if not self.attempts:
            del fields["attempts"], fields["time"]
        return json.dumps(fields, ensure_ascii=False)


def content_key(data: bytes) -> str:
    """The name of media in the store: SHA-256 of their bytes, lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def encode_record(record: Record) -> bytes:
    """Payload of an annotation record, a `tf.train.Example` with the features that `features.json` declares.

    Raises ConfigError if the annotation is not JSON; NaN and infinity are not.
    """
    arrays = {name: value for name, value in record.annotation.items() if isinstance(value, np.ndarray)}
    fields = {name: value for name, value in record.annotation.items() if name not in arrays}
    try:
        annotation = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"record {record.id!r}: the annotation cannot be stored as JSON ({error})") from error
    return encode_example(
        bytes_lists={
            "id": [record.id.encode("utf-8", "surrogatepass")],
            "annotation": [annotation.encode("utf-8", "surrogatepass")],
            "media/sha256": [ref.sha256.encode() for ref in record.media],
            "media/kind": [ref.kind.encode() for ref in record.media],
            "media/video": [_encode_facts(ref.video) for ref in record.media],
            **encode_arrays(arrays),
        },
        int64_lists={
            "media/width": [ref.width for ref in record.media],
            "media/height": [ref.height for ref in record.media],
            "media/num_bytes": [ref.num_bytes for ref in record.media],
        },
    )


def decode_record(payload: bytes) -> Record:
    """The record of a payload. Raises ValueError or KeyError if it is none."""
    fields = decode_example(payload)
    media = zip(
        fields["media/sha256"],
        fields["media/kind"],
        fields["media/width"],
        fields["media/height"],
        fields["media/num_bytes"],
        map(_decode_facts, fields.get("media/video", [b""] * len(fields["media/kind"]))),
        strict=True,
    )
    return Record(
        id=fields["id"][0].decode("utf-8", "surrogatepass"),
        annotation=json.loads(fields["annotation"][0].decode("utf-8", "surrogatepass")) | decode_arrays(fields),
        media=tuple(MediaRef(sha.decode(), kind.decode(), *facts) for sha, kind, *facts in media),
    )


def _encode_facts(facts: VideoFacts | None) -> bytes:
    """JSON, since a duration must come back to the last bit: frame times follow from it."""
    return b"" if facts is None else json.dumps(asdict(facts), separators=(",", ":"), allow_nan=False).encode()


def _decode_facts(facts: bytes) -> VideoFacts | None:
    return VideoFacts(**json.loads(facts)) if facts else None


def encode_media(ref: MediaRef, data: bytes) -> bytes:
    """Payload of a media record: the original bytes beside the reference to them."""
    return encode_example(
        bytes_lists={"sha256": [ref.sha256.encode()], "kind": [ref.kind.encode()], "encoded": [data]},
        int64_lists={"width": [ref.width], "height": [ref.height]},
    )


def decode_media(payload: bytes) -> tuple[str, bytes]:
    """(sha256, original bytes) of a media record. Raises ValueError or KeyError if it is none."""
    fields = decode_example(payload)
    return fields["sha256"][0].decode(), fields["encoded"][0]


def decode_media_record(payload: bytes) -> tuple[MediaRef, bytes]:
    """(what the record says of the media, their bytes). Raises ValueError, KeyError or IndexError if it is none."""
    fields = decode_example(payload)
    data = fields["encoded"][0]
    kind, (width,), (height,) = fields["kind"][0].decode(), fields["width"], fields["height"]
    return MediaRef(fields["sha256"][0].decode(), kind, width, height, len(data)), data
