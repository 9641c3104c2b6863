"""The form of the files in `tpu_configs`: what a person chooses for a pod, and what follows from it for a trainer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from grain_molmo.axes import CONTEXT_AXIS, ROW_AXES
from grain_molmo.errors import ConfigError
from grain_molmo.pods.chips import CHIPS, Chip, Host
from grain_molmo.stages import STAGES, Stage

if TYPE_CHECKING:
    import jax

MESH_AXES = (*ROW_AXES, CONTEXT_AXIS)


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """How a pod trains a stage.

    Attributes:
        data: the model is held so many times, each time with other rows.
        fsdp: devices that share the model; each has other rows, too.
        context: devices that share a row's tokens and crops; they share the model as those of fsdp do.
        rows: that such a group computes at a time; the trainer sums the gradients of a batch over `Pod.passes`.
        batch_size: rows of the global batch; None for the stage's own, so that a run can move from pod to pod.
    """

    data: int = 1
    fsdp: int
    context: int = 1
    rows: int = 1
    batch_size: int | None = None

    @property
    def row_shards(self) -> int:
        """Groups of devices with rows of their own."""
        return self.data * self.fsdp

    @property
    def model_shards(self) -> int:
        """Devices that share one copy of the model."""
        return self.fsdp * self.context


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A slice of TPU chips, and how it trains each of the three stages.

    Attributes:
        name: as the cloud has it: "v5e-16" has 16 chips, "v5p-16" has 8, of two TensorCores each.
        threads: of the loader on each host.
        pretraining, sft, long_context: the stages.

    Raises:
        ConfigError: there is no such pod, its devices do not multiply out, or a batch does not divide.
    """

    name: str
    threads: int
    pretraining: StageRun
    sft: StageRun
    long_context: StageRun

    def __post_init__(self) -> None:
        generation, _, count = self.name.partition("-")
        chip = CHIPS.get(generation)
        if chip is None or not re.fullmatch("[1-9][0-9]*", count) or int(count) not in _counts(chip):
            known = ", ".join(f"{name}-{count}" for name, each in CHIPS.items() for count in _counts(each))
            raise ConfigError(f"pod {self.name!r}: there is no such shape; one of {known}")
        for name in STAGES:
            self._check(name)

    def _check(self, stage_name: str) -> None:
        """Raises ConfigError for numbers that do not multiply out or divide."""
        run, stage, where = self.run(stage_name), self.stage(stage_name), f"pod {self.name}, {stage_name}"
        if run.row_shards * run.context != self.chips:
            shape = " x ".join(f"{axis} {getattr(run, axis)}" for axis in MESH_AXES)
            raise ConfigError(f"{where}: {shape} is not {self.chips} devices")
        if stage.batch_size % (run.row_shards * run.rows):
            part = f"{run.rows} rows on each of {run.row_shards} shards"
            raise ConfigError(f"{where}: a batch of {stage.batch_size} rows is no whole number of passes of {part}")
        if stage.seq_len % run.context:
            raise ConfigError(f"{where}: {stage.seq_len} tokens do not divide among {run.context} context shards")

    @property
    def chip(self) -> Chip:
        """What it is made of."""
        return CHIPS[self.name.partition("-")[0]]

    @property
    def chips(self) -> int:
        """How many, which is the number of JAX's devices."""
        return int(self.name.partition("-")[2]) // self.chip.counted

    @property
    def host(self) -> Host:
        """Each of its machines."""
        return self.chip.host(self.chips)

    @property
    def hosts(self) -> int:
        """Machines, which is the number of JAX's processes."""
        return self.chips // self.host.chips

    def run(self, stage_name: str) -> StageRun:
        """How it trains the stage `stage_name`. Raises ConfigError for another than the three."""
        if stage_name not in STAGES:
            raise ConfigError(f"stage {stage_name!r}: one of {', '.join(STAGES)}")
        return getattr(self, stage_name)

    def stage(self, stage_name: str) -> Stage:
        """The stage `stage_name` with the batch that this pod takes. Raises ConfigError as `run`."""
        run, stage = self.run(stage_name), STAGES[stage_name]
        return stage if run.batch_size is None else replace(stage, batch_size=run.batch_size)

    def passes(self, stage_name: str) -> int:
        """Forward and backward passes over the parts of a batch of `stage_name` before the parameters change."""
        run = self.run(stage_name)
        return self.stage(stage_name).batch_size // (run.row_shards * run.rows)

    def host_rows(self, stage_name: str) -> float:
        """Rows of a batch of `stage_name` that each host renders; a row that hosts share counts on each of them."""
        hosts_a_row = max(1, self.run(stage_name).context // self.host.chips)
        return self.stage(stage_name).batch_size * hosts_a_row / self.hosts

    def mesh(self, stage_name: str, devices: Sequence[Any] | None = None) -> "jax.sharding.Mesh":
        """The mesh with axes "data", "fsdp" and "context".

        Args:
            stage_name: whose layout.
            devices: as many as the pod has; default all of JAX's.

        Raises:
            ConfigError: there are more or fewer devices than the pod's, or no such stage.
        """
        import jax  # here, for sizes and the command line need none of it
        from jax.experimental.mesh_utils import create_device_mesh

        run = self.run(stage_name)
        devices = jax.devices() if devices is None else devices
        if len(devices) != self.chips:
            raise ConfigError(f"pod {self.name} has {self.chips} devices, here are {len(devices)}")
        shape = tuple(getattr(run, axis) for axis in MESH_AXES)
        # Not `jax.make_mesh`, which on v5p and v6e does not split a side of the slice between two axes.
        arranged = create_device_mesh(shape, devices, allow_split_physical_axes=True)
        return jax.sharding.Mesh(arranged, MESH_AXES)

    def loader_args(self, stage_name: str, devices: Sequence[Any] | None = None) -> dict[str, Any]:
        """Arguments of `make_loader`: stage, batch size, threads and mesh.

        Args:
            stage_name, devices: as of `mesh`.
        """
        return {
            "stage": stage_name,
            "batch_size": self.stage(stage_name).batch_size,
            "num_threads": self.threads,
            "mesh": self.mesh(stage_name, devices),
        }


def _counts(chip: Chip) -> list[int]:
    return [size * chip.counted for size in chip.slices]
