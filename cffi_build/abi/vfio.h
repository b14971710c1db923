/* SPDX-License-Identifier: MIT */
/*
 * The ioctls of VFIO: containers, groups, devices of any kind, PCI devices and the type 1 IOMMU, as of Linux 7.3.
 *
 * Written like iommufd.h. Left out: graphics, CCW, AP and zPCI devices, sPAPR TCE and EEH, NVLink, and the first
 * migration protocol.
 */
#pragma once

#include <linux/types.h>

/* -------- Requests -------- */

/* _IO(VFIO_TYPE, VFIO_BASE + n); a structure starts with argsz, its size in bytes with all that follows it. */

enum {
	VFIO_API_VERSION = 0,
	VFIO_TYPE = ';',
	VFIO_BASE = 100,
};

/* Container, /dev/vfio/vfio or /dev/iommu in its compatible mode */
enum {
	VFIO_GET_API_VERSION = 0x3b64,
	VFIO_CHECK_EXTENSION = 0x3b65,
	VFIO_SET_IOMMU = 0x3b66,
};

/* Group, /dev/vfio/N */
enum {
	VFIO_GROUP_GET_STATUS = 0x3b67,
	VFIO_GROUP_SET_CONTAINER = 0x3b68,
	VFIO_GROUP_UNSET_CONTAINER = 0x3b69,
	VFIO_GROUP_GET_DEVICE_FD = 0x3b6a,
};

/* Device, from a group or opened as /dev/vfio/devices/vfioN */
enum {
	VFIO_DEVICE_GET_INFO = 0x3b6b,
	VFIO_DEVICE_GET_REGION_INFO = 0x3b6c,
	VFIO_DEVICE_GET_IRQ_INFO = 0x3b6d,
	VFIO_DEVICE_SET_IRQS = 0x3b6e,
	VFIO_DEVICE_RESET = 0x3b6f,
	VFIO_DEVICE_GET_PCI_HOT_RESET_INFO = 0x3b70,
	VFIO_DEVICE_PCI_HOT_RESET = 0x3b71,
	VFIO_DEVICE_IOEVENTFD = 0x3b74,
	VFIO_DEVICE_FEATURE = 0x3b75,
	VFIO_DEVICE_BIND_IOMMUFD = 0x3b76,
	VFIO_DEVICE_ATTACH_IOMMUFD_PT = 0x3b77,
	VFIO_DEVICE_DETACH_IOMMUFD_PT = 0x3b78,
};

/* Data fd of a migration */
enum {
	VFIO_MIG_GET_PRECOPY_INFO = 0x3b79,
};

/* Type 1 IOMMU, on the container; the numbers overlap those of a device */
enum {
	VFIO_IOMMU_GET_INFO = 0x3b70,
	VFIO_IOMMU_MAP_DMA = 0x3b71,
	VFIO_IOMMU_UNMAP_DMA = 0x3b72,
	VFIO_IOMMU_ENABLE = 0x3b73,
	VFIO_IOMMU_DISABLE = 0x3b74,
	VFIO_IOMMU_DIRTY_PAGES = 0x3b75,
};

/* An answer may continue in a chain of capabilities; offsets count from the start of the answer, 0 ends the chain. */
struct vfio_info_cap_header {
	__u16 id;
	__u16 version;
	__u32 next;
}; /* 8 bytes */

/* -------- Container and group -------- */

/* Arguments of CHECK_EXTENSION; those named after an IOMMU also of SET_IOMMU */
enum {
	VFIO_TYPE1_IOMMU = 1,
	VFIO_SPAPR_TCE_IOMMU = 2,
	VFIO_TYPE1v2_IOMMU = 3,
	VFIO_DMA_CC_IOMMU = 4, /* every domain of the container enforces cache coherency */
	VFIO_EEH = 5,
	VFIO_SPAPR_TCE_v2_IOMMU = 7,
	VFIO_NOIOMMU_IOMMU = 8,
	VFIO_UNMAP_ALL = 9,
	VFIO_UPDATE_VADDR = 10,
};

enum {
	VFIO_GROUP_FLAGS_VIABLE = 1 << 0,
	VFIO_GROUP_FLAGS_CONTAINER_SET = 1 << 1,
};

struct vfio_group_status {
	__u32 argsz;
	__u32 flags; /* VFIO_GROUP_FLAGS_... */
}; /* 8 bytes */

/* -------- Device: its properties -------- */

