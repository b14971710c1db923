# SPDX-License-Identifier: MIT
"""The ioctls of VFIO (include/uapi/linux/vfio.h): device cdev, legacy group and container, type1."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from iommufd_py.uapi.call import (
    address_of,
    address_of_buffer,
    fill,
    issue_argsz,
    issue_pointer,
    issue_value,
    new_structure,
    pack,
)
from iommufd_py.uapi.enums import DeviceFeature, FeatureOperation, GroupFlags, IrqFlags, RegionFlags
from iommufd_py.uapi.ffi import ffi, lib


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """VFIO_DEVICE_GET_INFO: flags, number of regions, number of interrupt indexes, capabilities by id."""

    flags: int
    num_regions: int
    num_irqs: int
    capabilities: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class RegionInfo:
    """One region of a device (VFIO_DEVICE_GET_REGION_INFO).

    Attributes:
        index: number of the region, see :class:`RegionIndex`.
        flags: the accesses that the region permits.
        size: bytes, 0 for a region the device does not have.
        offset: start of the region in the device's file, in bytes.
        mmap_areas: (offset, size) of each part of the region that can be mapped: the sparse mmap areas if the kernel
            reports them, else the whole region; empty for a region that cannot be mapped.
        capabilities: the raw capabilities, by id.
    """

    index: int
    flags: RegionFlags
    size: int
    offset: int
    mmap_areas: tuple[tuple[int, int], ...]
    capabilities: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class IrqInfo:
    """VFIO_DEVICE_GET_IRQ_INFO: the number of interrupts of an index."""

    index: int
    flags: IrqFlags
    count: int


@dataclass(frozen=True, slots=True)
class Type1Info:
    """VFIO_IOMMU_GET_INFO: page sizes as a bit mask, IOVA ranges as (start, last), mappings left (None: unknown)."""

    flags: int
    iova_page_sizes: int
    iova_ranges: tuple[tuple[int, int], ...]
    dma_avail: int | None


# --- container and group -----------------------------------------------------------------------------------------


def get_api_version(fd: int) -> int:
    """Return the version of the container API."""
    return issue_value(fd, "VFIO_GET_API_VERSION")


def check_extension(fd: int, extension: int) -> int:
    """Ask a container, or an iommufd with a compatibility IOAS, whether it has an extension; zero means no."""
    return issue_value(fd, "VFIO_CHECK_EXTENSION", extension)


def set_iommu(fd: int, iommu_type: int) -> None:
    """Choose the IOMMU model of a container."""
    issue_value(fd, "VFIO_SET_IOMMU", iommu_type)


def group_get_status(fd: int) -> GroupFlags:
    """Return the flags of a group: viable, container set."""
    return GroupFlags(int(issue_argsz(fd, "VFIO_GROUP_GET_STATUS", "vfio_group_status").flags))


def group_set_container(fd: int, container_fd: int) -> None:
    """Put a group into a container (or an iommufd)."""
    value = ffi.new("int32_t *", container_fd)
    issue_pointer(fd, "VFIO_GROUP_SET_CONTAINER", value, {"container_fd": container_fd})


def group_unset_container(fd: int) -> None:
    """Take a group out of its container."""
    issue_value(fd, "VFIO_GROUP_UNSET_CONTAINER")


def group_get_device_fd(fd: int, name: str) -> int:
    """Open a device of a group by its name and return the descriptor."""
    text = ffi.new("char[]", name.encode())
    return issue_pointer(fd, "VFIO_GROUP_GET_DEVICE_FD", text, {"name": name})


# --- device ------------------------------------------------------------------------------------------------------


def device_bind_iommufd(fd: int, iommufd: int, token: bytes | None = None) -> int:
    """Bind a device to an iommufd and return its object id there; *token* is the 16-byte VF token, if one is needed."""
    buffer: Any = ffi.from_buffer(token) if token else ffi.NULL
    arg = issue_argsz(
        fd,
        "VFIO_DEVICE_BIND_IOMMUFD",
        "vfio_device_bind_iommufd",
        flags=lib.VFIO_DEVICE_BIND_FLAG_TOKEN if token else 0,
        iommufd=iommufd,
        token_uuid_ptr=address_of(buffer),
    )
    return int(arg.out_devid)


def device_attach_iommufd_pt(fd: int, pt_id: int, pasid: int | None = None) -> int:
    """Attach a device, or one PASID of it, to an IOAS or HWPT. This replaces the old attachment. Return the HWPT's
    id."""
    arg = issue_argsz(
        fd,
        "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
        "vfio_device_attach_iommufd_pt",
        flags=0 if pasid is None else lib.VFIO_DEVICE_ATTACH_PASID,
        pt_id=pt_id,
        pasid=pasid or 0,
    )
    return int(arg.pt_id)


def device_detach_iommufd_pt(fd: int, pasid: int | None = None) -> None:
    """Detach a device, or one PASID of it."""
    issue_argsz(
        fd,
        "VFIO_DEVICE_DETACH_IOMMUFD_PT",
        "vfio_device_detach_iommufd_pt",
        flags=0 if pasid is None else lib.VFIO_DEVICE_DETACH_PASID,
        pasid=pasid or 0,
    )


def device_get_info(fd: int) -> DeviceInfo:
    """Return a device's flags, number of regions and interrupts, and capabilities."""
    arg, memory = _issue_with_capabilities(fd, "VFIO_DEVICE_GET_INFO", "vfio_device_info")
    has_caps = bool(arg.flags & lib.VFIO_DEVICE_FLAGS_CAPS)
    return DeviceInfo(
        flags=int(arg.flags),
        num_regions=int(arg.num_regions),
        num_irqs=int(arg.num_irqs),
        capabilities=dict(_capabilities(memory, int(arg.cap_offset) if has_caps else 0)),
    )


