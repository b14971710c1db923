/* SPDX-License-Identifier: MIT */
/*
 * IOMMU_TEST_CMD, the interface to the mock IOMMU of kernels built with CONFIG_IOMMUFD_TEST, as of Linux 7.3.
 *
 * Written like iommufd.h. The kernel keeps this interface for its own selftests and promises nothing about it.
 */
#pragma once

#include "iommufd.h"

enum {
	IOMMU_TEST_CMD = 0x3ba0,
};

enum {
	IOMMU_TEST_OP_ADD_RESERVED = 1,
	IOMMU_TEST_OP_MOCK_DOMAIN = 2,
	IOMMU_TEST_OP_MD_CHECK_MAP = 3,
	IOMMU_TEST_OP_MD_CHECK_REFS = 4,
	IOMMU_TEST_OP_CREATE_ACCESS = 5,
	IOMMU_TEST_OP_DESTROY_ACCESS_PAGES = 6,
	IOMMU_TEST_OP_ACCESS_PAGES = 7,
	IOMMU_TEST_OP_ACCESS_RW = 8,
	IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT = 9,
	IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE = 10,
	IOMMU_TEST_OP_ACCESS_REPLACE_IOAS = 11,
	IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS = 12,
	IOMMU_TEST_OP_DIRTY = 13,
	IOMMU_TEST_OP_MD_CHECK_IOTLB = 14,
	IOMMU_TEST_OP_TRIGGER_IOPF = 15,
	IOMMU_TEST_OP_DEV_CHECK_CACHE = 16,
	IOMMU_TEST_OP_TRIGGER_VEVENT = 17,
	IOMMU_TEST_OP_PASID_ATTACH = 18,
	IOMMU_TEST_OP_PASID_REPLACE = 19,
	IOMMU_TEST_OP_PASID_DETACH = 20,
	IOMMU_TEST_OP_PASID_CHECK_HWPT = 21,
	IOMMU_TEST_OP_DMABUF_GET = 22,
	IOMMU_TEST_OP_DMABUF_REVOKE = 23,
	IOMMU_TEST_OP_CACHE_FLUSH_COUNT = 24, /* added by iommufd_py/lab/patches */
};

/* id is the object of the operation: an IOAS, a HWPT, an access or a mock device (stdev). */
struct iommu_test_cmd {
	__u32 size;
	__u32 op; /* IOMMU_TEST_OP_... */
	__u32 id;
	__u32 __reserved;
	union {
		struct {
			__aligned_u64 start;
			__aligned_u64 length;
		} add_reserved;
		struct {
			__u32 out_stdev_id;
			__u32 out_hwpt_id;
			__u32 out_idev_id; /* the dev_id of iommufd's own ioctls */
		} mock_domain;
		struct {
			__u32 out_stdev_id;
			__u32 out_hwpt_id;
			__u32 out_idev_id;
			__u32 dev_flags; /* MOCK_FLAGS_DEVICE_... */
		} mock_domain_flags;
		struct {
			__u32 pt_id;
		} mock_domain_replace;
		struct {
			__aligned_u64 iova;
			__aligned_u64 length;
			__aligned_u64 uptr;
		} check_map;
		struct {
			__aligned_u64 length;
			__aligned_u64 uptr;
			__u32 refs;
		} check_refs;
		struct {
			__u32 out_access_fd;
			__u32 flags; /* MOCK_FLAGS_ACCESS_CREATE_... */
		} create_access;
		struct {
			__u32 access_pages_id;
		} destroy_access_pages;
		struct {
			__u32 flags; /* MOCK_FLAGS_ACCESS_... */
			__u32 out_access_pages_id;
			__aligned_u64 iova;
			__aligned_u64 length;
			__aligned_u64 uptr;
		} access_pages;
		struct {
			__aligned_u64 iova;
			__aligned_u64 length;
			__aligned_u64 uptr;
			__u32 flags; /* MOCK_ACCESS_RW_... */
		} access_rw;
		struct {
			__u32 limit;
		} memory_limit;
		struct {
			__u32 ioas_id;
		} access_replace_ioas;
		struct {
			__u32 flags;
			__aligned_u64 iova;
			__aligned_u64 length;
			__aligned_u64 page_size;
			__aligned_u64 uptr;
			__aligned_u64 out_nr_dirty;
		} dirty;
		struct {
			__u32 id;
			__u32 iotlb;
		} check_iotlb;
		struct {
			__u32 dev_id;
			__u32 pasid;
			__u32 grpid;
			__u32 perm;
			__u64 addr;
		} trigger_iopf;
		struct {
			__u32 id;
			__u32 cache;
		} check_dev_cache;
		struct {
			__u32 dev_id;
		} trigger_vevent;
		struct {
			__u32 pasid;
			__u32 pt_id;
		} pasid_attach;
		struct {
			__u32 pasid;
			__u32 pt_id;
		} pasid_replace;
		struct {
			__u32 pasid;
		} pasid_detach;
		struct {
			__u32 pasid;
			__u32 hwpt_id;
		} pasid_check;
		struct {
			__u32 length;
			__u32 open_flags;
		} dmabuf_get;
		struct {
			__s32 dmabuf_fd;
			__u32 revoked;
		} dmabuf_revoke;
		struct {
			__u32 flags; /* MOCK_CACHE_FLUSH_COUNT_... */
			__u32 __reserved;
			__aligned_u64 out_calls;
			__aligned_u64 out_pages;
		} cache_flush_count;
	};
	__u32 last;
}; /* 72 bytes */

