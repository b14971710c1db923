# SPDX-License-Identifier: MIT
"""The five ways in which VFIO gives a device an IO address space, behind one interface.

    with open_container(ContainerMode.VFIO_TYPE1V2, "0000:3b:00.0") as container, DmaBuffer(2 << 20) as buffer:
        mapping = container.map(buffer, 0x1_0000_0000)
        container.device.config.read_int(0, 2)

What is written so runs in all of them.
"""

import os
from enum import StrEnum
from pathlib import Path

from iommufd_py.context import DEV_IOMMU, Iommufd
from iommufd_py.device import VfioDevice, normalize_bdf
from iommufd_py.enums import MapFlags, Type1MapFlags, Type1UnmapFlags, VfioExtension
from iommufd_py.errors import SkipError, ToolError
from iommufd_py.group import VfioGroup, VfioGroupDevice, iommu_group
from iommufd_py.ioas import DmaMapping
from iommufd_py.iova import IovaRange, IovaRanges
from iommufd_py.mapping import Mapping, MappingSpace
from iommufd_py.memory import DmaBuffer
from iommufd_py.resource import Resource
from iommufd_py.uapi import vfio
from iommufd_py.vfio_pci import VfioPciDevice

__all__ = [
    "DEV_VFIO",
    "Container",
    "ContainerMode",
    "IoasContainer",
    "Type1Container",
    "Type1Mapping",
    "open_container",
]

DEV_VFIO = Path("/dev/vfio/vfio")


class ContainerMode(StrEnum):
    """Which interface of the kernel a container is, as tools/testing/selftests/vfio distinguishes them."""

    VFIO_TYPE1 = "vfio_type1"
    VFIO_TYPE1V2 = "vfio_type1v2"
    COMPAT_TYPE1 = "compat_type1"
    """The type1 interface as iommufd imitates it on /dev/iommu (drivers/iommu/iommufd/vfio_compat.c)."""
    COMPAT_TYPE1V2 = "compat_type1v2"
    IOMMUFD = "iommufd"
    """An IOAS of an iommufd and the device's cdev."""


class Container(Resource):
    """An IO address space for the devices that are opened in it.

    Attributes:
        device: the first of them.
    """

    device: VfioPciDevice

    def open_device(self, bdf: str) -> VfioPciDevice:
        """Open one more device, which DMA mappings made before and later reach too."""
        raise NotImplementedError

    def map(
        self,
        buffer: DmaBuffer,
        iova: int,
        *,
        offset: int = 0,
        length: int | None = None,
        flags: MapFlags = MapFlags.READ_WRITE,
    ) -> Mapping:
        """Map *length* bytes of *buffer* from *offset* (default: all of it) at *iova*; closing the mapping unmaps it.

        Raises:
            AlreadyMappedError: the IOVA range is taken.
            InvalidFieldError: the range is misaligned, empty or not allowed.
            IommufdError: ENOSPC over dma_entry_limit, ENOMEM over RLIMIT_MEMLOCK.
        """
        raise NotImplementedError

    def map_user_va(self, user_va: int, length: int, iova: int, *, flags: MapFlags = MapFlags.READ_WRITE) -> None:
        """Map memory this package does not own; the caller keeps it there and unmaps it."""
        raise NotImplementedError

    def unmap(self, iova: int, length: int) -> int:
        """Unmap all mappings that lie wholly in the range and return the bytes unmapped.

        Where nothing is mapped, type1 answers 0 bytes, an IOAS raises ObjectNotFoundError. Where a mapping reaches
        past an end, v2 and an IOAS raise; VFIO's v1 unmaps the whole mapping if its start is in the range, nothing
        otherwise; iommufd's v1 unmaps just the range.
        """
        raise NotImplementedError

    def unmap_all(self) -> int:
        """Unmap everything and return the bytes unmapped."""
        raise NotImplementedError

    def iova_ranges(self) -> IovaRanges:
        """Return where can be mapped, in the order of IOVA, and the alignment."""
        raise NotImplementedError

    def dma_cc(self) -> bool:
        """Tell whether all domains enforce cache coherency (VFIO_DMA_CC_IOMMU)."""
        raise NotImplementedError

    def mappings_left(self) -> int | None:
        """Return how many more mappings the kernel allows (dma_entry_limit of VFIO's type1), None for no limit."""
        raise NotImplementedError


