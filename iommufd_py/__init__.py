# SPDX-License-Identifier: MIT
"""A userspace VFIO/iommufd driver tool: the objects of /dev/iommu as Python objects.

    with Iommufd() as iommufd, DmaBuffer(2 << 20, Backing.THP) as buffer:
        device = VfioDevice(iommufd, "0000:3b:00.0")
        ioas = iommufd.alloc_ioas()
        hwpt = device.alloc_hwpt(ioas, coherency=Coherency.NON_COHERENT)
        device.attach(hwpt)
        mapping = ioas.map(buffer)

Importing it opens nothing and needs no /dev/iommu.
"""

from iommufd_py.container import Container, ContainerMode, IoasContainer, Type1Container, Type1Mapping, open_container
from iommufd_py.context import Iommufd
from iommufd_py.device import Attachment, BoundDevice, HwInfo, VfioDevice
from iommufd_py.dirty import DirtyBitmap, DirtyTracking
from iommufd_py.enums import (
    DeviceFeature,
    DeviceFlags,
    FeatureOperation,
    GroupFlags,
    HwCapabilities,
    HwInfoType,
    HwptAllocFlags,
    HwptDataType,
    HwptInvalidateType,
    IommuOption,
    IrqFlags,
    IrqIndex,
    MapFlags,
    MockDeviceFlags,
    PageFaultPermission,
    PageResponse,
    RegionFlags,
    RegionIndex,
    VEventQueueType,
    VfioExtension,
    VIommuType,
    VtdStage1Flags,
)
from iommufd_py.errors import (
    AlreadyMappedError,
    BackingError,
    BusyError,
    ClosedError,
    CoherencyError,
    DeviceError,
    InvalidFieldError,
    IommufdError,
    NotSupportedError,
    ObjectNotFoundError,
    SkipError,
    ToolError,
    TooNewError,
    UnsupportedIoctlError,
)
from iommufd_py.fault import EventQueue, FaultQueue, PageFault
from iommufd_py.group import VfioGroup, VfioGroupDevice
from iommufd_py.hwpt import (
    Coherency,
    CoherencyEvidence,
    Hwpt,
    HwptData,
    NestedHwpt,
    vtd_stage1,
    vtd_stage1_invalidation,
)
from iommufd_py.interrupt import Interrupts
from iommufd_py.ioas import DmaMapping, Ioas
from iommufd_py.iova import IovaRange, IovaRanges
from iommufd_py.memory import Backing, DmaBuffer
from iommufd_py.mock import AccessPin, FlushCount, MockAccess, MockDevice, flush_count
from iommufd_py.region import Region, RegionMapping
from iommufd_py.vfio_pci import VfioPciDevice
from iommufd_py.viommu import HwQueue, VDevice, VEvent, VEventQueue, VIommu, VIommuMemory

__all__ = [
    "AccessPin",
    "AlreadyMappedError",
    "Attachment",
    "Backing",
    "BackingError",
    "BoundDevice",
    "BusyError",
    "ClosedError",
    "Coherency",
    "CoherencyError",
    "CoherencyEvidence",
    "Container",
    "ContainerMode",
    "DeviceError",
    "DeviceFeature",
    "DeviceFlags",
    "DirtyBitmap",
    "DirtyTracking",
    "DmaBuffer",
    "DmaMapping",
    "EventQueue",
    "FaultQueue",
    "FeatureOperation",
    "FlushCount",
    "GroupFlags",
    "HwCapabilities",
    "HwInfo",
    "HwInfoType",
    "HwQueue",
    "Hwpt",
    "HwptAllocFlags",
    "HwptData",
    "HwptDataType",
    "HwptInvalidateType",
    "Interrupts",
    "InvalidFieldError",
    "Ioas",
    "IoasContainer",
    "IommuOption",
    "Iommufd",
    "IommufdError",
    "IovaRange",
    "IovaRanges",
    "IrqFlags",
    "IrqIndex",
    "MapFlags",
    "MockAccess",
    "MockDevice",
    "MockDeviceFlags",
    "NestedHwpt",
    "NotSupportedError",
    "ObjectNotFoundError",
    "PageFault",
    "PageFaultPermission",
    "PageResponse",
    "Region",
    "RegionFlags",
    "RegionIndex",
    "RegionMapping",
    "SkipError",
    "TooNewError",
    "ToolError",
    "Type1Container",
    "Type1Mapping",
    "UnsupportedIoctlError",
    "VDevice",
    "VEvent",
    "VEventQueue",
    "VEventQueueType",
    "VIommu",
    "VIommuMemory",
    "VIommuType",
    "VfioDevice",
    "VfioExtension",
    "VfioGroup",
    "VfioGroupDevice",
    "VfioPciDevice",
    "VtdStage1Flags",
    "flush_count",
    "open_container",
    "vtd_stage1",
    "vtd_stage1_invalidation",
]
