"""A curriculum on real JAX processes: filtered, stopped and gone on with on fewer, it gives the same batches."""

import pytest
from curriculum_process import ROWS, run, sums
from pods import launch_script

import grain_molmo as gm
from converters.to_arrayrecord import main as convert
from grain_molmo.curriculum import example_ids

pytestmark = pytest.mark.xdist_group("pods")
STEPS = 10
FIRST, SECOND, LAST = 2, 4, 9
"""After which batches scores are given; those of the second take effect two batches later than the next."""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curriculum_data")
    assert convert(["pixmo-count", "--sample", "--rows", "12", "--data-dir", str(folder)]) == 0
    return str(folder)


@pytest.fixture(scope="module")
def filters(data_dir):
    """Scores of what is easy, of unknown ids and of no worth, and at the end of all that there is."""
    pictures = example_ids(gm.get_dataset("pixmo_count", data_dir=data_dir))
    words = [line["qid"] for line in sums()]
    easy = {**dict.fromkeys(words[:30], 0.9), **dict.fromkeys(pictures[:4], 0.8), "q1000": 1.0, "q70": float("nan")}
    harder = {"sums": dict.fromkeys(words[20:50], 0.7)}
    everything = {**dict.fromkeys(words, 1.0), **dict.fromkeys(pictures, 1.0)}
    return {
        str(FIRST): {"scores": easy, "step": None},
        str(SECOND): {"scores": harder, "step": SECOND + 3},
        str(LAST): {"scores": everything, "step": None},
    }


@pytest.fixture(scope="module")
def uninterrupted(data_dir, filters):
    """What one process finds, this one, that nobody stops."""
    return run(data_dir, STEPS, filters, None)


def merged(parts):
    """What the processes of a pod found together; on what several have, they agree."""
    assert all(part["active"] == parts[0]["active"] and part["state"] == parts[0]["state"] for part in parts)
    together = {**parts[0]}
    for kind in ("rows", "ids"):
        together[kind] = {name: value for part in parts for name, value in part[kind].items()}
        assert len(together[kind]) == sum(len(part[kind]) for part in parts)  # each row in one process
    return together


@pytest.mark.parametrize("stop", [SECOND + 2, SECOND + 4], ids=["declared", "filtered"])
def test_four_processes_then_two_give_the_batches_of_a_run_that_never_stopped(
    stop, data_dir, filters, uninterrupted, tmp_path
):
    task = {"data_dir": data_dir, "filters": filters}
    first = merged(launch_script("curriculum_process.py", 4, {**task, "steps": stop, "state": None}, tmp_path))
    then = {**task, "steps": STEPS, "state": first["state"]}
    second = merged(launch_script("curriculum_process.py", 2, then, tmp_path))
    for kind in ("rows", "ids", "active"):
        assert not first[kind].keys() & second[kind].keys()
        assert first[kind] | second[kind] == uninterrupted[kind]
    assert second["state"] == uninterrupted["state"]


def test_the_run_that_they_are_compared_with_does_lose_what_was_mastered(uninterrupted):
    def seen(first, last):
        steps = [f"{step}/{row}" for step in range(first, last + 1) for row in range(ROWS)]
        return {name for each in steps for name in uninterrupted["ids"].get(each, [])}

    easy, harder = ({f"q{n}" for n in numbers} for numbers in (range(30), range(20, 50)))
    assert seen(0, FIRST) & easy
    assert not seen(FIRST + 1, STEPS) & easy
    assert seen(FIRST + 1, SECOND + 2) & harder
    assert not seen(SECOND + 3, STEPS) & harder
    assert "q70" in seen(FIRST + 1, STEPS)
    left = [sizes for step in (0, FIRST, SECOND, LAST) for sizes in [[*map(len, uninterrupted["active"][str(step)])]]]
    assert [sizes[1] for sizes in left] == [80, 50, 30, 12]  # at most 60 % at once
    assert left[0][0] > left[1][0] == left[2][0] > left[3][0] > 0
