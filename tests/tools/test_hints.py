"""What somebody may have meant: commands, options, sets, splits, stages and pods that were mistyped."""

import pytest

from grain_molmo.tools.cli import main
from grain_molmo.tools.hints import nearest


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["inpsect"], "grain-molmo inspect"),
        (["help", "verfy"], "grain-molmo verify"),
        (["inspect", "--nun-samples", "3"], "--num-samples"),
        (["verify", "--quik"], "--quick"),
        (["bench", "loadr"], "loader"),
        (["bench", "loader", "--stesp"], "--steps"),
        (["inspect", "--stage", "sfd"], "sft"),
        (["convert", "--stage", "pre-training", "--data-dir", "DATA"], "pretraining"),
        (["convert", "pixmo-piont", "--sample", "--data-dir", "DATA"], "pixmo-points"),
        (["inspect", "Molmo2-Capp"], "molmo2-cap"),
        (["size", "v5e-17"], "v5e-16"),
    ],
)
def test_what_was_mistyped_is_answered_with_the_nearest_names(words, meant, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2

    problem, *hints = capsys.readouterr().err.splitlines()
    assert problem.startswith("grain-molmo")
    (hint,) = hints
    assert hint.startswith("hint: did you mean ")
    assert meant in hint.partition("?")[0]


def test_a_split_that_there_is_not_is_answered_with_the_nearest(data_dir, capsys):
    assert main(["inspect", "pixmo-docs", "--split", "trian", "--data-dir", str(data_dir)]) == 2
    assert "hint: did you mean train?" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["inspect", "zzzz"], ["inspect", "--qqqq"], ["qqqq"]])
def test_nothing_is_guessed_where_nothing_is_near_but_there_is_a_next_step(words, capsys):
    assert main(words) == 2

    err = capsys.readouterr().err
    assert "did you mean" not in err
    assert "hint: grain-molmo" in err


@pytest.mark.parametrize(
    "words", [["inspect", "--stage", "long-context"], ["size", "v5e_16", "--stage", "long_context"]]
)
def test_stages_and_pods_take_dashes_and_underscores_alike(words, capsys, monkeypatch):
    monkeypatch.delenv("GRAIN_MOLMO_DATA", raising=False)
    assert main(words) == 0
    assert "long_context" in capsys.readouterr().out


def test_the_nearest_come_first_and_beginnings_count():
    names = ["pixmo-cap", "pixmo-cap-qa", "pixmo-clocks", "molmo2-cap"]
    assert nearest("pixmo_cap", names)[0] == "pixmo-cap"
    assert nearest("PIXMO-CLOCK", names)[0] == "pixmo-clocks"
    assert nearest("tr", ["train", "test"]) == []
    assert nearest("mol", names) == ["molmo2-cap"]
