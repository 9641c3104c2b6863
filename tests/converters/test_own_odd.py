"""Plain sources as they should not be: links, damage, hidden files, and values that nobody can read."""

import base64
import gzip
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loopback import make_picture, rejects, write_rows
from own_sources import CAPTIONS, add, convert_own, converted, tfrecord, write_source

from grain_molmo.datasets.written import WrittenDataset
from grain_molmo.errors import ConfigError
from grain_molmo.store.example_proto import encode_example


def test_pictures_in_base64_do_not_stay_with_the_metadata(tmp_path: Path):
    encoded = "data:image/png;base64," + base64.b64encode(make_picture()).decode()
    rows = [{"image": encoded, "caption": "A"}, {"image": [encoded], "caption": "B"}]
    one, other = converted(write_rows(tmp_path, rows, "json"), tmp_path / "data")
    assert one["image"].encoded() == other["image"][0].encoded() == make_picture()
    assert one["metadata"].keys() == other["metadata"].keys() == {"id", "source", "split"}


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.GNUTYPE_SPARSE])
def test_a_sample_whose_picture_is_a_link_in_the_tar_is_rejected_rather_than_text(tmp_path: Path, kind: bytes):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        add(tar, "0.png", make_picture())
        add(tar, "0.txt", b"Its own.")
        link = tarfile.TarInfo("1.png")
        link.type, link.linkname = kind, "0.png"
        tar.addfile(link)
        add(tar, "1.txt", b"The same.")
    assert [example["caption"] for example in converted(tmp_path / "a.tar", tmp_path / "data")] == ["Its own."]
    (reject,) = rejects(tmp_path / "data", "mine")
    assert reject["reason"] == "bad_member"
    assert "1.png" in reject["detail"]


def test_a_tar_with_a_damaged_header_is_refused_rather_than_shortened(tmp_path: Path):
    path = write_source("webdataset", tmp_path) / "0.tar"
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        start = tar.getmembers()[4].offset
    damaged = {
        "flipped": whole[:start] + b"\xff" + whole[start + 1 :],
        "cut": whole[: start + 100],
        "two": whole + whole,
    }
    for name, data in damaged.items():
        (tmp_path / f"{name}.tar").write_bytes(data)
        with pytest.raises(ConfigError, match=f"{name}.tar does not read as a tar file beyond byte"):
            convert_own(tmp_path / f"{name}.tar", tmp_path / "data")


def test_hidden_files_do_not_say_what_a_folder_is(tmp_path: Path):
    source = write_source("folder", tmp_path / "source")
    for name in (".ipynb_checkpoints/metadata.csv", ".cache/x.tar", ".cache/metadata.json"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text("a,b\n1,2\n")
    assert [example["caption"] for example in converted(source, tmp_path / "data")] == CAPTIONS


def test_a_cell_of_a_csv_file_may_hold_megabytes(tmp_path: Path):
    captions = ["First.", "word " * 500_000, "Last."]
    (tmp_path / "a.csv").write_text("caption,n\n" + "".join(f'"{caption}",1\n' for caption in captions))
    examples = converted(tmp_path / "a.csv", tmp_path / "data")
    assert [example["text"] for example in examples] == captions


def test_a_value_that_python_cannot_have_costs_its_row_alone(tmp_path: Path):
    offsets = pa.py_buffer(np.array([0, 1, 3, 4], np.int32).tobytes())
    captions = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"Ab\xffC")])
    table = pa.table({"id": captions, "caption": ["One", "Two", "Three"]})
    pq.write_table(table, tmp_path / "text.parquet")
    when = pa.array([0, 1 << 55, 0], pa.timestamp("ms"))
    pq.write_table(pa.table({"when": when, "caption": ["One", "Two", "Three"]}), tmp_path / "dates.parquet")
    for name, column in (("text", "id"), ("dates", "when")):
        examples = converted(tmp_path / f"{name}.parquet", tmp_path / name)
        assert [example["text"] for example in examples] == ["One", "Three"]
        (reject,) = rejects(tmp_path / name, "mine")
        assert (reject["row"], reject["reason"]) == (1, "bad_value")
        assert column in reject["detail"]


def test_a_picture_that_is_a_link_out_of_the_folder_costs_its_sample_and_is_not_read(tmp_path: Path):
    source = write_source("folder", tmp_path / "source")
    for name, text in (("secret.png", ""), ("secret.txt", "A secret.")):
        (tmp_path / name).write_text(text)
        (source / name).symlink_to(tmp_path / name)
    (source / "link.png").symlink_to(tmp_path / "secret.png")
    (source / "link.txt").write_text("Not a text without its picture.")
    assert [example["caption"] for example in converted(source, tmp_path / "data")] == CAPTIONS
    assert [one["reason"] for one in rejects(tmp_path / "data", "mine")] == ["path_outside"] * 2


def test_folders_of_splits_are_splits_and_classes_are_not(tmp_path: Path):
    for name in ("train/cat/a", "train/test/b", "Val/cat/a"):
        path = tmp_path / "source" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_picture(len(name)))
    (tmp_path / "source" / "README.md").write_text("Hi")
    chosen = {"columns": (("answer", "folder"),), "values": (("question", "What is it?"),)}
    found = converted(tmp_path / "source", tmp_path / "data", **chosen)
    assert [example["answer"] for example in found] == ["cat", "test"]
    assert [one["answer"] for one in WrittenDataset("mine", "validation", tmp_path / "data")] == ["cat"]
    (tmp_path / "source" / "c.png").write_bytes(make_picture())
    (tmp_path / "source" / "c.txt").write_text("In no split's folder.")
    assert len(converted(tmp_path / "source", tmp_path / "whole")) == 1


@pytest.mark.parametrize("name", ["a.TFRecord", "a.tfrec", "A.TFRECORD-00000-OF-00001", "a.tfrecord.GZ"])
def test_names_of_records_are_known_in_any_case(tmp_path: Path, name: str):
    data = tfrecord([encode_example(bytes_lists={"text": [b"A"]})])
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("GZ") else data)
    assert [example["text"] for example in converted(tmp_path / name, tmp_path / "data")] == ["A"]
