# SPDX-License-Identifier: MIT
"""Reading a device while another process takes it from its driver, or removes it from the machine."""

import contextlib
import functools
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iommufd_py import DeviceError, pci
from iommufd_py.base.pci_address import PCI_DEVICES
from iommufd_py.base.sysfs import attribute_text
from iommufd_py.lab.machine import NVME_DEVICE, TEST_DEVICES
from iommufd_py.pci.users.openers import openers
from iommufd_py.vfio.sysfs import find_cdev
from tests.conftest import IN_LAB
from tests.vtd.test_cli_device import wait_for_disk

pytestmark = [
    pytest.mark.skipif(not IN_LAB, reason="takes the lab's devices; 'iommufd lab run -- pytest tests/vtd' does that"),
    pytest.mark.usefixtures("all_given_back"),
]

BUS = Path("/sys/bus/pci")
SPARE = TEST_DEVICES[1]

Step = Callable[[], object]


class Moment:
    """The moment of a disturbance: before the open of a path with *part*, when *left* reaches 0."""

    left = 0
    part = "\0"
    action: Step


@functools.cache  # once: Python removes no audit hook
def install_hook() -> None:
    def before(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("open", "os.scandir", "os.listdir") and Moment.part in str(arguments[0]):
            Moment.left -= 1
            if Moment.left == 0:
                Moment.action()

    sys.addaudithook(before)


def disturb_everywhere(there: Step, work: Step, part: str, gone: Step) -> int:
    """Call *there*, then *work*, with *gone* before its first open of a file; then before its second open, and so on.

    Only files with *part* in their path count. Return the number of these opens. At the end the device is present.
    """
    install_hook()
    went = 0
    try:
        while True:
            there()
            Moment.left, Moment.part, Moment.action = went + 1, part, gone
            work()
            if Moment.left > 0:
                return went
            went += 1
    finally:
        Moment.part = "\0"
        there()


def look(bdf: str) -> None:
    """Read everything about a device. The answer may be that it does not exist."""
    pci.list_devices()
    openers(bdf)
    for ask in (pci.uses, find_cdev):
        with contextlib.suppress(DeviceError):
            ask(bdf)


def test_disk_taken_from_its_driver() -> None:
    driver = BUS / "drivers/nvme"

    def there() -> None:
        if not pci.pci_device(NVME_DEVICE).driver:
            (driver / "bind").write_text(NVME_DEVICE)
        wait_for_disk()

    def gone() -> None:
        (driver / "unbind").write_text(NVME_DEVICE)

    assert disturb_everywhere(there, lambda: look(NVME_DEVICE), "nvme", gone) > 10


def test_device_taken_from_vfio() -> None:
    def gone() -> None:
        (BUS / "drivers/vfio-pci/unbind").write_text(SPARE)

    with pci.vfio_bound(SPARE):
        assert disturb_everywhere(lambda: pci.bind_vfio(SPARE), lambda: look(SPARE), SPARE, gone) > 10


def plug_in() -> None:
    if not (PCI_DEVICES / SPARE).exists():
        (BUS / "rescan").write_text("1")


def take_out() -> None:
    (PCI_DEVICES / SPARE / "remove").write_text("1")


def test_device_taken_out_of_the_machine() -> None:
    before = pci.pci_device(SPARE)
    group = before.iommu_group
    assert group is not None

    def work() -> None:
        look(SPARE)
        pci.iommu_group(group)

    assert disturb_everywhere(plug_in, work, SPARE, take_out) > 10
    assert disturb_everywhere(plug_in, work, f"iommu_groups/{group}", take_out) > 2
    assert pci.pci_device(SPARE) == before


def test_device_taken_out_when_an_attribute_of_it_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    attribute = PCI_DEVICES / SPARE / "vendor"
    assert attribute_text(attribute) == "0x1234"
    really_open = io.open

    def open_and_take_out(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        file = really_open(*arguments, **options)
        take_out()
        return file

    monkeypatch.setattr("io.open", open_and_take_out)
    try:
        assert attribute_text(attribute) == ""
        assert not attribute.exists()
    finally:
        plug_in()
    assert attribute_text(attribute) == "0x1234"
