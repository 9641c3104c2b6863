"""What the tests of the views share: packed rows of examples made on the spot."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from chromium import DESKTOP, Browser, open_browser

from grain_molmo import Dataset, Stage, Tokenizer, load_tokenizer
from grain_molmo.encode import Encoder
from grain_molmo.packing.mixture import Draw
from grain_molmo.render import ExampleInfo, render_rows
from grain_molmo.view.row_view import Row, take_row


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return load_tokenizer("bytes")


class _Given(Dataset):
    """The examples that it is given."""

    def __init__(self, examples: Sequence[dict[str, Any]]):
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def get(self, item, rng):
        return self.examples[item]


@dataclass(frozen=True)
class PackedRow:
    """A row with what lies where in it, and the stage that it was packed for."""

    row: Row
    infos: list[ExampleInfo]
    stage: Stage


@pytest.fixture
def pack(tokenizer) -> Callable[..., PackedRow]:
    """Packs examples, in their order, into one row of so many tokens and crops."""

    def pack(*examples: dict[str, Any], seq_len: int = 4096, crops_per_row: int = 24, max_frames: int = 0) -> PackedRow:
        budgets = {"seq_len": seq_len, "crops_per_row": crops_per_row, "max_frames": max_frames}
        stage = Stage(mixture={"given": 1}, batch_size=1, max_crops=4, **budgets)
        encoder = Encoder({"given": _Given(examples)}, stage, tokenizer, seed=0)
        encoded = [encoder(Draw("given", 0, index)) for index in range(len(examples))]
        with ThreadPoolExecutor(1) as pool:
            batch, infos = render_rows([encoded], stage, pool)
        return PackedRow(take_row(batch, 0), infos[0], stage)

    return pack


@pytest.fixture(scope="session")
def _browser(tmp_path_factory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(_browser) -> Browser:
    """A desktop's browser that prefers nothing; tests that use it share the xdist group "browser"."""
    _browser.size(DESKTOP)
    _browser.prefer()
    return _browser
