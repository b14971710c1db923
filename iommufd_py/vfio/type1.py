# SPDX-License-Identifier: MIT
"""Containers with a type1 IOMMU, of VFIO or of iommufd's compatibility layer."""

from pathlib import Path
from uuid import UUID

from iommufd_py.base.arguments import checked
from iommufd_py.base.errors import ArgumentValueError, ObjectNotFoundError, SkipError
from iommufd_py.base.iova import IovaRange, IovaRanges
from iommufd_py.base.pci_address import normalize_bdf
from iommufd_py.base.signals import held_signals
from iommufd_py.objects.buffer import DmaBuffer
from iommufd_py.objects.dirty import DirtyBitmap, check_not_tracking, dirty_bitmap, zeroed_bits
from iommufd_py.objects.mapping import Mapping, MappingSpace
from iommufd_py.objects.resource import OpenFile, Resource
from iommufd_py.uapi import vfio
from iommufd_py.uapi.enums import MapFlags, Type1MapFlags, Type1UnmapFlags, VfioExtension
from iommufd_py.vfio.container import Container
from iommufd_py.vfio.container_file import open_container_file
from iommufd_py.vfio.group import VfioGroup, VfioGroupDevice
from iommufd_py.vfio.sysfs import iommu_group_number
from iommufd_py.vfio.vf_token import parse_vf_token

DEV_VFIO = Path("/dev/vfio/vfio")


