import itertools
import random
from collections import Counter

import pyarrow as pa
import pytest

from converters.plan import SplitPlan, is_held_out, plan_splits
from converters.rows import JsonRows, table_rows
from converters.sets import SETS
from converters.sources import SourceSplit
from converters.spec import SetSpec


def source(rows: list[dict], split: str = "train", config: str | None = None) -> SourceSplit:
    return SourceSplit(config, split, table_rows(pa.Table.from_pylist(rows)), {})


def plan(name: str, rows: list[dict], **options) -> dict[str, SplitPlan]:
    return {one.split: one for one in plan_splits(SETS[name], [source(rows)], **options)}


def rows_of(one: SplitPlan) -> list[tuple[int, ...]]:
    return [unit.rows for shard in one.shards for unit in shard]


def urls(count: int) -> list[str]:
    return [f"http://host/{i}.jpg" for i in range(count)]


def test_captions_are_one_example_a_row_and_qa_one_a_picture():
    rows = [{"image_url": url} for url in ("a", "b", "a", "c", "b")]
    assert rows_of(plan("pixmo_cap", rows)["train"]) == [(0,), (1,), (2,), (3,), (4,)]
    assert rows_of(plan("pixmo_cap_qa", rows)["train"]) == [(0, 2), (1, 4), (3,)]


def test_points_are_grouped_by_picture_within_each_collection_method():
    methods = ["pointing", "counting", "pointing", "counting", "pointing"]
    rows = [{"image_url": url, "collection_method": m} for url, m in zip("aabba", methods, strict=True)]
    plans = plan("pixmo_points", rows)
    assert rows_of(plans["train_pointing"]) == [(0, 4), (2,)]
    assert rows_of(plans["train_counting"]) == [(1,), (3,)]


def test_ids_are_unique_and_do_not_depend_on_where_a_row_stands():
    rows = [{"image_url": url} for url in (*urls(50), *urls(10))]
    ids = [unit.id for shard in plan("pixmo_cap", rows)["train"].shards for unit in shard]
    assert len(set(ids)) == 60
    assert {unit.id for shard in plan("pixmo_cap", rows[::-1])["train"].shards for unit in shard} == set(ids)


def test_a_name_that_looks_like_a_repeated_one_stays_unique():
    rows = [{"image_url": name} for name in ("a", "a.2", "a", "a.3", "a", "a.2")]
    (shard,) = plan("pixmo_cap", rows)["train"].shards
    assert [unit.id for unit in shard] == ["a", "a.2", "a.4", "a.3", "a.5", "a.2.2"]


def test_ids_of_all_splits_of_a_set_differ():
    rows = [{"image_url": "a", "image_id": "a"}]
    sources = [source(rows, split) for split in ("train", "validation", "test")]
    ids = [one.shards[0][0].id for one in plan_splits(SETS["pixmo_count"], sources)]
    docs = [source(rows, split, config) for config in ("charts", "tables") for split in ("train", "validation")]
    plans = plan_splits(SETS["pixmo_docs"], docs)
    assert [one.split for one in plans] == ["train_charts", "validation_charts", "train_tables", "validation_tables"]
    assert len(set(ids)) == 3
    assert len({one.shards[0][0].id for one in plans}) == 4


def split_urls(name: str, rows: list[dict], fraction: float | None = None) -> dict[str, set[str]]:
    plans = plan(name, rows, validation_fraction=fraction)
    return {split: {rows[i]["image_url"] for unit in rows_of(one) for i in unit} for split, one in plans.items()}


def test_the_validation_split_is_a_function_of_the_url_alone():
    rows = [{"image_url": url} for url in urls(2000)]
    splits = split_urls("pixmo_cap", rows, 0.1)
    shuffled = rows.copy()
    random.Random(0).shuffle(shuffled)
    fewer = shuffled[::3]
    assert split_urls("pixmo_cap", shuffled, 0.1) == splits
    left = {row["image_url"] for row in fewer}
    assert split_urls("pixmo_cap", fewer, 0.1) == {split: found & left for split, found in splits.items()}


