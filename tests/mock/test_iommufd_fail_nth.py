# SPDX-License-Identifier: MIT
"""The cases of the kernel's iommufd_fail_nth.c: every allocation of a sequence of calls fails in turn.

The tests cover the kernel's error paths. The leak check around each test fails it for a kernel warning, for a page that
stays pinned, and for a descriptor that stays open.
"""

import errno
from collections.abc import Callable, Iterator

import pytest

from iommufd_py import Backing, DmaBuffer, Iommufd
from iommufd_py.mock import check_refs, limit_memory
from iommufd_py.objects.iommufd import DEV_IOMMU
from iommufd_py.testing import fault_injection
from iommufd_py.uapi.fail_nth import Call, Program, StepField
from iommufd_py.uapi.fault_injection import injection_problem, injection_settings
from iommufd_py.uapi.ffi import lib
from tests.conftest import need, need_ioctl, need_mock_driver

LENGTH = 2 << 20
PART = 256 << 10
READ_WRITE = lib.IOMMU_IOAS_MAP_READABLE | lib.IOMMU_IOAS_MAP_WRITEABLE


@pytest.fixture(autouse=True)
def injection(iommufd: Iommufd) -> Iterator[None]:
    need_mock_driver(iommufd)
    problem = injection_problem()
    need(problem is None, problem or "")
    with injection_settings():
        yield
    limit_memory(iommufd, None)


@pytest.fixture
def memory(dma_buffer: Callable[..., DmaBuffer]) -> DmaBuffer:
    return dma_buffer(LENGTH, Backing.MEMFD)


class Sequence(Program):
    """Calls that several cases share."""

    def open_iommufd(self, *, limited: bool = True) -> tuple[StepField, StepField]:
        """Open an iommufd with an IOAS; a limit to the kernel's scratch memory makes many small batches of a map."""
        fd = self.open(DEV_IOMMU)
        ioas = self.ioctl(fd, "IOMMU_IOAS_ALLOC", "iommu_ioas_alloc")
        if limited:
            self.test(fd, "SET_TEMP_MEMORY_LIMIT", 0, "memory_limit", limit=32)
        return fd, ioas["out_ioas_id"]

    def map(self, fd: StepField, ioas: StepField, memory: DmaBuffer, length: int) -> StepField:
        return self.ioctl(
            fd,
            "IOMMU_IOAS_MAP",
            "iommu_ioas_map",
            flags=READ_WRITE,
            ioas_id=ioas,
            user_va=memory.user_va,
            length=length,
        )["iova"]

    def mock_domain(self, fd: StepField, ioas: StepField) -> StepField:
        return self.test(fd, "MOCK_DOMAIN", ioas)["mock_domain.out_stdev_id"]

    def destroy(self, fd: StepField, object_id: StepField) -> Call:
        return self.ioctl(fd, "IOMMU_DESTROY", "iommu_destroy", id=object_id)

    def create_access(self, fd: StepField, ioas: StepField, flags: int = 0) -> tuple[Call, StepField]:
        made = self.test(fd, "CREATE_ACCESS", ioas, "create_access", flags=flags)
        return made, made["create_access.out_access_fd"]

    def pin_and_let_go(self, fd: StepField, iova: StepField, memory: DmaBuffer, made: Call, access: StepField) -> None:
        pinned = self.test(fd, "ACCESS_PAGES", access, "access_pages", iova=iova, length=LENGTH, uptr=memory.user_va)[
            "access_pages.out_access_pages_id"
        ]
        self.test(fd, "DESTROY_ACCESS_PAGES", access, "destroy_access_pages", access_pages_id=pinned)
        self.undo(made, self.close(access))


def sweep(sequence: Sequence, iommufd: Iommufd, memory: DmaBuffer) -> None:
    """A call fails only if an allocation failed, mostly with ENOMEM, and leaves nothing pinned.

    Other errors occur too: iommufd also injects ENOENT, EFAULT and EINVAL (fail_iommufd), and a device that was set up
    incompletely may answer EADDRINUSE or EOPNOTSUPP some calls later.
    """
    untouched = sequence.run()
    assert untouched.failed is None, untouched
    outcomes = []
    for outcome in fault_injection.sweep(sequence):
        check_refs(iommufd, memory.user_va, LENGTH, pins=0)
        assert outcome.failed is None or outcome.injected, outcome
        outcomes.append(outcome)
    assert not outcomes[-1].injected
    assert any(outcome.errno == errno.ENOMEM for outcome in outcomes)


