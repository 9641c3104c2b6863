"""The sample of the nine Molmo2 sets converts: every row that it spoiled on purpose is rejected, and no other."""

import json
from pathlib import Path
from typing import Any

import pytest

import grain_molmo as gm
from converters.convert import convert_set
from converters.options import Options
from converters.request import SetRequest
from converters.sample import SampleSet, write_sample
from converters.sets import SETS

NAMES = [name for name in SETS if name.startswith("molmo2_")]
# What the converter calls what the generator did.
REASONS = {
    "dead_url": {"not_in_cache"},
    "missing_video": {"missing_video"},
    "truncated_video": {"not_a_video", "unreadable", "truncated"},
    "empty_caption": {"empty_caption"},
    "empty_answer": {"empty_answer", "empty_qa_pairs"},
    "broken_picture": {"not_an_image"},
    "point_out_of_range": {"points_out_of_range", "points_outside_image"},
    "time_off_grid": {"timestamp_off_grid"},
    "unknown_track_id": {"unknown_object_id"},
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SampleSet]:
    return write_sample(tmp_path_factory.mktemp("sample"), NAMES, rows=16, seed=3, problems=0.3)


@pytest.mark.xdist_group("molmo2 sample")
@pytest.mark.parametrize("name", NAMES)
def test_spoiled_rows_are_rejected_with_their_reason_and_no_others(
    sample: dict[str, SampleSet], name: str, tmp_path: Path
):
    spec, written = SETS[name], sample[name.replace("_", "-")]
    video_dir = str(written.video_dir) if spec.is_video else None
    options = Options(video_dir=video_dir, workers=2, image_cache=str(written.image_cache), cache_only=True)
    summary = convert_set(SetRequest(name=name, source=str(written.folder)), tmp_path, options)
    parts = {f"train_{config}" if config else "train": config for config in spec.configs}
    bad = {}
    for one in written.bad_rows:
        part = one.split.partition("/")[0]  # pointed videos have their rows once more by category
        if part in spec.configs or part in spec.splits:
            bad[f"train_{part}" if part in spec.configs else spec.store_split(part), one.row] = one.reason
    assert bad, "the sample holds bad rows on purpose"
    found = {}
    for path in (tmp_path / name).glob("rejects-*.jsonl"):
        split = path.stem.removeprefix("rejects-")
        part = next((part for part in parts if f"{split}_".startswith(f"{part}_")), split)
        found |= {(part, one["row"]): one["reason"] for one in map(json.loads, path.read_text().splitlines())}
    # Captions that were given a low score are left out by rule.
    found = {place: reason for place, reason in found.items() if reason != "low_score"}
    assert found.keys() == bad.keys()
    assert [(bad[place], reason) for place, reason in found.items() if reason not in REASONS[bad[place]]] == []
    assert sum(summary.examples.values()) > 0
    dataset: Any = gm.get_dataset(name, data_dir=tmp_path)
    assert all(dataset[item]["message_list"] for item in range(len(dataset)))
