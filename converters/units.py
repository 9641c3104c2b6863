"""A unit of rows to its records: what can be said before its media are there, then the rest, in threads."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.media import MediaLoader
from converters.plan import Unit
from converters.rows import Row, Rows, read_rows
from converters.spec import FromUrl, MediaSource, Place, SetSpec
from grain_molmo.errors import FetchError, RowError
from grain_molmo.store import MediaBytes, Medium, Record, Reject


@dataclass(frozen=True)
class Prepared:
    """A unit whose rows were read: pieces of its annotation by row, its media still to load."""

    unit: Unit
    url: str
    pieces: list[tuple[int, dict[str, Any]]]
    sources: Sequence[MediaSource]
    rejects: list[Reject]

    def reject(self, row: int, error: RowError) -> Reject:
        """The row as rejected for this error."""
        attempts, time = (error.attempts, error.time) if isinstance(error, FetchError) else (0, "")
        url = self.url or next((one.url for one in self.sources if isinstance(one, FromUrl)), "")
        return Reject(row, self.unit.id, error.reason, error.detail, url, attempts, time)


@dataclass(frozen=True)
class Made:
    """A unit's records and their media, and those of its rows that are in none."""

    unit: Unit
    records: list[Record]
    media: MediaBytes
    rejects: list[Reject]

    @property
    def num_rows(self) -> int:
        """Source rows of the unit."""
        return len(self.unit.rows)


def prepare(
    spec: SetSpec, rows: Rows, place: Place, units: Iterable[Unit], excluded: frozenset[str]
) -> Iterator[Prepared]:
    """The units with everything that can be said before their media are there."""
    units = list(units)
    found = read_rows(rows, [index for unit in units for index in unit.rows])
    return (_prepare(spec, place, unit, list(itertools.islice(found, len(unit.rows))), excluded) for unit in units)


def _prepare(
    spec: SetSpec, place: Place, unit: Unit, rows: Sequence[Row | RowError], excluded: frozenset[str]
) -> Prepared:
    pieces: list[tuple[int, dict[str, Any]]] = []
    rejects: list[Reject] = []
    sources: Sequence[MediaSource] = ()
    url = ""
    for index, row in zip(unit.rows, rows, strict=True):
        try:
            if isinstance(row, RowError):
                raise row
            url = _url(row) or url
            _require_allowed(row, excluded)
            piece, in_row = spec.parse(row, place), spec.media(row, place)
        except RowError as error:
            rejects.append(Reject(index, unit.id, error.reason, error.detail, url))
            continue
        pieces.append((index, piece))
        sources = sources or in_row
    return Prepared(unit, url, pieces, sources, rejects)


def _url(row: Row) -> str:
    url = row.get("image_url")
    return url if isinstance(url, str) else ""


def _require_allowed(row: Row, excluded: frozenset[str]) -> None:
    if any(isinstance(row.get(column), str) and row[column] in excluded for column in ("image_url", "image_sha256")):
        raise RowError("excluded_image", "the picture occurs in the set that is kept apart for evaluation")


def make_records(spec: SetSpec, prepared: Prepared, loader: MediaLoader, with_frames: bool) -> Made:
    """The unit's records with their media."""
    rejects = list(prepared.rejects)
    fitted: list[tuple[int, dict[str, Any]]] = []
    try:
        media = loader.load(prepared.sources) if prepared.pieces else []
        for row, piece in prepared.pieces:
            try:
                fitted.append((row, spec.fit(piece, media[0].ref) if media else piece))  # text has none
            except RowError as error:
                rejects.append(prepared.reject(row, error))
        annotations = spec.combine([piece for _, piece in fitted]) if fitted else []
        shown = [
            _with_frames(spec, one, media, loader) if with_frames and spec.is_video else media for one in annotations
        ]
    except RowError as error:  # of the media, which the rows share
        rest = [row for row, _ in fitted or prepared.pieces]
        return Made(prepared.unit, [], MediaBytes(()), rejects + [prepared.reject(row, error) for row in rest])
    records = [
        Record(
            prepared.unit.id if part == 0 else f"{prepared.unit.id}+{part}",
            {"url": prepared.url, **annotation} if prepared.url else annotation,
            tuple(medium.ref for medium in shown[part]),
        )
        for part, annotation in enumerate(annotations)
    ]
    return Made(prepared.unit, records, MediaBytes(medium for one in shown for medium in one), rejects)


def _with_frames(
    spec: SetSpec, annotation: Mapping[str, Any], media: Sequence[Medium], loader: MediaLoader
) -> list[Medium]:
    video = media[0]
    requests = spec.frame_requests(dict(annotation), video.ref)
    return [video, loader.frames(video, requests, annotation.get("clip"))]
