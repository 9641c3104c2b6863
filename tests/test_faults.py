import json
import re
import resource
import signal
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grain_molmo.datasets.base import Dataset
from grain_molmo.errors import ConfigError, ExampleError, FaultBudgetError, MediaError, StoreError
from grain_molmo.faults import FaultPolicy, FaultWatch, faults_of
from grain_molmo.packing.mixture import Draw
from grain_molmo.packing.rows import EXCLUDED, Skipped
from grain_molmo.quarantine import content_fingerprint, read_quarantine
from grain_molmo.render import ExampleInfo
from grain_molmo.stats import BatchInfo


class Numbered(Dataset):
    def __init__(self, size=100_000, fingerprint="a"):
        self.size, self.fingerprint = size, fingerprint

    def __len__(self):
        return self.size


DATASETS = {"pictures": Numbered(), "others": Numbered()}


def shown(index, blanked=None, n_crops=3):
    detail = f"{blanked}: what was wrong" if blanked else ""
    info = ExampleInfo("pictures", 0, index, f"id-{index}", 1, (0, 10), (0, n_crops), (0, 4), 1.0)
    return replace(info, blanked=blanked, detail=detail)


def left_out(index, reason="empty_answer"):
    return Skipped(Draw("pictures", 0, index), reason, f"pictures example {index} (id id-{index}): bad", f"id-{index}")


def batch(step, rows, skipped=()):
    return BatchInfo(step, range(len(rows)), rows, skipped, num_examples=sum(map(len, rows)))


def full(step, faults=0, size=1000):
    """A batch of so many examples, so many of them blank, one after the other."""
    return batch(step, [[shown(step * size + i, "truncated" if i < faults else None) for i in range(size)]])


def watch(**policy):
    return FaultWatch(FaultPolicy(**policy), DATASETS)


def test_faults_come_in_order_those_left_out_first_then_the_blank_ones_row_by_row():
    rows = [[shown(1), shown(2, "truncated")], [shown(3, "other_size")]]
    faults = list(faults_of(batch(7, rows, [left_out(9), left_out(4, "damaged_record")])))
    assert [(fault.stage, fault.index, fault.reason, fault.step) for fault in faults] == [
        ("encode", 9, "empty_answer", 7),
        ("encode", 4, "damaged_record", 7),
        ("render", 2, "truncated", 7),
        ("render", 3, "other_size", 7),
    ]
    assert str(faults[0]) == "pictures example 9 (id id-9): bad"
    assert str(faults[2]) == "pictures example 2 (id id-2): what was wrong"


def test_what_was_left_out_as_asked_is_no_fault():
    info = batch(0, [[shown(1)]], [left_out(9, EXCLUDED), left_out(4)])
    assert [fault.index for fault in faults_of(info)] == [4]


def test_by_default_any_number_of_scattered_faults_is_gone_on_with():
    watched = watch()
    for step in range(5):
        watched.check(batch(step, [[shown(i, "truncated" if i % 2 else None) for i in range(1000)]], [left_out(1)]))


def test_raise_gives_the_error_of_the_first_fault():
    with pytest.raises(ExampleError, match=r"pictures example 9 \(id id-9\)") as left:
        watch(action="raise").check(batch(0, [[shown(2, "truncated")]], [left_out(9)]))
    assert (left.value.reason, left.value.example_id) == ("empty_answer", "id-9")
    with pytest.raises(MediaError, match=r"^truncated: pictures example 2 \(id id-2\): what was wrong$") as blank:
        watch(action="raise").check(batch(0, [[shown(1), shown(2, "truncated")]]))
    assert blank.value.reason == "truncated"
    watch(action="raise").check(batch(0, [[shown(1)]]))


def test_a_ratio_is_kept_until_one_fault_too_many():
    watched = watch(max_ratio=0.01)
    watched.check(full(0, faults=10))
    watched.check(full(1, faults=10))
    with pytest.raises(FaultBudgetError, match=r"1\.03% of the examples are faulty; 1\.00% are allowed"):
        watched.check(full(2, faults=11))


def test_few_examples_are_taken_for_a_thousand():
    watched = watch(max_ratio=0.01)
    for step in range(10):
        watched.check(full(step, faults=1, size=2))
    with pytest.raises(FaultBudgetError):
        watched.check(full(10, faults=1, size=2))


def test_no_fault_at_all_can_be_asked_for():
    watched = watch(max_ratio=0)
    watched.check(full(0))
    with pytest.raises(FaultBudgetError):
        watched.check(full(1, faults=1))


def test_examples_left_out_count_against_the_whole_batch_and_blank_ones_against_the_rows_of_this_process():
    half = BatchInfo(0, range(1), [[shown(i) for i in range(1000)]], [left_out(1)] * 30, num_examples=2970)
    watched = watch(max_ratio=0.01)
    watched.check(half)
    with pytest.raises(FaultBudgetError, match="of 6,000 examples drawn 61 were left out, of 2,000 rendered here 0"):
        watched.check(replace(half, skipped=[left_out(1)] * 31, num_examples=2969))


