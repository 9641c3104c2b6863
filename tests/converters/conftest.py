"""Fixtures of the converters' tests."""

from collections.abc import Iterator

import pytest
from loopback import Web, digest_without_port

from converters import plan


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _the_same_pictures_held_out_in_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a picture is held out depends on its URL; here not on the port that the web server has in this run."""
    monkeypatch.setattr(plan, "_digest", digest_without_port)
