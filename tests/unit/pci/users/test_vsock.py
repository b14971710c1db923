# SPDX-License-Identifier: MIT
"""A virtual machine's own way to its host, which this machine has or not."""

import os
import socket
from pathlib import Path

import pytest

from iommufd_py import pci
from iommufd_py.pci.users.processes import OpenedFile
from iommufd_py.pci.users.vsock import _is_vsock, vsock_uses
from tests.unit.pci.users.sysfs_tree import link


def test_a_vsock_socket_is_told_from_others() -> None:
    try:
        vsock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    except OSError:
        pytest.skip("this kernel has no vsock")
    with vsock, socket.socket(socket.AF_UNIX) as local, open(os.devnull) as file:
        links = [Path(f"/proc/self/fd/{one.fileno()}") for one in (vsock, local, file)]
        assert [_is_vsock(OpenedFile(os.readlink(link), link)) for link in links] == [True, False, False]
        assert not _is_vsock(OpenedFile("socket:[987]", Path("/proc/self/fd/987")))


@pytest.mark.parametrize(
    ("place", "driver", "used"),
    [("", "vmw_vmci", True), ("virtio4", "vmw_vsock_virtio_transport", True), ("virtio4", "virtio_net", False)],
)
def test_devices_that_lead_to_the_host(tmp_path: Path, device: Path, place: str, driver: str, used: bool) -> None:
    """A guest of VMware reaches its host by a PCI function of its own (drivers/misc/vmw_vmci)."""
    link(device / place / "driver", tmp_path / "drivers" / driver)
    try:
        vsock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    except OSError:
        pytest.skip("this kernel has no vsock")
    with vsock:
        ours = f"(process {os.getpid()}) has a vsock socket to the host open"
        assert any(ours in use.text for use in vsock_uses(device)) == used


def test_the_way_to_the_host_is_in_use_while_a_socket_is_open() -> None:
    drivers = Path("/sys/bus/virtio/drivers/vmw_vsock_virtio_transport")
    found = [(child.resolve().parent.name) for child in drivers.glob("virtio*")] if drivers.is_dir() else []
    if not found:
        pytest.skip("this machine has no virtio-vsock device")
    bdf = found[0]
    text = f"(process {os.getpid()}) has a vsock socket to the host open"
    assert not any(text in use.text for use in pci.uses(bdf))
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as vsock:
        vsock.bind((socket.VMADDR_CID_ANY, 0xFFFF_FF00 - os.getpid()))
        vsock.listen()
        assert any(text in use.text for use in pci.uses(bdf))
    assert not any(text in use.text for use in pci.uses(bdf))
