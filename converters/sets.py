"""The sets that can be converted, by name."""

from converters.molmo2_images import MULTI_IMAGE_SETS
from converters.molmo2_points import VIDEO_POINT_SET
from converters.molmo2_tracks import VIDEO_TRACK_SET
from converters.molmo2_videos import VIDEO_SETS
from converters.pixmo import PIXMO_SETS
from converters.spec import SetSpec
from grain_molmo.errors import ConfigError
from grain_molmo.store import canonical_name
from grain_molmo.tools.hints import did_you_mean, nearest

SETS: dict[str, SetSpec] = {
    spec.name: spec for spec in (*PIXMO_SETS, *VIDEO_SETS, VIDEO_POINT_SET, VIDEO_TRACK_SET, *MULTI_IMAGE_SETS)
}


def find_set(name: str) -> SetSpec:
    """The set of a name or alias, '-' and '_' alike. Raises ConfigError with the nearest names."""
    spec = _known(name)
    if spec is not None:
        return spec
    near = did_you_mean(nearest(name, [spec.name.replace("_", "-") for spec in SETS.values()]))
    problem = ConfigError(f"{name!r} is no set that can be converted; data of your own need a --source")
    raise problem.with_hint(f"{near}grain-molmo inspect lists the sets")


def is_set(name: str) -> bool:
    """Whether a name or alias is that of a set."""
    return _known(name) is not None


def _known(name: str) -> SetSpec | None:
    canonical = canonical_name(name).lower()
    return next((spec for spec in SETS.values() if canonical in (spec.name, *spec.aliases)), None)
