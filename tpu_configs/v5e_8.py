"""v5e-8: 8 chips, 2x4, on one host."""

from grain_molmo.pods import Pod, StageRun

POD = Pod(
    name="v5e-8",
    threads=96,
    pretraining=StageRun(fsdp=8),
    # The batches of the next two stages leave no room beside the model: sum gradients over 4, and over 8 of them.
    sft=StageRun(fsdp=2, context=4, batch_size=32),
    long_context=StageRun(fsdp=1, context=8, batch_size=16),
)
