"""The known answers of the published pipeline, and the program that compares with them."""

import json

import pytest
from golden import CHECKS, check_of, main


@pytest.mark.parametrize("kind", [*CHECKS, "videos_16frames"])
def test_every_known_answer_agrees(kind, golden, media):
    if not (golden / f"{kind}.json").exists():
        pytest.skip(f"no {kind}.json among the known answers")
    outcomes = list(check_of(kind)(golden, media))
    assert outcomes
    assert [outcome for outcome in outcomes if outcome.problem] == []


def test_the_program_names_each_answer_that_disagrees(tmp_path, capsys):
    right = {"kind": "image", "points": [[50, 25]], "scale": [100, 100], "label": "cup", "mode": "point"}
    right["text"] = '<points coords="1 1 500 250">cup</points>'
    wrong = right | {"text": '<points coords="1 1 501 250">cup</points>'}
    broken = right | {"points": [["left", "up"]]}
    (tmp_path / "points.json").write_text(json.dumps([right, wrong, broken]))
    (tmp_path / "smells.json").write_text("[]")

    assert main(["--answers", str(tmp_path), "--media", str(tmp_path)]) == 1

    points, first, second, smells = capsys.readouterr().out.splitlines()
    assert points == "points: 1 of 3 agree"
    assert "501" in first
    assert "raises" in second
    assert "not checked" in smells


def test_a_picture_that_should_not_load_must_raise(tmp_path):
    (tmp_path / "words.jpg").write_bytes(b"no picture at all")
    (tmp_path / "images.json").write_text(json.dumps([{"file": "words.jpg", "error": "UnidentifiedImageError"}]))

    assert main(["--answers", str(tmp_path), "--media", str(tmp_path)]) == 0


def test_a_missing_picture_disagrees(tmp_path):
    (tmp_path / "images.json").write_text(json.dumps([{"file": "gone.jpg", "error": "UnidentifiedImageError"}]))

    assert main(["--answers", str(tmp_path), "--media", str(tmp_path)]) == 1


def test_what_becomes_of_a_video_that_nobody_can_decode_is_noted(tmp_path, capsys, qwen3_tokenizer_path):
    (tmp_path / "tokenizers").symlink_to(qwen3_tokenizer_path.parents[1])
    (tmp_path / "words.mp4").write_bytes(b"no video at all")
    case = {"file": "words.mp4", "error": "RuntimeError: gave up"}
    (tmp_path / "videos_8frames.json").write_text(json.dumps([case]))

    assert main(["--answers", str(tmp_path), "--media", str(tmp_path)]) == 0

    total, note = capsys.readouterr().out.splitlines()
    assert total == "videos_8frames: 0 of 0 agree"
    assert "not_a_video here" in note


def test_a_missing_video_disagrees(tmp_path, qwen3_tokenizer_path):
    (tmp_path / "tokenizers").symlink_to(qwen3_tokenizer_path.parents[1])
    (tmp_path / "videos_8frames.json").write_text(json.dumps([{"file": "gone.mp4"}]))

    assert main(["--answers", str(tmp_path), "--media", str(tmp_path)]) == 1


def test_a_folder_without_answers_is_an_error(tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(["--answers", str(tmp_path), "--media", str(tmp_path)])
    assert stop.value.code == 2
