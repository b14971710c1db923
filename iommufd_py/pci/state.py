# SPDX-License-Identifier: MIT
"""Records of the devices that this tool took: the former driver, the process that took the device, and the time.

A record outlives the process, even a killed one, but not a reboot. The binding that it describes does the same.
"""

import contextlib
import errno
import getpass
import json
import os
import shlex
import stat
import sys
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from iommufd_py.base.command_line import without_secrets
from iommufd_py.base.errors import DeviceError
from iommufd_py.base.pci_address import PCI_DEVICES, is_bdf, normalize_bdf
from iommufd_py.base.privilege import permission_remedy
from iommufd_py.pci.sysfs_write import steps_by_hand

_DIRECTORY = Path("/run/iommufd-py")
_SUFFIX = ".json"
_DIRECTORY_MODE, _FILE_MODE, _LOCK_MODE = 0o755, 0o644, 0o600
_END_OF_TIME = 253_402_300_800  # The year 10000.


@dataclass(frozen=True, slots=True)
class Remembered:
    """The driver that a device goes back to, and the process that took the device.

    Attributes:
        driver: former driver, empty for none.
        driver_override: former driver_override, empty for none.
        override_set: driver_override that this tool set, empty for none.
        node: inode number of the device in sysfs; 0 if the record has none.
        pid: process that took the device.
        command: command line of that process.
        user: name of the user of that process; with sudo, the user who called sudo.
        since: time at which the device was taken, in seconds since 1970.
    """

    driver: str
    driver_override: str
    override_set: str = "vfio-pci"
    node: int = field(default=0, compare=False)
    pid: int = field(default_factory=os.getpid, compare=False)
    command: str = field(default_factory=lambda: shlex.join(without_secrets(sys.argv)), compare=False)
    user: str = field(default_factory=lambda: _user(), compare=False)
    since: float = field(default_factory=time.time, compare=False)


def _user() -> str:
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # The user id has no name.
        return str(os.getuid())


def record_file(address: str) -> Path:
    """Return the file of a device's record."""
    return _DIRECTORY / f"{address}{_SUFFIX}"


def remember(address: str, before: Remembered) -> None:
    """Write the record of a device, completely or not at all.

    Raises:
        DeviceError: the directory is not trusted, or the file cannot be written.
    """
    make_records_directory()
    unfinished = _DIRECTORY / f"{address}.new"
    try:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(unfinished, flags, _FILE_MODE)
            with open(descriptor, "w", encoding="utf-8") as file:
                os.fchmod(descriptor, _FILE_MODE)  # Other users must be able to read the file even with a strict umask.
                file.write(json.dumps(asdict(before)) + "\n")
            unfinished.rename(record_file(address))
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    except OSError as failure:
        remedy = _remedy(failure)
        raise DeviceError(
            f"{address} is not taken, because its driver cannot be recorded: {failure.strerror} "
            f"({unfinished if remedy else record_file(address)}); "
            f"{remedy or f'make {_DIRECTORY} writable, with free space, first'}"
        ) from failure


