"""Fields of examples as a view shows them, whatever a dataset puts there."""

import json

import numpy as np
import pytest

from grain_molmo.view.fields import shown_value, text_of


class Mute:
    def __str__(self):
        raise RuntimeError("not today")

    __repr__ = __str__


def test_small_arrays_are_shown_in_full_and_large_ones_by_shape_and_dtype():
    assert shown_value({"small": np.arange(3), "large": np.zeros((20, 30), np.float32)}) == {
        "small": [0, 1, 2],
        "large": "float32 [20, 30]",
    }


def test_a_mapping_that_holds_itself_ends_somewhere():
    endless: dict[str, object] = {}
    endless["again"] = [endless]

    assert "…" in json.dumps(shown_value(endless), ensure_ascii=False)


@pytest.mark.parametrize("value", [{(1, 2): "a"}, {Mute(): 1}, [Mute()], [10**5000], {"a": {1, 2}}, {None: b"\xff"}])
def test_whatever_a_field_holds_comes_out_as_json(value):
    shown = shown_value(value)
    assert json.loads(json.dumps(shown)) == shown


def test_a_value_that_fails_to_say_what_it_is_is_named_by_its_type():
    assert text_of(Mute()) == "Mute that cannot be shown (RuntimeError)"
    assert text_of(7) == "7"


def test_numbers_of_64_bits_stay_numbers():
    assert shown_value([2**64 - 1, -(2**63)]) == [2**64 - 1, -(2**63)]
