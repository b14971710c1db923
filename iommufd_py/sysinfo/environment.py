# SPDX-License-Identifier: MIT
"""What a result must say about the machine it comes from."""

import gzip
import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

__all__ = ["NONCOHERENT_KNOB", "Environment", "Platform", "environment", "pinned_bytes"]

NONCOHERENT_KNOB = Path("/sys/module/iommufd/parameters/test_noncoherent_hwpt")

# Options that make a kernel unfit for absolute figures, with what they cost.
_COSTLY_CONFIG = ("IOMMUFD_TEST", "KASAN", "PROVE_LOCKING", "DEBUG_PAGEALLOC", "FAULT_INJECTION", "DEBUG_LIST")


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
        costly_config: options of the running kernel that slow the measured paths; None if /proc/config.gz is absent.
    """

    kernel_release: str
    kernel_variant: str
    platform: str
    machine: str
    cpu: str
    cpus: int
    command_line: str
    noncoherent_knob: bool | None
    costly_config: tuple[str, ...] | None

    @property
    def emulated(self) -> bool:
        """Whether times here say nothing about hardware."""
        return self.platform == Platform.TCG


def environment() -> Environment:
    """Describe the running machine."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    return Environment(
        kernel_release=os.uname().release,
        kernel_variant=os.environ.get("IOMMUFD_LAB_KERNEL", ""),
        platform=os.environ.get("IOMMUFD_LAB_ACCEL") or _platform(cpuinfo),
        machine=os.environ.get("IOMMUFD_LAB_MACHINE", ""),
        cpu=os.environ.get("IOMMUFD_LAB_CPU") or (model[1] if model else os.uname().machine),
        cpus=len(os.sched_getaffinity(0)),
        command_line=Path("/proc/cmdline").read_text().strip(),
        noncoherent_knob=NONCOHERENT_KNOB.read_text().strip() == "Y" if NONCOHERENT_KNOB.exists() else None,
        costly_config=_costly_config(),
    )


def _platform(cpuinfo: str) -> str:
    # QEMU names its software CPU so; under KVM the model is the host's or a real CPU's.
    if "QEMU TCG" in cpuinfo:
        return Platform.TCG
    if re.search(r"^vendor_id\s*: User Mode Linux$", cpuinfo, re.MULTILINE):
        return Platform.UML
    flags = re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE)
    return Platform.VIRTUAL if flags else Platform.BARE_METAL


def _costly_config() -> tuple[str, ...] | None:
    packed = Path("/proc/config.gz")
    if not packed.exists():
        return None
    lines = set(gzip.decompress(packed.read_bytes()).decode().splitlines())
    return tuple(option for option in _COSTLY_CONFIG if f"CONFIG_{option}=y" in lines)


def pinned_bytes() -> int:
    """Return how much memory of this process is pinned: VmPin in /proc/self/status, which all accounting modes feed."""
    match = re.search(r"^VmPin:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(match[1]) << 10 if match else 0
