# SPDX-License-Identifier: MIT
"""The ioctls of /dev/iommu (include/uapi/linux/iommufd.h), in the order of that header's numbers."""

import errno
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from iommufd_py.base.errors import check_result
from iommufd_py.uapi import call
from iommufd_py.uapi.call import address_of, issue, request, submit
from iommufd_py.uapi.enums import HwCapabilities, IommuOption, VfioIoasOp
from iommufd_py.uapi.ffi import ffi, lib

FIXED_IOVA: int = lib.IOMMU_IOAS_MAP_FIXED_IOVA
"""The flag of a map by which the caller chooses the IOVA."""

NO_ANSWER = (1 << 64) - 1
"""The value of an answer (:func:`new_answer`) if the kernel did nothing. No IOVA and no length has this value."""

DIRTY_BITMAP_NO_CLEAR: int = lib.IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR
PGFAULT_PASID_VALID: int = lib.IOMMU_PGFAULT_FLAGS_PASID_VALID
PGFAULT_LAST_PAGE: int = lib.IOMMU_PGFAULT_FLAGS_LAST_PAGE
VEVENT_LOST_EVENTS: int = lib.IOMMU_VEVENTQ_FLAG_LOST_EVENTS

IOCTLS = (*sorted(ffi.typeof("enum iommufd_ioctl").relements, key=request), "IOMMU_TEST_CMD")
"""Every ioctl of /dev/iommu, in the order of their numbers."""


@dataclass(frozen=True, slots=True)
class HwInfoAnswer:
    """The answer of IOMMU_GET_HW_INFO: the structure of the type as bytes, and the common fields."""

    data_type: int
    data: bytes
    max_pasid_log2: int
    capabilities: HwCapabilities


@dataclass(frozen=True, slots=True)
class EventQueueIds:
    """A fault or event queue: its object id and the file descriptor to read."""

    object_id: int
    fd: int


def probe(fd: int) -> dict[str, bool]:
    """Return for each ioctl whether this kernel has it. The call changes nothing.

    Each ioctl is issued with a size of zero in its structure. A kernel with the ioctl refuses that size before it looks
    at any field (EINVAL); a kernel without it answers ENOTTY. So no ioctl is executed, not even IOAS_ALLOC.
    """
    empty = ffi.new("uint64_t *")
    return {name: lib.iommufd_uapi_ioctl(fd, request(name), empty) != -errno.ENOTTY for name in IOCTLS}


def is_iommufd(fd: int) -> bool:
    """Return whether *fd* is an open iommufd. Like :func:`probe`, this issues an ioctl that the kernel never
    executes."""
    return lib.iommufd_uapi_ioctl(fd, request("IOMMU_DESTROY"), ffi.new("uint64_t *")) == -errno.EINVAL


def destroy(fd: int, object_id: int) -> None:
    """Destroy any object of the iommufd."""
    issue(fd, "IOMMU_DESTROY", "iommu_destroy", id=object_id)


def ioas_alloc(fd: int) -> int:
    """Return the id of a new, empty IOAS."""
    return int(issue(fd, "IOMMU_IOAS_ALLOC", "iommu_ioas_alloc").out_ioas_id)


def ioas_allow_iovas(fd: int, ioas_id: int, ranges: Sequence[tuple[int, int]]) -> None:
    """Keep *ranges* of (start, last) available in the IOAS. They replace the ranges of an earlier call."""
    array = ffi.new("struct iommu_iova_range[]", list(ranges))
    issue(
        fd,
        "IOMMU_IOAS_ALLOW_IOVAS",
        "iommu_ioas_allow_iovas",
        ioas_id=ioas_id,
        num_iovas=len(ranges),
        allowed_iovas=address_of(array),
    )


def ioas_copy(
    fd: int, dst_ioas_id: int, src_ioas_id: int, length: int, src_iova: int, dst_iova: int, flags: int
) -> int:
    """Map pages that one IOAS maps into another IOAS, and return the IOVA there."""
    arg = issue(
        fd,
        "IOMMU_IOAS_COPY",
        "iommu_ioas_copy",
        flags=flags,
        dst_ioas_id=dst_ioas_id,
        src_ioas_id=src_ioas_id,
        length=length,
        dst_iova=dst_iova,
        src_iova=src_iova,
    )
    return int(arg.dst_iova)


