"""Randomness is a function of what an example is: known answers that no change may move."""

import subprocess
import sys

import numpy as np
import pytest

from grain_molmo.rng import example_rng, stable_hash


def test_hashes_stay_what_they_are():
    assert stable_hash() == 13020603013274838756
    assert stable_hash("a") == 8260280544287282447
    assert stable_hash("shuffle", 0, "pixmo_cap", 0) == 4020483653679116524
    assert stable_hash(-1, 2**70) == 14466688850807774656


def test_hashes_are_the_same_in_another_process():
    program = "from grain_molmo.rng import stable_hash; print(stable_hash('ü', 7))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) == stable_hash("ü", 7)


def test_parts_are_told_apart_by_place_and_by_kind():
    parts = [(), ("",), ("", ""), ("1",), (1,), (11,), (1, 1), ("1", 1), (1, "1"), ("a", "b"), ("b", "a"), ("ab",)]
    assert len({stable_hash(*each) for each in parts}) == len(parts)


def test_numbers_and_strings_of_numpy_are_those_of_python():
    assert stable_hash(np.int64(5), np.str_("x"), np.uint8(3), True) == stable_hash(5, "x", 3, 1)
    assert example_rng(np.int64(1), "a", np.int32(2), np.int64(3)).randint(1 << 30) == example_rng(  # pyright: ignore
        1, "a", 2, 3
    ).randint(1 << 30)
    with pytest.raises(TypeError):
        stable_hash(1.5)  # pyright: ignore[reportArgumentType]


def test_the_draws_of_an_example_stay_what_they_are():
    assert example_rng(0, "pixmo_cap", 0, 0).randint(0, 1000, 5).tolist() == [253, 502, 887, 831, 77]
    assert example_rng(1, "pixmo_cap", 2, 3).random_sample() == 0.2458005869526193


def test_every_one_of_the_four_values_changes_the_draws():
    base = (0, "a", 0, 0)
    others = [(1, "a", 0, 0), (0, "b", 0, 0), (0, "a", 1, 0), (0, "a", 0, 1)]
    draws = {tuple(example_rng(*values).randint(0, 1 << 30, 4)) for values in (base, *others)}
    assert len(draws) == 5
    assert tuple(example_rng(*base).randint(0, 1 << 30, 4)) in draws
