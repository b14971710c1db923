# SPDX-License-Identifier: MIT
"""After Ctrl-C at any moment, the device goes back to its driver."""

import pytest

from iommufd_py import ContainerMode, DmaBuffer, Iommufd, VfioDevice, pci
from iommufd_py.lab.machine import NVME_DEVICE
from iommufd_py.testing.requirements import need_container
from iommufd_py.uapi.enums import IrqIndex
from tests.conftest import IN_LAB
from tests.interrupting import interrupt_everywhere

PAGE = 4096
IOVA = 1 << 32

pytestmark = pytest.mark.skipif(
    not IN_LAB, reason="takes the lab's NVMe controller; 'iommufd lab run -- pytest tests/vtd' does that"
)


def is_back() -> None:
    assert pci.pci_device(NVME_DEVICE).driver == "nvme"


def test_through_its_cdev() -> None:
    is_back()

    def work() -> None:
        with pci.vfio_bound(NVME_DEVICE), Iommufd() as iommufd, DmaBuffer(PAGE) as buffer:
            device = VfioDevice(iommufd, NVME_DEVICE)
            ioas = iommufd.alloc_ioas()
            device.attach(device.alloc_hwpt(ioas))
            ioas.map(buffer, IOVA)
            device.enable_irqs(IrqIndex.MSIX, 1)

    assert interrupt_everywhere(work, is_back) > 20


def test_through_its_group() -> None:
    is_back()

    def work() -> None:
        with (
            pci.vfio_bound(NVME_DEVICE),
            need_container(ContainerMode.VFIO_TYPE1V2, NVME_DEVICE) as container,
            DmaBuffer(PAGE) as buffer,
        ):
            container.map(buffer, IOVA)

    assert interrupt_everywhere(work, is_back) > 20