def ioas_iova_ranges(fd: int, ioas_id: int) -> tuple[list[tuple[int, int]], int]:
    """Return the allowed ranges as (start, last), and the alignment which IOVA and length must have."""
    count = 16
    while True:
        array = ffi.new("struct iommu_iova_range[]", count)
        arg = ffi.new("struct iommu_ioas_iova_ranges *")
        arg.size = ffi.sizeof(arg[0])
        arg.ioas_id = ioas_id
        arg.num_iovas = count
        arg.allowed_iovas = address_of(array)
        result = submit(fd, "IOMMU_IOAS_IOVA_RANGES", arg, {"ioas_id": ioas_id})
        if result != -errno.EMSGSIZE:
            break
        # The kernel returns the number of ranges. The number can grow before the next call, so repeat until all fit.
        count = arg.num_iovas
    check_result(result, "IOMMU_IOAS_IOVA_RANGES", {"ioas_id": ioas_id})
    ranges = [(int(array[i].start), int(array[i].last)) for i in range(arg.num_iovas)]
    return ranges, int(arg.out_iova_alignment)


def new_answer() -> Any:
    """Return a cell, ``answer[0]``, that holds :data:`NO_ANSWER` until ioas_map() or ioas_unmap() writes to it.

    C writes the cell when the kernel has finished. So the result is known even if a signal's exception replaces the
    return value.
    """
    return ffi.new("uint64_t *", NO_ANSWER)


def ioas_map(fd: int, ioas_id: int, user_va: int, length: int, iova: int, flags: int, answer: Any = None) -> int:
    """Map user memory. Return the IOVA, and write it to *answer* too.

    The kernel reads *iova* only with IOMMU_IOAS_MAP_FIXED_IOVA.
    """
    if answer is None:
        answer = new_answer()
    observed = call.observer is not None
    start = time.perf_counter_ns() if observed else 0
    try:
        result = lib.iommufd_uapi_ioas_map(fd, flags, ioas_id, user_va, length, iova, answer)
    except (OverflowError, TypeError):
        fields = {"flags": flags, "ioas_id": ioas_id, "user_va": user_va, "length": length, "iova": iova}
        call.refuse_fields("IOMMU_IOAS_MAP", "iommu_ioas_map", fields)
        raise
    if result or observed:
        fields = {"flags": flags, "ioas_id": ioas_id, "user_va": user_va, "length": length, "iova": iova}
        if observed:
            call.report_ioctl(fd, "IOMMU_IOAS_MAP", fields, result, {"iova": answer[0]}, start)
        check_result(result, "IOMMU_IOAS_MAP", fields)
    mapped: int = answer[0]
    return mapped


def ioas_map_file(fd: int, ioas_id: int, file: int, start: int, length: int, iova: int, flags: int) -> int:
    """Map a memfd or dma-buf from byte *start* and return its IOVA."""
    arg = issue(
        fd,
        "IOMMU_IOAS_MAP_FILE",
        "iommu_ioas_map_file",
        flags=flags,
        ioas_id=ioas_id,
        fd=file,
        start=start,
        length=length,
        iova=iova,
    )
    return int(arg.iova)


def ioas_unmap(fd: int, ioas_id: int, iova: int, length: int, answer: Any = None) -> int:
    """Unmap every mapping that lies wholly in the range, and return the bytes unmapped, also in *answer*.

    IOVA 0 and a length of 2^64-1 unmap everything.
    """
    if answer is None:
        answer = new_answer()
    observed = call.observer is not None
    start = time.perf_counter_ns() if observed else 0
    try:
        result = lib.iommufd_uapi_ioas_unmap(fd, ioas_id, iova, length, answer)
    except (OverflowError, TypeError):
        fields = {"ioas_id": ioas_id, "iova": iova, "length": length}
        call.refuse_fields("IOMMU_IOAS_UNMAP", "iommu_ioas_unmap", fields)
        raise
    if result or observed:
        fields = {"ioas_id": ioas_id, "iova": iova, "length": length}
        if observed:
            call.report_ioctl(fd, "IOMMU_IOAS_UNMAP", fields, result, {"length": answer[0]}, start)
        check_result(result, "IOMMU_IOAS_UNMAP", fields)
    unmapped: int = answer[0]
    return unmapped


