import json
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loopback import make_picture

from converters import sources
from converters.rows import json_rows, parquet_rows, read_rows, scan_rows
from converters.schema import IMAGE, POINTS, TEXT, TEXTS, check_columns
from converters.sources import open_source
from converters.to_arrayrecord import main
from grain_molmo.errors import ConfigError, RowError

ROWS = [
    {"image_url": f"http://host/{i}", "caption": f"caption {i}", "transcripts": ["a", "b"][: i % 3]} for i in range(7)
]


def write_parquet(path: Path, rows: list[dict], **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, **options)


def write_json(path: Path, rows: list[dict]) -> None:
    path.write_text(json.dumps(rows))


def write_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")


def write_arrow_stream(path: Path, rows: list[dict]) -> None:
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


def write_arrow_file(path: Path, rows: list[dict]) -> None:
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


def two_parts(root: Path) -> None:
    write_parquet(root / "data/train-00000-of-00002.parquet", ROWS[:3])
    write_parquet(root / "data/train-00001-of-00002.parquet", ROWS[3:], row_group_size=2)


LAYOUTS: dict[str, Callable[[Path], object]] = {
    "train.parquet": lambda root: write_parquet(root / "train.parquet", ROWS),
    "hub name": lambda root: write_parquet(root / "train-00000-of-00001.parquet", ROWS),
    "hub folder, two files": two_parts,
    "folder of the split": lambda root: write_parquet(root / "train/anything.parquet", ROWS),
    "cache of datasets": lambda root: write_arrow_stream(root / "pixmo-cap-train.arrow", ROWS),
    "arrow file": lambda root: write_arrow_file(root / "train.arrow", ROWS),
    "save_to_disk": lambda root: datasets.Dataset.from_list(ROWS).save_to_disk(root, num_shards=2),
    "save_to_disk of a DatasetDict": lambda root: datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(ROWS)}
    ).save_to_disk(root),
    "JSON array": lambda root: write_json(root / "train.json", ROWS),
    "JSON lines": lambda root: write_lines(root / "train.jsonl", ROWS),
    "JSON lines under .json": lambda root: datasets.Dataset.from_list(ROWS).to_json(root / "train.json"),
}


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_rows(tmp_path: Path, layout: str, in_order: bool):
    LAYOUTS[layout](tmp_path)
    (source,) = open_source(str(tmp_path), (None,), ("train",), in_order=in_order)
    assert len(source.rows) == 7
    assert source.rows.columns == ("image_url", "caption", "transcripts")
    assert [source.rows.row(i) for i in (6, 0, 3, 1, 2, 5, 4)] == [ROWS[i] for i in (6, 0, 3, 1, 2, 5, 4)]
    assert source.rows.select(["caption", "nothing"]) == {
        "caption": [row["caption"] for row in ROWS],
        "nothing": [None] * 7,
    }
    assert source.origin["rows"] == 7
    json.dumps(source.origin)
    check_columns("pixmo-cap", source.rows, {"image_url": TEXT, "caption": TEXT}, {"transcripts": TEXTS})


@pytest.mark.parametrize(("name", "split"), [("rows.parquet", "train"), ("validation.parquet", "validation")])
def test_a_single_file_is_the_split_that_its_name_says(tmp_path: Path, name: str, split: str):
    write_parquet(tmp_path / name, ROWS)
    found = open_source(str(tmp_path / name), (None,), ("train", "validation", "test"))
    assert [source.split for source in found] == [split]


def test_all_splits_of_a_folder_are_found_each_once(tmp_path: Path):
    for split, count in (("train", 3), ("validation", 2), ("test", 1)):
        write_parquet(tmp_path / f"data/{split}-00000-of-00001.parquet", ROWS[:count])
    found = open_source(str(tmp_path), (None,), ("train", "validation", "test"))
    assert [(source.split, len(source.rows)) for source in found] == [("train", 3), ("validation", 2), ("test", 1)]