class Type1Container(Container, MappingSpace, OpenFile):
    """A container with a type1 IOMMU, of VFIO or of iommufd's compatibility layer.

    Args:
        bdf: address of the first device; None for none yet, which needs a *group*.
        iommu_type: VfioExtension.TYPE1_IOMMU (v1) or TYPE1V2_IOMMU (v2). They differ in unmap() of a part of a
            mapping.
        path: /dev/vfio/vfio, or /dev/iommu for the compatibility layer.
        group: number of a group to add first, such as that of a mediated device. The kernel refuses all other calls
            on a container without a group.
        vf_token: as for :class:`VfioDevice`.

    Raises:
        SkipError: the kernel has no such containers, or no VFIO groups.
        DeviceError: the device does not exist, is not bound to vfio-pci, or is in use.

    Source: Documentation/driver-api/vfio.rst; drivers/vfio/container.c, vfio_iommu_type1.c.
    """

    @checked
    def __init__(
        self,
        bdf: str | None,
        iommu_type: VfioExtension = VfioExtension.TYPE1V2_IOMMU,
        path: Path = DEV_VFIO,
        *,
        group: int | None = None,
        vf_token: UUID | str | None = None,
    ) -> None:
        super().__init__()
        self.iommu_type = iommu_type
        self.path = path
        self._groups: dict[int, VfioGroup] = {}
        with self._opening():
            self._fd = open_container_file(path)
        try:
            if not vfio.check_extension(self._fd, iommu_type):
                raise SkipError(
                    f"{path} offers no {iommu_type.name}: CONFIG_VFIO_IOMMU_TYPE1 is off or its module is not loaded; "
                    "try 'modprobe vfio_iommu_type1'"
                )
            if group is not None:
                self._join(group)
            if bdf is not None:
                self.open_device(bdf, vf_token=vf_token)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"Type1Container({self.path}, {self.iommu_type.name})"

    @checked
    def open_device(self, bdf: str, *, vf_token: UUID | str | None = None) -> VfioGroupDevice:
        """Open one more device. Its group joins the container, and stays until the container closes."""
        self._check_open()
        address, token = normalize_bdf(bdf), parse_vf_token(vf_token)
        number = iommu_group_number(address)
        group = self._groups.get(number) or self._join(number)
        device = VfioGroupDevice(group, address, vf_token=token)
        self._remember_first(device)
        return device

    @checked
    def group(self, number: int) -> VfioGroup:
        """Return a group of the container by its number.

        Raises:
            ArgumentValueError: the container has no such group.
        """
        self._check_open()
        if number not in self._groups:
            groups = ", ".join(map(str, sorted(self._groups))) or "none"
            raise ArgumentValueError(f"the container has no group {number}, but these: {groups}")
        return self._groups[number]

    def _join(self, number: int) -> VfioGroup:
        # Signals are held: the kernel opens a group once, so an open group must be among those of the container.
        with held_signals():
            group = VfioGroup(self, self._fd, number, self._groups, self._group_closed)
            # The kernel accepts the IOMMU type only after the first group, and drops it with the last one.
            if not self._groups:
                try:
                    vfio.set_iommu(self._fd, self.iommu_type)
                except BaseException:
                    group.close()
                    raise
            self._groups[number] = group
        return group

    def _group_closed(self, group: VfioGroup) -> None:
        self._groups.pop(group.number, None)
        # VFIO drops all mappings with the last group. iommufd keeps them, so they are unmapped here.
        if not self._groups:
            for mapping in tuple(self._mapped.values()):
                mapping.close()

    def info(self) -> vfio.Type1Info:
        """Return page sizes, IOVA ranges and the number of mappings left (VFIO_IOMMU_GET_INFO)."""
        return vfio.iommu_get_info(self.fileno())

    def _map(self, buffer: DmaBuffer, iova: int, offset: int, length: int, flags: MapFlags) -> "Type1Mapping":
        def map_it() -> Type1Mapping:
            self.map_user_va(buffer.user_va + offset, length, iova, flags=flags)
            return Type1Mapping(self, buffer, iova, length, offset, flags)

        return self._register(map_it)

    @checked
    def map_user_va(self, user_va: int, length: int, iova: int, *, flags: MapFlags = MapFlags.READ_WRITE) -> None:
        vfio.iommu_map_dma(self.fileno(), user_va, iova, length, _type1_flags(flags))

    @checked
    def unmap(self, iova: int, length: int) -> int:
        with held_signals():
            try:
                unmapped = vfio.iommu_unmap_dma(self.fileno(), iova, length)
            except ObjectNotFoundError:  # Only iommufd's compatibility layer unmaps a part.
                self._forget_lower_mappings(iova, length)
                raise
            self._forget_mappings(iova, length)
        return unmapped

    def unmap_all(self) -> int:
        with held_signals():
            unmapped = vfio.iommu_unmap_dma(self.fileno(), 0, 0, Type1UnmapFlags.ALL)
            self._forget_mappings(0, 1 << 64)
        return unmapped

    @checked
    def invalidate_user_va(self, iova: int, length: int) -> int:
        """Invalidate the user addresses of the mappings in a range, and return the bytes of the mappings. DMA goes on.

        A process does this before another process takes the container over, and that process calls
        :meth:`update_user_va`.

        Raises:
            InvalidFieldError: the range cuts a mapping, has no mapping, or its addresses are invalid already.
            IommufdError: a device of the container is a mediated device, or the kernel has no VFIO_UPDATE_VADDR.

        Source: VFIO_DMA_UNMAP_FLAG_VADDR in include/uapi/linux/vfio.h.
        """
        return vfio.iommu_unmap_dma(self.fileno(), iova, length, Type1UnmapFlags.VADDR)

    @checked
    def update_user_va(self, user_va: int, length: int, iova: int) -> None:
        """Give a mapping without a user address the new address of the same memory.

        Raises:
            InvalidFieldError: the range is not exactly one mapping, or its address was not taken away.

        Source: VFIO_DMA_MAP_FLAG_VADDR in include/uapi/linux/vfio.h.
        """
        vfio.iommu_map_dma(self.fileno(), user_va, iova, length, Type1MapFlags.VADDR)

    def track_dirty(self) -> "Type1DirtyTracking":
        """Switch dirty tracking on; closing the result switches it off. Errors as for :class:`Type1DirtyTracking`."""
        self._check_open()
        return Type1DirtyTracking(self)

    def iova_ranges(self) -> IovaRanges:
        info = self.info()
        smallest = info.iova_page_sizes & -info.iova_page_sizes
        return IovaRanges(tuple(IovaRange(start, last) for start, last in info.iova_ranges), smallest)

    def dma_cc(self) -> bool:
        return bool(vfio.check_extension(self.fileno(), VfioExtension.DMA_CC_IOMMU))

    def mappings_left(self) -> int | None:
        return self.info().dma_avail


