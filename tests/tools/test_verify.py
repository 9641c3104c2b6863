"""`grain-molmo verify`: exit codes, findings on a line each, and media that are decoded when asked for."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from grain_molmo.store import AnnotationSource, MediaRef, MediaStore, Record, SplitWriter, content_key, list_converted
from grain_molmo.tools import cli
from grain_molmo.tools.cli import main
from grain_molmo.tools.verify import decoding_problem


@pytest.fixture
def verify(capsys) -> Callable[..., tuple[int, str]]:
    def run(*words: object) -> tuple[int, str]:
        code = cli.main(["verify", *map(str, words)])
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def broken(data_dir: Path, tmp_path: Path) -> Path:
    """A store with a flipped bit in a picture."""
    store = Path(shutil.copytree(data_dir, tmp_path / "store"))
    path = next((store / "media").glob("pixmo_cap-train.array_record-*"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return store


@pytest.mark.parametrize("depth", [[], ["--quick"], ["--decode"]])
def test_a_converted_store_is_sound(verify, data_dir, depth):
    code, text = verify("--data-dir", data_dir, *depth)

    assert code == 0
    assert text.startswith(f"{len(list_converted(data_dir))} sets, ")
    assert text.endswith("): sound\n")
    code, text = verify("--data-dir", data_dir, "--json", *depth)
    report = json.loads(text)
    assert (code, report["ok"], report["damage"], report["warnings"]) == (0, True, [], [])
    assert report["media"] == len(MediaStore(data_dir))


def test_damage_ends_with_1_and_a_line_that_names_file_and_remedy(verify, broken):
    code, text = verify("--data-dir", broken)

    assert code == 1
    first = text.splitlines()[0]
    assert first.startswith("DAMAGED  ")
    assert ".array_record-00000-of-0" in first
    assert "convert again" in first
    assert verify("--data-dir", broken, "--quick")[0] == 0
    assert json.loads(verify("--data-dir", broken, "--json")[1])["damage"][0]["advice"].startswith("restore it, or")


def test_only_the_sets_that_were_named_are_looked_at(verify, data_dir):
    code, text = verify("pixmo-cap", "pixmo_cap_qa", "--data-dir", data_dir)

    assert code == 0
    assert text.startswith("2 sets, ")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["wasps"], 1),
        (["../x"], 2),
        (["--threads", "0"], 2),
        (["--quick", "--decode"], 2),
        (["--data-dir", "no/such"], 1),
    ],
)
def test_what_is_not_there_and_wrong_usage_are_told_apart(verify, data_dir, words, code):
    assert verify("--data-dir", data_dir, *words)[0] == code


def test_a_mistyped_set_gets_the_nearest_of_the_store(data_dir, capsys):
    assert main(["verify", "pixmo-cpa", "--data-dir", str(data_dir)]) == 1
    assert "hint: did you mean pixmo-cap" in capsys.readouterr().err


def test_media_that_do_not_decode_are_found_only_by_decoding(verify, tmp_path):
    data = b"no picture"
    ref = MediaRef(content_key(data), "image", 1, 1, len(data))
    writer = SplitWriter(tmp_path, "mine", "train", num_shards=1)
    writer.write_shard(0, [(Record("a", {}, (ref,)), {ref.sha256: data})])
    writer.finish(source={}, converter={}, rejects=[])

    assert verify("--data-dir", tmp_path)[0] == 0
    code, text = verify("--data-dir", tmp_path, "--decode")
    assert code == 1
    assert "mine-train.array_record-00000-of-00001, record 0: does not decode (" in text


@pytest.mark.parametrize("kind", ["image", "video", "frames", "sound"])
def test_bytes_of_no_kind_do_not_decode(kind):
    assert decoding_problem(MediaRef("0" * 64, kind, 1, 1, 3), b"abc")


def test_every_frame_of_a_video_is_decoded(media):
    path = next(path for path in sorted((media / "videos").rglob("*.mp4")) if path.stat().st_size > 100_000)
    data = path.read_bytes()
    wrong = decoding_problem(MediaRef("0" * 64, "video", 1, 1, len(data)), data)
    assert wrong is not None
    width, _, height = wrong.split()[1].partition("x")
    ref = MediaRef("0" * 64, "video", int(width), int(height), len(data))
    assert decoding_problem(ref, data) is None
    middle = len(data) // 2
    damaged = data[:middle] + bytes(20_000) + data[middle + 20_000 :]
    assert "does not decode" in str(decoding_problem(ref, damaged))


def test_a_picture_of_another_size_than_its_record_says_is_found(data_dir):
    (ref, *_) = AnnotationSource(data_dir, "pixmo_cap", ["train"])[0].media
    data = MediaStore(data_dir).read(ref.sha256)

    assert decoding_problem(ref, data) is None
    wrong = decoding_problem(replace(ref, width=ref.width + 1), data)
    assert wrong == f"is {ref.width}x{ref.height} pixels where the record says {ref.width + 1}x{ref.height}"
