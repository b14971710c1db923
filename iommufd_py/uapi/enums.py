# SPDX-License-Identifier: MIT
"""Flags and types of the uAPI. Every value comes from the compiled ABI."""

from enum import IntEnum, IntFlag

from iommufd_py.uapi.ffi import lib


class MapFlags(IntFlag):
    """Permissions of DMA through a mapping (enum iommufd_ioas_map_flags; a given IOVA implies FIXED_IOVA)."""

    WRITEABLE = lib.IOMMU_IOAS_MAP_WRITEABLE
    READABLE = lib.IOMMU_IOAS_MAP_READABLE
    READ_WRITE = lib.IOMMU_IOAS_MAP_WRITEABLE | lib.IOMMU_IOAS_MAP_READABLE


class HwptAllocFlags(IntFlag):
    """Required features of a new HWPT (enum iommufd_hwpt_alloc_flags)."""

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
    """Options of VT-d's walk of a stage-1 table (enum iommu_hwpt_vtd_s1_flags)."""

    SRE = lib.IOMMU_VTD_S1_SRE
    """Supervisor requests are allowed."""
    EAFE = lib.IOMMU_VTD_S1_EAFE
    """Set the extended accessed bit."""
    WPE = lib.IOMMU_VTD_S1_WPE
    """Supervisor writes respect read-only pages."""


class VtdInvalidateFlags(IntFlag):
    """The changed part of a VT-d stage-1 table (enum iommu_hwpt_vtd_s1_invalidate_flags)."""

    LEAF = lib.IOMMU_VTD_INV_FLAGS_LEAF


class PageFaultPermission(IntFlag):
    """The access of a device that caused a page fault (enum iommu_hwpt_pgfault_perm)."""

    READ = lib.IOMMU_PGFAULT_PERM_READ
    WRITE = lib.IOMMU_PGFAULT_PERM_WRITE
    EXEC = lib.IOMMU_PGFAULT_PERM_EXEC
    PRIV = lib.IOMMU_PGFAULT_PERM_PRIV


class PageResponse(IntEnum):
    """The answer to an IO page fault (enum iommufd_page_response_code)."""

    SUCCESS = lib.IOMMUFD_PAGE_RESP_SUCCESS
    """The page is present now: the device tries again."""
    INVALID = lib.IOMMUFD_PAGE_RESP_INVALID
    """The page will not become present: the access fails."""


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
    """Type of the IOMMU in IOMMU_GET_HW_INFO (enum iommu_hw_info_type)."""

    NONE = lib.IOMMU_HW_INFO_TYPE_NONE
    INTEL_VTD = lib.IOMMU_HW_INFO_TYPE_INTEL_VTD
    ARM_SMMUV3 = lib.IOMMU_HW_INFO_TYPE_ARM_SMMUV3
    TEGRA241_CMDQV = lib.IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV
    AMD = lib.IOMMU_HW_INFO_TYPE_AMD
    SELFTEST = lib.IOMMU_HW_INFO_TYPE_SELFTEST


class HwCapabilities(IntFlag):
    """Common features of the IOMMU and the device (enum iommufd_hw_capabilities)."""

    DIRTY_TRACKING = lib.IOMMU_HW_CAP_DIRTY_TRACKING
    PCI_PASID_EXEC = lib.IOMMU_HW_CAP_PCI_PASID_EXEC
    PCI_PASID_PRIV = lib.IOMMU_HW_CAP_PCI_PASID_PRIV
    PCI_ATS_NOT_SUPPORTED = lib.IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED


class IommuOption(IntEnum):
    """Options of an iommufd or an IOAS (enum iommufd_option)."""

    RLIMIT_MODE = lib.IOMMU_OPTION_RLIMIT_MODE
    HUGE_PAGES = lib.IOMMU_OPTION_HUGE_PAGES


class VfioIoasOp(IntEnum):
    """Operations on the compatibility IOAS (enum iommufd_vfio_ioas_op)."""

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
    """Properties of a device (VFIO_DEVICE_GET_INFO)."""

    RESET = lib.VFIO_DEVICE_FLAGS_RESET
    PCI = lib.VFIO_DEVICE_FLAGS_PCI
    CAPS = lib.VFIO_DEVICE_FLAGS_CAPS


class MockPageTable(IntEnum):
    """Page table format of a paging HWPT of the mock driver."""

    DEFAULT = lib.MOCK_IOMMUPT_DEFAULT
    """2K pages and all larger powers of two."""
    HUGE = lib.MOCK_IOMMUPT_HUGE
    """The pages of DEFAULT, and 1M pages."""