def recall(address: str) -> Remembered | None:
    """Return the record of a device; None if this tool did not take it.

    Raises:
        DeviceError: the record cannot be read or is damaged, or *address* is not a PCI address.
    """
    address = normalize_bdf(address)
    file = record_file(address)
    try:
        # Nobody writes to a pipe there, so a read would not end. A link that leads nowhere is no missing record.
        if not stat.S_ISREG(file.lstat().st_mode):
            raise DeviceError(f"{file} is not a regular file, so it is no record of {address}: remove it")
        return parse_record(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except PermissionError:
        raise DeviceError(f"there is no permission to read {file}: {permission_remedy()}") from None
    except NotADirectoryError:
        raise _no_directory() from None
    except OSError as failure:
        raise DeviceError(f"{file} cannot be read: {failure.strerror}") from failure
    except ValueError as failure:
        if (PCI_DEVICES / address).exists():
            first = f'give the device to the driver that the kernel chooses with "{steps_by_hand(address)}", then'
        else:
            first = "the device does not exist any more:"
        raise DeviceError(
            f"the record of {address} is damaged ({file}: {failure}), so its former driver is not known: {first} "
            f"remove the record with 'rm {file}'"
        ) from None


def parse_record(text: str) -> Remembered:
    """Read a record. Missing fields are unknown.

    Raises:
        ValueError: it is not a record.
    """
    try:
        document: Any = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    unknown: dict[str, Any] = {"pid": 0, "command": "", "user": "", "since": 0.0}
    values = unknown | {one.name: document[one.name] for one in fields(Remembered) if one.name in document}
    for name, kind in (("driver", str), ("driver_override", str), ("override_set", str), ("command", str)):
        if not isinstance(values.get(name, "" if name == "override_set" else None), kind):
            raise ValueError(f"{name} is missing or of another type")
        text = str(values.get(name, ""))
        odd = "/" in text or text in (".", "..") or not text.isprintable() or text != text.strip()
        if name != "command" and odd:
            raise ValueError(f"{name} is not the name of a driver")
    for name, kinds in (("node", int), ("pid", int), ("user", str), ("since", (int, float))):
        if name in values and (not isinstance(values[name], kinds) or isinstance(values[name], bool)):
            raise ValueError(f"{name} is of another type")
    if values["pid"] < 0:
        raise ValueError("pid is not the number of a process")
    # This refuses NaN, which is in no range, and years that datetime does not have.
    if not 0 <= values["since"] < _END_OF_TIME:
        raise ValueError("since is not a time")
    return Remembered(**values)


def remove_record(address: str) -> None:
    """Remove the record of a device."""
    record_file(address).unlink(missing_ok=True)


def remembered() -> tuple[str, ...]:
    """Return the addresses of all devices that have a record. Other files in the directory are not of this tool.

    Raises:
        DeviceError: the directory cannot be read.
    """
    try:
        names = os.listdir(_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.lexists(_DIRECTORY):  # A file, or a link that leads nowhere: it is no directory without records.
            raise _no_directory() from None
        return ()
    except PermissionError as failure:
        raise DeviceError(f"{_DIRECTORY} cannot be read ({failure.strerror}): {permission_remedy()}") from None
    except OSError as failure:
        raise DeviceError(f"{_DIRECTORY} cannot be read: {failure.strerror}") from failure
    addresses = (name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))
    return tuple(sorted(one for one in addresses if is_bdf(one)))


def open_lock(address: str) -> int:
    """Open the lock file of a device, which only root can lock, and return its descriptor.

    Raises:
        DeviceError: the directory is not trusted, or the file cannot be made.
    """
    make_records_directory()
    file = _DIRECTORY / f"{address}.lock"
    try:
        # A pipe can be locked too, but an open for reading would wait for its writer.
        return os.open(file, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, _LOCK_MODE)
    except PermissionError:
        raise DeviceError(f"{address} cannot be taken: {permission_remedy()}") from None
    except OSError as failure:
        remedy = _remedy(failure)
        raise DeviceError(
            f"{address} cannot be taken: {failure.strerror} ({file}){f'; {remedy}' if remedy else ''}"
        ) from failure


def _remedy(failure: OSError) -> str:
    """Return the remedy if a directory, a socket or a link has the name of a file of this tool; else nothing."""
    return "remove that first" if failure.errno in (errno.EISDIR, errno.ENXIO, errno.ELOOP) else ""


def may_lock() -> bool:
    """Return whether this process has permission to create and open the lock files."""
    return os.access(_DIRECTORY if _DIRECTORY.exists() else _DIRECTORY.parent, os.W_OK)


def make_records_directory() -> None:
    """Create the directory of the records, and check that nobody else can write to it.

    Raises:
        DeviceError: the directory belongs to another user, or others can write to it.
    """
    try:
        with contextlib.suppress(FileExistsError):
            _DIRECTORY.mkdir(parents=True)
        found = _DIRECTORY.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise _no_directory()
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
            raise DeviceError(
                f"{_DIRECTORY} is not trusted, because others can change it: it must be a directory of root that only "
                f"root can write ('chown root {_DIRECTORY}; chmod 755 {_DIRECTORY}')"
            )
        # A strict umask must not keep other users from reading.
        if stat.S_IMODE(found.st_mode) != _DIRECTORY_MODE and found.st_uid == os.geteuid():
            _DIRECTORY.chmod(_DIRECTORY_MODE)
    except PermissionError:
        raise DeviceError(f"{_DIRECTORY} cannot be created: {permission_remedy()}") from None
    except OSError as failure:
        raise DeviceError(f"{_DIRECTORY} cannot be created: {failure.strerror}") from failure


def _no_directory() -> DeviceError:
    return DeviceError(
        f"{_DIRECTORY} is a link or a file, not the directory of the records: remove it with 'rm {_DIRECTORY}'"
    )
