import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import grain_molmo as gm
from grain_molmo.errors import ConfigError
from grain_molmo.render import ExampleInfo
from grain_molmo.stats import Seconds
from grain_molmo.view.measures import History, example_lengths, one_a_row, paces, row_use, shares


class Talks(gm.Dataset):
    """Texts of known lengths; every fifth has no answer."""

    def __len__(self):
        return 50

    def get(self, item, rng):
        return {"messages": ["What?", "" if item % 5 == 0 else "That, " * (1 + item % 7)]}


STAGE = gm.Stage(mixture={"talks": 3, "more": 1}, batch_size=2, seq_len=256, crops_per_row=2)
SETS = {"talks": Talks(), "more": Talks()}


def open_talks(**settings):
    return gm.make_loader(STAGE, tokenizer="bytes", num_threads=1, datasets=SETS, **settings)


def example(dataset="a", tokens=(0, 10), crops=(0, 1), segment=1):
    return ExampleInfo(dataset, 0, 0, "0", segment, tokens, crops, (0, 0), 1.0)


def test_a_history_holds_each_batch_where_the_loader_says_sums():
    history = History()
    tokens, fills, by_dataset = [], [], []
    with open_talks(metrics=history) as loader:
        for _ in range(6):
            batch = next(loader)
            tokens.append(int((batch["segment_ids"] > 0).sum()))
            fills.append(tokens[-1] / batch["segment_ids"].size)
            by_dataset.append(sum(one.dataset == "more" for row in loader.batch_info.rows for one in row))
        stats = loader.stats()
    assert history.steps.tolist() == [*range(6)]
    assert history.of("tokens").tolist() == tokens
    np.testing.assert_allclose(history.token_fill, fills)
    assert history.crop_fill.tolist() == [0.0] * 6
    assert history.by_dataset("examples")["more"].tolist() == by_dataset
    assert history.seconds(first=0).total_s == pytest.approx(stats["total_s"])
    assert history.seconds().total_s == pytest.approx(stats["total_s"] - history.of("total_s")[0])


def test_a_history_serves_loaders_one_after_the_other():
    history = History()
    for _ in range(2):
        with open_talks(metrics=history) as loader:
            next(loader), next(loader)
    assert history.steps.tolist() == [0, 1, 0, 1]
    assert history.of("tokens")[:2].tolist() == history.of("tokens")[2:].tolist()
    assert (history.of("rows") == 2).all()


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 9)), max_size=8))
def test_what_a_history_says_of_a_name_adds_up_to_the_last_sum_whenever_it_was_first_spoken_of(batches):
    history, sums = History(), {}
    for step, counts in enumerate(batches):
        sums = {name: sums.get(name, 0) + counts.get(name, 0) for name in sums | counts}
        flat = {f"data/datasets/{name}/tokens": float(total) for name, total in sums.items()}
        history(step, {"data/rows": float(step + 1), **flat})
    found = history.by_dataset("tokens")
    assert {name: column.sum() for name, column in found.items()} == sums
    assert all(len(column) == len(batches) for column in found.values())


def test_a_history_says_what_it_has_when_asked_for_something_else():
    history = History()
    with pytest.raises(ConfigError, match="nothing yet"):
        history.of("tokens")
    history(0, {"data/rows": 1.0, "data/tokens": 5.0})
    with pytest.raises(ConfigError, match="rows, tokens"):
        history.of("token")


def test_lengths_are_those_that_a_loader_plans_with_and_unusable_examples_are_counted():
    lengths = example_lengths(SETS["talks"], STAGE, num_examples=0)
    ((name, found),) = lengths.items()
    assert (name, found.num_unusable, len(found.tokens_N)) == ("Talks", 10, 40)
    assert (found.crops_N == 0).all()
    with open_talks() as loader:
        next(loader)
        seen = {one.tokens[1] - one.tokens[0] for row in loader.batch_info.rows for one in row}
    assert seen <= set(found.tokens_N.tolist())


