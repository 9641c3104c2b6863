"""The length index says what the encoder would say, or nothing."""

import logging
import shutil
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grain_molmo import Dataset, DatasetRule, Stage, indexing, load_tokenizer
from grain_molmo.encode import Encoder
from grain_molmo.errors import ConfigError, ExampleError, StoreBusyError, StoreError
from grain_molmo.indexing import build_index
from grain_molmo.lengths import Coverage, LengthFiles, LengthIndex, lengths_key
from grain_molmo.packing.mixture import Draw
from grain_molmo.stages import PRETRAINING_STAGE
from grain_molmo.store.lock import write_lock

TOKENIZER = load_tokenizer("bytes")
STAGE = Stage(mixture={"talk": 1, "other": 1}, seq_len=512, batch_size=2, max_crops=4)


class Talk(Dataset):
    """Questions whose answers have random lengths; every tenth has no answer at all."""

    def __init__(self, size=50, fingerprint="v1", longer=0):
        self.size, self.fingerprint, self.longer = size, fingerprint, longer
        self.visits = []

    def __len__(self):
        return self.size

    def get(self, item, rng):
        self.visits.append(item)
        if item % 10 == 5:
            return {"messages": []}
        return {"messages": ["Say it.", "x" * (1 + self.longer + int(rng.randint(300)))]}


def make_encoder(stage=STAGE, seed=0, tokenizer=TOKENIZER, **datasets):
    return Encoder({"talk": Talk(), "other": Talk(7, "v2"), **datasets}, stage, tokenizer, seed)


def expected(encoder, draw):
    try:
        return encoder(draw).lengths
    except ExampleError:
        return None


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in (folder / "lengths").rglob("*") if path.is_file()}


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(indexing, "_PART", 8)


@pytest.fixture
def indexed(tmp_path):
    """A folder with one epoch of both sets."""
    list(build_index(tmp_path, make_encoder()))
    return tmp_path


# ---- what it says ----


@pytest.mark.usefixtures("small_parts")
def test_the_index_says_of_every_example_what_the_encoder_says(tmp_path):
    encoder = make_encoder(seed=3)
    done = list(build_index(tmp_path, encoder, epochs=range(2)))
    assert [(one.dataset, one.epoch, one.examples, one.unusable) for one in done] == [
        ("talk", 0, 50, 5),
        ("other", 0, 7, 1),
        ("talk", 1, 50, 5),
        ("other", 1, 7, 1),
    ]
    index = LengthIndex.open(tmp_path, encoder, strict=True)
    draws = [
        Draw(name, epoch, i) for name, data in encoder.datasets.items() for epoch in (0, 1) for i in range(len(data))
    ]
    assert [index.get(draw) for draw in draws] == [expected(encoder, draw) for draw in draws]
    assert index.get(Draw("talk", 2, 0)) is None
    assert index.coverage() == {"talk": Coverage(50, (0, 1)), "other": Coverage(7, (0, 1))}


def test_epochs_that_are_there_are_not_made_again(indexed):
    encoder = make_encoder()
    before = files(indexed)
    assert [one.seconds for one in build_index(indexed, encoder)] == [None, None]
    assert files(indexed) == before
    assert not encoder.datasets["talk"].visits


def test_a_set_that_does_not_say_what_it_holds_has_no_index(tmp_path):
    encoder = make_encoder(talk=Talk(fingerprint=""))
    assert [one.dataset for one in build_index(tmp_path, encoder)] == ["other"]
    index = LengthIndex.open(tmp_path, encoder)
    assert index.get(Draw("talk", 0, 0)) is None
    assert index.get(Draw("other", 0, 0)) is not None
    with pytest.raises(ConfigError, match="'talk' has no `fingerprint`"):
        next(build_index(tmp_path, encoder, ["talk"]))
    with pytest.raises(ConfigError, match="'talc' is no dataset of this stage; it has talk, other"):
        next(build_index(tmp_path, encoder, ["talc"]))


def test_without_a_folder_the_index_knows_nothing(monkeypatch):
    monkeypatch.delenv("GRAIN_MOLMO_DATA", raising=False)
    assert LengthIndex.open(None, make_encoder()).get(Draw("talk", 0, 0)) is None


# ---- what it belongs to ----


def rules(**talk):
    return replace(STAGE, rules={"talk": DatasetRule(**talk)})


@pytest.mark.parametrize(
    "other",
    [
        make_encoder(seed=1),
        make_encoder(tokenizer=load_tokenizer("bytes", special_base=400)),
        make_encoder(talk=Talk(fingerprint="v1b")),
        make_encoder(talk=Talk(51)),
        make_encoder(replace(STAGE, seq_len=511)),
        make_encoder(replace(STAGE, max_crops=5)),
        make_encoder(replace(STAGE, crops_per_row=25)),
        make_encoder(replace(STAGE, max_frames=5)),
        make_encoder(replace(STAGE, max_fps=1)),
        make_encoder(replace(STAGE, prompt_mode="uber_model_v2")),
        make_encoder(rules(p_high_res=0.5)),
        make_encoder(rules(loss=0.0)),  # nothing is learned from it, so that no example is left out for want of that
    ],
)
def test_what_changes_lengths_leads_to_another_index(other):
    assert lengths_key(other, "talk") != lengths_key(make_encoder(), "talk")


