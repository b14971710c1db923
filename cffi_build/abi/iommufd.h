/* SPDX-License-Identifier: MIT */
/*
 * The ioctls of /dev/iommu, complete as of Linux 7.3.
 *
 * Names, layouts and numbers are the kernel's; scripts/check_abi compares them with a kernel tree. Both the
 * C compiler and cffi's cdef read this text. cdef accepts no macros, so every constant is an enumerator. The build of
 * the extension asserts the size after each structure.
 */
#pragma once

#include <linux/types.h>

/* -------- Requests -------- */

/* _IO(IOMMUFD_TYPE, IOMMUFD_CMD_...); the argument starts with its own size in bytes. */

enum {
	IOMMUFD_TYPE = ';',
};

enum {
	IOMMUFD_CMD_BASE = 0x80,
	IOMMUFD_CMD_DESTROY = 0x80,
	IOMMUFD_CMD_IOAS_ALLOC = 0x81,
	IOMMUFD_CMD_IOAS_ALLOW_IOVAS = 0x82,
	IOMMUFD_CMD_IOAS_COPY = 0x83,
	IOMMUFD_CMD_IOAS_IOVA_RANGES = 0x84,
	IOMMUFD_CMD_IOAS_MAP = 0x85,
	IOMMUFD_CMD_IOAS_UNMAP = 0x86,
	IOMMUFD_CMD_OPTION = 0x87,
	IOMMUFD_CMD_VFIO_IOAS = 0x88,
	IOMMUFD_CMD_HWPT_ALLOC = 0x89,
	IOMMUFD_CMD_GET_HW_INFO = 0x8a,
	IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING = 0x8b,
	IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP = 0x8c,
	IOMMUFD_CMD_HWPT_INVALIDATE = 0x8d,
	IOMMUFD_CMD_FAULT_QUEUE_ALLOC = 0x8e,
	IOMMUFD_CMD_IOAS_MAP_FILE = 0x8f,
	IOMMUFD_CMD_VIOMMU_ALLOC = 0x90,
	IOMMUFD_CMD_VDEVICE_ALLOC = 0x91,
	IOMMUFD_CMD_IOAS_CHANGE_PROCESS = 0x92,
	IOMMUFD_CMD_VEVENTQ_ALLOC = 0x93,
	IOMMUFD_CMD_HW_QUEUE_ALLOC = 0x94,
	IOMMUFD_CMD_IOAS_NOIOMMU_GET_PA = 0x95,
};

enum iommufd_ioctl {
	IOMMU_DESTROY = 0x3b80,
	IOMMU_IOAS_ALLOC = 0x3b81,
	IOMMU_IOAS_ALLOW_IOVAS = 0x3b82,
	IOMMU_IOAS_COPY = 0x3b83,
	IOMMU_IOAS_IOVA_RANGES = 0x3b84,
	IOMMU_IOAS_MAP = 0x3b85,
	IOMMU_IOAS_UNMAP = 0x3b86,
	IOMMU_OPTION = 0x3b87,
	IOMMU_VFIO_IOAS = 0x3b88,
	IOMMU_HWPT_ALLOC = 0x3b89,
	IOMMU_GET_HW_INFO = 0x3b8a,
	IOMMU_HWPT_SET_DIRTY_TRACKING = 0x3b8b,
	IOMMU_HWPT_GET_DIRTY_BITMAP = 0x3b8c,
	IOMMU_HWPT_INVALIDATE = 0x3b8d,
	IOMMU_FAULT_QUEUE_ALLOC = 0x3b8e,
	IOMMU_IOAS_MAP_FILE = 0x3b8f,
	IOMMU_VIOMMU_ALLOC = 0x3b90,
	IOMMU_VDEVICE_ALLOC = 0x3b91,
	IOMMU_IOAS_CHANGE_PROCESS = 0x3b92,
	IOMMU_VEVENTQ_ALLOC = 0x3b93,
	IOMMU_HW_QUEUE_ALLOC = 0x3b94,
	IOMMU_IOAS_NOIOMMU_GET_PA = 0x3b95,
};

/* -------- Objects of every kind -------- */

