"""What the tests of the tools share: one converted sample store."""

from pathlib import Path

import pytest

from grain_molmo import Tokenizer, load_tokenizer
from grain_molmo.tools.demo import FEWEST_ROWS, convert_sample


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory) -> Path:
    """A folder in which the demo's first step was done. Do not change what is in it."""
    folder = tmp_path_factory.mktemp("demo")
    convert_sample(folder / "data", FEWEST_ROWS)
    return folder


@pytest.fixture(scope="session")
def data_dir(demo_folder) -> Path:
    """A store with sample rows of all sets."""
    return demo_folder / "data"


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return load_tokenizer("bytes")