def test_configs_are_folders(tmp_path: Path):
    write_parquet(tmp_path / "charts/train-00000-of-00001.parquet", ROWS[:2])
    write_parquet(tmp_path / "tables/data/train-00000-of-00001.parquet", ROWS[:3])
    found = open_source(str(tmp_path), ("charts", "tables", "other"), ("train", "validation"))
    assert [(source.config, source.split, len(source.rows)) for source in found] == [
        ("charts", "train", 2),
        ("tables", "train", 3),
    ]
    only = open_source(str(tmp_path / "charts"), ("charts", "tables"), ("train",))
    assert [(source.config, len(source.rows)) for source in only] == [("charts", 2)]


def test_pictures_stay_the_bytes_they_are(tmp_path: Path):
    data = make_picture()
    rows = datasets.Dataset.from_list([{"image": {"bytes": data, "path": "a.png"}}])
    rows = rows.cast_column("image", datasets.Image())
    rows.to_parquet(tmp_path / "train.parquet")
    (source,) = open_source(str(tmp_path), (None,), ("train",))
    assert source.rows.row(0) == {"image": {"bytes": data, "path": "a.png"}}
    check_columns("pixmo-docs", source.rows, {"image": IMAGE}, {})


def test_rows_are_read_by_row_group(tmp_path: Path):
    write_parquet(tmp_path / "train.parquet", ROWS, row_group_size=2)
    rows = parquet_rows([tmp_path / "train.parquet"])
    reads: list[int] = []
    read = rows._read_chunk.__wrapped__
    rows._read_chunk = lambda chunk: reads.append(chunk) or read(chunk)
    assert [rows.row(i)["caption"] for i in range(4)] == [row["caption"] for row in ROWS[:4]]
    assert sorted(set(reads)) == [0, 1]


def test_a_line_that_does_not_parse_is_one_bad_row(tmp_path: Path):
    deep, half_a_pair = "[" * 100_000 + "]" * 100_000, r"x\ud83d"
    (tmp_path / "train.jsonl").write_text(
        f'{{"a": 1}}\n{{"a": \n[1]\n{{"a": {deep}}}\n{{"a": "{half_a_pair}"}}\n{{"b": "\\ud83d\\ude00"}}\n'
    )
    rows = json_rows([tmp_path / "train.jsonl"])
    assert rows.columns == ("a", "b")
    assert rows.select(["a", "b"]) == {"a": [1, *[None] * 5], "b": [*[None] * 5, "\N{GRINNING FACE}"]}
    for index in (1, 2, 3, 4):
        with pytest.raises(RowError, match=f"row {index}") as caught:
            rows.row(index)
        assert caught.value.reason == "bad_json"


def test_an_array_is_rows_too_and_half_of_a_surrogate_pair_is_no_text(tmp_path: Path):
    (tmp_path / "train.json").write_text(r'[{"a": "x\ud83d"}, {"a": "fine"}]')
    rows = json_rows([tmp_path / "train.json"])
    assert rows.select(["a"]) == {"a": [None, "fine"]}