def test_basic(iommufd: Iommufd, memory: DmaBuffer) -> None:
    sequence = Sequence()
    sequence.inject_from_here()
    fd, ioas = sequence.open_iommufd(limited=False)
    sequence.ioctl(
        fd,
        "IOMMU_IOAS_IOVA_RANGES",
        "iommu_ioas_iova_ranges",
        ioas_id=ioas,
        num_iovas=10,
        allowed_iovas=sequence.data("struct iommu_iova_range[]", 10),
    )
    allowed = [(16 << 10, LENGTH + (16 << 10) * 600 - 1)]
    sequence.ioctl(
        fd,
        "IOMMU_IOAS_ALLOW_IOVAS",
        "iommu_ioas_allow_iovas",
        ioas_id=ioas,
        num_iovas=1,
        allowed_iovas=sequence.data("struct iommu_iova_range[]", allowed),
    )
    iova = sequence.map(fd, ioas, memory, LENGTH)
    sequence.ioctl(
        fd,
        "IOMMU_IOAS_COPY",
        "iommu_ioas_copy",
        flags=READ_WRITE,
        dst_ioas_id=ioas,
        src_ioas_id=ioas,
        src_iova=iova,
        length=160,
    )
    unmap = {"ioas_id": ioas, "iova": iova, "length": LENGTH}
    sequence.ioctl(fd, "IOMMU_IOAS_UNMAP", "iommu_ioas_unmap", **unmap)
    sequence.ioctl(fd, "IOMMU_IOAS_UNMAP", "iommu_ioas_unmap", may_fail=True, **unmap)
    sweep(sequence, iommufd, memory)


def test_map_domain(iommufd: Iommufd, memory: DmaBuffer) -> None:
    sequence = Sequence()
    fd, ioas = sequence.open_iommufd()
    sequence.inject_from_here()
    device = sequence.mock_domain(fd, ioas)
    sequence.map(fd, ioas, memory, PART)
    sequence.destroy(fd, device)
    sequence.mock_domain(fd, ioas)
    sweep(sequence, iommufd, memory)


def test_map_file_domain(iommufd: Iommufd, memory: DmaBuffer) -> None:
    need_ioctl(iommufd, "IOMMU_IOAS_MAP_FILE", "6.13")
    assert memory.fd is not None
    sequence = Sequence()
    fd, ioas = sequence.open_iommufd()
    sequence.inject_from_here()
    device = sequence.mock_domain(fd, ioas)
    sequence.ioctl(
        fd, "IOMMU_IOAS_MAP_FILE", "iommu_ioas_map_file", flags=READ_WRITE, ioas_id=ioas, fd=memory.fd, length=PART
    )
    sequence.destroy(fd, device)
    sequence.mock_domain(fd, ioas)
    sweep(sequence, iommufd, memory)


def test_map_two_domains(iommufd: Iommufd, memory: DmaBuffer) -> None:
    sequence = Sequence()
    fd, ioas = sequence.open_iommufd()
    first = sequence.mock_domain(fd, ioas)
    sequence.inject_from_here()
    second = sequence.mock_domain(fd, ioas)
    sequence.map(fd, ioas, memory, PART)
    sequence.destroy(fd, first)
    sequence.destroy(fd, second)
    sequence.mock_domain(fd, ioas)
    sequence.mock_domain(fd, ioas)
    sweep(sequence, iommufd, memory)


def test_access_rw(iommufd: Iommufd, memory: DmaBuffer) -> None:
    sequence = Sequence()
    fd, ioas = sequence.open_iommufd()
    iova = sequence.map(fd, ioas, memory, PART)
    sequence.inject_from_here()
    made, access = sequence.create_access(fd, ioas)
    small, big = 64, 32 << 10
    slow, write = lib.MOCK_ACCESS_RW_SLOW_PATH, lib.MOCK_ACCESS_RW_WRITE
    for flags, length in ((0, small), (write, small), (slow, small), (slow | write, small), (slow, big)):
        uptr = sequence.data("char[]", length)
        sequence.test(fd, "ACCESS_RW", access, "access_rw", iova=iova, length=length, uptr=uptr, flags=flags)
    sequence.undo(made, sequence.close(access))
    sweep(sequence, iommufd, memory)


def test_access_pin(iommufd: Iommufd, memory: DmaBuffer) -> None:
    sequence = Sequence()
    fd, ioas = sequence.open_iommufd()
    iova = sequence.map(fd, ioas, memory, LENGTH)
    access = sequence.create_access(fd, ioas, lib.MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES)
    sequence.inject_from_here()
    sequence.pin_and_let_go(fd, iova, memory, *access)
    sweep(sequence, iommufd, memory)


def test_access_pin_domain(iommufd: Iommufd, memory: DmaBuffer) -> None:
    sequence = Sequence()
    fd, ioas = sequence.open_iommufd()
    device = sequence.mock_domain(fd, ioas)
    iova = sequence.map(fd, ioas, memory, LENGTH)
    access = sequence.create_access(fd, ioas, lib.MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES)
    sequence.inject_from_here()
    sequence.pin_and_let_go(fd, iova, memory, *access)
    sequence.destroy(fd, device)
    sweep(sequence, iommufd, memory)


