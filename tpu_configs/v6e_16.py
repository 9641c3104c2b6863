"""v6e-16: 16 chips, 4x4, on 4 hosts."""

from grain_molmo.pods import Pod, StageRun

POD = Pod(
    name="v6e-16",
    threads=80,
    pretraining=StageRun(fsdp=16, rows=8),
    sft=StageRun(fsdp=16, rows=2),
    long_context=StageRun(fsdp=16),
)