@pytest.mark.parametrize("name", ["train.parquet", "train.arrow", "train.json"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"[ damaged")
    with pytest.raises(ConfigError, match=name):
        open_source(str(tmp_path), (None,), ("train",))


def test_parts_of_different_columns_are_refused(tmp_path: Path):
    write_parquet(tmp_path / "train-0.parquet", ROWS)
    write_parquet(tmp_path / "train-1.parquet", [{"caption": 1}])
    with pytest.raises(ConfigError, match=r"train-1\.parquet.*differ"):
        open_source(str(tmp_path), (None,), ("train",))


def test_the_same_split_in_two_formats_is_refused(tmp_path: Path):
    write_parquet(tmp_path / "train.parquet", ROWS)
    write_lines(tmp_path / "train.jsonl", ROWS)
    with pytest.raises(ConfigError, match="json and as parquet"):
        open_source(str(tmp_path), (None,), ("train",))


def test_a_folder_without_rows_says_what_was_looked_for(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"train\.parquet.*charts"):
        open_source(str(tmp_path), ("charts",), ("train",))


def test_what_is_neither_a_path_nor_a_hub_name_is_refused():
    with pytest.raises(ConfigError, match="neither"):
        open_source("no/such/folder", (None,), ("train",))


def test_a_missing_column_is_named_with_those_found(tmp_path: Path):
    write_parquet(tmp_path / "train.parquet", ROWS)
    (source,) = open_source(str(tmp_path), (None,), ("train",))
    with pytest.raises(ConfigError, match=r"pixmo-points: column 'points' is missing.*image_url, caption, transcripts"):
        check_columns("pixmo-points", source.rows, {"image_url": TEXT, "points": POINTS}, {})


@pytest.mark.parametrize(("column", "kind"), [("caption", POINTS), ("transcripts", TEXT), ("caption", TEXTS)])
def test_a_mistyped_column_is_named_with_its_type(tmp_path: Path, column: str, kind: str):
    write_parquet(tmp_path / "train.parquet", ROWS)
    (source,) = open_source(str(tmp_path), (None,), ("train",))
    with pytest.raises(ConfigError, match=f"column '{column}' must hold.*type is"):
        check_columns("pixmo-cap", source.rows, {column: kind}, {})


def test_points_may_be_a_list_of_structs_or_a_struct_of_lists(tmp_path: Path):
    for points in ([{"x": 1.0, "y": 2}], {"x": [1.0], "y": [2]}):
        write_parquet(tmp_path / "train.parquet", [{"points": points}])
        (source,) = open_source(str(tmp_path), (None,), ("train",))
        check_columns("pixmo-points", source.rows, {"points": POINTS}, {})


def test_lists_that_are_all_empty_are_lists_of_anything(tmp_path: Path):
    write_parquet(tmp_path / "train.parquet", [{"image_url": "a", "transcripts": []}])
    (source,) = open_source(str(tmp_path), (None,), ("train",))
    check_columns("pixmo-cap", source.rows, {"image_url": TEXT}, {"transcripts": TEXTS})


def test_an_optional_column_may_be_null_throughout(tmp_path: Path):
    write_parquet(tmp_path / "train.parquet", [{"points": None}])
    (source,) = open_source(str(tmp_path), (None,), ("train",))
    check_columns("pixmo-count", source.rows, {}, {"points": POINTS})
    with pytest.raises(ConfigError, match="null"):
        check_columns("pixmo-count", source.rows, {"points": POINTS}, {})


def test_a_value_that_python_cannot_hold_costs_its_row_alone(tmp_path: Path):
    buffers = [None, pa.array([0, 2, 4, 6], pa.int32()).buffers()[1], pa.py_buffer(b"ab\xff\xfecd")]
    captions = pa.Array.from_buffers(pa.string(), 3, buffers)
    dates = pa.array([0, 0, 2**60], pa.timestamp("s"))
    table = pa.table({"image_url": ["a", "b", "c"], "caption": captions, "made": dates})
    with pa.ipc.new_stream(tmp_path / "train.arrow", table.schema) as writer:
        writer.write_table(table)
    rows = open_source(str(tmp_path), (None,), ("train",))[0].rows
    found = list(read_rows(rows, range(3)))
    assert found[0] == rows.row(0)
    assert [one.reason for one in found[1:] if isinstance(one, RowError)] == ["bad_value", "bad_value"]
    assert list(scan_rows(rows, ["image_url", "caption"])) == [("a", "ab"), ("b", None), ("c", "cd")]
    assert rows.select(["caption"]) == {"caption": ["ab", None, "cd"]}
    with pytest.raises(RowError, match="does not read"):
        rows.row(2)


def test_a_source_that_is_nowhere_is_refused_before_the_hub_is_asked_for_anything(tmp_path, monkeypatch, capsys):
    def ask(*args, **kwargs):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(sources, "_open_hub", ask)
    words = ["pixmo-points", "--source", f"{tmp_path}/rows/", "--data-dir", str(tmp_path / "data")]

    assert main(words) != 0

    assert "neither an existing file or folder nor a dataset of the hub" in capsys.readouterr().err
