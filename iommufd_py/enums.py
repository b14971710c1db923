# SPDX-License-Identifier: MIT
"""Flags and types of the uAPI. Every value comes from the compiled ABI, none is typed here."""

from enum import IntEnum, IntFlag

from iommufd_py.ffi import lib

__all__ = [
    "DeviceFlags",
    "HwCapabilities",
    "HwInfoType",
    "HwptAllocFlags",
    "HwptDataType",
    "HwptInvalidateType",
    "IommuOption",
    "MapFlags",
    "MockDeviceFlags",
    "MockPageTable",
    "PageFaultPermission",
    "PageResponse",
    "VEventQueueType",
    "VIommuType",
    "VfioExtension",
    "VfioIoasOp",
    "VtdInvalidateFlags",
    "VtdStage1Flags",
]


class MapFlags(IntFlag):
    """What DMA may do through a mapping (enum iommufd_ioas_map_flags; FIXED_IOVA follows from giving an IOVA)."""

    WRITEABLE = lib.IOMMU_IOAS_MAP_WRITEABLE
    READABLE = lib.IOMMU_IOAS_MAP_READABLE
    READ_WRITE = lib.IOMMU_IOAS_MAP_WRITEABLE | lib.IOMMU_IOAS_MAP_READABLE


class HwptAllocFlags(IntFlag):
    """What a new HWPT must be able to do (enum iommufd_hwpt_alloc_flags)."""

    NEST_PARENT = lib.IOMMU_HWPT_ALLOC_NEST_PARENT
    DIRTY_TRACKING = lib.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
    FAULT_ID_VALID = lib.IOMMU_HWPT_FAULT_ID_VALID
    PASID = lib.IOMMU_HWPT_ALLOC_PASID


class HwptDataType(IntEnum):
    """Kind of the driver's own data given to IOMMU_HWPT_ALLOC (enum iommu_hwpt_data_type)."""

    NONE = lib.IOMMU_HWPT_DATA_NONE
    VTD_S1 = lib.IOMMU_HWPT_DATA_VTD_S1
    ARM_SMMUV3 = lib.IOMMU_HWPT_DATA_ARM_SMMUV3
    AMD_GUEST = lib.IOMMU_HWPT_DATA_AMD_GUEST
    SELFTEST = lib.IOMMU_HWPT_DATA_SELFTEST


class HwptInvalidateType(IntEnum):
    """Kind of the entries given to IOMMU_HWPT_INVALIDATE (enum iommu_hwpt_invalidate_data_type)."""

    VTD_S1 = lib.IOMMU_HWPT_INVALIDATE_DATA_VTD_S1
    VIOMMU_ARM_SMMUV3 = lib.IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3
    SELFTEST = lib.IOMMU_HWPT_INVALIDATE_DATA_SELFTEST


class VtdStage1Flags(IntFlag):
    """How VT-d is to walk a stage-1 table (enum iommu_hwpt_vtd_s1_flags)."""

    SRE = lib.IOMMU_VTD_S1_SRE
    """Supervisor requests are allowed."""
    EAFE = lib.IOMMU_VTD_S1_EAFE
    """Set the extended accessed bit."""
    WPE = lib.IOMMU_VTD_S1_WPE
    """Supervisor writes respect read-only pages."""


class VtdInvalidateFlags(IntFlag):
    """What of a VT-d stage-1 table changed (enum iommu_hwpt_vtd_s1_invalidate_flags)."""

    LEAF = lib.IOMMU_VTD_INV_FLAGS_LEAF


class PageFaultPermission(IntFlag):
    """What a device wanted of a page that faulted (enum iommu_hwpt_pgfault_perm)."""

    READ = lib.IOMMU_PGFAULT_PERM_READ
    WRITE = lib.IOMMU_PGFAULT_PERM_WRITE
    EXEC = lib.IOMMU_PGFAULT_PERM_EXEC
    PRIV = lib.IOMMU_PGFAULT_PERM_PRIV


class PageResponse(IntEnum):
    """The answer to an IO page fault (enum iommufd_page_response_code)."""

    SUCCESS = lib.IOMMUFD_PAGE_RESP_SUCCESS
    """The page is there now: try again."""
    INVALID = lib.IOMMUFD_PAGE_RESP_INVALID
    """It will not come: fail the access."""