class RegionIndex(IntEnum):
    """The regions of a VFIO PCI device."""

    BAR0 = lib.VFIO_PCI_BAR0_REGION_INDEX
    BAR1 = lib.VFIO_PCI_BAR1_REGION_INDEX
    BAR2 = lib.VFIO_PCI_BAR2_REGION_INDEX
    BAR3 = lib.VFIO_PCI_BAR3_REGION_INDEX
    BAR4 = lib.VFIO_PCI_BAR4_REGION_INDEX
    BAR5 = lib.VFIO_PCI_BAR5_REGION_INDEX
    ROM = lib.VFIO_PCI_ROM_REGION_INDEX
    CONFIG = lib.VFIO_PCI_CONFIG_REGION_INDEX
    VGA = lib.VFIO_PCI_VGA_REGION_INDEX


class RegionFlags(IntFlag):
    """Supported accesses to a region (VFIO_DEVICE_GET_REGION_INFO)."""

    READ = lib.VFIO_REGION_INFO_FLAG_READ
    WRITE = lib.VFIO_REGION_INFO_FLAG_WRITE
    MMAP = lib.VFIO_REGION_INFO_FLAG_MMAP
    CAPS = lib.VFIO_REGION_INFO_FLAG_CAPS


class IrqIndex(IntEnum):
    """The kinds of interrupts of a VFIO PCI device."""

    INTX = lib.VFIO_PCI_INTX_IRQ_INDEX
    MSI = lib.VFIO_PCI_MSI_IRQ_INDEX
    MSIX = lib.VFIO_PCI_MSIX_IRQ_INDEX
    ERR = lib.VFIO_PCI_ERR_IRQ_INDEX
    REQ = lib.VFIO_PCI_REQ_IRQ_INDEX


class IrqFlags(IntFlag):
    """Supported operations on the interrupts of one index (VFIO_DEVICE_GET_IRQ_INFO)."""

    EVENTFD = lib.VFIO_IRQ_INFO_EVENTFD
    MASKABLE = lib.VFIO_IRQ_INFO_MASKABLE
    AUTOMASKED = lib.VFIO_IRQ_INFO_AUTOMASKED
    NORESIZE = lib.VFIO_IRQ_INFO_NORESIZE


class IrqSetFlags(IntFlag):
    """The action of VFIO_DEVICE_SET_IRQS (ACTION) and the form of its data (DATA); use one of each."""

    DATA_NONE = lib.VFIO_IRQ_SET_DATA_NONE
    DATA_BOOL = lib.VFIO_IRQ_SET_DATA_BOOL
    DATA_EVENTFD = lib.VFIO_IRQ_SET_DATA_EVENTFD
    ACTION_MASK = lib.VFIO_IRQ_SET_ACTION_MASK
    ACTION_UNMASK = lib.VFIO_IRQ_SET_ACTION_UNMASK
    ACTION_TRIGGER = lib.VFIO_IRQ_SET_ACTION_TRIGGER


class DeviceFeature(IntEnum):
    """Features for VFIO_DEVICE_FEATURE; each has a structure of its own in <linux/vfio.h>, or no data."""

    PCI_VF_TOKEN = lib.VFIO_DEVICE_FEATURE_PCI_VF_TOKEN
    MIGRATION = lib.VFIO_DEVICE_FEATURE_MIGRATION
    MIG_DEVICE_STATE = lib.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE
    LOW_POWER_ENTRY = lib.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY
    LOW_POWER_ENTRY_WITH_WAKEUP = lib.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP
    LOW_POWER_EXIT = lib.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT
    DMA_LOGGING_START = lib.VFIO_DEVICE_FEATURE_DMA_LOGGING_START
    DMA_LOGGING_STOP = lib.VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP
    DMA_LOGGING_REPORT = lib.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT
    MIG_DATA_SIZE = lib.VFIO_DEVICE_FEATURE_MIG_DATA_SIZE
    BUS_MASTER = lib.VFIO_DEVICE_FEATURE_BUS_MASTER
    DMA_BUF = lib.VFIO_DEVICE_FEATURE_DMA_BUF
    MIG_PRECOPY_INFOV2 = lib.VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2
    ZPCI_ERROR = lib.VFIO_DEVICE_FEATURE_ZPCI_ERROR


class FeatureOperation(IntFlag):
    """Operations on a device feature."""

    GET = lib.VFIO_DEVICE_FEATURE_GET
    SET = lib.VFIO_DEVICE_FEATURE_SET
    PROBE = lib.VFIO_DEVICE_FEATURE_PROBE
    """Together with another operation: only ask whether the device supports it."""


