# SPDX-License-Identifier: MIT
"""The disks of a device, and what is mounted from them or claims them."""

import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.base.signals import held_signals
from iommufd_py.base.sysfs import attribute_text, entries

_BLOCK = Path("/sys/class/block")
_SWAPS = Path("/proc/swaps")
# What the kernel writes for blanks in paths of its tables: three octal digits.
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount: its file system's device as ``major:minor``, what was mounted, where, and of which type."""

    number: str
    source: str
    target: str
    type: str


def parse_mounts(mountinfo: str) -> tuple[Mount, ...]:
    """Read /proc/self/mountinfo (Documentation/filesystems/proc.rst, 3.5)."""
    mounts = []
    for line in mountinfo.splitlines():
        place, _, what = line.partition(" - ")
        fields, (kind, source, *_) = place.split(), what.split()
        mounts.append(Mount(fields[2], _unescape(source), _unescape(fields[4]), kind))
    return tuple(mounts)


def parse_swaps(text: str) -> tuple[str, ...]:
    """Return the paths in /proc/swaps."""
    return tuple(_unescape(line.split()[0]) for line in text.splitlines()[1:])


def swaps() -> tuple[str, ...]:
    """Return the nodes and files that are swap space now."""
    return parse_swaps(_SWAPS.read_text()) if _SWAPS.exists() else ()


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def number_of_node(path: str) -> str:
    """Return ``major:minor`` of a block device's node, empty for anything else."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    if not stat.S_ISBLK(status.st_mode):
        return ""
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def nvme_subsystems(device: Path) -> tuple[Path, ...]:
    """Return the subsystems that an NVMe controller belongs to: with multipath, the disks stand below those."""
    return tuple(
        subsystem.resolve()
        for subsystem in entries(Path("/sys/class/nvme-subsystem"))
        if any(controller.resolve().is_relative_to(device) for controller in entries(subsystem, "nvme*"))
    )


def disks_beneath(device: Path) -> dict[str, str]:
    """Return by ``major:minor`` the names of a device's disks and partitions, and of all that is built on them."""
    roots = (device, *nvme_subsystems(device))
    names = [one.name for one in entries(_BLOCK) if any(one.resolve().is_relative_to(root) for root in roots)]
    found: dict[str, str] = {}
    while names:
        name = names.pop()
        number = attribute_text(_BLOCK / name / "dev")
        if number and number not in found:
            found[number] = name
            names += [holder.name for holder in entries(_BLOCK / name / "holders")]
    return found


def partitions(disk: str) -> set[str]:
    """Return the names of a disk's partitions."""
    return {one.parent.name for one in entries(_BLOCK / disk, "*/partition")}


def is_claimed(disk: str) -> bool:
    """Tell whether something inside the kernel holds a disk for itself; False also where that may not be asked."""
    try:
        # O_EXCL without O_CREAT on a block device: refused while a file system, swap, RAID or the like holds it.
        with held_signals():
            os.close(os.open(f"/dev/{disk}", os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as failure:
        return failure.errno == errno.EBUSY
    return False
