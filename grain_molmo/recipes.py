"""The published mixtures, with their lengths and batch sizes (Molmo2 §10, datasets §3.4-3.6).

They list more sets than this library converts. A loader names those that it lacks.
"""

from dataclasses import replace

from grain_molmo.errors import ConfigError
from grain_molmo.stages import (
    LONG_CONTEXT_STAGE,
    POINTING_RULE,
    PRETRAINING_STAGE,
    SFT_STAGE,
    STAGES,
    DatasetRule,
    Group,
    Member,
    Stage,
)
from grain_molmo.store import canonical_name
from grain_molmo.text.weights import CAPTION, POINT

_PRETRAINING = replace(
    PRETRAINING_STAGE,
    mixture={},
    groups=(
        Group(name="captions", rate=0.6, datasets=("pixmo_cap_with_transcripts",)),
        Group(
            name="pointing",
            rate=0.3,
            datasets=("pixmo_points_train", "pixmo_count_train", "pixmo_points_high_freq_train", "cosyn_point"),
        ),
        Group(name="nlp", rate=0.1, datasets=("tulu4_max_2304",)),
    ),
    seq_len=2536,
    batch_size=128,
    crops_per_row=16,
)

_DEMO = (
    "pixmo_ask_model_anything",
    Member("pixmo_cap", size=100_000),
    "pixmo_cap_qa_as_user_qa",
    "pixmo_multi_image_qa_multi_only_max5",
    "molmo2_human_qa",
    Member("vixmo3_top_level_captions_min_3", factor=1.5),
)
_IMAGE_ACADEMIC = (
    *("coco_2014_vqa_multi", "text_vqa", "okvqa", "chart_qa_weighted", "doc_qa", "info_qa", "st_qa"),
    *("ai2_diagram_v2_mix_transparent", "a_okvqa_mc", "a_okvqa_da", "science_qa_img", "tabwmp_da", "tally_qa"),
    *(f"mantis_instruct_{part}_multi_only" for part in ("llava_665k", "nlvr2", "spot-the-diff")),
    *(Member("dv_qa", size=10_000), Member("figure_qa", size=10_000), Member("plot_qa", size=20_000)),
    *(f"cosyn_{kind}_exp" for kind in ("chart", "chemical", "diagram", "math", "music", "table")),
    "cosyn_document",
    *(f"cosyn_multidoc_{kind}_exp" for kind in ("chart", "chemical", "diagram", "doc", "music", "table")),
)
_VIDEO_ACADEMIC = (
    *(Member(name, size=60_000) for name in ("tgif", "tvqa_with_sub", "paxion", "moments_in_time_qa", "kinetics_qa")),
    *("llava_video_mc_academic", "llava_video_oe_academic", "perception_test", "nextqa_mc", "news_video_qa_filtered"),
    *("how2qa", "sutd_trafficqa", "social_iq2", "sportsqa_oe", "cinepile_with_sub", "clevrer", "funqa", "star"),
    *("intent_qa", "video_localized_narratives", "road_text_vqa", "countix_oe", "camerabench_qa", "motionbench_train"),
    *("charades_sta_all_qa", "coin_all_qa", "youcook2_all_qa", "activitynet_all_qa", "ego4d_all", "epic_kitchens_qa"),
    *("video_localized_narratives_caption", "qv_highlights"),
    *("vixmo_syn_video_capqa_v2", "vixmo_syn_video_capqa_with_sub_v2"),
)