class MigrationFeatures(IntFlag):
    """The kinds of migration that a device supports (VFIO_DEVICE_FEATURE_MIGRATION)."""

    STOP_COPY = lib.VFIO_MIGRATION_STOP_COPY
    """Its state can be saved while it is stopped, and resumed."""
    P2P = lib.VFIO_MIGRATION_P2P
    """It has the states in which it does no DMA to other devices."""
    PRE_COPY = lib.VFIO_MIGRATION_PRE_COPY
    """Saving can begin while it runs."""


class MigrationState(IntEnum):
    """The state of a device's migration (enum vfio_device_mig_state)."""

    ERROR = lib.VFIO_DEVICE_STATE_ERROR
    """A change of the state failed, and only a reset of the device helps. No program can ask for this state."""
    STOP = lib.VFIO_DEVICE_STATE_STOP
    """It neither changes nor does DMA."""
    RUNNING = lib.VFIO_DEVICE_STATE_RUNNING
    STOP_COPY = lib.VFIO_DEVICE_STATE_STOP_COPY
    """It is stopped, and its whole state can be read."""
    RESUMING = lib.VFIO_DEVICE_STATE_RESUMING
    """It is stopped, and a state can be written."""
    RUNNING_P2P = lib.VFIO_DEVICE_STATE_RUNNING_P2P
    """It runs, but does no DMA to other devices."""
    PRE_COPY = lib.VFIO_DEVICE_STATE_PRE_COPY
    """It runs, and part of its state can be read already."""
    PRE_COPY_P2P = lib.VFIO_DEVICE_STATE_PRE_COPY_P2P
    """As PRE_COPY, but it does no DMA to other devices."""


class GroupFlags(IntFlag):
    """The state of a VFIO group (VFIO_GROUP_GET_STATUS)."""

    VIABLE = lib.VFIO_GROUP_FLAGS_VIABLE
    CONTAINER_SET = lib.VFIO_GROUP_FLAGS_CONTAINER_SET


class Type1MapFlags(IntFlag):
    """Permissions of DMA through a mapping of a type1 container."""

    READ = lib.VFIO_DMA_MAP_FLAG_READ
    WRITE = lib.VFIO_DMA_MAP_FLAG_WRITE
    VADDR = lib.VFIO_DMA_MAP_FLAG_VADDR
    """Give a mapping new user addresses. Use this flag alone."""


class Type1UnmapFlags(IntFlag):
    """Options of VFIO_IOMMU_UNMAP_DMA."""

    ALL = lib.VFIO_DMA_UNMAP_FLAG_ALL
    VADDR = lib.VFIO_DMA_UNMAP_FLAG_VADDR
    """Take the user addresses of a mapping away; nothing is unmapped."""


class MockDeviceFlags(IntFlag):
    """Properties of a mock device of CONFIG_IOMMUFD_TEST."""

    NO_DIRTY = lib.MOCK_FLAGS_DEVICE_NO_DIRTY
    PASID = lib.MOCK_FLAGS_DEVICE_PASID
    COHERENT = lib.MOCK_FLAGS_DEVICE_COHERENT
    """The IOMMU of the device enforces cache coherency. Only kernels with our flush series have this flag."""


class MappingIoctl(IntEnum):
    """The requests that map or unmap memory, and the requests that pin mapped memory because a domain joins."""

    IOMMU_IOAS_MAP = lib.IOMMU_IOAS_MAP
    IOMMU_IOAS_MAP_FILE = lib.IOMMU_IOAS_MAP_FILE
    IOMMU_IOAS_COPY = lib.IOMMU_IOAS_COPY
    IOMMU_IOAS_UNMAP = lib.IOMMU_IOAS_UNMAP
    IOMMU_HWPT_ALLOC = lib.IOMMU_HWPT_ALLOC
    IOMMU_DESTROY = lib.IOMMU_DESTROY
    IOMMU_TEST_CMD = lib.IOMMU_TEST_CMD
    VFIO_IOMMU_MAP_DMA = lib.VFIO_IOMMU_MAP_DMA
    VFIO_IOMMU_UNMAP_DMA = lib.VFIO_IOMMU_UNMAP_DMA
    VFIO_SET_IOMMU = lib.VFIO_SET_IOMMU
    VFIO_GROUP_SET_CONTAINER = lib.VFIO_GROUP_SET_CONTAINER
    VFIO_GROUP_UNSET_CONTAINER = lib.VFIO_GROUP_UNSET_CONTAINER
    VFIO_DEVICE_ATTACH_IOMMUFD_PT = lib.VFIO_DEVICE_ATTACH_IOMMUFD_PT
    VFIO_DEVICE_DETACH_IOMMUFD_PT = lib.VFIO_DEVICE_DETACH_IOMMUFD_PT
