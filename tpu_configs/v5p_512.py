"""v5p-512: 256 chips (512 TensorCores), 4x8x8, on 64 hosts."""

from grain_molmo.pods import Pod, StageRun

POD = Pod(
    name="v5p-512",
    threads=96,
    pretraining=StageRun(data=4, fsdp=64),
    sft=StageRun(data=2, fsdp=64, context=2),
    long_context=StageRun(data=2, fsdp=64, context=2),
)
