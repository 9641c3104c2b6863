"""What `grain-molmo inspect` says of a folder, of a set, and of a set that is not there."""

import json
import shutil

import numpy as np
import pytest

from converters.sets import SETS
from grain_molmo.datasets.base import open_media_store
from grain_molmo.datasets.registry import get_dataset
from grain_molmo.datasets.written import write_dataset
from grain_molmo.readable import human_bytes, jsonable, printable, readable, table
from grain_molmo.stages import STAGES
from grain_molmo.store import MediaStore, Record, Reject, SplitWriter, load_manifest
from grain_molmo.tools.cli import main
from grain_molmo.tools.store_report import coverage, report_records, report_set, report_store, type_of


@pytest.fixture
def inspect(capsys):
    """Runs the command; the exit code, and its output (with --json: parsed)."""

    def inspect(*words):
        code = main(["inspect", *map(str, words)])
        out = capsys.readouterr().out
        return code, json.loads(out) if "--json" in words else out

    return inspect


def test_the_folder_s_table_counts_what_the_manifests_say(inspect, data_dir):
    code, report = inspect("--data-dir", data_dir, "--json")

    assert code == 0
    assert report["not_converted"] == []
    assert [one["name"] for one in report["sets"]] == sorted(one["name"] for one in report["sets"])
    for one in report["sets"]:
        manifest = load_manifest(data_dir, one["name"])
        assert {split["name"]: split["examples"] for split in one["splits"]} == {
            name: split.num_examples for name, split in manifest.items()
        }
        assert {split["name"]: split["rejected"] for split in one["splits"]} == {
            name: split.rejected for name, split in manifest.items()
        }
    assert report["media"] == len(MediaStore(data_dir))
    assert report["media"] == sum(split["media_added"] for one in report["sets"] for split in one["splits"])


def test_the_table_for_people_names_sets_splits_and_the_next_command(inspect, data_dir):
    code, text = inspect("--data-dir", data_dir)

    assert code == 0
    for word in ("pixmo-docs", "train 15, validation 4", "grain-molmo inspect molmo2-", str(data_dir)):
        assert word in text


def test_sets_that_are_not_there_are_named_with_the_command_that_converts_them(inspect, data_dir, tmp_path):
    shutil.copytree(data_dir / "pixmo_cap", tmp_path / "pixmo_cap")

    _, report = inspect("--data-dir", tmp_path, "--json")
    _, text = inspect("--data-dir", tmp_path)

    assert "pixmo_cap" not in report["not_converted"]
    assert {"pixmo_points", "pixmo_clocks"} <= set(report["not_converted"])
    assert "grain-molmo convert" in text


def test_a_set_shows_columns_sources_and_examples(inspect, data_dir):
    code, report = inspect("pixmo-points", "--data-dir", data_dir, "--num-samples", 3, "--json")

    assert code == 0
    assert report["records"]["columns"]["labels"] == "list[{label: str, points: list[list[float]]}]"
    (source,) = report["coverage"]
    assert source["rows"] == source["rows_in_records"] + sum(source["rejected"].values())
    assert set(source["splits"]) == {split["name"] for split in report["splits"]}
    assert len(report["examples"]) == 3
    image = report["examples"][0]["example"]["image"]
    assert min(image["width"], image["height"]) > 0
    assert {message["style"] for message in report["examples"][0]["example"]["message_list"]} == {"point_count"}


def test_columns_have_a_value_and_points_their_unit(inspect, data_dir):
    _, text = inspect("pixmo-points", "--data-dir", data_dir)
    _, report = inspect("pixmo-points", "--data-dir", data_dir, "--json")

    labels = report["records"]["values"]["labels"]
    assert all(0 <= value <= 100 for entry in labels for point in entry["points"] for value in point)
    assert report["units"]["labels"] == "x, y in percent of the picture's width and height"
    assert f"e.g. [label: {labels[0]['label']}  points: [[" in text
    assert report["units"]["labels"] in text
    assert "from 0 to 100 across the picture" in text
    low, middle, high = (report["records"]["media"][0][f"{which}_size"] for which in ("min", "median", "max"))
    assert low[0] * low[1] <= middle[0] * middle[1] <= high[0] * high[1]


@pytest.mark.parametrize("field", ["points", "masks", "queries", "frames", "labels"])
def test_units_are_said_of_fields_that_there_are(data_dir, field):
    named = [spec.name for spec in SETS.values() if field in spec.units]
    assert named
    for name in named:
        splits = [split.name for split in report_set(data_dir, name).splits]
        assert field in report_records(data_dir, name, splits).columns


