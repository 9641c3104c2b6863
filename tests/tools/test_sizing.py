"""grain-molmo size: what pods ask of their hosts, against what was measured."""

import json
import math

import pytest

import tpu_configs
from grain_molmo.pods import needs
from grain_molmo.tools.bench import loader
from grain_molmo.tools.bench.report import Report
from grain_molmo.tools.cli import main


def bench_report(stage, **figures):
    """What `grain-molmo bench loader --json` prints, but for what nobody reads."""
    figures = {
        "examples_per_row": 4.0,
        "read_bytes_per_row": 1e6,
        "cpu_s_per_row": 0.5,
        "plan_s_per_example": 1e-4,
        **figures,
    }
    return {
        "benchmark": "loader",
        "machine": {"processor": "a processor"},
        "settings": {"stage": stage, "data_dir": "DATA"},
        "figures": figures,
    }


@pytest.fixture
def measured(tmp_path):
    def write(stage, **figures):
        path = tmp_path / f"{stage}.json"
        path.write_text(json.dumps(bench_report(stage, **figures)))
        return str(path)

    return write


def size_json(capsys, *words):
    assert main(["size", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_all_pods_and_stages_are_sized_without_a_measurement(capsys):
    pods = size_json(capsys)["pods"]
    assert list(pods) == tpu_configs.names()
    stages = [pod[stage] for pod in pods.values() for stage in ("pretraining", "sft", "long_context")]
    assert {stage["verdict"] for stage in stages} == {"not measured"}
    assert all(stage["host_examples_per_s"] > 0 and stage["rendering_headroom"] is None for stage in stages)


def test_without_a_measurement_all_pods_are_a_short_table(capsys):
    assert main(["size"]) == 0
    out = capsys.readouterr().out
    assert "not measured" not in out
    assert len(out.splitlines()) < len(tpu_configs.names()) + 12
    assert all(f"\n{name} " in out for name in tpu_configs.names())
    assert "grain-molmo size v5e-16 --measure" in out


def test_a_pod_without_a_measurement_shows_only_what_is_asked_of_it(capsys):
    assert main(["size", "v5e-16", "v6e-16"]) == 0
    out = capsys.readouterr().out
    assert "keeps up  " not in out
    assert out.count("v6e-16  ") == 3
    assert "grain-molmo size v5e-16 v6e-16 --measure" in out


def test_what_a_host_must_do_is_set_against_what_was_measured(capsys, measured):
    found = size_json(capsys, "v6e-16", "--stage", "sft", "--measured", measured("sft"))["pods"]["v6e-16"]["sft"]
    pod = tpu_configs.pod("v6e-16")
    asked = needs(pod, "sft", 4.0)
    assert found["host_examples_per_s"] == pytest.approx(asked.rows_per_s / 4 * 4.0)
    assert found["host_read_bytes_per_s"] == pytest.approx(asked.rows_per_s / 4 * 1e6)
    assert found["host_threads_busy"] == pytest.approx(asked.rows_per_s / 4 * 0.5)
    assert found["rendering_headroom"] == pytest.approx(pod.threads / found["host_threads_busy"])
    assert found["planning_headroom"] == pytest.approx(1 / (asked.rows_per_s * 4.0 * 1e-4))
    assert found["host_rows"] == 128 / 4
    assert found["verdict"].startswith("yes, ")


@pytest.mark.parametrize("figure", [{"cpu_s_per_row": 0}, {"cpu_s_per_row": math.nan}, {"plan_s_per_example": -1}])
def test_figures_that_nobody_measured_are_refused(capsys, measured, figure):
    assert main(["size", "v6e-16", "--stage", "sft", "--measured", measured("sft", **figure)]) == 2
    assert next(iter(figure)) in capsys.readouterr().err


def test_a_stage_of_text_reads_no_media(capsys, measured):
    found = size_json(capsys, "v6e-16", "--stage", "sft", "--measured", measured("sft", read_bytes_per_row=0))
    assert found["pods"]["v6e-16"]["sft"]["host_read_bytes_per_s"] == 0


def test_slow_planning_is_named_with_the_command_that_helps(capsys, measured):
    assert main(["size", "v5e-8", "v6e-256", "--measured", measured("pretraining", plan_s_per_example=2e-3)]) == 0
    out = capsys.readouterr().out
    assert "no: planning" in out
    assert "Planning is too slow for v6e-256: " in out
    assert "grain-molmo index --stage pretraining" in out


def test_slow_rendering_is_named_and_only_stages_with_video_are_told_to_prepare_frames(capsys, measured):
    files = [measured(stage, cpu_s_per_row=100.0) for stage in ("pretraining", "sft")]
    assert main(["size", "v6e-8", "--measured", *files]) == 0
    out = capsys.readouterr().out
    assert out.count("Rendering is too slow for v6e-8: ") == 2
    assert out.count("--video-frames") == 1
    assert "no: rendering" in out


@pytest.mark.parametrize(("cost", "verdict"), [(1.2, "tight, 1.2x"), (0.8, "no: rendering 0.80x"), (3.0, "yes, 3.0x")])
def test_the_verdict_tells_ample_from_tight_from_too_slow(capsys, measured, cost, verdict):
    pod = tpu_configs.pod("v5p-64")
    cpu_s = pod.threads / (cost * needs(pod, "sft", 4.0).host_rows_per_s)
    found = size_json(capsys, "v5p-64", "--measured", measured("sft", cpu_s_per_row=cpu_s, plan_s_per_example=1e-9))
    assert found["pods"]["v5p-64"]["sft"]["verdict"] == verdict


def test_other_costs_can_be_put_in(capsys, measured):
    words = ["v5e-8", "--measured", measured("sft"), "--crop-ms", "25", "--plan-us", "20"]
    found = size_json(capsys, *words)["measured"]["sft"]
    assert found["cpu_s_per_row"] == 128 * 0.025
    assert found["plan_s_per_example"] == pytest.approx(20e-6)
    assert found["source"].endswith("but for --crop-ms 25 and --plan-us 20")


@pytest.mark.parametrize("words", [["--crop-ms", "25"], ["--plan-us", "20"]])
def test_other_costs_without_a_measurement_are_refused(capsys, words):
    assert main(["size", "v5e-8", *words]) == 2
    assert "beside --measured" in capsys.readouterr().err


def test_the_slower_the_steps_the_less_is_asked(capsys):
    fast, slow = (size_json(capsys, "v5e-8", "--mfu", mfu)["pods"]["v5e-8"]["sft"] for mfu in ("0.5", "0.25"))
    assert slow["host_rows_per_s"] == pytest.approx(fast["host_rows_per_s"] / 2)


def test_files_of_something_else_are_refused(capsys, tmp_path, measured):
    other = tmp_path / "other.json"
    other.write_text('{"benchmark": "read", "figures": {}}')
    words = tmp_path / "words.txt"
    words.write_text("no json")
    for path, said in ((other, "bench loader --json"), (words, "is not JSON"), (tmp_path / "none", "No such file")):
        assert main(["size", "v5e-8", "--measured", str(path)]) in (1, 2)
        assert said in capsys.readouterr().err
    assert main(["size", "v5e-8", "--measured", *[measured("sft")] * 2]) == 2
    assert "one file each" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["v9-8"], ["--mfu", "0"], ["--mfu", "much"], ["--stage", "rlhf"]])
def test_wrong_usage_ends_with_2(words, capsys):
    assert main(["size", *words]) == 2
    assert words[-1] in capsys.readouterr().err


def test_measuring_runs_the_loader_s_benchmark_of_each_stage(capsys, monkeypatch):
    def run(args):
        assert (args.tokenizer, args.data_dir) == ("bytes", None)
        found = bench_report(args.stage, examples_per_row=args.batch_size)
        return Report(**found, text=())

    monkeypatch.setattr(loader, "run", run)
    found = size_json(capsys, "v5e-8", "--measure")["measured"]
    assert {stage: each["examples_per_row"] for stage, each in found.items()} == {
        "pretraining": 8,
        "sft": 2,
        "long_context": 2,
    }