def test_device(iommufd: Iommufd, memory: DmaBuffer) -> None:
    need_ioctl(iommufd, "IOMMU_HW_QUEUE_ALLOC", "6.17")
    sequence = Sequence()
    fd, ioas = sequence.open_iommufd(limited=False)
    other = sequence.ioctl(fd, "IOMMU_IOAS_ALLOC", "iommu_ioas_alloc")["out_ioas_id"]
    iova, page = lib.MOCK_APERTURE_START, 4096
    for target in (ioas, other):
        sequence.ioctl(
            fd,
            "IOMMU_IOAS_MAP",
            "iommu_ioas_map",
            flags=READ_WRITE | lib.IOMMU_IOAS_MAP_FIXED_IOVA,
            ioas_id=target,
            user_va=memory.user_va,
            length=page,
            iova=iova,
        )
    sequence.inject_from_here()

    flags = lib.MOCK_FLAGS_DEVICE_PASID
    device = sequence.test(fd, "MOCK_DOMAIN_FLAGS", ioas, "mock_domain_flags", dev_flags=flags)
    stdev, idev = device["mock_domain_flags.out_stdev_id"], device["mock_domain_flags.out_idev_id"]

    def hwpt(parent: StepField, flags: int, **more: int | StepField) -> StepField:
        return sequence.ioctl(
            fd, "IOMMU_HWPT_ALLOC", "iommu_hwpt_alloc", dev_id=idev, pt_id=parent, flags=flags, **more
        )["out_hwpt_id"]

    info = sequence.data("struct iommu_test_hw_info *")
    sequence.ioctl(fd, "IOMMU_GET_HW_INFO", "iommu_hw_info", dev_id=idev, data_len=8, data_uptr=info)
    attached = hwpt(ioas, lib.IOMMU_HWPT_ALLOC_PASID)
    sequence.test(fd, "MOCK_DOMAIN_REPLACE", stdev, "mock_domain_replace", pt_id=other)
    sequence.test(fd, "MOCK_DOMAIN_REPLACE", stdev, "mock_domain_replace", pt_id=attached)
    parent = hwpt(ioas, lib.IOMMU_HWPT_ALLOC_NEST_PARENT | lib.IOMMU_HWPT_ALLOC_PASID)
    viommu = sequence.ioctl(
        fd,
        "IOMMU_VIOMMU_ALLOC",
        "iommu_viommu_alloc",
        type=lib.IOMMU_VIOMMU_TYPE_SELFTEST,
        dev_id=idev,
        hwpt_id=parent,
    )["out_viommu_id"]
    sequence.ioctl(fd, "IOMMU_VDEVICE_ALLOC", "iommu_vdevice_alloc", viommu_id=viommu, dev_id=idev)
    sequence.ioctl(
        fd,
        "IOMMU_HW_QUEUE_ALLOC",
        "iommu_hw_queue_alloc",
        viommu_id=viommu,
        type=lib.IOMMU_HW_QUEUE_TYPE_SELFTEST,
        nesting_parent_iova=iova,
        length=page,
    )
    faults = sequence.ioctl(fd, "IOMMU_FAULT_QUEUE_ALLOC", "iommu_fault_alloc")
    sequence.close(faults["out_fault_fd"])
    data = sequence.data("struct iommu_hwpt_selftest *", {"iotlb": lib.IOMMU_TEST_IOTLB_DEFAULT})
    hwpt(
        parent,
        lib.IOMMU_HWPT_FAULT_ID_VALID,
        fault_id=faults["out_fault_id"],
        data_type=lib.IOMMU_HWPT_DATA_SELFTEST,
        data_len=8,
        data_uptr=data,
    )
    events = sequence.ioctl(
        fd,
        "IOMMU_VEVENTQ_ALLOC",
        "iommu_veventq_alloc",
        viommu_id=viommu,
        type=lib.IOMMU_VEVENTQ_TYPE_SELFTEST,
        veventq_depth=2,
    )
    sequence.close(events["out_veventq_fd"])
    replacement = hwpt(ioas, lib.IOMMU_HWPT_ALLOC_PASID)

    pasid = 200
    taken = sequence.test(fd, "PASID_ATTACH", stdev, "pasid_attach", pasid=pasid, pt_id=parent)
    sequence.test(fd, "PASID_REPLACE", stdev, "pasid_replace", pasid=pasid, pt_id=replacement)
    sequence.undo(taken, sequence.test(fd, "PASID_DETACH", stdev, "pasid_detach", pasid=pasid))
    sweep(sequence, iommufd, memory)