# ---- stages ----


def test_a_stage_is_its_mixture_and_what_there_is_of_it(inspect, data_dir):
    code, report = inspect("--stage", "sft", "--data-dir", data_dir, "--json")
    _, text = inspect("--stage", "sft", "--data-dir", data_dir)

    assert (code, report["not_converted"], report["command"]) == (0, [], None)
    assert {part["name"]: part["weight"] for part in report["datasets"]} == pytest.approx(dict(STAGES["sft"].weights))
    for part in report["datasets"]:
        assert part["examples"] == len(get_dataset(part["name"], data_dir=data_dir))
    assert "make_loader('sft'" in text


def test_what_a_stage_lacks_is_named_with_the_command_that_gets_it(inspect, data_dir, tmp_path):
    shutil.copytree(data_dir / "pixmo_cap", tmp_path / "pixmo_cap")
    shutil.copytree(data_dir / "media", tmp_path / "media")

    code, report = inspect("--stage", "pretraining", "--data-dir", tmp_path, "--json")
    _, text = inspect("--stage", "pretraining", "--data-dir", tmp_path)
    sft = inspect("--stage", "sft", "--data-dir", tmp_path, "--json")[1]

    assert code == 1
    assert report["not_converted"] == ["pixmo_cap_qa", "pixmo_count", "pixmo_docs", "pixmo_points"]
    assert report["command"] == (
        f"grain-molmo convert pixmo-cap-qa pixmo-count pixmo-docs pixmo-points --data-dir {tmp_path}"
    )
    assert report["command"] in text
    assert "1 of its 5 datasets" in text
    assert sft["command"].endswith(" --video-dir VIDEOS")


def test_a_published_stage_names_the_sets_that_nobody_converts(inspect, data_dir):
    code, report = inspect("--stage", "sft", "--recipe", "molmo2", "--data-dir", data_dir, "--json")
    _, text = inspect("--stage", "sft", "--recipe", "molmo2", "--data-dir", data_dir)

    assert code == 0
    there = [part for part in report["datasets"] if part["examples"] is not None]
    assert sum(part["weight"] for part in there) == pytest.approx(1)
    assert {part["group"] for part in there} > {"demo", "tracking"}
    assert "not converted by this library" in text
    assert "tulu4" in text


def test_a_stage_needs_no_folder(inspect, monkeypatch):
    monkeypatch.delenv("GRAIN_MOLMO_DATA", raising=False)
    code, report = inspect("--stage", "pretraining", "--json")
    assert code == 0
    assert all(part["examples"] is None for part in report["datasets"])
    assert report["command"].startswith("grain-molmo convert pixmo-cap ")


@pytest.mark.parametrize("words", [["pixmo-cap", "--stage", "sft"], ["--recipe", "molmo2"]])
def test_words_that_do_not_go_together_are_wrong_usage(words):
    assert main(["inspect", *words]) == 2


def test_no_picture_is_read_to_inspect_a_set(inspect, data_dir, tmp_path, monkeypatch):
    def read(self, sha256):
        raise AssertionError("a picture was read")

    monkeypatch.setattr(type(open_media_store(data_dir)), "read", read)

    for name in ("pixmo-cap", "pixmo-count", "pixmo-clocks"):
        assert inspect(name, "--data-dir", data_dir)[0] == 0


@pytest.mark.parametrize(("wanted", "splits"), [("train", 4), ("train_charts", 1), ("validation", 4)])
def test_a_split_can_be_chosen_by_the_user_s_or_the_store_s_name(inspect, data_dir, wanted, splits):
    _, report = inspect("pixmo-docs", "--data-dir", data_dir, "--split", wanted, "--json")

    assert len(report["splits"]) == splits
    kinds = {entry["example"]["document_type"] for entry in report["examples"]}
    parts = {entry["example"]["metadata"]["split"] for entry in report["examples"]}
    assert parts == {wanted.split("_")[0]}
    assert kinds == {"charts"} if splits == 1 else len(kinds) == 2


@pytest.mark.parametrize("name", ["pixmo_docs_charts", "pixmo-capqa", "pixmo_points_high_freq_train"])
def test_the_names_that_mixtures_use_are_understood(inspect, data_dir, name):
    code, report = inspect(name, "--data-dir", data_dir, "--json", "--num-samples", 0)

    assert (code, report["examples"]) == (0, [])
    assert name.replace("-", "_").startswith(report["name"].replace("pixmo_cap_qa", "pixmo_capqa"))


