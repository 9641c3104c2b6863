"""v6e-256: 256 chips, 16x16, on 64 hosts."""

from grain_molmo.pods import Pod, StageRun

POD = Pod(
    name="v6e-256",
    threads=80,
    pretraining=StageRun(data=4, fsdp=64),
    sft=StageRun(data=2, fsdp=64, context=2),
    long_context=StageRun(data=2, fsdp=64, context=2),
)