class IoasContainer(Container):
    """An iommufd with one IOAS, and devices attached to that through their cdevs.

    Attributes:
        iommufd: closed with the container.
        ioas: where all mappings are.
    """

    def __init__(self, bdf: str) -> None:
        super().__init__()
        with self._opening():
            self.iommufd = Iommufd.adopt(_open(DEV_IOMMU))
        try:
            self.ioas = self.iommufd.alloc_ioas()
            self.device = self.open_device(bdf)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"IoasContainer({self.iommufd!r})"

    def _release(self) -> None:
        self.iommufd.close()

    def open_device(self, bdf: str) -> VfioDevice:
        """Open one more device and attach it to the IOAS."""
        self._check_open()
        device = VfioDevice(self.iommufd, bdf)
        try:
            device.attach(self.ioas)
        except BaseException:
            device.close()
            raise
        return device

    def map(
        self,
        buffer: DmaBuffer,
        iova: int,
        *,
        offset: int = 0,
        length: int | None = None,
        flags: MapFlags = MapFlags.READ_WRITE,
    ) -> DmaMapping:
        """As :meth:`Container.map`."""
        return self.ioas.map(buffer, iova, offset=offset, length=length, flags=flags)

    def map_user_va(self, user_va: int, length: int, iova: int, *, flags: MapFlags = MapFlags.READ_WRITE) -> None:
        """As :meth:`Container.map_user_va`."""
        self.ioas.map_user_va(user_va, length, iova, flags=flags)

    def unmap(self, iova: int, length: int) -> int:
        """As :meth:`Container.unmap`."""
        return self.ioas.unmap(iova, length)

    def unmap_all(self) -> int:
        """As :meth:`Container.unmap_all`."""
        return self.ioas.unmap_all()

    def iova_ranges(self) -> IovaRanges:
        """As :meth:`Container.iova_ranges`."""
        return self.ioas.iova_ranges()

    def dma_cc(self) -> bool:
        """As :meth:`Container.dma_cc`."""
        return self.ioas.dma_cc()

    def mappings_left(self) -> None:
        """Return None: iommufd has no such limit."""
        self._check_open()


