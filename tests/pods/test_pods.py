"""Real JAX processes: whatever their number, mesh and order of devices, the global batches are the same."""

import random

import pytest
from pod_process import ROWS, STAGE_NAMES
from pods import SETS, merged, stop_and_go_on

from converters.to_arrayrecord import main as convert

pytestmark = pytest.mark.xdist_group("pods")
STEPS = 5


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pods_data")
    assert convert([*SETS, "--sample", "--rows", "12", "--data-dir", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def uninterrupted(data_dir, tmp_path_factory):
    """By stage what one process finds."""
    ((found,),) = stop_and_go_on([(1, STEPS)], data_dir, tmp_path_factory.mktemp("one"))
    return dict(zip(STAGE_NAMES, found, strict=True))


@pytest.fixture(scope="module")
def stopped(data_dir, tmp_path_factory):
    """What pods of four processes, then two, then one find, stopped at two steps in between."""
    first, second = sorted(random.Random(5).sample(range(1, STEPS), 2))
    stops = [(4, first), (2, second - first), (1, STEPS - second)]
    return stop_and_go_on(stops, data_dir, tmp_path_factory.mktemp("stopped"))


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_four_processes_then_two_then_one_give_the_batches_of_a_run_that_never_stopped(stage, stopped, uninterrupted):
    number = STAGE_NAMES.index(stage)
    parts = [merged([process[number] for process in pod]) for pod in stopped]
    expected = uninterrupted[stage]
    found = {}
    for part in parts:
        assert not found.keys() & part.blocks.keys()
        found |= part.blocks
    assert found == expected.blocks
    assert len({name.split("/")[0] for name in found}) == STEPS
    assert [sums for part in parts for sums in part.sums] == expected.sums
    assert parts[-1].state == expected.state
    assert all(part.traces == 1 for part in parts)


def test_each_process_renders_the_rows_of_its_devices_and_no_others(stopped):
    four = stopped[0]
    rows = [process[STAGE_NAMES.index("pretraining")].rows for process in four]
    assert sorted(sum(rows, [])) == [*range(ROWS)]
    assert any(last - first > 1 for first, last in rows)  # the devices are shuffled: rows lie apart