def test_what_one_set_holds_out_no_set_with_a_larger_share_trains_on():
    rows = [{"image_url": url, "collection_method": "pointing"} for url in urls(20_000)]
    by_fraction = sorted(
        (spec.validation_fraction, name) for name, spec in SETS.items() if spec.validation_fraction is not None
    )
    held_out = [
        set().union(*(found for split, found in split_urls(name, rows).items() if split.startswith("validation")))
        for _, name in by_fraction
    ]
    assert all(smaller < larger for smaller, larger in itertools.pairwise(held_out))


@pytest.mark.parametrize(
    ("name", "pictures"),
    [
        ("pixmo_cap", 717_042),
        ("pixmo_points", 428_000),
        ("pixmo_cap_qa", 190_000),
        ("pixmo_ask_model_anything", 71_000),
    ],
)
def test_about_2048_pictures_of_the_published_sets_are_held_out(name: str, pictures: int):
    assert 0.97 * 2048 < SETS[name].validation_fraction * pictures < 1.03 * 2048


def test_the_share_held_out_is_what_it_says():
    count = sum(is_held_out(url, 0.05) for url in urls(20_000))
    assert abs(count - 1000) < 100  # three standard deviations of 31
    assert not any(is_held_out(url, 0.0) for url in urls(100))


def test_a_source_with_its_own_validation_split_is_left_as_it_is():
    rows = [{"image_url": url} for url in urls(200)]
    plans = plan_splits(SETS["pixmo_cap"], [source(rows), source(rows[:5], "validation")], validation_fraction=0.5)
    assert {one.split: one.num_rows for one in plans} == {"train": 200, "validation": 5}


def test_only_the_first_rows_are_taken_when_asked():
    rows = [{"image_url": url} for url in urls(9)]
    assert rows_of(plan("pixmo_cap", rows, max_rows=4)["train"]) == [(0,), (1,), (2,), (3,)]


def small_shards(rows_per_shard: int) -> SetSpec:
    spec = SETS["pixmo_cap_qa"]
    return type(spec)(**{**vars(spec), "rows_per_shard": rows_per_shard, "validation_fraction": None})


def test_shards_hold_whole_pictures_and_at_most_so_many_rows():
    rng = random.Random(1)
    rows = [{"image_url": f"http://host/{rng.randrange(60)}"} for _ in range(300)]
    rows += [{"image_url": "crowd"}] * 25
    (one,) = plan_splits(small_shards(20), [source(rows)])
    sizes = [sum(len(unit.rows) for unit in shard) for shard in one.shards]
    assert all(size <= 20 or len(shard) == 1 for size, shard in zip(sizes, one.shards, strict=True))
    assert Counter(i for unit in rows_of(one) for i in unit) == Counter(range(len(rows)))
    assert [unit[0] for unit in rows_of(one)] == sorted(unit[0] for unit in rows_of(one))


def test_identities_of_json_rows_may_be_anything():
    rows = [{"image_url": value, "collection_method": value} for value in (["a"], {"b": 1}, 5, "\ud800", "", None)]
    for name in ("pixmo_points", "pixmo_cap"):
        plans = plan_splits(SETS[name], [SourceSplit(None, "train", JsonRows(rows), {})], validation_fraction=0.5)
        ids = [unit.id for one in plans for shard in one.shards for unit in shard]
        assert len(set(ids)) == len(rows)
        assert all(one.encode() for one in ids)


def test_rows_without_an_identity_stand_alone_until_they_are_rejected():
    rows = [{"image_url": None}, {"image_url": "a"}, {"image_url": None}]
    assert rows_of(plan("pixmo_cap_qa", rows)["train"]) == [(0,), (1,), (2,)]