def test_a_batch_that_was_refused_is_refused_again_and_not_counted_twice():
    watched = watch(max_ratio=0.01)
    messages = []
    for _ in range(2):
        with pytest.raises(FaultBudgetError) as error:
            watched.check(full(0, faults=11))
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    watched.check(full(0, faults=10))


@given(st.lists(st.lists(st.sampled_from("gbt"), min_size=1, max_size=6), max_size=20), st.integers(0, 5))
def test_in_a_row_counts_blank_media_over_rows_and_batches_and_passes_over_text(batches, limit):
    """g: good, b: blank, t: text, which has no media to be blank."""
    longest = max(map(len, re.findall("b+", "".join("".join(each) for each in batches).replace("t", ""))), default=0)
    kinds = {"g": {}, "b": {"blanked": "truncated"}, "t": {"n_crops": 0}}
    watched = watch(max_in_a_row=limit)

    def go():
        for step, each in enumerate(batches):
            watched.check(batch(step, [[shown(i, **kinds[kind])] for i, kind in enumerate(each)]))

    if longest <= limit:
        go()
    else:
        with pytest.raises(FaultBudgetError, match="examples in a row are blank"):
            go()


def test_the_budget_error_says_counts_reasons_the_last_fault_and_what_to_do():
    rows = [[shown(1, "truncated"), shown(2, "truncated"), shown(3, "other_size")]]
    with pytest.raises(FaultBudgetError) as error:
        watch(max_in_a_row=2).check(batch(41, rows, [left_out(5)]))
    message = str(error.value)
    for part in (
        "3 examples in a row are blank, 2 are allowed (step 41)",
        "of 4 examples drawn 1 were left out, of 3 rendered here 3 are blank",
        "most often truncated 2, empty_answer 1, other_size 1",
        "the last: pictures example 3 (id id-3): what was wrong",
        "exclude=",
        "grain-molmo verify",
    ):
        assert part in message


@pytest.mark.parametrize(
    "wrong", [{"action": "ignore"}, {"max_ratio": 1.5}, {"max_ratio": -0.1}, {"max_ratio": "1"}, {"max_in_a_row": 1.5}]
)
def test_a_policy_that_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        FaultPolicy(**wrong)


def entries(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_faulty_example_is_listed_once_over_visits_and_runs(tmp_path):
    path = tmp_path / "runs" / "faults.jsonl"
    for _ in range(2):
        watched = watch(quarantine=path)
        watched.check(batch(3, [[shown(2, "truncated")]], [left_out(9)]))
        watched.check(batch(4, [[shown(2, "truncated"), shown(5, "truncated")]]))
    assert [entry["index"] for entry in entries(path)] == [9, 2, 5]
    assert entries(path)[1] == {
        "dataset": "pictures",
        "index": 2,
        "epoch": 0,
        "id": "id-2",
        "step": 3,
        "stage": "render",
        "reason": "truncated",
        "error": "what was wrong",
        "fingerprint": content_fingerprint(DATASETS["pictures"]),
    }


def test_what_stops_the_run_is_listed_too(tmp_path):
    path = tmp_path / "faults.jsonl"
    with pytest.raises(MediaError):
        watch(action="raise", quarantine=path).check(batch(0, [[shown(2, "truncated"), shown(3, "truncated")]]))
    assert read_quarantine(path).examples == {"pictures": {2, 3}}


def test_each_process_has_its_file_and_the_first_lists_what_all_see(tmp_path):
    path = tmp_path / "faults.jsonl"
    for process in range(2):
        watched = FaultWatch(FaultPolicy(quarantine=path), DATASETS, process, 2)
        watched.check(batch(0, [[shown(process, "truncated")]], [left_out(9)]))
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "faults-00000-of-00002.jsonl",
        "faults-00001-of-00002.jsonl",
    ]
    assert [entry["index"] for entry in entries(tmp_path / "faults-00001-of-00002.jsonl")] == [1]
    for paths in (path, str(tmp_path / "faults-*.jsonl"), sorted(tmp_path.iterdir())):
        assert read_quarantine(paths).examples == {"pictures": {0, 1, 9}}


def test_names_that_look_like_patterns_are_names(tmp_path):
    folder = tmp_path / "run[1]"
    for process in range(2):
        watched = FaultWatch(FaultPolicy(quarantine=folder / "faults[a].jsonl"), DATASETS, process, 2)
        watched.check(batch(0, [[shown(process, "truncated")]]))
    assert read_quarantine(folder / "faults[a].jsonl").examples == {"pictures": {0, 1}}


