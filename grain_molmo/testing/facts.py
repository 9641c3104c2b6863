"""An example as facts that can be kept and compared: texts and numbers as they are, pixels by a hash."""

import hashlib
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from grain_molmo.vision.chosen import Frames
from grain_molmo.vision.lazy import LazyImage, LazyVideo

Facts = Mapping[str, str]
"""By place in the example, as in "messages[1].content", what is there."""

RAISED = "get"
"""The place at which an exception is told of that `get` raised instead of returning."""
RNG = "rng"
"""The place at which the random state is told of as `get` left it."""

_SHOWN_CHARS = 60


def facts_of(value: Any) -> Facts:
    """The facts of an example, equal for equal examples; nothing of it is kept. Stored media are known by their hash.

    >>> facts_of({"count": 2, "points": [(1, 2)]})["points[0][1]"]
    '2'
    """
    return dict(_walk("", value))


def first_difference(facts: Facts, others: Facts) -> tuple[str, str, str] | None:
    """The first place where two examples differ, and what is there in each; None if nowhere."""
    for place in [*facts, *(place for place in others if place not in facts)]:
        had, has = facts.get(place, "nothing"), others.get(place, "nothing")
        if had != has:
            return place, had, has
    return None


def shown(fact: str) -> str:
    """A fact short enough for a message."""
    return fact if len(fact) <= _SHOWN_CHARS else f"{fact[: _SHOWN_CHARS - 3]}..."


def rng_fact(rng: np.random.RandomState) -> str:
    """Stands for all that the random state will draw."""
    _, key, position, has_gauss, gauss = rng.get_state(legacy=True)
    return f"{_digest(np.asarray(key).tobytes())} {position} {has_gauss} {gauss}"


def _walk(place: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        yield place, "a dict"
        for key, inner in value.items():
            name = key if isinstance(key, str) else repr(key)
            yield from _walk(f"{place}.{name}" if place else name, inner)
    elif isinstance(value, np.ndarray) and value.dtype.hasobject:
        yield from _walk(place, value.tolist())
    elif isinstance(value, Frames):  # not decoded: whether they can be is another question
        yield place, f"{len(value)} frames of {_leaf(value.video)}"
        yield f"{place}.timestamps", _leaf(value.timestamps)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        yield place, f"{len(value)} entries"
        for i, inner in enumerate(value):
            yield from _walk(f"{place}[{i}]", inner)
    else:
        yield place, _leaf(value)


def _leaf(value: Any) -> str:
    if value is None or isinstance(value, str | bool | int | float | complex):
        return repr(value)
    if isinstance(value, np.generic):
        return repr(value.item())
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {_digest(np.ascontiguousarray(value).tobytes())}"
    if isinstance(value, bytes | bytearray):
        return f"{len(value)} bytes {_digest(value)}"
    if isinstance(value, LazyImage):
        return f"picture {value.ref!r}"
    if isinstance(value, LazyVideo):
        return f"video {value.ref!r} {value.frames_ref!r}"
    if isinstance(value, os.PathLike):
        return repr(os.fspath(value))
    try:
        return _object(value)
    except Exception as error:  # a user's own object may fail in any way, and is the same if it fails alike
        return f"{type(value).__name__} that fails with {type(error).__name__}: {error}"


def _object(value: Any) -> str:
    """What can be said of an object of a kind that is not known here: its pixels, its bytes, or how it pickles."""
    kind = type(value).__name__
    if isinstance(value, Image.Image):
        return f"{value.mode} {value.size} {_digest(value.tobytes())}"
    if isinstance(value, set | frozenset):
        return f"{kind} of {sorted(map(repr, value))}"
    if hasattr(value, "encoded"):
        return f"{kind} {_digest(value.encoded())}"
    if hasattr(value, "decode"):
        return f"{kind} {_leaf(np.asarray(value.decode()))}"
    if hasattr(value, "__array__"):
        return f"{kind} {_leaf(np.asarray(value))}"
    return f"{kind} {_digest(pickle.dumps(value))}"


def _digest(data: bytes | bytearray) -> str:
    return hashlib.blake2b(data, digest_size=6).hexdigest()
