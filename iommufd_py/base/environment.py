# SPDX-License-Identifier: MIT
"""A description of a machine and its kernel, as results carry it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Platform(StrEnum):
    """Where a kernel runs."""

    TCG = "tcg"
    """On QEMU's emulated CPU, instruction by instruction."""
    KVM = "kvm"
    VIRTUAL = "virtual machine"
    UML = "uml"
    """User-Mode Linux: a kernel as a process, with the CPU and the caches of its host. It has no IOMMU of its own."""
    BARE_METAL = "bare metal"


@dataclass(frozen=True, slots=True)
class Environment:
    """The machine, as far as it matters for DMA mapping times.

    Attributes:
        platform: one of :class:`Platform`.
        machine: what the lab says of the machine it built, empty outside of it.
        kernel_variant: ``stock``, ``patched`` or a path, as the lab says; empty outside of it.
        noncoherent_knob: whether HWPTs are made non-coherent although the IOMMU could enforce coherency, by the test
            parameter of our flush series; None on a kernel without it.
        config: the running kernel's value of each option on which times depend (``y``, ``n``, a number); None if
            neither /proc/config.gz nor /boot nor /lib/modules has its configuration.
        microcode: revision of the CPU's microcode, None where the kernel does not tell.
        thp: transparent huge pages, ``always``, ``madvise`` or ``never``; None on a kernel without.
        governor: of the CPU's frequency, None where it does not change or cannot be seen.
        turbo: whether the CPU may exceed its base frequency, None where the kernel does not tell.
        numa_nodes: memory nodes that are online.
        compiler: that built the kernel (CONFIG_CC_VERSION_TEXT or /proc/version); empty where unknown.
    """

    kernel_release: str
    kernel_variant: str
    platform: str
    machine: str
    cpu: str
    cpus: int
    command_line: str
    noncoherent_knob: bool | None
    config: Mapping[str, str] | None
    microcode: str | None
    thp: str | None
    governor: str | None
    turbo: bool | None
    numa_nodes: int
    compiler: str = ""

    @property
    def emulated(self) -> bool:
        """Whether times here say nothing about hardware."""
        return self.platform == Platform.TCG
