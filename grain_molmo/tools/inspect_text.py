"""What `grain-molmo inspect` prints for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grain_molmo.readable import human_bytes, one_line, printable, readable, table, terminal_width
from grain_molmo.tools.colour import paint
from grain_molmo.tools.store_report import Coverage, MediaReport, RecordsReport, SetReport, SplitReport, StoreReport

_COUNT_HEADINGS = ["examples", "shards", "size", "media", "media size", "rejected"]
_NOUNS = {"image": "pictures", "video": "videos", "frames": "prepared frames"}
_USUAL_WIDTH, _LEAST_VALUE = 120, 40


@dataclass(frozen=True)
class SetText:
    """What there is to print of a set.

    Attributes:
        dataset, name: as it was asked for, and the set that this is.
        data_dir: where it is.
        splits: of the store, those that were asked for.
        rows: what became of the rows of the source.
        records: what the first of them look like.
        units: of the numbers in a field of the annotations.
        may_pass: rejected rows that another run may win back.
        samples: (index, example) of some.
    """

    dataset: str
    name: str
    data_dir: Path
    splits: Sequence[SplitReport]
    rows: Sequence[Coverage]
    records: RecordsReport
    units: Mapping[str, str]
    may_pass: int
    samples: Sequence[tuple[int, Mapping[str, Any]]]


def command(words: str) -> str:
    """A command to type, in the colour of those."""
    return paint(f"grain-molmo {words}", "hint")


def shown(name: str) -> str:
    """A set's name as people type it."""
    return name.replace("_", "-")


# ---- the whole folder ----


def convertible_text(hubs: Mapping[str, str], problem: Exception) -> str:
    """The sets that can be converted, by name their address on the hub."""
    rows = [[shown(name), f"https://huggingface.co/datasets/{hub}"] for name, hub in hubs.items()]
    return "\n".join(
        [
            "sets that can be converted",
            "",
            table(["set", "on the hub"], rows, left=2),
            "",
            f"convert one:  {command('convert NAME --data-dir DATA')}",
            f"what it is:   {command('inspect NAME')}",
            f"a stage:      {command('inspect --stage pretraining')}",
            f"what is there: {problem}",
        ]
    )


def store_text(data_dir: Path, report: StoreReport, missing: Sequence[str]) -> str:
    """A folder: a line a set, and what to do next."""
    examples = sum(split.examples for one in report.sets for split in one.splits)
    lines = [
        f"{data_dir}: {len(report.sets)} sets, {examples:,} examples, {report.media:,} media stored once each "
        f"({human_bytes(report.media_bytes)})"
    ]
    if report.sets:
        rows = [[shown(one.name), _examples(one), *_set_cells(one.splits)] for one in report.sets]
        lines += ["", table(["set", "examples", "size", "media added", "rejected"], rows, left=2)]
    if missing:
        names = ", ".join(map(shown, missing))
        lines += ["", f"not converted here: {names}", f"  {command(f'convert NAME --data-dir {data_dir}')}"]
    if report.sets:
        first = shown(report.sets[0].name)
        lines += [
            "",
            f"a set:    {command(f'inspect {first} --data-dir {data_dir}')}",
            f"a stage:  {command(f'inspect --stage pretraining --data-dir {data_dir}')}",
        ]
    return "\n".join(lines)


def _examples(one: SetReport) -> str:
    return ", ".join(f"{part} {count:,}" for part, count in one.examples.items())


def _set_cells(splits: Sequence[SplitReport]) -> list[str]:
    _, _, size, _, media_size, rejected = _count_cells(splits)
    return [size, media_size, rejected]


def _count_cells(splits: Sequence[SplitReport]) -> list[str]:
    return [
        f"{sum(split.examples for split in splits):,}",
        f"{sum(split.shards for split in splits):,}",
        human_bytes(sum(split.num_bytes for split in splits)),
        f"{sum(split.media_added for split in splits):,}",
        human_bytes(sum(split.media_bytes for split in splits)),
        f"{sum(sum(split.rejected.values()) for split in splits):,}",
    ]


# ---- one set ----


def set_text(one: SetText) -> str:
    """A set: splits, where its rows went, columns, media, examples, and what to do next."""
    folder = one.data_dir / one.name
    is_written = all(rows.is_written for rows in one.rows)
    split_rows = [[split.name, *_count_cells([split])] for split in one.splits]
    lines = [
        f"{one.name}, {'written' if is_written else 'converted'} into {folder}",
        "",
        table(["split", *_COUNT_HEADINGS], split_rows, left=1),
        "",
        paint("examples" if is_written else "rows of the source", "heading"),
        *(line for rows in one.rows for line in _coverage_lines(rows)),
    ]
    if any(rows.rejected for rows in one.rows):
        lines.append(f"  each with what was wrong: {folder / 'rejects-SPLIT.jsonl'}")
    lines += _may_pass_lines(one)
    lines += ["", paint(f"columns of the annotations (first {one.records.read:,} records)", "heading")]
    lines += _column_lines(one.records, one.units)
    lines += [f"  {_NOUNS.get(media.kind, media.kind):<16}{_media_text(media)}" for media in one.records.media]
    for index, example in one.samples:
        lines += ["", paint(f"example {index} of {one.dataset}", "heading"), readable(example)]
        lines += _scale_lines(example)
    return "\n".join([*lines, *_next_lines(one)])


