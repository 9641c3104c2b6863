import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_writer import Tensor, save

from grain_molmo.errors import ConfigError
from grain_molmo.tensors import archive, load_tensors, mapped

VALUES_ND = np.arange(12, dtype=np.float32).reshape(3, 4)


def safetensors(path: Path, header: Any, data: bytes = b"") -> Path:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)
    return path


def entry(dtype: str, shape: list[int], start: int, stop: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def npy(values: np.ndarray, **kwargs: Any) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, values, **kwargs)
    return out.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_files_come_back_in_both_orders(tmp_path: Path, version: tuple[int, int], order: Any):
    (tmp_path / "a.npy").write_bytes(npy(np.asarray(VALUES_ND, order=order), version=version))
    np.testing.assert_array_equal(load_tensors(tmp_path / "a.npy"), VALUES_ND)


@pytest.mark.parametrize("save_npz", [np.savez, np.savez_compressed])
def test_npz_files_come_back_packed_or_not(tmp_path: Path, save_npz: Any):
    save_npz(tmp_path / "a.npz", features=VALUES_ND, labels=np.arange(3), ids=np.array(["a", "bc", "d"]))
    read = load_tensors(tmp_path / "a.npz")
    np.testing.assert_array_equal(read["features"], VALUES_ND)
    assert read["labels"].tolist() == [0, 1, 2]
    assert read["ids"].tolist() == ["a", "bc", "d"]


def test_safetensors_come_back_with_bfloat16_and_their_texts(tmp_path: Path):
    half = VALUES_ND.astype(ml_dtypes.bfloat16)
    header = {
        "__metadata__": {"model": "clip"},
        "features": entry("F32", [3, 4], 0, 48),
        "half": entry("BF16", [3, 4], 48, 72),
        "nothing": entry("I64", [0, 2], 72, 72),
    }
    read = load_tensors(safetensors(tmp_path / "a.safetensors", header, VALUES_ND.tobytes() + half.tobytes()))
    assert read["metadata"] == {"model": "clip"}
    np.testing.assert_array_equal(read["features"], VALUES_ND)
    np.testing.assert_array_equal(read["half"].astype(np.float32), VALUES_ND)
    assert read["nothing"].shape == (0, 2)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry("F32", [3, 4], 0, 44)}, "byte 48 where 44"),
        ({"a": entry("F32", [4, 4], 0, 64)}, "0 to 64 of 48"),
        ({"a": entry("F32", [3, 4], 8, 56)}, "48"),
        ({"a": entry("F32", [2, 4], 0, 48)}, "32 bytes should lie at 0 to 48"),
        ({"a": entry("F32", [3, 4], -48, 0)}, "48"),
        ({"a": entry("F32", [-3, -4], 0, 48)}, "whole numbers"),
        ({"a": entry("F32", [1 << 62, 1 << 62], 0, 48)}, "comes to"),
        ({"a": entry("Q7", [3, 4], 0, 48)}, "Q7"),
        ({"a": entry("F32", [4], 0, 16), "b": entry("F32", [2], 12, 20)}, "at 12 where another goes on to 16"),
        ({"a": [1, 2]}, "safetensors"),
        ([1, 2], "safetensors"),
        (b"{", "safetensors"),
        (b"[" * 100_000, "safetensors"),
    ],
)
def test_safetensors_that_lie_are_refused(tmp_path: Path, header: Any, message: str):
    with pytest.raises(ConfigError, match=message):
        load_tensors(safetensors(tmp_path / "a.safetensors", header, VALUES_ND.tobytes()))


def test_a_header_that_is_longer_than_its_file_is_refused(tmp_path: Path):
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(ConfigError, match="cut off, or no safetensors"):
        load_tensors(tmp_path / "a.safetensors")


