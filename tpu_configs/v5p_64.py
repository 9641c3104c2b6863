"""v5p-64: 32 chips (64 TensorCores), 2x4x4, on 8 hosts."""

from grain_molmo.pods import Pod, StageRun

POD = Pod(
    name="v5p-64",
    threads=96,
    pretraining=StageRun(fsdp=32, rows=8),
    sft=StageRun(fsdp=32, rows=4),
    long_context=StageRun(fsdp=32, rows=4),
)