def _scale_lines(example: Mapping[str, Any]) -> list[str]:
    """What `point_scale` means, where a message has it."""
    messages = [message for message in example.get("message_list", ()) if isinstance(message, Mapping)]
    scales = dict.fromkeys(message["point_scale"] for message in messages if "point_scale" in message)
    words = (f"from 0 to {scale:g} across the picture" for scale in scales)
    return [paint(f"  (point_scale: points of a message are {word})", "quiet") for word in words]


def _next_lines(one: SetText) -> list[str]:
    split = one.splits[0].name
    return [
        "",
        f"in Python:  grain_molmo.get_dataset({one.dataset!r}, split={split.partition('_')[0]!r}, "
        f"data_dir={str(one.data_dir)!r})[0]",
        f"is it sound:  {command(f'verify {shown(one.name)} --data-dir {one.data_dir}')}",
    ]


def _may_pass_lines(one: SetText) -> list[str]:
    if not one.may_pass:
        return []
    words = "1 rejected row fell" if one.may_pass == 1 else f"{one.may_pass:,} rejected rows fell"
    again = command(f"convert {shown(one.name)} --data-dir {one.data_dir} --retry-rejects")
    return [
        f"  {words} to a failure of the network that may have passed; with the arguments of the conversion,",
        f"  {again} tries again",
    ]


def _column_lines(records: RecordsReport, units: Mapping[str, str]) -> list[str]:
    """Of each column its type, a value, and the unit of its numbers."""
    room = max(_LEAST_VALUE, (terminal_width() or _USUAL_WIDTH) - 23)
    lines = []
    for key, kind in records.columns.items():
        lines.append(f"  {printable(key):<16}{kind}")
        if (value := records.values[key]) is not None:
            lines.append(f"  {'':<16}{paint(f'e.g. {one_line(value, room)}', 'quiet')}")
        if key in units:
            lines.append(f"  {'':<16}{units[key]}")
    return lines


def _media_text(media: MediaReport) -> str:
    low, middle, high = (f"{width}x{height}" for width, height in (media.min_size, media.median_size, media.max_size))
    each = f"{media.per_record[0]}" if len(set(media.per_record)) == 1 else "{} to {}".format(*media.per_record)
    text = f"{each} a record, {low} to {high} pixels (half of them {middle} or more)"
    if media.seconds is None:
        return text
    return f"{text}, {media.seconds[0]:.1f} to {media.seconds[1]:.1f} s (half {media.median_seconds:.1f} s or more)"


def _coverage_lines(one: Coverage) -> list[str]:
    if one.is_written:
        left_out = f"; {sum(one.rejected.values()):,} of {one.rows:,} left out" if one.rejected else ""
        examples = "1 example" if one.rows_in_records == 1 else f"{one.rows_in_records:,} examples"
        return [f"  written from Python: {examples} in {', '.join(one.splits)}{left_out}", *_reason_lines(one)]
    source = one.source
    origin = "our own generator" if source.get("kind") == "sample" else "unknown"
    where = [str(source.get("path", origin))]
    where += [f"{key} {source[key]}" for key in ("config", "split", "revision") if source.get(key)]
    share = f" ({sum(one.rejected.values()) / one.rows:.1%})" if one.rejected and one.rows else ""
    lines = [
        f"  {', '.join(where)}",
        f"    {one.rows:,} read: {one.rows_in_records:,} in records of {', '.join(one.splits)}; "
        f"{sum(one.rejected.values()):,} rejected{share}",
    ]
    return [*lines, *_reason_lines(one)]


def _reason_lines(one: Coverage) -> list[str]:
    return [paint(f"      {count:>6,}  {reason}", "warning") for reason, count in one.rejected.items()]


# ---- a set that is not there ----


def hub_text(report: Mapping[str, Any]) -> str:
    """What a set is on the hub, and the command that converts it."""
    data_dir = report["data_dir"]
    where = (
        f"is not in {data_dir}" if data_dir else "cannot be looked up: no --data-dir, and $GRAIN_MOLMO_DATA is not set"
    )
    lines = [f"{report['name']} {where}.", "", f"on the hub: https://huggingface.co/datasets/{report['hub']}"]
    if report["configs"]:
        lines.append(f"  configs   {', '.join(report['configs'])}")
    lines += [f"  splits    {', '.join(report['splits'])}", "  columns"]
    lines += [f"    {column:<20}{kind}" for column, kind in report["columns"].items()]
    lines += [f"    {column:<20}{kind} (optional)" for column, kind in report["optional_columns"].items()]
    return "\n".join([*lines, "", f"convert it:  {paint(report['command'], 'hint')}"])