enum {
	VFIO_DEVICE_FLAGS_RESET = 1 << 0,
	VFIO_DEVICE_FLAGS_PCI = 1 << 1,
	VFIO_DEVICE_FLAGS_PLATFORM = 1 << 2,
	VFIO_DEVICE_FLAGS_AMBA = 1 << 3,
	VFIO_DEVICE_FLAGS_CCW = 1 << 4,
	VFIO_DEVICE_FLAGS_AP = 1 << 5,
	VFIO_DEVICE_FLAGS_FSL_MC = 1 << 6,
	VFIO_DEVICE_FLAGS_CAPS = 1 << 7, /* cap_offset is valid */
	VFIO_DEVICE_FLAGS_CDX = 1 << 8,
};

struct vfio_device_info {
	__u32 argsz;
	__u32 flags; /* VFIO_DEVICE_FLAGS_... */
	__u32 num_regions;
	__u32 num_irqs;
	__u32 cap_offset;
	__u32 pad;
}; /* 24 bytes */

enum {
	VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP = 5,
};

enum {
	VFIO_PCI_ATOMIC_COMP32 = 1 << 0,
	VFIO_PCI_ATOMIC_COMP64 = 1 << 1,
	VFIO_PCI_ATOMIC_COMP128 = 1 << 2,
};

struct vfio_device_info_cap_pci_atomic_comp {
	struct vfio_info_cap_header header;
	__u32 flags; /* VFIO_PCI_ATOMIC_... */
	__u32 reserved;
}; /* 16 bytes */

/* -------- Device: regions, read, written and mapped at their offset in the device fd -------- */

enum {
	VFIO_PCI_BAR0_REGION_INDEX = 0,
	VFIO_PCI_BAR1_REGION_INDEX = 1,
	VFIO_PCI_BAR2_REGION_INDEX = 2,
	VFIO_PCI_BAR3_REGION_INDEX = 3,
	VFIO_PCI_BAR4_REGION_INDEX = 4,
	VFIO_PCI_BAR5_REGION_INDEX = 5,
	VFIO_PCI_ROM_REGION_INDEX = 6,
	VFIO_PCI_CONFIG_REGION_INDEX = 7,
	VFIO_PCI_VGA_REGION_INDEX = 8,
	VFIO_PCI_NUM_REGIONS = 9, /* from here on, a CAP_TYPE gives the type of the region */
};

enum {
	VFIO_REGION_INFO_FLAG_READ = 1 << 0,
	VFIO_REGION_INFO_FLAG_WRITE = 1 << 1,
	VFIO_REGION_INFO_FLAG_MMAP = 1 << 2,
	VFIO_REGION_INFO_FLAG_CAPS = 1 << 3, /* cap_offset is valid */
};

struct vfio_region_info {
	__u32 argsz;
	__u32 flags; /* VFIO_REGION_INFO_FLAG_... */
	__u32 index; /* in */
	__u32 cap_offset;
	__aligned_u64 size;
	__aligned_u64 offset;
}; /* 32 bytes */

enum {
	VFIO_REGION_INFO_CAP_SPARSE_MMAP = 1,
	VFIO_REGION_INFO_CAP_TYPE = 2,
	VFIO_REGION_INFO_CAP_MSIX_MAPPABLE = 3, /* a bare header */
};

struct vfio_region_sparse_mmap_area {
	__aligned_u64 offset;
	__aligned_u64 size;
}; /* 16 bytes */

struct vfio_region_info_cap_sparse_mmap {
	struct vfio_info_cap_header header;
	__u32 nr_areas;
	__u32 reserved;
	struct vfio_region_sparse_mmap_area areas[];
}; /* 16 bytes */

struct vfio_region_info_cap_type {
	struct vfio_info_cap_header header;
	__u32 type;
	__u32 subtype;
}; /* 16 bytes */

enum {
	VFIO_REGION_TYPE_PCI_VENDOR_TYPE = 1u << 31, /* the low 16 bits are a PCI vendor ID */
	VFIO_REGION_TYPE_PCI_VENDOR_MASK = 0xffff,
};

enum {
	VFIO_REGION_SUBTYPE_INTEL_IGD_OPREGION = 1,
	VFIO_REGION_SUBTYPE_INTEL_IGD_HOST_CFG = 2,
	VFIO_REGION_SUBTYPE_INTEL_IGD_LPC_CFG = 3,
};

