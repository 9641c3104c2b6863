"""How good a model's texts are: points and counts against what people gave. Pure functions of texts and metadata.

The rules are those of the published evaluations of PixMo: a point is right if it lies on the object that it is assigned
to, a count if it is the number; figures are means over examples.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from grain_molmo.errors import ConfigError, ExampleError
from grain_molmo.text.fields import point_groups, size_of, style_of
from grain_molmo.text.parse import Size, read_count, read_points

NEAR = 0.05
"""Where there are no masks, a point is right within this share of the picture's longer side. A rule of our own."""


@dataclass(frozen=True)
class PointScore:
    """How well points were pointed at.

    Attributes:
        hits: points that are right.
        precision: of those pointed at, the share that is right.
        recall: of those wanted, the share that was found.
    """

    hits: int
    precision: float
    recall: float

    @classmethod
    def of(cls, hits: int, n_points: int, n_wanted: int) -> "PointScore":
        """The score of so many `hits` among `n_points` pointed at and `n_wanted` wanted.

        Where nothing is wanted, all is right if nothing is pointed at, and nothing otherwise.
        """
        if not n_wanted:
            return cls(0, float(not n_points), float(not n_points))
        return cls(hits, hits / n_points if n_points else 0.0, hits / n_wanted)

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def score_in_masks(points_N2: Any, wanted_M2: Any, masks: Sequence[np.ndarray]) -> PointScore:
    """Points against people's points and the masks of what these are on: the pointing evaluation of PixMo.

    Each point is assigned to one of those wanted, so that the distances sum up to the least, and is right if it lies in
    that one's mask. It is in the pixel that its rounded coordinates name.

    Args:
        points_N2: [N, 2] numbers, x and y in pixels of the masks, as the model gave them.
        wanted_M2: [M, 2], the same of those that people gave.
        masks: M of [H, W] bool.

    Raises:
        ConfigError: points that are no pairs of finite numbers, or not one mask for each that is wanted.
    """
    points_N2, wanted_M2 = _points(points_N2), _points(wanted_M2)
    if len(masks) != len(wanted_M2):
        raise ConfigError(f"{len(wanted_M2)} points are wanted, there are {len(masks)} masks; give one for each")
    pairs = zip(*linear_sum_assignment(_distances(points_N2, wanted_M2)), strict=True)
    hits = sum(_lies_in(points_N2[i], np.asarray(masks[j])) for i, j in pairs)
    return PointScore.of(hits, len(points_N2), len(wanted_M2))


def score_near(points_N2: Any, wanted_M2: Any, max_distance: float) -> PointScore:
    """Points against points: right are as many as can be paired with one wanted each that is no further away.

    Args:
        points_N2: [N, 2] numbers, x and y, as the model gave them.
        wanted_M2: [M, 2], those that are wanted, in the same units.
        max_distance: in these units.

    Raises:
        ConfigError: points that are no pairs of finite numbers.
    """
    points_N2, wanted_M2 = _points(points_N2), _points(wanted_M2)
    near_NM = _distances(points_N2, wanted_M2) <= max_distance
    hits = int(near_NM[linear_sum_assignment(near_NM, maximize=True)].sum())
    return PointScore.of(hits, len(points_N2), len(wanted_M2))


def score_count(found: int | None, wanted: int) -> dict[str, float]:
    """1 or 0: `count_correct`, `count_close` (within one), `count_valid` (there is a number at all).

    Args:
        found: the number that the model gave, or None.
        wanted: the right one.
    """
    off = math.inf if found is None else abs(found - wanted)
    return {"count_correct": float(off == 0), "count_close": float(off <= 1), "count_valid": float(found is not None)}


def score_answer(text: str, metadata: Mapping[str, Any]) -> dict[str, float]:
    """The scores of a model's answer to an example, as far as its metadata tell what is right; {} if they don't.

    Args:
        text: what the model wrote.
        metadata: of an example of `PixMoPointsEval` (`masks`, `points`) or of `EachMessage` (`message`, `image_size`).

    Returns:
        `precision`, `recall` and `f1` where points of one picture are known, `score_count` where a count was asked for.
    """
    message = metadata.get("message") or {}
    scores = {}
    if (pointing := _point_score(text, metadata, message)) is not None:
        scores |= {"precision": pointing.precision, "recall": pointing.recall, "f1": pointing.f1}
    if (wanted := _wanted_count(message)) is not None:
        scores |= score_count(read_count(text), wanted)
    return scores


def mean_scores(scores: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each score over the examples that have it, and how many examples have any: `scored`.

    Args:
        scores: of each example, what `score_answer` gave.
    """
    scored = [each for each in scores if each]
    keys = dict.fromkeys(key for each in scored for key in each)
    means = {key: float(np.mean([each[key] for each in scored if key in each])) for key in keys}
    return {**means, "scored": len(scored)}


def _point_score(text: str, metadata: Mapping[str, Any], message: Mapping[str, Any]) -> PointScore | None:
    size = metadata.get("image_size")
    if "masks" in metadata and "points" in metadata:
        masks = metadata["masks"]
        scale = masks[0].shape[::-1] if len(masks) else size or (1, 1)
        return score_in_masks(_xy(text, size or scale, scale), metadata["points"], masks)
    wanted_M2 = _wanted_points(message, size)
    if size is None or wanted_M2 is None:
        return None
    return score_near(_xy(text, size, size), wanted_M2, NEAR * max(size))


def _xy(text: str, size: Size, scale: Size) -> list[tuple[float, float]]:
    return [(point.x, point.y) for point in read_points(text, size, scale)]


def _wanted_points(message: Mapping[str, Any], size: Any) -> np.ndarray | None:
    """[M, 2] pixels, of a message about one picture; None if it is another, or has no points."""
    if message.get("points") is None or size is None or np.ndim(size) != 1 or style_of(message) == "count":
        return None
    try:
        wanted_M2 = _points(message["points"])
    except ConfigError:  # points by picture or frame
        return None
    scale = np.broadcast_to(message.get("point_scale") or size_of(message) or size, 2)
    return np.clip(wanted_M2 * size / scale, 0, size)  # points outside are answered at the edge


def _wanted_count(message: Mapping[str, Any]) -> int | None:
    """How many there are, if that was asked; None if it was not, or is not known."""
    if "count" not in style_of(message):
        return None
    if message.get("count") is not None:
        return int(message["count"])
    try:
        groups = point_groups(message)
    except ExampleError:
        return None
    return sum(len(group) if np.ndim(group[0]) else 1 for group in groups if len(group))


def _points(points: Any) -> np.ndarray:
    try:
        points_N2 = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"points must be pairs of x and y ({error})") from error
    if points_N2.size and (points_N2.ndim != 2 or points_N2.shape[1] != 2):
        raise ConfigError(f"points must be pairs of x and y, not of shape {points_N2.shape}")
    if not np.isfinite(points_N2).all():
        raise ConfigError("points must be pairs of finite numbers")
    return points_N2.reshape(-1, 2)


def _distances(a_N2: np.ndarray, b_M2: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a_N2[:, None] - b_M2[None], axis=-1)


def _lies_in(point_2: np.ndarray, mask_HW: np.ndarray) -> bool:
    column, row = np.round(point_2).astype(int)
    height, width = mask_HW.shape
    return 0 <= column < width and 0 <= row < height and bool(mask_HW[row, column])
