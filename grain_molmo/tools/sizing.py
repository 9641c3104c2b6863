"""Whether machines like this one can feed a pod: what each stage asks of every host, and what a measured loader gives.

The pods are the files of `tpu_configs`. How long a step takes follows from the model's arithmetic at --mfu of the
chips' peak, and with it the rows a second that the data must come in. What a row costs is measured by `grain-molmo
bench loader`: give its --json output of each stage as --measured, best taken on a host of the pod with the data to be
trained on, or --measure here. Sample data, which are taken without --data-dir, are small pictures and videos: frames of
real videos may take ten times as long. --crop-ms puts in what `grain-molmo bench video` says of such, and --plan-us
what `grain-molmo bench plan` says of an index of lengths.

"threads" are those that must be busy at all times, of those that the pod's file gives the loader; a thread there is
taken to do what one here did, and all of them side by side. Every host plans all rows of a batch, one after the other:
"planned/s" are the examples that planning must place a second. The last column has the smaller of the two head-rooms.
"""

import argparse
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from grain_molmo.errors import ConfigError
from grain_molmo.pods import MFU, MOLMO2_4B, Needs, Pod, needs, problems
from grain_molmo.pods.chips import GB
from grain_molmo.readable import ruled_table, terminal_width
from grain_molmo.stages import STAGES
from grain_molmo.tools.arguments import stage_name
from grain_molmo.tools.colour import paint

_TYPICAL_EXAMPLES_PER_ROW = {"pretraining": 3.6, "sft": 5.6, "long_context": 13.1}
"""Where nothing was measured: as `grain-molmo bench packing` draws them."""

_TIGHT = 1.5
"""Less head-room than this is called tight: machines are not equally fast all day."""


@dataclass(frozen=True)
class Measured:
    """What a loader's benchmark says of a stage's rows.

    Attributes:
        examples_per_row: on average.
        read_bytes_per_row: of media.
        cpu_s_per_row: seconds of one busy thread.
        plan_s_per_example: seconds until an example has its place in a row.
        source: where the figures are from.
    """

    examples_per_row: float
    read_bytes_per_row: float
    cpu_s_per_row: float
    plan_s_per_example: float
    source: str

    @classmethod
    def of(cls, report: Mapping[str, Any], source: str) -> tuple[str, "Measured"]:
        """The stage of a report of `grain-molmo bench loader --json`, and its figures. Raises ConfigError."""
        keys = ("examples_per_row", "read_bytes_per_row", "cpu_s_per_row", "plan_s_per_example")
        try:
            figures = {key: float(report["figures"][key]) for key in keys}
            if wrong := {key: value for key, value in figures.items() if not _is_measured(key, value)}:
                raise ValueError(f"figures {wrong}")
            stage, machine = report["settings"]["stage"], report["machine"]["processor"]
            data = report["settings"]["data_dir"]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{source} is not what `grain-molmo bench loader --json` prints: {error!r}") from error
        return stage, cls(**figures, source=f"{data} on {machine}")


def _is_measured(key: str, value: float) -> bool:
    return math.isfinite(value) and (value > 0 or (value == 0 and key == "read_bytes_per_row"))  # text has no media


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """What a stage asks of a pod, and what is there to give it.

    Attributes:
        pod, stage: which.
        needs: of the pod's memory, and rows a second.
        problems: what does not fit, a sentence each.
        examples_per_s: that each host renders.
        planned_per_s: examples that each host plans.
        read_bytes_per_s: of media that each host reads; this and the next are None if nothing was measured.
        threads: of each host that are busy with it.
        rendering, planning: how many times over a host can do it.
    """

    pod: Pod
    stage: str
    needs: Needs
    problems: list[str]
    examples_per_s: float
    planned_per_s: float
    read_bytes_per_s: float | None = None
    threads: float | None = None
    rendering: float | None = None
    planning: float | None = None

    @property
    def verdict(self) -> str:
        """Whether it fits and the data keep up."""
        if self.problems:
            return "does not fit"
        if self.rendering is None or self.planning is None:
            return "not measured"
        least, what = min((self.rendering, "rendering"), (self.planning, "planning"))
        if least < 1:
            return f"no: {what} {least:.2f}x"
        return f"{'tight' if least < _TIGHT else 'yes'}, {least:,.1f}x"


