"""v5p-16: 8 chips (16 TensorCores), 2x2x2, on 2 hosts."""

from grain_molmo.pods import Pod, StageRun

POD = Pod(
    name="v5p-16",
    threads=96,
    pretraining=StageRun(fsdp=8, rows=32),
    sft=StageRun(fsdp=8, rows=8),
    long_context=StageRun(fsdp=8, rows=4),
)
