"""Vision-language training data for JAX: PixMo and Molmo2 as ArrayRecord, packed and mixed by Grain."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grain_molmo.public import *  # noqa: F403

__version__ = "0.1.0"


def _public(name: str) -> Any:
    """The public names are imported when the first of them is used, for they bring JAX and Grain along.

    So `grain-molmo --help` answers at once, and processes that only read a store start sooner (PEP 562).
    """
    if name.startswith("_") and name != "__all__":  # what others look for in any module: not worth the time
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    public = importlib.import_module("grain_molmo.public")
    names = globals()
    names.update({public_name: getattr(public, public_name) for public_name in public.__all__}, __all__=public.__all__)
    if name in names:  # also a module of the package that came with them
        return names[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_public("__all__")})


if not TYPE_CHECKING:  # to whom any name would be one, also a mistyped one
    __getattr__ = _public
