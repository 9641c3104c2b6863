"""A tenth of the records damaged: what each policy makes of it. $GRAIN_MOLMO_FAULT_EXAMPLES says of how many."""

import hashlib
import io
import itertools
import json
import os
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

import grain_molmo as gm
from grain_molmo.datasets.base import content_fingerprint
from grain_molmo.errors import ConfigError, DamagedRecordError, ExampleError, FaultBudgetError, MediaError, StoreError
from grain_molmo.faults import FaultPolicy
from grain_molmo.quarantine import read_quarantine
from grain_molmo.store import shards, writer

NUM_EXAMPLES = int(os.environ.get("GRAIN_MOLMO_FAULT_EXAMPLES", "500"))
NUM_DAMAGED = NUM_EXAMPLES // 10
KINDS = ("media", "annotations")
REASONS = {"media": "unreadable_record", "annotations": "damaged_record"}
ERRORS = {"media": MediaError, "annotations": ExampleError}

pytestmark = pytest.mark.xdist_group("loader_faults")  # they share the stores


def mark(index):
    return b"mark %06d mark" % index


def picture(index):
    """A small JPEG, followed by bytes that no decoder looks at."""
    file = io.BytesIO()
    Image.new("RGB", (24, 18), (index % 256, index // 256 % 256, 90)).save(file, "JPEG")
    return file.getvalue() + mark(index)


def examples(kind):
    for index in range(NUM_EXAMPLES):
        messages = ["What is it?", f"A thing. {mark(index).decode()}"]
        yield {"messages": messages} if kind == "annotations" else {"image": picture(index), "messages": messages}


def damage(files, indices, number):
    """Turns over a byte of so many of the records, as a disk does that changes no size."""
    contents = {path: bytearray(path.read_bytes()) for path in files}
    damaged = set()
    for index in indices:
        for data in contents.values():
            place = data.find(mark(index))  # not found where the file's own block header cuts it in two
            if place >= 0 and len(damaged) < number:
                data[place + 7] ^= 0xFF
                damaged.add(index)
    for path, data in contents.items():
        path.write_bytes(data)
    assert len(damaged) == number
    return frozenset(damaged)


@dataclass(frozen=True)
class Stores:
    """A dataset "many", whole and with some records damaged."""

    kind: str
    good: str
    bad: str
    damaged: frozenset

    def loader(self, folder, **options):
        crops = 18 if self.kind == "media" else 2
        stage = gm.Stage(mixture={"many": 1}, batch_size=2, seq_len=4096, crops_per_row=crops, waiting=4)
        return gm.make_loader(stage, data_dir=folder, tokenizer="bytes", **{"num_threads": 2, **options})


@pytest.fixture(scope="module", params=KINDS)
def stores(request, tmp_path_factory):
    kind, folder = request.param, tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "ANNOTATION_OPTIONS", shards.MEDIA_OPTIONS)  # so that a record can be found in the file
        gm.write_dataset(examples(kind), folder / "good", "many", progress=False)
    shutil.copytree(folder / "good", folder / "bad")
    files = list((folder / "bad" / ("media" if kind == "media" else "many")).glob("*.array_record*"))
    damaged = damage(files, np.random.RandomState(3).permutation(NUM_EXAMPLES).tolist(), NUM_DAMAGED)
    return Stores(kind, str(folder / "good"), str(folder / "bad"), damaged)


of_media = pytest.mark.parametrize("stores", ["media"], indirect=True)
of_annotations = pytest.mark.parametrize("stores", ["annotations"], indirect=True)


def digest(batch):
    return hashlib.sha256(b"".join(batch[key].tobytes() for key in sorted(batch))).hexdigest()


def take(loader, num_examples):
    """Batches and what is in them, until so many examples were handed out or left out."""
    seen = 0
    for batch in loader:
        info = loader.batch_info
        yield batch, info
        seen += sum(map(len, info.rows)) + len(info.skipped)
        if seen >= num_examples:
            return


def shown(info):
    return [example for row in info.rows for example in row]


def tokens_of_first_visits(batch, info):
    return {
        example.index: batch["input_tokens"][row, slice(*example.tokens)].tobytes()
        for row, examples_of_row in enumerate(info.rows)
        for example in examples_of_row
        if example.epoch == 0
    }


@of_media
def test_damaged_media_blank_their_examples_and_move_nothing_else(stores):
    blank = set()
    with stores.loader(stores.good) as good, stores.loader(stores.bad) as bad:
        for batch, info in take(bad, NUM_EXAMPLES + 200):  # what waits for a row with room comes a little later
            expected = next(good)
            for row, examples_of_row in enumerate(good.batch_info.rows):
                for example in examples_of_row:
                    if example.index in stores.damaged:
                        expected["loss_weights"][row, slice(*example.tokens)] = 0
                        expected["images"][row, slice(*example.crops)] = 0
            assert digest(batch) == digest(expected)
            assert bad.get_state() == good.get_state()
            assert not info.skipped
            blank |= {example.index for example in shown(info) if example.blanked}
        assert blank == stores.damaged
        assert set(bad.stats()["skipped_media"]) == {"unreadable_record"}


@of_annotations
def test_damaged_annotations_are_left_out_and_all_others_come_as_they_were(stores):
    tokens = {}
    with stores.loader(stores.good) as loader:
        for batch, info in take(loader, NUM_EXAMPLES + 200):
            tokens |= tokens_of_first_visits(batch, info)
    assert len(tokens) == NUM_EXAMPLES
    found, left_out = {}, set()
    with stores.loader(stores.bad) as loader:
        for batch, info in take(loader, NUM_EXAMPLES + 200):
            left_out |= {skipped.draw.index for skipped in info.skipped if skipped.draw.epoch == 0}
            found |= tokens_of_first_visits(batch, info)
        assert set(loader.stats()["skipped_examples"]) == {"damaged_record"}
        assert not loader.stats()["skipped_media"]
    assert left_out == stores.damaged
    assert found == {index: value for index, value in tokens.items() if index not in stores.damaged}


def faults(kind, info):
    return len(info.skipped) if kind == "annotations" else sum(example.blanked is not None for example in shown(info))


@pytest.mark.parametrize("num_threads", [1, 3])
def test_raise_stops_before_the_first_faulty_batch_and_skip_goes_on_from_there(stores, num_threads):
    with stores.loader(stores.bad) as loader:
        batches = [(digest(batch), info) for batch, info in take(loader, 100)]
    clean = [*itertools.takewhile(lambda each: not faults(stores.kind, each[1]), batches)]
    with stores.loader(stores.bad, policy=FaultPolicy(action="raise"), num_threads=num_threads) as loader:
        assert [digest(next(loader)) for _ in clean] == [each for each, _ in clean]
        state = loader.get_state()
        for _ in range(2):
            with pytest.raises(ERRORS[stores.kind], match=f"{REASONS[stores.kind]}: many example .* does not read"):
                next(loader)
            assert loader.get_state() == state
        assert loader.stats()["batches"] == len(clean)
    with stores.loader(stores.bad) as loader:
        loader.set_state(state)
        assert digest(next(loader)) == batches[len(clean)][0]


@pytest.mark.parametrize("num_threads", [1, 3])
def test_a_budget_stops_at_the_batch_that_passes_it_whatever_was_prefetched(stores, num_threads):
    allowed = NUM_DAMAGED / NUM_EXAMPLES / 4
    total = expected = examples_seen = 0
    with stores.loader(stores.bad) as loader:
        for _, info in take(loader, NUM_EXAMPLES):
            total += faults(stores.kind, info)
            examples_seen += len(shown(info)) + len(info.skipped)
            if total > allowed * max(1000, examples_seen):
                expected = info.step
                break
    with stores.loader(stores.bad, policy=FaultPolicy(max_ratio=allowed), num_threads=num_threads) as loader:
        for _ in range(expected):
            next(loader)
        with pytest.raises(FaultBudgetError, match=rf"\(step {expected}\).*{REASONS[stores.kind]} {total}"):
            next(loader)


def test_a_budget_that_is_kept_changes_no_batch(stores):
    policy = FaultPolicy(max_ratio=0.2, max_in_a_row=50)
    with stores.loader(stores.bad) as loader, stores.loader(stores.bad, policy=policy) as within:
        for batch, _ in take(loader, 300):
            assert digest(batch) == digest(next(within))


def test_the_quarantine_file_lists_the_damaged_records_and_no_other(stores, tmp_path):
    policy = FaultPolicy(quarantine=tmp_path / "faults.jsonl")
    with stores.loader(stores.bad, policy=policy) as loader:
        for _ in take(loader, NUM_EXAMPLES + 200):
            pass
    dataset = gm.get_dataset("many", data_dir=stores.bad)
    assert read_quarantine(tmp_path / "faults.jsonl", {"many": dataset}).examples == {"many": stores.damaged}
    size = (tmp_path / "faults.jsonl").stat().st_size
    with stores.loader(stores.bad, policy=policy) as loader:
        for _ in take(loader, 200):
            pass
    assert (tmp_path / "faults.jsonl").stat().st_size == size


def test_a_plan_without_the_quarantined_examples_meets_no_fault_and_shows_all_others(stores, tmp_path):
    with stores.loader(stores.bad, policy=FaultPolicy(quarantine=tmp_path / "faults.jsonl")) as loader:
        for _ in take(loader, NUM_EXAMPLES + 200):
            pass
    visited = set()
    policy = FaultPolicy(action="raise")
    with stores.loader(stores.bad, policy=policy, exclude=tmp_path / "faults.jsonl") as loader:
        for _, info in take(loader, NUM_EXAMPLES + 200):
            visited |= {example.index for example in shown(info)}
    assert visited == set(range(NUM_EXAMPLES)) - stores.damaged


@of_annotations
def test_a_shard_that_is_cut_off_under_the_loader_is_no_fault_of_an_example(stores, tmp_path):
    shutil.copytree(stores.good, tmp_path / "data")
    loader = stores.loader(tmp_path / "data")
    for shard in (tmp_path / "data" / "many").glob("*.array_record*"):
        shard.write_bytes(shard.read_bytes()[:100])
    with loader, pytest.raises(StoreError, match="it was cut off") as error:
        next(loader)
    assert not isinstance(error.value, DamagedRecordError)


@of_annotations
def test_what_is_left_out_as_asked_counts_in_no_budget(stores, tmp_path):
    path = tmp_path / "faults.jsonl"
    with stores.loader(stores.bad, policy=FaultPolicy(quarantine=path)) as loader:
        for _ in take(loader, NUM_EXAMPLES + 200):
            pass
    nothing_allowed = FaultPolicy(max_ratio=0, max_in_a_row=0)
    with stores.loader(stores.bad, policy=nothing_allowed, exclude=path) as loader:
        for _ in take(loader, NUM_EXAMPLES):
            pass
        assert loader.stats()["skipped_examples"].keys() == {"excluded"}


@of_annotations
def test_a_plan_of_which_all_is_left_out_is_refused(stores, tmp_path):
    fingerprint = content_fingerprint(gm.get_dataset("many", data_dir=stores.good))
    lines = (json.dumps({"dataset": "many", "index": i, "fingerprint": fingerprint}) for i in range(NUM_EXAMPLES))
    (tmp_path / "faults.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(ConfigError, match="all examples of the phase from step 0 are excluded: many"):
        stores.loader(stores.good, exclude=tmp_path / "faults.jsonl")


def test_a_file_cannot_be_excluded_and_added_to(tmp_path):
    path = tmp_path / "faults.jsonl"
    stage = gm.Stage(mixture={"many": 1})
    for exclude in (path, [path]):
        with pytest.raises(ConfigError, match="is excluded and added to"):
            gm.make_loader(stage, tokenizer="bytes", policy=gm.FaultPolicy(quarantine=path), exclude=exclude)