struct iommu_destroy {
	__u32 size;
	__u32 id;
}; /* 8 bytes */

enum iommufd_option {
	IOMMU_OPTION_RLIMIT_MODE = 0, /* object_id 0; val64: 0 counts pinned pages per user, 1 per process */
	IOMMU_OPTION_HUGE_PAGES = 1,  /* object_id is an IOAS; val64: 0 maps page by page */
};

enum iommufd_option_ops {
	IOMMU_OPTION_OP_SET = 0,
	IOMMU_OPTION_OP_GET = 1,
};

struct iommu_option {
	__u32 size;
	__u32 option_id; /* enum iommufd_option */
	__u16 op;        /* enum iommufd_option_ops */
	__u16 __reserved;
	__u32 object_id;
	__aligned_u64 val64; /* in for SET, out for GET */
}; /* 24 bytes */

/* -------- IOAS: an I/O address space -------- */

struct iommu_ioas_alloc {
	__u32 size;
	__u32 flags;
	__u32 out_ioas_id;
}; /* 12 bytes */

struct iommu_iova_range {
	__aligned_u64 start;
	__aligned_u64 last; /* inclusive */
}; /* 16 bytes */

struct iommu_ioas_iova_ranges {
	__u32 size;
	__u32 ioas_id;
	__u32 num_iovas; /* in: room in the array; out: ranges there are (EMSGSIZE when they do not fit) */
	__u32 __reserved;
	__aligned_u64 allowed_iovas; /* pointer to struct iommu_iova_range[num_iovas], filled in */
	__aligned_u64 out_iova_alignment;
}; /* 32 bytes */

struct iommu_ioas_allow_iovas {
	__u32 size;
	__u32 ioas_id;
	__u32 num_iovas;
	__u32 __reserved;
	__aligned_u64 allowed_iovas; /* pointer to struct iommu_iova_range[num_iovas] */
}; /* 24 bytes */

enum iommufd_ioas_map_flags {
	IOMMU_IOAS_MAP_FIXED_IOVA = 1 << 0,
	IOMMU_IOAS_MAP_WRITEABLE = 1 << 1,
	IOMMU_IOAS_MAP_READABLE = 1 << 2,
};

struct iommu_ioas_map {
	__u32 size;
	__u32 flags; /* enum iommufd_ioas_map_flags */
	__u32 ioas_id;
	__u32 __reserved;
	__aligned_u64 user_va;
	__aligned_u64 length;
	__aligned_u64 iova; /* in with FIXED_IOVA, else out */
}; /* 40 bytes */

struct iommu_ioas_map_file {
	__u32 size;
	__u32 flags; /* enum iommufd_ioas_map_flags */
	__u32 ioas_id;
	__s32 fd;
	__aligned_u64 start; /* byte offset in the file */
	__aligned_u64 length;
	__aligned_u64 iova; /* in with FIXED_IOVA, else out */
}; /* 40 bytes */

struct iommu_ioas_copy {
	__u32 size;
	__u32 flags; /* enum iommufd_ioas_map_flags */
	__u32 dst_ioas_id;
	__u32 src_ioas_id;
	__aligned_u64 length;
	__aligned_u64 dst_iova; /* in with FIXED_IOVA, else out */
	__aligned_u64 src_iova;
}; /* 40 bytes */

struct iommu_ioas_unmap {
	__u32 size;
	__u32 ioas_id;
	__aligned_u64 iova;
	__aligned_u64 length; /* in: bytes to unmap (iova 0 and all ones: everything); out: bytes unmapped */
}; /* 24 bytes */

struct iommu_ioas_change_process {
	__u32 size;
	__u32 __reserved;
}; /* 8 bytes */

struct iommu_ioas_noiommu_get_pa {
	__u32 size;
	__u32 flags;
	__u32 ioas_id;
	__u32 __reserved;
	__aligned_u64 iova;
	__aligned_u64 length; /* in: bytes asked about; out: of these, how many are contiguous from out_phys */
	__aligned_u64 out_phys;
}; /* 40 bytes */

enum iommufd_vfio_ioas_op {
	IOMMU_VFIO_IOAS_GET = 0,
	IOMMU_VFIO_IOAS_SET = 1,
	IOMMU_VFIO_IOAS_CLEAR = 2,
};