enum {
	VFIO_DEVICE_IOEVENTFD_8 = 1 << 0,
	VFIO_DEVICE_IOEVENTFD_16 = 1 << 1,
	VFIO_DEVICE_IOEVENTFD_32 = 1 << 2,
	VFIO_DEVICE_IOEVENTFD_64 = 1 << 3,
	VFIO_DEVICE_IOEVENTFD_SIZE_MASK = 0xf,
};

struct vfio_device_ioeventfd {
	__u32 argsz;
	__u32 flags; /* VFIO_DEVICE_IOEVENTFD_..., the width of the write */
	__aligned_u64 offset;
	__aligned_u64 data;
	__s32 fd; /* -1: undo */
	__u32 reserved;
}; /* 32 bytes */

/* -------- Device: interrupts -------- */

enum {
	VFIO_PCI_INTX_IRQ_INDEX = 0,
	VFIO_PCI_MSI_IRQ_INDEX = 1,
	VFIO_PCI_MSIX_IRQ_INDEX = 2,
	VFIO_PCI_ERR_IRQ_INDEX = 3,
	VFIO_PCI_REQ_IRQ_INDEX = 4,
	VFIO_PCI_NUM_IRQS = 5,
};

enum {
	VFIO_IRQ_INFO_EVENTFD = 1 << 0,
	VFIO_IRQ_INFO_MASKABLE = 1 << 1,
	VFIO_IRQ_INFO_AUTOMASKED = 1 << 2,
	VFIO_IRQ_INFO_NORESIZE = 1 << 3,
};

struct vfio_irq_info {
	__u32 argsz;
	__u32 flags; /* VFIO_IRQ_INFO_... */
	__u32 index; /* in */
	__u32 count;
}; /* 16 bytes */

enum {
	VFIO_IRQ_SET_DATA_NONE = 1 << 0,
	VFIO_IRQ_SET_DATA_BOOL = 1 << 1,    /* data is __u8[count] */
	VFIO_IRQ_SET_DATA_EVENTFD = 1 << 2, /* data is __s32[count], -1: none */
	VFIO_IRQ_SET_DATA_TYPE_MASK = 0x07,
	VFIO_IRQ_SET_ACTION_MASK = 1 << 3,
	VFIO_IRQ_SET_ACTION_UNMASK = 1 << 4,
	VFIO_IRQ_SET_ACTION_TRIGGER = 1 << 5,
	VFIO_IRQ_SET_ACTION_TYPE_MASK = 0x38,
};

struct vfio_irq_set {
	__u32 argsz;
	__u32 flags; /* VFIO_IRQ_SET_..., one DATA and one ACTION */
	__u32 index;
	__u32 start;
	__u32 count;
	__u8 data[];
}; /* 20 bytes */

/* -------- Device: PCI hot reset of a slot or bus, and of all its devices -------- */

enum {
	VFIO_PCI_DEVID_OWNED = 0,
	VFIO_PCI_DEVID_NOT_OWNED = 0xffffffff,
};

struct vfio_pci_dependent_device {
	union {
		__u32 group_id;
		__u32 devid; /* with HOT_RESET_FLAG_DEV_ID: an iommufd dev_id or VFIO_PCI_DEVID_... */
	};
	__u16 segment;
	__u8 bus;
	__u8 devfn;
}; /* 8 bytes */

enum {
	VFIO_PCI_HOT_RESET_FLAG_DEV_ID = 1 << 0,
	VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED = 1 << 1,
};

struct vfio_pci_hot_reset_info {
	__u32 argsz;
	__u32 flags; /* VFIO_PCI_HOT_RESET_FLAG_... */
	__u32 count;
	struct vfio_pci_dependent_device devices[];
}; /* 12 bytes */

struct vfio_pci_hot_reset {
	__u32 argsz;
	__u32 flags;
	__u32 count; /* 0 for a device opened as cdev */
	__s32 group_fds[];
}; /* 12 bytes */

/* -------- Device opened as cdev: bind to an iommufd, attach to an IOAS or HWPT -------- */

enum {
	VFIO_DEVICE_BIND_FLAG_TOKEN = 1 << 0,
};

struct vfio_device_bind_iommufd {
	__u32 argsz;
	__u32 flags; /* VFIO_DEVICE_BIND_FLAG_... */
	__s32 iommufd;
	__u32 out_devid;
	__aligned_u64 token_uuid_ptr; /* with FLAG_TOKEN: pointer to 16 bytes */
}; /* 24 bytes */

enum {
	VFIO_DEVICE_ATTACH_PASID = 1 << 0,
};

