"""Every public name says what it takes, gives and raises: parameters, fields, shapes and dtypes of arrays, errors."""

import ast
import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest
from public_names import Public, fields_of, public_names

EVERY = {public.name: public for public in public_names()}
DTYPE = re.compile(r"\b(u?int\d+|b?float\d+|bool|numbers|same dtype|dtype)\b")
SHAPE = re.compile(r"\[[^\]]*\]|\bscalar\b|\bshape\b")


@pytest.fixture(params=EVERY, ids=list(EVERY))
def public(request: pytest.FixtureRequest) -> Public:
    return EVERY[request.param]


def test_a_public_name_has_a_line_that_says_what_it_is(public: Public):
    first = doc_of(public.value).strip().partition("\n")[0]
    assert first.endswith((".", ":", "?")) or doc_of(public.value).partition("\n\n")[0].rstrip().endswith((".", ":"))


def test_all_that_it_takes_is_named_in_its_docstring(public: Public):
    words = all_words(public)
    wanted = fields_of(public.value) if inspect.isclass(public.value) else parameters(public.value)
    if inspect.isclass(public.value) and not wanted and "__init__" in vars(public.value):
        wanted = parameters(public.value.__init__)
    assert [name for name in wanted if not re.search(rf"(?<!\w){name}(?!\w)", words)] == []


def test_errors_that_it_raises_itself_are_in_its_docstring(public: Public):
    words = all_words(public)
    raised = {name for function in bodies(public.value) for name in raised_in(function)}
    assert [name for name in raised if name not in words] == []
    assert not raised or re.search(r"\bRaises\b", words)


def test_arrays_have_shapes_and_dtypes(public: Public):
    words = doc_of(public.value)
    lacking = []
    for name, entry in array_entries(public):
        says = entry if name == "return" else described(name, words) or ""
        if not (SHAPE.search(says) or re.search(r"_[A-Z][A-Z0-9]*$", name)) or not DTYPE.search(says):
            lacking.append(name)
    assert lacking == []


def test_what_is_missing_is_found():
    def halve(values_N: np.ndarray, times: int) -> np.ndarray:
        """Half of them."""
        if times < 1:
            raise ValueError("times")
        return values_N / 2**times

    public = Public("halve", halve)
    for check in (
        test_all_that_it_takes_is_named_in_its_docstring,
        test_errors_that_it_raises_itself_are_in_its_docstring,
        test_arrays_have_shapes_and_dtypes,
    ):
        with pytest.raises(AssertionError):
            check(public)
    halve.__doc__ = (
        "[N] float64.\n\nArgs:\n    values_N: [N] numbers.\n    times: how often.\n\nRaises:\n    ValueError: no."
    )
    test_all_that_it_takes_is_named_in_its_docstring(public)
    test_errors_that_it_raises_itself_are_in_its_docstring(public)
    test_arrays_have_shapes_and_dtypes(public)


def doc_of(value: Any) -> str:
    """A class's or function's own docstring, and of a dataclass not the one that Python makes up."""
    return inspect.cleandoc(vars(value).get("__doc__") or "" if inspect.isclass(value) else value.__doc__ or "")


def all_words(public: Public) -> str:
    """Its docstring, that of the method that it overrides, and that of their classes."""
    if public.owner is None:
        return doc_of(public.value)
    overridden = (vars(base).get(public.value.__name__) for base in public.owner.__mro__)
    methods = [public.value, *(each for each in overridden if inspect.isfunction(each))]
    return "\n".join(doc_of(each) for each in [*methods, *public.owner.__mro__])


def parameters(function: Any) -> list[str]:
    """What a caller may give."""
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


def bodies(value: Any) -> list[Any]:
    """The functions that run when it is called."""
    if not inspect.isclass(value):
        return [value]
    return [vars(value)[name] for name in ("__init__", "__post_init__") if inspect.isfunction(vars(value).get(name))]


def raised_in(function: Any) -> Iterator[str]:
    """Names of the exceptions that the function's own body raises; of what must not happen, none."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError):  # made by a decorator
        return
    for node in ast.walk(tree):
        error = node.exc.func if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) else None
        if isinstance(error, ast.Name) and error.id not in ("AssertionError", "NotImplementedError"):
            yield error.id


def array_entries(public: Public) -> Iterator[tuple[str, str]]:
    """The parameters or fields that are arrays, and "return" with the whole docstring where an array is returned."""
    value = public.value
    try:
        hints = typing.get_type_hints(value)
    except (NameError, TypeError):
        return
    wanted = fields_of(value) if inspect.isclass(value) else [*parameters(value), "return"]
    if inspect.isclass(value) and not dataclasses.is_dataclass(value) and not hasattr(value, "_fields"):
        return
    for name in wanted:
        if any(part in (np.ndarray, jax.Array) for part in (hints.get(name), *typing.get_args(hints.get(name)))):
            yield name, doc_of(value)


def described(name: str, words: str) -> str | None:
    """The entry of a parameter or field in its section, up to the next; the whole docstring if it has none."""
    entry = re.search(rf"(?ms)^ +(?:\w+, )*{name}(?:, \w+)*(?: \([^)]*\))?:(.*?)(?=^ +\w+(?:, \w+)*:|\Z|\n\n)", words)
    return entry.group(1) if entry else words