def listed(path, *indices, dataset="pictures", fingerprint=None):
    fingerprint = fingerprint or content_fingerprint(DATASETS[dataset])
    lines = [json.dumps({"dataset": dataset, "index": index, "fingerprint": fingerprint}) + "\n" for index in indices]
    with open(path, "a") as file:
        file.writelines(lines)
    return path


def test_the_digest_stands_for_the_examples_whatever_the_order_or_file(tmp_path):
    one, two = listed(tmp_path / "one", 1, 9, 17), listed(listed(tmp_path / "two", 17, 9), 1, 1)
    other = listed(listed(tmp_path / "other", 1, 9), 17, dataset="others")
    assert read_quarantine(one).digest == read_quarantine(two).digest == read_quarantine([one, two]).digest != ""
    assert read_quarantine(one).digest != read_quarantine(other).digest
    empty = tmp_path / "empty"
    empty.touch()
    assert read_quarantine(empty).digest == ""


def test_a_torn_last_line_is_passed_over_and_the_next_run_writes_on_behind_it(tmp_path):
    path = listed(tmp_path / "faults.jsonl", 1, 2)
    path.write_bytes(path.read_bytes()[:-20])
    assert read_quarantine(path).examples == {"pictures": {1}}
    watch(quarantine=path).check(batch(0, [[shown(5, "truncated")]]))
    assert read_quarantine(path).examples == {"pictures": {1, 5}}


def test_a_torn_line_is_taken_away_however_long_the_file_and_the_line(tmp_path):
    path = listed(tmp_path / "faults.jsonl", *range(2000))
    whole = path.read_bytes()
    for torn in (b"", b"{", b"{" + b"x" * 200_000):
        path.write_bytes(whole + torn)
        watch(quarantine=path)
        assert path.read_bytes() == whole
    path.write_bytes(b"\0" * 200_000)  # as some file systems leave a file after a power cut
    watch(quarantine=path)
    assert path.read_bytes() == b""


@pytest.fixture
def set_room():
    """Lets files grow to so many bytes, as a full disk does: what fits of a write is written, then it fails."""
    ignored, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size or limits[0], limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, ignored)


def test_on_a_full_disk_no_half_line_is_left_and_with_room_again_it_goes_on(tmp_path, set_room):
    path = listed(tmp_path / "faults.jsonl", 1)
    before, watched = path.read_bytes(), watch(quarantine=path)
    faulty = batch(0, [[shown(index, "truncated") for index in range(2, 9)]])
    set_room(len(before) + 300)
    try:
        with pytest.raises(StoreError, match=r"faults\.jsonl: cannot write"):
            watched.check(faulty)
    finally:
        set_room(None)
    assert path.read_bytes() == before
    watched.check(faulty)
    assert read_quarantine(path).examples == {"pictures": set(range(1, 9))}


def test_lines_of_other_data_or_odd_fingerprints_hide_nothing_new(tmp_path):
    path = listed(listed(tmp_path / "faults.jsonl", 1, fingerprint="x"), 1, fingerprint=["x"])
    watch(quarantine=path).check(batch(0, [[shown(1, "truncated")]]))
    assert [entry["fingerprint"] for entry in entries(path)] == ["x", ["x"], content_fingerprint(DATASETS["pictures"])]


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_what_is_no_name_of_a_file_is_refused(name):
    with pytest.raises(ConfigError, match="is no file"):
        read_quarantine(name)
    with pytest.raises(StoreError, match="cannot write"):
        watch(quarantine=name)


def test_a_line_that_does_not_read_is_named(tmp_path):
    path = listed(tmp_path / "faults.jsonl", 1)
    path.write_text(path.read_text() + "what is this?\n" + path.read_text())
    with pytest.raises(ConfigError, match=r"faults\.jsonl line 2 is no line of a quarantine file"):
        read_quarantine(path)


def test_lines_of_other_data_are_refused_and_lines_of_other_datasets_passed_over(tmp_path):
    path = listed(listed(tmp_path / "faults.jsonl", 7), 8, dataset="others", fingerprint="x")
    assert read_quarantine(path, {"pictures": DATASETS["pictures"]}).examples == {"pictures": {7}}
    with pytest.raises(ConfigError, match=r"line 2: example 8 of others as it was then; .* delete the lines of others"):
        read_quarantine(path, DATASETS)
    for other in (Numbered(99), Numbered(fingerprint="b")):
        with pytest.raises(ConfigError, match="holds other data now"):
            read_quarantine(path, {"pictures": other})


def test_a_file_that_is_not_there_is_refused_where_it_is_read_and_one_that_cannot_be_where_it_is_made(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no file .*nothing\.jsonl"):
        read_quarantine(tmp_path / "nothing.jsonl")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write"):
        watch(quarantine=tmp_path / "file" / "faults.jsonl")
