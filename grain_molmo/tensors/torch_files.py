"""Tensors of `torch.save`, without PyTorch: the zip layout of 1.6 and later, and the stream of pickles before it.

A file is a pickle that says what there is, in which each tensor is a call (`_rebuild_tensor_v2`) with its storage,
offset, shape and strides; and the bytes of the storages, which several tensors may share.
"""

import io
import mmap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from grain_molmo.errors import ConfigError
from grain_molmo.tensors.archive import read_archive
from grain_molmo.tensors.mapped import BFLOAT16, FLOAT8, map_file, view
from grain_molmo.tensors.plain_pickle import Name, PickleError, unpickle

_ZIP = b"PK\x03\x04"
_LEGACY_MAGIC, _LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001
_LEGACY_START = b"\x80\x02\x8a\x0a" + _LEGACY_MAGIC.to_bytes(10, "little") + b"."
_MOST_PICKLE_BYTES = 256 << 20

_DTYPES: dict[str, np.dtype] = {
    **{f"float{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    **{f"int{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    "bool": np.dtype(np.bool_),
    "bfloat16": BFLOAT16,
    **FLOAT8,
}
_STORAGES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Bool": "bool",
    "Char": "int8",
    "Short": "int16",
    "Int": "int32",
    "Long": "int64",
    "Byte": "uint8",
}
_UNTYPED = _DTYPES["uint8"]
_STORAGE_DTYPES: dict[str, np.dtype] = {
    **{f"{module}.{name}Storage": _DTYPES[of] for module in ("torch", "torch.cuda") for name, of in _STORAGES.items()},
    **{f"{module}.UntypedStorage": _UNTYPED for module in ("torch", "torch.storage")},
}
_SAVE_PLAINLY = (
    "Save tensors, numbers and texts alone, in dicts and lists: torch.save({'features': features, 'labels': labels}, "
    "path), or as .safetensors"
)


def read_torch(path: Path) -> Any:
    """What a file of `torch.save` holds, with read-only arrays for tensors.

    Raises:
        ConfigError: the file is damaged or cut off, none of `torch.save`, or asks for anything but tensors and plain
            data.
    """
    data = map_file(path)
    start = data[: len(_LEGACY_START)].tobytes()
    try:
        if start.startswith(_ZIP):
            return _read_zip(path)
        if start == _LEGACY_START:
            return _read_legacy(path, data)
    except PickleError as error:
        raise ConfigError(f"{path} was not read: {error}. {_SAVE_PLAINLY}") from error
    raise ConfigError(f"{path} is no file of torch.save: it begins with {start[:8]!r}. {_SAVE_PLAINLY}")


OpenStorage = Callable[[str, np.dtype, int], np.ndarray]
"""(key, dtype, number of elements) of a storage to its bytes; raises PickleError."""


class _Storage:
    """The bytes that tensors share, and what their elements are."""

    def __init__(self, data: np.ndarray, dtype: np.dtype):
        self.data, self.dtype = data, dtype


def _tensors(open_storage: OpenStorage, rebuild: Callable[..., Any] | None = None) -> tuple[Mapping[str, Any], Any]:
    """What the names in a pickle of torch stand for, and what its storages are."""
    rebuild = rebuild or _rebuild
    names = {
        "torch._utils._rebuild_tensor": Name(rebuild),
        "torch._utils._rebuild_tensor_v2": Name(rebuild),
        "torch._utils._rebuild_tensor_v3": Name(lambda *args: rebuild(*args[:6], *args[7:], dtype=args[6])),
        "torch._utils._rebuild_parameter": Name(lambda tensor, *unused: tensor),
        "torch.Size": Name(lambda sizes=(): tuple(sizes)),
        "torch.device": Name(_device),
        "collections.OrderedDict": Name(_ordered_dict),
        "_codecs.encode": Name(_encoded),
        **{f"torch.{name}": dtype for name, dtype in _DTYPES.items()},
        **_STORAGE_DTYPES,
    }

    def load(key: Any) -> _Storage:
        if type(key) is not tuple or len(key) not in (5, 6) or key[0] != "storage" or key[5:] not in ((), (None,)):
            raise PickleError("it refers to something that is no storage of a tensor")
        _, dtype, name, _, numel = key[:5]
        if not isinstance(dtype, np.dtype) or type(name) is not str or type(numel) is not int or numel < 0:
            kinds = " and ".join(type(one).__name__ for one in (dtype, name, numel))
            raise PickleError(f"it describes a storage by {kinds}, not by its type, name and size")
        return _Storage(open_storage(name, dtype, numel), dtype)

    return names, load


def _rebuild(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any = False,
    hooks: Any = None,
    metadata: Any = None,
    *,
    dtype: Any = None,
) -> np.ndarray:
    """The array that a call of `_rebuild_tensor` describes."""
    if not isinstance(storage, _Storage) or not isinstance(dtype, np.dtype | None) or metadata:
        raise PickleError("it describes a tensor in a way that is not known here")
    dtype = storage.dtype if dtype is None else dtype
    if type(size) is not tuple or type(stride) is not tuple:
        raise PickleError("it describes a tensor whose shape or strides are no tuple")
    # Offsets count the tensor's elements, also in a storage without a type.
    return view(storage.data, dtype, size, offset=offset, strides=stride)


def _device(kind: Any, number: Any = None) -> str:
    if type(kind) is not str or type(number) not in (int, type(None)):
        raise PickleError("it describes a device in a way that is not known here")
    return kind if number is None else f"{kind}:{number}"


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    if any(not isinstance(pair, list | tuple) or type(pair[0]) not in (str, int) for pair in pairs):
        raise PickleError("it makes a dict of something else than pairs")
    return dict(pairs)


def _encoded(text: str, encoding: str) -> bytes:
    """How pickles of version 2 write bytes."""
    if type(text) is not str or encoding != "latin1":
        raise PickleError("it encodes something that is not bytes written as text")
    return text.encode("latin1")


def _read_zip(path: Path) -> Any:
    members = read_archive(path, may_be_packed=False)
    roots = [name.removesuffix("data.pkl") for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise ConfigError(f"{path} is a zip file, but none of torch.save: it has {len(roots)} members data.pkl")
    root = roots[0]
    if f"{root}constants.pkl" in members:
        raise ConfigError(f"{path} is a TorchScript program, not tensors. {_SAVE_PLAINLY}")
    byte_order = members.get(f"{root}byteorder", np.zeros(0, np.uint8)).tobytes()
    if byte_order not in (b"", b"little"):
        raise ConfigError(f"{path} has its numbers in {byte_order!r:.20} byte order; only little-endian files are read")
    pickled = members[f"{root}data.pkl"]
    if len(pickled) > _MOST_PICKLE_BYTES:
        raise ConfigError(f"{path}: beside its tensors it holds {len(pickled):,} bytes; at most {_MOST_PICKLE_BYTES:,}")

    def open_storage(key: str, dtype: np.dtype, numel: int) -> np.ndarray:
        data = members.get(f"{root}data/{key}")
        if data is None or numel * dtype.itemsize > len(data):
            there = "is missing" if data is None else f"has {len(data):,} bytes"
            raise PickleError(f"storage {key!r:.80} should hold {numel:,} of {dtype}, but {there}")
        return data[: numel * dtype.itemsize]

    return unpickle(io.BytesIO(pickled.tobytes()), *_tensors(open_storage))


def _read_legacy(path: Path, data: np.ndarray) -> Any:
    """The layout before 1.6: pickles of a magic number, a version, the machine, the data and the storages' keys, then
    each storage behind its number of elements, eight bytes.

    The data come before their storages, so they are read twice: first for what the storages are.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        stream = cast("IO[bytes]", mapped)  # which ends where the file does, however far a pickle tells it to read
        head = [unpickle(stream, {}, _no_reference) for _ in range(3)]
        if head[:2] != [_LEGACY_MAGIC, _LEGACY_VERSION] or not isinstance(head[2], dict):
            raise ConfigError(f"{path} is of a version of torch.save that is not known")
        if head[2].get("little_endian") is not True:
            raise ConfigError(f"{path} was written on a big-endian machine; only little-endian files are read")
        described: dict[str, tuple[np.dtype, int]] = {}
        start = stream.tell()
        unpickle(stream, *_tensors(_noting(described), lambda *args, **kwargs: None))
        keys = unpickle(stream, {}, _no_reference)
        places = _legacy_places(data, stream.tell(), keys, described)
        stream.seek(start)
        return unpickle(stream, *_tensors(lambda key, dtype, numel: places[key]))


def _no_reference(key: Any) -> Any:
    raise PickleError("it refers to something where nothing can be")


def _noting(described: dict[str, tuple[np.dtype, int]]) -> OpenStorage:
    def note(key: str, dtype: np.dtype, numel: int) -> np.ndarray:
        if described.setdefault(key, (dtype, numel)) != (dtype, numel):
            raise PickleError(f"it describes storage {key!r:.80} in two ways")
        return np.zeros(0, np.uint8)

    return note


def _legacy_places(
    data: np.ndarray, at: int, keys: Any, described: Mapping[str, tuple[np.dtype, int]]
) -> dict[str, np.ndarray]:
    if not isinstance(keys, list) or not all(type(key) is str for key in keys) or {*keys} != {*described}:
        raise PickleError("its list of storages is not the one that its tensors use")
    places = {}
    for key in keys:
        dtype, numel = described[key]
        start = at + 8
        at = start + numel * dtype.itemsize
        if at > len(data) or int.from_bytes(data[start - 8 : start].tobytes(), "little") != numel:
            raise PickleError(
                f"storage {key!r:.80} should hold {numel:,} of {dtype}, but the file ends or says otherwise"
            )
        places[key] = data[start:at]
    return places
