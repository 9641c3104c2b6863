"""The package: its public names are there, and come when they are used."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

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


def test_a_type_checker_of_users_knows_the_names_and_their_types(tmp_path):
    program = "import grain_molmo as gm\nreveal_type(gm.make_loader())\ngm.make_loder\ngm.make_loader(bath_size=3)\n"
    (tmp_path / "user.py").write_text(program)
    root = Path(gm.__file__).parents[1]
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(root)]}))
    words = [shutil.which("pyright") or pytest.skip("pyright is not installed"), "--outputjson", "user.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = {each["range"]["start"]["line"]: each["message"] for each in json.loads(done.stdout)["generalDiagnostics"]}
    assert 'is "Loader"' in found[1]
    assert '"make_loder" is not a known attribute' in found[2]
    assert 'No parameter named "bath_size"' in found[3]
    assert (root / "grain_molmo/py.typed").exists(), "says to type checkers that they may rely on the package"


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