@pytest.mark.xdist_group("loader")
def test_the_same_examples_are_measured_whichever_sets_are_beside(sample_dir):
    alone = example_lengths("pixmo-points", "pretraining", data_dir=sample_dir, num_examples=4)
    beside = example_lengths(["pixmo_cap", "pixmo_points"], "pretraining", data_dir=sample_dir, num_examples=4)
    assert list(beside) == ["pixmo_cap", "pixmo_points"]
    np.testing.assert_array_equal(alone["pixmo_points"].tokens_N, beside["pixmo_points"].tokens_N)
    assert (beside["pixmo_cap"].crops_N >= 2).all()


def test_shares_of_what_was_seen_stand_beside_what_was_planned():
    with open_talks() as loader:
        for _ in range(20):
            next(loader)
        found, stats = shares(loader.weights, loader.stats()), loader.stats()
    assert [(share.dataset, share.planned) for share in found] == [("talks", 0.75), ("more", 0.25)]
    for what in ("examples", "tokens", "loss_weight"):
        assert sum(getattr(share, what) for share in found) == pytest.approx(1)
    assert found[1].tokens == stats["datasets"]["more"]["tokens"] / stats["tokens"]
    assert found[0].examples == pytest.approx(0.75, abs=0.1)


def test_shares_before_the_first_batch_are_none():
    nothing = {"examples": 0, "tokens": 0, "loss_weight": 0.0, "datasets": {}}
    assert shares({"a": 1.0}, nothing) == [("a", 1.0, 0.0, 0.0, 0.0)]


def test_paces_are_what_each_stage_could_do_and_name_what_limits():
    spent = Seconds(total_s=10, wait_s=8, plan_s=2, encode_s=1, read_s=3, decode_s=12, render_s=8, transfer_s=0)
    found = {pace.stage: (pace.rows_per_s, pace.is_limit) for pace in paces(40, spent)}
    assert found == {
        "planning": (20, False),
        "rendering": (5, False),
        "encoding": (80, False),
        "reading": (pytest.approx(40 / 1.5), False),
        "decoding": (pytest.approx(40 / 6), True),
        "transfer": (math.inf, False),
        "the trainer": (20, False),
    }


def test_a_trainer_that_never_waits_sets_the_pace():
    found = paces(10, Seconds(total_s=10, wait_s=0, plan_s=1, decode_s=1, render_s=1))
    assert [pace.stage for pace in found if pace.is_limit] == ["the trainer"]


def test_rows_padded_and_packed_hold_the_same_tokens_in_other_numbers_of_rows():
    stage = gm.Stage(mixture={"a": 1}, seq_len=100, crops_per_row=10)
    rows = [[example(tokens=(0, 40), crops=(0, 4)), example(tokens=(40, 90), crops=(4, 10), segment=2)], [example()]]
    assert row_use(rows, stage) == (2, 0.5, 0.55)
    padded = one_a_row(rows)
    assert [[one.tokens for one in row] for row in padded] == [[(0, 40)], [(0, 50)], [(0, 10)]]
    assert row_use(padded, stage) == (3, pytest.approx(1 / 3), pytest.approx(11 / 30))


def test_rows_of_text_alone_have_no_crops_to_fill():
    stage = gm.Stage(mixture={"a": 1}, seq_len=100, crops_per_row=0)
    assert row_use([[example(crops=(0, 0))]], stage) == (1, 0.1, 0.0)


def test_a_history_keeps_how_full_crops_were_and_tells_apart_names_that_end_alike():
    history = History()
    flat = {"data/wait_share": 0.5, "data/limited_by/reading": 1.0, "data/datasets/a/b/tokens": 5.0}
    history(0, {"data/rows": 2.0, "data/crop_fill": 0.5, **flat})
    history(1, {"data/rows": 4.0, "data/crop_fill": 0.75, "data/datasets/c/text_tokens": 3.0, **flat})
    history(2, {"data/rows": 6.0, "data/crop_fill": 0.75})

    assert history.crop_fill.tolist() == [0.5, 1.0, 0.75]
    assert list(history.by_dataset("tokens")) == ["a/b"]
    assert len(history.of("datasets/a/b/tokens")) == 3
    assert not {"wait_share", "limited_by/reading"} & set(history.names)
    with pytest.raises(ConfigError, match="it has rows, crop_fill, and more"):
        history.of("token")
