# SPDX-License-Identifier: MIT
"""Wrong arguments of calls that need kernel objects, and a check that no public call is left out."""

from collections.abc import Iterator

import pytest
from hypothesis import strategies as st

from iommufd_py import (
    Backing,
    DmaBuffer,
    HwptAllocFlags,
    HwptInvalidateType,
    Iommufd,
    IovaRange,
    MapFlags,
    MockAccess,
    MockDevice,
    PageFault,
    PageFaultPermission,
    VEventQueueType,
    VIommuType,
)
from iommufd_py.mock import APERTURE, MockDmabuf, add_reserved, check_map, check_refs, hwpt_data, limit_memory
from tests.bad_values import ADDRESS, BOOL, BYTES, FLAGS, INT32, OBJECT, SECONDS, Case, hold
from tests.conftest import need_ioctl

PAGE = 4096
BASE = APERTURE.start


def _cases(iommufd: Iommufd) -> Iterator[Case]:
    ioas = iommufd.alloc_ioas()
    device = MockDevice(iommufd)
    buffer = DmaBuffer(2 * PAGE, Backing.MEMFD)
    mapping = ioas.map(buffer, BASE)
    hwpt = device.alloc_hwpt(ioas, flags=HwptAllocFlags.DIRTY_TRACKING)
    other = iommufd.alloc_ioas()
    access = MockAccess(ioas)
    pinning = MockAccess(ioas, pins=True)

    yield Case(buffer.check_range, {"offset": ADDRESS, "length": ADDRESS}, {"offset": 0, "length": PAGE})
    yield Case(
        ioas.map,
        {"buffer": OBJECT, "iova": ADDRESS, "offset": ADDRESS, "length": ADDRESS, "flags": FLAGS},
        {"buffer": buffer, "iova": BASE + (1 << 20), "flags": MapFlags.READABLE},
    )
    yield Case(
        ioas.map_file,
        {"buffer": OBJECT, "iova": ADDRESS, "offset": ADDRESS, "length": ADDRESS, "flags": FLAGS},
        {"buffer": buffer, "iova": BASE + (1 << 20)},
    )
    yield Case(
        ioas.map_user_va,
        {"user_va": ADDRESS, "length": ADDRESS, "iova": ADDRESS, "flags": FLAGS},
        {"user_va": buffer.user_va, "length": PAGE, "iova": BASE + (1 << 20)},
    )
    yield Case(
        ioas.map_fd,
        {"fd": ADDRESS, "start": ADDRESS, "length": ADDRESS, "iova": ADDRESS, "flags": FLAGS},
        {"fd": buffer.fd, "start": 0, "length": PAGE, "iova": BASE + (1 << 20)},
    )
    yield Case(
        other.copy,
        {"source": OBJECT, "iova": ADDRESS, "offset": ADDRESS, "length": ADDRESS, "flags": FLAGS},
        {"source": mapping, "iova": BASE},
    )
    yield Case(
        other.copy_iova,
        {"source": OBJECT, "source_iova": ADDRESS, "length": ADDRESS, "iova": ADDRESS, "flags": FLAGS},
        {"source": ioas, "source_iova": BASE, "length": PAGE, "iova": BASE},
    )
    yield Case(ioas.unmap, {"iova": ADDRESS, "length": ADDRESS}, {"iova": BASE + (1 << 30), "length": PAGE})
    yield Case(ioas.allow_iovas, {"ranges": st.integers() | st.lists(st.integers(), min_size=1)}, {})
    yield Case(
        device.alloc_hwpt,
        {"ioas": OBJECT, "flags": FLAGS, "coherency": OBJECT, "data": OBJECT, "fault_queue": OBJECT},
        {"ioas": ioas},
    )
    yield Case(
        device.alloc_nested,
        {"parent": OBJECT, "data": OBJECT, "flags": FLAGS, "fault_queue": OBJECT},
        {"parent": hwpt, "data": hwpt_data()},
    )
    yield Case(
        device.alloc_viommu,
        {"parent": OBJECT, "viommu_type": INT32, "data": BYTES},
        {"parent": hwpt, "viommu_type": VIommuType.SELFTEST},
    )
    yield Case(device.attach, {"target": OBJECT, "pasid": INT32}, {"target": other})
    yield Case(device.detach, {"pasid": st.text()}, {})
    yield Case(device.check_pasid, {"pasid": INT32, "hwpt_id": INT32}, {"pasid": 1, "hwpt_id": 0})
    yield Case(device.check_cache, {"index": INT32, "value": INT32}, {"index": 0, "value": 0})
    yield Case(
        device.trigger_fault,
        {"address": ADDRESS, "permission": FLAGS, "pasid": INT32, "group": INT32},
        {"address": 0, "permission": PageFaultPermission.READ},
    )
    yield Case(
        hwpt.track_dirty().read,
        {"iova": ADDRESS, "length": ADDRESS, "page_bytes": ADDRESS, "clear": BOOL},
        {"iova": BASE, "length": PAGE},
    )
    yield Case(MockDevice, {"flags": FLAGS, "target": OBJECT}, {"iommufd": iommufd})
    yield Case(MockAccess, {"pins": BOOL}, {"ioas": ioas})
    yield Case(MockDmabuf, {"length": ADDRESS}, {"iommufd": iommufd})
    yield Case(
        pinning.pin,
        {"iova": ADDRESS, "length": ADDRESS, "user_va": ADDRESS, "write": BOOL},
        {"iova": BASE, "length": PAGE, "user_va": buffer.user_va},
    )
    yield Case(access.read, {"iova": ADDRESS, "length": ADDRESS}, {"iova": BASE, "length": 1})
    yield Case(access.write, {"iova": ADDRESS, "data": BYTES}, {"iova": BASE, "data": b"x"})
    yield Case(access.replace, {"ioas": OBJECT}, {})
    yield Case(
        add_reserved, {"ioas": OBJECT, "start": ADDRESS, "length": ADDRESS}, {"ioas": other, "start": 0, "length": 1}
    )
    yield Case(limit_memory, {"byte_limit": st.text()}, {"iommufd": iommufd})
    yield Case(
        check_map,
        {"hwpt_id": INT32, "iova": ADDRESS, "length": ADDRESS, "user_va": ADDRESS},
        {"iommufd": iommufd, "hwpt_id": hwpt.id, "iova": BASE, "length": PAGE, "user_va": buffer.user_va},
    )
    yield Case(
        check_refs,
        {"user_va": ADDRESS, "length": ADDRESS, "pins": INT32},
        {"iommufd": iommufd, "user_va": buffer.user_va, "length": PAGE, "pins": 1},
    )
    buffer.close()


