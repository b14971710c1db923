// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <time.h>

#include "iommufd.h"
#include "bench.h"

#define CACHE_LINE 64

/* Static, as is all between two clock reads: a call through the PLT is 2 % of a small map on an emulated CPU. */
static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_RAW, &now);
	return (uint64_t)now.tv_sec * 1000000000u + now.tv_nsec;
}

uint64_t iommufd_bench_clock_ns(void)
{
	return clock_ns();
}

static void dirty_lines(volatile unsigned char *start, uint64_t length)
{
	for (uint64_t offset = 0; offset < length; offset += CACHE_LINE)
		start[offset]++;
}

int iommufd_bench_map_unmap(int fd, uint32_t ioas_id, void *user_va, uint64_t length, uint64_t iova, uint32_t count,
			    uint64_t *map_ns, uint64_t *unmap_ns, uint32_t *done, bool *in_unmap)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = ioas_id,
		.user_va = (uintptr_t)user_va,
		.length = length,
		.iova = iova,
	};

	for (*done = 0; *done < count; ++*done) {
		struct iommu_ioas_unmap unmap = {
			.size = sizeof(unmap),
			.ioas_id = ioas_id,
			.iova = iova,
			.length = length,
		};
		uint64_t start;
		int ret;

		dirty_lines(user_va, length);

		*in_unmap = false;
		start = clock_ns();
		ret = ioctl(fd, IOMMU_IOAS_MAP, &map);
		map_ns[*done] = clock_ns() - start;
		if (ret < 0)
			return -errno;

		*in_unmap = true;
		start = clock_ns();
		ret = ioctl(fd, IOMMU_IOAS_UNMAP, &unmap);
		unmap_ns[*done] = clock_ns() - start;
		if (ret < 0)
			return -errno;
	}
	return 0;
}

int iommufd_bench_empty_ioctl(int fd, uint32_t ioas_id, uint32_t count, uint64_t *ns)
{
	for (uint32_t i = 0; i < count; i++) {
		struct iommu_option option = {
			.size = sizeof(option),
			.option_id = IOMMU_OPTION_HUGE_PAGES,
			.op = IOMMU_OPTION_OP_GET,
			.object_id = ioas_id,
		};
		uint64_t start = clock_ns();
		int ret = ioctl(fd, IOMMU_OPTION, &option);

		ns[i] = clock_ns() - start;
		if (ret < 0)
			return -errno;
	}
	return 0;
}