struct vfio_device_attach_iommufd_pt {
	__u32 argsz;
	__u32 flags; /* VFIO_DEVICE_ATTACH_... */
	__u32 pt_id; /* in: IOAS or HWPT; out: the attached HWPT, also if the kernel made it */
	__u32 pasid;
}; /* 16 bytes */

enum {
	VFIO_DEVICE_DETACH_PASID = 1 << 0,
};

struct vfio_device_detach_iommufd_pt {
	__u32 argsz;
	__u32 flags; /* VFIO_DEVICE_DETACH_... */
	__u32 pasid;
}; /* 12 bytes */

/* -------- Device features: one ioctl, the structure of the feature in its tail -------- */

enum {
	VFIO_DEVICE_FEATURE_MASK = 0xffff,
	VFIO_DEVICE_FEATURE_GET = 1 << 16,
	VFIO_DEVICE_FEATURE_SET = 1 << 17,
	VFIO_DEVICE_FEATURE_PROBE = 1 << 18,
};

enum {
	VFIO_DEVICE_FEATURE_PCI_VF_TOKEN = 0, /* data is a UUID, __u8[16] */
	VFIO_DEVICE_FEATURE_MIGRATION = 1,
	VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE = 2,
	VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY = 3, /* no data */
	VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP = 4,
	VFIO_DEVICE_FEATURE_LOW_POWER_EXIT = 5, /* no data */
	VFIO_DEVICE_FEATURE_DMA_LOGGING_START = 6,
	VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP = 7, /* no data */
	VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT = 8,
	VFIO_DEVICE_FEATURE_MIG_DATA_SIZE = 9,
	VFIO_DEVICE_FEATURE_BUS_MASTER = 10,
	VFIO_DEVICE_FEATURE_DMA_BUF = 11,
	VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 = 12,
	VFIO_DEVICE_FEATURE_ZPCI_ERROR = 13,
};

struct vfio_device_feature {
	__u32 argsz;
	__u32 flags; /* a feature, with GET, SET or PROBE */
	__u8 data[];
}; /* 8 bytes */

/* Migration */

enum {
	VFIO_MIGRATION_STOP_COPY = 1 << 0,
	VFIO_MIGRATION_P2P = 1 << 1,
	VFIO_MIGRATION_PRE_COPY = 1 << 2,
};

struct vfio_device_feature_migration {
	__aligned_u64 flags; /* VFIO_MIGRATION_... */
}; /* 8 bytes */

enum vfio_device_mig_state {
	VFIO_DEVICE_STATE_ERROR = 0,
	VFIO_DEVICE_STATE_STOP = 1,
	VFIO_DEVICE_STATE_RUNNING = 2,
	VFIO_DEVICE_STATE_STOP_COPY = 3,
	VFIO_DEVICE_STATE_RESUMING = 4,
	VFIO_DEVICE_STATE_RUNNING_P2P = 5,
	VFIO_DEVICE_STATE_PRE_COPY = 6,
	VFIO_DEVICE_STATE_PRE_COPY_P2P = 7,
	VFIO_DEVICE_STATE_NR = 8,
};

struct vfio_device_feature_mig_state {
	__u32 device_state; /* enum vfio_device_mig_state */
	__s32 data_fd;
}; /* 8 bytes */

struct vfio_device_feature_mig_data_size {
	__aligned_u64 stop_copy_length;
}; /* 8 bytes */

enum {
	VFIO_PRECOPY_INFO_REINIT = 1 << 0,
};

struct vfio_precopy_info {
	__u32 argsz;
	__u32 flags; /* VFIO_PRECOPY_INFO_..., after SET of MIG_PRECOPY_INFOv2 */
	__aligned_u64 initial_bytes;
	__aligned_u64 dirty_bytes;
}; /* 24 bytes */

/* Power */

struct vfio_device_low_power_entry_with_wakeup {
	__s32 wakeup_eventfd;
	__u32 reserved;
}; /* 8 bytes */

/* Logging of the pages that the device dirtied */

struct vfio_device_feature_dma_logging_control {
	__aligned_u64 page_size;
	__u32 num_ranges;
	__u32 __reserved;
	__aligned_u64 ranges; /* pointer to struct vfio_device_feature_dma_logging_range[num_ranges] */
}; /* 24 bytes */

struct vfio_device_feature_dma_logging_range {
	__aligned_u64 iova;
	__aligned_u64 length;
}; /* 16 bytes */