def option_get(fd: int, option: IommuOption, object_id: int = 0) -> int:
    """Return an option's value."""
    arg = issue(fd, "IOMMU_OPTION", "iommu_option", option_id=option, op=lib.IOMMU_OPTION_OP_GET, object_id=object_id)
    return int(arg.val64)


def option_set(fd: int, option: IommuOption, value: int, object_id: int = 0) -> None:
    """Set an option."""
    issue(
        fd,
        "IOMMU_OPTION",
        "iommu_option",
        option_id=option,
        op=lib.IOMMU_OPTION_OP_SET,
        object_id=object_id,
        val64=value,
    )


def vfio_ioas(fd: int, op: VfioIoasOp, ioas_id: int = 0) -> int:
    """Get, set or clear the compatibility IOAS; returns its id for GET."""
    return int(issue(fd, "IOMMU_VFIO_IOAS", "iommu_vfio_ioas", ioas_id=ioas_id, op=op).ioas_id)


def hwpt_alloc(
    fd: int, dev_id: int, pt_id: int, flags: int = 0, data_type: int = 0, data: bytes = b"", fault_id: int = 0
) -> int:
    """Return the id of a new HWPT for a device, over an IOAS, a parent HWPT or a vIOMMU."""
    buffer = ffi.from_buffer(data)
    arg = issue(
        fd,
        "IOMMU_HWPT_ALLOC",
        "iommu_hwpt_alloc",
        flags=flags,
        dev_id=dev_id,
        pt_id=pt_id,
        data_type=data_type,
        data_len=len(data),
        data_uptr=address_of(buffer) if data else 0,
        fault_id=fault_id,
    )
    return int(arg.out_hwpt_id)


# This buffer is longer than the structure of any type. The kernel fills in its part and zeroes the rest.
_HW_INFO_BYTES = 256


def get_hw_info(fd: int, dev_id: int) -> HwInfoAnswer:
    """Return the kind and the registers of the IOMMU in front of a bound device."""
    data = ffi.new("uint8_t[]", _HW_INFO_BYTES)
    arg = issue(
        fd,
        "IOMMU_GET_HW_INFO",
        "iommu_hw_info",
        dev_id=dev_id,
        data_len=_HW_INFO_BYTES,
        data_uptr=address_of(data),
    )
    return HwInfoAnswer(
        data_type=int(arg.out_data_type),
        data=bytes(ffi.buffer(data, min(int(arg.data_len), _HW_INFO_BYTES))),
        max_pasid_log2=int(arg.out_max_pasid_log2),
        capabilities=HwCapabilities(int(arg.out_capabilities)),
    )


def hwpt_set_dirty_tracking(fd: int, hwpt_id: int, enable: bool) -> None:
    """Switch dirty tracking of a HWPT on or off."""
    issue(
        fd,
        "IOMMU_HWPT_SET_DIRTY_TRACKING",
        "iommu_hwpt_set_dirty_tracking",
        flags=lib.IOMMU_HWPT_DIRTY_TRACKING_ENABLE if enable else 0,
        hwpt_id=hwpt_id,
    )


def hwpt_get_dirty_bitmap(
    fd: int, hwpt_id: int, iova: int, length: int, page_size: int, bitmap: bytearray, flags: int = 0
) -> None:
    """Set the bits of the dirty pages of an IOVA range in *bitmap*, one bit per *page_size* bytes, low bit first."""
    buffer = ffi.from_buffer(bitmap, require_writable=True)
    issue(
        fd,
        "IOMMU_HWPT_GET_DIRTY_BITMAP",
        "iommu_hwpt_get_dirty_bitmap",
        hwpt_id=hwpt_id,
        flags=flags,
        iova=iova,
        length=length,
        page_size=page_size,
        data=address_of(buffer),
    )