def test_a_set_that_was_not_converted_is_described_as_the_hub_has_it(inspect, tmp_path):
    code, report = inspect("pixmo-docs", "--data-dir", tmp_path, "--json")
    text_code, text = inspect("pixmo-docs", "--data-dir", tmp_path)

    assert code == text_code == 1
    assert (report["converted"], report["hub"]) == (False, "allenai/pixmo-docs")
    assert report["configs"] == ["charts", "tables", "diagrams", "other"]
    assert set(report["columns"]) == {"image", "image_id", "questions"}
    assert report["command"] == f"grain-molmo convert pixmo-docs --data-dir {tmp_path}"
    assert report["command"] in text


def test_sets_of_videos_show_how_long_they_last_and_how_to_get_them(inspect, data_dir, tmp_path):
    _, report = inspect("molmo2-videotrack", "--data-dir", data_dir, "--json", "--num-samples", 1)
    (videos,) = report["records"]["media"]
    assert (videos["kind"], videos["per_record"]) == ("video", [1, 1])
    assert 0 < videos["seconds"][0] <= videos["seconds"][1] < 100
    assert report["examples"][0]["example"]["video"]["video"]["fps"] > 0
    text = inspect("molmo2-cap", "--data-dir", data_dir, "--num-samples", 1)[1]
    assert "videos          1 a record" in text
    assert "frames/s" in text
    _, pictures = inspect("molmo2-multiimagepoint", "--data-dir", data_dir, "--json")
    assert pictures["records"]["media"][0]["kind"] == "image"
    assert pictures["records"]["media"][0]["seconds"] is None
    assert inspect("molmo2-cap", "--data-dir", tmp_path, "--json")[1]["command"].endswith(" --video-dir VIDEOS")


def test_the_hub_s_side_needs_no_folder(inspect, monkeypatch):
    monkeypatch.delenv("GRAIN_MOLMO_DATA", raising=False)

    code, text = inspect("pixmo-cap")

    assert code == 1
    assert "allenai/pixmo-cap" in text
    assert "GRAIN_MOLMO_DATA" in text


def test_without_a_folder_the_sets_that_can_be_converted_are_listed(inspect, monkeypatch):
    monkeypatch.delenv("GRAIN_MOLMO_DATA", raising=False)

    code, text = inspect()

    assert code == 0
    assert "  pixmo-cap " in text
    assert "https://huggingface.co/datasets/allenai/pixmo-cap\n" in text
    assert "grain-molmo convert NAME --data-dir DATA" in text
    assert "$GRAIN_MOLMO_DATA" in text
    report = inspect("--json")[1]
    assert "molmo2_cap" in report["not_converted"]
    assert (report["data_dir"], report["sets"]) == (None, [])


def test_rows_that_the_network_lost_are_told_apart_and_how_many_may_be_won_back(inspect, tmp_path):
    pytest.importorskip("converters.fetch.reasons")
    when = "2026-01-01T00:00:00+00:00"
    rejects = [Reject(i, "a", "timeout", "", "http://h/", 5, when) for i in range(3)]
    rejects += [
        Reject(4, "b", "http_503", "", "http://h/", 5, when),
        Reject(5, "c", "http_404", "", "http://h/", 1, when),
    ]
    rejects += [Reject(6, "d", "low_score", "")]
    writer = SplitWriter(tmp_path, "mine", "all", num_shards=1)
    writer.write_shard(0, [(Record("a", {"text": "x"}), {})])
    writer.finish(source={"kind": "own", "rows": 7}, converter={}, rejects=rejects)

    report = inspect("mine", "--data-dir", tmp_path, "--json")[1]
    assert report["network_rejects"] == {"timeout": 3, "http_503": 1, "http_404": 1}
    assert report["network_rejects_that_may_pass"] == 4
    text = inspect("mine", "--data-dir", tmp_path)[1]
    assert "4 rejected rows fell to a failure of the network that may have passed" in text
    assert f"grain-molmo convert mine --data-dir {tmp_path} --retry-rejects" in text


def test_a_set_of_one_s_own_shows_its_records_whatever_their_text(inspect, tmp_path):
    odd = "\ud83d half, \x1b[31mred, \u202e back, \x00, 漢字"
    writer = SplitWriter(tmp_path, "mine", "all", num_shards=1)
    writer.write_shard(0, [(Record("a", {"text": odd, "maybe": None}), {}), (Record("b", {"text": "x" * 9999}), {})])
    writer.finish(source={"kind": "own"}, converter={}, rejects=[])

    code, text = inspect("mine", "--data-dir", tmp_path)
    _, report = inspect("mine", "--data-dir", tmp_path, "--json")

    assert code == 0
    assert "\x1b" not in text
    assert "漢字" in text
    assert "9,999 characters" in text
    assert report["examples"][0]["example"]["text"] == odd
    assert report["records"]["columns"] == {"text": "str", "maybe": "null"}


