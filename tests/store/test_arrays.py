import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grain_molmo.errors import ConfigError
from grain_molmo.store.example_proto import decode_example, encode_example
from grain_molmo.store.records import Record, decode_record, encode_record


@given(st.lists(st.integers(0, 4), max_size=4), st.sampled_from([np.float32, np.float16, ml_dtypes.bfloat16]))
def test_arrays_come_back_from_records_as_they_were(shape: list[int], kind: type):
    array = np.random.RandomState(0).standard_normal(shape).astype(kind)
    record = Record("a", {"example": {"label": 1}, "features": array, "other": array[..., None].T})
    back = decode_record(encode_record(record)).annotation
    assert list(back) == ["example", "features", "other"]
    assert back["features"].dtype == array.dtype
    np.testing.assert_array_equal(back["features"], array)
    np.testing.assert_array_equal(back["other"], record.annotation["other"])


def test_records_without_arrays_are_the_bytes_that_they_were():
    assert not any(name.startswith("arrays") for name in decode_example(encode_record(Record("a", {"x": 1}))))


def test_arrays_of_other_types_are_refused():
    with pytest.raises(ConfigError, match="x is an array of float64; records hold float32"):
        encode_record(Record("a", {"x": np.zeros(2)}))


@pytest.mark.parametrize("shape", [b"[3]", b"[-2]", b"2", b"{}", b"[1e9]"])
def test_a_shape_that_is_not_that_of_the_bytes_is_damage(shape: bytes):
    fields = decode_example(encode_record(Record("a", {"x": np.zeros(2, np.float32)})))
    ints = {name: fields.pop(name) for name in ("media/width", "media/height", "media/num_bytes")}
    payload = encode_example(bytes_lists={**fields, "arrays/shape": [shape]}, int64_lists=ints)
    with pytest.raises(ValueError, match="an array of float32"):
        decode_record(payload)
