# SPDX-License-Identifier: MIT
"""Fixture `vfio_compat_mock_domain` of the kernel's selftests: the VFIO type1 interface of an iommufd."""

import errno
import random
import struct

import pytest

from iommufd_py import Backing, DmaBuffer, Ioas, Iommufd, MockDevice
from iommufd_py.mock import APERTURE
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi import vfio
from iommufd_py.uapi.call import issue_pointer, size_of
from iommufd_py.uapi.enums import VfioExtension, VfioIoasOp
from iommufd_py.uapi.ffi import ffi, lib
from tests.conftest import fails, need_huge_pages, need_mock_driver

PAGE = 4096
READ_WRITE: int = lib.VFIO_DMA_MAP_FLAG_READ | lib.VFIO_DMA_MAP_FLAG_WRITE
VERSIONS = {"Ver1v2": VfioExtension.TYPE1V2_IOMMU, "Ver1v0": VfioExtension.TYPE1_IOMMU}


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> VfioExtension:
    return VERSIONS[request.param]


@pytest.fixture(autouse=True)
def fd(version: VfioExtension, iommufd: Iommufd, ioas: Ioas) -> int:
    need_mock_driver(iommufd)
    MockDevice(iommufd, target=ioas)
    uapi.vfio_ioas(iommufd.fileno(), VfioIoasOp.SET, ioas.id)
    vfio.set_iommu(iommufd.fileno(), version)
    return iommufd.fileno()


def test_simple_close(iommufd: Iommufd) -> None:
    iommufd.close()


def test_option_huge_pages(version: VfioExtension, ioas: Ioas) -> None:
    """Type1 can divide mappings anywhere, so it has no large leaves."""
    assert ioas.huge_pages == (version is VfioExtension.TYPE1V2_IOMMU)


def test_get_info(fd: int) -> None:
    """For any size of the answer, the kernel writes nothing past it, and its capabilities are complete."""
    flags = lib.VFIO_IOMMU_INFO_PGSIZES | lib.VFIO_IOMMU_INFO_CAPS
    header = size_of("vfio_info_cap_header")

    def ask(room: int) -> bytes:
        memory = bytearray(b"\xaa" * PAGE)
        struct.pack_into("=II", memory, 0, room, 0)
        memory[8:room] = bytes(room - 8)
        issue_pointer(fd, "VFIO_IOMMU_GET_INFO", ffi.from_buffer(memory), {"argsz": room})
        assert memory[room:] == b"\xaa" * (PAGE - room)
        argsz, got_flags, page_sizes = struct.unpack_from("=IIQ", memory)
        assert got_flags == flags
        assert page_sizes
        return bytes(memory[: min(argsz, room)]) if argsz <= room else struct.pack("=I", argsz) + bytes(memory[4:room])

    def check_chain(answer: bytes, offset: int) -> None:
        while offset:
            assert offset + header <= len(answer)
            identity, capability_version, following = struct.unpack_from("=HHI", answer, offset)
            capability = answer[offset : following or len(answer)]
            assert capability_version == 1
            if identity == lib.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE:
                assert struct.unpack_from("=IIQQ", capability, header) == (1, 0, APERTURE.start, APERTURE.last)
            else:
                assert identity == lib.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL
                assert 0 <= len(capability) - size_of("vfio_iommu_type1_info_dma_avail") < 8  # padded to 8
            offset = following

    cap_offset_at = ffi.offsetof("struct vfio_iommu_type1_info", "cap_offset")
    ask(cap_offset_at)  # Programs from the time before capabilities do this.
    size = size_of("vfio_iommu_type1_info")
    wanted = struct.unpack_from("=I", ask(size))[0]
    assert wanted > size
    for room in range(size, wanted + 1):
        answer = ask(room)
        check_chain(answer, struct.unpack_from("=I", answer, cap_offset_at)[0])
    assert struct.unpack_from("=I", ask(wanted), cap_offset_at)[0] != 0


def test_map(fd: int, shared_buffer: DmaBuffer) -> None:
    base, length, user_va = APERTURE.start, shared_buffer.length, shared_buffer.user_va
    vfio.iommu_map_dma(fd, user_va, base, length, READ_WRITE)
    assert vfio.iommu_unmap_dma(fd, base, length) == length
    assert vfio.iommu_unmap_dma(fd, base, length) == 0

    vfio.iommu_map_dma(fd, user_va, base, length, READ_WRITE)
    with fails(errno.EINVAL):
        vfio.iommu_unmap_dma(fd, base, length, lib.VFIO_DMA_UNMAP_FLAG_ALL)
    assert vfio.iommu_unmap_dma(fd, 0, 0, lib.VFIO_DMA_UNMAP_FLAG_ALL) == length

    pages = list(range(0, length, PAGE))
    for offset in pages:
        vfio.iommu_map_dma(fd, user_va + offset, base + offset, PAGE, READ_WRITE)
    random.shuffle(pages)
    for offset in pages:
        assert vfio.iommu_unmap_dma(fd, base + offset, PAGE) == PAGE


def test_huge_map(version: VfioExtension, fd: int, iommufd: Iommufd) -> None:
    need_huge_pages()
    base = APERTURE.start
    with DmaBuffer(4 << 20, Backing.HUGETLB_2M) as buffer:
        vfio.iommu_map_dma(fd, buffer.user_va, base, buffer.length, READ_WRITE)
        piece = buffer.length // 16
        pieces = list(range(0, buffer.length, piece))
        random.shuffle(pieces)
        for offset in pieces:
            if version is VfioExtension.TYPE1_IOMMU:
                assert vfio.iommu_unmap_dma(fd, base + offset, piece) == piece
            else:
                with fails(errno.ENOENT):
                    vfio.iommu_unmap_dma(fd, base + offset, piece)
        iommufd.close()
