# SPDX-License-Identifier: MIT
"""Read the state of a process that uses an IOMMU, without a watch."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from iommufd_py import vtd
from iommufd_py.base.errors import SkipError, ToolError
from iommufd_py.base.privilege import permission_remedy
from iommufd_py.base.sysfs import attribute_text, entries
from iommufd_py.explain.memory import MemoryArea, largest, physical_runs, read_areas
from iommufd_py.host import iommus
from iommufd_py.vtd.coherency import Flushes

_GROUPS = Path("/sys/kernel/iommu_groups")
_CDEVS = Path("/sys/class/vfio-dev")


class DescriptorKind(StrEnum):
    """The kind of a descriptor."""

    IOMMUFD = "iommufd"
    CONTAINER = "VFIO container"
    GROUP = "VFIO group"
    CDEV = "VFIO cdev"
    DEVICE = "VFIO device"


# The form of the links in /proc/PID/fd. A mount namespace can add a path before it.
_LINKS = (
    (re.compile(r"(?:/.*)?/dev/iommu"), DescriptorKind.IOMMUFD),
    (re.compile(r"(?:/.*)?/dev/vfio/vfio"), DescriptorKind.CONTAINER),
    (re.compile(r"(?:/.*)?/dev/vfio/(?:noiommu-)?(\d+)"), DescriptorKind.GROUP),
    (re.compile(r"(?:/.*)?/dev/vfio/devices/((?:noiommu-)?vfio\d+)"), DescriptorKind.CDEV),
    (re.compile(r"anon_inode:\[vfio-device\]"), DescriptorKind.DEVICE),
)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """An open file of /dev/iommu or /dev/vfio: number, kind, path, and the names of the devices behind it."""

    number: int
    kind: DescriptorKind
    path: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the process.

    Attributes:
        bdf: PCI address, or the UUID of a mediated device.
        iommu: name of its IOMMU, empty for none.
        flushes: the flushes that a domain of the device needs; None without an IOMMU.
        leaves: number of leaves in its page table by their bytes; None if they are not shown.
        leaves_problem: the reason why they are not shown; empty if they are.
    """

    bdf: str
    iommu: str
    flushes: Flushes | None
    leaves: Mapping[int, int] | None
    leaves_problem: str


@dataclass(frozen=True, slots=True)
class AreaState:
    """An area of memory, and the physically contiguous runs at its start by their bytes; None if hidden."""

    area: MemoryArea
    runs: Mapping[int, int] | None


@dataclass(frozen=True, slots=True)
class ProcessState:
    """The state of a process.

    Attributes:
        name: name of the program.
        descriptors: its open files of IOMMUs.
        devices: the devices of all descriptors.
        pinned_bytes: VmPin, the count of iommufd.
        locked_bytes: VmLck, the count of type1; it includes memory that the process locked itself.
        memlock_bytes: RLIMIT_MEMLOCK; None for no limit.
        areas: the largest areas of its memory.
    """

    pid: int
    name: str
    descriptors: tuple[Descriptor, ...]
    devices: tuple[Device, ...]
    pinned_bytes: int
    locked_bytes: int
    memlock_bytes: int | None
    areas: tuple[AreaState, ...]


