"""What tests share: a small converted sample, and real media and known answers, without which tests skip."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# Meshes need devices: eight on the CPU, which must be said before JAX starts.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"

import grain_molmo as gm
from converters.to_arrayrecord import main as convert

# A busy machine is no fault of the code.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

PRETRAINING_SETS = ["pixmo-cap", "pixmo-points", "pixmo-count", "pixmo-docs", "pixmo-cap-qa"]
SMALL = {"batch_size": 2, "seq_len": 6144, "num_threads": 2}


@pytest.fixture(scope="session")
def sample_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated rows of the sets of pretraining, converted; tests that use it share the xdist group "loader"."""
    folder = tmp_path_factory.mktemp("sample")
    assert convert([*PRETRAINING_SETS, "--sample", "--rows", "24", "--data-dir", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def all_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated rows of all sets, converted; tests that use it share the xdist group "all_sets"."""
    folder = tmp_path_factory.mktemp("all_sets")
    assert convert(["all", "--sample", "--rows", "10", "--data-dir", str(folder)]) == 0
    return folder


@pytest.fixture
def open_loader(sample_dir: Path) -> Iterator[Callable[..., gm.Loader]]:
    """Makes small loaders over the sample, closed behind the test."""
    loaders: list[gm.Loader] = []

    def make(stage: str | gm.Stage = "pretraining", **settings: Any) -> gm.Loader:
        loaders.append(gm.make_loader(stage, **{"data_dir": sample_dir, "tokenizer": "bytes", **SMALL, **settings}))
        return loaders[-1]

    yield make
    for loader in loaders:
        loader.close()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder that holds `media` and `golden`: beside the repository, or where $GRAIN_MOLMO_SHARED says."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    return _existing(Path(os.environ.get("GRAIN_MOLMO_SHARED", beside)))


@pytest.fixture(scope="session")
def media(shared: Path) -> Path:
    """Real pictures, videos, annotations and tokenizers."""
    return _existing(shared / "media")


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """Figures that the published pipeline computes."""
    return _existing(shared / "golden")


@pytest.fixture(scope="session")
def qwen3_tokenizer_path(media: Path) -> Path:
    """The tokenizer that the known answers were computed with."""
    return _existing(media / "tokenizers" / "Qwen3" / "tokenizer.json.gz")


def _existing(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path} is not there; $GRAIN_MOLMO_SHARED names the folder that holds media and golden")
    return path


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says how long each notebook took."""
    passed = terminalreporter.getreports("passed")
    times = sorted(value for report in passed for name, value in report.user_properties if name == "notebook")
    if times:
        terminalreporter.write_line("notebooks: " + ", ".join(dict.fromkeys(times)))
