"""Every public name says what it takes, gives and raises: parameters, fields, shapes and dtypes of arrays, errors."""

import ast
import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from public_names import Public, fields_of, public_names

DTYPE = re.compile(r"\b(u?int\d+|b?float\d+|bool|numbers|dtypes?)\b")
SHAPE = re.compile(r"\[[^\]]*\]")


def test_every_public_name_has_a_sentence_that_says_what_it_is():
    lacking = [each.name for each in public_names() if not doc_of(each.value).partition("\n\n")[0].endswith((".", ":"))]
    assert lacking == []


def test_all_that_a_public_name_takes_is_in_its_docstring():
    assert lacking_in_all(unnamed) == {}


def test_errors_that_a_public_name_raises_itself_are_in_its_docstring():
    assert lacking_in_all(unsaid_errors) == {}


def test_arrays_of_public_names_have_shapes_and_dtypes():
    assert lacking_in_all(unshaped_arrays) == {}


def test_names_in_docstrings_end_where_they_are_marked_to_end():
    """A letter behind the closing mark makes the site read on to the next one: `Array`s, ... see `Layout`."""
    run_on = [each.name for each in public_names() if any(part[:1].isalnum() for part in marked_off(each.value))]
    assert run_on == []


def test_what_is_missing_is_found():
    def halve(values: np.ndarray, times: int) -> np.ndarray:
        """Half of them."""
        if times < 1:
            raise ValueError("times")
        return values / 2**times

    public = Public("halve", halve)
    assert (unnamed(public), unsaid_errors(public)) == (["values", "times"], ["ValueError"])
    assert unshaped_arrays(public) == ["values", "return"]
    halve.__doc__ = "[N] float64.\n\nArgs:\n    values: [N] of any dtype.\n    times: how often.\n\nRaises ValueError."
    assert (unnamed(public), unsaid_errors(public), unshaped_arrays(public)) == ([], [], [])


def lacking_in_all(check: Callable[[Public], list[str]]) -> dict[str, list[str]]:
    """What each public name lacks, of those that lack anything."""
    return {each.name: lacking for each in public_names() if (lacking := check(each))}


def unnamed(public: Public) -> list[str]:
    """Parameters and fields that the docstrings do not name."""
    words, value = all_words(public), public.value
    wanted = fields_of(value) if inspect.isclass(value) else parameters(value)
    if inspect.isclass(value) and not wanted and "__init__" in vars(value):
        wanted = parameters(vars(value)["__init__"])
    lists_them = re.search(r"(?m)^ *(Args|Attributes):$", doc_of(value))  # where not, a sentence will do
    entry = r"(?m)^ *(?:\*{{0,2}}\w+, )*\*{{0,2}}{0}(?:, \*{{0,2}}\w+)*:" if lists_them else r"(?<!\w){0}(?!\w)"
    return [name for name in wanted if not re.search(entry.format(name), words)]


def unsaid_errors(public: Public) -> list[str]:
    """Exceptions that its own body raises and the docstrings do not."""
    words = all_words(public)
    raised = {name for function in bodies(public.value) for name in raised_in(function)}
    return sorted(name for name in raised if name not in words or not re.search(r"\bRaises\b", words))


def unshaped_arrays(public: Public) -> list[str]:
    """Arrays, taken, held or given back, without a shape (in the docstring or the name) or a dtype."""
    lacking = []
    for name in arrays_of(public.value):
        says = doc_of(public.value) if name == "return" else described(name, doc_of(public.value))
        has_shape = SHAPE.search(says) or re.search(r"_[A-Z][A-Z0-9]*$", name)
        if not has_shape or not DTYPE.search(says):
            lacking.append(name)
    return lacking


def doc_of(value: Any) -> str:
    """A class's or function's own docstring, and of a dataclass not the one that Python makes up."""
    return inspect.cleandoc(vars(value).get("__doc__") or "" if inspect.isclass(value) else value.__doc__ or "")


def marked_off(value: Any) -> list[str]:
    """What follows each `name` of a docstring."""
    return doc_of(value).split("`")[2::2]


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


def arrays_of(value: Any) -> list[str]:
    """The parameters or fields that are arrays, and "return" where one is returned."""
    try:
        hints = typing.get_type_hints(value)
    except (NameError, TypeError):  # names that only a type checker imports
        return []
    wanted = fields_of(value) if inspect.isclass(value) else [*parameters(value), "return"]
    kinds = {name: (hints.get(name), *typing.get_args(hints.get(name))) for name in wanted}
    return [name for name in wanted if np.ndarray in kinds[name] or jax.Array in kinds[name]]


def described(name: str, words: str) -> str:
    """The entry of a parameter or field in its section, up to the next; the whole docstring if it has none."""
    entry = re.search(rf"(?ms)^ +(?:\w+, )*{name}(?:, \w+)*:(.*?)(?=^ +\w+(?:, \w+)*:|\Z|\n\n)", words)
    return entry.group(1) if entry else words