def process_state(pid: int) -> ProcessState:
    """Return the state of a process.

    Raises:
        ToolError: the process does not exist, or has no IOMMU descriptor.
        SkipError: this process may not read the state of the other one.
    """
    process = Path("/proc", str(pid))
    status = attribute_text(process / "status")
    if not status:
        raise ToolError(f"there is no process {pid}: 'pgrep -l NAME' finds the PID of a program")
    name = attribute_text(process / "comm")
    if (leader := _value(status, "Tgid")) != pid:
        raise ToolError(f"{pid} is a thread of process {leader}: give that PID")
    if re.search(r"^State:\s+[ZX]", status, re.MULTILINE):
        if _value(status, "Threads") > 1:
            raise ToolError(
                f"the first thread of process {pid} ({name}) has ended, so the kernel does not show the memory and the "
                "files that its other threads use"
            )
        raise ToolError(f"process {pid} ({name}) has ended, and its parent has not waited for it yet")
    try:
        descriptors = tuple(_descriptors(process))
        areas = tuple(AreaState(area, physical_runs(pid, area.start, area.length)) for area in largest(read_areas(pid)))
        limits = (process / "limits").read_text()
    except PermissionError:
        raise SkipError(f"process {pid} ({name}) may not be read: {permission_remedy()}") from None
    except (FileNotFoundError, ProcessLookupError):
        raise ToolError(f"process {pid} ({name}) has ended") from None
    if not any(one.kind in (DescriptorKind.IOMMUFD, DescriptorKind.CONTAINER) for one in descriptors):
        raise ToolError(
            f"process {pid} ({name}) has neither /dev/iommu nor a VFIO container open: give the PID of the process "
            "that maps, such as the VMM; 'fuser -v /dev/iommu /dev/vfio/vfio' shows the users"
        )
    pinned, locked = (_value(status, field) << 10 for field in ("VmPin", "VmLck"))
    bdfs = sorted({bdf for one in descriptors for bdf in one.devices})
    return ProcessState(
        pid,
        name,
        descriptors,
        tuple(_devices(bdfs, max(pinned, locked))),
        pinned,
        locked,
        parse_memlock(limits),
        areas,
    )


def _value(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+([0-9]{{1,20}})\b", status, re.MULTILINE)
    return int(found[1]) if found else 0


def parse_memlock(limits: str) -> int | None:
    """Return the soft RLIMIT_MEMLOCK from /proc/PID/limits, None for no limit."""
    found = re.search(r"^Max locked memory +([0-9]{1,20}) ", limits, re.MULTILINE)
    return int(found[1]) if found else None


def _descriptors(process: Path) -> Iterator[Descriptor]:
    for number in sorted(map(int, os.listdir(process / "fd"))):
        try:
            path = os.readlink(process / "fd" / str(number))
        except FileNotFoundError:  # The process has closed it in between.
            continue
        found = classify(path)
        if found is not None:
            kind, name = found
            yield Descriptor(number, kind, path, _devices_behind(kind, name, process / "fdinfo" / str(number)))


def classify(path: str) -> tuple[DescriptorKind, str] | None:
    """Return the kind of a link in /proc/PID/fd, and the name of its group or cdev; None for another file."""
    for link, kind in _LINKS:
        if match := link.fullmatch(path):
            return kind, match[1] if match.groups() else ""
    return None


def _devices_behind(kind: DescriptorKind, name: str, fdinfo: Path) -> tuple[str, ...]:
    if kind is DescriptorKind.GROUP:
        return tuple(one.name for one in entries(_GROUPS / name / "devices"))
    if kind is DescriptorKind.CDEV:
        device = _CDEVS / name / "device"
        return (device.resolve().name,) if device.exists() else ()
    if kind is DescriptorKind.DEVICE:
        found = re.search(r"^vfio-device-syspath:\s+\S*/(\S+)$", attribute_text(fdinfo), re.MULTILINE)
        return (found[1],) if found else ()
    return ()


def _devices(bdfs: Sequence[str], mapped_bytes: int) -> Iterator[Device]:
    units = iommus()
    for bdf in bdfs:
        unit = next((one for one in units if bdf in one.devices), None)
        leaves, problem = None, ""
        if mapped_bytes > vtd.MAX_BYTES:
            problem = (
                "not read, because there are too many: the kernel holds the IOMMU's lock while it prints all leaves"
            )
        else:
            leaves = vtd.all_leaf_sizes(bdf)
            if leaves is None:
                problem = "not shown: only VT-d with CONFIG_INTEL_IOMMU_DEBUGFS shows them, to root"
        yield Device(bdf, unit.name if unit else "", unit.flushes() if unit else None, leaves, problem)
