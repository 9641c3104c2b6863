"""What a store holds: annotation records that refer to media, and media records that hold the original bytes."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from grain_molmo.errors import ConfigError
from grain_molmo.store.example_proto import decode_example, encode_example


@dataclass(frozen=True)
class MediaRef:
    """Where a picture is (by content) and all that planning needs to know of it, so that nobody opens it to plan.

    Attributes:
        sha256: lower-case hex digest of the original bytes.
        kind: "image".
        width: upright width in pixels (EXIF orientation applied).
        height: upright height in pixels.
        num_bytes: size of the original bytes.
    """

    sha256: str
    kind: str
    width: int
    height: int
    num_bytes: int


@dataclass(frozen=True)
class Record:
    """One annotation record.

    Attributes:
        id: stable identity of the example, unique within its dataset.
        annotation: JSON-able fields of the dataset.
        media: the pictures that it speaks of, in order.
    """

    id: str
    annotation: dict[str, Any]
    media: tuple[MediaRef, ...] = ()


@dataclass(frozen=True)
class Reject:
    """A source row that did not make it into the store, and why."""

    row: int
    id: str
    reason: str
    detail: str
    url: str = ""

    def to_json(self) -> str:
        """One line for the reject table."""
        return json.dumps(asdict(self), ensure_ascii=False)


def content_key(data: bytes) -> str:
    """The name of media in the store: SHA-256 of their bytes, lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def encode_record(record: Record) -> bytes:
    """Payload of an annotation record, a `tf.train.Example` with the features that `features.json` declares.

    Raises ConfigError if the annotation is not JSON; NaN and infinity are not.
    """
    try:
        annotation = json.dumps(record.annotation, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"record {record.id!r}: the annotation cannot be stored as JSON ({error})") from error
    return encode_example(
        bytes_lists={
            "id": [record.id.encode("utf-8", "surrogatepass")],
            "annotation": [annotation.encode("utf-8", "surrogatepass")],
            "media/sha256": [ref.sha256.encode() for ref in record.media],
            "media/kind": [ref.kind.encode() for ref in record.media],
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
        strict=True,
    )
    return Record(
        id=fields["id"][0].decode("utf-8", "surrogatepass"),
        annotation=json.loads(fields["annotation"][0].decode("utf-8", "surrogatepass")),
        media=tuple(MediaRef(sha.decode(), kind.decode(), *numbers) for sha, kind, *numbers in media),
    )


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
