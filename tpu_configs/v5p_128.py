"""v5p-128: 64 chips (128 TensorCores), 4x4x4, on 16 hosts."""

from grain_molmo.pods import Pod, StageRun

POD = Pod(
    name="v5p-128",
    threads=96,
    pretraining=StageRun(fsdp=64, rows=4),
    sft=StageRun(fsdp=64, rows=2),
    long_context=StageRun(fsdp=64, rows=2),
)
