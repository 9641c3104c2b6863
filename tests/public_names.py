"""What a user of the library may import: all of it has documentation that says what it takes, gives and raises."""

import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

PUBLIC = {
    "grain_molmo": None,
    "grain_molmo.attention": None,
    "grain_molmo.curriculum_filter": ("FilterReport",),
    "grain_molmo.errors": None,
    "grain_molmo.evaluation": None,
    "grain_molmo.indexing": ("IndexedEpoch", "build_index"),
    "grain_molmo.layout": ("RowLayout",),
    "grain_molmo.loader_state": ("check_same_everywhere",),
    "grain_molmo.metrics": None,
    "grain_molmo.pods": None,
    "grain_molmo.pooling": None,
    "grain_molmo.predictions": None,
    "grain_molmo.render": ("ExampleInfo",),
    "grain_molmo.stages": ("Member",),
    "grain_molmo.stats": ("BatchInfo", "flat_metrics"),
    "grain_molmo.tensors": None,
    "grain_molmo.testing": None,
    "grain_molmo.text.points": ("ParsedPoint",),
    "grain_molmo.view.describe": ("describe_example",),
    "grain_molmo.view.describe_row": ("describe_packed_row",),
    "grain_molmo.view.model": None,
    "grain_molmo.view.plots": None,
    "grain_molmo.view.shown": None,
    "grain_molmo.vision.lazy": ("LazyImage", "LazyVideo"),
    "tpu_configs": None,
}
"""Modules that the documentation tells users to import, or whose objects they are handed; of some only a few names."""


class Public(NamedTuple):
    """Something with a docstring of its own.

    Attributes:
        name: with its module, and its class if it is a method.
        value: the function or class.
        owner: the class of a method.
    """

    name: str
    value: Any
    owner: type | None = None


def public_names() -> Iterator[Public]:
    """Every public function and class, and the public methods that these classes define."""
    for module_name, chosen in PUBLIC.items():
        module = importlib.import_module(module_name)
        for name in names_of(module) if chosen is None else chosen:
            value = getattr(module, name)
            if inspect.isclass(value):
                yield Public(f"{module_name}.{name}", value)
                yield from (Public(f"{module_name}.{name}.{own}", method, value) for own, method in _methods(value))
            elif inspect.isfunction(value):
                yield Public(f"{module_name}.{name}", value)


def names_of(module: Any) -> list[str]:
    """The module's own public names: its `__all__`, or else the functions and classes that it defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    ]


def fields_of(cls: type) -> list[str]:
    """The public fields of a dataclass or a NamedTuple; none of another class."""
    if dataclasses.is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls) if not field.name.startswith("_")]
    return list(getattr(cls, "_fields", ()))


def _methods(cls: type) -> Iterator[tuple[str, Any]]:
    for base in reversed(cls.__mro__):
        if base.__module__.partition(".")[0] not in ("grain_molmo", "converters", "tpu_configs"):
            continue
        for name, value in vars(base).items():
            plain = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            if not name.startswith("_") and inspect.isfunction(plain) and plain.__module__ == base.__module__:
                yield name, plain
