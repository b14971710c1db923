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

from iommufd_py.context import Iommufd
from iommufd_py.device import Attachment, BoundDevice, HwInfo, VfioDevice
from iommufd_py.enums import (
    DeviceFlags,
    HwCapabilities,
    HwInfoType,
    HwptAllocFlags,
    IommuOption,
    MapFlags,
    MockDeviceFlags,
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
from iommufd_py.hwpt import Coherency, CoherencyEvidence, Hwpt
from iommufd_py.ioas import DmaMapping, Ioas
from iommufd_py.iova import IovaRange, IovaRanges
from iommufd_py.memory import Backing, DmaBuffer
from iommufd_py.mock import FlushCount, MockDevice, flush_count

__all__ = [
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
    "DeviceError",
    "DeviceFlags",
    "DmaBuffer",
    "DmaMapping",
    "FlushCount",
    "HwCapabilities",
    "HwInfo",
    "HwInfoType",
    "Hwpt",
    "HwptAllocFlags",
    "InvalidFieldError",
    "Ioas",
    "IommuOption",
    "Iommufd",
    "IommufdError",
    "IovaRange",
    "IovaRanges",
    "MapFlags",
    "MockDevice",
    "MockDeviceFlags",
    "NotSupportedError",
    "ObjectNotFoundError",
    "SkipError",
    "TooNewError",
    "ToolError",
    "UnsupportedIoctlError",
    "VfioDevice",
    "flush_count",
]