def device_get_region_info(fd: int, index: int) -> RegionInfo:
    """Return size, offset, flags and mappable areas of a region."""
    arg, memory = _issue_with_capabilities(fd, "VFIO_DEVICE_GET_REGION_INFO", "vfio_region_info", index=index)
    flags = RegionFlags(int(arg.flags))
    capabilities = dict(_capabilities(memory, int(arg.cap_offset) if flags & RegionFlags.CAPS else 0))
    sparse = capabilities.get(lib.VFIO_REGION_INFO_CAP_SPARSE_MMAP)
    whole = ((0, int(arg.size)),) if flags & RegionFlags.MMAP else ()
    return RegionInfo(
        index=index,
        flags=flags,
        size=int(arg.size),
        offset=int(arg.offset),
        mmap_areas=whole if sparse is None else _sparse_mmap_areas(sparse),
        capabilities=capabilities,
    )


def device_get_irq_info(fd: int, index: int) -> IrqInfo:
    """Return the number of interrupts of an index, and their flags."""
    arg = issue_argsz(fd, "VFIO_DEVICE_GET_IRQ_INFO", "vfio_irq_info", index=index)
    return IrqInfo(index, IrqFlags(int(arg.flags)), int(arg.count))


def device_set_irqs(fd: int, flags: int, index: int, start: int, count: int, data: bytes = b"") -> int:
    """Mask, unmask or trigger interrupts, or connect them to eventfds; the DATA_* flag names the type of *data*.

    Returns 0. If the kernel has fewer MSI vectors than requested, returns their number and connects none.
    """
    fields: dict[str, object] = {"flags": flags, "index": index, "start": start, "count": count}
    return _issue_with_data(fd, "VFIO_DEVICE_SET_IRQS", "vfio_irq_set", fields, data, fields)[0]


def device_ioeventfd(fd: int, width: int, offset: int, data: int, eventfd: int) -> None:
    """Let the kernel write *data* (*width* bytes) at *offset* of a device when *eventfd* is signalled; -1 ends this.

    *offset* is an offset in the device's file. The flags of the ioctl give the width.
    """
    issue_argsz(fd, "VFIO_DEVICE_IOEVENTFD", "vfio_device_ioeventfd", flags=width, offset=offset, data=data, fd=eventfd)


def device_reset(fd: int) -> None:
    """Reset a device."""
    issue_value(fd, "VFIO_DEVICE_RESET")


