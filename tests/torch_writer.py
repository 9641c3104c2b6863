"""Files as `torch.save` writes them, without torch: Python's own pickler over stand-ins of its classes.

Tensors pickle as calls of `torch._utils._rebuild_tensor_v2`, storages as persistent ids, as torch's do.
"""

import collections
import contextlib
import io
import pickle
import struct
import sys
import types
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001


class Storage:
    """Elements that tensors share."""

    def __init__(self, values: np.ndarray, kind: str = ""):
        self.data, self.numel = values.tobytes(), values.size
        self.kind = kind or STORAGES[values.dtype.name]


class Tensor:
    """A view of a storage; of an array, a storage of its own."""

    def __init__(
        self,
        values: np.ndarray | Storage,
        size: Sequence[int] | None = None,
        stride: Sequence[int] | None = None,
        offset: int = 0,
        dtype: str = "",
    ):
        if isinstance(values, np.ndarray):
            size, stride = values.shape, [step // values.itemsize for step in np.ascontiguousarray(values).strides]
            values = Storage(values)
        assert size is not None
        assert stride is not None
        self.storage, self.size, self.stride = values, tuple(size), tuple(stride)
        self.offset, self.dtype = offset, dtype

    def __reduce_ex__(self, protocol: int) -> Any:
        torch = sys.modules["torch"]
        args = (self.storage, self.offset, self.size, self.stride, False, collections.OrderedDict())
        if self.dtype:
            return sys.modules["torch._utils"]._rebuild_tensor_v3, (*args, getattr(torch, self.dtype))
        return sys.modules["torch._utils"]._rebuild_tensor_v2, args


class Parameter:
    def __init__(self, tensor: Tensor):
        self.tensor = tensor

    def __reduce_ex__(self, protocol: int) -> Any:
        return sys.modules["torch._utils"]._rebuild_parameter, (self.tensor, True, collections.OrderedDict())


class _Dtype:
    def __init__(self, name: str):
        self.name = name

    def __reduce__(self) -> str:
        return self.name


@contextlib.contextmanager
def stand_in_torch() -> Iterator[None]:
    """Modules that look like torch's to Python's pickler."""
    modules = {name: types.ModuleType(name) for name in ("torch", "torch._utils", "torch.storage")}

    def add(module: str, name: str, value: Any) -> None:
        value.__module__, value.__qualname__, value.__name__ = module, name, name
        setattr(modules[module], name, value)

    for name in ("_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter", "_rebuild_sparse_tensor"):
        add("torch._utils", name, lambda *args: None)
    modules["torch._utils"]._rebuild_tensor_v2 = modules["torch._utils"]._rebuild_tensor_v2
    for name in STORAGES.values():
        add("torch", name, type(name, (), {}))
    add("torch.storage", "UntypedStorage", type("UntypedStorage", (), {}))
    for name in ("uint16", "float8_e4m3fn", "float32"):
        dtype = _Dtype(name)
        dtype.__module__ = "torch"  # pyright: ignore[reportAttributeAccessIssue]
        setattr(modules["torch"], name, dtype)
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class _Pickler(pickle.Pickler):
    def __init__(self, file: Any, protocol: int, is_legacy: bool):
        super().__init__(file, protocol)
        self.storages: dict[int, tuple[str, Storage]] = {}
        self._is_legacy = is_legacy

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, Storage):
            return None
        key, _ = self.storages.setdefault(id(obj), (str(len(self.storages)), obj))
        module = "torch.storage" if obj.kind == "UntypedStorage" else "torch"
        kind = getattr(sys.modules[module], obj.kind)
        rest = (None,) if self._is_legacy else ()
        return ("storage", kind, key, "cpu", obj.numel, *rest)


def save(value: Any, path: Path, *, protocol: int = 2, is_legacy: bool = False) -> Path:
    """Writes the value as torch.save does; `is_legacy`: as before version 1.6."""
    with stand_in_torch():
        out = io.BytesIO()
        pickler = _Pickler(out, protocol, is_legacy)
        pickler.dump(value)
    storages = list(pickler.storages.values())
    if is_legacy:
        path.write_bytes(legacy_file(out.getvalue(), storages))
    else:
        members = {"data.pkl": out.getvalue(), "byteorder": b"little"}
        members |= {f"data/{key}": storage.data for key, storage in storages} | {"version": b"3\n"}
        write_zip(path, members)
    return path


def legacy_file(pickled: bytes, storages: Sequence[tuple[str, Storage]]) -> bytes:
    system = {"protocol_version": VERSION, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = b"".join(pickle.dumps(value, protocol=2) for value in (MAGIC, VERSION, system))
    keys = pickle.dumps(sorted(key for key, _ in storages), protocol=2)
    data = b"".join(struct.pack("<q", storage.numel) + storage.data for _, storage in sorted(storages, key=_key))
    return head + pickled + keys + data


def _key(one: tuple[str, Storage]) -> str:
    return one[0]


def write_zip(path: Path, members: dict[str, bytes], *, root: str = "archive/", packed: bool = False) -> Path:
    """Members below one folder; torch pads each so that its data begin at a multiple of 64."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(root + name)
            info.compress_type = archive.compression
            start = archive.fp.tell() + 30 + len(info.filename) + 4  # pyright: ignore[reportOptionalMemberAccess]
            padding = -start % 64
            info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
            archive.writestr(info, data)
    return path


def bfloat16(values: np.ndarray) -> np.ndarray:
    return values.astype(ml_dtypes.bfloat16)
