"""The same few rows as every kind of plain source."""

import csv
import io
import json
import struct
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from array_record.python.array_record_module import ArrayRecordWriter
from loopback import make_picture

from converters.convert import convert_set
from converters.fetch.policy import FetchPolicy
from converters.options import Options
from converters.own.records import _masked_crc
from converters.own.source import OwnSource
from converters.request import SetRequest
from converters.summary import Summary
from grain_molmo.datasets.written import WrittenDataset
from grain_molmo.store.example_proto import encode_example

CAPTIONS = ["A red square.", "Ein grünes Quadrat, mit Komma", 'A "quoted"\nsquare.']
KINDS = ["parquet", "arrow", "json", "jsonl", "csv", "tsv", "folder", "webdataset", "webdataset.tgz"]
KINDS += ["tfrecord", "array_record", "saved"]


def convert_own(source: Path | str, data_dir: Path, *, split: str | None = None, **own: Any) -> Summary:
    """Converts a plain source as the set "mine"."""
    options = Options(workers=2, n_procs=1, fetching=FetchPolicy(allow_private=True, attempts=1))
    request = SetRequest(name="mine", source=str(source), split=split, own=OwnSource(**own))
    return convert_set(request, data_dir, options)


def converted(source: Path | str, data_dir: Path, split: str = "train", **own: Any) -> list[dict[str, Any]]:
    """The examples that a plain source becomes."""
    convert_own(source, data_dir, **own)
    return list(WrittenDataset("mine", split, data_dir))


def write_source(kind: str, folder: Path) -> Path:
    """A picture and a caption in each of three rows; where to find them."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{i}.png" for i in range(len(CAPTIONS))]
    if kind in ("csv", "tsv", "jsonl", "folder"):
        for i, name in enumerate(names):
            (folder / name).write_bytes(make_picture(i))
    rows = [{"file_name": name, "caption": caption} for name, caption in zip(names, CAPTIONS, strict=True)]
    embedded = [
        {"id": f"n{i}", "image": {"bytes": make_picture(i), "path": None}, "caption": caption}
        for i, caption in enumerate(CAPTIONS)
    ]
    match kind:
        case "parquet":
            pq.write_table(pa.Table.from_pylist(embedded), folder / "train-00000-of-00001.parquet")
        case "arrow":
            table = pa.Table.from_pylist(embedded)
            with pa.ipc.new_file(folder / "data.arrow", table.schema) as writer:
                writer.write_table(table)
        case "json":
            for i, name in enumerate(names):
                (folder / name).write_bytes(make_picture(i))
            (folder / "rows.json").write_text(json.dumps(rows))
        case "jsonl":
            (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        case "csv" | "tsv":
            with open(folder / f"metadata.{kind}", "w", newline="") as file:
                writer = csv.DictWriter(file, rows[0], delimiter="\t" if kind == "tsv" else ",")
                writer.writeheader()
                writer.writerows(rows)
        case "folder":
            for name, caption in zip(names, CAPTIONS, strict=True):
                (folder / name).with_suffix(".txt").write_text(caption)
        case "webdataset" | "webdataset.tgz":
            packed = kind.endswith("tgz")
            with tarfile.open(folder / ("0.tar.gz" if packed else "0.tar"), "w:gz" if packed else "w") as tar:
                for i, caption in enumerate(CAPTIONS):
                    add(tar, f"n{i}.png", make_picture(i))
                    add(tar, f"n{i}.txt", caption.encode())
                    add(tar, f"n{i}.json", json.dumps({"score": i / 2, "url": "http://elsewhere"}).encode())
        case "tfrecord":
            (folder / "data.tfrecord").write_bytes(tfrecord(map(as_example, embedded)))
        case "array_record":
            write_array_record(folder / "mine-train.array_record-00000-of-00001", map(as_example, embedded))
        case "saved":
            from datasets import Dataset, Image

            Dataset.from_list(embedded).cast_column("image", Image()).save_to_disk(folder)
    return folder


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def as_example(row: Mapping[str, Any]) -> bytes:
    caption = row["caption"].encode()
    return encode_example(bytes_lists={"image/encoded": [row["image"]["bytes"]], "caption": [caption]})


def tfrecord(payloads: Iterable[bytes]) -> bytes:
    out = b""
    for payload in payloads:
        length = struct.pack("<Q", len(payload))
        out += length + struct.pack("<I", _masked_crc(length)) + payload + struct.pack("<I", _masked_crc(payload))
    return out


def write_array_record(path: Path, payloads: Iterable[bytes]) -> None:
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for payload in payloads:
        writer.write(payload)
    writer.close()
