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
        machine: the lab's description of its guest; empty outside of the lab.
        kernel_release: the release of the running kernel (``uname -r``).
        kernel_variant: the lab's name of the kernel, ``stock``, ``patched`` or a path; empty outside of the lab.
        cpu: model name of the CPU.
        cpus: number of CPUs.
        command_line: the command line of the running kernel.
        noncoherent_knob: whether the test parameter of our flush series makes HWPTs non-coherent although the IOMMU can
            enforce coherency; None on a kernel without the parameter.
        config: the running kernel's value of each option on which times depend (``y``, ``n``, a number); None if
            neither /proc/config.gz nor /boot nor /lib/modules has its configuration.
        microcode: revision of the CPU's microcode, None where the kernel does not tell.
        thp: transparent huge pages, ``always``, ``madvise`` or ``never``; None on a kernel without them.
        governor: the governor of the CPU's frequency; None if the frequency is fixed or the kernel does not tell.
        turbo: whether the CPU may exceed its base frequency, None where the kernel does not tell.
        numa_nodes: memory nodes that are online.
        compiler: the compiler that built the kernel (CONFIG_CC_VERSION_TEXT or /proc/version); empty if unknown.
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
