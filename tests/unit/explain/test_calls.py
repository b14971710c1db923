# SPDX-License-Identifier: MIT
"""Trace records of ioctls become calls, each with its request, its thread and its result."""

import pytest

from iommufd_py.explain.calls import Request, calls_of, request_of
from iommufd_py.host.trace_records import TraceRecord, parse_trace

READ_WRITE, FIXED = 6, 1


def words(cmd: int, *values: int | str) -> dict[str, int | str]:
    return {"cmd": cmd} | {f"word{at}": value for at, value in enumerate(values)}


@pytest.mark.parametrize(
    ("fields", "request_"),
    [
        # struct iommu_ioas_map: size and flags, id, user_va, length, iova.
        (
            words(0x3B85, 40 | (READ_WRITE | FIXED) << 32, 7, 0x7F00_0000, 1 << 21, 1 << 32),
            Request("IOMMU_IOAS_MAP", 1 << 32, 1 << 21, 0x7F00_0000),
        ),
        # Without the flag, the field of the IOVA holds anything: the kernel writes it.
        (words(0x3B85, 40 | READ_WRITE << 32, 7, 4096, 8192, 99), Request("IOMMU_IOAS_MAP", None, 8192, 4096)),
        # size and flags, id and file, start, length, iova.
        (
            words(0x3B8F, 40 | FIXED << 32, 7 | 12 << 32, 0, 4096, 1 << 20),
            Request("IOMMU_IOAS_MAP_FILE", 1 << 20, 4096, None, 12),
        ),
        # size and flags, two ids, length, dst_iova, src_iova.
        (words(0x3B83, 40 | FIXED << 32, 0, 4096, 1 << 20, 1 << 21), Request("IOMMU_IOAS_COPY", 1 << 20, 4096)),
        (words(0x3B86, 24 | 7 << 32, 1 << 20, 4096, 5, 5), Request("IOMMU_IOAS_UNMAP", 1 << 20, 4096)),
        (words(0x3B86, 24 | 7 << 32, 0, (1 << 64) - 1, 5, 5), Request("IOMMU_IOAS_UNMAP", 0, None)),
        # struct vfio_iommu_type1_dma_map: argsz and flags, vaddr, iova, size.
        (words(0x3B71, 32 | 3 << 32, 1 << 40, 1 << 20, 4096, 9), Request("VFIO_IOMMU_MAP_DMA", 1 << 20, 4096, 1 << 40)),
        (words(0x3B72, 24, 1 << 20, 4096, 9, 9), Request("VFIO_IOMMU_UNMAP_DMA", 1 << 20, 4096)),
        (words(0x3B77, 24, 1, 2, 3, 4), Request("VFIO_DEVICE_ATTACH_IOMMUFD_PT")),
        (words(0x1234, 1, 2, 3, 4, 5), Request("ioctl 0x1234")),
        # A word that is not in memory.
        (words(0x3B86, 24, "(fault)", 4096, 0, 0), Request("IOMMU_IOAS_UNMAP", None, 4096)),
        ({}, Request("ioctl")),
    ],
)
def test_requests(fields: dict[str, int | str], request_: Request) -> None:
    assert request_of(fields) == request_


# From 7.3 in the lab.
TRACE = """\
        dma_user-81      [001] .....    10.000000000: iommufd_fops_ioctl: (iommufd_fops_ioctl+0x0/0x150) cmd=0x3b86 \
word0=0x100000018 word1=0x10000000 word2=0x200000 word3=0x0 word4=0x0
        dma_user-82      [000] .....    10.500000000: vfio_fops_unl_ioctl: (vfio_fops_unl_ioctl+0x0/0x150) cmd=0x3b71 \
word0=0x300000020 word1=0x1000 word2=0x2000 word3=0x3000 word4=0x0
        dma_user-81      [001] .....    11.000000000: iommufd_fops_ioctl_returned: (__x64_sys_ioctl+0x92/0xc0 <- \
iommufd_fops_ioctl) result=-2
        dma_user-83      [001] .....    12.000000000: iommufd_fops_ioctl_returned: (__x64_sys_ioctl+0x92/0xc0 <- \
iommufd_fops_ioctl) result=0
"""


def test_calls_of_threads_are_paired_and_a_return_alone_is_left_out() -> None:
    unmap, map_ = calls_of(parse_trace(TRACE.splitlines()))
    assert (unmap.tid, unmap.start, unmap.end, unmap.result) == (81, 10, 11, -2)
    assert unmap.request == Request("IOMMU_IOAS_UNMAP", 0x10000000, 0x200000)
    assert (map_.tid, map_.end, map_.result, map_.request.is_map) == (82, None, None, True)


def test_other_events_are_no_calls() -> None:
    assert calls_of([TraceRecord(1.0, 7, 0, "iommu_map", ""), TraceRecord(2.0, 7, 0, "iommu_map_returned", "")]) == []
