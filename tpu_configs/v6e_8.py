"""v6e-8: 8 chips, 2x4, on one host."""

from grain_molmo.pods import Pod, StageRun

POD = Pod(
    name="v6e-8",
    threads=80,
    pretraining=StageRun(fsdp=8, rows=8),
    sft=StageRun(fsdp=8, rows=2),
    long_context=StageRun(fsdp=4, context=2),
)
