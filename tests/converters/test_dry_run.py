"""What a conversion would come to, said before it is begun."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem
from loopback import make_picture, write_rows

from converters.convert import convert_set
from converters.dry_run import estimate_request
from converters.estimate import SetEstimate, estimate_set, human_seconds
from converters.fetch import ImageCache
from converters.jobs import Conversion, ShardWorker
from converters.options import Options
from converters.peek import Peek, _peek_parquet, peek_local
from converters.request import SampleRows, SetRequest, open_request
from converters.to_arrayrecord import main

URL = "https://pictures.example/{}.png"


@pytest.fixture
def pictures(tmp_path: Path) -> Options:
    """Options with a cache of 100 pictures, of which every fifth is missing."""
    cache = ImageCache(tmp_path / "cache")
    for i in range(100):
        if i % 5:
            cache.write(URL.format(i), make_picture(i))
    return Options(image_cache=str(tmp_path / "cache"), cache_only=True, workers=2, validation_fraction=0.0)


def captions(tmp_path: Path, number: int) -> SetRequest:
    rows = [{"image_url": URL.format(i), "caption": f"Caption {i}.", "transcripts": ["t"]} for i in range(number)]
    return SetRequest(name="pixmo_cap", source=write_rows(tmp_path / "rows", rows))


def test_an_estimate_that_tries_every_row_is_what_the_conversion_comes_to(tmp_path: Path):
    request = SetRequest(name="pixmo_points", sample=SampleRows(rows=40))
    options = Options(workers=2)
    estimate = estimate_request(request, options)
    summary = convert_set(request, tmp_path, options)
    assert {split.split: split.examples for split in estimate.splits if split.examples} == summary.examples
    assert sum(split.rows for split in estimate.splits) == summary.rows
    assert sum(sum(split.rejected.values()) for split in estimate.splits) == sum(summary.rejected.values())


def test_a_few_rows_stand_for_all(tmp_path: Path, pictures: Options):
    opened = open_request(captions(tmp_path, 100))
    conversion = Conversion(request=captions(tmp_path, 100), options=pictures, data_dir=tmp_path)
    with ShardWorker(conversion, opened=opened) as worker:
        estimate = estimate_set(opened[0], peek_local(opened[1]), worker, tried=20)
    (split,) = estimate.splits
    rejected = split.rejected["not_in_cache"]
    assert (split.rows, split.tried, split.examples) == (100, 20, 100 - 5 * rejected)
    assert 0 < rejected < 10  # one in five, in truth
    assert split.media_bytes == pytest.approx(split.examples * len(make_picture(1)), rel=0.05)


def test_rows_that_were_only_counted_are_part_of_the_estimate(tmp_path: Path, pictures: Options):
    spec, (source,) = open_request(captions(tmp_path, 100))

    def estimated(options: Options) -> SetEstimate:
        conversion = Conversion(request=captions(tmp_path, 100), options=options, data_dir=tmp_path)
        with ShardWorker(conversion, opened=(spec, [source])) as worker:
            return estimate_set(spec, [Peek(source, 1_000_000, 5)], worker)

    estimate, limited = estimated(pictures), estimated(replace(pictures, max_rows=5000))
    assert estimate.splits[0].rows == 1_000_000
    assert estimate.splits[0].examples == pytest.approx(800_000, rel=0.15)
    assert estimate.splits[0].shards == 245  # of 4,096 rows
    assert estimate.download_bytes == 5
    assert limited.splits[0].rows == 5000


def test_the_first_rows_of_parquet_files_are_read_and_all_are_counted(tmp_path: Path):
    write_rows(tmp_path, [{"a": i} for i in range(7)], split="train-0")
    write_rows(tmp_path, [{"a": i} for i in range(7, 12)], split="train-1")
    paths = [str(tmp_path / f"train-{i}.parquet") for i in range(2)]
    for wanted in (1, 3, 7, 100):
        peek = _peek_parquet(LocalFileSystem(), paths, wanted)
        assert peek.num_rows == 12
        assert [peek.source.rows.row(i) for i in range(len(peek.source.rows))] == [
            {"a": i} for i in range(min(wanted, 7))
        ]
        assert peek.download_bytes == sum(Path(path).stat().st_size for path in paths)


def test_a_dry_run_writes_nothing_and_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--stage", "pretraining", "--include-eval", "--sample", "--rows", "16", "--dry-run", "--json"]
    assert main([*arguments, "--data-dir", str(tmp_path / "store")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in report["datasets"]][-1] == "pixmo_points_eval"
    assert report["num_bytes"] == sum(one["num_bytes"] for one in report["datasets"]) > 0
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "arguments", [[], ["pixmo-cap", "--stage", "sft"], ["pixmo-cap", "--include-eval"], ["--stage", "warmup"]]
)
def test_what_to_convert_is_said_in_one_way(arguments: list[str], tmp_path: Path):
    assert main([*arguments, "--data-dir", str(tmp_path)]) == 2


def test_durations_are_as_rough_as_the_estimate():
    assert [human_seconds(s) for s in (0.2, 99, 101, 5399, 5400, 200_000)] == [
        "0 s",
        "99 s",
        "2 min",
        "90 min",
        "1.5 h",
        "2.3 days",
    ]