class VIommuType(IntEnum):
    """Kind of a vIOMMU (enum iommu_viommu_type)."""

    DEFAULT = lib.IOMMU_VIOMMU_TYPE_DEFAULT
    ARM_SMMUV3 = lib.IOMMU_VIOMMU_TYPE_ARM_SMMUV3
    TEGRA241_CMDQV = lib.IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV
    SELFTEST = lib.IOMMU_VIOMMU_TYPE_SELFTEST


class VEventQueueType(IntEnum):
    """Kind of the events of a vEVENTQ (enum iommu_veventq_type)."""

    ARM_SMMUV3 = lib.IOMMU_VEVENTQ_TYPE_ARM_SMMUV3
    TEGRA241_CMDQV = lib.IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV
    SELFTEST = lib.IOMMU_VEVENTQ_TYPE_SELFTEST


class HwInfoType(IntEnum):
    """Which IOMMU answered IOMMU_GET_HW_INFO (enum iommu_hw_info_type)."""

    NONE = lib.IOMMU_HW_INFO_TYPE_NONE
    INTEL_VTD = lib.IOMMU_HW_INFO_TYPE_INTEL_VTD
    ARM_SMMUV3 = lib.IOMMU_HW_INFO_TYPE_ARM_SMMUV3
    TEGRA241_CMDQV = lib.IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV
    AMD = lib.IOMMU_HW_INFO_TYPE_AMD
    SELFTEST = lib.IOMMU_HW_INFO_TYPE_SELFTEST


class HwCapabilities(IntFlag):
    """What the IOMMU and the device can do together (enum iommufd_hw_capabilities)."""

    DIRTY_TRACKING = lib.IOMMU_HW_CAP_DIRTY_TRACKING
    PCI_PASID_EXEC = lib.IOMMU_HW_CAP_PCI_PASID_EXEC
    PCI_PASID_PRIV = lib.IOMMU_HW_CAP_PCI_PASID_PRIV
    PCI_ATS_NOT_SUPPORTED = lib.IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED


class IommuOption(IntEnum):
    """Options of an iommufd or an IOAS (enum iommufd_option)."""

    RLIMIT_MODE = lib.IOMMU_OPTION_RLIMIT_MODE
    HUGE_PAGES = lib.IOMMU_OPTION_HUGE_PAGES


class VfioIoasOp(IntEnum):
    """What to do with the compatibility IOAS (enum iommufd_vfio_ioas_op)."""

    GET = lib.IOMMU_VFIO_IOAS_GET
    SET = lib.IOMMU_VFIO_IOAS_SET
    CLEAR = lib.IOMMU_VFIO_IOAS_CLEAR


class VfioExtension(IntEnum):
    """Questions for VFIO_CHECK_EXTENSION."""

    TYPE1_IOMMU = lib.VFIO_TYPE1_IOMMU
    TYPE1V2_IOMMU = lib.VFIO_TYPE1v2_IOMMU
    DMA_CC_IOMMU = lib.VFIO_DMA_CC_IOMMU
    NOIOMMU_IOMMU = lib.VFIO_NOIOMMU_IOMMU
    UNMAP_ALL = lib.VFIO_UNMAP_ALL
    UPDATE_VADDR = lib.VFIO_UPDATE_VADDR


class DeviceFlags(IntFlag):
    """What VFIO_DEVICE_GET_INFO says of a device."""

    RESET = lib.VFIO_DEVICE_FLAGS_RESET
    PCI = lib.VFIO_DEVICE_FLAGS_PCI
    CAPS = lib.VFIO_DEVICE_FLAGS_CAPS


class MockPageTable(IntEnum):
    """Page table format of a paging HWPT of the mock driver."""

    DEFAULT = lib.MOCK_IOMMUPT_DEFAULT
    """2K pages and all larger powers of two."""
    HUGE = lib.MOCK_IOMMUPT_HUGE
    """1M pages beside those."""


class MockDeviceFlags(IntFlag):
    """Properties of a mock device of CONFIG_IOMMUFD_TEST."""

    NO_DIRTY = lib.MOCK_FLAGS_DEVICE_NO_DIRTY
    PASID = lib.MOCK_FLAGS_DEVICE_PASID
    COHERENT = lib.MOCK_FLAGS_DEVICE_COHERENT
    """Its IOMMU enforces cache coherency; only kernels with our flush series know it."""
