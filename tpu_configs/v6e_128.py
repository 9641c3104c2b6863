"""v6e-128: 128 chips, 8x16, on 32 hosts."""

from grain_molmo.pods import Pod, StageRun

POD = Pod(
    name="v6e-128",
    threads=80,
    pretraining=StageRun(data=2, fsdp=64, rows=2),
    sft=StageRun(data=2, fsdp=64),
    long_context=StageRun(data=2, fsdp=64),
)
