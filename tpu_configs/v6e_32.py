"""v6e-32: 32 chips, 4x8, on 8 hosts."""

from grain_molmo.pods import Pod, StageRun

POD = Pod(
    name="v6e-32",
    threads=80,
    pretraining=StageRun(fsdp=32, rows=8),
    sft=StageRun(fsdp=32, rows=2),
    long_context=StageRun(fsdp=32),
)
