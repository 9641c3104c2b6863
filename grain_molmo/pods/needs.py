"""What a stage asks of a pod's memory, and of the machines that feed it."""

from dataclasses import dataclass

from grain_molmo.layout import RowLayout
from grain_molmo.pods.chips import GB
from grain_molmo.pods.model import MOLMO2_4B, VisionLanguageModel
from grain_molmo.pods.pod import Pod

MFU = 0.5
"""Share of a chip's peak that a step reaches (model FLOPs utilization); more than most trainers do, so that data that
keep up with it keep up with them."""

_USABLE = 0.9
"""Of a device's memory; the rest goes to the runtime, to fragments, and to what the formulas leave out."""
_DEVICE_BATCHES = 3
"""One in use, one that waits, one under way."""
_HOST_BATCHES = 8
"""At most: four ahead, one being rendered, one on its way to the devices, the memory of two kept for reuse."""
_HOST_BASE_BYTES = 16 * GB
"""The system, the program, decoders at work, and some room for the cache of files."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a stage on a pod asks for.

    Attributes:
        step_s: seconds between two batches.
        rows_per_s: that the whole pod computes, and that every host plans.
        host_rows_per_s: that each host renders.
        device_bytes: memory of a device that is taken, by what takes it, see `device_bytes`.
        device_limit: bytes of a device that may be taken, 0.9 of its memory.
        host_bytes: memory of a host that is taken, by what takes it, see `host_bytes`.
        host_limit: bytes of memory that a host has.
    """

    step_s: float
    rows_per_s: float
    host_rows_per_s: float
    device_bytes: dict[str, float]
    device_limit: float
    host_bytes: dict[str, float]
    host_limit: float


def needs(
    pod: Pod,
    stage_name: str,
    examples_per_row: float,
    model: VisionLanguageModel = MOLMO2_4B,
    mfu: float = MFU,
) -> Needs:
    """What the stage asks for if the pod computes at the given share of its peak.

    Args:
        pod: and how it trains the stage.
        stage_name: "pretraining", "sft" or "long_context".
        examples_per_row: on average, which says how far a token attends.
        model: that is trained.
        mfu: share of the chips' peak that a step reaches, above 0 to 1.

    Raises:
        ConfigError: another stage.
    """
    stage = pod.stage(stage_name)
    step_s = stage.batch_size * model.row_flops(stage, examples_per_row) / (pod.chips * pod.chip.peak_flops * mfu)
    return Needs(
        step_s=step_s,
        rows_per_s=stage.batch_size / step_s,
        host_rows_per_s=pod.host_rows(stage_name) / step_s,
        device_bytes=device_bytes(pod, stage_name, model),
        device_limit=_USABLE * pod.chip.hbm_bytes,
        host_bytes=host_bytes(pod, stage_name, model),
        host_limit=pod.host.memory_bytes,
    )


def device_bytes(pod: Pod, stage_name: str, model: VisionLanguageModel = MOLMO2_4B) -> dict[str, float]:
    """Bytes of a device by what takes them: "model", "activations", "batches".

    Args:
        pod, stage_name, model: as of `needs`.
    """
    run, stage = pod.run(stage_name), pod.stage(stage_name)
    layout = RowLayout.of(stage, run.context)
    return {
        "model": model.state_bytes / run.model_shards,
        "activations": model.activation_bytes(
            tokens=run.rows * layout.tokens // run.context, crops=run.rows * layout.crops_per_shard
        ),
        "batches": _DEVICE_BATCHES * stage.batch_size * layout.row_bytes() / pod.chips,
    }


def host_bytes(pod: Pod, stage_name: str, model: VisionLanguageModel = MOLMO2_4B) -> dict[str, float]:
    """Bytes of a host by what takes them: "batches", "checkpoint" (the copy that is written meanwhile), "system".

    Args:
        pod, stage_name, model: as of `needs`.
    """
    run, stage = pod.run(stage_name), pod.stage(stage_name)
    row_shards, row_parts = max(1, pod.host.chips // run.context), min(pod.host.chips, run.context)
    rows = row_shards * stage.batch_size // run.row_shards
    return {
        "batches": _HOST_BATCHES * rows * RowLayout.of(stage, run.context).row_bytes(row_parts),
        "checkpoint": pod.host.chips * model.state_bytes / run.model_shards,
        "system": _HOST_BASE_BYTES,
    }


def problems(pod: Pod, stage_name: str, model: VisionLanguageModel = MOLMO2_4B) -> list[str]:
    """What does not fit, a sentence each; empty if all does.

    Args:
        pod, stage_name, model: as of `needs`.
    """
    found = []
    device, host = device_bytes(pod, stage_name, model), host_bytes(pod, stage_name, model)
    for what, parts, limit in (
        ("device", device, _USABLE * pod.chip.hbm_bytes),
        ("host", host, pod.host.memory_bytes),
    ):
        if sum(parts.values()) > limit:
            listed = " + ".join(f"{name} {size / GB:.1f}" for name, size in parts.items())
            found.append(f"{pod.name}, {stage_name}: a {what} needs {listed} GB of {limit / GB:.1f}")
    if pod.threads > pod.host.cores:
        found.append(f"{pod.name}: {pod.threads} threads on hosts of {pod.host.cores} cores")
    return found