def hwpt_invalidate(fd: int, hwpt_id: int, data_type: int, entries: bytes, entry_bytes: int) -> int:
    """Invalidate cached entries of a nested HWPT or vIOMMU, and return the number of handled entries.

    In an error, ``arguments["handled"]`` is the number of entries before the failed one.
    """
    buffer = ffi.from_buffer(entries)
    arg = ffi.new("struct iommu_hwpt_invalidate *")
    arg.size = ffi.sizeof(arg[0])
    fields = {
        "hwpt_id": hwpt_id,
        "data_uptr": address_of(buffer) if entries else 0,
        "data_type": data_type,
        "entry_len": entry_bytes,
        "entry_num": len(entries) // entry_bytes if entry_bytes else 0,
    }
    call.fill("IOMMU_HWPT_INVALIDATE", arg, fields)
    result = submit(fd, "IOMMU_HWPT_INVALIDATE", arg, fields)
    check_result(result, "IOMMU_HWPT_INVALIDATE", {**fields, "handled": int(arg.entry_num)})
    return int(arg.entry_num)


def fault_queue_alloc(fd: int) -> EventQueueIds:
    """Return a new queue for IO page faults."""
    arg = issue(fd, "IOMMU_FAULT_QUEUE_ALLOC", "iommu_fault_alloc")
    return EventQueueIds(int(arg.out_fault_id), int(arg.out_fault_fd))


def viommu_alloc(fd: int, viommu_type: int, dev_id: int, hwpt_id: int, data: bytearray | None = None) -> int:
    """Return the id of a new vIOMMU on a nest-parent HWPT; the type's *data* is read and written in place."""
    buffer: Any = ffi.from_buffer(data, require_writable=True) if data else ffi.NULL
    arg = issue(
        fd,
        "IOMMU_VIOMMU_ALLOC",
        "iommu_viommu_alloc",
        type=viommu_type,
        dev_id=dev_id,
        hwpt_id=hwpt_id,
        data_len=len(data or b""),
        data_uptr=address_of(buffer),
    )
    return int(arg.out_viommu_id)


def vdevice_alloc(fd: int, viommu_id: int, dev_id: int, virt_id: int) -> int:
    """Return the id of a new virtual device on a vIOMMU."""
    arg = issue(fd, "IOMMU_VDEVICE_ALLOC", "iommu_vdevice_alloc", viommu_id=viommu_id, dev_id=dev_id, virt_id=virt_id)
    return int(arg.out_vdevice_id)


def ioas_change_process(fd: int) -> None:
    """Charge the pinned memory of the whole iommufd to the calling process."""
    issue(fd, "IOMMU_IOAS_CHANGE_PROCESS", "iommu_ioas_change_process")


def veventq_alloc(fd: int, viommu_id: int, event_type: int, depth: int) -> EventQueueIds:
    """Return a new queue for events of a vIOMMU; it holds *depth* events."""
    arg = issue(
        fd, "IOMMU_VEVENTQ_ALLOC", "iommu_veventq_alloc", viommu_id=viommu_id, type=event_type, veventq_depth=depth
    )
    return EventQueueIds(int(arg.out_veventq_id), int(arg.out_veventq_fd))


def hw_queue_alloc(fd: int, viommu_id: int, queue_type: int, index: int, iova: int, length: int) -> int:
    """Return the id of a new hardware queue; its ring starts at *iova* of the nesting parent."""
    arg = issue(
        fd,
        "IOMMU_HW_QUEUE_ALLOC",
        "iommu_hw_queue_alloc",
        viommu_id=viommu_id,
        type=queue_type,
        index=index,
        nesting_parent_iova=iova,
        length=length,
    )
    return int(arg.out_hw_queue_id)


def ioas_noiommu_get_pa(fd: int, ioas_id: int, iova: int, length: int) -> tuple[int, int]:
    """Return the physical address behind *iova* and the number of contiguous bytes from there, at most *length*."""
    arg = issue(fd, "IOMMU_IOAS_NOIOMMU_GET_PA", "iommu_ioas_noiommu_get_pa", ioas_id=ioas_id, iova=iova, length=length)
    return int(arg.out_phys), int(arg.length)
