"""v5p-8: 4 chips (8 TensorCores), 2x2x1, on one host."""

from grain_molmo.pods import Pod, StageRun

POD = Pod(
    name="v5p-8",
    threads=96,
    pretraining=StageRun(fsdp=4, rows=32),
    sft=StageRun(fsdp=4, rows=8),
    long_context=StageRun(fsdp=4, rows=2),
)
