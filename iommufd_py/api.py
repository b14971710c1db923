# SPDX-License-Identifier: MIT
"""The public names of the package: the names that ``import iommufd_py`` provides."""

from iommufd_py.base.coherency import Coherency, CoherencyEvidence, FlushCount
from iommufd_py.base.container_mode import ContainerMode
from iommufd_py.base.errors import (
    AlreadyMappedError,
    ArgumentValueError,
    BackingError,
    BusyError,
    ClosedError,
    CoherencyError,
    DeviceError,
    DmaError,
    InvalidFieldError,
    IommufdError,
    NotSupportedError,
    ObjectNotFoundError,
    SkipError,
    ToolError,
    TooNewError,
    UnsupportedIoctlError,
)
from iommufd_py.base.iova import IovaRange, IovaRanges
from iommufd_py.mock import AccessPin, MockAccess, MockDevice, flush_count
from iommufd_py.objects.buffer import Backing, DmaBuffer
from iommufd_py.objects.device import Attachment, BoundDevice, HwInfo
from iommufd_py.objects.dirty import DirtyBitmap, DirtyTracking
from iommufd_py.objects.dmabuf import Dmabuf
from iommufd_py.objects.fault import EventQueue, FaultQueue, PageFault
from iommufd_py.objects.hwpt import Hwpt, HwptData, NestedHwpt, vtd_stage1, vtd_stage1_invalidation
from iommufd_py.objects.ioas import DmaMapping, Ioas, PhysicalRange
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.objects.viommu import HwQueue, VDevice, VEvent, VEventQueue, VIommu, VIommuMemory
from iommufd_py.uapi.enums import (
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
    MigrationFeatures,
    MigrationState,
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
from iommufd_py.vfio.container import Container
from iommufd_py.vfio.device import MediatedDevice, VfioDevice
from iommufd_py.vfio.dmabuf import RegionDmabuf
from iommufd_py.vfio.generic_device import GenericVfioDevice
from iommufd_py.vfio.group import VfioGroup, VfioGroupDevice
from iommufd_py.vfio.interrupt import Interrupts
from iommufd_py.vfio.ioas_container import IoasContainer
from iommufd_py.vfio.migration import Migration, PrecopyInfo, ResumingTransfer, SavingTransfer, StateTransfer
from iommufd_py.vfio.modes import open_container
from iommufd_py.vfio.pci_device import DependentDevice, PciCommand, VfioPciDevice
from iommufd_py.vfio.region import IoEventFd, Region, RegionMapping
from iommufd_py.vfio.type1 import Type1Container, Type1DirtyTracking, Type1Mapping

__all__ = [
    "AccessPin",
    "AlreadyMappedError",
    "ArgumentValueError",
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
    "DependentDevice",
    "DeviceError",
    "DeviceFeature",
    "DeviceFlags",
    "DirtyBitmap",
    "DirtyTracking",
    "DmaBuffer",
    "DmaError",
    "DmaMapping",
    "Dmabuf",
    "EventQueue",
    "FaultQueue",
    "FeatureOperation",
    "FlushCount",
    "GenericVfioDevice",
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
    "IoEventFd",
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
    "MediatedDevice",
    "Migration",
    "MigrationFeatures",
    "MigrationState",
    "MockAccess",
    "MockDevice",
    "MockDeviceFlags",
    "NestedHwpt",
    "NotSupportedError",
    "ObjectNotFoundError",
    "PageFault",
    "PageFaultPermission",
    "PageResponse",
    "PciCommand",
    "PhysicalRange",
    "PrecopyInfo",
    "Region",
    "RegionDmabuf",
    "RegionFlags",
    "RegionIndex",
    "RegionMapping",
    "ResumingTransfer",
    "SavingTransfer",
    "SkipError",
    "StateTransfer",
    "TooNewError",
    "ToolError",
    "Type1Container",
    "Type1DirtyTracking",
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
