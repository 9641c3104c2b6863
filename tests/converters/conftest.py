"""Fixtures of the converters' tests."""

import re
from collections.abc import Iterator

import pytest
from loopback import Web

from converters import plan

_digest = plan._digest


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _the_same_pictures_held_out_in_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a picture is held out depends on its URL; here not on the port that the web server has in this run."""
    without_port = re.compile(r"127\.0\.0\.1:\d+")
    monkeypatch.setattr(plan, "_digest", lambda text: _digest(without_port.sub("127.0.0.1", text)))
