"""v5e-16: 16 chips, 4x4, on 4 hosts."""

from grain_molmo.pods import Pod, StageRun

POD = Pod(
    name="v5e-16",
    threads=48,
    pretraining=StageRun(fsdp=16, rows=4),
    sft=StageRun(fsdp=16),
    long_context=StageRun(fsdp=2, context=8),
)