class Evil:
    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_of_python_objects_are_refused_and_run_nothing(tmp_path: Path, suffix: str):
    path, canary = tmp_path / f"evil{suffix}", tmp_path / "canary"
    values = np.array([Evil(canary)], dtype=object)
    if suffix == ".npy":
        np.save(path, values, allow_pickle=True)
    else:
        np.savez(path, features=values)
    with pytest.raises(ConfigError, match="Python objects"):
        load_tensors(path)
    assert not canary.exists()
    np.load(path, allow_pickle=True)["features" if suffix == ".npz" else 0]
    assert canary.exists(), "the attack is a real one"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(VALUES_ND)[:-1], "does not read"),
        (npy(VALUES_ND)[:40], "does not read"),
        (npy(VALUES_ND).replace(b"(3, 4)", b"(9, 9)"), "does not read"),
        (npy(VALUES_ND).replace(b"(3, 4), }         ", b"(9000000, 9000), }"), "comes to"),
        (npy(VALUES_ND).replace(b"(3, 4), }", b"(3, 4), (("), "does not read"),
        (npy(VALUES_ND).replace(b"(3, 4), }", b"(3, -4), "), "does not read"),
        (npy(np.zeros(2, "c8")), "save them as float32"),
        (npy(np.zeros(2, "f4,i4")), "save them as float32"),
        (npy(np.zeros(2, "V2")), "save them as float32"),
        (b"hello", "does not read"),
    ],
)
def test_npy_files_that_lie_are_refused(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_tensors(tmp_path / "a.npy")


def test_an_npz_that_unpacks_to_a_hundred_times_its_size_is_refused_unread(tmp_path: Path, monkeypatch: Any):
    np.savez_compressed(tmp_path / "a.npz", features=np.zeros((100, 10_000), np.float32))
    assert load_tensors(tmp_path / "a.npz")["features"].shape == (100, 10_000)
    monkeypatch.setattr(archive, "MOST_REPEATED_BYTES", 1 << 20)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *args: pytest.fail("unpacked"))
    with pytest.raises(ConfigError, match="would unpack to 4,000,128"):
        load_tensors(tmp_path / "a.npz")


def test_what_the_members_of_an_npz_unpack_to_is_added_up(tmp_path: Path, monkeypatch: Any):
    monkeypatch.setattr(archive, "MOST_REPEATED_BYTES", 1 << 20)
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(200_000, np.float32))
    assert load_tensors(tmp_path / "a.npz")["a"].shape == (200_000,)
    np.savez_compressed(tmp_path / "b.npz", a=np.zeros(200_000, np.float32), b=np.zeros(200_000, np.float32))
    with pytest.raises(ConfigError, match="would unpack to"):
        load_tensors(tmp_path / "b.npz")


def test_a_member_that_is_there_twice_or_encrypted_is_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("a.npy", npy(VALUES_ND))
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("a.npy", npy(VALUES_ND))
    with pytest.raises(ConfigError, match="there twice"):
        load_tensors(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", a=VALUES_ND)
    data = bytearray((tmp_path / "b.npz").read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "b.npz").write_bytes(data)
    with pytest.raises(ConfigError, match="encrypted"):
        load_tensors(tmp_path / "b.npz")


def test_a_header_that_is_longer_than_any_is_not_read(tmp_path: Path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}".ljust(20_000)
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(4))
    with pytest.raises(ConfigError, match="its header has 20,000 bytes"):
        load_tensors(tmp_path / "a.npy")


def test_texts_of_no_characters_are_no_array(tmp_path: Path):
    header = b"{'descr': '<U0', 'fortran_order': False, 'shape': (9000000000,)}"  # which NumPy would make 36 GB of
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(ConfigError, match="its elements are '<U0'"):
        load_tensors(tmp_path / "a.npy")


def test_a_view_that_repeats_itself_beyond_reason_is_refused():
    data = np.zeros(8, np.uint8)
    assert mapped.view(data, np.dtype("<f4"), (1000, 2), strides=(0, 1)).shape == (1000, 2)
    with pytest.raises(ValueError, match="comes to"):
        mapped.view(data, np.dtype("<f4"), (1 << 40, 2), strides=(0, 1))


def _files(folder: Path) -> dict[str, bytes]:
    content = {"features": Tensor(VALUES_ND), "labels": Tensor(np.arange(3)), "metadata": {"a": ["x", 1]}}
    np.savez(folder / "a.npz", features=VALUES_ND, labels=np.arange(3))
    np.savez_compressed(folder / "b.npz", features=VALUES_ND)
    header = {"features": entry("F32", [3, 4], 0, 48)}
    return {
        ".pt": save(content, folder / "a.pt").read_bytes(),
        ".pth": save(content, folder / "a.pth", is_legacy=True).read_bytes(),
        ".npz": (folder / "a.npz").read_bytes(),
        "packed.npz": (folder / "b.npz").read_bytes(),
        ".npy": npy(VALUES_ND),
        ".safetensors": safetensors(folder / "a.safetensors", header, VALUES_ND.tobytes()).read_bytes(),
    }


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("good")
    return folder, _files(folder)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".npz", "packed.npz", ".npy", ".safetensors"])
@given(data=st.data())
def test_no_damage_to_a_file_raises_anything_but_a_config_error(good: Any, suffix: str, data: st.DataObject):
    folder, files = good
    content = bytearray(files[suffix])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(1, len(content))) :]
    path = folder / f"damaged{suffix}"
    path.write_bytes(content)
    try:
        load_tensors(path)
    except ConfigError as error:
        message = str(error)
    else:
        message = str(path)  # the damage was done to numbers
    assert str(path) in message
