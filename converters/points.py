"""Points of any set: within their range, as many as the row says."""

from collections.abc import Sequence

from grain_molmo.errors import RowError

MAX_POINTS = 60  # of one label or query, and of one example
PERCENT_TOLERANCE = 0.5  # beyond 0-100: a click on the very edge, rounded; further out it is another unit
PIXEL_TOLERANCE = 1.0

Point = list[float]


def require_count(count: int, points: Sequence[object]) -> None:
    """Raises RowError("count_mismatch") unless there are so many points."""
    if count != len(points):
        raise RowError("count_mismatch", f"count is {count}, but there are {len(points)} points")


def require_few(points: Sequence[object], what: str) -> None:
    """Raises RowError("more_than_60_points")."""
    if len(points) > MAX_POINTS:
        raise RowError("more_than_60_points", f"{what!r} has {len(points)} points")


PERCENT = "x, y in percent of the picture's width and height"
"""The unit of what `percent_points` returns."""


def percent_points(points: Sequence[Sequence[float]], what: str, scale: float = 100.0) -> list[Point]:
    """Points in percent from points in 0 to `scale`, those a little outside moved to the edge.

    Raises RowError("points_out_of_range").
    """
    slack = PERCENT_TOLERANCE * scale / 100
    for point in points:
        if not all(-slack <= value <= scale + slack for value in point):
            raise RowError("points_out_of_range", f"point {list(point)} of {what!r} is outside 0-{scale:g}")
    return [[min(max(value, 0.0), scale) * (100 / scale) for value in point] for point in points]


def pixel_points(points: Sequence[Sequence[float]], size: tuple[int, int], what: str = "a picture") -> list[Point]:
    """Points in pixels of a (width, height), those a little outside moved to the edge.

    Raises RowError("points_outside_image").
    """
    for point in points:
        if not all(-PIXEL_TOLERANCE <= value <= top + PIXEL_TOLERANCE for value, top in zip(point, size, strict=True)):
            raise RowError("points_outside_image", f"point {list(point)} in {what} of {size[0]}x{size[1]} pixels")
    return [[min(max(value, 0.0), float(top)) for value, top in zip(p, size, strict=True)] for p in points]
