"""The benchmark of pages on a tiny size: its figures agree with each other. No test looks at a time."""

import json

import pytest

from grain_molmo.tools.bench import page
from grain_molmo.tools.cli import main


def test_a_page_s_figures_agree_and_it_says_where_there_is_no_browser(capsys, monkeypatch):
    monkeypatch.setattr(page.shutil, "which", lambda name: None)

    assert main(["bench", "page", "--cards", "30", "--rounds", "1", "--json"]) == 0

    figures = json.loads(capsys.readouterr().out)["figures"]
    assert figures["ratio"] == pytest.approx(figures["pictures_alone_s"] / figures["write_s"])
    assert figures["cards_per_s"] == pytest.approx(30 / figures["write_s"])
    assert "not installed" in figures["opened"]


def test_it_explains_itself(capsys):
    assert main(["bench", "page", "--help"]) == 0
    assert "empty document" in " ".join(capsys.readouterr().out.split())
