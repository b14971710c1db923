/* SPDX-License-Identifier: MIT */
/*
 * Included before the first line of every selftest of 6.12. What Debian packages as 6.12.117 has a suite from a later
 * kernel than the headers beside it, and no names for what that kernel has more: these compile. No mock device there
 * has a PASID, so that none is asked for, and the three get_hw_info cases that ask by a type fail.
 */
#define in_data_type out_data_type
#define IOMMU_HW_INFO_TYPE_DEFAULT 0
#define IOMMU_HW_INFO_FLAG_INPUT_TYPE (1 << 0)
#define MOCK_FLAGS_DEVICE_PASID 0
#define MOCK_PASID_WIDTH 0