struct iommu_vfio_ioas {
	__u32 size;
	__u32 ioas_id; /* in for SET, out for GET */
	__u16 op;      /* enum iommufd_vfio_ioas_op */
	__u16 __reserved;
}; /* 12 bytes */

/* -------- IOMMU hardware behind a device -------- */

enum iommu_hw_info_type {
	IOMMU_HW_INFO_TYPE_NONE = 0,
	IOMMU_HW_INFO_TYPE_DEFAULT = 0,
	IOMMU_HW_INFO_TYPE_INTEL_VTD = 1,
	IOMMU_HW_INFO_TYPE_ARM_SMMUV3 = 2,
	IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV = 3,
	IOMMU_HW_INFO_TYPE_AMD = 4,
};

enum iommu_hw_info_vtd_flags {
	IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17 = 1 << 0,
};

struct iommu_hw_info_vtd {
	__u32 flags; /* enum iommu_hw_info_vtd_flags */
	__u32 __reserved;
	__aligned_u64 cap_reg;
	__aligned_u64 ecap_reg;
}; /* 24 bytes */

enum iommu_hw_info_arm_smmuv3_flags {
	IOMMU_HW_INFO_ARM_SMMUV3_ERRATA_REPEAT_TLBI_CFGI = 1 << 0,
};

struct iommu_hw_info_arm_smmuv3 {
	__u32 flags; /* enum iommu_hw_info_arm_smmuv3_flags */
	__u32 __reserved;
	__u32 idr[6];
	__u32 iidr;
	__u32 aidr;
}; /* 40 bytes */

struct iommu_hw_info_tegra241_cmdqv {
	__u32 flags;
	__u8 version;
	__u8 log2vcmdqs;
	__u8 log2vsids;
	__u8 __reserved;
}; /* 8 bytes */

struct iommu_hw_info_amd {
	__aligned_u64 efr;
	__aligned_u64 efr2;
}; /* 16 bytes */

enum iommufd_hw_info_flags {
	IOMMU_HW_INFO_FLAG_INPUT_TYPE = 1 << 0, /* in_data_type says which information is wanted */
};

enum iommufd_hw_capabilities {
	IOMMU_HW_CAP_DIRTY_TRACKING = 1 << 0,
	IOMMU_HW_CAP_PCI_PASID_EXEC = 1 << 1,
	IOMMU_HW_CAP_PCI_PASID_PRIV = 1 << 2,
	IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED = 1 << 3,
};

struct iommu_hw_info {
	__u32 size;
	__u32 flags; /* enum iommufd_hw_info_flags */
	__u32 dev_id;
	__u32 data_len; /* in: room at data_uptr; out: bytes the kernel has */
	__aligned_u64 data_uptr;
	union {
		__u32 in_data_type;
		__u32 out_data_type; /* enum iommu_hw_info_type, gives the structure at data_uptr */
	};
	__u8 out_max_pasid_log2; /* 0: no PASID */
	__u8 __reserved[3];
	__aligned_u64 out_capabilities; /* enum iommufd_hw_capabilities */
}; /* 40 bytes */

/* -------- HWPT: a hardware page table, over an IOAS or nested in another HWPT -------- */

enum iommufd_hwpt_alloc_flags {
	IOMMU_HWPT_ALLOC_NEST_PARENT = 1 << 0,
	IOMMU_HWPT_ALLOC_DIRTY_TRACKING = 1 << 1,
	IOMMU_HWPT_FAULT_ID_VALID = 1 << 2,
	IOMMU_HWPT_ALLOC_PASID = 1 << 3,
};

enum iommu_hwpt_data_type {
	IOMMU_HWPT_DATA_NONE = 0,
	IOMMU_HWPT_DATA_VTD_S1 = 1,
	IOMMU_HWPT_DATA_ARM_SMMUV3 = 2,
	IOMMU_HWPT_DATA_AMD_GUEST = 3,
};

