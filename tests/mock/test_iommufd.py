# SPDX-License-Identifier: MIT
"""Fixture `iommufd` of the kernel's selftests: an iommufd without objects."""

import errno
import fcntl
import os

import pytest

from iommufd_py import DmaBuffer, Iommufd
from iommufd_py.mock import APERTURE
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi import vfio
from iommufd_py.uapi.call import issue_argsz, pack, request, unpack
from iommufd_py.uapi.enums import IommuOption, VfioExtension, VfioIoasOp
from iommufd_py.uapi.ffi import ffi, lib
from tests.conftest import fails

PAGE = 4096

# Each ioctl with its structure and the last mandatory field (drivers/iommu/iommufd/main.c).
COMMANDS = {
    "IOMMU_DESTROY": ("iommu_destroy", "id"),
    "IOMMU_FAULT_QUEUE_ALLOC": ("iommu_fault_alloc", "out_fault_fd"),
    "IOMMU_GET_HW_INFO": ("iommu_hw_info", "__reserved"),
    "IOMMU_HW_QUEUE_ALLOC": ("iommu_hw_queue_alloc", "length"),
    "IOMMU_HWPT_ALLOC": ("iommu_hwpt_alloc", "__reserved"),
    "IOMMU_HWPT_GET_DIRTY_BITMAP": ("iommu_hwpt_get_dirty_bitmap", "data"),
    "IOMMU_HWPT_INVALIDATE": ("iommu_hwpt_invalidate", "__reserved"),
    "IOMMU_HWPT_SET_DIRTY_TRACKING": ("iommu_hwpt_set_dirty_tracking", "__reserved"),
    "IOMMU_IOAS_ALLOC": ("iommu_ioas_alloc", "out_ioas_id"),
    "IOMMU_IOAS_ALLOW_IOVAS": ("iommu_ioas_allow_iovas", "allowed_iovas"),
    "IOMMU_IOAS_CHANGE_PROCESS": ("iommu_ioas_change_process", "__reserved"),
    "IOMMU_IOAS_COPY": ("iommu_ioas_copy", "src_iova"),
    "IOMMU_IOAS_IOVA_RANGES": ("iommu_ioas_iova_ranges", "out_iova_alignment"),
    "IOMMU_IOAS_MAP": ("iommu_ioas_map", "iova"),
    "IOMMU_IOAS_MAP_FILE": ("iommu_ioas_map_file", "iova"),
    "IOMMU_IOAS_NOIOMMU_GET_PA": ("iommu_ioas_noiommu_get_pa", "out_phys"),
    "IOMMU_IOAS_UNMAP": ("iommu_ioas_unmap", "length"),
    "IOMMU_OPTION": ("iommu_option", "val64"),
    "IOMMU_VDEVICE_ALLOC": ("iommu_vdevice_alloc", "virt_id"),
    "IOMMU_VEVENTQ_ALLOC": ("iommu_veventq_alloc", "out_veventq_fd"),
    "IOMMU_VFIO_IOAS": ("iommu_vfio_ioas", "__reserved"),
    "IOMMU_VIOMMU_ALLOC": ("iommu_viommu_alloc", "out_viommu_id"),
}


def raw(iommufd: Iommufd, ioctl: str, memory: bytes, size: int) -> int:
    """Issue an ioctl with *memory* and the size *size*; return the errno, 0 for success."""
    argument = bytearray(size.to_bytes(4, "little") + memory[4:])
    try:
        fcntl.ioctl(iommufd, request(ioctl), argument, True)
    except OSError as failure:
        return failure.errno or 0
    if ioctl == "IOMMU_FAULT_QUEUE_ALLOC":
        os.close(unpack("iommu_fault_alloc", bytes(argument)).out_fault_fd)
    return 0


def test_simple_close(iommufd: Iommufd) -> None:
    iommufd.close()


def test_cmd_fail(iommufd: Iommufd) -> None:
    with fails(errno.ENOENT):
        uapi.destroy(iommufd.fileno(), 0)
    with fails(errno.EFAULT):
        fcntl.ioctl(iommufd, request("IOMMU_DESTROY"), 0)
    # The number before the first ioctl of iommufd.
    unknown = bytearray(pack("iommu_destroy", size=8))
    with fails(errno.ENOTTY):
        fcntl.ioctl(iommufd, request("IOMMU_DESTROY") - 1, unknown, True)


@pytest.mark.parametrize("ioctl", COMMANDS)
def test_cmd_length(iommufd: Iommufd, ioctl: str) -> None:
    if not iommufd.probe()[ioctl]:
        pytest.skip(f"this kernel has no {ioctl}")
    structure, last = COMMANDS[ioctl]
    fields = dict(ffi.typeof(f"struct {structure}").fields)
    shortest = fields[last].offset + ffi.sizeof(fields[last].type)
    length = ffi.sizeof(f"struct {structure}")
    assert raw(iommufd, ioctl, bytes(length + 1), shortest - 1) == errno.EINVAL
    assert raw(iommufd, ioctl, bytes(length) + b"\xff", length + 1) == errno.E2BIG
    # A longer structure is accepted if the part that the kernel does not know is zero.
    assert raw(iommufd, ioctl, bytes(length + 1), length + 1) == raw(iommufd, ioctl, bytes(length), length)


