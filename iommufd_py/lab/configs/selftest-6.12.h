/* SPDX-License-Identifier: MIT */
/*
 * Included before the first line of every selftest of 6.12. In Debian's 6.12.117 the selftests come from a later kernel
 * than the headers, and use names that these headers do not have. The definitions below let them compile. Mock devices
 * of 6.12 have no PASID, so the tests must not ask for one. The three get_hw_info cases that ask for a type fail.
 */
#define in_data_type out_data_type
#define IOMMU_HW_INFO_TYPE_DEFAULT 0
#define IOMMU_HW_INFO_FLAG_INPUT_TYPE (1 << 0)
#define MOCK_FLAGS_DEVICE_PASID 0
#define MOCK_PASID_WIDTH 0
