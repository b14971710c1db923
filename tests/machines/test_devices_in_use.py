# SPDX-License-Identifier: MIT
"""On a machine with a NIC, a display, a serial port, and a bridge: what is in use, and what not."""

import os
import subprocess
from pathlib import Path

import pytest

from iommufd_py import DeviceError, pci
from iommufd_py.pci import UseKind

NET = Path("/sys/class/net")
# As tests/lab/test_lab_machines.py places them.
NIC, DISPLAY, SERIAL, BRIDGE = (f"0000:00:{slot}.0" for slot in ("13", "14", "15", "16"))


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=30)


def texts(bdf: str) -> list[str]:
    return [use.text for use in pci.uses(bdf)]


def interface() -> str:
    (found,) = [one for one in NET.iterdir() if (one / "device").exists()]
    return found.name


def test_interface_that_is_only_up_is_not_in_use() -> None:
    name = interface()
    ip("link", "set", name, "up")
    assert texts(NIC) == []
    ip("link", "set", name, "down")


def test_interface_with_an_address_is_refused() -> None:
    name = interface()
    ip("address", "add", "192.0.2.1/24", "dev", name)
    try:
        assert texts(NIC) == [f"the interface {name} has the address 192.0.2.1"]
        with pytest.raises(DeviceError, match=r"is in use: the interface .* has the address 192\.0\.2\.1; end that"):
            pci.bind_vfio(NIC)
    finally:
        ip("address", "flush", "dev", name)
    assert texts(NIC) == []


def test_interface_with_a_route_is_refused() -> None:
    name = interface()
    ip("link", "set", name, "up")
    ip("route", "add", "198.51.100.0/24", "dev", name)
    try:
        assert texts(NIC) == [f"a route goes through the interface {name}"]
    finally:
        ip("link", "set", name, "down")
    assert texts(NIC) == []


def test_unconfigured_nic_goes_and_comes_back() -> None:
    assert interface()
    with pci.vfio_bound(NIC):
        assert not [one for one in NET.iterdir() if (one / "device").exists()]
    assert interface()  # udev may have named it anew


def test_only_display_is_refused() -> None:
    assert [(use.kind, use.text) for use in pci.uses(DISPLAY)] == [(UseKind.DISPLAY, "it is the only display")]


def test_terminal_that_is_open_is_refused() -> None:
    assert texts(SERIAL) == []
    with Path("/dev/ttyS1").open("rb"):
        (text,) = texts(SERIAL)
        assert text.endswith(f"(process {os.getpid()}) has /dev/ttyS1 open")
        with pytest.raises(DeviceError, match=f"{SERIAL} is in use: .* has /dev/ttyS1 open"):
            pci.bind_vfio(SERIAL)


def test_bridge_is_refused() -> None:
    with pytest.raises(DeviceError, match=f"{BRIDGE} is a bridge: vfio-pci takes endpoints only"):
        pci.bind_vfio(BRIDGE, force=True)