class Type1Container(Container, MappingSpace):
    """A container with a type1 IOMMU: VFIO's own, or iommufd's imitation of it.

    Args:
        bdf: address of the first device; None for none yet, which needs a *group*.
        iommu_type: VfioExtension.TYPE1_IOMMU (v1) or TYPE1V2_IOMMU (v2). They differ in what unmap() does to a part
            of a mapping.
        path: /dev/vfio/vfio, or /dev/iommu for the imitation.
        group: number of a group to join before, as that of a mediated device. Without any, the kernel lets nothing be
            done with a container.

    Raises:
        SkipError: the kernel has no such containers, or no VFIO groups.
        DeviceError: the device is not there, not bound to vfio-pci, or in use.

    Source: Documentation/driver-api/vfio.rst; drivers/vfio/container.c, vfio_iommu_type1.c.
    """

    def __init__(
        self,
        bdf: str | None,
        iommu_type: VfioExtension = VfioExtension.TYPE1V2_IOMMU,
        path: Path = DEV_VFIO,
        *,
        group: int | None = None,
    ) -> None:
        super().__init__()
        self.iommu_type = iommu_type
        self.path = path
        self._groups: dict[int, VfioGroup] = {}
        with self._opening():
            self._fd = _open(path)
        try:
            if not vfio.check_extension(self._fd, iommu_type):
                raise SkipError(
                    f"{path} offers no {iommu_type.name}: CONFIG_VFIO_IOMMU_TYPE1 is off or its module is not loaded; "
                    "try 'modprobe vfio_iommu_type1'"
                )
            if group is not None:
                self._join(group)
            if bdf is not None:
                self.device = self.open_device(bdf)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"Type1Container({self.path}, {self.iommu_type.name})"

    def fileno(self) -> int:
        """Return the container's file descriptor."""
        self._check_open()
        return self._fd

    def _release(self) -> None:
        os.close(self._fd)

    def open_device(self, bdf: str) -> VfioGroupDevice:
        """Open one more device; its group joins the container if it is not in it yet, and stays until that closes."""
        self._check_open()
        address = normalize_bdf(bdf)
        number = iommu_group(address)
        group = self._groups.get(number) or self._join(number)
        return VfioGroupDevice(group, address)

    def _join(self, number: int) -> VfioGroup:
        group = VfioGroup(self, number)
        # The kernel takes the type once there is a group, and drops it with the last one.
        if not self._groups:
            try:
                vfio.set_iommu(self._fd, self.iommu_type)
            except BaseException:
                group.close()
                raise
        self._groups[number] = group
        return group

    def _leaving(self, group: VfioGroup) -> None:
        self._groups.pop(group.number, None)
        # VFIO drops all mappings with the last group. iommufd would keep them; here it does the same.
        if not self._groups:
            for mapping in tuple(self._mapped.values()):
                mapping.close()

    def info(self) -> vfio.Type1Info:
        """Ask for page sizes, IOVA ranges and how many mappings are left (VFIO_IOMMU_GET_INFO)."""
        return vfio.iommu_get_info(self.fileno())

    def map(
        self,
        buffer: DmaBuffer,
        iova: int,
        *,
        offset: int = 0,
        length: int | None = None,
        flags: MapFlags = MapFlags.READ_WRITE,
    ) -> "Type1Mapping":
        """As :meth:`Container.map`."""
        length = buffer.length - offset if length is None else length
        buffer.check_range(offset, length)
        self.map_user_va(buffer.user_va + offset, length, iova, flags=flags)
        return Type1Mapping(self, buffer, iova, length, offset, flags)

    def map_user_va(self, user_va: int, length: int, iova: int, *, flags: MapFlags = MapFlags.READ_WRITE) -> None:
        """As :meth:`Container.map_user_va`."""
        vfio.iommu_map_dma(self.fileno(), user_va, iova, length, _type1_flags(flags))

    def unmap(self, iova: int, length: int) -> int:
        """As :meth:`Container.unmap`."""
        unmapped = vfio.iommu_unmap_dma(self.fileno(), iova, length)
        self._forget_mappings(iova, length)
        return unmapped

    def unmap_all(self) -> int:
        """As :meth:`Container.unmap_all`."""
        unmapped = vfio.iommu_unmap_dma(self.fileno(), 0, 0, Type1UnmapFlags.ALL)
        self._forget_mappings(0, 1 << 64)
        return unmapped

    def iova_ranges(self) -> IovaRanges:
        """As :meth:`Container.iova_ranges`."""
        info = self.info()
        smallest = info.iova_page_sizes & -info.iova_page_sizes
        return IovaRanges(tuple(IovaRange(start, last) for start, last in info.iova_ranges), smallest)

    def dma_cc(self) -> bool:
        """As :meth:`Container.dma_cc`."""
        return bool(vfio.check_extension(self.fileno(), VfioExtension.DMA_CC_IOMMU))

    def mappings_left(self) -> int | None:
        """As :meth:`Container.mappings_left`; iommufd's imitation has no limit and answers 2^32 - 1."""
        return self.info().dma_avail


class Type1Mapping(Mapping):
    """A range mapped in a type1 container."""

    _space: Type1Container

    @property
    def container(self) -> Type1Container:
        """Where it is mapped."""
        return self._space

    def _release(self) -> None:
        vfio.iommu_unmap_dma(self.container.fileno(), self.iova, self.length)


def open_container(mode: ContainerMode, bdf: str) -> Container:
    """Open a container of a mode with its first device.

    Raises:
        SkipError: the kernel does not have this mode.
        DeviceError: the device is not there, not bound to vfio-pci, or in use.
    """
    if mode is ContainerMode.IOMMUFD:
        return IoasContainer(bdf)
    v2 = mode in (ContainerMode.VFIO_TYPE1V2, ContainerMode.COMPAT_TYPE1V2)
    legacy = mode in (ContainerMode.VFIO_TYPE1, ContainerMode.VFIO_TYPE1V2)
    return Type1Container(
        bdf,
        VfioExtension.TYPE1V2_IOMMU if v2 else VfioExtension.TYPE1_IOMMU,
        DEV_VFIO if legacy else DEV_IOMMU,
    )


def _type1_flags(flags: MapFlags) -> Type1MapFlags:
    readable = Type1MapFlags.READ if flags & MapFlags.READABLE else Type1MapFlags(0)
    writeable = Type1MapFlags.WRITE if flags & MapFlags.WRITEABLE else Type1MapFlags(0)
    return readable | writeable


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        option = "CONFIG_IOMMUFD" if path == DEV_IOMMU else "CONFIG_VFIO_CONTAINER"
        raise SkipError(
            f"there is no {path}: this kernel has no {option} or its module is not loaded; another mode of container "
            "may be there"
        ) from None
    except PermissionError:
        raise ToolError(f"{path} may not be opened: run as root, or with sudo") from None
    except OSError as failure:
        raise ToolError(f"{path} cannot be opened: {failure.strerror}") from failure
