# SPDX-License-Identifier: MIT
"""The files and the namespaces of other processes, by /proc. No slow or remote file system is asked for any of them.

Source: proc(5). Only root sees the files of all processes.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.base.sysfs import attribute_text, entries, kernel_text, limit_named, process_fields

PHYSICAL_MEMORY = "/dev/mem"
"""The node through which a program maps physical addresses."""

_PROC = Path("/proc")
_CAP_SYS_PTRACE = 19  # include/uapi/linux/capability.h
_HEX = "([0-9a-f]{1,16})"
_RING = "anon_inode:[io_uring]"
_REGISTERED = re.compile(r"^ *[0-9]+: (.+)$", re.MULTILINE)
_MAPPING = re.compile(rf"^{_HEX}-{_HEX} \S+ {_HEX} {_HEX}:{_HEX} ([1-9][0-9]*) +(/.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A file that a process has open.

    Attributes:
        path: path of the file, or what the kernel shows for a file without one, such as ``pipe:[1]``.
        link: its link in the ``fd`` of the process, or of one of its threads.
    """

    path: str
    link: Path

    @property
    def details(self) -> Path:
        """The kernel's description of the open file (``fdinfo``)."""
        return self.link.parents[1] / "fdinfo" / self.link.name


@dataclass(frozen=True, slots=True)
class MappedFile:
    """A file that a process has mapped into its memory, or a part of it.

    Attributes:
        path: path of the file, relative to the root of its mount if that is in no mount namespace any more.
        file_system: device number of the file system as ``major:minor``.
        inode: number of the file in its file system.
        link: its link in the ``map_files`` of the process, or of one of its threads.
        start: first byte of the file that is mapped.
        length: bytes from *start* on that are mapped.
    """

    path: str
    file_system: str
    inode: str
    link: Path
    start: int = 0
    length: int = 0


def processes() -> list[Path]:
    """Return the directories in /proc of all processes, by number.

    If the first thread of a process has ended, its directory shows no files and no namespaces. Then the directory of
    another thread stands for the process.
    """
    return [_with_files(one) for one in sorted(entries(_PROC, "[0-9]*"), key=lambda path: int(path.name))]


def _with_files(process: Path) -> Path:
    with contextlib.suppress(PermissionError):  # Procfs can hide the processes of other users (hidepid).
        if process_fields(int(process.name))[:1] == ["Z"]:
            return next((one for one in entries(process / "task", "[0-9]*") if one.name != process.name), process)
    return process


def process_title(process: Path) -> str:
    """Return the name and the number of a process, for a message."""
    return f"{attribute_text(process / 'comm')} (process {process.relative_to(_PROC).parts[0]})"


def process_namespaces(kind: str) -> Iterator[tuple[Path, str]]:
    """Yield a file and a name for every namespace of *kind*, except ours, that has a process."""
    try:
        known = {os.stat(f"/proc/self/ns/{kind}").st_ino}
    except FileNotFoundError:  # The kernel has no such namespaces.
        return
    for process in processes():
        with contextlib.suppress(OSError):  # The process has ended, or belongs to another user.
            file = process / "ns" / kind
            number = os.stat(file).st_ino
            if number not in known:
                known.add(number)
                yield file, f"of {process_title(process)}"


def sees_all_files() -> bool:
    """Return whether this thread has CAP_SYS_PTRACE in effect.

    Without it, even root sees no open files of processes that have more capabilities or another user: ptrace(2).
    """
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)$", kernel_text(_PROC / "thread-self/status"), re.MULTILINE)
    return effective is None or bool(int(effective[1], 16) >> _CAP_SYS_PTRACE & 1)


def opened_files(process: Path) -> Iterator[OpenedFile]:
    """Yield the files that a process has open; none if it has ended or belongs to another user."""
    try:
        with limit_named(process / "fd"):
            numbers = os.listdir(process / "fd")
    except OSError:
        return
    for number in numbers:
        link = process / "fd" / number
        try:
            path = os.readlink(link)
        except OSError:  # The process has closed it in between.
            continue
        yield OpenedFile(path, link)


def registered_files(opened: Iterable[OpenedFile]) -> Iterator[str]:
    """Yield the paths of the files that a process gave to io_uring; kernels such as 6.12 show only the last part.

    io_uring keeps these files open without a descriptor. Source: io_uring/fdinfo.c.
    """
    for file in opened:
        if file.path == _RING:
            _, _, text = attribute_text(file.details).partition("\nUserFiles:")
            yield from _REGISTERED.findall(text.partition("\nUserBufs:")[0])


def mapped_files(process: Path) -> Iterator[MappedFile]:
    """Yield the files that a process has mapped; none if it has ended or belongs to another user.

    Each file comes once, with its first part, but each part of the physical memory comes.

    A mapping keeps its file in use after the descriptor is closed.
    """
    try:
        with limit_named(process / "maps"):
            text = (process / "maps").read_text("utf-8", "surrogateescape")
    except OSError:
        return
    seen = set()
    for first, behind, offset, major, minor, inode, path in _MAPPING.findall(text):
        part = major, minor, inode, first if path == PHYSICAL_MEMORY else ""
        if part not in seen:
            seen.add(part)
            start, end = int(first, 16), int(behind, 16)
            number = f"{int(major, 16)}:{int(minor, 16)}"
            # The directory of a thread below "task" has no map_files, but /proc/TID has.
            link = _PROC / process.name / "map_files" / f"{start:x}-{end:x}"
            yield MappedFile(path, number, inode, link, int(offset, 16), end - start)
