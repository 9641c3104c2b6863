import contextlib
import os
import pickle
import pickletools
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_writer import Parameter, Storage, Tensor, bfloat16, legacy_file, save, write_zip

from grain_molmo.errors import ConfigError
from grain_molmo.tensors import load_tensors, plain_pickle, torch_files

VALUES_ND = np.arange(40, dtype=np.float32).reshape(5, 8)


def everything() -> dict[str, Any]:
    return {
        "features": Tensor(VALUES_ND),
        "labels": Tensor(np.arange(5)),
        "metadata": {
            "model": "dinov2",
            "layer": 23,
            "ids": ["a", "b"],
            "scale": 0.5,
            "raw": b"\xff",
            "pair": (1, None),
        },
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("is_legacy", [False, True])
def test_tensors_and_plain_data_come_back_from_both_layouts(tmp_path: Path, protocol: int, is_legacy: bool):
    read = load_tensors(save(everything(), tmp_path / "a.pt", protocol=protocol, is_legacy=is_legacy))
    np.testing.assert_array_equal(read["features"], VALUES_ND)
    assert read["features"].dtype == np.float32
    assert read["labels"].tolist() == [0, 1, 2, 3, 4]
    assert read["labels"].dtype == np.int64
    assert read["metadata"] == everything()["metadata"]


def test_the_bytes_are_mapped_and_cannot_be_written(tmp_path: Path):
    read = load_tensors(save(Tensor(VALUES_ND), tmp_path / "a.pt"))
    base = read
    while getattr(base, "base", None) is not None and not isinstance(base, np.memmap):
        base = base.base
    assert type(base).__name__ in ("memmap", "mmap")
    with pytest.raises(ValueError, match="read-only"):
        read[0, 0] = 1


@pytest.mark.parametrize("name", ["float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"])
def test_every_type_of_storage_is_known(tmp_path: Path, name: str):
    values = np.arange(6).reshape(2, 3).astype(name)
    read = load_tensors(save(Tensor(values), tmp_path / "a.pt"))
    assert read.dtype == values.dtype
    np.testing.assert_array_equal(read, values)


def test_bfloat16_and_types_without_a_storage_of_their_own(tmp_path: Path):
    shorts = Storage(np.array([1, 256], np.uint16).view(np.uint8), "UntypedStorage")
    eights = Storage(np.array([1.5, -2], ml_dtypes.float8_e4m3fn).view(np.uint8), "UntypedStorage")
    tensors = [
        Tensor(bfloat16(VALUES_ND)),
        Tensor(shorts, (2,), (1,), dtype="uint16"),
        Tensor(eights, (2,), (1,), dtype="float8_e4m3fn"),
    ]
    half, sixteen, eight = load_tensors(save(tensors, tmp_path / "a.pt"))
    assert half.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(half.astype(np.float32), VALUES_ND)
    assert sixteen.tolist() == [1, 256]
    assert eight.astype(np.float32).tolist() == [1.5, -2]


@pytest.mark.parametrize("is_legacy", [False, True])
def test_views_share_a_storage_with_their_offsets_and_strides(tmp_path: Path, is_legacy: bool):
    storage = Storage(VALUES_ND)
    views = [
        Tensor(storage, (8, 5), (1, 8)),
        Tensor(storage, (2, 4), (16, 2), 1),
        Tensor(storage, (), (), 7),
        Tensor(storage, (3, 2), (0, 1), 4),
        Tensor(storage, (0, 4), (4, 1)),
        Parameter(Tensor(VALUES_ND + 1)),
    ]
    turned, spaced, scalar, repeated, empty, parameter = load_tensors(
        save(views, tmp_path / "a.pt", is_legacy=is_legacy)
    )
    np.testing.assert_array_equal(turned, VALUES_ND.T)
    np.testing.assert_array_equal(spaced, [[1, 3, 5, 7], [17, 19, 21, 23]])
    assert scalar == 7
    assert repeated.tolist() == [[4, 5]] * 3
    assert empty.shape == (0, 4)
    np.testing.assert_array_equal(parameter, VALUES_ND + 1)


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_any_order_of_dimensions_is_read_as_numpy_reads_it(tmp_path_factory: Any, shape: list[int], random: Any):
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    axes = random.sample(range(len(shape)), len(shape))
    turned = values.transpose(axes)
    strides = [step // 4 for step in turned.strides]
    path = tmp_path_factory.mktemp("any") / "a.pt"
    np.testing.assert_array_equal(load_tensors(save(Tensor(Storage(values), turned.shape, strides), path)), turned)


# ---- what must not be read ----


class Evil:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any):
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def _attacks(canary: Path) -> dict[str, Any]:
    words = f"open({str(canary)!r}, 'w').close()"
    return {
        "system": Evil(os.system, f"touch {canary}"),
        "exec": Evil(exec, words),
        "eval": Evil(eval, words),
        "subprocess": Evil(subprocess.check_call, ["touch", str(canary)]),
        "open": Evil(open, str(canary), "w"),
        "import": Evil(__import__, "os"),
        "loads": Evil(pickle.loads, pickle.dumps(Evil(exec, words))),
        "path": Evil(Path, str(canary)),
    }


@pytest.mark.parametrize("is_legacy", [False, True])
@pytest.mark.parametrize("attack", [*_attacks(Path())])
def test_a_pickle_with_code_is_refused_by_name_and_runs_nothing(tmp_path: Path, attack: str, is_legacy: bool):
    canary = tmp_path / "canary"
    path = save(
        {"features": Tensor(VALUES_ND), "metadata": {"x": _attacks(canary)[attack]}},
        tmp_path / "evil.pt",
        is_legacy=is_legacy,
    )
    with pytest.raises(ConfigError, match=r"evil\.pt was not read: it asks for .*nothing was run") as refused:
        load_tensors(path)
    name = {"system": "posix.system", "path": "pathlib"}.get(attack, "")
    assert name in str(refused.value)
    assert not canary.exists()


def test_the_attack_would_have_worked_on_the_ordinary_unpickler(tmp_path: Path):
    canary = tmp_path / "canary"
    pickle.loads(pickle.dumps(_attacks(canary)["exec"]))
    assert canary.exists()


def _pickled(code: bytes, path: Path) -> Path:
    return write_zip(path, {"data.pkl": code, "byteorder": b"little", "data/0": VALUES_ND.tobytes()})


_REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
_STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK(tQ"


def _tensor(offset: bytes = b"K\x00", size: bytes = b"(K\x05K\x08t", stride: bytes = b"(K\x08K\x01t") -> bytes:
    return b"\x80\x02" + _REBUILD + b"(" + _STORAGE + offset + size + stride + b"\x89}tR."


def test_the_pickle_written_by_hand_is_a_tensor(tmp_path: Path):
    np.testing.assert_array_equal(load_tensors(_pickled(_tensor(), tmp_path / "a.pt")), VALUES_ND)


REFUSED = {
    "new object": (b"\x80\x02ctorch\nFloatStorage\n)\x81.", "instruction NEWOBJ"),
    "old object": (b"(ios\nsystem\n.", "instruction INST"),
    "build": (b"\x80\x02K\x01}b.", "changes a int"),
    "a call of data": (b"\x80\x02K\x01)R.", "calls a int"),
    "a call of a type": (b"\x80\x02ctorch\nfloat32\n)R.", "calls a"),
    "an unknown tensor": (b"\x80\x02ctorch._utils\n_rebuild_sparse_tensor\n)R.", "torch._utils._rebuild_sparse_tensor"),
    "a name with dots": (b"\x80\x04\x8c\x0ctorch._utils\x8c\x14_rebuild_tensor_v2.x\x93.", "asks for"),
    "extension": (b"\x80\x02\x82\x01.", "instruction EXT1"),
    "negative offset": (_tensor(offset=b"J\xff\xff\xff\xff"), "whole numbers"),
    "offset beyond": (_tensor(offset=b"K\x01"), "reaches to byte 164"),
    "lying shape": (_tensor(size=b"(K\x06K\x08t"), "reaches to byte 192"),
    "huge shape": (_tensor(size=b"(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft", stride=b"(K\x00K\x00t"), "comes to"),
    "negative stride": (_tensor(stride=b"(J\xff\xff\xff\xffK\x01t"), "whole numbers"),
    "missing stride": (_tensor(stride=b"(K\x08t"), "2 dimensions, 1 strides"),
    "no tuple": (_tensor(size=b"K\x05"), "no tuple"),
    "a storage of nothing": (b"\x80\x02K\x01Q.", "no storage"),
    "cut off": (_tensor()[:-3], "damaged or cut off"),
    "empty": (b"\x80\x02.", "damaged or cut off"),
    "lying text": (b"\x80\x04\x8d" + (1 << 62).to_bytes(8, "little") + b"abc.", "damaged or cut off"),
    "lying bytes": (b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b"abc.", "damaged or cut off"),
    "lying array": (b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"abc.", "damaged|instruction"),
    "deep key": (b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s.", "tuple for a key"),
    "no pickle": (b"hello", "damaged or cut off"),
    "version 9": (b"\x80\x09N.", "version 9"),
    "memo": (b"\x80\x02h\x07.", "damaged or cut off"),
    "stack": (b"\x80\x02\x86.", "more than there is"),
    "below a mark": (b"\x80\x02K\x01(K\x02\x86.", "more than there is"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_pickle_that_is_no_data_is_refused_with_its_reason(tmp_path: Path, what: str):
    code, message = REFUSED[what]
    with pytest.raises(ConfigError, match=message):
        load_tensors(_pickled(code, tmp_path / "a.pt"))


def _doubled(times: int) -> bytes:
    """A tuple that holds one twice, which holds another twice, ...: few bytes, whose text has 2 ** times numbers."""
    return b"K\x01q\x00" + b"".join(b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(times))


_LIST = b"\x80\x02]q\x00(" + b"".join(b"J" + i.to_bytes(4, "little") + b"K\x02\x86" for i in range(1000)) + b"e"
_CALLS = b"](" + b"h\x01h\x00\x85R" * 20_000 + b"e."
_TEXT = b"\x80\x02X\x00\x00\x01\x00" + b"a" * (1 << 16) + b"q\x00X\x06\x00\x00\x00latin1q\x02"
UNENDING = {
    "storage": (b"\x80\x02" + _STORAGE.replace(b"X\x01\x00\x00\x000", _doubled(60)) + b".", "describes a storage"),
    "shape": (_tensor(size=_doubled(60)), "tuple', 'tuple"),
    "deep shape": (_tensor(size=b"K\x01" + b"\x85" * 100_000), r"\['tuple'\]"),
    "many dimensions": (
        _tensor(size=b"(" + b"K\x02" * 100_000 + b"t", stride=b"(" + b"K\x00" * 100_000 + b"t"),
        "dimens",
    ),
    "name": (b"\x80\x04" + _doubled(60) + b"\x8c\x01a\x93.", "whose name is no text"),
    "device": (b"\x80\x02ctorch\ndevice\n" + _doubled(60) + b"\x85R.", "describes a device"),
    "result": (b"\x80\x02" + _doubled(60) + b".", "repeat themselves"),
    "deep result": (b"\x80\x02K\x01" + b"\x85" * 100_000 + b".", "nested over 100 deep"),
    "in itself": (b"\x80\x02]q\x00h\x00a.", "nested over 100 deep"),
    "copied dicts": (_LIST + b"ccollections\nOrderedDict\nq\x01" + _CALLS, "calls with over"),
    "copied sizes": (_LIST + b"ctorch\nSize\nq\x01" + _CALLS, "calls with over"),
    "copied bytes": (_TEXT + b"c_codecs\nencode\nq\x01](" + b"h\x01h\x00h\x02\x86R" * 200 + b"e.", "calls with over"),
}


@pytest.mark.parametrize("what", UNENDING)
def test_a_small_pickle_of_endless_data_is_refused_at_once(tmp_path: Path, monkeypatch: Any, what: str):
    monkeypatch.setattr(plain_pickle, "_MOST_INSTRUCTIONS", 300_000)
    code, message = UNENDING[what]
    with pytest.raises(ConfigError, match=message):
        load_tensors(_pickled(code, tmp_path / "a.pt"))


def test_a_huge_place_in_the_memo_takes_no_memory(tmp_path: Path):
    assert load_tensors(_pickled(b"\x80\x02Nr\xff\xff\xff\x7f.", tmp_path / "a.pt")) is None


def test_nothing_that_pickles_know_reaches_the_import_system(tmp_path: Path):
    """Every instruction with a name in it asks for our table alone: a module that would tell is never loaded."""
    (tmp_path / "telltale.py").write_text("raise SystemExit('imported')")
    sys.path.insert(0, str(tmp_path))
    try:
        for code in (b"ctelltale\nx\n.", b"\x80\x04\x8c\x08telltale\x8c\x01x\x93.", b"(itelltale\nx\n."):
            with pytest.raises(ConfigError):
                load_tensors(_pickled(code, tmp_path / "a.pt"))
    finally:
        sys.path.remove(str(tmp_path))
    assert "telltale" not in sys.modules


@given(st.data())
def test_no_bytes_raise_anything_but_a_config_error(tmp_path_factory: Any, data: st.DataObject):
    code = bytearray(_tensor())
    for _ in range(data.draw(st.integers(1, 4))):
        code[data.draw(st.integers(0, len(code) - 1))] = data.draw(st.integers(0, 255))
    path = _pickled(bytes(code), tmp_path_factory.mktemp("any") / "a.pt")
    with contextlib.suppress(ConfigError):
        load_tensors(path)


# ---- the files around the pickle ----


@pytest.mark.parametrize("is_legacy", [False, True])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_a_file_that_was_cut_off_is_named(tmp_path: Path, is_legacy: bool, kept: float):
    path = save(everything(), tmp_path / "cut.pt", is_legacy=is_legacy)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ConfigError, match=r"cut\.pt"):
        load_tensors(path)


def test_a_storage_that_is_smaller_than_it_says_is_named(tmp_path: Path):
    path = write_zip(tmp_path / "a.pt", {"data.pkl": _tensor(), "data/0": VALUES_ND.tobytes()[:-4]})
    with pytest.raises(ConfigError, match=r"storage '0' should hold 40 of float32, but has 156 bytes"):
        load_tensors(path)
    with pytest.raises(ConfigError, match="but is missing"):
        load_tensors(write_zip(tmp_path / "a.pt", {"data.pkl": _tensor()}))


def test_a_member_that_says_it_is_larger_than_the_file_is_named(tmp_path: Path):
    path = save(Tensor(VALUES_ND), tmp_path / "a.pt")
    data = bytearray(path.read_bytes())
    at = data.rindex(b"archive/data/0") - 46
    assert data[at : at + 4] == b"PK\x01\x02"
    for field in (20, 24):
        data[at + field : at + field + 4] = (1 << 30).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"archive/data/0.*1,073,741,824 bytes"):
        load_tensors(path)


@pytest.mark.parametrize(
    ("field", "change", "message"), [(20, -1, "says two sizes"), (42, 1, "is not where the directory says")]
)
def test_a_member_of_two_sizes_or_in_another_place_is_named(tmp_path: Path, field: int, change: int, message: str):
    path = save(Tensor(VALUES_ND), tmp_path / "a.pt")
    data = bytearray(path.read_bytes())
    at = data.rindex(b"archive/data/0") - 46 + field
    data[at : at + 4] = (int.from_bytes(data[at : at + 4], "little") + change).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=f"archive/data/0.*{message}"):
        load_tensors(path)


def test_a_pickle_of_too_many_bytes_or_instructions_is_refused(tmp_path: Path, monkeypatch: Any):
    path = _pickled(b"\x80\x02" + b"N" * 1000 + b".", tmp_path / "a.pt")
    assert load_tensors(path) is None
    monkeypatch.setattr(plain_pickle, "_MOST_INSTRUCTIONS", 1000)
    with pytest.raises(ConfigError, match="over 1,000 instructions"):
        load_tensors(path)
    monkeypatch.setattr(torch_files, "_MOST_PICKLE_BYTES", 1000)
    with pytest.raises(ConfigError, match="holds 1,003 bytes; at most 1,000"):
        load_tensors(path)


def test_a_tensor_whose_numbers_are_others_than_its_bytes_is_refused(tmp_path: Path):
    code = _tensor().replace(b"\x89}tR.", b"\x89}}X\x03\x00\x00\x00neg\x88stR.")  # negative where it is looked at
    with pytest.raises(ConfigError, match="a tensor in a way that is not known"):
        load_tensors(_pickled(code, tmp_path / "a.pt"))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path):
    path = write_zip(tmp_path / "a.pt", {"data.pkl": bytes(10 << 20)}, packed=True)
    with pytest.raises(ConfigError, match="compressed"):
        load_tensors(path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"words.txt": b"x"}, "0 members data.pkl"),
        ({"data.pkl": _tensor(), "constants.pkl": b"N."}, "TorchScript"),
        ({"data.pkl": _tensor(), "byteorder": b"big"}, "little-endian"),
    ],
)
def test_other_archives_are_told_apart(tmp_path: Path, members: dict[str, bytes], message: str):
    with pytest.raises(ConfigError, match=message):
        load_tensors(write_zip(tmp_path / "a.pt", members))


