"""Plain data from a pickle, without Python's unpickler: a pickle is a program, and this runs only what builds data.

Names of classes and functions stay names. The few that are known stand for values and functions of the caller's; at
any other, and at any instruction that would make or change an object, reading ends. So nothing is imported or called.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

_MOST_INSTRUCTIONS = 10_000_000  # some for each text or number of the metadata; each makes an object at most
_DEEPEST = 100  # lists in lists

_ARGUMENTS = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    }
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_SCALARS = (str, bytes, int, float, bool, type(None))


class PickleError(ValueError):
    """The bytes are no pickle of plain data; the message says why."""


@dataclass(frozen=True)
class Name:
    """A function that the pickle may ask for, by its name: never the function of that name, but one of ours."""

    call: Callable[..., Any]


def unpickle(stream: IO[bytes], names: Mapping[str, Any], load: Callable[[Any], Any]) -> Any:
    """The data of the pickle at the stream's place; the stream is then behind it.

    Args:
        stream: bytes in memory, or mapped: lengths in a pickle may lie.
        names: what "module.name" stands for: a `Name`, or a value.
        load: the object of a persistent id.

    Raises:
        PickleError: it is damaged, or it asks for something else.
    """
    machine = _Machine(names, load)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count == _MOST_INSTRUCTIONS:
                raise PickleError(f"it has over {_MOST_INSTRUCTIONS:,} instructions")
            machine.step(opcode.name, argument)
        data = machine.stack.pop()
    except PickleError:
        raise
    # Of pickletools: cut off or unknown instructions. Of the machine: an empty stack, something that is not there.
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, EOFError) as error:
        raise PickleError(f"it is damaged or cut off ({type(error).__name__}: {error})") from error
    _count_parts(data)
    return data


def _count_parts(data: Any, depth: int = 0) -> int:
    """The parts of data as a text of them would have them. Raises PickleError if such a text had no end.

    A pickle can put a list twice into another, that one twice into a third, and so on, or a list into itself.
    """
    if not isinstance(data, dict | list | tuple):
        return 1
    if depth == _DEEPEST:
        raise PickleError(f"its data are nested over {_DEEPEST} deep")
    count = 1
    for inner in data.values() if isinstance(data, dict) else data:
        count += _count_parts(inner, depth + 1)
        if count > _MOST_INSTRUCTIONS:
            raise PickleError(f"its data come to over {_MOST_INSTRUCTIONS:,} parts, for they repeat themselves")
    return count


class _Machine:
    """The stack and the memory of a pickle that is being read."""

    def __init__(self, names: Mapping[str, Any], load: Callable[[Any], Any]):
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._names, self._load = names, load
        self._num_given = 0

    def step(self, instruction: str, argument: Any) -> None:
        """Does one instruction."""
        stack = self.stack
        if instruction in _ARGUMENTS:
            stack.append(argument)
        elif instruction in _CONSTANTS:
            stack.append(_CONSTANTS[instruction])
        elif instruction in _TUPLES:
            stack.append(tuple(self._pop(_TUPLES[instruction])))
        elif instruction in _STEPS:
            _STEPS[instruction](self, argument)
        else:
            raise PickleError(f"it has the instruction {instruction}, which tensors and plain data do not need")

    def _pop(self, number: int) -> list[Any]:
        if number > len(self.stack) - (self._marks[-1] if self._marks else 0):
            raise PickleError("it takes more than there is on its stack")
        items = self.stack[len(self.stack) - number :]
        del self.stack[len(self.stack) - number :]
        return items

    def _pop_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise PickleError(f"it changes a {type(self.stack[-1]).__name__} as if it were a {kind.__name__}")
        return self.stack[-1]

    def _proto(self, version: int) -> None:
        if version > 5:
            raise PickleError(f"it is of version {version} of the format, 5 is known")

    def _nothing(self, argument: Any) -> None:
        pass

    def _mark(self, argument: None) -> None:
        self._marks.append(len(self.stack))

    def _empty_dict(self, argument: None) -> None:
        self.stack.append({})

    def _empty_list(self, argument: None) -> None:
        self.stack.append([])

    def _tuple(self, argument: None) -> None:
        self.stack.append(tuple(self._pop_mark()))

    def _append(self, argument: None) -> None:
        (item,) = self._pop(1)
        self._top(list).append(item)

    def _appends(self, argument: None) -> None:
        items = self._pop_mark()
        self._top(list).extend(items)

    def _setitem(self, argument: None) -> None:
        self._set(self._pop(2))

    def _setitems(self, argument: None) -> None:
        self._set(self._pop_mark())

    def _set(self, items: list[Any]) -> None:
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_plain_key(key)] = value

    def _put(self, place: int) -> None:
        self._memo[place] = self.stack[-1]

    def _memoize(self, argument: None) -> None:
        self._memo[len(self._memo)] = self.stack[-1]

    def _get(self, place: int) -> None:
        self.stack.append(self._memo[place])

    def _global(self, name: str) -> None:
        self._push_name(name.replace(" ", ".", 1))

    def _stack_global(self, argument: None) -> None:
        module, name = self._pop(2)
        if type(module) is not str or type(name) is not str:
            raise PickleError("it asks for something whose name is no text")
        self._push_name(f"{module}.{name}")

    def _push_name(self, name: str) -> None:
        if name not in self._names:
            raise PickleError(f"it asks for {name:.200}, which could run code; nothing was run")
        self.stack.append(self._names[name])

    def _reduce(self, argument: None) -> None:
        name, arguments = self._pop(2)
        if type(name) is not Name or type(arguments) is not tuple:
            raise PickleError(f"it calls a {type(name).__name__}")
        # What is called may copy what it is given, and a pickle can give the same again and again.
        self._num_given += sum(len(one) for one in arguments if isinstance(one, str | dict | list | tuple))
        if self._num_given > _MOST_INSTRUCTIONS:
            raise PickleError(f"it calls with over {_MOST_INSTRUCTIONS:,} parts")
        self.stack.append(name.call(*arguments))

    def _build(self, argument: None) -> None:
        """Attributes of a dict that was an OrderedDict or such: nobody asks for them."""
        self._pop(1)
        self._top(dict)

    def _binpersid(self, argument: None) -> None:
        (key,) = self._pop(1)
        self.stack.append(self._load(key))


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine._proto,
    **dict.fromkeys(("FRAME", "STOP"), _Machine._nothing),
    "MARK": _Machine._mark,
    "EMPTY_DICT": _Machine._empty_dict,
    "EMPTY_LIST": _Machine._empty_list,
    "TUPLE": _Machine._tuple,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "SETITEM": _Machine._setitem,
    "SETITEMS": _Machine._setitems,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine._put),
    "MEMOIZE": _Machine._memoize,
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine._get),
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "BUILD": _Machine._build,
    "BINPERSID": _Machine._binpersid,
}


def _plain_key(key: Any) -> Any:
    """The key, if it is a number or text, or a tuple of such: hashing deeper ones can exhaust the C stack."""
    parts = key if type(key) is tuple else (key,)
    if not all(type(part) in _SCALARS for part in parts):
        raise PickleError(f"a dict has a {type(key).__name__} for a key")
    return key