/* -------- Mock device and mock domain -------- */

enum {
	MOCK_IOMMUPT_DEFAULT = 0,
	MOCK_IOMMUPT_HUGE = 1,
};

/* True for MOCK_IOMMUPT_DEFAULT; the aperture is inclusive. */
enum {
	MOCK_APERTURE_START = 0x01000000,
	MOCK_APERTURE_LAST = 0x7fffffff,
	MOCK_PAGE_SIZE = 2048,
	MOCK_HUGE_PAGE_SIZE = 512 * 2048,
};

enum {
	MOCK_FLAGS_DEVICE_NO_DIRTY = 1 << 0,
	MOCK_FLAGS_DEVICE_PASID = 1 << 2,
	MOCK_FLAGS_DEVICE_COHERENT = 1 << 3, /* added by iommufd_py/lab/patches */
};

enum {
	MOCK_CACHE_FLUSH_COUNT_RESET = 1 << 0, /* added by iommufd_py/lab/patches */
};

enum {
	MOCK_PASID_WIDTH = 20,
	IOMMU_TEST_PASID_RESERVED = 1024, /* a mock device fails every second attach to it */
};

enum {
	MOCK_NESTED_DOMAIN_IOTLB_ID_MAX = 3,
	MOCK_NESTED_DOMAIN_IOTLB_NUM = 4,
};

enum {
	MOCK_DEV_CACHE_ID_MAX = 3,
	MOCK_DEV_CACHE_NUM = 4,
};

/* -------- Access: in-kernel users of an IOAS -------- */

enum {
	MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES = 1 << 0,
};

enum {
	MOCK_FLAGS_ACCESS_WRITE = 1 << 0,
	MOCK_FLAGS_ACCESS_SYZ = 1 << 16,
};

enum {
	MOCK_ACCESS_RW_WRITE = 1 << 0,
	MOCK_ACCESS_RW_SLOW_PATH = 1 << 2,
};

/* -------- The mock driver's types and data for iommufd's own ioctls -------- */

enum {
	IOMMU_HW_INFO_TYPE_SELFTEST = 0xfeedbeef,
	IOMMU_HW_INFO_SELFTEST_REGVAL = 0xdeadbeef,
	IOMMU_HWPT_DATA_SELFTEST = 0xdead,
	IOMMU_HWPT_INVALIDATE_DATA_SELFTEST = 0xdeadbeef,
	IOMMU_HWPT_INVALIDATE_DATA_SELFTEST_INVALID = 0xdadbeef,
	IOMMU_VIOMMU_TYPE_SELFTEST = 0xdeadbeef,
	IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST = 0xdeadbeef,
	IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST_INVALID = 0xdadbeef,
	IOMMU_VEVENTQ_TYPE_SELFTEST = 0xbeefbeef,
	IOMMU_HW_QUEUE_TYPE_SELFTEST = 0xdeadbeef,
};

enum {
	IOMMU_TEST_IOTLB_DEFAULT = 0xbadbeef,
	IOMMU_TEST_DEV_CACHE_DEFAULT = 0xbaddad,
	IOMMU_TEST_HW_QUEUE_MAX = 2,
};

struct iommu_test_hw_info {
	__u32 flags;
	__u32 test_reg;
}; /* 8 bytes */

struct iommu_hwpt_selftest {
	__u32 iotlb;
	__u32 pagetable_type; /* MOCK_IOMMUPT_... */
}; /* 8 bytes */

enum {
	IOMMU_TEST_INVALIDATE_FLAG_ALL = 1 << 0,
};

struct iommu_hwpt_invalidate_selftest {
	__u32 flags; /* IOMMU_TEST_INVALIDATE_FLAG_ALL */
	__u32 iotlb_id;
}; /* 8 bytes */

struct iommu_viommu_invalidate_selftest {
	__u32 flags; /* IOMMU_TEST_INVALIDATE_FLAG_ALL */
	__u32 vdev_id;
	__u32 cache_id;
}; /* 12 bytes */

struct iommu_viommu_selftest {
	__u32 in_data;
	__u32 out_data; /* in_data, echoed */
	__aligned_u64 out_mmap_offset;
	__aligned_u64 out_mmap_length;
}; /* 24 bytes */

struct iommu_viommu_event_selftest {
	__u32 virt_id;
}; /* 4 bytes */