def test_examples_that_were_written_are_shown_as_their_reader_sees_them(inspect, tmp_path):
    example = {"question": "What is this?", "answer": "Noise.", "image": np.zeros((30, 40, 3), np.uint8)}
    write_dataset([example], tmp_path, "my-noise", "held_out", progress=False)
    code, out = inspect("my-noise", "--data-dir", tmp_path)
    assert code == 0
    assert "40x30 pixels" in out
    assert "answer    Noise." in out


def test_sources_with_a_limit_of_rows_count_the_rows_that_were_read(data_dir):
    splits = report_set(data_dir, "pixmo_count").splits
    limited = [type(split)(**{**vars(split), "max_rows": 5}) for split in splits]

    assert all(one.rows <= 5 for one in coverage(limited))
    assert {one.rows for one in coverage(splits)} == {split.source["rows"] for split in splits}


def test_examples_of_a_report_are_by_what_users_call_the_split(data_dir):
    docs = next(one for one in report_store(data_dir).sets if one.name == "pixmo_docs")

    assert list(docs.examples) == ["train", "validation"]
    assert sum(docs.examples.values()) == sum(split.examples for split in docs.splits)


def test_types_say_what_values_have_in_common():
    assert type_of([1, 2.5, None]) == "float | int | null"
    assert type_of([[], [[1]]]) == "list[list[int]]"
    assert type_of([{"a": 1}, {"a": "x", "b": True}]) == "{a: int | str, b: bool | null}"
    assert type_of([[]]) == "list[]"


def test_values_become_json_whatever_they_are():
    value = {"points": np.array([[1.5, 2]]), "n": np.int64(3), "bad": float("nan"), "pair": (1, None), 4: {1}}

    assert json.loads(json.dumps(jsonable(value), allow_nan=False)) == {
        "points": [[1.5, 2.0]],
        "n": 3,
        "bad": "nan",
        "pair": [1, None],
        "4": "{1}",
    }


def test_readable_values_are_cut_and_keep_to_their_lines():
    text = readable({"list": list(range(100)), "nested": {"key": "a\nb"}, "dicts": [{"n": i} for i in range(100)]})

    assert "… 88 more]" in text
    assert "key  a\\nb" in text
    assert len(text.splitlines()) == 1 + 2 + 1 + 12 + 1


def test_tables_align():
    assert table(["name", "n"], [["a", "1,000"], ["long name", "1"]], left=1).splitlines() == [
        "  name           n",
        "  a          1,000",
        "  long name      1",
    ]


def test_sizes_have_three_digits_at_most():
    sizes = (0, 999, 1000, 131072, 999_999, 1_500_000_000, 2 * 10**15)
    assert [human_bytes(size) for size in sizes] == [
        *("0 B", "999 B", "1.0 KB", "131 KB", "1.0 MB", "1.5 GB"),
        "2,000.0 TB",
    ]


def test_printable_text_has_nothing_that_a_terminal_obeys():
    assert printable("a\x1b[2J\nb\ud800é") == "a\\x1b[2J\\nb\\ud800é"


def test_a_set_that_was_written_from_python_has_no_rows_of_a_source(inspect, tmp_path):
    pictures = [np.full((30, 40, 3), value, np.uint8) for value in range(3)]
    write_dataset([{"image": one, "caption": "Gray."} for one in pictures], tmp_path, "my-dots", progress=False)
    write_dataset([{"image": pictures[0]}, {"image": pictures[0], "caption": "Gray."}], tmp_path, "my-dots", "held_out",
                  on_error="skip", progress=False)  # fmt: skip

    code, text = inspect("my-dots", "--split", "train", "--data-dir", tmp_path)
    _, both = inspect("my-dots", "--data-dir", tmp_path)
    _, report = inspect("my-dots", "--data-dir", tmp_path, "--json")

    assert code == 0
    assert "written from Python: 3 examples in train\n" in text
    assert "my_dots, written into" in text
    assert "rows of the source" not in text
    assert "unknown" not in text
    assert "4 examples in held_out, train; 1 of 5 left out" in both or "4 examples in train, held_out; 1 of 5" in both
    assert [one["rows_in_records"] for one in report["coverage"]] == [4]
