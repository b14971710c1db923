# SPDX-License-Identifier: MIT
"""IO page faults, from the device's access to the answer."""

import threading
import time

import pytest

from iommufd_py import (
    BusyError,
    FaultQueue,
    HwptAllocFlags,
    InvalidFieldError,
    Ioas,
    Iommufd,
    MockDevice,
    PageFault,
    PageFaultPermission,
    PageResponse,
)
from iommufd_py.mock import hwpt_data
from iommufd_py.uapi import iommufd as uapi
from tests.conftest import need_ioctl, need_page_faults
from tests.waiting import patience

ADDRESS = 0xDEAD_B000
READ_WRITE = PageFaultPermission.READ | PageFaultPermission.WRITE


@pytest.fixture
def queue(iommufd: Iommufd) -> FaultQueue:
    need_ioctl(iommufd, "IOMMU_FAULT_QUEUE_ALLOC", "6.11")
    return iommufd.alloc_fault_queue()


@pytest.fixture
def faulting(mock: MockDevice, ioas: Ioas, queue: FaultQueue) -> MockDevice:
    """Attach a device to a HWPT with IO page faults."""
    need_page_faults()
    parent = mock.alloc_hwpt(ioas, flags=HwptAllocFlags.NEST_PARENT)
    mock.attach(mock.alloc_nested(parent, hwpt_data(), fault_queue=queue))
    return mock


def test_a_fault_is_read_and_answered(faulting: MockDevice, queue: FaultQueue) -> None:
    faulting.trigger_fault(ADDRESS, READ_WRITE, pasid=1, group=2)
    assert queue.wait(patience(1))
    (fault,) = queue.read()
    assert fault == PageFault(
        dev_id=faulting.dev_id,
        pasid=1,
        group=2,
        last=True,
        permission=READ_WRITE,
        address=ADDRESS,
        length=0,
        cookie=fault.cookie,
    )
    queue.respond(fault, PageResponse.INVALID)
    with pytest.raises(InvalidFieldError, match=r"write\(FaultQueue\)"):
        queue.respond(fault)


def test_a_fault_without_pasid(faulting: MockDevice, queue: FaultQueue) -> None:
    faulting.trigger_fault(ADDRESS, PageFaultPermission.EXEC)
    (fault,) = queue.read(timeout=patience(5))
    assert (fault.pasid, fault.permission) == (None, PageFaultPermission.EXEC)
    queue.respond(fault)


def test_no_fault_is_no_error(queue: FaultQueue) -> None:
    assert not queue.wait(0)
    assert queue.read(timeout=0.05) == []


def test_waiting_ends_when_a_fault_comes(faulting: MockDevice, queue: FaultQueue) -> None:
    def touch() -> None:
        time.sleep(0.1)
        faulting.trigger_fault(ADDRESS, READ_WRITE)

    device = threading.Thread(target=touch)
    device.start()
    (fault,) = queue.read(timeout=patience(30))
    device.join()
    queue.respond(fault)


def test_a_queue_goes_after_its_hwpts(faulting: MockDevice, queue: FaultQueue) -> None:
    attachment = faulting.attachments[None]
    with pytest.raises(BusyError):
        uapi.destroy(queue.iommufd.fileno(), queue.id)
    faulting.trigger_fault(ADDRESS, READ_WRITE)
    queue.close()  # with an unanswered fault
    assert attachment.closed