def size_up(pod: Pod, stage: str, measured: Measured | None, mfu: float = MFU) -> Sizing:
    """What the stage asks of the pod, against what was measured."""
    per_row = measured.examples_per_row if measured else _TYPICAL_EXAMPLES_PER_ROW[stage]
    asked = needs(pod, stage, per_row, mfu=mfu)
    found = Sizing(
        pod=pod,
        stage=stage,
        needs=asked,
        problems=problems(pod, stage),
        examples_per_s=asked.host_rows_per_s * per_row,
        planned_per_s=asked.rows_per_s * per_row,
    )
    if measured is None:
        return found
    threads = asked.host_rows_per_s * measured.cpu_s_per_row
    return replace(
        found,
        read_bytes_per_s=asked.host_rows_per_s * measured.read_bytes_per_row,
        threads=threads,
        rendering=pod.threads / threads,
        planning=1 / (found.planned_per_s * measured.plan_s_per_example),
    )


EXAMPLES = (
    ("what each stage asks of every host, pod by pod", ""),
    ("a pod's steps, memory and rows a second", "v5e-16"),
    ("the same of one stage, at another share of the chips' peak", "v5e-16 v6e-16 --stage sft --mfu 0.4"),
    ("whether hosts like this one keep up: measured here, a minute a stage", "v5e-16 --measure"),
    ("the same with what `grain-molmo bench loader --json` wrote", "v5e-16 --measured pretraining.json sft.json"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    what = parser.add_argument_group("what is asked")
    what.add_argument("pods", nargs="*", metavar="POD", help="such as v5e-16 (all)")
    what.add_argument("--stage", type=stage_name, choices=list(STAGES), help="(all three)")
    what.add_argument("--mfu", type=_share, default=MFU, metavar="F", help=f"share of the peak that a step has ({MFU})")
    given = parser.add_argument_group("what there is to give")
    source = given.add_mutually_exclusive_group()
    source.add_argument(
        "--measured",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="`grain-molmo bench loader --json`, a stage each",
    )
    source.add_argument("--measure", action="store_true", help="run that benchmark now, for a minute a stage")
    given.add_argument("--data-dir", type=Path, metavar="DIR", help="what --measure reads (sample data)")
    given.add_argument(
        "--tokenizer", default="bytes", metavar="T", help='of --measure: file, folder, hub name or "bytes" (bytes)'
    )
    given.add_argument("--crop-ms", type=float, metavar="MS", help="a thread takes for a crop (as measured)")
    given.add_argument("--plan-us", type=float, metavar="US", help="planning takes for an example (as measured)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")


def _share(text: str) -> float:
    """An argparse type: a number above 0, at most 1."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, not {text}")
    return value


def run(args: argparse.Namespace) -> int:
    """Prints what the pods need; the exit code."""
    import tpu_configs  # the command line alone reaches from the library to the pods' files

    stages = [args.stage] if args.stage else list(STAGES)
    pods = [tpu_configs.pod(name) for name in args.pods or tpu_configs.names()]
    measured = dict(_measure(args, stages)) if args.measure else _read(args.measured)
    measured = _costing(measured, args.crop_ms, args.plan_us)
    sizings = [size_up(pod, stage, measured.get(stage), args.mfu) for stage in stages for pod in pods]
    if args.json:
        print(json.dumps(_as_json(sizings, measured, args.mfu)))
    elif not measured and not args.pods:
        print("\n\n".join(_overview(sizings, args.mfu)))
    else:
        print("\n\n".join(_describe(sizings, measured, args.mfu)))
    return 0


def _read(paths: Iterable[Path]) -> dict[str, Measured]:
    """What was measured, by stage. Raises ConfigError for a file that is something else, or a second of a stage."""
    measured: dict[str, Measured] = {}
    for path in paths:
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{path} is not JSON: {error}") from error
        stage, figures = Measured.of(report, str(path))
        if stage not in STAGES or stage in measured:
            raise ConfigError(f"{path} is of stage {stage!r}; give one file each of {', '.join(STAGES)}")
        measured[stage] = figures
    return measured


def _measure(args: argparse.Namespace, stages: Iterable[str]) -> Iterable[tuple[str, Measured]]:
    from grain_molmo.tools.bench import loader as loader_bench  # here, so that --help needs no loader

    for stage in stages:
        words = [
            "--stage",
            stage,
            "--tokenizer",
            args.tokenizer,
            "--batch-size",
            "8" if stage == "pretraining" else "2",
        ]
        words += ["--steps", "9", "--rows", "24"] if args.data_dir is None else ["--data-dir", str(args.data_dir)]
        parser = argparse.ArgumentParser()
        loader_bench.add_arguments(parser)
        report = loader_bench.run(parser.parse_args(words))
        yield Measured.of(vars(report), "this machine")


def _costing(measured: Mapping[str, Measured], crop_ms: float | None, plan_us: float | None) -> dict[str, Measured]:
    """The same with other costs where such are given. Raises ConfigError if there is nothing measured to change."""
    given = {"--crop-ms": crop_ms, "--plan-us": plan_us}
    for option, value in given.items():
        if value is not None and (not measured or not value > 0):
            raise ConfigError(f"{option} {value:g}: a number above 0, beside --measured or --measure")
    but = " and ".join(f"{option} {value:g}" for option, value in given.items() if value is not None)
    if not but:
        return dict(measured)
    changed = {}
    for stage, each in measured.items():
        if crop_ms is not None:
            each = replace(each, cpu_s_per_row=STAGES[stage].crops_per_row * crop_ms / 1e3)
        if plan_us is not None:
            each = replace(each, plan_s_per_example=plan_us / 1e6)
        changed[stage] = replace(each, source=f"{each.source}, but for {but}")
    return changed


_ASKED = (
    *("pod", "hosts", "mesh", "batch", "a host", "passes", "step, s", "device GB", "host GB"),
    *("rows/s", "examples/s", "planned/s"),
)
_FEW_PODS = 6
_GIVEN = ("MB/s", "threads", "keeps up")


def _about_the_model(mfu: float) -> str:
    return f"A model of {MOLMO2_4B.params / 1e9:.1f} billion parameters at {mfu:.0%} of the chips' peak."


def _overview(sizings: Sequence[Sizing], mfu: float) -> Iterable[str]:
    """A line a pod, where nothing is measured and no pod was asked for."""
    stages = list(dict.fromkeys(sizing.stage for sizing in sizings))
    by_pod: dict[str, list[Sizing]] = {}
    for sizing in sizings:
        by_pod.setdefault(sizing.pod.name, []).append(sizing)
    rows = [
        [name, mine[0].pod.hosts, mine[0].pod.threads, *(f"{sizing.examples_per_s:.1f}" for sizing in mine)]
        for name, mine in by_pod.items()
    ]
    yield f"{_about_the_model(mfu)} Examples a second that each host must render, by stage:"
    yield ruled_table(("pod", "hosts", "threads", *stages), rows)
    yield from dict.fromkeys(problem for sizing in sizings for problem in sizing.problems)
    yield (
        f"steps, memory and rows of one:  {paint('grain-molmo size v5e-16', 'hint')}\n"
        f"whether hosts like this keep up:  {paint('grain-molmo size v5e-16 --measure', 'hint')}"
    )


def _describe(sizings: Sequence[Sizing], measured: Mapping[str, Measured], mfu: float) -> Iterable[str]:
    yield (
        f"{_about_the_model(mfu)} The mesh is data x fsdp x context; rows/s, examples/s, MB/s and threads are each "
        "host's; every host plans all examples."
    )
    for stage in dict.fromkeys(sizing.stage for sizing in sizings):
        known = measured.get(stage)
        about = (
            f"{known.examples_per_row:.1f} examples a row, {known.cpu_s_per_row:.3f} s of a thread a row, "
            f"{known.plan_s_per_example * 1e3:.2f} ms to plan an example, measured with {known.source}"
            if known
            else f"not measured: about {_TYPICAL_EXAMPLES_PER_ROW[stage]} examples a row"
        )
        mine = [sizing for sizing in sizings if sizing.stage == stage]
        yield f"{paint(stage, 'heading')}: {about}\n\n{_stage_table(mine, is_measured=known is not None)}"
        yield from (paint(problem, "warning") for sizing in mine for problem in sizing.problems)
        yield from _advice(stage, mine)
    if not measured:
        words = "size " + " ".join(dict.fromkeys(sizing.pod.name for sizing in sizings)) + " --measure"
        yield f"whether hosts like this keep up:  {paint(f'grain-molmo {words}', 'hint')}"


def _stage_table(sizings: Sequence[Sizing], *, is_measured: bool) -> str:
    """A line a pod, or, where a terminal has no room for that, a column a pod."""
    header = (*_ASKED, *_GIVEN) if is_measured else _ASKED
    cells = [_cells(sizing)[: len(header)] for sizing in sizings]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    if sum(widths) + 2 * len(widths) > (terminal_width() or math.inf) and len(sizings) < _FEW_PODS:
        facts, *rest = zip(header, *cells, strict=True)
        return ruled_table(facts, rest)
    lines = ruled_table(header, cells).splitlines()
    if is_measured:
        lines[2:] = [_paint_verdict(line, sizing) for line, sizing in zip(lines[2:], sizings, strict=True)]
    return "\n".join(lines)


def _paint_verdict(line: str, sizing: Sizing) -> str:
    """The line of a table with its last column coloured."""
    style = {"yes": "good", "tig": "warning"}.get(sizing.verdict[:3], "bad")
    return line.removesuffix(sizing.verdict) + paint(sizing.verdict, style)


def _cells(sizing: Sizing) -> tuple[str, ...]:
    pod, asked, run = sizing.pod, sizing.needs, sizing.pod.run(sizing.stage)
    device, host = sum(asked.device_bytes.values()) / GB, sum(asked.host_bytes.values()) / GB
    return (
        pod.name,
        str(pod.hosts),
        f"{run.data} x {run.fsdp} x {run.context}",
        str(pod.stage(sizing.stage).batch_size),
        f"{pod.host_rows(sizing.stage):g}",
        str(pod.passes(sizing.stage)),
        f"{asked.step_s:.2f}",
        f"{device:.0f} of {pod.chip.hbm_bytes / GB:.0f}",
        f"{host:.0f} of {pod.host.memory_bytes / GB:.0f}",
        f"{asked.host_rows_per_s:.2f}",
        f"{sizing.examples_per_s:.1f}",
        f"{sizing.planned_per_s:.0f}",
        "-" if sizing.read_bytes_per_s is None else f"{sizing.read_bytes_per_s / 1e6:.1f}",
        f"- of {pod.threads}" if sizing.threads is None else f"{sizing.threads:.1f} of {pod.threads}",
        sizing.verdict,
    )


def _advice(stage: str, sizings: Iterable[Sizing]) -> Iterable[str]:
    """What is missing where the data do not keep up, and what to do about it."""
    short = {
        what: [each.pod.name for each in sizings if (getattr(each, what) or _TIGHT) < 1]
        for what in ("planning", "rendering")
    }
    if short["planning"]:
        yield (
            f"Planning is too slow for {', '.join(short['planning'])}: let the lengths be looked up instead, with "
            f"`grain-molmo index --stage {stage}`, and measure again."
        )
    if short["rendering"]:
        frames = (
            ", or prepare the videos' frames with `grain-molmo convert --video-frames`"
            if STAGES[stage].max_frames
            else ""
        )
        yield (
            f"Rendering is too slow for {', '.join(short['rendering'])}: give the loader more threads where a host has "
            f"cores left{frames}."
        )


def _as_json(sizings: Iterable[Sizing], measured: Mapping[str, Measured], mfu: float) -> dict[str, Any]:
    pods: dict[str, dict[str, Any]] = {}
    for sizing in sizings:
        pod, stage = sizing.pod, sizing.stage
        pods.setdefault(pod.name, {"hosts": pod.hosts, "chips": pod.chips, "threads": pod.threads})[stage] = {
            **asdict(pod.run(stage)),
            "batch_size": pod.stage(stage).batch_size,
            "passes": pod.passes(stage),
            "host_rows": pod.host_rows(stage),
            **asdict(sizing.needs),
            "host_examples_per_s": sizing.examples_per_s,
            "host_read_bytes_per_s": sizing.read_bytes_per_s,
            "host_threads_busy": sizing.threads,
            "planned_examples_per_s": sizing.planned_per_s,
            "rendering_headroom": sizing.rendering,
            "planning_headroom": sizing.planning,
            "problems": sizing.problems,
            "verdict": sizing.verdict,
        }
    return {
        "model_params": MOLMO2_4B.params,
        "mfu": mfu,
        "measured": {stage: asdict(each) for stage, each in measured.items()},
        "pods": pods,
    }