enum iommu_hwpt_vtd_s1_flags {
	IOMMU_VTD_S1_SRE = 1 << 0,
	IOMMU_VTD_S1_EAFE = 1 << 1,
	IOMMU_VTD_S1_WPE = 1 << 2,
};

struct iommu_hwpt_vtd_s1 {
	__aligned_u64 flags; /* enum iommu_hwpt_vtd_s1_flags */
	__aligned_u64 pgtbl_addr;
	__u32 addr_width;
	__u32 __reserved;
}; /* 24 bytes */

struct iommu_hwpt_arm_smmuv3 {
	__aligned_le64 ste[2];
}; /* 16 bytes */

struct iommu_hwpt_amd_guest {
	__aligned_u64 dte[4];
}; /* 32 bytes */

struct iommu_hwpt_alloc {
	__u32 size;
	__u32 flags; /* enum iommufd_hwpt_alloc_flags */
	__u32 dev_id;
	__u32 pt_id; /* IOAS, or for a nested HWPT its parent HWPT or vIOMMU */
	__u32 out_hwpt_id;
	__u32 __reserved;
	__u32 data_type; /* enum iommu_hwpt_data_type, gives the structure at data_uptr */
	__u32 data_len;
	__aligned_u64 data_uptr;
	__u32 fault_id; /* with FAULT_ID_VALID */
	__u32 __reserved2;
}; /* 48 bytes */

enum iommufd_hwpt_set_dirty_tracking_flags {
	IOMMU_HWPT_DIRTY_TRACKING_ENABLE = 1,
};

struct iommu_hwpt_set_dirty_tracking {
	__u32 size;
	__u32 flags; /* enum iommufd_hwpt_set_dirty_tracking_flags */
	__u32 hwpt_id;
	__u32 __reserved;
}; /* 16 bytes */

enum iommufd_hwpt_get_dirty_bitmap_flags {
	IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR = 1,
};

struct iommu_hwpt_get_dirty_bitmap {
	__u32 size;
	__u32 hwpt_id;
	__u32 flags; /* enum iommufd_hwpt_get_dirty_bitmap_flags */
	__u32 __reserved;
	__aligned_u64 iova;
	__aligned_u64 length;
	__aligned_u64 page_size; /* bytes that one bit stands for */
	__aligned_u64 data;      /* pointer to the bitmap, of 64-bit words */
}; /* 48 bytes */

enum iommu_hwpt_invalidate_data_type {
	IOMMU_HWPT_INVALIDATE_DATA_VTD_S1 = 0,
	IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3 = 1,
};

enum iommu_hwpt_vtd_s1_invalidate_flags {
	IOMMU_VTD_INV_FLAGS_LEAF = 1 << 0,
};

struct iommu_hwpt_vtd_s1_invalidate {
	__aligned_u64 addr;
	__aligned_u64 npages; /* all ones with addr 0: everything */
	__u32 flags;          /* enum iommu_hwpt_vtd_s1_invalidate_flags */
	__u32 __reserved;
}; /* 24 bytes */

struct iommu_viommu_arm_smmuv3_invalidate {
	__aligned_le64 cmd[2];
}; /* 16 bytes */

struct iommu_hwpt_invalidate {
	__u32 size;
	__u32 hwpt_id; /* nested HWPT, or vIOMMU */
	__aligned_u64 data_uptr;
	__u32 data_type; /* enum iommu_hwpt_invalidate_data_type, gives the structure of an entry */
	__u32 entry_len;
	__u32 entry_num; /* in: entries at data_uptr; out: entries handled */
	__u32 __reserved;
}; /* 32 bytes */

/* -------- Fault queue: read() struct iommu_hwpt_pgfault, write() struct iommu_hwpt_page_response -------- */

struct iommu_fault_alloc {
	__u32 size;
	__u32 flags;
	__u32 out_fault_id;
	__u32 out_fault_fd;
}; /* 16 bytes */

enum iommu_hwpt_pgfault_flags {
	IOMMU_PGFAULT_FLAGS_PASID_VALID = 1 << 0,
	IOMMU_PGFAULT_FLAGS_LAST_PAGE = 1 << 1,
};