def test_a_wrong_argument_is_refused_in_one_sentence(iommufd: Iommufd, mock_device: MockDevice) -> None:
    for case in _cases(iommufd):
        hold(case, examples=6)


def test_wrong_arguments_of_a_viommu(iommufd: Iommufd) -> None:
    need_ioctl(iommufd, "IOMMU_HW_QUEUE_ALLOC", "6.17")
    ioas, device = iommufd.alloc_ioas(), MockDevice(iommufd)
    with DmaBuffer(PAGE) as buffer:
        mapping = ioas.map(buffer, BASE)
        parent = device.alloc_hwpt(ioas, flags=HwptAllocFlags.NEST_PARENT)
        nested = device.alloc_nested(parent, hwpt_data())
        viommu = device.alloc_viommu(parent, VIommuType.SELFTEST)
        for case in (
            Case(viommu.alloc_vdevice, {"device": OBJECT, "virt_id": ADDRESS}, {"device": device, "virt_id": 1}),
            Case(
                viommu.alloc_event_queue,
                {"event_type": st.text(), "depth": INT32},
                {"event_type": VEventQueueType.SELFTEST, "depth": 2},
            ),
            Case(
                viommu.alloc_hw_queue,
                {"queue_type": INT32, "index": INT32, "mapping": OBJECT, "offset": ADDRESS, "length": ADDRESS},
                {"queue_type": 0xDEADBEEF, "index": 0, "mapping": mapping},
            ),
            Case(viommu.map_memory, {"offset": ADDRESS, "length": ADDRESS}, {"offset": 0, "length": PAGE}),
            Case(nested.invalidate, {"data_type": INT32}, {}),
        ):
            hold(case, examples=6)
        for wrong in (5, "text", None):
            with pytest.raises(TypeError, match="entries must be bytes"):
                nested.invalidate(HwptInvalidateType.SELFTEST, wrong)  # type: ignore[arg-type]


def test_wrong_arguments_of_a_fault_queue(iommufd: Iommufd) -> None:
    with iommufd.alloc_fault_queue() as queue:
        fault = PageFault(1, None, 0, True, PageFaultPermission.READ, 0, 0, 1)
        for case in (
            Case(queue.read, {"timeout": SECONDS}, {}),
            Case(queue.wait, {"timeout": SECONDS}, {}),
            Case(queue.respond, {"fault": OBJECT, "code": st.text()}, {"fault": fault}),
        ):
            hold(case, examples=6)
        assert not queue.wait(0)


def test_wrong_values_say_which_field(iommufd: Iommufd) -> None:
    with iommufd.alloc_ioas() as ioas, DmaBuffer(PAGE) as buffer:
        for iova, kind, text in (
            (-PAGE, ValueError, r"IOMMU_IOAS_MAP: iova must be from 0 to 0xffffffffffffffff, not -4096"),
            (1 << 64, ValueError, r"IOMMU_IOAS_MAP: iova must be from 0 to 0xf+, not 0x10000000000000000"),
            (1.0, TypeError, r"iova must be an int or None, not 1\.0"),
            (True, TypeError, r"iova must be an int or None, not True"),
            ([], TypeError, r"iova must be an int or None, not the list \[\]"),
        ):
            with pytest.raises(kind, match=text):
                ioas.map(buffer, iova)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"ranges must hold IovaRange objects, not 5"):
            ioas.allow_iovas([IovaRange(0, 1), 5])  # type: ignore[list-item]