def test_a_plain_pickle_and_other_files_are_refused(tmp_path: Path):
    path = tmp_path / "a.pt"
    for content in (pickle.dumps({"features": [1.0]}), b"\x1f\x8bxxxx", b"GIF89a", b"x"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"no file of torch\.save"):
            load_tensors(path)
    path.write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_tensors(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_tensors(tmp_path / "none.pt")
    with pytest.raises(ConfigError, match=r"known are \.pt, \.pth"):
        load_tensors(tmp_path / "a.txt")


def test_storages_of_the_old_layout_are_checked_against_what_tensors_say(tmp_path: Path):
    path, storage = tmp_path / "a.pt", Storage(VALUES_ND)
    good = legacy_file(_tensor(), [("0", storage)])
    path.write_bytes(good)
    np.testing.assert_array_equal(load_tensors(path), VALUES_ND)
    for keys, message in ((["1"], "list of storages"), (["0", "0"], "file ends or says otherwise")):
        path.write_bytes(legacy_file(_tensor(), [(key, storage) for key in keys])[: len(good)])
        with pytest.raises(ConfigError, match=message):
            load_tensors(path)
    storage.numel = 41
    path.write_bytes(legacy_file(_tensor(), [("0", storage)]))
    with pytest.raises(ConfigError, match="says otherwise"):
        load_tensors(path)


def test_the_old_layout_of_a_big_endian_machine_is_refused(tmp_path: Path):
    path = save(Tensor(VALUES_ND), tmp_path / "a.pt", is_legacy=True)
    path.write_bytes(path.read_bytes().replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89"))
    with pytest.raises(ConfigError, match="big-endian machine"):
        load_tensors(path)


def test_a_storage_of_the_old_layout_has_one_type(tmp_path: Path):
    def tensor(kind: bytes) -> bytes:
        storage = _STORAGE.replace(b"FloatStorage", kind).replace(b"tQ", b"NtQ")
        return _REBUILD + b"(" + storage + b"K\x00K\x01\x85K\x01\x85\x89}tR"

    path = tmp_path / "a.pt"
    for kind, is_one in ((b"FloatStorage", True), (b"IntStorage", False)):
        pickled = b"\x80\x02" + tensor(b"FloatStorage") + tensor(kind) + b"\x86."
        path.write_bytes(legacy_file(pickled, [("0", Storage(VALUES_ND))]))
        if is_one:
            assert len(load_tensors(path)) == 2
        else:
            with pytest.raises(ConfigError, match="describes storage '0' in two ways"):
                load_tensors(path)


def test_what_the_tests_write_is_what_pickletools_reads_as_torch_writes_it(tmp_path: Path):
    """The call of a tensor as the format has it: rebuild, storage by persistent id, offset, size, stride."""
    save(Tensor(VALUES_ND), tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        steps = [(op.name, arg) for op, arg, _ in pickletools.genops(archive.read("archive/data.pkl"))]
    names = [arg for name, arg in steps if name == "GLOBAL"]
    assert names == ["torch._utils _rebuild_tensor_v2", "torch FloatStorage", "collections OrderedDict"]
    assert ("BINPERSID", None) in steps
