# SPDX-License-Identifier: MIT
"""The drivers of two devices of the lab, a disk and a spare device, as other tools change them."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from iommufd_py import DeviceError, pci
from iommufd_py.base.pci_address import PCI_DEVICES
from iommufd_py.lab.machine import NVME_DEVICE, TEST_DEVICES
from iommufd_py.pci import state
from tests.waiting import patience, wait_until

BUS = Path("/sys/bus/pci")
DISK = Path("/dev/nvme0n1")
SPARE = TEST_DEVICES[1]


def write(attribute: str, text: str) -> None:
    (BUS / attribute).write_text(f"{text}\n")


def override(bdf: str = NVME_DEVICE) -> str:
    text = (PCI_DEVICES / bdf / "driver_override").read_text().strip()
    return "" if text == "(null)" else text


def driver(bdf: str = NVME_DEVICE) -> str:
    return pci.pci_device(bdf).driver


def in_shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, shell=True, capture_output=True, text=True, timeout=patience(60), check=False)


@pytest.fixture
def as_it_was(all_given_back: None) -> Iterator[None]:
    """Give the disk back to nvme and leave the spare device without a driver, whatever a test did to them."""
    wait_until(DISK.is_block_device)
    yield
    for bdf in pci.remembered():
        with contextlib.suppress(DeviceError):
            pci.restore(bdf)
        state.remove_record(bdf)
    for bdf, wanted in ((NVME_DEVICE, "nvme"), (SPARE, "")):
        write(f"devices/{bdf}/driver_override", "")
        if driver(bdf) not in ("", wanted):
            write(f"drivers/{driver(bdf)}/unbind", bdf)
        if wanted and not driver(bdf):
            write(f"drivers/{wanted}/bind", bdf)
    wait_until(DISK.is_block_device)