_SINGLE_OBJECT = ("webuav", "got10k", "vasttrack", "trackingnet")
_SINGLE_OBJECT_TAIL = ("burst", "lvosv1", "lvosv2", "lasot", "uwcot", "webuot", "latot", "tnl2k", "tnllt")
_TRACKING_PARTS: tuple[tuple[float, tuple[str, ...]], ...] = (
    (0.40, ("mevis_track", "ref_yt_vos_track", "lv_vis_track", "vicas_track", "revos_track", "molmo2_video_track")),
    (0.05, ("burst_track", "ref_davis17_track", "yt_vis_track", "moca_track")),
    (0.20, ("mevis_ground", "lv_vis_ground", "vicas_ground", "revos_ground", "molmo2_video_track_ground")),
    (0.01, ("burst_ground", "moca_ground")),
    (0.15, tuple(f"{name}_single_point_track" for name in ("mevis", "lv_vis", "vicas", "revos", "molmo2_video"))),
    (0.20, tuple(f"{name}_single_point_track" for name in _SINGLE_OBJECT)),
    (0.10, tuple(f"{name}_single_point_track" for name in _SINGLE_OBJECT_TAIL)),
)
# The weight of a part multiplies each member; it is not shared among them.
_TRACKING = tuple(
    Member(name, size=30_000 if name.startswith("vicas_") else None, factor=weight)
    for weight, names in _TRACKING_PARTS
    for name in names
)
# Of one size each, so that the factors are the shares.
_VIDEO_POINTING = (
    Member("vixmo_points_minmax_0_5", size=1, factor=0.4),
    Member("vixmo_points_minmax_6_25", size=1, factor=0.3),
    Member("vixmo_points_minmax_26_60", size=1, factor=0.1),
    Member("academic_points_clip_63s_2fps", size=1, factor=0.2),
)
_IMAGE_POINTING = (
    Member("pixmo_multi_points", size=200_000),
    *("pixmo_points_train", "pixmo_count_train", "pixmo_points_high_freq_train", "cosyn_point"),
)
_SFT_GROUPS = (
    Group(name="demo", rate=0.15, datasets=_DEMO),
    Group(name="image_academic", rate=0.25, datasets=_IMAGE_ACADEMIC),
    Group(name="video_academic", rate=0.20, datasets=_VIDEO_ACADEMIC),
    Group(name="tracking", rate=0.15, datasets=_TRACKING),
    Group(name="video_pointing", rate=0.15, datasets=_VIDEO_POINTING),
    Group(name="image_pointing", rate=0.10, datasets=_IMAGE_POINTING),
    Group(name="nlp", rate=0.0995, datasets=("tulu4",)),
    Group(name="hardcodes", rate=0.0005, datasets=("molmo2_hardcodes",)),
)


def _rules() -> dict[str, DatasetRule]:
    """Flat weights for pointing, tracking and video captions; high resolution for pointing at pictures."""
    rules = {"vixmo3_top_level_captions_min_3": DatasetRule(loss=CAPTION)}
    rules |= {member.name: DatasetRule(loss=POINT) for member in (*_TRACKING, *_VIDEO_POINTING)}
    pointing = [member if isinstance(member, str) else member.name for member in _IMAGE_POINTING]
    return rules | dict.fromkeys(pointing, POINTING_RULE)


_SFT = replace(SFT_STAGE, mixture={}, groups=_SFT_GROUPS, rules=_rules())
_LONG_CONTEXT = replace(LONG_CONTEXT_STAGE, mixture={}, groups=_SFT_GROUPS, rules=_rules())

RECIPES: dict[str, dict[str, Stage]] = {
    "molmo2": {"pretraining": _PRETRAINING, "sft": _SFT, "long_context": _LONG_CONTEXT}
}
"""Stages by recipe and name."""


def find_stage(stage: str | Stage, recipe: str | None = None) -> Stage:
    """The stage of that name, as the recipe has it.

    Raises ConfigError for an unknown stage or recipe, or a recipe given for a stage of one's own.
    """
    if isinstance(stage, Stage):
        if recipe is not None:
            raise ConfigError(f"recipe {recipe!r} names a published stage; it cannot be applied to a Stage of your own")
        return stage
    if recipe is not None and recipe not in RECIPES:
        raise ConfigError(f"unknown recipe {recipe!r}; known: {', '.join(RECIPES)}")
    known = STAGES if recipe is None else RECIPES[recipe]
    name = canonical_name(stage) if isinstance(stage, str) else None
    if name not in known:
        raise ConfigError(f"unknown stage {stage!r}; known: {', '.join(known)}, or pass a grain_molmo.Stage")
    return known[name]
