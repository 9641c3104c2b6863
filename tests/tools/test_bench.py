"""The benchmarks on tiny sizes: their figures agree with each other. No test looks at a time."""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import pytest

from grain_molmo.datasets import registry
from grain_molmo.encode import Encoder
from grain_molmo.lengths import LengthIndex
from grain_molmo.packing.mixture import Draw
from grain_molmo.packing.planner import RowPacker, Waiting
from grain_molmo.readable import ruled_table
from grain_molmo.stage_data import open_datasets
from grain_molmo.stages import STAGES
from grain_molmo.stats import LIMITS
from grain_molmo.tools.bench import fetch, loader, packing, plan
from grain_molmo.tools.bench.fetch_server import KINDS
from grain_molmo.tools.bench.packing_baselines import FirstFitPacker, KnapsackPacker, best_knapsack
from grain_molmo.tools.bench.packing_lengths import MIXTURES
from grain_molmo.tools.bench.pictures import read_pictures, sample_pictures
from grain_molmo.tools.bench.plan_data import repeated_stage, write_repeated_index
from grain_molmo.tools.bench.report import speed_ratio, time_in_turn
from grain_molmo.tools.cli import main


def run_json(capsys, *words):
    assert main(["bench", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def pack(packer, lengths):
    """Positions of the examples in each row, in the order that the packer gives them."""
    rows = (packer.add(Waiting(position, *pair, None)) for position, pair in enumerate(lengths))
    return [[waiting.position for waiting in row] for row in rows if row is not None]


# ---- report ----


def test_contenders_are_timed_in_turn_after_a_round_that_does_not_count():
    calls = []
    seconds = time_in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert calls == ["a", "b"] * 3
    assert [len(found) for found in seconds.values()] == [2, 2]


def test_a_speed_ratio_is_the_median_of_the_rounds_not_the_ratio_of_sums():
    assert speed_ratio([1.0, 2.0, 100.0], [2.0, 4.0, 50.0]) == 2.0


def test_a_table_aligns_numbers_to_the_right():
    assert ruled_table(("what", "n"), [("a", 5), ("longer", 1234)]).splitlines() == [
        "what       n",
        "------  ----",
        "a          5",
        "longer  1234",
    ]


@pytest.mark.parametrize("name", ["image", "video", "packing", "plan", "read", "loader", "convert", "fetch"])
def test_every_benchmark_explains_itself(name, capsys):
    assert main(["bench", name, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_a_benchmark_must_be_named(capsys):
    assert main(["bench"]) == 2
    assert "BENCHMARK" in capsys.readouterr().err


# ---- packing ----


def test_the_knapsack_packs_the_worked_example():
    """Molmo2 §7.1: 64 tokens in units of 1, 8 crops, a crop counts 30, 4 examples wait."""
    packer = KnapsackPacker(64, 8, image_weight=30, buffer=4)
    lengths = [(30, 0), (30, 1), (30, 2), (30, 0), (10, 0), (10, 0), (10, 0)]
    assert pack(packer, lengths) == [[2, 1], [3, 0]]


def test_the_knapsack_finds_what_trying_all_finds():
    rng = np.random.RandomState(3)
    for _ in range(50):
        sizes = [(int(rng.randint(1, 12)), int(rng.randint(0, 5))) for _ in range(8)]
        values = [int(rng.randint(1, 50)) for _ in sizes]
        chosen = best_knapsack(sizes, values, (20, 6))
        subsets = [[item for item in range(8) if mask >> item & 1] for mask in range(1 << 8)]
        fitting = [s for s in subsets if sum(sizes[i][0] for i in s) <= 20 and sum(sizes[i][1] for i in s) <= 6]
        assert chosen in [subset[::-1] for subset in fitting]
        assert sum(values[i] for i in chosen) == max(sum(values[i] for i in subset) for subset in fitting)


def test_an_example_that_fills_a_knapsack_goes_alone_at_once():
    packer = KnapsackPacker(64, 8, image_weight=1, buffer=4)
    assert pack(packer, [(10, 1), (64, 2)]) == [[1]]


def test_first_fit_lets_the_oldest_row_go():
    packer = FirstFitPacker(10, 4, open_rows=2)
    assert pack(packer, [(8, 1), (7, 1), (2, 1), (9, 1), (1, 1)]) == [[0, 2]]


@pytest.mark.parametrize("name", MIXTURES)
def test_generated_lengths_fit_a_row_and_depend_on_the_seed_alone(name):
    mixture = MIXTURES[name]
    lengths = mixture.examples(300, seed=1)
    assert lengths == mixture.examples(300, seed=1) != mixture.examples(300, seed=2)
    assert all(0 < tokens <= mixture.max_tokens and 0 <= crops <= mixture.max_crops for tokens, crops in lengths)


def test_waits_are_counted_in_examples_and_in_rows():
    tally = packing.Tally()
    packer = FirstFitPacker(10, 10, open_rows=2)
    lengths = [(4, 1), (9, 1), (9, 1), (9, 1)]  # rows go when examples 2 and 3 come: [0], then [1]
    tally.feed(packer, [Waiting(position, *pair, None) for position, pair in enumerate(lengths)])
    assert (tally.rows, tally.examples, tally.tokens, tally.crops) == (2, 2, 13, 2)
    assert tally.longest_wait_examples == 2
    assert tally.longest_wait_rows == 1


def test_packing_counts_what_the_packer_alone_would_give(capsys):
    figures = run_json(capsys, "packing", "--examples", "400", "--mixture", "pretraining")["figures"]
    found = figures["pretraining"]
    mixture = MIXTURES["pretraining"]
    rows = pack(RowPacker(mixture.max_tokens, mixture.max_crops), mixture.examples(400, seed=0))
    assert found["packers"]["ours"]["rows"] == len(rows)
    for packer in found["packers"].values():
        assert math.isclose(packer["of_bound"], max(packer["token_fill"], packer["crop_fill"]))
        assert packer["longest_wait_rows"] <= packer["longest_wait_examples"] < 400
    plan = found["plan"]
    assert math.isclose(plan["sum_us"], plan["draw_us"] + plan["pack_us"])


def test_packing_says_whether_ours_is_as_full(capsys):
    assert main(["bench", "packing", "--examples", "200"]) == 0
    out = capsys.readouterr().out
    assert "pretraining: rows of 4,096" in out
    assert "sft: rows of 16,384" in out
    assert "long_context: rows of 36,864" in out
    assert out.count("the published knapsack (") == 3


def test_held_pixels_are_those_of_the_examples_that_wait():
    tally = packing.Tally()
    lengths = [(4, 1), (9, 2), (9, 3), (9, 4)]  # rows go when examples 2 and 3 come: [0], then [1]
    packer = FirstFitPacker(10, 10, open_rows=2)
    tally.feed(packer, [Waiting(position, *pair, None) for position, pair in enumerate(lengths)])
    assert tally.held_crops == [1, 3, 6, 9]
    figures = tally.figures(MIXTURES["sft"], crop_bytes=10)
    assert (figures["held_bytes_most"], figures["held_bytes_mean"]) == (90, 47.5)


def test_packing_takes_the_lengths_of_a_store(capsys, data_dir):
    words = ["--data-dir", str(data_dir), "--stage", "sft", "--examples", "120"]
    found = run_json(capsys, "packing", *words)["figures"]["sft"]["packers"]
    assert found["ours"]["held_bytes_most"] == 0 < found["published knapsack"]["held_bytes_most"]
    assert found["ours"]["rows"] > 0


# ---- read ----


def test_read_measures_both_readers_at_each_size_and_leaves_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("grain_molmo.tools.bench.read._SECONDS_A_ROUND", 0.001)
    words = ["--records", "50", "70", "--rounds", "2", "--manifest-shards", "3"]
    figures = run_json(capsys, "read", *words)["figures"]
    assert list(figures["reads"]) == ["50", "70"]
    assert all(found["ratio"] > 0 and min(found["reads"].values()) >= 2 for found in figures["reads"].values())
    assert figures["manifest"]["records"] == 30_000
    assert not list(tmp_path.iterdir())


# ---- image ----


def test_pictures_that_do_not_decode_are_left_out_and_counted(tmp_path):
    folder = sample_pictures(tmp_path / "sample", 2)
    good = len(list(folder.iterdir()))
    (folder / "0-not-a-picture").write_bytes(b"<html>")
    (folder / "0-empty").write_bytes(b"")
    pictures, left_out = read_pictures(folder, at_most=100)
    assert len(pictures) == good
    assert left_out == {"not_an_image": 1, "empty": 1}


def test_image_measures_ours_and_both_baselines(capsys, tmp_path):
    media = sample_pictures(tmp_path / "sample", 3)
    words = ["--media", str(media), "--rounds", "1", "--threads", "2"]
    found = run_json(capsys, "image", *words)
    figures = found["figures"]
    assert figures["pictures"] == len(list(media.iterdir()))
    assert len(figures["examples_per_s"]) == 4
    assert list(figures["threads"]) == ["2"]
    assert figures["ratio_to_crop"] > 0
    assert {"processor", "cores", "numpy"} <= set(found["machine"])


def test_image_says_so_if_no_file_is_a_picture(capsys, tmp_path):
    (tmp_path / "text").write_text("no picture")
    assert main(["bench", "image", "--media", str(tmp_path)]) == 2
    assert "no file in it decodes" in capsys.readouterr().err


# ---- loader ----


def test_loader_measures_sample_data(capsys):
    words = ["--rows", "16", "--batch-size", "1", "--steps", "2", "--rounds", "2", "--threads", "1"]
    figures = run_json(capsys, "loader", *words)["figures"]
    assert 0 < figures["token_fill"] <= 1
    assert 0 < figures["crop_fill"] <= 1
    assert figures["resume_s"] is not None
    assert figures["ratio"] > 0
    assert figures["peak_bytes"] > figures["added_bytes"]


def test_loader_measures_a_stage_with_video_without_the_ceiling_of_pictures(capsys):
    words = ["--stage", "sft", "--rows", "8", "--batch-size", "1", "--steps", "2", "--rounds", "1", "--threads", "1"]
    figures = run_json(capsys, "loader", *words)["figures"]
    assert figures["ratio"] is None
    assert figures["crops_per_s"] > 0
    assert math.isclose(figures["examples_per_s"], figures["rows_per_s"] * figures["examples_per_row"])
    assert math.isclose(figures["read_bytes_per_s"], figures["rows_per_s"] * figures["read_bytes_per_row"])
    assert min(figures[key] for key in ("read_bytes_per_row", "cpu_s_per_row", "plan_s_per_example")) > 0


def test_what_sets_the_pace_is_said_with_the_stall(capsys):
    words = ["--rows", "16", "--batch-size", "1", "--steps", "1", "--rounds", "1", "--threads", "1"]
    figures = run_json(capsys, "loader", *words)["figures"]
    settings = loader.LoaderSettings(Path("DATA"), "pretraining", 1, 1, 1, 1, "bytes", step_s=9.0)
    assert figures["limited_by"] in LIMITS
    assert (figures["limited_by"] == "the trainer") == (figures["waiting"] < 0.01)
    *_, said = loader._describe(settings, {**figures, "waiting": 0.004, "limited_by": "the trainer"})
    assert said == "What sets the pace: the trainer. The consumer waited 0.40% of the time."


def test_loader_names_the_command_for_data_that_is_not_there(capsys, tmp_path):
    assert main(["bench", "loader", "--data-dir", str(tmp_path)]) == 1
    assert "grain-molmo convert" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "x"])
def test_a_step_that_takes_no_time_that_could_be_is_refused(capsys, value):
    assert main(["bench", "loader", "--step-seconds", value]) == 2
    assert "--step-seconds" in capsys.readouterr().err


# ---- video ----


def test_the_video_benchmark_compares_the_same_frames(capsys, tmp_path):
    words = ["--seconds", "1", "--long", "3", "--frames", "4", "--heights", "360", "--rounds", "1"]
    media = tmp_path / "media"
    media.mkdir()
    (media / "words.mp4").write_text("no video")
    for _ in range(2):  # the second time with clips that are there
        report = run_json(capsys, "video", *words, "--cache", str(tmp_path / "cache"), "--media", str(media))
        clips = report["figures"]["clips"]
        assert list(clips) == ["h264 360p", "long, 4 frames"]
        for clip in clips.values():
            assert clip["same_frames"]
            assert clip["prepared_psnr_db"] >= 40
            assert clip["prepared_ratio"] > clip["ratio"] > 0
        assert clips["long, 4 frames"]["shown"] == 4
        assert report["figures"]["memory"]["beside_mb"] < 100
    assert len(list((tmp_path / "cache").iterdir())) == 2


# ---- fetch ----


def test_every_kind_of_url_comes_to_what_it_should_in_bounded_memory(capsys):
    words = ("--urls", "250", "--good", "8", "--rounds", "1", "--timeout", "1.5")
    figures = run_json(capsys, "fetch", *words)["figures"]
    mixed, good = figures["mixed"], figures["good"]
    assert mixed["wrong"] == []
    assert {kind: set(outcomes) for kind, outcomes in mixed["outcomes"].items()} == {
        kind: {reason or "stored"} for kind, (_, reason) in KINDS.items()
    }
    assert mixed["urls"] == sum(sum(outcomes.values()) for outcomes in mixed["outcomes"].values()) == 250
    assert mixed["peak_bytes"] - mixed["peak_bytes_before"] < 500e6  # a gigabyte was on offer, several times
    assert math.isclose(good["ratio"], good["pictures_per_s"][fetch.OURS] / good["pictures_per_s"][fetch.BASELINE])


def test_convert_measures_one_process_and_several_that_write_the_same(capsys):
    figures = run_json(capsys, "convert", "--rows", "9000", "--n-procs", "1", "2")["figures"]
    assert figures["baseline_rows_per_s"] > 0
    one, two = (figures["conversions"][number] for number in ("1", "2"))
    assert one["records"] == two["records"] == 9000
    assert one["store_bytes"] == two["store_bytes"]
    assert math.isclose(one["ratio"], one["rows_per_s"] / figures["baseline_rows_per_s"])


# ---- plan ----


@pytest.fixture(scope="module", autouse=True)
def same_registry_afterwards():
    """The plan's benchmark registers sets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
        yield


@pytest.fixture(scope="module")
def plan_figures(data_dir):
    """A benchmark of the plan over sets of 300 examples each."""
    parser = argparse.ArgumentParser()
    plan.add_arguments(parser)
    words = ["--data-dir", str(data_dir), "--size", "300", "--batch-sizes", "2", "16", "--at", "3", "40"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "_LEAST_ROWS", 16)
        return plan.run(parser.parse_args([*words, "--threads", "2"]))


def test_the_plan_s_states_are_of_the_steps_asked_for(plan_figures):
    starts = plan_figures.figures["starts"]["from"]
    assert [found["step"] for found in starts] == [0, 3, 40]
    assert all(found["state_bytes"] > 300 for found in starts)


def test_the_plan_is_timed_with_and_without_an_index(plan_figures):
    steps = plan_figures.figures["steps"]
    assert [(size, found["steps_without_index"]) for size, found in steps.items()] == [("2", 8), ("16", 1)]
    assert all(0 < found["encoding"] < 1 for found in steps.values())
    assert plan_figures.figures["index"]["bytes"] >= 5 * (300 * 16 + 32)
    assert "with index" in "\n".join(plan_figures.text)


def test_repeated_sets_have_the_lengths_that_their_index_says(data_dir, tmp_path, tokenizer):
    stage = repeated_stage(STAGES["pretraining"], data_dir, 100)
    encoder = Encoder(open_datasets(stage, tmp_path)[0], stage, tokenizer, 0)
    write_repeated_index(tmp_path, encoder, 150)
    index = LengthIndex.open(tmp_path, encoder, strict=True)
    for draw in (Draw(name, 0, i) for name in encoder.datasets for i in range(0, 100, 7)):
        assert index.get(draw) == encoder(draw).lengths
