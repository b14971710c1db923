# SPDX-License-Identifier: MIT
"""A description of a machine and its kernel, as results carry it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Platform(StrEnum):
    """The kind of machine that a kernel runs on."""

    TCG = "tcg"
    """On QEMU's emulated CPU, instruction by instruction."""
    KVM = "kvm"
    VIRTUAL = "virtual machine"
    UML = "uml"
    """User-Mode Linux: a kernel as a process, with the CPU and the caches of its host. It has no IOMMU of its own."""
    BARE_METAL = "bare metal"


@dataclass(frozen=True, slots=True)
class Environment:
    """The properties of the machine that affect DMA mapping times.

    Attributes:
        platform: one of :class:`Platform`.
        machine: the lab's description of its virtual machine; empty outside the lab.
        kernel_variant: ``stock``, ``patched`` or a path, from the lab; empty outside the lab.
        noncoherent_knob: whether HWPTs are made non-coherent although the IOMMU could enforce coherency, by the test
            parameter of our flush series; None on a kernel without it.
        config: the running kernel's value of each option on which times depend (``y``, ``n``, a number); None if
            neither /proc/config.gz nor /boot nor /lib/modules has its configuration.
        microcode: revision of the CPU's microcode, None where the kernel does not tell.
        thp: setting of transparent huge pages, ``always``, ``madvise`` or ``never``; None on a kernel without them.
        governor: governor of the CPU's frequency; None if the frequency is fixed or unknown.
        turbo: whether the CPU may exceed its base frequency, None where the kernel does not tell.
        numa_nodes: the online memory nodes.
        compiler: the compiler of the kernel (CONFIG_CC_VERSION_TEXT or /proc/version); empty if unknown.
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