enum iommu_hwpt_pgfault_perm {
	IOMMU_PGFAULT_PERM_READ = 1 << 0,
	IOMMU_PGFAULT_PERM_WRITE = 1 << 1,
	IOMMU_PGFAULT_PERM_EXEC = 1 << 2,
	IOMMU_PGFAULT_PERM_PRIV = 1 << 3,
};

struct iommu_hwpt_pgfault {
	__u32 flags; /* enum iommu_hwpt_pgfault_flags */
	__u32 dev_id;
	__u32 pasid;
	__u32 grpid;
	__u32 perm; /* enum iommu_hwpt_pgfault_perm */
	__u32 __reserved;
	__aligned_u64 addr;
	__u32 length; /* bytes the device will want, as a hint; 0: none given */
	__u32 cookie; /* goes back in the response */
}; /* 40 bytes */

enum iommufd_page_response_code {
	IOMMUFD_PAGE_RESP_SUCCESS = 0,
	IOMMUFD_PAGE_RESP_INVALID = 1,
};

struct iommu_hwpt_page_response {
	__u32 cookie;
	__u32 code; /* enum iommufd_page_response_code */
}; /* 8 bytes */

/* -------- vIOMMU: a guest's share of a hardware IOMMU. A vDevice, vEVENTQ or HW queue belongs to a vIOMMU -------- */

enum iommu_viommu_type {
	IOMMU_VIOMMU_TYPE_DEFAULT = 0,
	IOMMU_VIOMMU_TYPE_ARM_SMMUV3 = 1,
	IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV = 2,
};

struct iommu_viommu_tegra241_cmdqv {
	__aligned_u64 out_vintf_mmap_offset;
	__aligned_u64 out_vintf_mmap_length;
}; /* 16 bytes */

struct iommu_viommu_alloc {
	__u32 size;
	__u32 flags;
	__u32 type; /* enum iommu_viommu_type, gives the structure at data_uptr */
	__u32 dev_id;
	__u32 hwpt_id; /* allocated with NEST_PARENT */
	__u32 out_viommu_id;
	__u32 data_len;
	__u32 __reserved;
	__aligned_u64 data_uptr;
}; /* 40 bytes */

struct iommu_vdevice_alloc {
	__u32 size;
	__u32 viommu_id;
	__u32 dev_id;
	__u32 out_vdevice_id;
	__aligned_u64 virt_id; /* the device's ID as the guest's IOMMU knows it */
}; /* 24 bytes */

enum iommu_veventq_type {
	IOMMU_VEVENTQ_TYPE_DEFAULT = 0,
	IOMMU_VEVENTQ_TYPE_ARM_SMMUV3 = 1,
	IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV = 2,
};

struct iommu_veventq_alloc {
	__u32 size;
	__u32 flags;
	__u32 viommu_id;
	__u32 type; /* enum iommu_veventq_type */
	__u32 veventq_depth;
	__u32 out_veventq_id;
	__u32 out_veventq_fd;
	__u32 __reserved;
}; /* 32 bytes */

/* read() of a vEVENTQ: headers, each followed by an event of the queue's type unless LOST_EVENTS is set. */

enum iommu_veventq_flag {
	IOMMU_VEVENTQ_FLAG_LOST_EVENTS = 1 << 0,
};

struct iommufd_vevent_header {
	__u32 flags;    /* enum iommu_veventq_flag */
	__u32 sequence; /* 0 to INT_MAX, then 0 again; a gap counts the events lost */
}; /* 8 bytes */

struct iommu_vevent_arm_smmuv3 {
	__aligned_le64 evt[4];
}; /* 32 bytes */

struct iommu_vevent_tegra241_cmdqv {
	__aligned_le64 lvcmdq_err_map[2];
}; /* 16 bytes */

enum iommu_hw_queue_type {
	IOMMU_HW_QUEUE_TYPE_DEFAULT = 0,
	IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV = 1,
};

struct iommu_hw_queue_alloc {
	__u32 size;
	__u32 flags;
	__u32 viommu_id;
	__u32 type; /* enum iommu_hw_queue_type */
	__u32 index;
	__u32 out_hw_queue_id;
	__aligned_u64 nesting_parent_iova;
	__aligned_u64 length;
}; /* 40 bytes */
