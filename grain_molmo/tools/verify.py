"""Says whether a store is sound: checksums of all files, every annotation record, every reference to media.

Each finding names the file and the record, and what to do. Media are taken to be what was stored if their shard has its
checksum; --decode computes each medium's own SHA-256, too, and decodes it. Warnings (files of unfinished conversions,
files without checksum) leave the exit code at 0.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from grain_molmo.errors import MediaError, NotConvertedError
from grain_molmo.readable import human_bytes
from grain_molmo.store import MediaRef, canonical_name, list_converted, resolve_data_dir
from grain_molmo.store.verify import Report, num_bytes_of_shards, verify_store
from grain_molmo.tools.arguments import whole_number
from grain_molmo.tools.colour import paint
from grain_molmo.tools.hints import did_you_mean, nearest
from grain_molmo.vision.image import decode_image
from grain_molmo.vision.prepared import PreparedFrames
from grain_molmo.vision.video_decode import wanted_frames
from grain_molmo.vision.video_pixels import upright_size
from grain_molmo.vision.video_stream import open_video

EXIT_SOUND, EXIT_DAMAGED = 0, 1
EXIT_CODES = {0: "sound", 1: "damaged, or failed"}
EXAMPLES = (
    ("a whole store", "--data-dir DATA"),
    ("only the sizes of files, in a moment", "--quick --data-dir DATA"),
    ("a set, with every picture decoded, on eight threads", "pixmo-cap --decode --threads 8 --data-dir DATA"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="sets such as pixmo-cap; default: the whole store")
    parser.add_argument("--data-dir", metavar="DIR", help="the store's folder; default: $GRAIN_MOLMO_DATA")
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument("--decode", action="store_true", help="decode all pictures and videos, every frame of them")
    depth.add_argument("--quick", action="store_true", help="of shards compare only the sizes")
    parser.add_argument("--threads", type=whole_number(1), default=4, metavar="N", help="shards at a time (4)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(args: argparse.Namespace) -> int:
    """Prints what was found; 1 if anything is damaged."""
    data_dir, names = resolve_data_dir(args.data_dir), args.names or None
    try:
        report = _verified(data_dir, names, args)
    except NotConvertedError as error:
        there = list_converted(data_dir)
        meant = did_you_mean(one.replace("_", "-") for name in args.names for one in _meant(name, there))
        raise error.with_hint(f"{meant}grain-molmo inspect --data-dir {data_dir} lists what is there") from error
    if args.json:
        print(json.dumps({"ok": not report.damage, "data_dir": str(data_dir), **asdict(report)}))
    else:
        print(_text(report, args))
    return EXIT_DAMAGED if report.damage else EXIT_SOUND


def _verified(data_dir: Path, names: Sequence[str] | None, args: argparse.Namespace) -> Report:
    total = 0 if args.quick or not data_dir.is_dir() else num_bytes_of_shards(data_dir, names)
    bar = tqdm(total=total, unit="B", unit_scale=True, desc="verify", disable=not sys.stderr.isatty(), leave=False)
    with bar:
        return verify_store(
            data_dir,
            names,
            quick=args.quick,
            check_media=decoding_problem if args.decode else None,
            threads=args.threads,
            progress=bar.update,
        )


def _meant(name: str, there: Sequence[str]) -> list[str]:
    """Sets of the store whose name is like this one, which no set of it has."""
    return [] if canonical_name(name) in there else nearest(name, there)


def _text(report: Report, args: argparse.Namespace) -> str:
    lines = [f"{paint('DAMAGED', 'bad')}  {finding}" for finding in report.damage]
    lines += [f"{paint('warning', 'warning')}  {finding}" for finding in report.warnings]
    depth = "sizes of shards only" if args.quick else "all media decoded" if args.decode else "media not decoded"
    lines.append(
        f"{report.sets:,} sets, {report.records:,} records, {report.media:,} media in {report.files:,} files "
        f"({human_bytes(report.num_bytes)}; {depth}): "
        + (paint(f"{len(report.damage):,} findings", "bad") if report.damage else paint("sound", "good"))
    )
    return "\n".join(lines)


def decoding_problem(ref: MediaRef, data: bytes) -> str | None:
    """What is wrong with a medium, or None: each of its pictures is decoded, as training would."""
    try:
        if ref.kind == "image":
            height, width, _ = decode_image(data).shape
        elif ref.kind == "video":
            width, height = _decode_video(data)
        elif ref.kind == "frames":
            PreparedFrames(data).check()
            return None
        else:
            return f"is of an unknown kind {ref.kind!r}"
    except MediaError as error:
        return f"does not decode ({error})"
    if (width, height) != (ref.width, ref.height):
        return f"is {width}x{height} pixels where the record says {ref.width}x{ref.height}"
    return None


def _decode_video(data: bytes) -> tuple[int, int]:
    """(width, height) as shown, of the last frame; every packet is read and every frame decoded. Raises MediaError."""
    size = (0, 0)
    with open_video(data) as video:
        index = video.index
        middles_s = (index.shown_pts_F - index.begin + 0.5) * float(index.time_base)  # clear of rounding
        for _, frame in wanted_frames(video, np.unique(index.shown_at(middles_s)).tolist()):
            size = upright_size(frame)
    return size
