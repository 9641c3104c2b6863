"""v5p-256: 128 chips (256 TensorCores), 4x4x8, on 32 hosts."""

from grain_molmo.pods import Pod, StageRun

POD = Pod(
    name="v5p-256",
    threads=96,
    pretraining=StageRun(data=2, fsdp=64, rows=2),
    sft=StageRun(data=2, fsdp=64),
    long_context=StageRun(data=2, fsdp=64),
)