class Type1Mapping(Mapping):
    """A range mapped in a type1 container."""

    _space: Type1Container

    @property
    def container(self) -> Type1Container:
        """The container of the mapping."""
        return self._space

    def _release(self) -> None:
        vfio.iommu_unmap_dma(self.container.fileno(), self.iova, self.length)


class Type1DirtyTracking(Resource):
    """Dirty tracking of a type1 container, switched on until closed. Made by ``container.track_dirty()``.

    type1 does not read the dirty bits of the IOMMU. While a device with DMA of its own is in the container, type1
    reports every page of every mapping as dirty, also of read-only mappings. With mediated devices only, type1 reports
    the pages that they pin.

    Raises:
        ToolError: dirty tracking is on already.
        IommufdError: the container is not of TYPE1V2_IOMMU (EACCES), or is iommufd's compatibility layer (ENOTTY).

    Source: VFIO_IOMMU_DIRTY_PAGES in include/uapi/linux/vfio.h.
    """

    @checked
    def __init__(self, container: Type1Container) -> None:
        super().__init__(container)
        check_not_tracking(container, Type1DirtyTracking)
        self.container = container
        with self._opening():
            vfio.iommu_track_dirty_pages(container.fileno(), True)

    def __repr__(self) -> str:
        return f"Type1DirtyTracking({self.container!r})"

    @checked
    def read(self, iova: int, length: int, *, page_bytes: int = 4096) -> DirtyBitmap:
        """Read the dirty pages of an IOVA range, and mark them clean where a device cannot write them any more.

        Each mapping should begin a multiple of 64 pages after *iova*. For another mapping the kernel shifts its bits,
        and does not clear the shifted ones (update_user_bitmap() in drivers/vfio/vfio_iommu_type1.c, v7.3). A later
        read then reports up to 63 pages behind that mapping as dirty, too.

        Raises:
            InvalidFieldError: the range cuts a mapping, or *page_bytes* is not the smallest page of the IOMMU.
        """
        self._check_open()
        bits = zeroed_bits("Type1DirtyTracking.read()", length, page_bytes)
        vfio.iommu_get_dirty_bitmap(self.container.fileno(), iova, length, page_bytes, bits)
        return dirty_bitmap(iova, length, page_bytes, bits)

    @checked
    def unmap(self, mapping: Type1Mapping, *, page_bytes: int = 4096) -> DirtyBitmap:
        """Unmap one mapping, and return the pages that were dirty until then.

        Raises:
            ArgumentValueError: the mapping is of another container.
            InvalidFieldError: *page_bytes* is not the smallest page of the IOMMU.

        Source: VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP in include/uapi/linux/vfio.h.
        """
        self._check_open()
        mapping._check_open()
        if mapping.container is not self.container:
            raise ArgumentValueError(f"{mapping!r} is not a mapping of {self.container!r}")
        iova, length = mapping.iova, mapping.length
        bits = zeroed_bits("Type1DirtyTracking.unmap()", length, page_bytes)
        with held_signals():
            vfio.iommu_unmap_dma_dirty(self.container.fileno(), iova, length, page_bytes, bits)
            self.container._forget_mappings(iova, length)
        return dirty_bitmap(iova, length, page_bytes, bits)

    def _release(self) -> None:
        vfio.iommu_track_dirty_pages(self.container.fileno(), False)


def _type1_flags(flags: MapFlags) -> Type1MapFlags:
    readable = Type1MapFlags.READ if flags & MapFlags.READABLE else Type1MapFlags(0)
    writeable = Type1MapFlags.WRITE if flags & MapFlags.WRITEABLE else Type1MapFlags(0)
    return readable | writeable
