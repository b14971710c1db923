# SPDX-License-Identifier: MIT
"""The kernel's tables of mounts and of swap space.

Source: proc(5); section 3.5 of Documentation/filesystems/proc.rst.
"""

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.base.errors import DeviceError
from iommufd_py.base.shown import shown
from iommufd_py.base.sysfs import limit_named
from iommufd_py.pci.users.processes import process_namespaces

# The kernel writes blanks in paths of its tables as three octal digits.
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount.

    Attributes:
        number: device of its file system as ``major:minor``.
        source: mounted device or share.
        target: mount point.
        type: type of the file system.
        id: number of the mount, in all mount namespaces.
        place: mount namespace of the mount, as a clause; empty for our own.
    """

    number: str
    source: str
    target: str
    type: str
    id: str = ""
    place: str = ""


def parse_mounts(mountinfo: str, place: str = "") -> tuple[Mount, ...]:
    """Read /proc/PID/mountinfo.

    Args:
        mountinfo: content of the file.
        place: mount namespace of the process, as a clause; empty for our own.

    Raises:
        DeviceError: a line has an unknown form.
    """
    mounts = []
    # The kernel escapes blanks, tabs and newlines in names, and no other character that Python takes for white space.
    for line in filter(None, mountinfo.split("\n")):
        head, _, tail = line.partition(" - ")
        fields, (kind, source, *_) = head.split(" "), (tail + " ").split(" ")
        if len(fields) < 6 or not kind:
            # The device of the mount is not known. To leave the mount out could mean that a device in use seems free.
            raise DeviceError(f"the kernel's table of mounts has a line of unknown form: {shown(line)}")
        mounts.append(Mount(fields[2], _unescape(source), _unescape(fields[4]), kind, fields[0], place))
    return tuple(mounts)


def parse_swaps(text: str) -> tuple[str, ...]:
    """Return the paths in *text*, the content of /proc/swaps."""
    return tuple(_unescape(re.split("[ \t]", line)[0]) for line in text.split("\n")[1:] if line)


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def mounts_everywhere() -> tuple[Mount, ...]:
    """Return the mounts of our mount namespace, and of all others that have a process."""
    found = [*_mounts_of(Path("/proc/self"))]
    for file, name in process_namespaces("mnt"):
        with contextlib.suppress(OSError):
            found += _mounts_of(file.parents[1], f" in the mount namespace {name}")
    return tuple(found)


def _mounts_of(process: Path, place: str = "") -> tuple[Mount, ...]:
    file = process / "mountinfo"
    with limit_named(file):
        return parse_mounts(file.read_text("utf-8", "surrogateescape"), place)
