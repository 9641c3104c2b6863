"""The published mixtures: shares and members as the spec's tables give them (Molmo2 datasets §3.4-3.6)."""

import math

import numpy as np
import pytest

from grain_molmo.errors import ConfigError
from grain_molmo.recipes import RECIPES, find_stage
from grain_molmo.stages import STAGES, Group, Member, Stage, group_weights
from grain_molmo.text.weights import SFT

SFT_STAGE = RECIPES["molmo2"]["sft"]


def members(group_name):
    (group,) = (group for group in SFT_STAGE.groups if group.name == group_name)
    return [member.name for member in group.members]


def shares(sizes=None):
    """Share of each dataset, if all were there; every one has 1,000 examples unless `sizes` says otherwise."""
    names = [member.name for group in SFT_STAGE.groups for member in group.members]
    weights = group_weights(SFT_STAGE.groups, {**dict.fromkeys(names, 1000), **(sizes or {})})
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def test_the_groups_have_the_published_effective_shares():
    expected = {
        "demo": 13.64,
        "image_academic": 22.73,
        "video_academic": 18.18,
        "tracking": 13.64,
        "video_pointing": 13.64,
        "image_pointing": 9.09,
        "nlp": 9.05,
        "hardcodes": 0.045,
    }
    by_dataset = shares()
    found = {group: 100 * sum(by_dataset[name] for name in members(group)) for group in expected}
    assert found == pytest.approx(expected, abs=0.006)


def test_the_groups_have_as_many_sets_as_published_and_none_twice():
    counts = {group.name: len(group.members) for group in SFT_STAGE.groups}
    assert counts == {
        "demo": 6,
        "image_academic": 32,
        "video_academic": 34,
        "tracking": 35,
        "video_pointing": 4,
        "image_pointing": 5,
        "nlp": 1,
        "hardcodes": 1,
    }
    names = [member.name for group in SFT_STAGE.groups for member in group.members]
    assert len(set(names)) == len(names)


def test_video_pointing_is_dealt_out_flat_whatever_the_sizes():
    by_dataset = shares({"vixmo_points_minmax_0_5": 9, "vixmo_points_minmax_26_60": 10**6})
    assert [100 * by_dataset[name] for name in members("video_pointing")] == pytest.approx(
        [5.45, 4.09, 1.36, 2.73], abs=0.006
    )


def test_a_tracking_set_counts_by_the_weight_of_its_part_times_the_root_of_its_size():
    by_dataset = shares({"molmo2_video_track": 40_000, "burst_track": 400, "vicas_track": 7})
    ratio = by_dataset["molmo2_video_track"] / by_dataset["burst_track"]
    assert ratio == pytest.approx(0.40 * 200 / (0.05 * 20))
    # a size that is given takes the place of the real one
    assert by_dataset["vicas_track"] / by_dataset["burst_track"] == pytest.approx(
        0.40 * math.sqrt(30_000) / (0.05 * 20)
    )


def test_a_size_below_one_is_a_share_of_the_real_size():
    group = Group(name="g", rate=1.0, datasets=(Member("a", size=0.25), "b"))
    assert group_weights([group], {"a": 400, "b": 100}) == pytest.approx({"a": 0.5, "b": 0.5})


def test_a_size_of_zero_counts_as_one_example():
    group = Group(name="g", rate=1.0, datasets=(Member("a", size=0), Member("b", size=1), Member("c", size=4)))
    weights = group_weights([group], {"a": 400, "b": 100, "c": 9})
    assert weights == pytest.approx({"a": 0.25, "b": 0.25, "c": 0.5})


@pytest.mark.parametrize("wrong", [{"size": -1}, {"size": math.nan}, {"factor": 0}, {"factor": math.inf}])
def test_a_member_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ConfigError, match="member 'a'"):
        Member("a", **wrong)


def test_pointing_and_captions_weigh_less_and_only_pictures_get_high_resolution():
    weights = {name: SFT_STAGE.loss.overridden(rule.loss) for name, rule in SFT_STAGE.rules.items()}
    assert {name for name, rule in SFT_STAGE.rules.items() if rule.p_high_res} == set(members("image_pointing"))
    assert {rule.p_high_res for rule in SFT_STAGE.rules.values()} == {0.0, 0.3}
    captions = weights.pop("vixmo3_top_level_captions_min_3")
    assert captions.token_weight(400, 3) == 0.1
    assert {weight.token_weight(100, 4) for weight in weights.values()} == {0.2}
    flat = {*members("tracking"), *members("video_pointing"), *members("image_pointing")}
    assert weights.keys() == flat
    assert SFT_STAGE.loss.overridden(SFT_STAGE.rule("pixmo_cap").loss) == SFT


@pytest.mark.parametrize(
    ("recipe", "stage", "seq_len", "batch_size", "crops_per_row", "max_frames"),
    [
        (None, "pretraining", 4096, 256, 24, 0),
        (None, "sft", 16_384, 128, 128, 128),
        (None, "long_context", 36_864, 128, 384, 384),
        (None, "long-context", 36_864, 128, 384, 384),
        ("molmo2", "pretraining", 2536, 128, 16, 0),
        ("molmo2", "sft", 16_384, 128, 128, 128),
        ("molmo2", "long_context", 36_864, 128, 384, 384),
    ],
)
def test_stages_have_their_lengths(recipe, stage, seq_len, batch_size, crops_per_row, max_frames):
    found = find_stage(stage, recipe)
    assert (found.seq_len, found.batch_size, found.crops_per_row, found.max_frames) == (
        *(seq_len, batch_size, crops_per_row, max_frames),
    )
    assert found.pooling_width == (9 if max_frames else 4)
    assert found.pooled_per_row <= seq_len


def test_the_brief_s_nine_sets_make_up_the_stages_with_video():
    names = "cap videocapqa videosubtitleqa askmodelanything videopoint videotrack multiimageqa synmultiimageqa"
    nine = {f"molmo2_{name}" for name in (*names.split(), "multiimagepoint")}
    assert set(STAGES["sft"].weights) == set(STAGES["long_context"].weights) == nine


@pytest.mark.parametrize(
    "changes",
    [
        *({"max_frames": 129}, {"max_frames": -1}, {"max_frames": 2.5}, {"max_frames": "8"}),
        *({"max_fps": 0}, {"max_fps": None}, {"max_fps": "2"}),
    ],
)
def test_a_stage_refuses_frames_that_a_row_has_no_room_for(changes):
    with pytest.raises(ConfigError, match="max_f"):
        Stage(mixture={"a": 1}, crops_per_row=128, **changes)


def test_numbers_of_numpy_make_the_same_stage():
    theirs = Stage(mixture={"a": 1}, crops_per_row=np.int64(16), max_frames=np.int32(8), max_fps=np.float32(2))
    assert repr(theirs) == repr(Stage(mixture={"a": 1}, crops_per_row=16, max_frames=8, max_fps=2))
