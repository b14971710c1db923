# SPDX-License-Identifier: MIT
"""Used and free devices on a machine with a NIC, a display, a serial port, a bridge and virtual functions."""

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from iommufd_py import (
    ContainerMode,
    DeviceError,
    DeviceFeature,
    DmaBuffer,
    Iommufd,
    IommufdError,
    VfioDevice,
    open_container,
    pci,
)
from iommufd_py.pci import UseKind
from tests.machines.conftest import refused, shell, texts
from tests.programs import IOMMUFD
from tests.waiting import patience

NET = Path("/sys/class/net")
# Places from tests/lab/test_lab_machines.py.
NIC, DISPLAY, SERIAL, BRIDGE, PHYSICAL, OTHER_DISPLAY = (
    f"0000:00:{slot}.0" for slot in ("13", "14", "15", "16", "17", "18")
)
VIRTUAL = "0000:00:17.1"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=patience(30))


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
        with pytest.raises(DeviceError, match=r"is in use: the interface .* has the address 192\.0\.2\.1; end this"):
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
    assert interface()  # udev may have renamed it


def test_display_of_the_text_console_is_refused() -> None:
    assert texts(DISPLAY) == ["the text console (tty1, ...) is shown on it (fb0)"]
    refused(DISPLAY, r"the text console \(tty1, \.\.\.\) is shown on it \(fb0\)")


def test_only_display_is_refused() -> None:
    assert texts(OTHER_DISPLAY) == []
    with pci.vfio_bound(OTHER_DISPLAY):
        assert (UseKind.DISPLAY, "it is the only display") in [(use.kind, use.text) for use in pci.uses(DISPLAY)]
    assert texts(OTHER_DISPLAY) == []


def test_host_bridge_is_refused() -> None:
    refused("0000:00:00.0", "it is the host bridge of this machine; choose another device")


def test_terminal_that_is_open_is_refused() -> None:
    assert texts(SERIAL) == []
    with Path("/dev/ttyS1").open("rb"):
        (text,) = texts(SERIAL)
        assert text.endswith(f"(process {os.getpid()}) has /dev/ttyS1 open")
        with pytest.raises(DeviceError, match=f"{SERIAL} is in use: .* has /dev/ttyS1 open"):
            pci.bind_vfio(SERIAL)


@pytest.fixture
def virtual_function() -> Iterator[str]:
    """The first virtual function of the controller, without a driver."""
    directory = Path("/sys/bus/pci/devices", PHYSICAL)
    (directory / "sriov_drivers_autoprobe").write_text("0")
    (directory / "sriov_numvfs").write_text("2")
    yield VIRTUAL
    (directory / "sriov_numvfs").write_text("0")


def test_bar_that_a_program_has_open_is_refused() -> None:
    bar = min(Path("/sys/bus/pci/devices", NIC).glob("resource[0-9]"))
    with bar.open("rb"):
        refused(NIC, rf"\(process {os.getpid()}\) has its {bar.name} open")


def test_function_with_virtual_functions_is_refused(virtual_function: str) -> None:
    (use,) = pci.uses(PHYSICAL)
    assert use.kind is UseKind.VIRTUAL_FUNCTIONS
    assert use.text.startswith("2 enabled virtual functions of it (echo 0 > /sys/")
    with pytest.raises(DeviceError, match=f"{PHYSICAL} is in use: 2 enabled virtual functions of it"):
        pci.bind_vfio(PHYSICAL)
    assert pci.uses(virtual_function) == ()
    with pci.vfio_bound(virtual_function):
        assert texts(PHYSICAL)[0].endswith(f": {VIRTUAL} is on vfio-pci")


def test_restore_does_not_drop_virtual_functions() -> None:
    directory = Path("/sys/bus/pci/devices", PHYSICAL)
    Path("/sys/module/vfio_pci/parameters/enable_sriov").write_text("Y")
    pci.bind_vfio(PHYSICAL)
    (directory / "sriov_numvfs").write_text("2")
    try:
        with pytest.raises(DeviceError, match=f"{PHYSICAL} is in use: 2 enabled virtual functions of it"):
            pci.restore(PHYSICAL)
        assert (directory / "sriov_numvfs").read_text() == "2\n"
    finally:
        (directory / "sriov_numvfs").write_text("0")
    pci.restore(PHYSICAL)
    assert pci.pci_device(PHYSICAL).driver == "nvme"


def test_virtual_function_is_taken_and_given_back(virtual_function: str) -> None:
    with (
        pci.vfio_bound(virtual_function),
        Iommufd() as iommufd,
        VfioDevice(iommufd, virtual_function) as device,
        iommufd.alloc_ioas() as ioas,
        DmaBuffer(1 << 20) as buffer,
    ):
        device.attach(ioas)
        mapping = ioas.map(buffer)
        assert ioas.unmap(mapping.iova, mapping.length) == 1 << 20
    assert not pci.pci_device(virtual_function).driver


@pytest.mark.parametrize("mode", list(ContainerMode))
def test_virtual_function_of_a_function_on_vfio_pci_needs_the_token(mode: ContainerMode) -> None:
    """The owner of the physical function, which creates the virtual one, sets the token."""
    owner = Path("/sys/bus/pci/devices", PHYSICAL)
    Path("/sys/module/vfio_pci/parameters/enable_sriov").write_text("Y")
    token = uuid4()
    with pci.vfio_bound(PHYSICAL, force=True), Iommufd() as iommufd, VfioDevice(iommufd, PHYSICAL) as physical:
        physical.set_feature(DeviceFeature.PCI_VF_TOKEN, token.bytes)
        (owner / "sriov_drivers_autoprobe").write_text("0")
        (owner / "sriov_numvfs").write_text("1")
        try:
            with pci.vfio_bound(VIRTUAL):
                for wrong in (None, uuid4()):
                    with pytest.raises(IommufdError, match="EACCES: a VF token is missing or wrong"):
                        open_container(mode, VIRTUAL, vf_token=wrong)
                map_it = [IOMMUFD, "map", "--device", VIRTUAL, "--size", "4K"]
                without = subprocess.run(map_it, capture_output=True, text=True, check=False)
                assert without.returncode == 1
                assert "at the command line with --vf-token" in without.stdout + without.stderr
                # The remedy is right: the same command then succeeds.
                shell(shlex.join([*map_it, "--vf-token", str(token)]))
                for right in (token, str(token)):
                    with open_container(mode, VIRTUAL, vf_token=right) as container:
                        assert container.device.info().num_regions
        finally:
            (owner / "sriov_numvfs").write_text("0")


def test_bridge_is_refused() -> None:
    with pytest.raises(DeviceError, match=f"{BRIDGE} is a bridge: vfio-pci takes endpoints only"):
        pci.bind_vfio(BRIDGE, force=True)