def device_feature(fd: int, flags: int, data: bytes = b"", **shown: object) -> bytes:
    """Get, set or probe a feature (its index and VFIO_DEVICE_FEATURE_{GET,SET,PROBE} in *flags*); returns its data.

    An error also shows the fields *shown* of *data*.
    """
    return _feature(fd, flags, data, shown)[1]


def _feature(fd: int, flags: int, data: bytes, shown: Mapping[str, object]) -> tuple[int, bytes]:
    """Issue VFIO_DEVICE_FEATURE and return its result and data; an error also shows the fields *shown*."""
    fields: dict[str, object] = {"flags": flags}
    result, arg, _memory = _issue_with_data(
        fd, "VFIO_DEVICE_FEATURE", "vfio_device_feature", fields, data, {**fields, **shown}
    )
    return result, bytes(ffi.buffer(arg.data, len(data)))


def _issue_with_data(
    fd: int, ioctl: str, structure: str, fields: Mapping[str, object], data: bytes, shown: Mapping[str, object]
) -> tuple[int, Any, Any]:
    """Issue *ioctl* with *data* in the ``data`` member at the end of the structure; an error shows the fields *shown*.

    Return the result, the structure after the call and its memory, which the caller keeps alive.
    """
    size = ffi.sizeof(f"struct {structure}") + len(data)
    memory = ffi.new("uint64_t[]", (size + 7) // 8)
    arg = ffi.cast(f"struct {structure} *", memory)
    arg.argsz = size
    fill(ioctl, arg, fields)
    ffi.memmove(arg.data, data, len(data))
    return issue_pointer(fd, ioctl, arg, shown), arg, memory


def device_export_dmabuf(fd: int, region_index: int, offset: int, length: int, open_flags: int) -> int:
    """Export *length* bytes of a region from *offset* as a dma-buf and return its descriptor."""
    fields = {"region_index": region_index, "open_flags": open_flags}
    dma_range = {"offset": offset, "length": length}
    data = pack("vfio_device_feature_dma_buf", **fields, nr_ranges=1) + pack("vfio_region_dma_range", **dma_range)
    return _feature(fd, FeatureOperation.GET | DeviceFeature.DMA_BUF, data, fields | dma_range)[0]


# --- type1 -------------------------------------------------------------------------------------------------------


def iommu_get_info(fd: int) -> Type1Info:
    """Ask a type1 container for its page sizes, IOVA ranges and limits."""
    arg, memory = _issue_with_capabilities(fd, "VFIO_IOMMU_GET_INFO", "vfio_iommu_type1_info")
    has_caps = bool(arg.flags & lib.VFIO_IOMMU_INFO_CAPS)
    capabilities = dict(_capabilities(memory, int(arg.cap_offset) if has_caps else 0))
    return Type1Info(
        flags=int(arg.flags),
        iova_page_sizes=int(arg.iova_pgsizes),
        iova_ranges=_type1_iova_ranges(capabilities.get(lib.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)),
        dma_avail=_type1_dma_avail(capabilities.get(lib.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL)),
    )


def iommu_map_dma(fd: int, vaddr: int, iova: int, size: int, flags: int) -> None:
    """Map user memory at *iova* of a type1 container."""
    issue_argsz(fd, "VFIO_IOMMU_MAP_DMA", "vfio_iommu_type1_dma_map", flags=flags, vaddr=vaddr, iova=iova, size=size)


def iommu_unmap_dma(fd: int, iova: int, size: int, flags: int = 0) -> int:
    """Unmap a range of a type1 container and return the bytes unmapped."""
    arg = issue_argsz(fd, "VFIO_IOMMU_UNMAP_DMA", "vfio_iommu_type1_dma_unmap", flags=flags, iova=iova, size=size)
    return int(arg.size)


def iommu_track_dirty_pages(fd: int, enable: bool) -> None:
    """Switch dirty tracking of a type1 container on or off."""
    flag = lib.VFIO_IOMMU_DIRTY_PAGES_FLAG_START if enable else lib.VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP
    issue_argsz(fd, "VFIO_IOMMU_DIRTY_PAGES", "vfio_iommu_type1_dirty_bitmap", flags=flag)


def iommu_get_dirty_bitmap(fd: int, iova: int, size: int, page_size: int, bitmap: bytearray) -> None:
    """Set the bits of the dirty pages of an IOVA range in *bitmap*, one bit per *page_size* bytes, low bit first."""
    ioctl = "VFIO_IOMMU_DIRTY_PAGES"
    fields: dict[str, object] = {"iova": iova, "size": size}
    wanted = new_structure(ioctl, "vfio_iommu_type1_dirty_bitmap_get", fields)
    _fill_bitmap(ioctl, wanted.bitmap, page_size, bitmap)
    flags = {"flags": lib.VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP}
    data = bytes(ffi.buffer(wanted))
    _issue_with_data(fd, ioctl, "vfio_iommu_type1_dirty_bitmap", flags, data, fields | {"pgsize": page_size})


def iommu_unmap_dma_dirty(fd: int, iova: int, size: int, page_size: int, bitmap: bytearray) -> int:
    """Unmap a range of a type1 container, set the bits of its dirty pages in *bitmap*, and return the bytes unmapped.

    Dirty tracking must be on, and the range must be one mapping.
    """
    ioctl = "VFIO_IOMMU_UNMAP_DMA"
    flags = int(lib.VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP)
    fields: dict[str, object] = {"iova": iova, "size": size, "flags": flags}
    bits = new_structure(ioctl, "vfio_bitmap", {})
    _fill_bitmap(ioctl, bits, page_size, bitmap)
    data, shown = bytes(ffi.buffer(bits)), fields | {"pgsize": page_size}
    _, arg, _memory = _issue_with_data(fd, ioctl, "vfio_iommu_type1_dma_unmap", fields, data, shown)
    return int(arg.size)


def _fill_bitmap(ioctl: str, target: Any, page_size: int, bitmap: bytearray) -> None:
    """Describe *bitmap* in a struct vfio_bitmap."""
    fill(ioctl, target, {"pgsize": page_size, "size": len(bitmap)})
    target.data = ffi.cast("__u64 *", address_of_buffer(bitmap))


# --- capability chains -------------------------------------------------------------------------------------------


def _issue_with_capabilities(fd: int, ioctl: str, structure: str, **fields: object) -> tuple[Any, Any]:
    """Issue *ioctl* with room for the capability chain the kernel appends; returns the structure and its memory."""
    size = ffi.sizeof(f"struct {structure}")
    while True:
        memory = ffi.new("uint64_t[]", (size + 7) // 8)
        arg = ffi.cast(f"struct {structure} *", memory)
        arg.argsz = size
        fill(ioctl, arg, fields)
        issue_pointer(fd, ioctl, arg, fields)
        # A larger returned argsz means that the kernel needs more room.
        if arg.argsz <= size:
            return arg, memory
        size = int(arg.argsz)


def _capabilities(memory: Any, offset: int) -> Iterator[tuple[int, bytes]]:
    """Walk the chain from *offset* (0: no chain), and yield the id and all bytes of each capability."""
    raw = bytes(ffi.buffer(memory))
    while offset:
        header = ffi.from_buffer("struct vfio_info_cap_header *", raw[offset:], require_writable=False)
        identity, following = int(header.id), int(header.next)
        yield identity, raw[offset : following or len(raw)]
        offset = following


def _sparse_mmap_areas(raw: bytes) -> tuple[tuple[int, int], ...]:
    capability: Any = ffi.from_buffer("struct vfio_region_info_cap_sparse_mmap *", raw)
    return tuple((int(capability.areas[i].offset), int(capability.areas[i].size)) for i in range(capability.nr_areas))


def _type1_iova_ranges(raw: bytes | None) -> tuple[tuple[int, int], ...]:
    if raw is None:
        return ()
    capability: Any = ffi.from_buffer("struct vfio_iommu_type1_info_cap_iova_range *", raw)
    ranges = capability.iova_ranges
    return tuple((int(ranges[i].start), int(ranges[i].end)) for i in range(capability.nr_iovas))


def _type1_dma_avail(raw: bytes | None) -> int | None:
    if raw is None:
        return None
    capability: Any = ffi.from_buffer("struct vfio_iommu_type1_info_dma_avail *", raw)
    return int(capability.avail)