@pytest.mark.parametrize(
    "other",
    [
        make_encoder(replace(STAGE, batch_size=64, waiting=9, name="mine", mixture={"talk": 5, "other": 1})),
        make_encoder(other=Talk(9, "v3")),
        make_encoder(rules(loss=0.5)),
        make_encoder(replace(STAGE, rules={"other": DatasetRule(p_high_res=0.5)})),
    ],
)
def test_what_does_not_change_lengths_keeps_the_index(other):
    assert lengths_key(other, "talk") == lengths_key(make_encoder(), "talk")


def test_an_index_of_another_seed_is_not_used(indexed):
    assert LengthIndex.open(indexed, make_encoder(seed=1)).get(Draw("talk", 0, 0)) is None


# ---- damage ----


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0, 50 * 16 + 31), change=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_file_is_refused_or_left_alone(indexed, caplog, where, change, cut):
    encoder = make_encoder()
    path = LengthFiles.of(indexed, encoder, "talk").path(0)
    good = path.read_bytes()
    bad = good[:where] if cut else good[:where] + bytes([good[where] ^ change]) + good[where + 1 :]
    path.write_bytes(bad)
    caplog.clear()
    try:
        with pytest.raises(StoreError, match=r"epoch-00000\.lengths is damaged .* `grain-molmo index`"):
            LengthIndex.open(indexed, encoder, strict=True)
        index = LengthIndex.open(indexed, encoder)
        with caplog.at_level(logging.WARNING):
            assert [index.get(Draw("talk", 0, i)) for i in range(50)] == [None] * 50
        assert len(caplog.records) == 1
        assert index.get(Draw("other", 0, 0)) is not None
    finally:
        path.write_bytes(good)


def test_a_file_in_the_place_of_another_is_refused(tmp_path):
    encoder = make_encoder()
    list(build_index(tmp_path, encoder, epochs=range(2)))
    of_talk = LengthFiles.of(tmp_path, encoder, "talk")
    shutil.copy(of_talk.path(0), of_talk.path(1))
    with pytest.raises(StoreError, match="epoch-00001"):
        LengthIndex.open(tmp_path, encoder, strict=True)


def test_lengths_that_the_code_no_longer_gives_are_refused(indexed, caplog):
    changed = make_encoder(talk=Talk(longer=1))
    with pytest.raises(StoreError, match=r"out of date .*example 0: its tokens"):
        LengthIndex.open(indexed, changed, strict=True)
    assert LengthIndex.open(indexed, changed).get(Draw("talk", 0, 1)) is None
    assert "out of date" in caplog.text


# ---- how it is made ----


class Stop(Exception):
    pass


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("stop_after", [1, 8, 33, 50])
def test_a_stopped_index_goes_on_and_becomes_the_same(tmp_path, stop_after):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    list(build_index(whole, make_encoder()))
    first, second = make_encoder(), make_encoder()
    seen = 0

    def stop(examples):
        nonlocal seen
        seen += examples
        if seen >= stop_after:
            raise Stop

    with pytest.raises(Stop):
        list(build_index(stopped, first, progress=stop))
    assert not list(stopped.rglob("*.lengths"))
    list(build_index(stopped, second))
    assert files(stopped) == files(whole)
    encoded = second.datasets["talk"].visits
    assert encoded[: 50 - seen] == list(range(seen, 50))  # and then a few to compare with


@pytest.mark.usefixtures("small_parts")
def test_a_damaged_part_is_made_again(tmp_path):
    encoder = make_encoder()
    list(build_index(tmp_path / "whole", encoder))
    parts = LengthFiles.of(tmp_path, encoder, "talk").path(0).with_suffix(".partial")
    parts.mkdir(parents=True)
    (parts / "0000000008").write_bytes(bytes(8 * 16 + 32))
    list(build_index(tmp_path, encoder, ["talk"]))
    assert LengthIndex.open(tmp_path, encoder, strict=True).get(Draw("talk", 0, 8)) is not None


@pytest.mark.usefixtures("small_parts")
def test_several_processes_make_the_same_files(tmp_path):
    list(build_index(tmp_path / "one", make_encoder()))
    list(build_index(tmp_path / "two", make_encoder(), n_procs=2))
    assert files(tmp_path / "two") == files(tmp_path / "one")


def test_a_set_is_indexed_by_one_at_a_time(tmp_path):
    encoder = make_encoder()
    folder = LengthFiles.of(tmp_path, encoder, "talk").folder
    with (
        write_lock(tmp_path, f"lengths-talk-{folder.name}", folder),
        pytest.raises(StoreBusyError, match="lengths/talk"),
    ):
        next(build_index(tmp_path, encoder, ["talk"]))


def test_why_examples_are_left_out_is_said_once(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        list(build_index(tmp_path, make_encoder(), ["talk"]))
    assert [record.getMessage() for record in caplog.records] == [
        "cannot be encoded (further cases of 'bad_roles' are only counted): talk example 5 (id 5): 0 turns; "
        'the assistant must have the last word (a stage of kind "prompts" takes what has no answer)'
    ]


def test_a_row_long_example_and_one_longer_have_the_lengths_of_the_row(tmp_path):
    stage = replace(PRETRAINING_STAGE, mixture={"talk": 1}, seq_len=64)
    encoder = Encoder({"talk": Talk(4, "v1", longer=500)}, stage, TOKENIZER, 0)
    list(build_index(tmp_path, encoder))
    assert LengthIndex.open(tmp_path, encoder).get(Draw("talk", 0, 1)) == (64, 0, 0, 0)
