"""v5e-32: 32 chips, 4x8, on 8 hosts."""

from grain_molmo.pods import Pod, StageRun

POD = Pod(
    name="v5e-32",
    threads=48,
    pretraining=StageRun(fsdp=32, rows=4),
    sft=StageRun(fsdp=32),
    long_context=StageRun(fsdp=16, context=2),
)
