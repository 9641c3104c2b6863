"""`grain-molmo visualize`: a page of sets or of a stage's rows."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from grain_molmo.store import list_converted, load_manifest
from grain_molmo.tools.cards import choose_examples
from grain_molmo.tools.cli import main
from grain_molmo.tools.visualize import _Progress


@pytest.fixture
def visualize(capsys, data_dir, tmp_path):
    """Runs the command on the sample store; the exit code, and its output (with --json: parsed)."""

    def visualize(*words):
        code = main(["visualize", *map(str, words), "--data-dir", str(data_dir), "--out", str(tmp_path / "page")])
        out, err = capsys.readouterr()
        return code, json.loads(out) if "--json" in words and code == 0 else out + err

    return visualize


def cards_of(page: str) -> list[str]:
    found: list[str] = []
    for path in sorted((Path(page).parent / "cards").iterdir()):
        found += json.loads(path.read_text("utf-8").partition(", ")[2].removesuffix(");\n"))
    return found


def test_a_set_becomes_a_page_of_its_examples_with_points_and_pictures(visualize, tmp_path):
    code, report = visualize("pixmo-points", "--num-examples", 5, "--json")

    assert code == 0
    assert report["page"] == str(tmp_path / "page" / "index.html")
    assert (report["items"], report["sets"]) == (5, {"pixmo_points": 5})
    cards = cards_of(report["page"])
    assert all('class="gm-points' in card and 'src="media/' in card and "loss weight" in card for card in cards)
    for address in re.findall(r'src="(media/[^"]*)"', "".join(cards)):
        assert (tmp_path / "page" / address).stat().st_size > 500


def test_a_video_becomes_a_strip_with_tracks(visualize):
    _, report = visualize("molmo2-videotrack", "--num-examples", 2, "--max-stills", 4, "--json")

    for card in cards_of(report["page"]):
        assert 1 <= card.count("<img") <= 4
        assert "<polyline" in card


def test_a_stage_becomes_a_page_of_its_rows(visualize):
    code, report = visualize("--stage", "pretraining", "--steps", 2, "--batch-size", 2, "--json")

    assert code == 0
    assert report["items"] == 4
    for number, card in enumerate(cards_of(report["page"])):
        assert f'id="gm-pretraining-{number // 2}-{number % 2}"' in card
        assert "What attends to what" in card
        assert card.count("gm-example") >= 1


def test_all_means_every_set_of_the_folder_that_has_the_split(visualize, data_dir):
    _, report = visualize("all", "--num-examples", 1, "--json")

    splits = {name: load_manifest(data_dir, name) for name in list_converted(data_dir)}
    assert report["sets"] == {name: 1 for name, there in splits.items() if any(s.startswith("train") for s in there)}
    assert "pixmo_points_eval" in splits.keys() - report["sets"].keys()


def test_commands_explain_themselves_without_loading_what_only_work_needs():
    script = "import sys, grain_molmo.tools.visualize; sys.exit('jax' in sys.modules or 'jinja2' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_same_seed_chooses_the_same_examples_and_none_twice():
    first, second = choose_examples(1000, 50, 7), choose_examples(1000, 50, 7)

    assert first == second == sorted(set(first))
    assert first != choose_examples(1000, 50, 8)
    assert list(choose_examples(10, 0, 7)) == list(choose_examples(10, 10, 7)) == list(range(10))


def test_people_are_told_which_file_to_open(visualize, tmp_path):
    code, text = visualize("pixmo-cap", "--num-examples", 2)

    assert code == 0
    assert f"open {tmp_path / 'page' / 'index.html'}" in text
    assert "2 cards" in text


def test_a_stage_is_shown_with_a_mixture_of_ones_own(visualize):
    words = ("--stage", "pretraining", "--mixture", "pixmo-docs", "--steps", 1, "--batch-size", 1, "--json")
    code, report = visualize(*words)

    assert code == 0
    assert list(report["sets"]) == ["pixmo_docs"]


@pytest.mark.parametrize("words", [[], ["pixmo-cap", "--stage", "sft"], ["pixmo-cap", "--mixture", "pixmo-cap"]])
def test_it_wants_sets_or_a_stage(visualize, tmp_path, words):
    code, text = visualize(*words)

    assert code == 2
    assert "--stage" in text
    assert not (tmp_path / "page").exists()


def test_a_set_that_is_unknown_is_wrong_usage_with_the_nearest_names(visualize, tmp_path):
    code, text = visualize("pixmo-pionts")

    assert code == 2
    assert "pixmo_points" in text
    assert not (tmp_path / "page").exists()


def test_a_folder_of_somebody_else_is_refused_before_any_set_is_opened(visualize, tmp_path):
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "thesis.tex").write_text("mine")

    code, text = visualize("no-such-set")

    assert code == 2
    assert "choose another --out" in text
    assert (tmp_path / "page" / "thesis.tex").read_text() == "mine"


def test_a_log_says_in_lines_of_its_own_how_far_the_page_is(capsys):
    with _Progress(1000) as progress:
        for _ in range(1000):
            progress.update(1)

    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "visualize: 50 of 1,000 cards"
    assert lines[-1] == "visualize: 1,000 of 1,000 cards"
    assert len(lines) == 20
