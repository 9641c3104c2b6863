"""The sample: hub-shaped rows whose annotations agree with the pixels of their pictures."""

import hashlib
import io
import itertools
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

from converters.clockface import draw_clock, read_time
from converters.sample import PIXMO_NAMES, BadRow, SampleSet, write_sample
from converters.sample.scenes import SHADES
from converters.sample.text import plural
from grain_molmo.errors import ConfigError, RowError

ROWS = 40
URL_SETS = ("pixmo-cap", "pixmo-points", "pixmo-count", "pixmo-cap-qa", "pixmo-ask-model-anything")

# Molmo2 §1A.1
HUB_COLUMNS = {
    "pixmo-cap": {"image_url": "string", "caption": "string", "transcripts": "list<string>"},
    "pixmo-points": {
        "image_url": "string",
        "image_sha256": "string",
        "points": "list<struct<x: double, y: double>>",
        "count": "int64",
        "label": "string",
        "collection_method": "string",
    },
    "pixmo-points-eval": {
        "image_url": "string",
        "image_sha256": "string",
        "label": "string",
        "points": "list<struct<x: double, y: double>>",
        "masks": "list<list<list<bool>>>",
    },
    "pixmo-count": {
        "image_url": "string",
        "image_sha256": "string",
        "count": "int32",
        "points": "struct<x: list<float>, y: list<float>>",
        "label": "string",
    },
    "pixmo-docs": {
        "image": "struct<bytes: binary, path: string>",
        "image_id": "string",
        "questions": "struct<question: list<string>, answer: list<string>>",
    },
    "pixmo-cap-qa": {"image_url": "string", "question": "string", "answer": "string", "messages": "list<string>"},
    "pixmo-ask-model-anything": {
        "image_url": "string",
        "image_sha256": "string",
        "question": "string",
        "answer": "string",
    },
    "pixmo-clocks": {
        "example_id": "string",
        "watchface_id": "string",
        "watchface_name": "string",
        "watch_time": "string",
        "time_format": "string",
        "shows_seconds": "bool",
        "hour_visible": "int32",
        "minute_visible": "int32",
        "second_visible": "int32",
        "text": "string",
    },
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> dict[str, SampleSet]:
    return write_sample(tmp_path_factory.mktemp("sample"), PIXMO_NAMES, rows=ROWS, seed=3, problems=0.1)


def read(written: SampleSet, split: str = "train") -> list[dict]:
    path = split if "/" in split else f"data/{split}"
    return pq.read_table(written.folder / f"{path}-00000-of-00001.parquet").to_pylist()


def good_rows(written: SampleSet, split: str = "train") -> list[dict]:
    bad = {bad.row for bad in written.bad_rows if bad.split == split}
    return [row for i, row in enumerate(read(written, split)) if i not in bad]


def cached(written: SampleSet, url: str) -> bytes | None:
    path = written.image_cache / hashlib.sha256(url.encode()).hexdigest()
    return path.read_bytes() if path.exists() else None


def upright(written: SampleSet, url: str) -> Image.Image:
    data = cached(written, url)
    assert data is not None
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def problem_of(written: SampleSet, row: dict) -> str | None:
    """Why a row can't be converted, found from the row and the cache alone."""
    if "watch_time" in row:
        try:
            draw_clock(row)
        except RowError as error:
            return error.reason
        return None
    if "image" in row:
        return None if row["image"]["bytes"].startswith(b"\x89PNG") else "not_an_image"
    data = cached(written, row["image_url"])
    if data is None:
        return "dead_url"
    if "image_sha256" in row and hashlib.sha256(data).hexdigest() != row["image_sha256"]:
        return "wrong_sha256"
    if "caption" in row and not row["caption"].strip():
        return "empty_caption"
    points, (width, height) = row.get("points") or [], upright(written, row["image_url"]).size
    if isinstance(points, dict):
        inside = all(0 <= x < width and 0 <= y < height for x, y in zip(points["x"], points["y"], strict=True))
    else:
        inside = all(0 <= point["x"] <= 100 and 0 <= point["y"] <= 100 for point in points)
    return None if inside else "point_out_of_range"


# ---- the files ----


@pytest.mark.parametrize("name", PIXMO_NAMES)
def test_columns_and_types_are_those_of_the_hub(sample, name):
    for path in sample[name].folder.rglob("*.parquet"):
        types = {field.name: str(field.type) for field in pq.read_schema(path)}
        # The name of a list's items ("item" or "element") depends on who wrote the file.
        assert {column: re.sub(r"<(item|element): ", "<", text) for column, text in types.items()} == HUB_COLUMNS[name]


def test_files_lie_where_the_hub_has_them(sample):
    assert set(sample["pixmo-count"].counts) == {"train", "validation", "test"}
    assert set(sample["pixmo-clocks"].counts) == {"train", "validation"}
    assert "charts/train" in sample["pixmo-docs"].counts
    assert "other/validation" in sample["pixmo-docs"].counts
    for written in sample.values():
        assert {split: len(read(written, split)) for split in written.counts} == written.counts
        assert "configs:" in (written.folder / "README.md").read_text()


def test_the_same_call_writes_the_same_bytes_and_another_seed_others(tmp_path):
    names = ["pixmo-cap", "pixmo-count", "pixmo-docs", "pixmo-clocks"]
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_sample(tmp_path / folder, names, rows=6, seed=seed)
    first, second, third = (contents(tmp_path / folder) for folder in "abc")
    assert first == second
    assert not any(first[path] == third[path] for path in first.keys() & third.keys() if path.endswith("parquet"))


def test_a_longer_sample_begins_with_the_shorter_one(tmp_path):
    long = write_sample(tmp_path / "long", PIXMO_NAMES, rows=12, problems=0)
    short = write_sample(tmp_path / "short", PIXMO_NAMES, rows=5, problems=0)
    for name in PIXMO_NAMES:
        for split in short[name].counts:
            beginning = read(short[name], split)
            assert read(long[name], split)[: len(beginning)] == beginning


def test_two_seeds_can_share_a_folder(tmp_path):
    both = [write_sample(tmp_path, ["pixmo-points"], rows=6, seed=seed, problems=0)["pixmo-points"] for seed in (0, 1)]
    assert all(problem_of(both[0], row) is None for row in read(both[1]))
    assert len(list((tmp_path / "image-cache").iterdir())) > len({row["image_url"] for row in read(both[1])})


def test_names_are_read_leniently_and_unknown_ones_refused(tmp_path):
    assert set(write_sample(tmp_path, ["pixmo_clocks", "pixmo-capqa"], rows=2)) == {"pixmo-clocks", "pixmo-cap-qa"}
    with pytest.raises(ConfigError, match="pixmo-caps"):
        write_sample(tmp_path, ["pixmo-caps"])
    with pytest.raises(ConfigError, match="rows=0"):
        write_sample(tmp_path, ["pixmo-cap"], rows=0)


# ---- what must be refused ----


@pytest.mark.parametrize("name", PIXMO_NAMES)
def test_exactly_the_recorded_rows_are_bad_and_for_the_recorded_reason(sample, name):
    written = sample[name]
    found = []
    for split in written.counts:
        for i, row in enumerate(read(written, split)):
            if reason := problem_of(written, row):
                found.append(BadRow(split, i, reason, row.get("image_url", "")))
    assert tuple(found) == written.bad_rows
    assert len(found) == 4


def test_a_bad_url_belongs_to_its_row_alone(sample):
    for name in URL_SETS:
        uses = Counter(row["image_url"] for row in read(sample[name]))
        assert all(uses[bad.url] == 1 for bad in sample[name].bad_rows if bad.reason in ("dead_url", "wrong_sha256"))


def test_without_problems_every_row_is_good(tmp_path):
    for written in write_sample(tmp_path, PIXMO_NAMES, rows=8, problems=0).values():
        assert written.bad_rows == ()
        for split in written.counts:
            assert [problem_of(written, row) for row in read(written, split)] == [None] * written.counts[split]


def test_a_single_row_stays_good(tmp_path):
    assert write_sample(tmp_path, ["pixmo-cap"], rows=1, problems=0.5)["pixmo-cap"].bad_rows == ()


# ---- the pictures ----


def test_the_sets_share_pictures_and_repeat_some(sample):
    urls = {name: [row["image_url"] for row in good_rows(sample[name])] for name in URL_SETS}
    shared = set(urls["pixmo-cap"]) & set(urls["pixmo-points"])
    assert len(shared & set(urls["pixmo-cap-qa"]) & set(urls["pixmo-ask-model-anything"])) >= 4
    assert all(len(set(some)) < len(some) for some in urls.values())
    assert all(url.startswith("https://sample.grain-molmo.invalid/") for url in itertools.chain(*urls.values()))


def test_pictures_come_in_many_kinds_of_file_and_many_sizes(sample):
    images = [Image.open(path) for path in sample["pixmo-cap"].image_cache.iterdir()]
    kinds = {(image.format, image.mode) for image in images}
    assert kinds >= {("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "P"), ("PNG", "RGBA"), ("WEBP", "RGB")}
    assert {image.getexif().get(0x0112, 1) for image in images} == {1, 3, 6, 8}
    sides = sorted(itertools.chain(*(image.size for image in images)))
    assert sides[0] >= 200
    assert sides[-1] <= 1600
    assert 400 < sides[len(sides) // 2] < 1000
    assert len({image.size for image in images}) > len(images) // 2


def colors_at(image: Image.Image, points_xy: list[tuple[float, float]]) -> np.ndarray:
    return np.array([image.getpixel((int(x), int(y))) for x, y in points_xy], int).reshape(-1, 3)


def test_points_in_percent_lie_on_shapes_of_their_color_in_the_upright_picture(sample):
    turned = 0
    for row in good_rows(sample["pixmo-points"]):
        image = upright(sample["pixmo-points"], row["image_url"])
        turned += Image.open(io.BytesIO(cached(sample["pixmo-points"], row["image_url"]))).getexif().get(0x0112, 1) != 1
        points = [(p["x"] / 100 * image.width, p["y"] / 100 * image.height) for p in row["points"]]
        color = SHADES.get(row["label"].rpartition(" ")[0])
        if color is not None:  # a bare kind, such as "circle", has several
            assert (np.linalg.norm(colors_at(image, points) - color, axis=-1) < 45).all(), row
    assert turned > 0


def test_points_in_pixels_lie_on_shapes_of_their_color_in_the_upright_picture(sample):
    for row in good_rows(sample["pixmo-count"]):
        image = upright(sample["pixmo-count"], row["image_url"])
        color = SHADES[row["label"].rpartition(" ")[0]]
        points = list(zip(row["points"]["x"], row["points"]["y"], strict=True))
        assert (np.linalg.norm(colors_at(image, points) - color, axis=-1) < 45).all(), row


# ---- the annotations ----


def test_points_rows_cover_few_many_and_none(sample):
    rows = good_rows(sample["pixmo-points"])
    assert all(row["count"] == len(row["points"]) for row in rows)
    by_method = {
        method: [row["count"] for row in rows if row["collection_method"] == method]
        for method in ("pointing", "counting")
    }
    assert max(by_method["pointing"]) < 15
    assert max(by_method["counting"]) > 60
    assert 0 in by_method["pointing"]


def test_evaluation_counts_are_two_to_ten_and_have_no_points(sample):
    for split in ("validation", "test"):
        rows = read(sample["pixmo-count"], split)
        assert all(2 <= row["count"] <= 10 and row["points"] is None for row in rows)
    train = good_rows(sample["pixmo-count"])
    assert all(row["count"] == len(row["points"]["x"]) == len(row["points"]["y"]) for row in train)


def test_captions_are_dense_and_name_every_label_pointed_at(sample):
    labels = {}
    for row in good_rows(sample["pixmo-points"]):
        if row["count"]:
            labels.setdefault(row["image_url"], []).append(row["label"])
    compared = 0
    for row in good_rows(sample["pixmo-cap"]):
        assert 80 <= len(row["caption"].split()) <= 200
        assert 1 <= len(row["transcripts"]) <= 3
        for label in labels.get(row["image_url"], []):
            compared += 1
            assert all(label in text for text in (row["caption"], *row["transcripts"]))
    assert compared > 10


def test_counts_in_answers_equal_the_number_of_points(sample):
    """The same picture's questions and points come from different sets."""
    words = {"one": 1, "two": 2, "three": 3}
    counts = {(row["image_url"], plural(row["label"])): row["count"] for row in good_rows(sample["pixmo-points"])}
    compared = 0
    dialogues = [(row["image_url"], row["messages"]) for row in good_rows(sample["pixmo-cap-qa"])]
    dialogues += [
        (row["image_url"], [row["question"], row["answer"]]) for row in good_rows(sample["pixmo-ask-model-anything"])
    ]
    for url, messages in dialogues:
        for question, answer in zip(messages[::2], messages[1::2], strict=True):
            asked = re.fullmatch(r"How many (.*) are in the picture\?", question)
            if asked and (url, asked[1]) in counts:
                compared += 1
                assert words[answer.split()[2]] == counts[url, asked[1]]
    assert compared > 5


def test_the_question_of_a_dialogue_holds_every_turn_but_the_last_answer(sample):
    lengths = set()
    for row in good_rows(sample["pixmo-cap-qa"]):
        parts = re.split(r"\s*(\[USER\]|\[ASSISTANT\])\s*", row["question"])
        assert (parts[0], parts[-1]) == ("", "")
        assert parts[1::2] == ["[USER]", "[ASSISTANT]"] * (len(row["messages"]) // 2)
        assert [*parts[2:-1:2], row["answer"]] == row["messages"]
        lengths.add(len(row["messages"]))
    assert lengths == {2, 4, 6}


def test_clock_rows_say_in_text_what_the_columns_say(sample):
    rows = good_rows(sample["pixmo-clocks"])
    for row in rows:
        reading = read_time(row)
        clock, _, period = row["text"].partition(" ")
        parts = [int(part) for part in clock.split(":")]
        assert parts[0] % 12 == reading.hour % 12
        assert parts[1:] == [reading.minute, *([row["second_visible"]] if row["shows_seconds"] else [])]
        assert period == ("" if row["time_format"] == "Without AM/PM" else "AM" if reading.hour < 12 else "PM")
    assert {row["time_format"] for row in rows} == {"With AM/PM", "Without AM/PM"}
    assert len({row["example_id"] for row in rows}) == len(rows)
