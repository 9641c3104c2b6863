"""v5p-32: 16 chips (32 TensorCores), 2x2x4, on 4 hosts."""

from grain_molmo.pods import Pod, StageRun

POD = Pod(
    name="v5p-32",
    threads=96,
    pretraining=StageRun(fsdp=16, rows=16),
    sft=StageRun(fsdp=16, rows=8),
    long_context=StageRun(fsdp=16, rows=4),
)
