"""TPU pods: how many rows a second a stage asks of each host, and whether all of it fits."""

from grain_molmo.pods.chips import CHIPS, Chip, Host
from grain_molmo.pods.model import MOLMO2_4B, Transformer, VisionLanguageModel
from grain_molmo.pods.needs import MFU, Needs, device_bytes, host_bytes, needs, problems
from grain_molmo.pods.pod import Pod, StageRun

__all__ = [
    "CHIPS",
    "MFU",
    "MOLMO2_4B",
    "Chip",
    "Host",
    "Needs",
    "Pod",
    "StageRun",
    "Transformer",
    "VisionLanguageModel",
    "device_bytes",
    "host_bytes",
    "needs",
    "problems",
]
