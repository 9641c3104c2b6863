import json
import logging
from dataclasses import replace

import pytest

from grain_molmo.packing.mixture import Draw
from grain_molmo.packing.rows import Skipped
from grain_molmo.render import ExampleInfo
from grain_molmo.stages import Stage
from grain_molmo.stats import LIMITS, BatchInfo, LoaderStats, Seconds, flat_metrics, limited_by

STAGE = Stage(mixture={"a": 1}, batch_size=2, seq_len=100, crops_per_row=10)
PICTURE = ExampleInfo("a", 0, 1, "one", 1, (0, 50), (0, 4), (0, 9), 20.0, read_bytes=1000, read_s=0.25, decode_s=0.5)


def batch(step=0, **changes):
    return BatchInfo(step, range(2), [[PICTURE], [PICTURE]], [], num_examples=2, **changes)


def fed(*times, stats=None, **seconds):
    """Stats after batches that were asked for and handed out at these times, all of which took these seconds."""
    stats = stats or LoaderStats(STAGE)
    for step, (asked_at, handed_out_at) in enumerate(times):
        stats.add(batch(step, **seconds), asked_at, handed_out_at)
    return stats


def test_what_was_handed_out_is_counted():
    stats = fed((0, 1), (2, 3), plan_s=0.125, encode_s=0.25, render_s=0.5, transfer_s=0.0625).to_dict()
    json.dumps(stats)
    expected = {
        "batches": 2,
        "rows": 4,
        "examples": 4,
        "tokens": 200,
        "loss_weight": 80,
        "crops": 16,
        "read_bytes": 4000,
        "token_fill": 0.5,
        "crop_fill": 0.4,
        "datasets": {
            "a": {"examples": 4, "tokens": 200, "loss_weight": 80, "crops": 16, "frames": 0, "read_bytes": 4000}
        },
        "plan_s": 0.25,
        "encode_s": 0.5,
        "read_s": 1,
        "decode_s": 2,
        "render_s": 1,
        "transfer_s": 0.125,
        "wait_s": 2,
        "total_s": 3,
    }
    assert {key: stats[key] for key in expected} == expected


def test_a_blank_example_has_no_loss_weight_and_is_counted_and_logged_once(caplog):
    stats = LoaderStats(STAGE)
    blank = replace(PICTURE, blanked="truncated", detail="truncated: it ends early")
    skipped = Skipped(Draw("a", 0, 3), "empty_answer", "a example 3 (id 3): no answer")
    with caplog.at_level(logging.WARNING):
        stats.add(replace(batch(), rows=[[PICTURE, blank], [blank]], skipped=[skipped, skipped]), 0, 1)
    counted = stats.to_dict()
    assert (counted["loss_weight"], counted["examples"]) == (20, 3)
    assert (counted["skipped_media"], counted["skipped_examples"]) == ({"truncated": 2}, {"empty_answer": 2})
    assert caplog.text.count("a example 1 (id one): truncated: it ends early") == 1
    assert caplog.text.count("example left out") == 1


@pytest.mark.parametrize(
    ("spent", "limit"),
    [
        (Seconds(100, wait_s=0.9, plan_s=99), "the trainer"),
        (Seconds(100, wait_s=1.1, plan_s=99, render_s=98, decode_s=400), "planning"),
        (Seconds(100, wait_s=50, plan_s=20, render_s=98, decode_s=400, read_s=30), "decoding"),
        (Seconds(100, wait_s=50, plan_s=20, render_s=98, decode_s=40, read_s=300), "reading"),
        (Seconds(100, wait_s=50, plan_s=20, render_s=98, decode_s=40, read_s=30, encode_s=50), "encoding"),
        (Seconds(100, wait_s=50, plan_s=20, render_s=50, decode_s=400, transfer_s=90), "transfer"),
    ],
)
def test_the_limit_is_the_trainer_unless_it_waits_and_then_the_busiest_stage(spent, limit):
    assert limited_by(spent) == limit
    assert limit in LIMITS


def test_the_pace_leaves_out_the_first_batch_of_a_start():
    slow_start = fed((0, 60), plan_s=1)
    assert slow_start.to_dict()["limited_by"] is None
    assert slow_start.to_dict()["wait_s"] == 60
    stats = fed((61, 61), (62, 62.001), stats=slow_start)
    assert stats.to_dict()["limited_by"] == "the trainer"
    assert stats.to_dict()["wait_share"] == pytest.approx(0.001 / 2.001)
    stats.begin_anew()
    fed((70, 80), stats=stats)
    assert stats.to_dict()["limited_by"] == "the trainer"
    assert stats.to_dict()["total_s"] == pytest.approx(62.001 + 10)


def test_the_pace_is_that_of_the_last_batches():
    stats = fed(*[(2 * n, 2 * n + 1) for n in range(100)], plan_s=1)
    assert stats.to_dict()["limited_by"] == "planning"
    fed(*[(200 + 2 * n, 200 + 2 * n) for n in range(64)], stats=stats)
    assert stats.to_dict()["limited_by"] == "the trainer"


def test_flat_metrics_are_the_numbers_by_names_joined_with_slashes():
    stats = fed((0, 1), (1, 2), plan_s=1).to_dict()
    flat = flat_metrics({**stats, "missing_datasets": ["x"]})
    assert all(type(value) is float for value in flat.values())
    assert flat["data/datasets/a/tokens"] == 200
    assert flat["data/wait_share"] == 1
    assert flat["data/limited_by/planning"] == 1
    assert sum(flat[f"data/limited_by/{limit}"] for limit in LIMITS) == 1
    assert "data/missing_datasets" not in flat
