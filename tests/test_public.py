"""The package: its public names are there, and come when they are used."""

import subprocess
import sys

import pytest

import grain_molmo as gm
from grain_molmo import public


def test_every_public_name_is_had_from_the_package():
    assert gm.__all__ == public.__all__ == sorted(public.__all__)
    assert all(getattr(gm, name) is getattr(public, name) for name in public.__all__)
    assert set(public.__all__) <= set(dir(gm))


def test_a_name_that_there_is_not_is_an_attribute_error():
    with pytest.raises(AttributeError, match="make_loder"):
        gm.make_loder  # noqa: B018
    assert not hasattr(gm, "__wrapped__")


@pytest.mark.parametrize(
    ("program", "imported"),
    [
        ("import grain_molmo", False),
        ("from grain_molmo.errors import ConfigError", False),
        ("import grain_molmo; grain_molmo.__version__; grain_molmo.__doc__", False),
        ("import grain_molmo as gm; gm.make_loader", True),
        ("import grain_molmo as gm; gm.errors.ConfigError", True),
        ("from grain_molmo import *; make_loader", True),
        ("from grain_molmo import Stage", True),
    ],
)
def test_jax_is_imported_with_the_first_public_name(program, imported):
    words = [sys.executable, "-c", f"{program}; import sys; print('jax' in sys.modules)"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == f"{imported}\n"