def test_cmd_ex_fail(iommufd: Iommufd) -> None:
    future = 8
    assert raw(iommufd, "IOMMU_DESTROY", bytes(8 + future), 8 + future) == errno.ENOENT
    assert raw(iommufd, "IOMMU_DESTROY", bytes(8) + b"\1" + bytes(future - 1), 8 + future) == errno.E2BIG
    assert raw(iommufd, "IOMMU_DESTROY", bytes(8), 8) == errno.ENOENT
    assert raw(iommufd, "IOMMU_DESTROY", bytes(8), 7) == errno.EINVAL


def test_global_options(iommufd: Iommufd) -> None:
    fd = iommufd.fileno()
    assert iommufd.rlimit_mode == 0
    iommufd.rlimit_mode = 1
    with fails(errno.EINVAL):
        iommufd.rlimit_mode = 2
    assert iommufd.rlimit_mode == 1
    iommufd.rlimit_mode = 0
    # This option belongs to an IOAS.
    with fails(errno.ENOENT):
        uapi.option_get(fd, IommuOption.HUGE_PAGES)
    with fails(errno.ENOENT):
        uapi.option_set(fd, IommuOption.HUGE_PAGES, 1)


# --- the VFIO type1 interface on an iommufd that has no compatibility IOAS ---------------------------------------


def test_simple_ioctls(iommufd: Iommufd) -> None:
    assert vfio.get_api_version(iommufd.fileno()) == 0
    assert vfio.check_extension(iommufd.fileno(), VfioExtension.TYPE1V2_IOMMU) == 1


def refuse_type1(iommufd: Iommufd, ioctl: str, structure: str, **fields: int) -> None:
    """Check that a type1 ioctl refuses a short structure, and a whole one without a compatibility IOAS."""
    with fails(errno.EINVAL):
        fcntl.ioctl(iommufd, request(ioctl), bytearray(pack(structure, argsz=1, **fields)), True)
    with fails(errno.ENODEV):
        issue_argsz(iommufd.fileno(), ioctl, structure, **fields)


def test_unmap_cmd(iommufd: Iommufd) -> None:
    command = {"iova": APERTURE.start, "size": PAGE}
    with fails(errno.EINVAL):
        issue_argsz(iommufd.fileno(), "VFIO_IOMMU_UNMAP_DMA", "vfio_iommu_type1_dma_unmap", flags=1 << 31, **command)
    refuse_type1(iommufd, "VFIO_IOMMU_UNMAP_DMA", "vfio_iommu_type1_dma_unmap", **command)


def test_map_cmd(iommufd: Iommufd, shared_buffer: DmaBuffer) -> None:
    command = {"iova": APERTURE.start, "size": PAGE, "vaddr": shared_buffer.user_va}
    with fails(errno.EINVAL):
        issue_argsz(iommufd.fileno(), "VFIO_IOMMU_MAP_DMA", "vfio_iommu_type1_dma_map", flags=1 << 31, **command)
    read_write = lib.VFIO_DMA_MAP_FLAG_READ | lib.VFIO_DMA_MAP_FLAG_WRITE
    refuse_type1(iommufd, "VFIO_IOMMU_MAP_DMA", "vfio_iommu_type1_dma_map", flags=read_write, **command)


def test_info_cmd(iommufd: Iommufd) -> None:
    refuse_type1(iommufd, "VFIO_IOMMU_GET_INFO", "vfio_iommu_type1_info")


def test_set_iommu_cmd(iommufd: Iommufd) -> None:
    for version in (VfioExtension.TYPE1V2_IOMMU, VfioExtension.TYPE1_IOMMU):
        with fails(errno.ENODEV):
            vfio.set_iommu(iommufd.fileno(), version)


def test_vfio_ioas(iommufd: Iommufd) -> None:
    fd = iommufd.fileno()
    with fails(errno.ENODEV):
        uapi.vfio_ioas(fd, VfioIoasOp.GET)
    with fails(errno.ENOENT):
        uapi.vfio_ioas(fd, VfioIoasOp.SET, 0)
    ioas = iommufd.alloc_ioas()
    uapi.vfio_ioas(fd, VfioIoasOp.SET, ioas.id)
    assert uapi.vfio_ioas(fd, VfioIoasOp.GET) == ioas.id
    uapi.vfio_ioas(fd, VfioIoasOp.CLEAR)
    with fails(errno.ENODEV):
        uapi.vfio_ioas(fd, VfioIoasOp.GET)
