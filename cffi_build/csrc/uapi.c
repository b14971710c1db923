// SPDX-License-Identifier: MIT
#include <errno.h>
#include <linux/capability.h>
#include <linux/mempolicy.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "iommufd.h"
#include "iommufd_test.h"
#include "uapi.h"

int iommufd_uapi_ioctl(int fd, unsigned long request, void *arg)
{
	int ret = ioctl(fd, request, arg);

	return ret < 0 ? -errno : ret;
}

int iommufd_uapi_ioas_map(int fd, uint32_t flags, uint32_t ioas_id, uint64_t user_va, uint64_t length, uint64_t iova,
			  uint64_t *answer)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = flags,
		.ioas_id = ioas_id,
		.user_va = user_va,
		.length = length,
		.iova = iova,
	};

	if (ioctl(fd, IOMMU_IOAS_MAP, &map) < 0)
		return -errno;
	*answer = map.iova;
	return 0;
}

int iommufd_uapi_ioas_unmap(int fd, uint32_t ioas_id, uint64_t iova, uint64_t length, uint64_t *answer)
{
	struct iommu_ioas_unmap unmap = { .size = sizeof(unmap), .ioas_id = ioas_id, .iova = iova, .length = length };

	if (ioctl(fd, IOMMU_IOAS_UNMAP, &unmap) < 0)
		return -errno;
	*answer = unmap.length;
	return 0;
}

int iommufd_uapi_access_rw(int fd, uint32_t access_id, uint64_t iova, void *data, uint64_t length, uint32_t flags)
{
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd),
		.op = IOMMU_TEST_OP_ACCESS_RW,
		.id = access_id,
		.access_rw = { .iova = iova, .length = length, .uptr = (uintptr_t)data, .flags = flags },
	};

	return ioctl(fd, IOMMU_TEST_CMD, &cmd) < 0 ? -errno : 0;
}

int iommufd_uapi_ipc_lock(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, data))
		return -errno;
	return !!(data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK));
}

int iommufd_uapi_set_ipc_lock(bool effective)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, data))
		return -errno;
	if (effective)
		data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective |= CAP_TO_MASK(CAP_IPC_LOCK);
	else
		data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective &= ~CAP_TO_MASK(CAP_IPC_LOCK);
	return syscall(SYS_capset, &header, data) ? -errno : 0;
}

int iommufd_uapi_memory_on_node(void *start, uint64_t length, uint32_t node)
{
	unsigned long nodes[16] = { 0 };
	const unsigned int bits = 8 * sizeof(*nodes);

	if (node >= 8 * sizeof(nodes))
		return -EINVAL;
	nodes[node / bits] = 1UL << node % bits;
	/* The kernel uses one bit less than the given number. */
	return syscall(SYS_mbind, start, length, MPOL_BIND, nodes, 8 * sizeof(nodes) + 1, 0) ? -errno : 0;
}
