# SPDX-License-Identifier: MIT
"""Find the sockets that use the device through which a virtual machine talks to its host: virtio-vsock or VMware's."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from iommufd_py.base.sysfs import entries, target_name
from iommufd_py.pci.users.processes import OpenedFile, opened_files, process_title, processes
from iommufd_py.pci.users.use import Use, UseKind

_DRIVERS = ("vmw_vsock_virtio_transport", "vmw_vmci")
# The name of a socket's protocol, as the kernel's socket file system shows it: sockfs_xattr_get() in net/socket.c.
_PROTOCOL, _VSOCK = "system.sockprotoname", b"AF_VSOCK"


def vsock_uses(device: Path) -> Iterator[Use]:
    """Yield the processes with a vsock socket, if *device* connects this machine to its host."""
    if not any(target_name(one / "driver") in _DRIVERS for one in (device, *entries(device, "virtio*"))):
        return
    for process in processes():
        if any(map(_is_vsock, opened_files(process))):
            yield Use(UseKind.PROCESS, f"{process_title(process)} has a vsock socket to the host open")


def _is_vsock(file: OpenedFile) -> bool:
    # Read the attribute of sockets only. Other files may be on a file system that does not answer.
    if file.path.startswith("socket:"):
        with contextlib.suppress(OSError):  # The process has closed it in between.
            return os.getxattr(file.link, _PROTOCOL).rstrip(b"\0") == _VSOCK
    return False
