"""Where the tests find real media and known answers; without them, the tests that need them skip and say so."""

import os
from pathlib import Path

import pytest


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
