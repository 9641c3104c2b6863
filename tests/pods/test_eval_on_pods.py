"""An evaluation on one, two and four real JAX processes: each example once, stopped and gone on with."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from eval_process import BROKEN, MISSING, N_EXAMPLES, ROWS, STAGE, Given, Job, Questions, run

import grain_molmo as gm

pytestmark = pytest.mark.xdist_group("pods")
DEVICES = 8
STEPS = -(-N_EXAMPLES // ROWS)
STOPS = (9, 60)
UNUSABLE = {*MISSING, *BROKEN}


def launch(count, jobs, folder):
    """What each of so many processes was given, which share the eight devices, by process and job."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        coordinator = f"localhost:{probe.getsockname()[1]}"
    flags = f"--xla_force_host_platform_device_count={DEVICES // count}"
    root = Path(__file__).parents[2]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(root)}
    processes = []
    for process in range(count):
        given, output, log = (folder / f"{count}-{process}.{kind}" for kind in ("in.json", "out.json", "log"))
        task = {"coordinator": coordinator, "count": count, "process": process, "jobs": [asdict(job) for job in jobs]}
        given.write_text(json.dumps(task))
        command = [sys.executable, str(Path(__file__).with_name("eval_process.py")), str(given), str(output)]
        with log.open("w") as file:
            processes.append((subprocess.Popen(command, env=environment, stdout=file, stderr=file), output, log))
    failed = [log.read_text()[-4000:] for process, _, log in processes if process.wait() != 0]
    assert not failed, "\n".join(failed)
    return [[Given(**given) for given in json.loads(output.read_text())] for _, output, _ in processes]


@pytest.fixture(scope="module")
def alone():
    """What one process is given, this one."""
    return run(Job())


@pytest.fixture(scope="module")
def pods(alone, tmp_path_factory):
    """By number of processes what each of them is given of all, and of the part that this pod goes on with.

    One process stops at the first stop, two go on to the second, four to the end.
    """
    first, second = STOPS
    folder = tmp_path_factory.mktemp("pods")
    two = launch(2, [Job(), Job(alone.states[first], second - first)], folder)
    stopped = two[1][1].states[-1]
    return {2: two, 4: launch(4, [Job(), Job(stopped)], folder)}


def together(parts):
    """The examples of all processes, in order."""
    return sorted(example for part in parts for example in part.examples)


def test_one_process_gets_each_example_once_in_order_and_the_unusable_ones_not_valid(alone):
    assert [number for number, *_ in alone.examples] == [*range(N_EXAMPLES)]
    assert {number for number, _, valid, _ in alone.examples if not valid} == UNUSABLE
    # The one that is not even a dict has its number for a name.
    assert [name for _, name, *_ in alone.examples] == ["0", *(f"q{number}" for number in range(1, N_EXAMPLES))]
    assert sum(alone.num_valid) == N_EXAMPLES - len(UNUSABLE)
    assert alone.padding == STEPS * ROWS - N_EXAMPLES
    assert len(alone.num_valid) == STEPS


@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_get_each_example_once_and_what_one_gets(count, alone, pods):
    parts = [process[0] for process in pods[count]]
    assert together(parts) == alone.examples
    assert all(part.num_valid == alone.num_valid for part in parts)
    assert sum(part.padding for part in parts) == alone.padding
    assert {len({number % ROWS for number, *_ in part.examples}) for part in parts} == {ROWS // count}


@pytest.mark.parametrize("count", [2, 4])
def test_the_state_is_the_same_on_every_process_at_every_step(count, alone, pods):
    assert all(process[0].states == alone.states for process in pods[count])


def test_stopped_twice_and_gone_on_with_on_other_numbers_of_processes_it_gives_what_is_left(alone, pods):
    first, second = STOPS
    for count, (start, stop) in {2: (first, second), 4: (second, STEPS)}.items():
        parts = [process[1] for process in pods[count]]
        assert together(parts) == alone.examples[start * ROWS : stop * ROWS]
        assert all(part.num_valid == alone.num_valid[start:stop] for part in parts)
        assert all(part.states == alone.states[start : stop + 1] for part in parts)


def test_without_a_mesh_each_process_takes_its_slice_of_every_batch(alone):
    found = []
    for index in range(4):
        with gm.make_eval_loader(
            Questions(),
            stage=STAGE,
            tokenizer="bytes",
            batch_size=ROWS,
            num_threads=1,
            process_index=index,
            process_count=4,
        ) as loader:
            assert len(loader) == STEPS
            for batch in loader:
                assert batch["valid"].shape == (ROWS // 4,)
                rows = zip(loader.batch_info.row_numbers, loader.batch_info.rows, batch["valid"], strict=True)
                found += [(loader.batch_info.step * ROWS + row, bool(valid)) for row, infos, valid in rows if infos]
            with pytest.raises(StopIteration):
                next(loader)
    assert sorted(found) == [(number, valid) for number, _, valid, _ in alone.examples]
    assert np.count_nonzero([valid for _, valid in found]) == N_EXAMPLES - len(UNUSABLE)
