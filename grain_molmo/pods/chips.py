"""TPU chips and the hosts that they come in, as the public Cloud TPU documentation gives them (2026).

Its pages on v5e, v5p and v6e have the peak bf16 arithmetic and the memory of a chip, and the virtual CPUs and the
memory of each type of machine. A slice of several hosts has four chips a host; eight chips of v5e or v6e are also to be
had in one. Gigabytes are taken as 10^9, which is a little less than what is there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

GB = 10**9


@dataclass(frozen=True, kw_only=True)
class Host:
    """A machine with TPU chips.

    Attributes:
        chips: that it holds.
        vcpus: virtual CPUs; two are one core.
        memory_bytes: of its main memory.
    """

    chips: int
    vcpus: int
    memory_bytes: int

    @property
    def cores(self) -> int:
        """Physical cores."""
        return self.vcpus // 2


@dataclass(frozen=True, kw_only=True)
class Chip:
    """A TPU chip, which is one device to JAX.

    Attributes:
        peak_flops: bf16 operations a second.
        hbm_bytes: of its memory.
        counted: what one chip counts in a pod's name: its TensorCores in v5p-8, itself in v5e-8 and v6e-8.
        slices: sides of the grid of a slice, by its chips; of the slices that can be had those of 4 to 256.
        hosts: machines, the one for slices of several hosts last.
    """

    peak_flops: float
    hbm_bytes: int
    counted: int
    slices: Mapping[int, tuple[int, ...]]
    hosts: tuple[Host, ...]

    def host(self, chips: int) -> Host:
        """The machine that slices of so many `chips` are made of: one that holds all of them, or the last."""
        return next((host for host in self.hosts if host.chips == chips), self.hosts[-1])


_FLAT = {8: (2, 4), 16: (4, 4), 32: (4, 8), 64: (8, 8), 128: (8, 16), 256: (16, 16)}

CHIPS: dict[str, Chip] = {
    "v5e": Chip(
        peak_flops=197e12,
        hbm_bytes=16 * GB,
        counted=1,
        slices=_FLAT,
        hosts=(
            Host(chips=8, vcpus=224, memory_bytes=384 * GB),
            Host(chips=4, vcpus=112, memory_bytes=192 * GB),
        ),
    ),
    "v5p": Chip(
        peak_flops=459e12,
        hbm_bytes=95 * GB,
        counted=2,
        slices={
            4: (2, 2, 1),
            8: (2, 2, 2),
            16: (2, 2, 4),
            32: (2, 4, 4),
            64: (4, 4, 4),
            128: (4, 4, 8),
            256: (4, 8, 8),
        },
        hosts=(Host(chips=4, vcpus=208, memory_bytes=448 * GB),),
    ),
    "v6e": Chip(
        peak_flops=918e12,
        hbm_bytes=32 * GB,
        counted=1,
        slices=_FLAT,
        hosts=(
            Host(chips=8, vcpus=180, memory_bytes=1440 * GB),
            Host(chips=4, vcpus=180, memory_bytes=720 * GB),
        ),
    ),
}
"""The generations by name."""