struct vfio_device_feature_dma_logging_report {
	__aligned_u64 iova;
	__aligned_u64 length;
	__aligned_u64 page_size;
	__aligned_u64 bitmap; /* pointer to the bitmap, of 64-bit words */
}; /* 32 bytes */

/* Bus mastering */

enum {
	VFIO_DEVICE_FEATURE_CLEAR_MASTER = 0,
	VFIO_DEVICE_FEATURE_SET_MASTER = 1,
};

struct vfio_device_feature_bus_master {
	__u32 op; /* VFIO_DEVICE_FEATURE_..._MASTER */
}; /* 4 bytes */

/* Parts of a region as a dma-buf; GET returns its fd */

struct vfio_region_dma_range {
	__u64 offset;
	__u64 length;
}; /* 16 bytes */

struct vfio_device_feature_dma_buf {
	__u32 region_index;
	__u32 open_flags; /* of open(2) */
	__u32 flags;
	__u32 nr_ranges;
	struct vfio_region_dma_range dma_ranges[];
}; /* 16 bytes */

/* Error state of an s390 PCI device */

struct vfio_device_feature_zpci_err {
	__aligned_u64 data; /* pointer to a buffer */
}; /* 8 bytes */

/* -------- Type 1 IOMMU -------- */

enum {
	VFIO_IOMMU_INFO_PGSIZES = 1 << 0,
	VFIO_IOMMU_INFO_CAPS = 1 << 1, /* cap_offset is valid */
};

struct vfio_iommu_type1_info {
	__u32 argsz;
	__u32 flags; /* VFIO_IOMMU_INFO_... */
	__aligned_u64 iova_pgsizes;
	__u32 cap_offset;
	__u32 pad;
}; /* 24 bytes */

enum {
	VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE = 1,
	VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION = 2,
	VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL = 3,
};

struct vfio_iova_range {
	__u64 start;
	__u64 end; /* inclusive */
}; /* 16 bytes */

struct vfio_iommu_type1_info_cap_iova_range {
	struct vfio_info_cap_header header;
	__u32 nr_iovas;
	__u32 reserved;
	struct vfio_iova_range iova_ranges[];
}; /* 16 bytes */

struct vfio_iommu_type1_info_cap_migration {
	struct vfio_info_cap_header header;
	__u32 flags;
	__u64 pgsize_bitmap;
	__u64 max_dirty_bitmap_size;
}; /* 32 bytes */

struct vfio_iommu_type1_info_dma_avail {
	struct vfio_info_cap_header header;
	__u32 avail; /* mappings that may still be made */
}; /* 12 bytes */

enum {
	VFIO_DMA_MAP_FLAG_READ = 1 << 0,
	VFIO_DMA_MAP_FLAG_WRITE = 1 << 1,
	VFIO_DMA_MAP_FLAG_VADDR = 1 << 2,
};

struct vfio_iommu_type1_dma_map {
	__u32 argsz;
	__u32 flags; /* VFIO_DMA_MAP_FLAG_... */
	__u64 vaddr;
	__u64 iova;
	__u64 size;
}; /* 32 bytes */

struct vfio_bitmap {
	__u64 pgsize; /* bytes that one bit stands for */
	__u64 size;   /* bytes at data */
	__u64 *data;
}; /* 24 bytes */

enum {
	VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP = 1 << 0, /* data is a struct vfio_bitmap */
	VFIO_DMA_UNMAP_FLAG_ALL = 1 << 1,              /* iova and size are 0 */
	VFIO_DMA_UNMAP_FLAG_VADDR = 1 << 2,
};

struct vfio_iommu_type1_dma_unmap {
	__u32 argsz;
	__u32 flags; /* VFIO_DMA_UNMAP_FLAG_... */
	__u64 iova;
	__u64 size; /* in: bytes to unmap; out: bytes unmapped */
	__u8 data[];
}; /* 24 bytes */

enum {
	VFIO_IOMMU_DIRTY_PAGES_FLAG_START = 1 << 0,
	VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP = 1 << 1,
	VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP = 1 << 2, /* data is a struct vfio_iommu_type1_dirty_bitmap_get */
};

struct vfio_iommu_type1_dirty_bitmap {
	__u32 argsz;
	__u32 flags; /* VFIO_IOMMU_DIRTY_PAGES_FLAG_... */
	__u8 data[];
}; /* 8 bytes */

struct vfio_iommu_type1_dirty_bitmap_get {
	__u64 iova;
	__u64 size;
	struct vfio_bitmap bitmap;
}; /* 40 bytes */
