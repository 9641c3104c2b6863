"""v6e-64: 64 chips, 8x8, on 16 hosts."""

from grain_molmo.pods import Pod, StageRun

POD = Pod(
    name="v6e-64",
    threads=80,
    pretraining=StageRun(fsdp=64, rows=4),
    sft=StageRun(fsdp=64, rows=2),
    long_context=StageRun(fsdp=64),
)
